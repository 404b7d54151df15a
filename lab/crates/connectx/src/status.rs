// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a command ends: the two levels of it.

use std::fmt::{self, Display, Formatter};

/// Why a command was not understood; nothing was done. What `status_own` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeliveryStatus {
    /// A token differs from that of the entry.
    Token = 2,
    /// The mailboxes are not numbered from 0 on.
    BlockNumber = 3,
    /// The pointer to the output is not aligned.
    OutPointer = 4,
    /// The pointer to the input is not aligned.
    InPointer = 5,
    /// Memory that the command names cannot be reached.
    Internal = 6,
    /// The input is too short or too long.
    InLength = 7,
    /// The output is too short or too long.
    OutLength = 8,
    /// The entry is no command.
    Descriptor = 0x10,
}

/// Why a command that was understood was refused; nothing was done. The first byte of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// No such command.
    BadOpcode = 2,
    /// A parameter makes no sense.
    BadParameter = 3,
    /// Not in this state of the device.
    BadSystemState = 4,
    /// No such object.
    BadResource = 5,
    /// The object is in use.
    ResourceBusy = 6,
    /// More than the capabilities promise.
    Limit = 8,
    /// No such index.
    BadIndex = 0xa,
    /// There are no more.
    NoResources = 0xf,
    /// Not in this state of the queue pair.
    BadQpState = 0x10,
    /// The new completion queue is too small for what is not polled yet.
    BadSize = 0x40,
    /// The input is shorter than the command.
    InputLength = 0x50,
}

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({:#x})", *self as u8)
    }
}
