// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands: each makes, changes, shows or ends an object.

use super::Hca;
use crate::cq::Cq;
use crate::dma::Fault;
use crate::eq::{Eq, Kind};
use crate::ifc::{
    arm_rq_in, cqc, create_cq_in, create_eq_in, create_mkey_in, create_qp_in, create_srq_in, eqc,
    mad_ifc_in, mkc, modify_cq_in, qpc, query_adapter_out, query_adapter_param_block,
    query_hca_cap_in, query_hca_vport_context_out, query_issi_out, query_pages_out, query_qp_out,
    rst2init_qp_in, set_hca_cap_in, srqc,
};
use crate::layout::{Field, Layout};
use crate::mkey::Mkey;
use crate::port::Port;
use crate::qp::{Qp, Receive, State, Transition};
use crate::srq::Srq;
use crate::status::Refusal;
use crate::table::Table;
use crate::wire::{reply, request};
use std::fmt::{self, Display, Formatter};

/// Where the list of a create command begins.
const LIST: usize = create_cq_in::LAYOUT.len;
/// Length of most answers.
const SHORT: usize = reply::LAYOUT.len;
/// The vendor: an OUI.
const VENDOR: u64 = 0x2c9;
const BOARD: &[u8; 16] = b"TPH0000000001\0\0\0";
/// op_mod of MODIFY_CQ: another buffer.
const RESIZE: u64 = 1;

/// The commands that there are: opcode, name, and a context that they bring.
type Known = (u64, &'static str, Option<(Field, Layout)>);
const QPC: Option<(Field, Layout)> = Some((rst2init_qp_in::qpc, qpc::LAYOUT));
const COMMANDS: [Known; 43] = [
    (0x100, "QUERY_HCA_CAP", None),
    (0x101, "QUERY_ADAPTER", None),
    (0x102, "INIT_HCA", None),
    (0x103, "TEARDOWN_HCA", None),
    (0x104, "ENABLE_HCA", None),
    (0x105, "DISABLE_HCA", None),
    (0x107, "QUERY_PAGES", None),
    (0x109, "SET_HCA_CAP", None),
    (0x10a, "QUERY_ISSI", None),
    (
        0x200,
        "CREATE_MKEY",
        Some((create_mkey_in::memory_key_mkey_entry, mkc::LAYOUT)),
    ),
    (0x202, "DESTROY_MKEY", None),
    (
        0x301,
        "CREATE_EQ",
        Some((create_eq_in::eq_context_entry, eqc::LAYOUT)),
    ),
    (0x302, "DESTROY_EQ", None),
    (
        0x400,
        "CREATE_CQ",
        Some((create_cq_in::cq_context, cqc::LAYOUT)),
    ),
    (0x401, "DESTROY_CQ", None),
    (0x402, "QUERY_CQ", None),
    (
        0x403,
        "MODIFY_CQ",
        Some((modify_cq_in::cq_context, cqc::LAYOUT)),
    ),
    (0x500, "CREATE_QP", Some((create_qp_in::qpc, qpc::LAYOUT))),
    (0x501, "DESTROY_QP", None),
    (0x502, "RST2INIT_QP", QPC),
    (0x503, "INIT2RTR_QP", QPC),
    (0x504, "RTR2RTS_QP", QPC),
    (0x505, "RTS2RTS_QP", QPC),
    (0x507, "2ERR_QP", None),
    (0x50a, "2RST_QP", None),
    (0x50b, "QUERY_QP", None),
    (0x50d, "MAD_IFC", None),
    (0x50e, "INIT2INIT_QP", QPC),
    (
        0x700,
        "CREATE_SRQ",
        Some((create_srq_in::srq_context_entry, srqc::LAYOUT)),
    ),
    (0x701, "DESTROY_SRQ", None),
    (0x702, "QUERY_SRQ", None),
    (0x703, "ARM_RQ", None),
    (0x762, "QUERY_HCA_VPORT_CONTEXT", None),
    (0x763, "MODIFY_HCA_VPORT_CONTEXT", None),
    (0x764, "QUERY_HCA_VPORT_GID", None),
    (0x765, "QUERY_HCA_VPORT_PKEY", None),
    (0x800, "ALLOC_PD", None),
    (0x801, "DEALLOC_PD", None),
    (0x802, "ALLOC_UAR", None),
    (0x803, "DEALLOC_UAR", None),
    (0x805, "ACCESS_REG", None),
    (0x80e, "ALLOC_XRCD", None),
    (0x80f, "DEALLOC_XRCD", None),
];

/// A command, for the log.
struct Shown<'a>(&'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let opcode = request::opcode.get(self.0);
        let known = COMMANDS.iter().find(|(of, ..)| *of == opcode);
        match known {
            Some((_, name, _)) => f.write_str(name)?,
            None => write!(f, "command {opcode:#x}")?,
        }
        write!(
            f,
            " {:#x} op_mod {:#x}, {} bytes",
            request::number.get(self.0),
            request::op_mod.get(self.0),
            self.0.len()
        )?;
        match known {
            Some((_, _, Some((field, layout)))) => {
                write!(f, ", {}", layout.show(field.bytes(self.0)))
            }
            _ => Ok(()),
        }
    }
}

