// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a function sends its requests for.

use std::fmt;

/// The object of a function whose memory a request is for.
///
/// No TLP says so; it is known to the model that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Which one: a number of 24 bits, of which longer ones lose the rest.
    pub number: u32,
}

/// Kinds of object, with their codes in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// The command queue.
    CommandQueue = 1,
    /// A command, by its entry in the queue.
    Command = 2,
    /// An event queue.
    Eq = 3,
    /// A completion queue.
    Cq = 4,
    /// A shared receive queue.
    Srq = 5,
    /// A queue pair.
    Qp = 6,
    /// A memory key, by its index.
    Mkey = 7,
}

impl ObjectKind {
    /// Its code in a trace; 0 stands for no object.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this code, if there is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::CommandQueue),
            2 => Some(Self::Command),
            3 => Some(Self::Eq),
            4 => Some(Self::Cq),
            5 => Some(Self::Srq),
            6 => Some(Self::Qp),
            7 => Some(Self::Mkey),
            _ => None,
        }
    }

    /// Its name in traces and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommandQueue => "command queue",
            Self::Command => "command",
            Self::Eq => "EQ",
            Self::Cq => "CQ",
            Self::Srq => "SRQ",
            Self::Qp => "QP",
            Self::Mkey => "mkey",
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        match self.kind {
            ObjectKind::CommandQueue => Ok(()),
            ObjectKind::Mkey => write!(f, " {:#x}", self.number),
            _ => write!(f, " {}", self.number),
        }
    }
}
