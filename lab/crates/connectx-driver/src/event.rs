// SPDX-License-Identifier: MIT OR Apache-2.0
//! Event queues.

use crate::guest_memory::Area;
use connectx::wire::eqe;

/// Bytes of an entry.
pub(crate) const ENTRY: u64 = eqe::LAYOUT.len as u64;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub kind: u8,
    /// Its data: where the number of the object is depends on the type.
    pub data: [u8; 28],
}

impl Event {
    /// A completion queue has something new.
    pub const COMPLETION: u8 = 0x00;
    /// A completion queue overran.
    pub const CQ_ERROR: u8 = 0x04;
    /// A queue pair whose memory cannot be reached is in the error state.
    pub const WQ_CATASTROPHIC: u8 = 0x05;
    /// Commands have ended.
    pub const COMMAND: u8 = 0x0a;
    /// A request made no sense to the responder.
    pub const WQ_INVALID: u8 = 0x10;
    /// A request was not allowed by the responder.
    pub const WQ_ACCESS: u8 = 0x11;
    /// A queue pair in error takes nothing more from its shared receive queue.
    pub const LAST_WQE: u8 = 0x13;
    /// A shared receive queue has come below its limit.
    pub const SRQ_LIMIT: u8 = 0x14;

    /// The object that it is about.
    #[must_use]
    pub fn number(&self) -> u32 {
        let at = match self.kind {
            Self::CQ_ERROR | Self::COMMAND => 0,
            _ => 24,
        };
        let [word, ..] = self.data[at..].as_chunks::<4>().0 else {
            unreachable!("28 bytes");
        };
        u32::from_be_bytes(*word)
    }
}

/// An event queue.
pub struct Eq {
    /// Its number.
    pub number: u32,
    /// The vector that it raises.
    pub vector: u32,
    /// The next event's place, counted without end.
    pub consumer: u32,
    pub(crate) ring: Area,
    pub(crate) log_size: u32,
}

impl Eq {
    /// Its memory.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.ring
    }

    /// As many as it can hold.
    #[must_use]
    pub fn size(&self) -> u32 {
        1 << self.log_size
    }

    /// Prepares the entries: they are the device's.
    pub(crate) fn clear(ring: &Area) {
        for at in (0..ring.len()).step_by(eqe::LAYOUT.len) {
            ring.write(at + ENTRY - 1, &[1]);
        }
    }

    /// Takes the next event, if there is one: if its owner is that of this lap.
    pub fn poll(&mut self) -> Option<Event> {
        let at = u64::from(self.consumer & (self.size() - 1)) * ENTRY;
        let lap = self.consumer >> self.log_size & 1;
        if self.ring.load(at + ENTRY - 4) & 1 != lap {
            return None;
        }
        let entry: [u8; eqe::LAYOUT.len] = self.ring.bytes(at);
        self.consumer += 1;
        let mut data = [0; 28];
        data.copy_from_slice(eqe::data.bytes(&entry));
        Some(Event {
            kind: eqe::kind.get(&entry).to_le_bytes()[0],
            data,
        })
    }
}