impl Hca {
    /// The whole answer to a command.
    pub fn answer(&mut self, input: &[u8]) -> Vec<u8> {
        let opcode = request::opcode.get(input);
        let executed = match &mut self.refused {
            (refused, number @ 1..) if u64::from(*refused) == opcode => {
                *number -= 1;
                Err(Refusal::NoResources)
            }
            _ => self.execute(opcode, input),
        };
        match executed {
            Ok(output) => {
                let number = reply::number.get(&output);
                log::debug!("{}: done, {number:#x}", Shown(input));
                output
            }
            Err(refusal) => {
                log::info!("{}: refused, {refusal}", Shown(input));
                let mut output = vec![0; SHORT];
                reply::status.set(&mut output, refusal as u64);
                reply::syndrome.set(&mut output, opcode << 8 | refusal as u64);
                output
            }
        }
    }

    #[allow(clippy::too_many_lines)] // a table
    fn execute(&mut self, opcode: u64, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        let number = request::number.get32(input);
        let done = || Ok(vec![0; SHORT]);
        match opcode {
            // ENABLE_HCA, DISABLE_HCA, INIT_HCA.
            0x104 | 0x105 | 0x102 => done(),
            0x103 => {
                self.tear_down();
                done()
            }
            0x100 => {
                let op_mod = query_hca_cap_in::op_mod.get32(input);
                let op_mod = u16::try_from(op_mod).map_err(|_| Refusal::BadParameter)?;
                Ok(with(SHORT, &self.capabilities.page(op_mod)))
            }
            0x101 => Ok(adapter()),
            0x107 => Ok(vec![0; query_pages_out::LAYOUT.len]), // of which it needs none
            0x109 => {
                expect(input, set_hca_cap_in::capability.offset / 8)?;
                let op_mod = set_hca_cap_in::op_mod.get32(input);
                let op_mod = u16::try_from(op_mod).map_err(|_| Refusal::BadParameter)?;
                self.capabilities
                    .set(op_mod, set_hca_cap_in::capability.bytes(input));
                done()
            }
            0x10a => {
                let mut output = vec![0; query_issi_out::LAYOUT.len];
                query_issi_out::supported_issi_dw0.set(&mut output, 1);
                Ok(output)
            }
            0x200 => self.create_mkey(input),
            0x202 => remove(&mut self.mkeys, number),
            0x301 => self.create_eq(input),
            0x302 => self.destroy_eq(number & 0xff),
            0x400 => self.create_cq(input),
            0x401 => self.destroy_cq(number),
            0x402 => {
                let cq = self.cqs.get(number).ok_or(Refusal::BadResource)?;
                Ok(with(SHORT, &cq.context()))
            }
            0x403 => self.modify_cq(number, input),
            0x500 => self.create_qp(input),
            0x501 => self.destroy_qp(number),
            0x502 => self.modify_qp(Transition::ResetToInit, input),
            0x503 => self.modify_qp(Transition::InitToRtr, input),
            0x504 => self.modify_qp(Transition::RtrToRts, input),
            0x505 => self.modify_qp(Transition::RtsToRts, input),
            0x507 => self.modify_qp(Transition::ToError, input),
            0x50a => self.modify_qp(Transition::ToReset, input),
            0x50e => self.modify_qp(Transition::InitToInit, input),
            0x50b => {
                let qp = self.qps.get(number).ok_or(Refusal::BadResource)?;
                let mut output = vec![0; query_qp_out::LAYOUT.len];
                query_qp_out::qpc
                    .bytes_mut(&mut output)
                    .copy_from_slice(&qp.context);
                Ok(output)
            }
            0x50d => {
                expect(input, mad_ifc_in::LAYOUT.len)?;
                // Nobody answers management datagrams here.
                Err(Refusal::BadOpcode)
            }
            0x700 => self.create_srq(input),
            0x701 => self.destroy_srq(number),
            0x702 => {
                let srq = self.srqs.get(number).ok_or(Refusal::BadResource)?;
                Ok(with(SHORT, &srq.context()))
            }
            0x703 => {
                let limit = arm_rq_in::lwm.get(input);
                let limit = u16::try_from(limit).map_err(|_| Refusal::BadParameter)?;
                self.arm_srq(number, limit)
            }
            0x762 => Ok(with(SHORT, &Port::context())),
            0x763 => {
                expect(input, query_hca_vport_context_out::LAYOUT.len)?;
                done()
            }
            0x764 => Ok(with(SHORT, &Port::gid_entry(input)?)),
            0x765 => Ok(with(SHORT, &Port::pkey_entry(input)?)),
            0x800 => create(&mut self.pds, |_| Ok(())),
            0x801 => self.dealloc_pd(number),
            0x802 => create(&mut self.uars, |_| Ok(())),
            0x803 => remove(&mut self.uars, number),
            0x805 => {
                expect(input, SHORT)?;
                Ok(with(SHORT, &self.port.access(input)?))
            }
            0x80e => create(&mut self.xrcds, |_| Ok(())),
            0x80f => self.dealloc_xrcd(number),
            _ => Err(Refusal::BadOpcode),
        }
    }

