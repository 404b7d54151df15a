// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command queue: fetches commands from guest memory and writes their answers there.

use crate::dma::{Buffer, Dma};
use crate::error::Error;
use crate::owner::Owner;
use crate::registers::{LOG_COMMANDS, LOG_STRIDE};
use crate::status::DeliveryStatus;
use crate::wire::{mailbox, queue_entry};

/// What an entry of the command queue must say that it is.
const KIND: u64 = 7;
/// Bit of `status_own`: the entry is the device's.
const HARDWARE: u8 = 1;
/// Bytes of a command, and of an answer, at most: more than the largest ones that the capabilities
/// allow.
const MAX_LEN: usize = 1 << 20;
/// Bytes of a command, and of an answer, that are in the entry.
const INLINE: usize = 16;
/// Bytes of a mailbox that hold data.
const BLOCK: usize = mailbox::data.width / 8;

/// The command queue.
pub struct CommandQueue(Buffer);

/// An entry that holds a command.
pub struct Entry {
    number: usize,
    /// What the driver sent.
    pub input: Vec<u8>,
    /// Bytes that it wants back.
    pub output_len: usize,
    /// Where they go: what the entry does not hold.
    output: Vec<Buffer>,
}

impl CommandQueue {
    /// The queue at `addr`.
    pub fn new(addr: u64) -> Self {
        let len = 1 << (LOG_COMMANDS + LOG_STRIDE);
        Self(Buffer::contiguous(Owner::CommandQueue, addr, len))
    }

    /// The command in `entry`, if there is one, and if it makes sense.
    pub fn fetch(
        &self,
        dma: &Dma,
        entry: usize,
    ) -> Result<Option<Result<Entry, DeliveryStatus>>, Error> {
        let mut bytes = [0; queue_entry::LAYOUT.len];
        dma.read(&self.0, offset(entry), &mut bytes)?;
        let owned = queue_entry::status_own.get(&bytes).to_le_bytes()[0] & HARDWARE;
        if owned == 0 {
            return Ok(None);
        }
        Ok(Some(take(dma, entry, &bytes)))
    }

    /// Writes the answer and gives the entry back. The answer is cut or filled up to what the
    /// driver wants.
    pub fn answer(&self, dma: &Dma, entry: &Entry, mut output: Vec<u8>) -> Result<(), Error> {
        output.resize(entry.output_len.max(INLINE), 0);
        let (inline, rest) = output.split_at(INLINE);
        for (block, to) in rest.chunks(BLOCK).zip(&entry.output) {
            dma.write(to, 0, block)?;
        }
        let at = offset(entry.number) + (queue_entry::output.offset / 8) as u64;
        dma.write(&self.0, at, inline)?;
        self.give_back(dma, entry.number, None)
    }

    /// Gives an entry back, which was not understood if there is an `error`.
    pub fn give_back(
        &self,
        dma: &Dma,
        entry: usize,
        error: Option<DeliveryStatus>,
    ) -> Result<(), Error> {
        let at = offset(entry) + (queue_entry::status_own.offset / 8) as u64;
        let status = error.map_or(0, |error| error as u8);
        dma.write(&self.0, at, &[status << 1])
    }
}

fn offset(entry: usize) -> u64 {
    (entry << LOG_STRIDE) as u64
}

fn take(dma: &Dma, entry: usize, bytes: &[u8]) -> Result<Entry, DeliveryStatus> {
    if queue_entry::kind.get(bytes) != KIND {
        return Err(DeliveryStatus::Descriptor);
    }
    let length = |field: crate::layout::Field| usize::try_from(field.get(bytes)).ok();
    let input_len = length(queue_entry::inlen)
        .filter(|len| (INLINE / 2..=MAX_LEN).contains(len))
        .ok_or(DeliveryStatus::InLength)?;
    let output_len = length(queue_entry::outlen)
        .filter(|len| (INLINE / 2..=MAX_LEN).contains(len))
        .ok_or(DeliveryStatus::OutLength)?;
    let token = queue_entry::token.get(bytes);

    let mut input = queue_entry::input.bytes(bytes).to_vec();
    let blocks = input_len.saturating_sub(INLINE).div_ceil(BLOCK);
    let first = queue_entry::in_ptr.get(bytes);
    for block in chain(dma, entry, first, blocks, token, DeliveryStatus::InPointer)? {
        let mut data = [0; BLOCK];
        dma.read(&block, 0, &mut data)
            .map_err(|error| unreachable_memory(&error))?;
        input.extend(data);
    }
    input.truncate(input_len);

    let blocks = output_len.saturating_sub(INLINE).div_ceil(BLOCK);
    let first = queue_entry::out_ptr.get(bytes);
    let output = chain(dma, entry, first, blocks, token, DeliveryStatus::OutPointer)?;
    Ok(Entry {
        number: entry,
        input,
        output_len,
        output,
    })
}

/// The mailboxes from `next` on, `blocks` of them.
fn chain(
    dma: &Dma,
    entry: usize,
    mut next: u64,
    blocks: usize,
    token: u64,
    misplaced: DeliveryStatus,
) -> Result<Vec<Buffer>, DeliveryStatus> {
    let mut found = vec![];
    for number in 0..blocks {
        if next == 0 || !next.is_multiple_of(BLOCK as u64) {
            return Err(misplaced);
        }
        let buffer = Buffer::contiguous(Owner::Command(entry), next, mailbox::LAYOUT.len as u64);
        let mut bytes = [0; mailbox::LAYOUT.len];
        dma.read(&buffer, BLOCK as u64, &mut bytes[BLOCK..])
            .map_err(|error| unreachable_memory(&error))?;
        if mailbox::token.get(&bytes) != token {
            return Err(DeliveryStatus::Token);
        }
        if mailbox::block_num.get(&bytes) != number as u64 {
            return Err(DeliveryStatus::BlockNumber);
        }
        next = mailbox::next.get(&bytes);
        found.push(buffer);
    }
    Ok(found)
}

fn unreachable_memory(error: &Error) -> DeliveryStatus {
    log::error!("{error}");
    DeliveryStatus::Internal
}
