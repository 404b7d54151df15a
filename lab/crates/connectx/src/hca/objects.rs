// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands do: each makes, changes, shows or ends an object.

use super::Hca;
use super::commands::{Answer, SHORT};
use crate::cq::Cq;
use crate::eq::{Eq, EventType};
use crate::error::Error;
use crate::ifc::{
    arm_rq_in, cqc, create_cq_in, create_eq_in, create_mkey_in, create_qp_in, create_srq_in,
    modify_cq_in, qpc, query_adapter_out, query_adapter_param_block, query_hca_cap_in,
    query_issi_out, query_pages_out, query_qp_out, rst2init_qp_in, set_hca_cap_in,
};
use crate::mkey::Mkey;
use crate::port::Port;
use crate::qp::{Qp, Receive, State, Transition};
use crate::srq::Srq;
use crate::status::Status;
use crate::table::Table;
use crate::wire::{reply, request};

/// Where the list of a create command begins.
const LIST: usize = create_cq_in::LAYOUT.len;
/// The vendor: an OUI.
const VENDOR: u64 = 0x2c9;
const BOARD: &[u8; 16] = b"TPH0000000001\0\0\0";
/// op_mod of MODIFY_CQ: another buffer.
const RESIZE: u64 = 1;

/// The handlers of the table of commands. Inputs are as long as the table says.
#[allow(clippy::unused_self, clippy::unnecessary_wraps)] // All are of one type.
impl Hca {
    /// A command without effect on the model.
    pub(super) fn nothing_to_do(&mut self, _input: &[u8]) -> Answer {
        Ok(done())
    }

    pub(super) fn teardown_hca(&mut self, _input: &[u8]) -> Answer {
        self.tear_down();
        Ok(done())
    }

    pub(super) fn query_hca_cap(&mut self, input: &[u8]) -> Answer {
        let op_mod = query_hca_cap_in::op_mod.get32(input);
        let op_mod = u16::try_from(op_mod).map_err(|_| Status::BadParameter)?;
        Ok(with(SHORT, &self.capabilities.page(op_mod)))
    }

    pub(super) fn set_hca_cap(&mut self, input: &[u8]) -> Answer {
        let op_mod = set_hca_cap_in::op_mod.get32(input);
        let op_mod = u16::try_from(op_mod).map_err(|_| Status::BadParameter)?;
        self.capabilities
            .set(op_mod, set_hca_cap_in::capability.bytes(input));
        Ok(done())
    }

    pub(super) fn query_adapter(&mut self, _input: &[u8]) -> Answer {
        let mut output = vec![0; query_adapter_out::LAYOUT.len];
        let block = query_adapter_out::query_adapter_struct.bytes_mut(&mut output);
        query_adapter_param_block::ieee_vendor_id.set(block, VENDOR);
        query_adapter_param_block::vsd_contd_psid
            .bytes_mut(block)
            .copy_from_slice(BOARD);
        Ok(output)
    }

    /// It needs no pages.
    pub(super) fn query_pages(&mut self, _input: &[u8]) -> Answer {
        Ok(vec![0; query_pages_out::LAYOUT.len])
    }

    pub(super) fn query_issi(&mut self, _input: &[u8]) -> Answer {
        let mut output = vec![0; query_issi_out::LAYOUT.len];
        query_issi_out::supported_issi_dw0.set(&mut output, 1);
        Ok(output)
    }

    pub(super) fn query_vport_context(&mut self, _input: &[u8]) -> Answer {
        Ok(with(SHORT, &Port::context()))
    }

    pub(super) fn query_vport_gid(&mut self, input: &[u8]) -> Answer {
        Ok(with(SHORT, &Port::gid_entry(input)?))
    }

    pub(super) fn query_vport_pkey(&mut self, input: &[u8]) -> Answer {
        Ok(with(SHORT, &Port::pkey_entry(input)?))
    }

    pub(super) fn access_reg(&mut self, input: &[u8]) -> Answer {
        Ok(with(SHORT, &self.port.access(input)?))
    }

    pub(super) fn alloc_pd(&mut self, _input: &[u8]) -> Answer {
        create(&mut self.pds, |_| Ok(()))
    }

    pub(super) fn alloc_uar(&mut self, _input: &[u8]) -> Answer {
        create(&mut self.uars, |_| Ok(()))
    }

