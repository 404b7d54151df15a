// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter's state, and the commands that change it.

use super::Profile;
use super::capabilities::{
    Capabilities, LOG_MAX_CQ, LOG_MAX_MKEY, LOG_MAX_PD, LOG_MAX_QP, LOG_MAX_SRQ, LOG_MAX_XRCD,
    MAX_EQS,
};
use super::commands::Queue;
use super::cq::Cq;
use super::dma::{Dma, Fault};
use super::eq::{Eq, Kind};
use super::ifc::{
    create_cq_in, create_eq_in, create_mkey_in, create_qp_in, create_srq_in, mad_ifc_in,
    modify_cq_in, query_adapter_out, query_adapter_param_block, query_hca_cap_in,
    query_hca_vport_context_out, query_issi_out, query_pages_out, query_qp_out, rst2init_qp_in,
    set_hca_cap_in,
};
use super::layout::Layout;
use super::mkey::Mkey;
use super::port::Port;
use super::qp::{Qp, Transition};
use super::registers::UARS;
use super::status::Refusal;
use super::table::Table;
use super::wire::{reply, request};
use crate::interrupt::Interrupt;
use std::sync::Arc;

/// Where the list of a create command begins.
const LIST: usize = create_cq_in::LAYOUT.len;
/// Length of most answers.
const SHORT: usize = reply::LAYOUT.len;
/// The vendor: an OUI.
const VENDOR: u64 = 0x2c9;
const BOARD: &[u8; 16] = b"TPH0000000001\0\0\0";
/// op_mod of MODIFY_CQ: another buffer.
const RESIZE: u64 = 1;

/// The adapter, from the first command after a reset on.
pub struct Hca {
    dma: Dma,
    queue: Queue,
    interrupt: Arc<Interrupt>,
    capabilities: Capabilities,
    port: Port,
    uars: Table<()>,
    eqs: Table<Eq>,
    pds: Table<()>,
    xrcds: Table<()>,
    mkeys: Table<Mkey>,
    cqs: Table<Cq>,
    srqs: Table<Vec<u8>>,
    qps: Table<Qp>,
}

impl Hca {
    pub fn new(profile: Profile, dma: Dma, queue: Queue, interrupt: Arc<Interrupt>) -> Self {
        Self {
            dma,
            queue,
            interrupt,
            capabilities: Capabilities::new(profile),
            port: Port::new(),
            uars: Table::new(UARS),
            eqs: Table::new(1..u32::from(MAX_EQS)),
            pds: Table::new(1..1 << LOG_MAX_PD),
            xrcds: Table::new(1..1 << LOG_MAX_XRCD),
            mkeys: Table::new(1..1 << LOG_MAX_MKEY),
            cqs: Table::new(1..1 << LOG_MAX_CQ),
            srqs: Table::new(1..1 << LOG_MAX_SRQ),
            // 0 and 1 are the ports' own.
            qps: Table::new(2..1 << LOG_MAX_QP),
        }
    }

    /// Runs the command in an entry of the queue, if there is one.
    pub fn command(&mut self, entry: usize) -> Result<(), Fault> {
        // Before the command: the queue that is to hear of a command's end is there when it begins.
        let hears = self.events_for(Kind::Command);
        match self.queue.fetch(&self.dma, entry)? {
            None => return Ok(()),
            Some(Err(delivery)) => {
                log::warn!("entry {entry} is no command: {delivery:?}");
                self.queue.give_back(&self.dma, entry, Some(delivery))?;
            }
            Some(Ok(command)) => {
                let answer = self.answer(&command.input);
                self.queue.answer(&self.dma, &command, answer)?;
            }
        }
        // A command that ends the queue is not told there.
        if let Some(eq) = hears.filter(|&eq| self.eqs.get(eq).is_some()) {
            let done = 1u32 << entry;
            self.post(eq, Kind::Command, &done.to_be_bytes())?;
        }
        Ok(())
    }

    /// The consumer of an EQ has moved on.
    pub fn update_eq(&mut self, number: u32, consumer: u32, arm: bool) {
        match self.eqs.get_mut(number) {
            Some(eq) => eq.update(consumer, arm, &self.interrupt),
            None => log::warn!("a doorbell of EQ {number}, which there is none"),
        }
    }

    /// A CQ is armed.
    pub fn arm_cq(&mut self, number: u32, consumer: u32, solicited: bool) -> Result<(), Fault> {
        let Some(cq) = self.cqs.get_mut(number) else {
            log::warn!("a doorbell of CQ {number}, which there is none");
            return Ok(());
        };
        if cq.arm(consumer, solicited) {
            let eq = cq.eq();
            return self.post(eq, Kind::Completion, &completion_of(number));
        }
        Ok(())
    }

    /// A send queue has work.
    pub fn send(&mut self, number: u32) {
        match self.qps.get(number) {
            Some(qp) => log::debug!("QP {number}: doorbell in {:?}", qp.state),
            None => log::warn!("a doorbell of QP {number}, which there is none"),
        }
    }