    fn create_eq(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_eq_in::LAYOUT)?;
        let context = create_eq_in::eq_context_entry.bytes(input);
        let mask = create_eq_in::event_bitmask.bytes(input);
        create(&mut self.eqs, |number| {
            Eq::new(number, context, mask, &input[LIST..])
        })
    }

    fn create_cq(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_cq_in::LAYOUT)?;
        let context = create_cq_in::cq_context.bytes(input);
        create(&mut self.cqs, |number| {
            let cq = Cq::new(number, context, &input[LIST..])?;
            match self.eqs.get(cq.eq()) {
                Some(_) => Ok(cq),
                None => Err(Refusal::BadResource),
            }
        })
    }

    fn modify_cq(&mut self, number: u32, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, modify_cq_in::LAYOUT)?;
        let cq = self.cqs.get_mut(number).ok_or(Refusal::BadResource)?;
        let context = modify_cq_in::cq_context.bytes(input);
        if modify_cq_in::op_mod.get(input) == RESIZE {
            cq.resize(&self.dma, context, &input[LIST..])?;
        } else {
            cq.moderate(cqc::cq_max_count.get(context), cqc::cq_period.get(context));
        }
        Ok(vec![0; SHORT])
    }

    fn destroy_eq(&mut self, number: u32) -> Result<Vec<u8>, Refusal> {
        unused(self.cqs.iter().any(|(_, cq)| cq.eq() == number))?;
        remove(&mut self.eqs, number)
    }

    fn destroy_cq(&mut self, number: u32) -> Result<Vec<u8>, Refusal> {
        let of = |qp: &Qp| [qpc::cqn_snd, qpc::cqn_rcv].map(|field| field.get32(&qp.context));
        unused(self.qps.iter().any(|(_, qp)| of(qp).contains(&number)))?;
        unused(self.srqs.iter().any(|(_, srq)| srq.cqn() == number))?;
        self.moderated.remove(&number);
        remove(&mut self.cqs, number)
    }

    fn dealloc_pd(&mut self, number: u32) -> Result<Vec<u8>, Refusal> {
        unused(self.mkeys.iter().any(|(_, mkey)| mkey.pd() == number))?;
        unused(self.qps.iter().any(|(_, qp)| qp.pd() == number))?;
        unused(self.srqs.iter().any(|(_, srq)| srq.pd() == number))?;
        remove(&mut self.pds, number)
    }

    fn dealloc_xrcd(&mut self, number: u32) -> Result<Vec<u8>, Refusal> {
        let of = |qp: &Qp| qpc::xrcd.get32(&qp.context);
        unused(self.qps.iter().any(|(_, qp)| of(qp) == number))?;
        unused(self.srqs.iter().any(|(_, srq)| srq.xrcd() == number))?;
        remove(&mut self.xrcds, number)
    }

    fn create_srq(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_srq_in::LAYOUT)?;
        let context = create_srq_in::srq_context_entry.bytes(input);
        create(&mut self.srqs, |number| {
            Srq::new(number, context, &input[LIST..])
        })
    }

    fn destroy_srq(&mut self, number: u32) -> Result<Vec<u8>, Refusal> {
        let uses = |qp: &Qp| qp.receive == Receive::Shared(number);
        unused(self.qps.iter().any(|(_, qp)| uses(qp)))?;
        remove(&mut self.srqs, number)
    }

    fn arm_srq(&mut self, number: u32, limit: u16) -> Result<Vec<u8>, Refusal> {
        let srq = self.srqs.get_mut(number).ok_or(Refusal::BadResource)?;
        srq.arm(limit);
        if srq.is_low(&self.dma).map_err(|fault| broken(&fault))? {
            self.tell(Kind::SrqLimit, number);
        }
        Ok(vec![0; SHORT])
    }

    fn create_mkey(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_mkey_in::LAYOUT)?;
        let context = create_mkey_in::memory_key_mkey_entry.bytes(input);
        let list = &input[LIST..];
        // The list is filled up to whole octowords; what is said to be in it counts.
        let octowords = create_mkey_in::translations_octword_actual_size.get(input);
        let len = usize::try_from(16 * octowords).unwrap_or(usize::MAX);
        let list = &list[..len.min(list.len())];
        create(&mut self.mkeys, |index| Mkey::new(index, context, list))
    }

    fn create_qp(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_qp_in::LAYOUT)?;
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
                Err(Refusal::BadResource)
            }
        })
    }

    fn destroy_qp(&mut self, number: u32) -> Result<Vec<u8>, Refusal> {
        for set in [&mut self.active, &mut self.retrying] {
            set.remove(&number);
        }
        self.in_error.remove(&number);
        remove(&mut self.qps, number)
    }

    fn modify_qp(&mut self, transition: Transition, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        if transition.brings_context() {
            expect_layout(input, rst2init_qp_in::LAYOUT)?;
        }
        let number = request::number.get32(input);
        let qp = self.qps.get_mut(number).ok_or(Refusal::BadResource)?;
        qp.modify(
            transition,
            rst2init_qp_in::opt_param_mask.get32(input),
            rst2init_qp_in::qpc.bytes(input),
        )?;
        self.retrying.remove(&number);
        match qp.state {
            State::Error => self.break_down(number).map_err(|fault| broken(&fault))?,
            // It may have been rung for before.
            State::Rts => {
                self.active.insert(number);
            }
            _ => {}
        }
        Ok(vec![0; SHORT])
    }
}

