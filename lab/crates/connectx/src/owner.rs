// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects as owners of memory, for the trace and for messages.

use fabric::trace::{Object, ObjectKind};
use std::fmt::{self, Display, Formatter};

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The command queue.
    CommandQueue,
    /// A command, by its entry.
    Command(usize),
    /// An event queue.
    Eq(u32),
    /// A completion queue.
    Cq(u32),
    /// A shared receive queue.
    Srq(u32),
    /// A queue pair.
    Qp(u32),
    /// A memory key.
    Mkey(u32),
}

impl Display for Owner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandQueue => f.write_str("command queue"),
            Self::Command(entry) => write!(f, "command in entry {entry}"),
            Self::Eq(number) => write!(f, "EQ {number}"),
            Self::Cq(number) => write!(f, "CQ {number}"),
            Self::Srq(number) => write!(f, "SRQ {number}"),
            Self::Qp(number) => write!(f, "QP {number}"),
            Self::Mkey(index) => write!(f, "mkey {index:#x}"),
        }
    }
}

/// What the trace calls it.
impl From<Owner> for Object {
    fn from(owner: Owner) -> Self {
        let (kind, number) = match owner {
            Owner::CommandQueue => (ObjectKind::CommandQueue, 0),
            Owner::Command(entry) => (
                ObjectKind::Command,
                u32::try_from(entry).unwrap_or(u32::MAX),
            ),
            Owner::Eq(number) => (ObjectKind::Eq, number),
            Owner::Cq(number) => (ObjectKind::Cq, number),
            Owner::Srq(number) => (ObjectKind::Srq, number),
            Owner::Qp(number) => (ObjectKind::Qp, number),
            Owner::Mkey(index) => (ObjectKind::Mkey, index),
        };
        Self { kind, number }
    }
}
