// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared receive queues.
//!
//! Their requests are a list: each says which one follows. The first one ever is number 0.

use crate::capabilities::LOG_MAX_QUEUE;
use crate::dma::{Buffer, Dma};
use crate::error::Error;
use crate::ifc::srqc;
use crate::owner::Owner;
use crate::pas;
use crate::status::Status;
use crate::wire::srq_next;
use crate::wq::Wq;
use crate::wqe::{DataSegment, parse_receive};

/// A shared receive queue.
#[derive(Debug)]
pub struct Srq {
    context: Vec<u8>,
    buffer: Buffer,
    wq: Wq,
    /// How many requests were posted.
    doorbell: Buffer,
    /// How many were consumed.
    consumed: u16,
    next: u16,
    /// An event is wanted when fewer requests than this are left.
    limit: Option<u16>,
}

impl Srq {
    pub fn new(number: u32, context: &[u8], list: &[u8]) -> Result<Self, Status> {
        let log_size = srqc::log_srq_size.get32(context);
        if log_size > LOG_MAX_QUEUE.into() {
            return Err(Status::Limit);
        }
        let wq = Wq::new(0, log_size, 4 + srqc::log_rq_stride.get32(context));
        let buffer = Buffer::paged(
            Owner::Srq(number),
            &pas::parse(list),
            srqc::log_page_size.get32(context),
            srqc::page_offset.get(context),
            wq.len(),
        );
        let doorbell = srqc::dbr_addr.get(context);
        Ok(Self {
            context: context.to_vec(),
            buffer: buffer.ok_or(Status::BadParameter)?,
            wq,
            doorbell: Buffer::contiguous(Owner::Srq(number), doorbell, 4),
            consumed: 0,
            next: 0,
            limit: None,
        })
    }

    /// Its protection domain.
    pub fn pd(&self) -> u32 {
        srqc::pd.get32(&self.context)
    }

    /// The domain of those who may name it.
    pub fn xrcd(&self) -> u32 {
        srqc::xrcd.get32(&self.context)
    }

    /// Its completion queue, if it serves queue pairs that have none for it.
    pub fn cqn(&self) -> u32 {
        srqc::cqn.get32(&self.context)
    }

    /// Its context, as it is now.
    pub fn context(&self) -> Vec<u8> {
        let mut context = self.context.clone();
        srqc::lwm.set(&mut context, self.limit.unwrap_or(0).into());
        context
    }

    /// Arms the limit event: it is due when fewer requests than `limit` are left.
    pub fn arm(&mut self, limit: u16) {
        self.limit = (limit > 0).then_some(limit);
    }

    /// Whether the limit event is due now; it is then disarmed.
    pub fn limit_reached(&mut self, dma: &Dma) -> Result<bool, Error> {
        let Some(limit) = self.limit else {
            return Ok(false);
        };
        let low = self.available(dma)? < limit;
        if low {
            self.limit = None;
        }
        Ok(low)
    }

    fn available(&self, dma: &Dma) -> Result<u16, Error> {
        let mut record = [0; 4];
        dma.read(&self.doorbell, 0, &mut record)?;
        let [.., high, low] = record;
        Ok(u16::from_be_bytes([high, low]).wrapping_sub(self.consumed))
    }

    /// Whether there is a request.
    pub fn has_receive(&self, dma: &Dma) -> Result<bool, Error> {
        Ok(self.available(dma)? != 0)
    }

    /// Consumes the next request, if there is one: its number, and where a message may go.
    pub fn consume_receive(&mut self, dma: &Dma) -> Result<Option<(u16, Vec<DataSegment>)>, Error> {
        if !self.has_receive(dma)? {
            return Ok(None);
        }
        let index = self.next;
        let mut bytes = vec![0; self.wq.stride()];
        self.wq.read(dma, &self.buffer, index, &mut bytes)?;
        self.next = u16::try_from(srq_next::next_wqe_index.get(&bytes)).expect("16 bits");
        self.consumed = self.consumed.wrapping_add(1);
        let list = bytes.get(srq_next::LAYOUT.len..).unwrap_or_default();
        Ok(Some((index, parse_receive(list))))
    }
}
