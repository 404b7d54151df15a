// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLP processing hints.

/// Processing hint: how the data is about to be used (PCIe, PH field). All four codes are defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ph {
    /// Read and written by host and device alike.
    Bidirectional = 0,
    /// Read and written by the requester's device.
    Requester = 1,
    /// Read and written by the target (host or peer).
    Target = 2,
    /// As [`Ph::Target`], with a high temporal reuse.
    TargetPriority = 3,
}

impl Ph {
    /// The two-bit code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The hint whose code is in bits 1:0; the other bits are not looked at.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0 => Self::Bidirectional,
            1 => Self::Requester,
            2 => Self::Target,
            _ => Self::TargetPriority,
        }
    }
}

/// Steering tag, in the namespace that the requester has enabled.
///
/// `St(5)` and `Ext(5)` are different tags: the completer looks them up in different namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SteeringTag {
    /// 8-bit tag (TPH).
    St(u8),
    /// 16-bit tag (Extended TPH).
    Ext(u16),
}

impl SteeringTag {
    /// The tag's number, without its namespace.
    #[must_use]
    pub const fn value(self) -> u16 {
        match self {
            Self::St(st) => st as u16,
            Self::Ext(st) => st,
        }
    }

    /// True for a 16-bit tag.
    #[must_use]
    pub const fn is_extended(self) -> bool {
        matches!(self, Self::Ext(_))
    }
}

/// What a hinted request carries: the processing hint and the steering tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    /// How the data is about to be used.
    pub ph: Ph,
    /// Where it should go.
    pub tag: SteeringTag,
}
