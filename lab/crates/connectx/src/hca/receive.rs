// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a message finds at its destination: a receive request, and a place for its completion.

use super::Hca;
use crate::cqe::{self, Opcode, Syndrome};
use crate::eq::Kind;
use crate::error::Error;
use crate::ifc::qpc;
use crate::qp::Receive;
use crate::wqe::Piece;

/// A receive request that a message takes.
pub struct Taken {
    pub index: u16,
    pub pieces: Vec<Piece>,
    pub pd: u32,
    /// The shared queue that it is from, or 0.
    pub srqn: u32,
    /// Where its completion goes.
    pub cqn: u32,
}

impl Hca {
    /// The receive request that the next message to `number` takes, which names a shared queue perhaps.
    pub(super) fn take(&mut self, number: u32, named: Option<u32>) -> Result<Option<Taken>, Error> {
        let Some(qp) = self.qps.get_mut(number) else {
            return Ok(None);
        };
        let (pd, cqn) = (qp.pd(), qpc::cqn_rcv.get32(&qp.context));
        let shared = match qp.receive {
            Receive::Shared(srqn) => Some(srqn),
            _ => None,
        };
        let Some(srqn) = named.or(shared) else {
            let taken = qp.take_receive(&self.dma)?;
            return Ok(taken.map(|(index, pieces)| Taken {
                index,
                pieces,
                pd,
                srqn: 0,
                cqn,
            }));
        };
        let Some(srq) = self.srqs.get_mut(srqn) else {
            return Ok(None);
        };
        let taken = srq.take(&self.dma)?;
        let (pd, own_cqn, low) = (srq.pd(), srq.cqn(), srq.is_low(&self.dma)?);
        if low {
            self.tell(Kind::SrqLimit, srqn);
        }
        Ok(taken.map(|(index, pieces)| Taken {
            index,
            pieces,
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
        let entry = cqe::failed(Opcode::ResponderError, number, 0, index, why);
        self.complete(cqn, entry, false)
    }
}
