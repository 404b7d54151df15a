// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queue pairs: what they are, the states that they go through, and their queues.

use crate::capabilities::LOG_MAX_QUEUE;
use crate::dma::{Buffer, Dma};
use crate::error::Error;
use crate::ifc::{ads, qpc};
use crate::layout::Field;
use crate::owner::Owner;
use crate::pas;
use crate::status::Status;
use crate::wq::Wq;
use crate::wqe::{BLOCK, ControlSegment, DataSegment, Form, parse_receive};
use std::time::Instant;

/// States of a queue pair. It is never left with only its send queue in error or drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Reset = 0,
    Init = 1,
    Rtr = 2,
    Rts = 3,
    Error = 6,
}

impl State {
    const ALL: &[Self] = &[Self::Reset, Self::Init, Self::Rtr, Self::Rts, Self::Error];
}

/// A transition, which a command makes.
#[derive(Debug)]
pub struct Transition {
    /// The states that it leads on from, and the one that it leads to.
    from: &'static [State],
    to: State,
    /// Its command brings a context.
    context: bool,
    /// The fields that it takes from the context, whatever the mask of optional ones says.
    required: &'static [Field],
    /// The fields of the address path that it takes.
    required_path: &'static [Field],
}

/// Each is called as its command.
impl Transition {
    pub const RST2INIT: Self = Self {
        from: &[State::Reset],
        to: State::Init,
        context: true,
        required: &[
            qpc::pm_state,
            qpc::rre,
            qpc::rwe,
            qpc::rae,
            qpc::q_key,
            qpc::counter_set_id,
        ],
        required_path: &[ads::pkey_index, ads::vhca_port_num],
    };
    pub const INIT2INIT: Self = Self::without_fields(&[State::Init], State::Init, true);
    pub const INIT2RTR: Self = Self {
        from: &[State::Init],
        to: State::Rtr,
        context: true,
        required: &[
            qpc::mtu,
            qpc::log_msg_max,
            qpc::remote_qpn,
            qpc::next_rcv_psn,
            qpc::log_rra_max,
            qpc::min_rnr_nak,
        ],
        required_path: &[
            ads::grh,
            ads::mlid,
            ads::rlid,
            ads::src_addr_index,
            ads::stat_rate,
            ads::hop_limit,
            ads::tclass,
            ads::flow_label,
            ads::sl,
            ads::vhca_port_num,
        ],
    };
    pub const RTR2RTS: Self = Self {
        from: &[State::Rtr],
        to: State::Rts,
        context: true,
        required: &[
            qpc::next_send_psn,
            qpc::log_sra_max,
            qpc::retry_count,
            qpc::rnr_retry,
        ],
        required_path: &[ads::ack_timeout],
    };
    pub const RTS2RTS: Self = Self::without_fields(&[State::Rts], State::Rts, true);
    pub const TO_ERROR: Self = Self::without_fields(State::ALL, State::Error, false);
    pub const TO_RESET: Self = Self::without_fields(State::ALL, State::Reset, false);

    /// One that takes no fields but optional ones, if it has a context.
    const fn without_fields(from: &'static [State], to: State, context: bool) -> Self {
        Self {
            from,
            to,
            context,
            required: &[],
            required_path: &[],
        }
    }
}

/// Bits of `opt_param_mask`, and the field that each makes part of the transition.
const OPTIONAL: [(u32, Field); 9] = [
    (1, qpc::rre),
    (2, qpc::rae),
    (3, qpc::rwe),
    (5, qpc::q_key),
    (6, qpc::min_rnr_nak),
    (8, qpc::log_sra_max),
    (9, qpc::log_rra_max),
    (10, qpc::pm_state),
    (13, qpc::rnr_retry),
];
const OPTIONAL_PATH: [(u32, Field); 3] = [
    (4, ads::pkey_index),
    (14, ads::ack_timeout),
    (16, ads::vhca_port_num),
];