/// A command cannot be done since memory cannot be reached.
fn broken(fault: &Fault) -> Refusal {
    log::error!("{fault}");
    Refusal::BadSystemState
}

fn expect_layout(input: &[u8], layout: Layout) -> Result<(), Refusal> {
    expect(input, layout.len)
}

fn expect(input: &[u8], len: usize) -> Result<(), Refusal> {
    if input.len() < len {
        return Err(Refusal::InputLength);
    }
    Ok(())
}

/// An answer with `rest` from byte `at` on.
fn with(at: usize, rest: &[u8]) -> Vec<u8> {
    let mut output = vec![0; at];
    output.extend(rest);
    output
}

fn create<T>(
    table: &mut Table<T>,
    make: impl FnOnce(u32) -> Result<T, Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let number = table.insert(Refusal::NoResources, make)?;
    let mut output = vec![0; SHORT];
    reply::number.set(&mut output, number.into());
    Ok(output)
}

/// What others use does not go before them.
fn unused(in_use: bool) -> Result<(), Refusal> {
    if in_use {
        return Err(Refusal::ResourceBusy);
    }
    Ok(())
}

fn remove<T>(table: &mut Table<T>, number: u32) -> Result<Vec<u8>, Refusal> {
    table.remove(number).ok_or(Refusal::BadResource)?;
    Ok(vec![0; SHORT])
}

fn adapter() -> Vec<u8> {
    let mut output = vec![0; query_adapter_out::LAYOUT.len];
    let block = query_adapter_out::query_adapter_struct.bytes_mut(&mut output);
    query_adapter_param_block::ieee_vendor_id.set(block, VENDOR);
    query_adapter_param_block::vsd_contd_psid
        .bytes_mut(block)
        .copy_from_slice(BOARD);
    output
}