    pub(super) fn dealloc_uar(&mut self, input: &[u8]) -> Answer {
        remove(&mut self.uars, number(input))
    }

    pub(super) fn alloc_xrcd(&mut self, _input: &[u8]) -> Answer {
        create(&mut self.xrcds, |_| Ok(()))
    }

    pub(super) fn destroy_mkey(&mut self, input: &[u8]) -> Answer {
        remove(&mut self.mkeys, number(input))
    }

    pub(super) fn query_cq(&mut self, input: &[u8]) -> Answer {
        let cq = self.cqs.get(number(input)).ok_or(Status::BadResource)?;
        Ok(with(SHORT, &cq.context()))
    }

    pub(super) fn query_qp(&mut self, input: &[u8]) -> Answer {
        let qp = self.qps.get(number(input)).ok_or(Status::BadResource)?;
        let mut output = vec![0; query_qp_out::LAYOUT.len];
        query_qp_out::qpc
            .bytes_mut(&mut output)
            .copy_from_slice(&qp.context);
        Ok(output)
    }

    pub(super) fn query_srq(&mut self, input: &[u8]) -> Answer {
        let srq = self.srqs.get(number(input)).ok_or(Status::BadResource)?;
        Ok(with(SHORT, &srq.context()))
    }

    pub(super) fn create_eq(&mut self, input: &[u8]) -> Answer {
        let context = create_eq_in::eq_context_entry.bytes(input);
        let mask = create_eq_in::event_bitmask.bytes(input);
        create(&mut self.eqs, |number| {
            Eq::new(number, context, mask, &input[LIST..])
        })
    }

    pub(super) fn create_cq(&mut self, input: &[u8]) -> Answer {
        let context = create_cq_in::cq_context.bytes(input);
        create(&mut self.cqs, |number| {
            let cq = Cq::new(number, context, &input[LIST..])?;
            match self.eqs.get(cq.eq()) {
                Some(_) => Ok(cq),
                None => Err(Status::BadResource),
            }
        })
    }

    pub(super) fn modify_cq(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        let cq = self.cqs.get_mut(number).ok_or(Status::BadResource)?;
        let context = modify_cq_in::cq_context.bytes(input);
        if modify_cq_in::op_mod.get(input) == RESIZE {
            cq.resize(&self.dma, context, &input[LIST..])?;
        } else {
            cq.moderate(cqc::cq_max_count.get(context), cqc::cq_period.get(context));
        }
        Ok(done())
    }

    pub(super) fn destroy_eq(&mut self, input: &[u8]) -> Answer {
        let number = number(input) & 0xff;
        unused(self.cqs.iter().any(|(_, cq)| cq.eq() == number))?;
        remove(&mut self.eqs, number)
    }

    pub(super) fn destroy_cq(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        let of = |qp: &Qp| [qpc::cqn_snd, qpc::cqn_rcv].map(|field| field.get32(&qp.context));
        unused(self.qps.iter().any(|(_, qp)| of(qp).contains(&number)))?;
        unused(self.srqs.iter().any(|(_, srq)| srq.cqn() == number))?;
        self.moderated.remove(&number);
        remove(&mut self.cqs, number)
    }

    pub(super) fn dealloc_pd(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        unused(self.mkeys.iter().any(|(_, mkey)| mkey.pd() == number))?;
        unused(self.qps.iter().any(|(_, qp)| qp.pd() == number))?;
        unused(self.srqs.iter().any(|(_, srq)| srq.pd() == number))?;
        remove(&mut self.pds, number)
    }

    pub(super) fn dealloc_xrcd(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        let of = |qp: &Qp| qpc::xrcd.get32(&qp.context);
        unused(self.qps.iter().any(|(_, qp)| of(qp) == number))?;
        unused(self.srqs.iter().any(|(_, srq)| srq.xrcd() == number))?;
        remove(&mut self.xrcds, number)
    }

    pub(super) fn create_srq(&mut self, input: &[u8]) -> Answer {
        let context = create_srq_in::srq_context_entry.bytes(input);
        create(&mut self.srqs, |number| {
            Srq::new(number, context, &input[LIST..])
        })
    }

    pub(super) fn destroy_srq(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        let uses = |qp: &Qp| qp.receive == Receive::Shared(number);
        unused(self.qps.iter().any(|(_, qp)| uses(qp)))?;
        remove(&mut self.srqs, number)
    }

