// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion queues.

use super::capabilities::MAX_CQ_LOG;
use super::dma::{Buffer, Dma, Fault, Owner};
use super::ifc::cqc;
use super::pages;
use super::status::Refusal;
use super::wire::cqe;

/// How a work request ended, as a completion says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A request of a send queue ended well.
    Requester = 0,
    /// An RDMA write with immediate data arrived.
    ResponderWriteImm = 1,
    /// A message arrived.
    ResponderSend = 2,
    /// A message with immediate data arrived.
    ResponderSendImm = 3,
    /// Go on in the new buffer.
    Resize = 5,
    /// A request of a send queue failed.
    RequesterError = 13,
    /// A receive failed.
    ResponderError = 14,
}

/// A completion.
pub type Cqe = [u8; cqe::LAYOUT.len];

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
    fn new(number: u32, context: &[u8], list: &[u8]) -> Result<Self, Refusal> {
        let log_size = cqc::log_cq_size.get32(context);
        if log_size > MAX_CQ_LOG {
            return Err(Refusal::Limit);
        }
        let stride = match cqc::cqe_sz.get(context) {
            0 => 64,
            1 => 128,
            _ => return Err(Refusal::BadParameter),
        };
        let buffer = Buffer::paged(
            Owner::Cq(number),
            &pages(list),
            12 + cqc::log_page_size.get32(context),
            // Its unit is 64 bytes.
            64 * cqc::page_offset.get(context),
            stride << log_size,
        );
        Ok(Self {
            buffer: buffer.ok_or(Refusal::BadParameter)?,
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
    /// Completions since the last event that it might have been told with.
    untold: u32,
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
    pub fn new(number: u32, context: &[u8], list: &[u8]) -> Result<Self, Refusal> {
        let doorbell = cqc::dbr_addr.get(context);
        Ok(Self {
            number,
            context: context.to_vec(),
            ring: Ring::new(number, context, list)?,
            doorbell: Buffer::contiguous(Owner::Cq(number), doorbell, 8),
            producer: 0,
            armed: Armed::No,
            untold: 0,
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
    pub fn resize(&mut self, dma: &Dma, context: &[u8], list: &[u8]) -> Result<(), Refusal> {
        let ring = Ring::new(self.number, context, list)?;
        let unpolled = self.unpolled(dma).map_err(|fault| {
            log::error!("{fault}");
            Refusal::BadSystemState
        })?;
        // The completion that tells of it takes a place, too.
        if unpolled + 1 > ring.size() {
            return Err(Refusal::BadSize);
        }
        let mut last = [0; cqe::LAYOUT.len];
        cqe::opcode.set(&mut last, Opcode::Resize as u64);
        self.write(dma, &mut last).map_err(|fault| {
            log::error!("{fault}");
            Refusal::BadSystemState
        })?;
        cqc::log_cq_size.set(&mut self.context, ring.log_size.into());
        self.ring = ring;
        Ok(())
    }

    /// The consumer wants to hear of the next completion after `consumer`; says whether it is there.
    pub fn arm(&mut self, consumer: u32, solicited: bool) -> bool {
        self.armed = if solicited {
            Armed::Solicited
        } else {
            Armed::Any
        };
        // Which of those that are there were solicited is not kept: one event too many does no harm.
        let pending = (self.producer ^ consumer) & COUNTER != 0;
        if pending {
            self.armed = Armed::No;
            self.untold = 0;
        }
        pending
    }

    /// Puts a completion in.
    pub fn post(&mut self, dma: &Dma, mut entry: Cqe, solicited: bool) -> Result<Told, Fault> {
        if self.overrun {
            return Ok(Told::Quietly);
        }
        if self.unpolled(dma)? >= self.ring.size() {
            self.overrun = true;
            log::error!("CQ {} is full", self.number);
            return Ok(Told::Overrun);
        }
        let error = matches!(
            cqe::opcode.get(&entry),
            op if op == Opcode::RequesterError as u64 || op == Opcode::ResponderError as u64
        );
        self.write(dma, &mut entry)?;
        self.untold += 1;
        let wanted = match self.armed {
            Armed::No => false,
            Armed::Solicited => solicited || error,
            Armed::Any => true,
        };
        if !wanted {
            return Ok(Told::Quietly);
        }
        self.armed = Armed::No;
        self.untold = 0;
        Ok(Told::Event)
    }

    fn write(&mut self, dma: &Dma, entry: &mut Cqe) -> Result<(), Fault> {
        let index = self.producer & (self.ring.size() - 1);
        let lap = self.producer >> self.ring.log_size & 1;
        cqe::owner.set(entry, lap.into());
        let at = u64::from(index) * self.ring.stride + (self.ring.stride - 64);
        // The owner is in the last bytes, and must not be seen before the rest.
        let (body, tail) = entry.split_at(entry.len() - 4);
        dma.write(&self.ring.buffer, at, body, None)?;
        dma.write(&self.ring.buffer, at + body.len() as u64, tail, None)?;
        self.producer = self.producer.wrapping_add(1);
        Ok(())
    }

    /// Completions that the consumer has not taken.
    fn unpolled(&self, dma: &Dma) -> Result<u32, Fault> {
        let mut record = [0; 4];
        dma.read(&self.doorbell, 0, &mut record)?;
        let consumer = u32::from_be_bytes(record);
        Ok(self.producer.wrapping_sub(consumer) & COUNTER)
    }
}
