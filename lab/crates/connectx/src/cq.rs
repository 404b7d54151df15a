// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion queues.

use crate::capabilities::MAX_CQ_LOG;
use crate::cqe::{self as entries, Opcode};
use crate::dma::{Buffer, Dma};
use crate::error::Error;
use crate::ifc::cqc;
use crate::owner::Owner;
use crate::pas;
use crate::status::Status;
use crate::wire::cqe;
use std::time::{Duration, Instant};

/// What a CQ is waiting to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    Solicited,
    Any,
}

/// The memory that completions go to.
#[derive(Debug)]
struct Ring {
    buffer: Buffer,
    log_size: u32,
    /// Bytes of an entry, 64 or 128; a completion is in its second half.
    stride: u64,
}

impl Ring {
    fn new(number: u32, context: &[u8], list: &[u8]) -> Result<Self, Status> {
        let log_size = cqc::log_cq_size.get32(context);
        if log_size > MAX_CQ_LOG {
            return Err(Status::Limit);
        }
        let stride = match cqc::cqe_sz.get(context) {
            0 => 64,
            1 => 128,
            _ => return Err(Status::BadParameter),
        };
        let buffer = Buffer::paged(
            Owner::Cq(number),
            &pas::parse(list),
            cqc::log_page_size.get32(context),
            cqc::page_offset.get(context),
            stride << log_size,
        );
        Ok(Self {
            buffer: buffer.ok_or(Status::BadParameter)?,
            log_size,
            stride,
        })
    }

    fn size(&self) -> u32 {
        1 << self.log_size
    }
}

/// A completion queue.
#[derive(Debug)]
pub struct Cq {
    number: u32,
    context: Vec<u8>,
    ring: Ring,
    /// The consumer's place, and what the driver armed it with.
    doorbell: Buffer,
    producer: u32,
    armed: Armed,
    /// Completions since the last event.
    untold: u32,
    /// When the next event is due, if it waits for more completions.
    due: Option<Instant>,
    /// It was full: nothing more comes.
    overrun: bool,
}

const COUNTER: u32 = 0xff_ffff;

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is there.
    Quietly,
    /// It is there, and is to be an event.
    Event,
    /// There was no room, which is to be an event, once.
    Overrun,
}

impl Cq {
    pub fn new(number: u32, context: &[u8], list: &[u8]) -> Result<Self, Status> {
        let doorbell = cqc::dbr_addr.get(context);
        Ok(Self {
            number,
            context: context.to_vec(),
            ring: Ring::new(number, context, list)?,
            doorbell: Buffer::contiguous(Owner::Cq(number), doorbell, 8),
            producer: 0,
            armed: Armed::No,
            untold: 0,
            due: None,
            overrun: false,
        })
    }

    /// Number of its event queue.
    pub fn eq(&self) -> u32 {
        cqc::c_eqn_or_apu_element.get32(&self.context)
    }

    /// Its context, as it is now.
    pub fn context(&self) -> Vec<u8> {
        let mut context = self.context.clone();
        cqc::producer_counter.set(&mut context, (self.producer & COUNTER).into());
        context
    }

    /// How many completions wait for how long until they are told: none and not at all is 0.
    pub fn moderate(&mut self, count: u64, period: u64) {
        cqc::cq_max_count.set(&mut self.context, count);
        cqc::cq_period.set(&mut self.context, period);
    }

    /// Goes on in another buffer.
    pub fn resize(&mut self, dma: &Dma, context: &[u8], list: &[u8]) -> Result<(), Status> {
        let ring = Ring::new(self.number, context, list)?;
        let unpolled = self.unpolled(dma).map_err(|error| {
            log::error!("{error}");
            Status::BadSystemState
        })?;
        // The completion that tells of it takes a place in both.
        if unpolled >= ring.size().min(self.ring.size()) {
            return Err(Status::BadSize);
        }
        let mut entry = [0; cqe::LAYOUT.len];
        cqe::opcode.set(&mut entry, Opcode::Resize as u64);
        self.write(dma, &mut entry).map_err(|error| {
            log::error!("{error}");
            Status::BadSystemState
        })?;
        cqc::log_cq_size.set(&mut self.context, ring.log_size.into());
        self.ring = ring;
        Ok(())
    }

