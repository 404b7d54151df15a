// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands, as one table, and how they are answered.

use super::Hca;
use crate::ifc::{
    access_register_in, cqc, create_cq_in, create_eq_in, create_mkey_in, create_qp_in,
    create_srq_in, eqc, mad_ifc_in, mkc, modify_cq_in, qpc, query_hca_vport_context_out,
    rst2init_qp_in, srqc,
};
use crate::layout::{Field, Layout};
use crate::qp::Transition;
use crate::status::Status;
use crate::wire::{reply, request};
use std::fmt::{self, Display, Formatter};

/// Length of most answers.
pub const SHORT: usize = reply::LAYOUT.len;

/// The whole answer to a command that was executed.
pub type Answer = Result<Vec<u8>, Status>;

/// All that is known of a command.
struct Command {
    opcode: u16,
    /// As the driver calls it.
    name: &'static str,
    /// Bytes that its input must have; what is missing of the others reads as 0.
    len: usize,
    /// A context in its input, for the log.
    context: Option<(Field, Layout)>,
    /// Executes it.
    run: fn(&mut Hca, &[u8]) -> Answer,
}

impl Command {
    const fn new(opcode: u16, name: &'static str, run: fn(&mut Hca, &[u8]) -> Answer) -> Self {
        Self {
            opcode,
            name,
            len: 0,
            context: None,
            run,
        }
    }

    /// The same, with an input that is not shorter than this.
    const fn takes(mut self, input: Layout) -> Self {
        self.len = input.len;
        self
    }

    /// The same, with a context in its input.
    const fn with(mut self, field: Field, context: Layout) -> Self {
        self.context = Some((field, context));
        self
    }

    fn of(opcode: u64) -> Option<&'static Self> {
        COMMANDS
            .iter()
            .find(|command| u64::from(command.opcode) == opcode)
    }
}

/// A transition of a queue pair that takes fields of a context.
const fn transition(
    opcode: u16,
    name: &'static str,
    run: fn(&mut Hca, &[u8]) -> Answer,
) -> Command {
    Command::new(opcode, name, run)
        .takes(rst2init_qp_in::LAYOUT)
        .with(rst2init_qp_in::qpc, qpc::LAYOUT)
}

