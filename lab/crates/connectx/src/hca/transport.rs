// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work requests: what is sent goes no further than the adapter's own port.

use super::{Hca, LOOK_FIRST};
use crate::cqe::{self, Arrival, Opcode, Sender, Syndrome};
use crate::dma::Fault;
use crate::eq::Kind;
use crate::ifc::{ads, qpc};
use crate::layout::Field;
use crate::memory::{Memory, Side, Trouble};
use crate::mkey::Access;
use crate::port::{LID, Port};
use crate::qp::{Posted, Qp, Receive, Retry, Service, State};
use crate::srq::Srq;
use crate::wqe::{Address, Atomic, Operation, Piece, Range, Remote, Route, Send, Umr};
use std::time::{Duration, Instant};

/// Bytes of a message, at most; see `log_max_msg`.
const MAX_MESSAGE: u64 = 1 << 30;
/// Bytes of a global route header, for which every datagram leaves room.
const ROUTE: usize = 40;
const ROUTE_LEN: u64 = ROUTE as u64;
/// The retry count that stands for "without end".
const FOREVER: u8 = 7;

/// What became of a request.
#[derive(Debug)]
enum Outcome {
    /// It ended well, and moved so many bytes.
    Done(u64),
    /// The peer was not ready; nothing was done.
    NotReady {
        /// How long the peer wants to be left alone.
        pause: Duration,
    },
    /// It failed.
    Failed(Syndrome),
}

/// A receive request that a message takes.
struct Taken {
    index: u16,
    pieces: Vec<Piece>,
    pd: u32,
    /// The shared queue that it is from, or 0.
    srqn: u32,
    /// Where its completion goes.
    cqn: u32,
}

impl Hca {
    /// Executes one request of each send queue that has some.
    pub fn work(&mut self) {
        let now = Instant::now();
        for number in self.active.clone() {
            match self.step(number, now) {
                Ok(true) => {}
                Ok(false) => {
                    self.active.remove(&number);
                }
                Err(fault) => self.lose(number, &fault),
            }
            self.break_peers();
        }
    }

    /// Those that a request has broken go into error after its own completion: one of them may be the queue
    /// pair that it was posted to.
    fn break_peers(&mut self) {
        for number in std::mem::take(&mut self.breaking) {
            let lives = |qp: &Qp| qp.state != State::Error;
            if self.qps.get(number).is_some_and(lives)
                && let Err(fault) = self.break_down(number)
            {
                self.lose(number, &fault);
            }
        }
    }

    /// A queue pair whose own memory, or that of its completions, cannot be reached is lost: there is no
    /// way to tell of each request.
    pub(super) fn lose(&mut self, number: u32, fault: &Fault) {
        log::error!("QP {number} is lost: {fault}");
        self.active.remove(&number);
        self.retrying.remove(&number);
        self.in_error.remove(&number);
        if let Some(qp) = self.qps.get_mut(number) {
            qp.fail();
        }
        self.tell(Kind::WqCatastrophic, number);
    }