    /// The consumer wants to hear of the next completion after `consumer`; says whether it is to be
    /// told now.
    pub fn arm(&mut self, consumer: u32, solicited: bool, now: Instant) -> bool {
        // Who wants to hear of any does not want less by asking again.
        self.armed = match self.armed {
            Armed::No | Armed::Solicited if solicited => Armed::Solicited,
            _ => Armed::Any,
        };
        // Which of those that are there were solicited is not kept: one event too many does no harm.
        (self.producer ^ consumer) & COUNTER != 0 && self.is_to_be_told(now)
    }

    /// Puts a completion in.
    pub fn post(
        &mut self,
        dma: &Dma,
        mut entry: entries::Bytes,
        solicited: bool,
        now: Instant,
    ) -> Result<Told, Error> {
        if self.overrun {
            return Ok(Told::Quietly);
        }
        let ignores_overrun = cqc::oi.is_set(&self.context);
        if !ignores_overrun && self.unpolled(dma)? >= self.ring.size() {
            self.overrun = true;
            log::error!("CQ {} is full", self.number);
            return Ok(Told::Overrun);
        }
        let error = matches!(
            cqe::opcode.get(&entry),
            op if op == Opcode::RequesterError as u64 || op == Opcode::ResponderError as u64
        );
        self.write(dma, &mut entry)?;
        self.untold = self.untold.saturating_add(1);
        let wanted = match self.armed {
            Armed::No => false,
            Armed::Solicited => solicited || error,
            Armed::Any => true,
        };
        if wanted && self.is_to_be_told(now) {
            Ok(Told::Event)
        } else {
            Ok(Told::Quietly)
        }
    }

    /// When it is to be looked at again, if it is moderated.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the event that was waited with is to be told now.
    pub fn expire(&mut self, now: Instant) -> bool {
        let expired = self.due.is_some_and(|due| due <= now);
        if expired {
            self.tell();
        }
        expired
    }

    /// Whether something that the consumer wants to hear of is to be told now, or with what follows.
    fn is_to_be_told(&mut self, now: Instant) -> bool {
        let count = cqc::cq_max_count.get32(&self.context);
        let period = Duration::from_micros(cqc::cq_period.get(&self.context));
        if self.untold < count && !period.is_zero() {
            self.due.get_or_insert(now + period);
            return false;
        }
        self.tell();
        true
    }

    fn tell(&mut self) {
        self.armed = Armed::No;
        self.untold = 0;
        self.due = None;
    }

    fn write(&mut self, dma: &Dma, entry: &mut entries::Bytes) -> Result<(), Error> {
        let index = self.producer & (self.ring.size() - 1);
        let lap = self.producer >> self.ring.log_size & 1;
        cqe::owner.set(entry, lap.into());
        let at = u64::from(index) * self.ring.stride + (self.ring.stride - 64);
        // The owner is in the last bytes, and must not be seen before the rest.
        let (body, tail) = entry.split_at(entry.len() - 4);
        dma.write(&self.ring.buffer, at, body)?;
        dma.write(&self.ring.buffer, at + body.len() as u64, tail)?;
        self.producer = self.producer.wrapping_add(1);
        Ok(())
    }

    /// Completions that the consumer has not taken.
    fn unpolled(&self, dma: &Dma) -> Result<u32, Error> {
        let mut record = [0; 4];
        dma.read(&self.doorbell, 0, &mut record)?;
        let consumer = u32::from_be_bytes(record);
        Ok(self.producer.wrapping_sub(consumer) & COUNTER)
    }
}
