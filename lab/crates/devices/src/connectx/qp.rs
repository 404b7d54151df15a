// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queue pairs: what they are and the states that they go through.

use super::ifc::{ads, qpc};
use super::layout::Field;
use super::status::Refusal;

/// States of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Reset = 0,
    Init = 1,
    Rtr = 2,
    Rts = 3,
    SqError = 4,
    SqDrained = 5,
    Error = 6,
}

/// The transitions, by the commands that make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    ResetToInit,
    InitToInit,
    InitToRtr,
    RtrToRts,
    RtsToRts,
    SqErrorToRts,
    ToError,
    ToReset,
}

impl Transition {
    /// Whether it leads on from `state`, and where to.
    fn from(self, state: State) -> Option<State> {
        Some(match (self, state) {
            (Self::ResetToInit, State::Reset) | (Self::InitToInit, State::Init) => State::Init,
            (Self::InitToRtr, State::Init) => State::Rtr,
            (Self::RtrToRts, State::Rtr)
            | (Self::RtsToRts, State::Rts)
            | (Self::SqErrorToRts, State::SqError) => State::Rts,
            (Self::ToError, _) => State::Error,
            (Self::ToReset, _) => State::Reset,
            _ => return None,
        })
    }

    /// The fields that it takes from the command, whatever the mask of optional ones says.
    fn required(self) -> &'static [Field] {
        match self {
            Self::ResetToInit => &[
                qpc::pm_state,
                qpc::rre,
                qpc::rwe,
                qpc::rae,
                qpc::q_key,
                qpc::counter_set_id,
            ],
            Self::InitToRtr => &[
                qpc::mtu,
                qpc::log_msg_max,
                qpc::remote_qpn,
                qpc::next_rcv_psn,
                qpc::log_rra_max,
                qpc::min_rnr_nak,
            ],
            Self::RtrToRts => &[
                qpc::next_send_psn,
                qpc::log_sra_max,
                qpc::retry_count,
                qpc::rnr_retry,
            ],
            _ => &[],
        }
    }

    /// The fields of the address path that it takes.
    fn required_path(self) -> &'static [Field] {
        match self {
            Self::ResetToInit => &[ads::pkey_index, ads::vhca_port_num],
            Self::InitToRtr => &[
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
            Self::RtrToRts => &[ads::ack_timeout],
            _ => &[],
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

/// A queue pair.
#[derive(Debug)]
pub struct Qp {
    /// What it was created with.
    created: Vec<u8>,
    /// What it is now.
    pub context: Vec<u8>,
    /// Where it is.
    pub state: State,
}

impl Qp {
    pub fn new(context: &[u8]) -> Self {
        Self {
            created: context.to_vec(),
            context: context.to_vec(),
            state: State::Reset,
        }
    }

    /// Makes a transition with what the command brings.
    pub fn modify(&mut self, transition: Transition, mask: u32, new: &[u8]) -> Result<(), Refusal> {
        let state = transition.from(self.state).ok_or(Refusal::BadQpState)?;
        if state == State::Reset {
            self.context = self.created.clone();
        }
        for field in transition.required() {
            field.set(&mut self.context, field.get(new));
        }
        let optional = OPTIONAL.iter().filter(|(bit, _)| mask >> bit & 1 != 0);
        for (_, field) in optional {
            field.set(&mut self.context, field.get(new));
        }
        let path = qpc::primary_address_path.bytes_mut(&mut self.context);
        let new_path = qpc::primary_address_path.bytes(new);
        for field in transition.required_path() {
            field.set(path, field.get(new_path));
        }
        let optional = OPTIONAL_PATH.iter().filter(|(bit, _)| mask >> bit & 1 != 0);
        for (_, field) in optional {
            field.set(path, field.get(new_path));
        }
        if transition == Transition::InitToRtr {
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

    #[test]
    fn a_queue_pair_remembers_what_it_was_told() {
        let mut qp = Qp::new(&context(&[(qpc::pd, 7), (qpc::cqn_snd, 9)]));
        let init = context(&[(qpc::rwe, 1), (qpc::q_key, 5)]);
        qp.modify(Transition::ResetToInit, 0, &init).unwrap();
        let rtr = context(&[(qpc::mtu, 5), (qpc::rre, 1), (qpc::remote_qpn, 0x44)]);
        qp.modify(Transition::InitToRtr, 1 << 1 | 1 << 3, &rtr)
            .unwrap();
        let rts = context(&[(qpc::next_send_psn, 0x1234)]);
        qp.modify(Transition::RtrToRts, 0, &rts).unwrap();
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
        qp.modify(Transition::ToError, 0, &[]).unwrap();
        assert_eq!(qp.state, State::Error);
        qp.modify(Transition::ToReset, 0, &[]).unwrap();
        assert_eq!(qp.context, qp.created);
    }

    #[test]
    fn a_transition_has_its_place() {
        use Transition::{InitToInit, InitToRtr, ResetToInit, RtrToRts, RtsToRts, SqErrorToRts};
        let new = context(&[(qpc::mtu, 5)]);
        let mut qp = Qp::new(&context(&[]));
        for refused in [InitToInit, InitToRtr, RtrToRts, RtsToRts, SqErrorToRts] {
            assert_eq!(qp.modify(refused, !0, &new), Err(Refusal::BadQpState));
            assert_eq!((qp.state, &qp.context), (State::Reset, &context(&[])));
        }
        qp.modify(ResetToInit, 0, &new).unwrap();
        assert_eq!(qp.modify(ResetToInit, 0, &new), Err(Refusal::BadQpState));
    }
}