    /// What there is, for the log.
    pub fn census(&self) -> String {
        format!(
            "{} UARs, {} EQs, {} PDs, {} mkeys, {} CQs, {} SRQs, {} QPs",
            self.uars.len(),
            self.eqs.len(),
            self.pds.len(),
            self.mkeys.len(),
            self.cqs.len(),
            self.srqs.len(),
            self.qps.len()
        )
    }

    fn events_for(&self, kind: Kind) -> Option<u32> {
        self.eqs
            .iter()
            .find_map(|(number, eq)| eq.wants(kind).then_some(number))
    }

    fn post(&mut self, number: u32, kind: Kind, data: &[u8]) -> Result<(), Fault> {
        match self.eqs.get_mut(number) {
            Some(eq) => eq.post(&self.dma, &self.interrupt, kind, data),
            None => {
                log::error!("an event {kind:?} for EQ {number}, which there is none");
                Ok(())
            }
        }
    }

    /// The whole answer to a command.
    fn answer(&mut self, input: &[u8]) -> Vec<u8> {
        let opcode = request::opcode.get(input);
        match self.execute(opcode, input) {
            Ok(output) => {
                log::debug!("{opcode:#x}: {}", request::LAYOUT.show(input));
                output
            }
            Err(refusal) => {
                log::info!(
                    "{opcode:#x} refused, {refusal}: {}",
                    request::LAYOUT.show(input)
                );
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
            // ENABLE_HCA, DISABLE_HCA, INIT_HCA, TEARDOWN_HCA.
            0x104 | 0x105 | 0x102 | 0x103 => done(),
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
            0x302 => remove(&mut self.eqs, number & 0xff),
            0x400 => self.create_cq(input),
            0x401 => remove(&mut self.cqs, number),
            0x402 => {
                let cq = self.cqs.get(number).ok_or(Refusal::BadResource)?;
                Ok(with(SHORT, &cq.context()))
            }
            0x403 => self.modify_cq(number, input),
            0x500 => self.create_qp(input),
            0x501 => remove(&mut self.qps, number),
            0x502 => self.modify_qp(Transition::ResetToInit, input),
            0x503 => self.modify_qp(Transition::InitToRtr, input),
            0x504 => self.modify_qp(Transition::RtrToRts, input),
            0x505 => self.modify_qp(Transition::RtsToRts, input),
            0x506 => self.modify_qp(Transition::SqErrorToRts, input),
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
            0x701 => remove(&mut self.srqs, number),
            0x762 => Ok(with(SHORT, &Port::context())),
            0x763 => {
                expect(input, query_hca_vport_context_out::LAYOUT.len)?;
                done()
            }
            0x764 => Ok(with(SHORT, &Port::gid_entry(input)?)),
            0x765 => Ok(with(SHORT, &Port::pkey_entry(input)?)),
            0x800 => create(&mut self.pds, |_| Ok(())),
            0x801 => remove(&mut self.pds, number),
            0x802 => create(&mut self.uars, |_| Ok(())),
            0x803 => remove(&mut self.uars, number),
            0x805 => {
                expect(input, SHORT)?;
                Ok(with(SHORT, &self.port.access(input)?))
            }
            0x80e => create(&mut self.xrcds, |_| Ok(())),
            0x80f => remove(&mut self.xrcds, number),
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
        use super::ifc::cqc;
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

    fn create_srq(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_srq_in::LAYOUT)?;
        let context = create_srq_in::srq_context_entry.bytes(input);
        create(&mut self.srqs, |_| Ok(context.to_vec()))
    }

    fn create_mkey(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_mkey_in::LAYOUT)?;
        let context = create_mkey_in::memory_key_mkey_entry.bytes(input);
        create(&mut self.mkeys, |index| Ok(Mkey::new(index, context)))
    }

    fn create_qp(&mut self, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        expect_layout(input, create_qp_in::LAYOUT)?;
        let context = create_qp_in::qpc.bytes(input);
        create(&mut self.qps, |_| Ok(Qp::new(context)))
    }

    fn modify_qp(&mut self, transition: Transition, input: &[u8]) -> Result<Vec<u8>, Refusal> {
        let brings_context = !matches!(transition, Transition::ToError | Transition::ToReset);
        if brings_context {
            expect_layout(input, rst2init_qp_in::LAYOUT)?;
        }
        let number = request::number.get32(input);
        let qp = self.qps.get_mut(number).ok_or(Refusal::BadResource)?;
        qp.modify(
            transition,
            rst2init_qp_in::opt_param_mask.get32(input),
            rst2init_qp_in::qpc.bytes(input),
        )?;
        Ok(vec![0; SHORT])
    }
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

/// Data of an event: the CQ's number is its last word.
fn completion_of(cq: u32) -> [u8; 28] {
    let mut data = [0; 28];
    data[24..].copy_from_slice(&cq.to_be_bytes());
    data
}
