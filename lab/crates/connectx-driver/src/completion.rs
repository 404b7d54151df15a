// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion queues.

use crate::guest_memory::Area;
use crate::wait::wait_for;
use connectx::wire::{cqe, err_cqe};

/// Bytes of an entry.
pub(crate) const ENTRY: u64 = cqe::LAYOUT.len as u64;
/// What is kept of a consumer's place.
const COUNTER: u32 = 0xff_ffff;

/// A completion. What the kind does not have is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What it is.
    pub opcode: u8,
    /// The queue pair.
    pub qpn: u32,
    /// What was requested.
    pub request: u8,
    /// Place of the request in its queue.
    pub counter: u16,
    /// Bytes that were moved.
    pub bytes: u32,
    /// Immediate data.
    pub immediate: u32,
    /// The shared receive queue that the request is from.
    pub srqn: u32,
    /// Who sent a datagram.
    pub source: u32,
    /// Why it failed.
    pub syndrome: u8,
}

impl Completion {
    /// A request ended well.
    pub const SENT: u8 = 0;
    /// A write with immediate data arrived.
    pub const WRITTEN: u8 = 1;
    /// A message arrived.
    pub const RECEIVED: u8 = 2;
    /// A message with immediate data arrived.
    pub const RECEIVED_IMM: u8 = 3;
    /// Go on in the new memory.
    pub const RESIZED: u8 = 5;
    /// A request failed.
    pub const SEND_ERROR: u8 = 13;
    /// A receive request failed.
    pub const RECEIVE_ERROR: u8 = 14;

    fn parse(entry: &[u8]) -> Self {
        let byte = |value: u64| value.to_le_bytes()[0];
        let opcode = byte(cqe::opcode.get(entry));
        let about = cqe::sop_drop_qpn.get32(entry);
        let failed = matches!(opcode, Self::SEND_ERROR | Self::RECEIVE_ERROR);
        let unless_failed = |value: u32| if failed { 0 } else { value };
        Self {
            opcode,
            qpn: about & COUNTER,
            request: about.to_be_bytes()[0],
            counter: u16::try_from(cqe::wqe_counter.get(entry)).expect("16 bits"),
            bytes: unless_failed(cqe::byte_cnt.get32(entry)),
            immediate: unless_failed(cqe::immediate.get32(entry)),
            srqn: unless_failed(cqe::srqn.get32(entry)),
            source: unless_failed(cqe::flags_rqpn.get32(entry) & COUNTER),
            syndrome: if failed {
                byte(err_cqe::syndrome.get(entry))
            } else {
                0
            },
        }
    }
}

/// What a completion queue is to be.
#[derive(Clone, Copy, Debug)]
pub struct CqOptions {
    /// It has room for 2^this completions.
    pub log_size: u32,
    /// It is never full: what is not taken in time is overwritten.
    pub ignore_overrun: bool,
}

impl Default for CqOptions {
    fn default() -> Self {
        Self {
            log_size: 6,
            ignore_overrun: false,
        }
    }
}

/// A completion queue.
pub struct Cq {
    /// Its number.
    pub number: u32,
    pub(crate) ring: Area,
    pub(crate) log_size: u32,
    pub(crate) doorbell: Area,
    /// The next completion's place, counted without end.
    pub consumer: u32,
    /// How often it was armed.
    pub(crate) sequence: u32,
    /// Where it goes on after the completion that says so.
    pub(crate) next_ring: Option<(Area, u32)>,
}

impl Cq {
    /// Its memory.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.ring
    }

    /// Its doorbell record.
    #[must_use]
    pub fn doorbell(&self) -> &Area {
        &self.doorbell
    }

    /// As many as it can hold.
    #[must_use]
    pub fn size(&self) -> u32 {
        1 << self.log_size
    }

    /// Prepares the entries: none is valid.
    pub(crate) fn clear(ring: &Area) {
        for at in (0..ring.len()).step_by(cqe::LAYOUT.len) {
            ring.write(at + ENTRY - 1, &[0xf1]);
        }
    }

    /// Whether there is a completion.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let at = u64::from(self.consumer & (self.size() - 1)) * ENTRY;
        let last = self.ring.load(at + ENTRY - 4);
        let lap = self.consumer >> self.log_size & 1;
        last & 1 == lap && last >> 4 & 0xf != 0xf
    }

    /// Takes the next completion, if there is one, and tells the device.
    pub fn poll(&mut self) -> Option<Completion> {
        if !self.is_ready() {
            return None;
        }
        let at = u64::from(self.consumer & (self.size() - 1)) * ENTRY;
        let entry: [u8; cqe::LAYOUT.len] = self.ring.bytes(at);
        let completion = Completion::parse(&entry);
        self.consumer += 1;
        self.doorbell.store(0, self.consumer & COUNTER);
        if completion.opcode == Completion::RESIZED {
            let next = self.next_ring.take();
            (self.ring, self.log_size) = next.expect("it was resized");
            return self.poll();
        }
        Some(completion)
    }

    /// Waits for the next completion.
    pub fn wait(&mut self) -> Completion {
        wait_for("a completion", || self.poll())
    }

    /// The word that arms it, for the doorbell record and the doorbell.
    pub(crate) fn arm(&mut self, solicited: bool) -> u32 {
        self.sequence = (self.sequence + 1) & 3;
        let word = self.sequence << 28 | u32::from(solicited) << 24 | self.consumer & COUNTER;
        self.doorbell.store(4, word);
        word
    }
}