/// All commands, by opcode.
const COMMANDS: &[Command] = &[
    Command::new(0x100, "QUERY_HCA_CAP", Hca::query_hca_cap),
    Command::new(0x101, "QUERY_ADAPTER", Hca::query_adapter),
    Command::new(0x102, "INIT_HCA", Hca::nothing_to_do),
    Command::new(0x103, "TEARDOWN_HCA", Hca::teardown_hca),
    Command::new(0x104, "ENABLE_HCA", Hca::nothing_to_do),
    Command::new(0x105, "DISABLE_HCA", Hca::nothing_to_do),
    Command::new(0x107, "QUERY_PAGES", Hca::query_pages),
    Command::new(0x109, "SET_HCA_CAP", Hca::set_hca_cap).takes(request::LAYOUT),
    Command::new(0x10a, "QUERY_ISSI", Hca::query_issi),
    Command::new(0x200, "CREATE_MKEY", Hca::create_mkey)
        .takes(create_mkey_in::LAYOUT)
        .with(create_mkey_in::memory_key_mkey_entry, mkc::LAYOUT),
    Command::new(0x202, "DESTROY_MKEY", Hca::destroy_mkey),
    Command::new(0x301, "CREATE_EQ", Hca::create_eq)
        .takes(create_eq_in::LAYOUT)
        .with(create_eq_in::eq_context_entry, eqc::LAYOUT),
    Command::new(0x302, "DESTROY_EQ", Hca::destroy_eq),
    Command::new(0x400, "CREATE_CQ", Hca::create_cq)
        .takes(create_cq_in::LAYOUT)
        .with(create_cq_in::cq_context, cqc::LAYOUT),
    Command::new(0x401, "DESTROY_CQ", Hca::destroy_cq),
    Command::new(0x402, "QUERY_CQ", Hca::query_cq),
    Command::new(0x403, "MODIFY_CQ", Hca::modify_cq)
        .takes(modify_cq_in::LAYOUT)
        .with(modify_cq_in::cq_context, cqc::LAYOUT),
    Command::new(0x500, "CREATE_QP", Hca::create_qp)
        .takes(create_qp_in::LAYOUT)
        .with(create_qp_in::qpc, qpc::LAYOUT),
    Command::new(0x501, "DESTROY_QP", Hca::destroy_qp),
    transition(0x502, "RST2INIT_QP", |hca, input| {
        hca.modify_qp(&Transition::RST2INIT, input)
    }),
    transition(0x503, "INIT2RTR_QP", |hca, input| {
        hca.modify_qp(&Transition::INIT2RTR, input)
    }),
    transition(0x504, "RTR2RTS_QP", |hca, input| {
        hca.modify_qp(&Transition::RTR2RTS, input)
    }),
    transition(0x505, "RTS2RTS_QP", |hca, input| {
        hca.modify_qp(&Transition::RTS2RTS, input)
    }),
    Command::new(0x507, "2ERR_QP", |hca, input| {
        hca.modify_qp(&Transition::TO_ERROR, input)
    }),
    Command::new(0x50a, "2RST_QP", |hca, input| {
        hca.modify_qp(&Transition::TO_RESET, input)
    }),
    Command::new(0x50b, "QUERY_QP", Hca::query_qp),
    // Nobody answers management datagrams here.
    Command::new(0x50d, "MAD_IFC", |_, _| Err(Status::BadOpcode)).takes(mad_ifc_in::LAYOUT),
    transition(0x50e, "INIT2INIT_QP", |hca, input| {
        hca.modify_qp(&Transition::INIT2INIT, input)
    }),
    Command::new(0x700, "CREATE_SRQ", Hca::create_srq)
        .takes(create_srq_in::LAYOUT)
        .with(create_srq_in::srq_context_entry, srqc::LAYOUT),
    Command::new(0x701, "DESTROY_SRQ", Hca::destroy_srq),
    Command::new(0x702, "QUERY_SRQ", Hca::query_srq),
    Command::new(0x703, "ARM_RQ", Hca::arm_rq),
    Command::new(0x762, "QUERY_HCA_VPORT_CONTEXT", Hca::query_vport_context),
    Command::new(0x763, "MODIFY_HCA_VPORT_CONTEXT", Hca::nothing_to_do)
        // As long as the answer to the query, which has the context in the same place.
        .takes(query_hca_vport_context_out::LAYOUT),
    Command::new(0x764, "QUERY_HCA_VPORT_GID", Hca::query_vport_gid),
    Command::new(0x765, "QUERY_HCA_VPORT_PKEY", Hca::query_vport_pkey),
    Command::new(0x800, "ALLOC_PD", Hca::alloc_pd),
    Command::new(0x801, "DEALLOC_PD", Hca::dealloc_pd),
    Command::new(0x802, "ALLOC_UAR", Hca::alloc_uar),
    Command::new(0x803, "DEALLOC_UAR", Hca::dealloc_uar),
    Command::new(0x805, "ACCESS_REG", Hca::access_reg).takes(access_register_in::LAYOUT),
    Command::new(0x80e, "ALLOC_XRCD", Hca::alloc_xrcd),
    Command::new(0x80f, "DEALLOC_XRCD", Hca::dealloc_xrcd),
];

// An opcode is there once.
const _: () = {
    let mut at = 1;
    while at < COMMANDS.len() {
        assert!(COMMANDS[at - 1].opcode < COMMANDS[at].opcode);
        at += 1;
    }
};

/// A command, for the log.
struct Shown<'a>(&'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let opcode = request::opcode.get(self.0);
        let command = Command::of(opcode);
        match command {
            Some(command) => f.write_str(command.name)?,
            None => write!(f, "command {opcode:#x}")?,
        }
        write!(
            f,
            " {:#x} op_mod {:#x}, {} bytes",
            request::number.get(self.0),
            request::op_mod.get(self.0),
            self.0.len()
        )?;
        match command.and_then(|command| command.context) {
            Some((field, layout)) => write!(f, ", {}", layout.show(field.bytes(self.0))),
            None => Ok(()),
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
                Err(Status::NoResources)
            }
            _ => self.execute_command(opcode, input),
        };
        match executed {
            Ok(output) => {
                let number = reply::number.get(&output);
                log::debug!("{}: done, {number:#x}", Shown(input));
                output
            }
            Err(status) => {
                log::info!("{}: refused, {status}", Shown(input));
                let mut output = vec![0; SHORT];
                reply::status.set(&mut output, status as u64);
                reply::syndrome.set(&mut output, opcode << 8 | status as u64);
                output
            }
        }
    }

    fn execute_command(&mut self, opcode: u64, input: &[u8]) -> Answer {
        let command = Command::of(opcode).ok_or(Status::BadOpcode)?;
        if input.len() < command.len {
            return Err(Status::InputLength);
        }
        (command.run)(self, input)
    }
}