/// What a queue pair is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Reliable, with a peer.
    ReliableConnection,
    /// With a peer that does not answer.
    UnreliableConnection,
    /// Datagrams to anybody.
    Datagram,
    /// Reliable, to any of the shared receive queues at the other end.
    ExtendedReliableConnection,
    /// Management datagrams.
    Management,
    /// The driver's own, to change memory keys.
    Umr,
}

impl Service {
    fn of(context: &[u8]) -> Option<Self> {
        Some(match qpc::st.get(context) {
            0 => Self::ReliableConnection,
            1 => Self::UnreliableConnection,
            2 => Self::Datagram,
            3 => Self::ExtendedReliableConnection,
            7 | 8 => Self::Management,
            0xc => Self::Umr,
            _ => return None,
        })
    }

    /// How its requests begin.
    pub fn form(self) -> Form {
        match self {
            Self::Datagram | Self::Management => Form::Datagram,
            Self::ExtendedReliableConnection => Form::Extended,
            _ => Form::Connected,
        }
    }

    /// Whether requests go to the peer.
    pub fn is_connected(self) -> bool {
        self.is_reliable() || self == Self::UnreliableConnection
    }

    /// Whether the peer answers.
    pub fn is_reliable(self) -> bool {
        matches!(
            self,
            Self::ReliableConnection | Self::ExtendedReliableConnection
        )
    }
}

/// Where a queue pair's messages arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// In its own queue.
    Own(Wq),
    /// In a shared one.
    Shared(u32),
    /// Nowhere.
    None,
}

/// A request that the peer was not ready for is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When.
    pub at: Instant,
    /// How often still after that; without end if none.
    pub left: Option<u8>,
}

/// A queue pair.
#[derive(Debug)]
pub struct Qp {
    /// What it was created with.
    created: Vec<u8>,
    /// What it is now.
    pub context: Vec<u8>,
    /// Where it is.
    pub state: State,
    /// What it is for.
    pub service: Service,
    buffer: Buffer,
    doorbell: Buffer,
    send: Option<Wq>,
    /// Where its messages arrive.
    pub receive: Receive,
    /// The next request to be sent, and the producer counter when the doorbell record was read
    /// last.
    send_at: u16,
    send_end: u16,
    /// The next receive request.
    receive_at: u16,
    /// The next request to be sent waits for the peer.
    pub retry: Option<Retry>,
}