    pub(super) fn arm_rq(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        let limit = arm_rq_in::lwm.get(input);
        let limit = u16::try_from(limit).map_err(|_| Status::BadParameter)?;
        let srq = self.srqs.get_mut(number).ok_or(Status::BadResource)?;
        srq.arm(limit);
        if srq
            .limit_reached(&self.dma)
            .map_err(|error| broken(&error))?
        {
            self.report(EventType::SrqLimit, number);
        }
        Ok(done())
    }

    pub(super) fn create_mkey(&mut self, input: &[u8]) -> Answer {
        let context = create_mkey_in::memory_key_mkey_entry.bytes(input);
        let list = &input[LIST..];
        // The list is filled up to whole octowords; what is said to be in it counts.
        let octowords = create_mkey_in::translations_octword_actual_size.get(input);
        let len = usize::try_from(16 * octowords).unwrap_or(usize::MAX);
        let list = &list[..len.min(list.len())];
        create(&mut self.mkeys, |index| Mkey::new(index, context, list))
    }

    pub(super) fn create_qp(&mut self, input: &[u8]) -> Answer {
        let context = create_qp_in::qpc.bytes(input);
        let (cqs, srqs) = (&self.cqs, &self.srqs);
        create(&mut self.qps, |number| {
            let qp = Qp::new(number, context, &input[LIST..])?;
            let shared = match qp.receive {
                Receive::Shared(number) => srqs.get(number).is_some(),
                _ => true,
            };
            let queues = [qpc::cqn_snd, qpc::cqn_rcv].map(|field| field.get32(context));
            // A queue pair that completes nothing on one side has no queue there.
            let queues = queues.iter().all(|&cqn| cqn == 0 || cqs.get(cqn).is_some());
            if shared && queues {
                Ok(qp)
            } else {
                Err(Status::BadResource)
            }
        })
    }

    pub(super) fn destroy_qp(&mut self, input: &[u8]) -> Answer {
        let number = number(input);
        for set in [&mut self.active, &mut self.retrying] {
            set.remove(&number);
        }
        self.in_error.remove(&number);
        remove(&mut self.qps, number)
    }

    pub(super) fn modify_qp(&mut self, transition: &Transition, input: &[u8]) -> Answer {
        let number = number(input);
        let qp = self.qps.get_mut(number).ok_or(Status::BadResource)?;
        let before = qp.state;
        qp.modify(
            transition,
            rst2init_qp_in::opt_param_mask.get32(input),
            rst2init_qp_in::qpc.bytes(input),
        )?;
        self.retrying.remove(&number);
        match qp.state {
            // It does not enter the state in which it is.
            State::Error if before == State::Error => self
                .flush_from_now_on(number)
                .map_err(|error| broken(&error))?,
            State::Error => self
                .enter_error_state(number)
                .map_err(|error| broken(&error))?,
            // Its doorbell may have been rung before.
            State::Rts => {
                self.active.insert(number);
            }
            _ => {}
        }
        Ok(done())
    }
}

/// A command cannot be done since memory cannot be reached.
fn broken(error: &Error) -> Status {
    log::error!("{error}");
    Status::BadSystemState
}

/// The number of the object that a command names.
fn number(input: &[u8]) -> u32 {
    request::number.get32(input)
}

/// The answer of a command that says nothing else.
fn done() -> Vec<u8> {
    vec![0; SHORT]
}

/// An answer with `rest` from byte `at` on.
fn with(at: usize, rest: &[u8]) -> Vec<u8> {
    let mut output = vec![0; at];
    output.extend(rest);
    output
}

fn create<T>(table: &mut Table<T>, make: impl FnOnce(u32) -> Result<T, Status>) -> Answer {
    let number = table.insert(Status::NoResources, make)?;
    let mut output = vec![0; SHORT];
    reply::number.set(&mut output, number.into());
    Ok(output)
}

/// What others use does not go before them.
fn unused(in_use: bool) -> Result<(), Status> {
    if in_use {
        return Err(Status::ResourceBusy);
    }
    Ok(())
}

fn remove<T>(table: &mut Table<T>, number: u32) -> Answer {
    table.remove(number).ok_or(Status::BadResource)?;
    Ok(done())
}
