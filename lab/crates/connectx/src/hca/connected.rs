// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work requests of connected queue pairs: reliable, unreliable and extended reliable.

use super::Hca;
use super::outcome::Outcome;
use super::receive::ReceiveWqe;
use crate::cqe::{self, Arrival, Opcode, Syndrome};
use crate::eq::EventType;
use crate::error::{CopyError, Error};
use crate::ifc::{ads, qpc};
use crate::mkey::Access;
use crate::port::{LID, Port};
use crate::qp::{Qp, State};
use crate::srq::Srq;
use crate::wqe::{Atomic, DataSegment, Operation, Remote, Sge, WorkRequest};
use std::time::Duration;

/// Bytes of a message, at most; see `log_max_msg`.
const MAX_MESSAGE: u64 = 1 << 30;

impl Hca {
    /// The queue pair at the other end, if it listens.
    fn peer(&self, number: u32) -> Option<(u32, &Qp)> {
        let qp = self.qps.get(number)?;
        let path = qpc::primary_address_path.bytes(&qp.context);
        let here = ads::rlid.get(path) == u64::from(LID)
            || ads::grh.is_set(path) && ads::rgid_rip.bytes(path) == Port::gid();
        let peer = qpc::remote_qpn.get32(&qp.context);
        let other = self.qps.get(peer).filter(|_| here)?;
        let listens = other.service == qp.service
            && matches!(other.state, State::Rtr | State::Rts)
            && qpc::remote_qpn.get32(&other.context) == number;
        listens.then_some((peer, other))
    }

    /// A request that goes to the peer.
    pub(super) fn connected(&mut self, number: u32, request: &WorkRequest) -> Outcome {
        let pd = self.field(number, qpc::pd);
        let access = match request.operation {
            Operation::Read(_) | Operation::Atomic(..) => Access::LocalWrite,
            _ => Access::LocalRead,
        };
        let len = match self.scatter_gather().permit(&request.segments, pd, access) {
            Ok(len) if len <= MAX_MESSAGE => len,
            Ok(_) => return Outcome::Failed(Syndrome::LocalLength),
            Err(why) => {
                log::info!("QP {number}: its own memory: {why}");
                return Outcome::Failed(Syndrome::LocalProtection);
            }
        };
        let Some((peer, _)) = self.peer(number) else {
            return Outcome::Failed(Syndrome::RetryExceeded);
        };
        if !self.may_use(peer, request.srqn) {
            return self.nak(peer, EventType::WqInvalid, Syndrome::RemoteInvalidRequest);
        }
        let outcome = match request.operation {
            Operation::Send(immediate) => self.deliver(peer, request, len, immediate),
            Operation::Write(remote, immediate) => {
                self.write(peer, request, remote, len, immediate)
            }
            Operation::Read(remote) => Ok(self.read(peer, request, remote, len)),
            Operation::Atomic(remote, atomic) => {
                Ok(self.atomic(peer, request, remote, atomic, len))
            }
            Operation::Nop | Operation::Umr(_) => Ok(Outcome::Failed(Syndrome::LocalQpOperation)),
        };
        // It is the peer's queues that could not be reached.
        outcome.unwrap_or_else(|error| {
            self.catastrophic_error(peer, &error);
            Outcome::Failed(Syndrome::RemoteOperation)
        })
    }

    /// Whether `peer` may take from the shared queue that a request names, if it names one.
    fn may_use(&self, peer: u32, named: Option<u32>) -> bool {
        let domain = self.field(peer, qpc::xrcd);
        named.is_none_or(|srqn| self.srqs.get(srqn).is_some_and(|srq| srq.xrcd() == domain))
    }

    fn rnr_nak(&self, peer: u32) -> Outcome {
        Outcome::RnrNak {
            timer: rnr_timer(self.field(peer, qpc::min_rnr_nak)),
        }
    }