/// A work queue element of the send queue, as it lies there.
pub struct SendWqe {
    /// Its first block.
    pub index: u16,
    /// Its control segment.
    pub control: ControlSegment,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Qp {
    pub fn new(number: u32, context: &[u8], list: &[u8]) -> Result<Self, Status> {
        let owner = Owner::Qp(number);
        let service = Service::of(context).ok_or(Status::BadParameter)?;
        let (log_send, log_receive) = (
            qpc::log_sq_size.get32(context),
            qpc::log_rq_size.get32(context),
        );
        if log_send.max(log_receive) > LOG_MAX_QUEUE.into() {
            return Err(Status::Limit);
        }
        let receive = match qpc::rq_type.get(context) {
            0 => {
                let log_stride = 4 + qpc::log_rq_stride.get32(context);
                Receive::Own(Wq::new(0, log_receive, log_stride))
            }
            1 => Receive::Shared(qpc::srqn_rmpn_xrqn.get32(context)),
            3 => Receive::None,
            _ => return Err(Status::BadParameter),
        };
        // The send queue follows the receive queue.
        let mut len = match receive {
            Receive::Own(wq) => wq.len(),
            _ => 0,
        };
        let send = (!qpc::no_sq.is_set(context)).then(|| Wq::new(len, log_send, BLOCK.ilog2()));
        len += send.map_or(0, Wq::len);
        let buffer = Buffer::paged(
            owner,
            &pas::parse(list),
            qpc::log_page_size.get32(context),
            qpc::page_offset.get(context),
            len,
        );
        Ok(Self {
            created: context.to_vec(),
            context: context.to_vec(),
            state: State::Reset,
            service,
            buffer: buffer.ok_or(Status::BadParameter)?,
            doorbell: Buffer::contiguous(owner, qpc::dbr_addr.get(context), 8),
            send,
            receive,
            send_at: 0,
            send_end: 0,
            receive_at: 0,
            retry: None,
        })
    }

    /// Its protection domain.
    pub fn pd(&self) -> u32 {
        qpc::pd.get32(&self.context)
    }

    /// The next request to be sent, if there is one. It stays the next one.
    pub fn next_send(&mut self, dma: &Dma) -> Result<Option<SendWqe>, Error> {
        let Some(wq) = self.send else {
            return Ok(None);
        };
        if self.send_at == self.send_end {
            self.send_end = self.counter(dma, 4)?;
        }
        if self.send_at == self.send_end {
            return Ok(None);
        }
        let mut bytes = vec![0; BLOCK];
        wq.read(dma, &self.buffer, self.send_at, &mut bytes)?;
        let control = ControlSegment::parse(&bytes);
        if control.len > BLOCK {
            bytes.resize(control.len, 0);
            let next = self.send_at.wrapping_add(1);
            wq.read(dma, &self.buffer, next, &mut bytes[BLOCK..])?;
        }
        bytes.truncate(control.len);
        Ok(Some(SendWqe {
            index: self.send_at,
            control,
            bytes,
        }))
    }

    /// The request was dealt with: the one after it is the next.
    pub fn retire_send(&mut self, wqe: &SendWqe) {
        let left = self.send_end.wrapping_sub(self.send_at);
        // One that claims to be longer than what was posted ends there.
        let blocks = wqe.control.blocks().min(left);
        self.send_at = self.send_at.wrapping_add(blocks);
        self.retry = None;
    }

    /// Whether there is a receive request in its own queue.
    pub fn has_receive(&self, dma: &Dma) -> Result<bool, Error> {
        let own = matches!(self.receive, Receive::Own(_));
        Ok(own && self.counter(dma, 0)? != self.receive_at)
    }

    /// Consumes the next receive request of its own queue, if there is one: its number, and where a
    /// message may go.
    pub fn consume_receive(&mut self, dma: &Dma) -> Result<Option<(u16, Vec<DataSegment>)>, Error> {
        let Receive::Own(wq) = self.receive else {
            return Ok(None);
        };
        if !self.has_receive(dma)? {
            return Ok(None);
        }
        let index = self.receive_at;
        let mut bytes = vec![0; wq.stride()];
        wq.read(dma, &self.buffer, index, &mut bytes)?;
        self.receive_at = index.wrapping_add(1);
        Ok(Some((index, parse_receive(&bytes))))
    }

    /// A counter in the doorbell record: 16 bits of a big-endian word.
    fn counter(&self, dma: &Dma, at: u64) -> Result<u16, Error> {
        let mut word = [0; 4];
        dma.read(&self.doorbell, at, &mut word)?;
        let [.., high, low] = word;
        Ok(u16::from_be_bytes([high, low]))
    }

    /// It enters the error state.
    pub fn set_error(&mut self) {
        self.state = State::Error;
        qpc::state.set(&mut self.context, State::Error as u64);
        self.retry = None;
    }

    /// Makes a transition with what the command brings.
    pub fn modify(&mut self, transition: &Transition, mask: u32, new: &[u8]) -> Result<(), Status> {
        if !transition.from.contains(&self.state) {
            return Err(Status::BadQpState);
        }
        let state = transition.to;
        if state == State::Reset {
            self.context = self.created.clone();
            (self.send_at, self.send_end, self.receive_at) = (0, 0, 0);
        }
        if state != State::Rts {
            self.retry = None;
        }
        for field in transition.required {
            field.set(&mut self.context, field.get(new));
        }
        let mask = if transition.context { mask } else { 0 };
        // The driver's queue pair for memory keys gets its domain here, not when it is made.
        if transition.to == State::Init
            && self.state == State::Reset
            && qpc::pd.get(&self.context) == 0
        {
            qpc::pd.set(&mut self.context, qpc::pd.get(new));
        }
        let optional = OPTIONAL.iter().filter(|(bit, _)| mask >> bit & 1 != 0);
        for (_, field) in optional {
            field.set(&mut self.context, field.get(new));
        }
        let path = qpc::primary_address_path.bytes_mut(&mut self.context);
        let new_path = qpc::primary_address_path.bytes(new);
        for field in transition.required_path {
            field.set(path, field.get(new_path));
        }
        let optional = OPTIONAL_PATH.iter().filter(|(bit, _)| mask >> bit & 1 != 0);
        for (_, field) in optional {
            field.set(path, field.get(new_path));
        }
        if state == State::Rtr {
            let gid = ads::rgid_rip.bytes(new_path);
            ads::rgid_rip.bytes_mut(path).copy_from_slice(gid);
        }
        self.state = state;
        qpc::state.set(&mut self.context, state as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(values: &[(Field, u64)]) -> Vec<u8> {
        let mut context = vec![0; qpc::LAYOUT.len];
        for &(field, value) in values {
            field.set(&mut context, value);
        }
        context
    }

    fn created(values: &[(Field, u64)]) -> Qp {
        Qp::new(5, &context(values), &[0; 64]).unwrap()
    }

    #[test]
    fn a_queue_pair_remembers_what_it_was_told() {
        let mut qp = created(&[(qpc::pd, 7), (qpc::cqn_snd, 9)]);
        let init = context(&[(qpc::rwe, 1), (qpc::q_key, 5)]);
        qp.modify(&Transition::RST2INIT, 0, &init).unwrap();
        let rtr = context(&[(qpc::mtu, 5), (qpc::rre, 1), (qpc::remote_qpn, 0x44)]);
        qp.modify(&Transition::INIT2RTR, 1 << 1 | 1 << 3, &rtr)
            .unwrap();
        let rts = context(&[(qpc::next_send_psn, 0x1234)]);
        qp.modify(&Transition::RTR2RTS, 0, &rts).unwrap();
        for (field, value) in [
            (qpc::state, 3),
            (qpc::pd, 7),
            (qpc::cqn_snd, 9),
            (qpc::q_key, 5),
            (qpc::mtu, 5),
            (qpc::remote_qpn, 0x44),
            (qpc::next_send_psn, 0x1234),
            (qpc::rre, 1),
            (qpc::rwe, 0),
        ] {
            assert_eq!(field.get(&qp.context), value, "{}", field.name);
        }
        qp.modify(&Transition::TO_ERROR, 0, &[]).unwrap();
        assert_eq!(qp.state, State::Error);
        qp.modify(&Transition::TO_RESET, 0, &[]).unwrap();
        assert_eq!(qp.context, qp.created);
    }

    #[test]
    fn a_transition_has_its_place() {
        let new = context(&[(qpc::mtu, 5)]);
        let mut qp = created(&[]);
        for refused in [
            Transition::INIT2INIT,
            Transition::INIT2RTR,
            Transition::RTR2RTS,
            Transition::RTS2RTS,
        ] {
            assert_eq!(qp.modify(&refused, !0, &new), Err(Status::BadQpState));
            assert_eq!((qp.state, &qp.context), (State::Reset, &context(&[])));
        }
        qp.modify(&Transition::RST2INIT, 0, &new).unwrap();
        let again = qp.modify(&Transition::RST2INIT, 0, &new);
        assert_eq!(again, Err(Status::BadQpState));
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        for (values, list, why) in [
            (vec![(qpc::st, 0xa)], 64, Status::BadParameter),
            (vec![(qpc::rq_type, 2)], 64, Status::BadParameter),
            (vec![(qpc::log_sq_size, 7)], 8, Status::BadParameter),
            (vec![(qpc::log_page_size, 31)], 0, Status::BadParameter),
        ] {
            let made = Qp::new(5, &context(&values), &vec![0; list]);
            assert_eq!(made.err(), Some(why), "{values:?}");
        }
    }
}
