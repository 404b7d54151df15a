// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PCI Express and MSI-X capabilities.

use super::image::{DEVCTL, Image};
use tlp::{Mode, SteeringTag};

/// TPH completer type: Device Capabilities 2, bits 13:12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompleterType {
    /// 00: does not complete TPH.
    #[default]
    None,
    /// 01: TPH.
    Tph,
    /// 10: the reserved code; acts as none.
    Reserved,
    /// 11: TPH and Extended TPH.
    TphAndExtended,
}

impl CompleterType {
    /// The two-bit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0b00,
            Self::Tph => 0b01,
            Self::Reserved => 0b10,
            Self::TphAndExtended => 0b11,
        }
    }

    /// True if a completer of this type acts on the tag.
    #[must_use]
    pub const fn covers(self, tag: SteeringTag) -> bool {
        match self {
            Self::None | Self::Reserved => false,
            Self::Tph => matches!(tag, SteeringTag::St(_)),
            Self::TphAndExtended => true,
        }
    }
}

/// PCI Express capability, version 2, of an endpoint with Function Level Reset.
#[derive(Clone, Copy, Debug)]
pub struct Pcie {
    /// What Device Capabilities 2 says of TPH completions.
    pub completer: CompleterType,
    /// Mode that the link was trained to.
    pub mode: Mode,
}

/// Link speed codes of Link Status.
const SPEED_32GT: u16 = 5;
const SPEED_64GT: u16 = 6;
/// Lanes.
const WIDTH: u16 = 16;
/// Max_Payload_Size Supported, as its code and in bytes.
const MAX_PAYLOAD_CODE: u32 = 2;
pub(super) const MAX_PAYLOAD: usize = 128 << MAX_PAYLOAD_CODE;

impl Pcie {
    pub(super) fn place(self, image: &mut Image) -> usize {
        let at = image.capability(0x10, 0x3c);
        // Version 2, endpoint, flit mode supported.
        image.set16(at + 2, 1 << 15 | 2);

        // Device Capabilities: 8-bit tags, L0s and L1 latency without limit, role-based error
        // reporting, function level reset.
        let latency = 0b111 << 6 | 0b111 << 9;
        image.set32(
            at + 0x04,
            MAX_PAYLOAD_CODE | 1 << 5 | latency | 1 << 15 | 1 << 28,
        );
        // Device Control: error reporting, relaxed ordering, payload size, extended tags,
        // no snoop, read request size. Initiate FLR reads as 0.
        image.set16(at + DEVCTL, 0x2810);
        image.allow16(at + DEVCTL, 0x79ff);
        image.clear16(at + 0x0a, 0x000f);

        let speed = match self.mode {
            Mode::Flit => SPEED_64GT,
            Mode::NonFlit => SPEED_32GT, // 64 GT/s exists in flit mode only
        };
        // Link Capabilities: no ASPM, ASPM optionality.
        image.set32(at + 0x0c, u32::from(SPEED_64GT | WIDTH << 4) | 1 << 22);
        // Link Control: RCB, common clock, extended synch, autonomous width.
        image.allow16(at + 0x10, 0x02c8);
        image.set16(at + 0x12, speed | WIDTH << 4 | 1 << 12);

        // Device Capabilities 2: completion timeout ranges A to D, and off; TPH completer;
        // extended format field, one end-end TLP prefix.
        let completer = u32::from(self.completer.code()) << 12;
        image.set32(at + 0x24, 0x1f | completer | 1 << 20 | 1 << 21 | 1 << 22);
        image.allow16(at + 0x28, 0x001f);
        // Link Capabilities 2: 2.5 to 64 GT/s. Link Control 2: target speed.
        image.set32(at + 0x2c, 0x7e);
        image.set16(at + 0x30, SPEED_64GT);
        image.allow16(at + 0x30, 0x000f);
        if self.mode == Mode::Flit {
            image.set16(at + 0x32, 1 << 10); // Flit Mode Status
        }
        at
    }
}

/// MSI-X capability; table and pending bits are in one BAR.
#[derive(Clone, Copy, Debug)]
pub struct MsiX {
    /// Number of vectors, 1..=2048.
    pub vectors: u16,
    /// BAR that holds table and pending bits.
    pub bar: u8,
    /// Offset of the table in the BAR, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits in the BAR, a multiple of 8.
    pub pending: u32,
}

impl MsiX {
    pub(super) fn place(self, image: &mut Image) {
        let at = image.capability(0x11, 12);
        image.set16(at + 2, self.vectors - 1);
        image.allow16(at + 2, 0xc000); // enable, function mask
        image.set32(at + 4, self.table | u32::from(self.bar));
        image.set32(at + 8, self.pending | u32::from(self.bar));
    }
}