    /// A message arrives at `peer`.
    fn deliver(
        &mut self,
        peer: u32,
        request: &WorkRequest,
        len: u64,
        immediate: Option<u32>,
    ) -> Result<Outcome, Error> {
        let Some(wqe) = self.consume_receive(peer, request.srqn)? else {
            return Ok(self.rnr_nak(peer));
        };
        let sg = self.scatter_gather();
        let copied = match sg.permit(&wqe.segments, wqe.pd, Access::LocalWrite) {
            Ok(room) if room < len => Err((Syndrome::LocalLength, Syndrome::RemoteInvalidRequest)),
            Ok(_) => match sg.copy(&request.segments, &wqe.segments, 0, len) {
                Ok(()) => Ok(()),
                Err(CopyError::Source(error)) => {
                    log::info!("a message to QP {peer}, at its source: {error}");
                    // The message never ends for the receiver.
                    Err((Syndrome::Flushed, Syndrome::LocalProtection))
                }
                Err(CopyError::Target(error)) => {
                    log::info!("a message to QP {peer}, at its target: {error}");
                    Err((Syndrome::LocalProtection, Syndrome::RemoteOperation))
                }
            },
            Err(why) => {
                log::info!("QP {peer}: memory of its receive request: {why}");
                Err((Syndrome::LocalProtection, Syndrome::RemoteOperation))
            }
        };
        if let Err((local, remote)) = copied {
            self.complete_receive_error(peer, wqe.cqn, wqe.index, local)?;
            self.pending_errors.push(peer);
            return Ok(Outcome::Failed(remote));
        }
        let opcode = match immediate {
            Some(_) => Opcode::ResponderSendImm,
            None => Opcode::ResponderSend,
        };
        self.complete_receive(peer, &wqe, opcode, len, immediate, request.solicited)?;
        Ok(Outcome::Done(len))
    }

    fn complete_receive(
        &mut self,
        peer: u32,
        wqe: &ReceiveWqe,
        opcode: Opcode,
        len: u64,
        immediate: Option<u32>,
        solicited: bool,
    ) -> Result<(), Error> {
        let arrival = Arrival {
            opcode,
            bytes: u32::try_from(len).unwrap_or(u32::MAX),
            immediate,
            datagram: None,
        };
        let entry = cqe::responder(peer, wqe.index, wqe.srqn, &arrival);
        self.post_completion(wqe.cqn, entry, solicited)
    }

    /// The domain whose memory a request to `peer` reaches: that of the shared queue that it names,
    /// or the peer's own.
    fn domain(&self, peer: u32, named: Option<u32>) -> u32 {
        named
            .and_then(|srqn| self.srqs.get(srqn))
            .map_or_else(|| self.field(peer, qpc::pd), Srq::pd)
    }

    /// The memory that a request to `peer` accesses so, if the peer allows it.
    fn remote_memory(
        &self,
        peer: u32,
        request: &WorkRequest,
        remote: Remote,
        len: u64,
        access: Access,
    ) -> Option<[DataSegment; 1]> {
        let right = match access {
            Access::RemoteRead => qpc::rre,
            Access::Atomic => qpc::rae,
            _ => qpc::rwe,
        };
        let segments = [DataSegment::Sge(Sge {
            key: remote.key,
            addr: remote.addr,
            len,
        })];
        if self.field(peer, right) == 0 {
            log::info!("QP {peer} allows nobody {access:?}");
            return None;
        }
        match self
            .scatter_gather()
            .permit(&segments, self.domain(peer, request.srqn), access)
        {
            Ok(_) => Some(segments),
            Err(why) => {
                log::info!("QP {peer}: {access:?} of {remote:x?}, {len} bytes: {why}");
                None
            }
        }
    }

    /// The peer answers with a NAK, and enters the error state, too.
    fn nak(&mut self, peer: u32, kind: EventType, why: Syndrome) -> Outcome {
        if self.is_reliable(peer) {
            self.pending_errors.push(peer);
            self.report(kind, peer);
        }
        Outcome::Failed(why)
    }

    fn nak_access(&mut self, peer: u32) -> Outcome {
        self.nak(peer, EventType::WqAccess, Syndrome::RemoteAccess)
    }

