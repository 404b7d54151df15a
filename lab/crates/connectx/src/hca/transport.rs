// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work requests by the service of their queue pair. What is sent goes no further than the
//! adapter's own port.

use super::Hca;
use super::outcome::Outcome;
use crate::cqe::Syndrome;
use crate::layout::Field;
use crate::qp::Service;
use crate::scatter_gather::ScatterGather;
use crate::wqe::{Operation, WorkRequest};

impl Hca {
    /// Executes a work request of QP `number`.
    pub(super) fn execute(&mut self, number: u32, request: &WorkRequest) -> Outcome {
        let Some(qp) = self.qps.get(number) else {
            return Outcome::Done(0);
        };
        let (service, pd) = (qp.service, qp.pd());
        match (&request.operation, &request.address) {
            (Operation::Nop, _) => Outcome::Done(0),
            (Operation::Umr(umr), _) => self.update_mkey(umr, &request.segments, pd, service),
            // Nobody manages anything here.
            (Operation::Send(_), Some(_)) if service == Service::Management => Outcome::Done(0),
            (Operation::Send(immediate), Some(address)) => {
                match self.datagram(number, request, address, *immediate) {
                    Ok(outcome) => outcome,
                    // It is the receiver's queues that could not be reached.
                    Err(error) => {
                        self.catastrophic_error(address.qpn, &error);
                        Outcome::Done(0)
                    }
                }
            }
            _ if service.is_connected() => {
                let outcome = self.connected(number, request);
                // Without acknowledgements, an error of the other end is not known.
                match outcome {
                    Outcome::Failed(
                        Syndrome::RemoteInvalidRequest
                        | Syndrome::RemoteAccess
                        | Syndrome::RemoteOperation
                        | Syndrome::RetryExceeded,
                    )
                    | Outcome::RnrNak { .. }
                        if service == Service::UnreliableConnection =>
                    {
                        Outcome::Done(0)
                    }
                    outcome => outcome,
                }
            }
            _ => Outcome::Failed(Syndrome::LocalQpOperation),
        }
    }

    /// A field of a queue pair that is there.
    pub(super) fn field(&self, number: u32, field: Field) -> u32 {
        self.qps
            .get(number)
            .map_or(0, |qp| field.get32(&qp.context))
    }

    pub(super) fn scatter_gather(&self) -> ScatterGather<'_> {
        ScatterGather {
            dma: &self.dma,
            mkeys: &self.mkeys,
        }
    }
}
