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

/// Which completions a CQ is armed for.
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
    unreported: u32,
    /// When the next event is due, if it waits for more completions.
    due: Option<Instant>,
    /// It overran: nothing more is posted.
    overrun: bool,
}

const COUNTER: u32 = 0xff_ffff;

/// The event that a completion causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// None.
    None,
    /// A completion event.
    Event,
    /// The completion was not posted since the queue overran: a CQ error, once.
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
            unreported: 0,
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

    /// Sets the moderation: an event waits for `count` completions, or for `period` microseconds.
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
        // The completion that says so needs room in both.
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

    /// Arms it for the next completion after `consumer`; says whether the event is due now.
    pub fn arm(&mut self, consumer: u32, solicited: bool, now: Instant) -> bool {
        // Armed for any, it is not armed for less by a second doorbell.
        self.armed = match self.armed {
            Armed::No | Armed::Solicited if solicited => Armed::Solicited,
            _ => Armed::Any,
        };
        // Which of those that are there were solicited is not kept: one event too many does no
        // harm.
        (self.producer ^ consumer) & COUNTER != 0 && self.notify_now(now)
    }

    /// Posts a completion.
    pub fn post(
        &mut self,
        dma: &Dma,
        mut entry: entries::Bytes,
        solicited: bool,
        now: Instant,
    ) -> Result<Notification, Error> {
        if self.overrun {
            return Ok(Notification::None);
        }
        let ignores_overrun = cqc::oi.is_set(&self.context);
        if !ignores_overrun && self.unpolled(dma)? >= self.ring.size() {
            self.overrun = true;
            log::error!("CQ {} is full", self.number);
            return Ok(Notification::Overrun);
        }
        let error = matches!(
            cqe::opcode.get(&entry),
            op if op == Opcode::RequesterError as u64 || op == Opcode::ResponderError as u64
        );
        self.write(dma, &mut entry)?;
        self.unreported = self.unreported.saturating_add(1);
        let wanted = match self.armed {
            Armed::No => false,
            Armed::Solicited => solicited || error,
            Armed::Any => true,
        };
        if wanted && self.notify_now(now) {
            Ok(Notification::Event)
        } else {
            Ok(Notification::None)
        }
    }

    /// When the event is due that waits for more completions.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the event that waits for more completions is due now.
    pub fn expire(&mut self, now: Instant) -> bool {
        let expired = self.due.is_some_and(|due| due <= now);
        if expired {
            self.notified();
        }
        expired
    }

    /// Whether the event that the queue is armed for is due now, or waits for more completions.
    fn notify_now(&mut self, now: Instant) -> bool {
        let count = cqc::cq_max_count.get32(&self.context);
        let period = Duration::from_micros(cqc::cq_period.get(&self.context));
        if self.unreported < count && !period.is_zero() {
            self.due.get_or_insert(now + period);
            return false;
        }
        self.notified();
        true
    }

    fn notified(&mut self) {
        self.armed = Armed::No;
        self.unreported = 0;
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

    /// Completions that the consumer has not polled.
    fn unpolled(&self, dma: &Dma) -> Result<u32, Error> {
        let mut record = [0; 4];
        dma.read(&self.doorbell, 0, &mut record)?;
        let consumer = u32::from_be_bytes(record);
        Ok(self.producer.wrapping_sub(consumer) & COUNTER)
    }
}