    fn rdma_error(&mut self, peer: u32, side: &CopyError, peer_is: Peer) -> Outcome {
        log::info!("an RDMA request to QP {peer}: {side}");
        match (side, peer_is) {
            (CopyError::Source(_), Peer::Source) | (CopyError::Target(_), Peer::Target) => {
                self.nak_access(peer)
            }
            _ => Outcome::Failed(Syndrome::LocalProtection),
        }
    }

    fn write(
        &mut self,
        peer: u32,
        request: &WorkRequest,
        remote: Remote,
        len: u64,
        immediate: Option<u32>,
    ) -> Result<Outcome, Error> {
        let Some(target) = self.remote_memory(peer, request, remote, len, Access::RemoteWrite)
        else {
            return Ok(self.nak_access(peer));
        };
        // Immediate data takes a receive request, but not before the data has arrived: a write that
        // fails leaves the request where it is, to be flushed or to be taken by another message.
        if immediate.is_some() && !self.has_receive(peer, request.srqn)? {
            return Ok(self.rnr_nak(peer));
        }
        if let Err(side) = self
            .scatter_gather()
            .copy(&request.segments, &target, 0, len)
        {
            return Ok(self.rdma_error(peer, &side, Peer::Target));
        }
        if immediate.is_some() {
            let Some(wqe) = self.consume_receive(peer, request.srqn)? else {
                return Ok(self.rnr_nak(peer));
            };
            let opcode = Opcode::ResponderWriteImm;
            self.complete_receive(peer, &wqe, opcode, len, immediate, request.solicited)?;
        }
        Ok(Outcome::Done(len))
    }

    fn read(&mut self, peer: u32, request: &WorkRequest, remote: Remote, len: u64) -> Outcome {
        if !self.is_reliable(peer) {
            return Outcome::Failed(Syndrome::LocalQpOperation);
        }
        let Some(source) = self.remote_memory(peer, request, remote, len, Access::RemoteRead)
        else {
            return self.nak_access(peer);
        };
        match self
            .scatter_gather()
            .copy(&source, &request.segments, 0, len)
        {
            Ok(()) => Outcome::Done(len),
            Err(side) => self.rdma_error(peer, &side, Peer::Source),
        }
    }

    fn is_reliable(&self, number: u32) -> bool {
        self.qps
            .get(number)
            .is_some_and(|qp| qp.service.is_reliable())
    }

    fn atomic(
        &mut self,
        peer: u32,
        request: &WorkRequest,
        remote: Remote,
        atomic: Atomic,
        room: u64,
    ) -> Outcome {
        const LEN: u64 = size_of::<u64>() as u64;
        if !self.is_reliable(peer) || room < LEN {
            return Outcome::Failed(Syndrome::LocalQpOperation);
        }
        if !remote.addr.is_multiple_of(LEN) {
            return self.nak(peer, EventType::WqInvalid, Syndrome::RemoteInvalidRequest);
        }
        let Some(target) = self.remote_memory(peer, request, remote, LEN, Access::Atomic) else {
            return self.nak_access(peer);
        };
        let sg = self.scatter_gather();
        // Memory is in the host's order, which is little-endian.
        let mut old = [0; size_of::<u64>()];
        let changed = sg.read(&target, 0, &mut old).and_then(|()| {
            let new = atomic.apply(u64::from_le_bytes(old));
            sg.write(&target, 0, &new.to_le_bytes())
        });
        if let Err(error) = changed {
            return self.rdma_error(peer, &CopyError::Target(error), Peer::Target);
        }
        match sg.write(&request.segments, 0, &old) {
            Ok(()) => Outcome::Done(LEN),
            Err(error) => self.rdma_error(peer, &CopyError::Source(error), Peer::Target),
        }
    }
}

/// Which end of an RDMA request the peer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Source,
    Target,
}

/// The RNR timer: `min_rnr_nak` of the context of a peer that was not ready, whose code is that of
/// the InfiniBand specification, in units of 10 us.
fn rnr_timer(code: u32) -> Duration {
    const UNITS: [u64; 32] = [
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
        1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
    ];
    let units = usize::try_from(code)
        .ok()
        .and_then(|code| UNITS.get(code))
        .unwrap_or(&UNITS[0]);
    Duration::from_micros(10 * units)
}
