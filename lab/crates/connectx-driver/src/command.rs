// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue: 32 entries in memory, with chains of mailboxes for what is longer than 16
//! bytes.

use crate::function::Function;
use crate::guest_memory::{Area, GuestMemory};
use crate::wait::wait_for;
use connectx::wire::{mailbox, queue_entry, reply, request};
use thiserror::Error;

/// Registers: address of the queue, and which entries to run.
const QUEUE_HIGH: u64 = 0x10;
const QUEUE_LOW: u64 = 0x14;
const DOORBELL: u64 = 0x18;

/// Entries, and bytes of one.
const ENTRIES: usize = 32;
const ENTRY: u64 = queue_entry::LAYOUT.len as u64;
/// What an entry must say that it is.
const KIND: u64 = 7;
/// The entry is the device's.
const HARDWARE: u64 = 1;
/// Bytes that are in the entry itself, and in a mailbox.
const INLINE: usize = 16;
const BLOCK: usize = mailbox::data.width / 8;
/// Bytes from one mailbox to the next: they are aligned.
const STRIDE: u64 = 1024;

/// Why a command was not done.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// It was not understood: the delivery status.
    #[error("delivery status {0:#x}")]
    Delivery(u8),
    /// It was refused: the command status.
    #[error("status {0:#x}")]
    Status(u8),
}

/// The front of a command of `len` bytes; the other fields are 0.
///
/// # Panics
/// If that is too short for a front.
#[must_use]
pub fn command(opcode: u16, len: usize) -> Vec<u8> {
    let mut input = vec![0; len];
    request::opcode.set(&mut input, opcode.into());
    input
}

/// A command in memory. What is wrong about it can be made so before it is started.
pub struct Prepared {
    /// Number of the entry.
    pub number: usize,
    /// The entry.
    pub entry: [u8; queue_entry::LAYOUT.len],
    /// The mailboxes of the input, in their order.
    pub input: Vec<Area>,
    /// The mailboxes of the output.
    pub output: Vec<Area>,
}

/// The command queue.
pub struct Commands {
    memory: GuestMemory,
    queue: Area,
    /// Mailboxes of each entry that are free.
    spare: Vec<Vec<Area>>,
    next: usize,
    token: u8,
}

impl Commands {
    /// Makes a queue and tells the device where it is.
    pub fn new(function: &mut Function, memory: &GuestMemory) -> Self {
        let queue = memory.pages(ENTRIES as u64 * ENTRY);
        let addr = queue.addr();
        let word = |value: u64| u32::try_from(value & 0xffff_ffff).expect("masked");
        function.write(QUEUE_HIGH, word(addr >> 32));
        function.write(QUEUE_LOW, word(addr));
        Self {
            memory: memory.clone(),
            queue,
            spare: vec![vec![]; ENTRIES],
            next: 0,
            token: 0,
        }
    }

    /// The queue's memory.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.queue
    }

    /// Puts a command into memory that wants `output_len` bytes back.
    pub fn prepare(&mut self, input: &[u8], output_len: usize) -> Prepared {
        // The last one is reserved for the driver's pages.
        let number = self.next % (ENTRIES - 1);
        self.next += 1;
        self.token = self.token.wrapping_add(1);
        let (front, rest) = input.split_at(INLINE.min(input.len()));
        let mut spare = std::mem::take(&mut self.spare[number]);
        let boxes = self.chain(&mut spare, rest.len().div_ceil(BLOCK));
        for (block, area) in rest.chunks(BLOCK).zip(&boxes) {
            area.write(0, block);
        }
        let wanted = output_len.saturating_sub(INLINE).div_ceil(BLOCK);
        let output = self.chain(&mut spare, wanted);
        self.spare[number] = spare;

        let mut entry = [0; queue_entry::LAYOUT.len];
        let first = |boxes: &[Area]| boxes.first().map_or(0, Area::addr);
        for (field, value) in [
            (queue_entry::kind, KIND),
            (queue_entry::inlen, input.len() as u64),
            (queue_entry::in_ptr, first(&boxes)),
            (queue_entry::out_ptr, first(&output)),
            (queue_entry::outlen, output_len as u64),
            (queue_entry::token, self.token.into()),
            (queue_entry::status_own, HARDWARE),
        ] {
            field.set(&mut entry, value);
        }
        queue_entry::input.bytes_mut(&mut entry)[..front.len()].copy_from_slice(front);
        Prepared {
            number,
            entry,
            input: boxes,
            output,
        }
    }

    fn chain(&mut self, spare: &mut Vec<Area>, len: usize) -> Vec<Area> {
        let boxes: Vec<_> = (0..len)
            .map(|_| spare.pop().unwrap_or_else(|| self.mailbox()))
            .collect();
        for (number, area) in boxes.iter().enumerate() {
            let mut bytes = [0; mailbox::LAYOUT.len];
            let next = boxes.get(number + 1).map_or(0, Area::addr);
            mailbox::next.set(&mut bytes, next);
            mailbox::block_num.set(&mut bytes, number as u64);
            mailbox::token.set(&mut bytes, self.token.into());
            area.write(0, &bytes);
        }
        boxes
    }

    fn mailbox(&mut self) -> Area {
        let page = self.memory.pages(STRIDE);
        page.part(0, mailbox::LAYOUT.len as u64)
    }

    /// Gives a command to the device.
    pub fn start(&mut self, function: &mut Function, prepared: &Prepared) {
        let at = prepared.number as u64 * ENTRY;
        self.queue.write(at, &prepared.entry);
        function.write(DOORBELL, 1 << prepared.number);
    }

    /// Whether the device has given an entry back.
    #[must_use]
    pub fn is_done(&self, prepared: &Prepared) -> bool {
        let at = prepared.number as u64 * ENTRY + ENTRY - 4;
        u64::from(self.queue.load(at)) & HARDWARE == 0
    }

    /// Waits by looking at the entry.
    pub fn wait(&self, prepared: &Prepared) {
        wait_for("the end of a command", || {
            self.is_done(prepared).then_some(())
        });
    }

    /// The answer to a command whose entry was given back.
    pub fn finish(&mut self, prepared: Prepared) -> Result<Vec<u8>, Error> {
        let at = prepared.number as u64 * ENTRY;
        let entry: [u8; queue_entry::LAYOUT.len] = self.queue.bytes(at);
        let delivery = queue_entry::status_own.get(&entry).to_le_bytes()[0] >> 1;
        let mut output = queue_entry::output.bytes(&entry).to_vec();
        for area in &prepared.output {
            output.extend(area.bytes::<BLOCK>(0));
        }
        let len = queue_entry::outlen.get(&prepared.entry);
        output.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        let spare = &mut self.spare[prepared.number];
        spare.extend(prepared.input);
        spare.extend(prepared.output);
        match (delivery, reply::status.get(&output).to_le_bytes()[0]) {
            (0, 0) => Ok(output),
            (0, status) => Err(Error::Status(status)),
            (delivery, _) => Err(Error::Delivery(delivery)),
        }
    }
}
