// SPDX-License-Identifier: MIT OR Apache-2.0
//! Event queues.

use crate::capabilities::MAX_EQ_LOG;
use crate::dma::{Buffer, Dma};
use crate::error::Error;
use crate::ifc::eqc;
use crate::owner::Owner;
use crate::pas;
use crate::status::Status;
use crate::wire::eqe;
use devices::Interrupt;

/// Types of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventType {
    /// A completion queue has something new.
    Completion = 0x00,
    /// A completion queue overran.
    CqError = 0x04,
    /// Commands have ended.
    Command = 0x0a,
    /// A queue pair is in the error state since its memory cannot be reached.
    WqCatastrophic = 0x05,
    /// A request of a queue pair was refused for its rights.
    WqAccess = 0x11,
    /// A request of a queue pair made no sense.
    WqInvalid = 0x10,
    /// A queue pair in error has got its last request of a shared receive queue.
    LastWqe = 0x13,
    /// A shared receive queue has fewer requests than its limit.
    SrqLimit = 0x14,
}

/// An event queue.
#[derive(Debug)]
pub struct Eq {
    number: u32,
    buffer: Buffer,
    log_size: u32,
    vector: u32,
    /// Which events come here; completions come to the queue that the CQ names.
    mask: [u8; 32],
    producer: u32,
    consumer: u32,
    armed: bool,
}

/// What is kept of a consumer's place.
const COUNTER: u32 = 0xff_ffff;

impl Eq {
    pub fn new(number: u32, context: &[u8], mask: &[u8], list: &[u8]) -> Result<Self, Status> {
        let log_size = eqc::log_eq_size.get32(context);
        if log_size > MAX_EQ_LOG {
            return Err(Status::Limit);
        }
        let mut events = [0; 32];
        events.copy_from_slice(mask.get(..32).ok_or(Status::InputLength)?);
        let buffer = Buffer::paged(
            Owner::Eq(number),
            &pas::parse(list),
            eqc::log_page_size.get32(context),
            eqc::page_offset.get(context),
            (eqe::LAYOUT.len as u64) << log_size,
        );
        Ok(Self {
            number,
            buffer: buffer.ok_or(Status::BadParameter)?,
            log_size,
            vector: eqc::intr.get32(context),
            mask: events,
            producer: 0,
            consumer: 0,
            armed: false,
        })
    }

    /// Whether events of this kind come here.
    pub fn wants(&self, kind: EventType) -> bool {
        let bit = usize::from(kind as u8);
        // Bit 0 is the least significant one of the first of four words of 64 bits.
        let (word, bit) = (bit / 64, bit % 64);
        self.mask[8 * word + 7 - bit / 8] >> (bit % 8) & 1 != 0
    }

    /// The consumer has come to `consumer`.
    pub fn update(&mut self, consumer: u32, arm: bool, interrupt: &Interrupt) {
        self.consumer = consumer;
        self.armed |= arm;
        self.fire(interrupt);
    }

    /// Posts an event and raises the interrupt, if it is wanted.
    pub fn post(
        &mut self,
        dma: &Dma,
        interrupt: &Interrupt,
        kind: EventType,
        data: &[u8],
    ) -> Result<(), Error> {
        let size = 1 << self.log_size;
        if self.producer.wrapping_sub(self.consumer) & COUNTER >= size {
            log::error!("EQ {} is full: an event {kind:?} is lost", self.number);
            return Ok(());
        }
        let index = self.producer & (size - 1);
        let mut entry = [0; eqe::LAYOUT.len];
        eqe::kind.set(&mut entry, (kind as u8).into());
        eqe::data.bytes_mut(&mut entry)[..data.len()].copy_from_slice(data);
        let lap = self.producer >> self.log_size & 1;
        eqe::owner.set(&mut entry, lap.into());
        let at = u64::from(index) * entry.len() as u64;
        // The owner is in the last bytes, and must not be seen before the rest.
        let (body, tail) = entry.split_at(entry.len() - 4);
        dma.write(&self.buffer, at, body)?;
        dma.write(&self.buffer, at + body.len() as u64, tail)?;
        self.producer = self.producer.wrapping_add(1);
        log::debug!("EQ {}: {kind:?} in entry {index}", self.number);
        self.fire(interrupt);
        Ok(())
    }

    /// One interrupt for each time that it was armed, as soon as there is something.
    fn fire(&mut self, interrupt: &Interrupt) {
        if self.armed && (self.producer ^ self.consumer) & COUNTER != 0 {
            self.armed = false;
            interrupt.raise(self.vector);
        }
    }
}
