// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a message finds at its destination: a receive request, and where to complete it.

use super::Hca;
use crate::cqe::{self, Opcode, Syndrome};
use crate::eq::EventType;
use crate::error::Error;
use crate::ifc::qpc;
use crate::qp::Receive;
use crate::wqe::DataSegment;

/// The receive request that a message consumes.
pub struct ReceiveWqe {
    pub index: u16,
    pub segments: Vec<DataSegment>,
    pub pd: u32,
    /// The shared queue that it is from, or 0.
    pub srqn: u32,
    /// Where its completion goes.
    pub cqn: u32,
}

impl Hca {
    /// The shared queue that the next message to `number` takes from: the one that it names, or
    /// that of the queue pair. None if it takes from the queue pair's own.
    fn shared_queue(&self, number: u32, named: Option<u32>) -> Option<u32> {
        named.or_else(|| match self.qps.get(number)?.receive {
            Receive::Shared(srqn) => Some(srqn),
            Receive::Own(_) | Receive::None => None,
        })
    }

    /// Whether there is a receive request for the next message to `number`. It stays there.
    pub(super) fn has_receive(&self, number: u32, named: Option<u32>) -> Result<bool, Error> {
        match self.shared_queue(number, named) {
            Some(srqn) => self
                .srqs
                .get(srqn)
                .map_or(Ok(false), |srq| srq.has_receive(&self.dma)),
            None => self
                .qps
                .get(number)
                .map_or(Ok(false), |qp| qp.has_receive(&self.dma)),
        }
    }

    /// Consumes the receive request of the next message to `number`, which names a shared queue
    /// perhaps.
    pub(super) fn consume_receive(
        &mut self,
        number: u32,
        named: Option<u32>,
    ) -> Result<Option<ReceiveWqe>, Error> {
        let shared = self.shared_queue(number, named);
        let Some(qp) = self.qps.get_mut(number) else {
            return Ok(None);
        };
        let (pd, cqn) = (qp.pd(), qpc::cqn_rcv.get32(&qp.context));
        let Some(srqn) = shared else {
            let wqe = qp.consume_receive(&self.dma)?;
            return Ok(wqe.map(|(index, segments)| ReceiveWqe {
                index,
                segments,
                pd,
                srqn: 0,
                cqn,
            }));
        };
        let Some(srq) = self.srqs.get_mut(srqn) else {
            return Ok(None);
        };
        let wqe = srq.consume_receive(&self.dma)?;
        let (pd, own_cqn, low) = (srq.pd(), srq.cqn(), srq.limit_reached(&self.dma)?);
        if low {
            self.report(EventType::SrqLimit, srqn);
        }
        Ok(wqe.map(|(index, segments)| ReceiveWqe {
            index,
            segments,
            pd,
            srqn,
            cqn: if named.is_some() { own_cqn } else { cqn },
        }))
    }

    pub(super) fn complete_receive_error(
        &mut self,
        number: u32,
        cqn: u32,
        index: u16,
        why: Syndrome,
    ) -> Result<(), Error> {
        let entry = cqe::error(Opcode::ResponderError, number, 0, index, why);
        self.post_completion(cqn, entry, false)
    }
}