    /// Executes one request; says whether there may be another that can be executed.
    fn step(&mut self, number: u32, now: Instant) -> Result<bool, Fault> {
        let Some(qp) = self.qps.get_mut(number) else {
            return Ok(false);
        };
        match qp.state {
            State::Rts => {}
            State::Error => {
                self.flush(number)?;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        if qp.retry.is_some_and(|retry| retry.at > now) {
            self.retrying.insert(number);
            return Ok(false);
        }
        let Some(posted) = qp.posted(&self.dma)? else {
            return Ok(false);
        };
        let (outcome, signalled) = match Send::parse(&posted.bytes, qp.service.form()) {
            Ok(send) => {
                log::trace!("QP {number}: request {}: {send:x?}", posted.index);
                (self.execute_send(number, &send), send.signalled)
            }
            Err(_) => (Outcome::Failed(Syndrome::LocalQpOperation), true),
        };
        log::debug!(
            "QP {number}: request {} of opcode {:#x}: {outcome:?}",
            posted.index,
            posted.front.opcode
        );
        match outcome {
            Outcome::Done(bytes) => {
                self.sent(number, &posted);
                if signalled {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    let entry = cqe::sent(number, posted.front.opcode, posted.index, bytes);
                    self.complete_send(number, entry)?;
                }
                Ok(true)
            }
            Outcome::NotReady { pause } => {
                if self.wait(number, now + pause) {
                    return Ok(false);
                }
                self.fail(number, &posted, Syndrome::RnrRetryExceeded)?;
                Ok(false)
            }
            Outcome::Failed(why) => {
                self.fail(number, &posted, why)?;
                Ok(false)
            }
        }
    }

    fn sent(&mut self, number: u32, posted: &Posted) {
        if let Some(qp) = self.qps.get_mut(number) {
            qp.sent(posted);
        }
    }

    /// Whether the request may be tried again, at `at`.
    fn wait(&mut self, number: u32, at: Instant) -> bool {
        let Some(qp) = self.qps.get_mut(number) else {
            return false;
        };
        let allowed = qpc::rnr_retry.get(&qp.context).to_le_bytes()[0];
        let left = match qp.retry {
            None => (allowed != FOREVER).then_some(allowed),
            Some(retry) => retry.left,
        };
        if left == Some(0) {
            return false;
        }
        let left = left.map(|left| left - 1);
        qp.retry = Some(Retry { at, left });
        self.retrying.insert(number);
        true
    }

    /// A request failed, and with it the queue pair.
    fn fail(&mut self, number: u32, posted: &Posted, why: Syndrome) -> Result<(), Fault> {
        self.sent(number, posted);
        let side = Opcode::RequesterError;
        let entry = cqe::failed(side, number, posted.front.opcode, posted.index, why);
        self.complete_send(number, entry)?;
        self.break_down(number)
    }

    /// A queue pair goes into error, and everything that was posted with it.
    pub(super) fn break_down(&mut self, number: u32) -> Result<(), Fault> {
        let Some(qp) = self.qps.get_mut(number) else {
            return Ok(());
        };
        qp.fail();
        self.retrying.remove(&number);
        let shared = matches!(qp.receive, Receive::Shared(_));
        self.flush(number)?;
        let next = Instant::now() + LOOK_FIRST;
        self.in_error.insert(number, (next, LOOK_FIRST));
        if shared {
            // It takes no more requests from the shared queue.
            self.tell(Kind::LastWqe, number);
        }
        Ok(())
    }

    /// Ends everything that was posted to a queue pair in error; says whether there was something.
    pub(super) fn flush(&mut self, number: u32) -> Result<bool, Fault> {
        let mut any = false;
        loop {
            let Some(qp) = self
                .qps
                .get_mut(number)
                .filter(|qp| qp.state == State::Error)
            else {
                self.in_error.remove(&number);
                return Ok(any);
            };
            if let Some(posted) = qp.posted(&self.dma)? {
                qp.sent(&posted);
                let opcode = posted.front.opcode;
                let side = Opcode::RequesterError;
                let entry = cqe::failed(side, number, opcode, posted.index, Syndrome::Flushed);
                self.complete_send(number, entry)?;
            } else if let Some((index, _)) = qp.take_receive(&self.dma)? {
                let cqn = self.field(number, qpc::cqn_rcv);
                self.complete_receive_error(number, cqn, index, Syndrome::Flushed)?;
            } else {
                return Ok(any);
            }
            any = true;
        }
    }

    fn complete_send(&mut self, number: u32, entry: cqe::Bytes) -> Result<(), Fault> {
        let cqn = self.field(number, qpc::cqn_snd);
        self.complete(cqn, entry, false)
    }

    fn complete_receive_error(
        &mut self,
        number: u32,
        cqn: u32,
        index: u16,
        why: Syndrome,
    ) -> Result<(), Fault> {
        let entry = cqe::failed(Opcode::ResponderError, number, 0, index, why);
        self.complete(cqn, entry, false)
    }

    /// A field of a queue pair that is there.
    fn field(&self, number: u32, field: Field) -> u32 {
        self.qps
            .get(number)
            .map_or(0, |qp| field.get32(&qp.context))
    }

    fn memory(&self) -> Memory<'_> {
        Memory {
            dma: &self.dma,
            mkeys: &self.mkeys,
        }
    }

    fn execute_send(&mut self, number: u32, send: &Send) -> Outcome {
        let Some(qp) = self.qps.get(number) else {
            return Outcome::Done(0);
        };
        let (service, pd) = (qp.service, qp.pd());
        match (&send.operation, &send.address) {
            (Operation::Nop, _) => Outcome::Done(0),
            (Operation::Umr(umr), _) => self.update_key(umr, &send.pieces, pd, service),
            // Nobody manages anything here.
            (Operation::Send(_), Some(_)) if service == Service::Management => Outcome::Done(0),
            (Operation::Send(immediate), Some(address)) => {
                match self.datagram(number, send, address, *immediate) {
                    Ok(outcome) => outcome,
                    // It is the receiver's queues that could not be reached.
                    Err(fault) => {
                        self.lose(address.qpn, &fault);
                        Outcome::Done(0)
                    }
                }
            }
            _ if service.is_connected() => {
                let outcome = self.connected(number, send);
                // What goes wrong at the other end is not heard of without acknowledgements.
                match outcome {
                    Outcome::Failed(
                        Syndrome::RemoteInvalidRequest
                        | Syndrome::RemoteAccess
                        | Syndrome::RemoteOperation
                        | Syndrome::RetryExceeded,
                    )
                    | Outcome::NotReady { .. }
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

    /// A change of a memory key.
    fn update_key(&mut self, umr: &Umr, list: &[Piece], pd: u32, service: Service) -> Outcome {
        let privileged = service == Service::Umr;
        let memory = self.memory();
        let mut bytes = vec![0; usize::try_from(16 * umr.octowords).unwrap_or(0)];
        let permitted = self.mkeys.get(umr.key >> 8).is_some_and(|mkey| {
            match mkey.permit_update(umr, pd, privileged) {
                Ok(()) => true,
                Err(why) => {
                    log::warn!("mkey {:#x} cannot be changed so: {why:?}", umr.key >> 8);
                    false
                }
            }
        });
        if !permitted {
            return Outcome::Failed(Syndrome::MemoryWindowBind);
        }
        let listed = memory.permit(list, pd, Access::LocalRead);
        if listed.is_ok_and(|len| len < bytes.len() as u64) {
            return Outcome::Failed(Syndrome::LocalQpOperation);
        }
        let read = listed
            .map_err(Trouble::from)
            .and_then(|_| memory.read(list, 0, &mut bytes));
        if let Err(trouble) = read {
            log::warn!("the translations cannot be read: {trouble}");
            return Outcome::Failed(Syndrome::LocalProtection);
        }
        if let Some(mkey) = self.mkeys.get_mut(umr.key >> 8) {
            mkey.update(umr, &bytes);
        }
        Outcome::Done(0)
    }

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
    fn connected(&mut self, number: u32, send: &Send) -> Outcome {
        let pd = self.field(number, qpc::pd);
        let access = match send.operation {
            Operation::Read(_) | Operation::Atomic(..) => Access::LocalWrite,
            _ => Access::LocalRead,
        };
        let len = match self.memory().permit(&send.pieces, pd, access) {
            Ok(len) if len <= MAX_MESSAGE => len,
            Ok(_) => return Outcome::Failed(Syndrome::LocalLength),
            Err(why) => {
                log::info!("QP {number}: its own memory: {why:?}");
                return Outcome::Failed(Syndrome::LocalProtection);
            }
        };
        let Some((peer, _)) = self.peer(number) else {
            return Outcome::Failed(Syndrome::RetryExceeded);
        };
        if !self.may_take(peer, send.srqn) {
            return self.refuse(peer, Kind::WqInvalid, Syndrome::RemoteInvalidRequest);
        }
        let outcome = match send.operation {
            Operation::Send(immediate) => self.deliver(peer, send, len, immediate),
            Operation::Write(remote, immediate) => self.write(peer, send, remote, len, immediate),
            Operation::Read(remote) => Ok(self.read(peer, send, remote, len)),
            Operation::Atomic(remote, atomic) => Ok(self.atomic(peer, send, remote, atomic, len)),
            Operation::Nop | Operation::Umr(_) => Ok(Outcome::Failed(Syndrome::LocalQpOperation)),
        };
        // It is the peer's queues that could not be reached.
        outcome.unwrap_or_else(|fault| {
            self.lose(peer, &fault);
            Outcome::Failed(Syndrome::RemoteOperation)
        })
    }

    /// The receive request that the next message to `number` takes, which names a shared queue perhaps.
    fn take(&mut self, number: u32, named: Option<u32>) -> Result<Option<Taken>, Fault> {
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

    /// Whether `peer` may take from the shared queue that a request names, if it names one.
    fn may_take(&self, peer: u32, named: Option<u32>) -> bool {
        let domain = self.field(peer, qpc::xrcd);
        named.is_none_or(|srqn| self.srqs.get(srqn).is_some_and(|srq| srq.xrcd() == domain))
    }

    fn not_ready(&self, peer: u32) -> Outcome {
        Outcome::NotReady {
            pause: rnr_pause(self.field(peer, qpc::min_rnr_nak)),
        }
    }

    /// A message arrives at `peer`.
    fn deliver(
        &mut self,
        peer: u32,
        send: &Send,
        len: u64,
        immediate: Option<u32>,
    ) -> Result<Outcome, Fault> {
        let Some(taken) = self.take(peer, send.srqn)? else {
            return Ok(self.not_ready(peer));
        };
        let memory = self.memory();
        let copied = match memory.permit(&taken.pieces, taken.pd, Access::LocalWrite) {
            Ok(room) if room < len => Err((Syndrome::LocalLength, Syndrome::RemoteInvalidRequest)),
            Ok(_) => match memory.copy(&send.pieces, &taken.pieces, 0, len) {
                Ok(()) => Ok(()),
                Err(Side::Source(trouble)) => {
                    log::info!("a message to QP {peer}, at its source: {trouble}");
                    // The message never ends for the receiver.
                    Err((Syndrome::Flushed, Syndrome::LocalProtection))
                }
                Err(Side::Target(trouble)) => {
                    log::info!("a message to QP {peer}, at its target: {trouble}");
                    Err((Syndrome::LocalProtection, Syndrome::RemoteOperation))
                }
            },
            Err(why) => {
                log::info!("QP {peer}: memory of its receive request: {why:?}");
                Err((Syndrome::LocalProtection, Syndrome::RemoteOperation))
            }
        };
        if let Err((local, remote)) = copied {
            self.complete_receive_error(peer, taken.cqn, taken.index, local)?;
            self.breaking.push(peer);
            return Ok(Outcome::Failed(remote));
        }
        let opcode = match immediate {
            Some(_) => Opcode::ResponderSendImm,
            None => Opcode::ResponderSend,
        };
        self.arrive(peer, &taken, opcode, len, immediate, send.solicited)?;
        Ok(Outcome::Done(len))
    }

    fn arrive(
        &mut self,
        peer: u32,
        taken: &Taken,
        opcode: Opcode,
        len: u64,
        immediate: Option<u32>,
        solicited: bool,
    ) -> Result<(), Fault> {
        let arrival = Arrival {
            opcode,
            bytes: u32::try_from(len).unwrap_or(u32::MAX),
            immediate,
            datagram: None,
        };
        let entry = cqe::received(peer, taken.index, taken.srqn, &arrival);
        self.complete(taken.cqn, entry, solicited)
    }

    /// The domain whose memory a request to `peer` reaches: that of the shared queue that it names, or
    /// the peer's own.
    fn domain(&self, peer: u32, named: Option<u32>) -> u32 {
        named
            .and_then(|srqn| self.srqs.get(srqn))
            .map_or_else(|| self.field(peer, qpc::pd), Srq::pd)
    }

    /// The memory that a request to `peer` accesses so, if the peer allows it.
    fn remote(
        &self,
        peer: u32,
        send: &Send,
        remote: Remote,
        len: u64,
        access: Access,
    ) -> Option<[Piece; 1]> {
        let right = match access {
            Access::RemoteRead => qpc::rre,
            Access::Atomic => qpc::rae,
            _ => qpc::rwe,
        };
        let pieces = [Piece::Memory(Range {
            key: remote.key,
            addr: remote.addr,
            len,
        })];
        if self.field(peer, right) == 0 {
            log::info!("QP {peer} allows nobody {access:?}");
            return None;
        }
        match self
            .memory()
            .permit(&pieces, self.domain(peer, send.srqn), access)
        {
            Ok(_) => Some(pieces),
            Err(why) => {
                log::info!("QP {peer}: {access:?} of {remote:x?}, {len} bytes: {why:?}");
                None
            }
        }
    }

    /// A peer whose memory was not to be accessed breaks down, too.
    fn refuse(&mut self, peer: u32, kind: Kind, why: Syndrome) -> Outcome {
        if self.is_reliable(peer) {
            self.breaking.push(peer);
            self.tell(kind, peer);
        }
        Outcome::Failed(why)
    }

    fn refuse_access(&mut self, peer: u32) -> Outcome {
        self.refuse(peer, Kind::WqAccess, Syndrome::RemoteAccess)
    }

    fn trouble_on(&mut self, peer: u32, side: &Side, peer_is: Peer) -> Outcome {
        log::info!("an RDMA request to QP {peer}: {side}");
        match (side, peer_is) {
            (Side::Source(_), Peer::Source) | (Side::Target(_), Peer::Target) => {
                self.refuse_access(peer)
            }
            _ => Outcome::Failed(Syndrome::LocalProtection),
        }
    }

    fn write(
        &mut self,
        peer: u32,
        send: &Send,
        remote: Remote,
        len: u64,
        immediate: Option<u32>,
    ) -> Result<Outcome, Fault> {
        let Some(target) = self.remote(peer, send, remote, len, Access::RemoteWrite) else {
            return Ok(self.refuse_access(peer));
        };
        let taken = match immediate {
            None => None,
            Some(_) => match self.take(peer, send.srqn)? {
                None => return Ok(self.not_ready(peer)),
                taken => taken,
            },
        };
        if let Err(side) = self.memory().copy(&send.pieces, &target, 0, len) {
            return Ok(self.trouble_on(peer, &side, Peer::Target));
        }
        if let Some(taken) = taken {
            let opcode = Opcode::ResponderWriteImm;
            self.arrive(peer, &taken, opcode, len, immediate, send.solicited)?;
        }
        Ok(Outcome::Done(len))
    }

    fn read(&mut self, peer: u32, send: &Send, remote: Remote, len: u64) -> Outcome {
        if !self.is_reliable(peer) {
            return Outcome::Failed(Syndrome::LocalQpOperation);
        }
        let Some(source) = self.remote(peer, send, remote, len, Access::RemoteRead) else {
            return self.refuse_access(peer);
        };
        match self.memory().copy(&source, &send.pieces, 0, len) {
            Ok(()) => Outcome::Done(len),
            Err(side) => self.trouble_on(peer, &side, Peer::Source),
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
        send: &Send,
        remote: Remote,
        atomic: Atomic,
        room: u64,
    ) -> Outcome {
        const LEN: u64 = size_of::<u64>() as u64;
        if !self.is_reliable(peer) || room < LEN {
            return Outcome::Failed(Syndrome::LocalQpOperation);
        }
        if !remote.addr.is_multiple_of(LEN) {
            return self.refuse(peer, Kind::WqInvalid, Syndrome::RemoteInvalidRequest);
        }
        let Some(target) = self.remote(peer, send, remote, LEN, Access::Atomic) else {
            return self.refuse_access(peer);
        };
        let memory = self.memory();
        // Memory is in the host's order, which is little-endian.
        let mut old = [0; size_of::<u64>()];
        let changed = memory.read(&target, 0, &mut old).and_then(|()| {
            let new = atomic.apply(u64::from_le_bytes(old));
            memory.write(&target, 0, &new.to_le_bytes())
        });
        if let Err(trouble) = changed {
            return self.trouble_on(peer, &Side::Target(trouble), Peer::Target);
        }
        match memory.write(&send.pieces, 0, &old) {
            Ok(()) => Outcome::Done(LEN),
            Err(trouble) => self.trouble_on(peer, &Side::Source(trouble), Peer::Target),
        }
    }

    /// A datagram; that it does not arrive is not heard of.
    fn datagram(
        &mut self,
        number: u32,
        send: &Send,
        address: &Address,
        immediate: Option<u32>,
    ) -> Result<Outcome, Fault> {
        let pd = self.field(number, qpc::pd);
        let len = match self.memory().permit(&send.pieces, pd, Access::LocalRead) {
            Ok(len) if len <= u64::from(Port::MTU) => len,
            Ok(_) => return Ok(Outcome::Failed(Syndrome::LocalLength)),
            Err(why) => {
                log::info!("QP {number}: its own memory: {why:?}");
                return Ok(Outcome::Failed(Syndrome::LocalProtection));
            }
        };
        // The upper bit stands for the sender's own.
        let qkey = match address.qkey {
            qkey @ 0..0x8000_0000 => qkey,
            _ => self.field(number, qpc::q_key),
        };
        let here = address.lid == LID || address.route.is_some_and(|to| to.gid == Port::gid());
        let listens = self.qps.get(address.qpn).is_some_and(|qp| {
            here && qp.service == Service::Datagram
                && matches!(qp.state, State::Rtr | State::Rts)
                && qpc::q_key.get32(&qp.context) == qkey
        });
        if !listens {
            log::info!("QP {number}: nobody takes a datagram for {address:x?}");
            return Ok(Outcome::Done(len));
        }
        let peer = address.qpn;
        let Some(taken) = self.take(peer, send.srqn)? else {
            return Ok(Outcome::Done(len));
        };
        let memory = self.memory();
        let total = ROUTE_LEN + len;
        let arrived = match memory.permit(&taken.pieces, taken.pd, Access::LocalWrite) {
            Ok(room) if room < total => Err(Syndrome::LocalLength),
            Err(_) => Err(Syndrome::LocalProtection),
            Ok(_) => {
                let routed = match address.route {
                    Some(route) => memory.write(&taken.pieces, 0, &route_header(&route, len)),
                    None => Ok(()),
                };
                let copied = routed
                    .map_err(Side::Target)
                    .and_then(|()| memory.copy(&send.pieces, &taken.pieces, ROUTE_LEN, len));
                match copied {
                    Ok(()) => Ok(()),
                    Err(Side::Target(trouble)) => {
                        log::info!("a datagram to QP {peer}: {trouble}");
                        Err(Syndrome::LocalProtection)
                    }
                    Err(Side::Source(trouble)) => {
                        log::info!("a datagram of QP {number}: {trouble}");
                        return Ok(Outcome::Failed(Syndrome::LocalProtection));
                    }
                }
            }
        };
        if let Err(why) = arrived {
            self.complete_receive_error(peer, taken.cqn, taken.index, why)?;
            self.breaking.push(peer);
            return Ok(Outcome::Done(len));
        }
        let sender = Sender {
            qpn: number,
            lid: LID,
            sl: address.sl,
        };
        let arrival = Arrival {
            opcode: match immediate {
                Some(_) => Opcode::ResponderSendImm,
                None => Opcode::ResponderSend,
            },
            bytes: u32::try_from(total).unwrap_or(u32::MAX),
            immediate,
            datagram: Some((sender, address.route.is_some())),
        };
        let entry = cqe::received(peer, taken.index, taken.srqn, &arrival);
        self.complete(taken.cqn, entry, send.solicited)?;
        Ok(Outcome::Done(len))
    }
}

/// Which end of an RDMA request the peer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Source,
    Target,
}

/// A global route header, as it is in front of a datagram of `len` bytes.
fn route_header(route: &Route, len: u64) -> [u8; ROUTE] {
    const VERSION: u32 = 6;
    const TRANSPORT: u8 = 0x1b;
    let mut header = [0; ROUTE];
    let first = VERSION << 28 | u32::from(route.class) << 20 | route.flow;
    header[..4].copy_from_slice(&first.to_be_bytes());
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    header[4..6].copy_from_slice(&len.to_be_bytes());
    header[6] = TRANSPORT;
    header[7] = route.hops;
    header[8..24].copy_from_slice(&Port::gid());
    header[24..].copy_from_slice(&route.gid);
    header
}

/// How long a peer that was not ready wants to be left alone: `min_rnr_nak` of its context, whose code
/// is that of the InfiniBand specification, in units of 10 us.
fn rnr_pause(code: u32) -> Duration {
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
