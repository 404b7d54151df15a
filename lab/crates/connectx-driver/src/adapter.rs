// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter: bring-up, and every command as a method.

use crate::command::{Commands, Error, command};
use crate::completion::{self, Cq, CqOptions};
use crate::event::{self, Eq, Event};
use crate::function::Function;
use crate::guest_memory::{Area, GuestMemory};
use crate::key::{Key, Umr, access};
use crate::qp::{Connection, Qp, QpOptions, Receive};
use crate::request::{Request, Sge};
use crate::srq::{Srq, SrqOptions};
use crate::wait::wait_for;
use connectx::ifc::{
    access_register_in, ads, arm_rq_in, cqc, create_cq_in, create_eq_in, create_mkey_in,
    create_qp_in, create_srq_in, eqc, mkc, modify_cq_in, qpc, query_qp_out, rst2init_qp_in, srqc,
};
use connectx::layout::{Field, Layout};
use connectx::wire::{reply, request};

const PAGE: u64 = 0x1000;
/// Doorbells in the page of a UAR.
const CQ_DOORBELL: u64 = 0x20;
const EQ_ARM: u64 = 0x40;
const EQ_UPDATE: u64 = 0x48;
const SEND_DOORBELL: u64 = 0x800;
/// A send doorbell is rung at its two halves by turns.
const HALF: u64 = 0x100;
/// Length of most commands and answers.
const SHORT: usize = 16;

/// Vectors of events that are not completions, and of completions.
const VECTOR_ASYNC: u32 = 0;
const VECTOR_COMPLETION: u32 = 1;
/// The events that are not completions and not ends of commands.
const ASYNC_EVENTS: [u8; 7] = [
    Event::CQ_ERROR,
    Event::WQ_CATASTROPHIC,
    Event::WQ_INVALID,
    Event::WQ_ACCESS,
    Event::LAST_WQE,
    Event::SRQ_LIMIT,
    0x09, // the port has changed
];

/// Bits of `opt_param_mask`.
const OPTIONAL_RIGHTS: u32 = 1 << 1 | 1 << 2 | 1 << 3;

/// An adapter, from when its command queue is there.
pub struct Adapter {
    /// The function.
    pub function: Function,
    /// Memory that it may access.
    pub memory: GuestMemory,
    /// The command queue.
    pub commands: Commands,
    /// The page of doorbells that is rung.
    pub uar: u32,
    command_eq: Option<Eq>,
    /// Events that are not completions, since the bring-up.
    pub async_eq: Option<Eq>,
    /// Where armed completion queues post their events.
    pub completion_eq: Option<Eq>,
}

impl Adapter {
    /// Maps `memory`, switches the function on and makes the command queue.
    #[must_use]
    pub fn new(mut function: Function, memory: &GuestMemory) -> Self {
        function.map(memory).expect("memory is taken");
        function.enable(true);
        let commands = Commands::new(&mut function, memory);
        let mut adapter = Self {
            function,
            memory: memory.clone(),
            commands,
            uar: 0,
            command_eq: None,
            async_eq: None,
            completion_eq: None,
        };
        assert_eq!(adapter.function.read(0x04) >> 16, 5, "command interface");
        assert_eq!(adapter.function.read(0x1fc) >> 31, 0, "initialising");
        adapter
    }

    /// What mlx5_core does until the device is there, without the queries: from ENABLE_HCA to the
    /// event queues.
    pub fn bring_up(&mut self) -> Result<(), Error> {
        self.simple(0x104, 0)?; // ENABLE_HCA
        self.simple(0x10a, 0)?; // QUERY_ISSI
        self.simple(0x107, 0)?; // QUERY_PAGES
        let mut endianness = command(0x805, 32); // ACCESS_REG
        access_register_in::register_id.set(&mut endianness, 0x7004);
        self.execute(&endianness, 32)?;
        self.simple(0x102, 0)?; // INIT_HCA
        self.uar = self.simple(0x802, 0)?; // ALLOC_UAR
        self.command_eq = Some(self.create_eq(4, VECTOR_ASYNC, &[Event::COMMAND])?);
        self.arm_command_eq();
        let events = self.create_eq(6, VECTOR_ASYNC, &ASYNC_EVENTS)?;
        self.update_eq(&events, true);
        self.async_eq = Some(events);
        let completions = self.create_eq(8, VECTOR_COMPLETION, &[])?;
        self.update_eq(&completions, true);
        self.completion_eq = Some(completions);
        Ok(())
    }

    /// Undoes the bring-up. The objects that were made since then should be gone already.
    pub fn tear_down(&mut self) -> Result<(), Error> {
        self.destroy_queues()?;
        self.simple(0x103, 0)?; // TEARDOWN_HCA
        self.simple(0x105, 0)?; // DISABLE_HCA
        Ok(())
    }

    /// Destroys what the bring-up made.
    pub fn destroy_queues(&mut self) -> Result<(), Error> {
        let told = [self.completion_eq.take(), self.async_eq.take()];
        for eq in told.into_iter().flatten() {
            self.destroy_eq(eq.number)?;
        }
        if let Some(eq) = self.command_eq.take() {
            self.destroy_eq(eq.number)?; // from here on by polling
        }
        self.simple(0x803, self.uar)?; // DEALLOC_UAR
        Ok(())
    }

    /// Forgets all event queues, which a reset has ended: commands are polled again.
    pub fn forget_events(&mut self) {
        (self.command_eq, self.async_eq, self.completion_eq) = (None, None, None);
    }

    /// Executes a command that wants `output_len` bytes back: by polling until there is an event
    /// queue for commands, then by its event.
    pub fn execute(&mut self, input: &[u8], output_len: usize) -> Result<Vec<u8>, Error> {
        let prepared = self.commands.prepare(input, output_len);
        self.commands.start(&mut self.function, &prepared);
        match self.command_eq.take() {
            None => self.commands.wait(&prepared),
            Some(mut eq) => {
                let bit = 1 << prepared.number;
                while wait_for("the event of a command", || eq.poll()).number() != bit {}
                self.update_eq(&eq, true);
                self.command_eq = Some(eq);
                assert!(self.commands.is_done(&prepared), "told before it was done");
            }
        }
        self.commands.finish(prepared)
    }

    /// A command that names one object at most; the number that comes back.
    pub fn simple(&mut self, opcode: u16, number: u32) -> Result<u32, Error> {
        let mut input = command(opcode, SHORT);
        request::number.set(&mut input, number.into());
        // The longest of these answers, so that none is cut.
        let output = self.execute(&input, 0x210)?;
        Ok(reply::number.get32(&output))
    }

    fn create(
        &mut self,
        opcode: u16,
        layout: Layout,
        context: (Field, &[(Field, u64)]),
        list: &[u64],
    ) -> Result<u32, Error> {
        let mut input = command(opcode, layout.len);
        fill(&mut input, context);
        self.create_with(input, list)
    }

    fn create_with(&mut self, mut input: Vec<u8>, list: &[u64]) -> Result<u32, Error> {
        input.extend(list.iter().flat_map(|entry| entry.to_be_bytes()));
        let output = self.execute(&input, SHORT)?;
        Ok(reply::number.get32(&output))
    }

    // Event queues.

    /// CREATE_EQ: 2^`log_size` entries, for these kinds of events.
    pub fn create_eq(&mut self, log_size: u32, vector: u32, kinds: &[u8]) -> Result<Eq, Error> {
        let ring = self.memory.pages(event::ENTRY << log_size);
        Eq::clear(&ring);
        let mut input = command(0x301, create_eq_in::LAYOUT.len);
        let context = [
            (eqc::log_eq_size, log_size.into()),
            (eqc::uar_page, self.uar.into()),
            (eqc::intr, vector.into()),
        ];
        fill(&mut input, (create_eq_in::eq_context_entry, &context));
        let mask = create_eq_in::event_bitmask.bytes_mut(&mut input);
        for kind in kinds {
            mask[7 - usize::from(kind / 8)] |= 1 << (kind % 8);
        }
        let number = self.create_with(input, &ring.page_list())?;
        Ok(Eq {
            number: number & 0xff,
            vector,
            consumer: 0,
            ring,
            log_size,
        })
    }

    /// DESTROY_EQ.
    pub fn destroy_eq(&mut self, number: u32) -> Result<(), Error> {
        self.simple(0x302, number).map(drop)
    }

    /// Tells the device how far the consumer is, and that it wants the next interrupt if `arm` is
    /// true.
    pub fn update_eq(&mut self, eq: &Eq, arm: bool) {
        let register = if arm { EQ_ARM } else { EQ_UPDATE };
        let word = eq.number << 24 | eq.consumer & 0xff_ffff;
        self.function.write(self.page() + register, word);
    }

    fn arm_command_eq(&mut self) {
        if let Some(eq) = self.command_eq.take() {
            self.update_eq(&eq, true);
            self.command_eq = Some(eq);
        }
    }

    /// Waits for the next event that is no completion.
    pub fn wait_for_event(&mut self) -> Event {
        let mut eq = self.async_eq.take().expect("it was brought up");
        let event = wait_for("an event", || eq.poll());
        self.update_eq(&eq, true);
        self.async_eq = Some(eq);
        event
    }

    /// The next event that is no completion, if it is there already.
    pub fn event(&mut self) -> Option<Event> {
        self.async_eq.as_mut()?.poll()
    }

    fn page(&self) -> u64 {
        u64::from(self.uar) * PAGE
    }

    // Completion queues.

    /// CREATE_CQ.
    pub fn create_cq(&mut self, options: CqOptions) -> Result<Cq, Error> {
        let eq = self.completion_eq.as_ref().map_or(0, |eq| eq.number);
        self.create_cq_on(eq, options)
    }

    /// CREATE_CQ, on any event queue.
    pub fn create_cq_on(&mut self, eq: u32, options: CqOptions) -> Result<Cq, Error> {
        let ring = self.memory.pages(completion::ENTRY << options.log_size);
        Cq::clear(&ring);
        let doorbell = self.memory.pages(8);
        let context = [
            (cqc::oi, options.ignore_overrun.into()),
            (cqc::log_cq_size, options.log_size.into()),
            (cqc::uar_page, self.uar.into()),
            (cqc::c_eqn_or_apu_element, eq.into()),
            (cqc::dbr_addr, doorbell.addr()),
        ];
        let context = (create_cq_in::cq_context, &context[..]);
        let list = ring.page_list();
        let number = self.create(0x400, create_cq_in::LAYOUT, context, &list)?;
        Ok(Cq {
            number,
            ring,
            log_size: options.log_size,
            doorbell,
            consumer: 0,
            sequence: 0,
            next_ring: None,
        })
    }

    /// DESTROY_CQ.
    pub fn destroy_cq(&mut self, number: u32) -> Result<(), Error> {
        self.simple(0x401, number).map(drop)
    }

    /// MODIFY_CQ: other memory. The consumer goes there when it comes to the completion that says
    /// so.
    pub fn resize_cq(&mut self, cq: &mut Cq, log_size: u32) -> Result<(), Error> {
        let ring = self.memory.pages(completion::ENTRY << log_size);
        Cq::clear(&ring);
        let mut input = command(0x403, modify_cq_in::LAYOUT.len);
        modify_cq_in::op_mod.set(&mut input, 1);
        modify_cq_in::cqn.set(&mut input, cq.number.into());
        let context = [(cqc::log_cq_size, log_size.into())];
        fill(&mut input, (modify_cq_in::cq_context, &context));
        self.create_with(input, &ring.page_list())?;
        cq.next_ring = Some((ring, log_size));
        Ok(())
    }

    /// MODIFY_CQ: an event waits for `count` completions, or for `period` microseconds.
    pub fn moderate_cq(&mut self, cq: &Cq, count: u16, period: u16) -> Result<(), Error> {
        let mut input = command(0x403, modify_cq_in::LAYOUT.len);
        modify_cq_in::cqn.set(&mut input, cq.number.into());
        modify_cq_in::modify_field_select_resize_field_select.set(&mut input, 3);
        let context = [
            (cqc::cq_max_count, count.into()),
            (cqc::cq_period, period.into()),
        ];
        fill(&mut input, (modify_cq_in::cq_context, &context));
        self.execute(&input, SHORT).map(drop)
    }

    /// Asks for an event at the next completion, or at the next solicited one.
    pub fn arm_cq(&mut self, cq: &mut Cq, solicited: bool) {
        let word = cq.arm(solicited);
        let doorbell = u64::from(word) << 32 | u64::from(cq.number);
        self.function.write64(self.page() + CQ_DOORBELL, doorbell);
    }

    /// The same by two writes.
    pub fn arm_cq_in_halves(&mut self, cq: &mut Cq, solicited: bool) {
        let word = cq.arm(solicited);
        let at = self.page() + CQ_DOORBELL;
        self.function.write(at, word);
        self.function.write(at + 4, cq.number);
    }

    // Domains and keys.

    /// ALLOC_PD.
    pub fn alloc_pd(&mut self) -> Result<u32, Error> {
        self.simple(0x800, 0)
    }

    /// DEALLOC_PD.
    pub fn dealloc_pd(&mut self, pd: u32) -> Result<(), Error> {
        self.simple(0x801, pd).map(drop)
    }

    /// ALLOC_XRCD.
    pub fn alloc_xrcd(&mut self) -> Result<u32, Error> {
        self.simple(0x80e, 0)
    }

    /// DEALLOC_XRCD.
    pub fn dealloc_xrcd(&mut self, xrcd: u32) -> Result<(), Error> {
        self.simple(0x80f, xrcd).map(drop)
    }

    /// CREATE_MKEY; the key.
    pub fn create_key(&mut self, key: &Key) -> Result<u32, Error> {
        let mut input = command(0x200, create_mkey_in::LAYOUT.len);
        fill(
            &mut input,
            (create_mkey_in::memory_key_mkey_entry, &key.fields),
        );
        let octowords = key.pages.len().div_ceil(2) as u64;
        create_mkey_in::translations_octword_actual_size.set(&mut input, octowords);
        let list: Vec<_> = key
            .pages
            .iter()
            .map(|page| page | crate::key::PRESENT)
            .collect();
        let index = self.create_with(input, &list)?;
        let variant = key.fields.iter().find(|(field, _)| *field == mkc::mkey_7_0);
        let variant = variant.map_or(0, |&(_, value)| value);
        Ok(index << 8 | u32::try_from(variant).expect("8 bits"))
    }

    /// A key for all of `area`, whose addresses are its own.
    pub fn register(&mut self, pd: u32, rights: u32, area: &Area) -> Result<u32, Error> {
        let pages = area.page_list();
        let key = Key::translated(pd, rights, area.addr(), area.len(), 12, &pages);
        self.create_key(&key)
    }

    /// DESTROY_MKEY.
    pub fn destroy_key(&mut self, key: u32) -> Result<(), Error> {
        self.simple(0x202, key >> 8).map(drop)
    }

    // Shared receive queues.

    /// CREATE_SRQ.
    pub fn create_srq(&mut self, options: SrqOptions) -> Result<Srq, Error> {
        let ring = self.memory.pages(Srq::len(options.log_size));
        let doorbell = self.memory.pages(4);
        let context = [
            (srqc::log_srq_size, options.log_size.into()),
            (srqc::log_rq_stride, Srq::LOG_STRIDE),
            (srqc::xrcd, options.xrcd.into()),
            (srqc::cqn, options.cqn.into()),
            (srqc::pd, options.pd.into()),
            (srqc::dbr_addr, doorbell.addr()),
        ];
        let context = (create_srq_in::srq_context_entry, &context[..]);
        let list = ring.page_list();
        let number = self.create(0x700, create_srq_in::LAYOUT, context, &list)?;
        Ok(Srq {
            number,
            ring,
            doorbell,
            next: 0,
            posted: 0,
        })
    }

    /// DESTROY_SRQ.
    pub fn destroy_srq(&mut self, number: u32) -> Result<(), Error> {
        self.simple(0x701, number).map(drop)
    }

    /// ARM_RQ: an event is wanted when fewer than `limit` requests are left.
    pub fn arm_srq(&mut self, srq: &Srq, limit: u16) -> Result<(), Error> {
        let mut input = command(0x703, arm_rq_in::LAYOUT.len);
        arm_rq_in::srq_number.set(&mut input, srq.number.into());
        arm_rq_in::lwm.set(&mut input, limit.into());
        self.execute(&input, SHORT).map(drop)
    }

    // Queue pairs.

    /// CREATE_QP.
    pub fn create_qp(&mut self, options: QpOptions) -> Result<Qp, Error> {
        let ring = self.memory.pages(Qp::len(&options));
        let doorbell = self.memory.pages(8);
        let (kind, srqn) = match options.receive {
            Receive::Own => (0, 0),
            Receive::Shared(srqn) => (1, srqn),
            Receive::Nowhere => (3, 0),
        };
        let context = [
            (qpc::st, options.service.into()),
            (qpc::pd, options.pd.into()),
            (qpc::log_rq_size, options.log_receive.into()),
            (qpc::log_rq_stride, Qp::LOG_STRIDE.into()),
            (qpc::log_sq_size, options.log_send.into()),
            (qpc::uar_page, self.uar.into()),
            (qpc::cqn_snd, options.send_cq.into()),
            (qpc::cqn_rcv, options.receive_cq.into()),
            (qpc::xrcd, options.xrcd.into()),
            (qpc::dbr_addr, doorbell.addr()),
            (qpc::rq_type, kind),
            (qpc::srqn_rmpn_xrqn, srqn.into()),
        ];
        let list = ring.page_list();
        let context = (create_qp_in::qpc, &context[..]);
        let number = self.create(0x500, create_qp_in::LAYOUT, context, &list)?;
        Ok(Qp {
            number,
            options,
            ring,
            doorbell,
            register: SEND_DOORBELL,
            send_next: 0,
            receive_next: 0,
        })
    }

    /// DESTROY_QP.
    pub fn destroy_qp(&mut self, number: u32) -> Result<(), Error> {
        self.simple(0x501, number).map(drop)
    }

    /// A transition that brings a context.
    pub fn modify_qp(
        &mut self,
        opcode: u16,
        qpn: u32,
        optional: u32,
        values: &[(Field, u64)],
        path: &[(Field, u64)],
        gid: Option<[u8; 16]>,
    ) -> Result<(), Error> {
        let mut input = command(opcode, rst2init_qp_in::LAYOUT.len);
        rst2init_qp_in::qpn.set(&mut input, qpn.into());
        rst2init_qp_in::opt_param_mask.set(&mut input, optional.into());
        fill(&mut input, (rst2init_qp_in::qpc, values));
        let context = rst2init_qp_in::qpc.bytes_mut(&mut input);
        fill(context, (qpc::primary_address_path, path));
        if let Some(gid) = gid {
            let path = qpc::primary_address_path.bytes_mut(context);
            ads::grh.set(path, 1);
            ads::rgid_rip.bytes_mut(path).copy_from_slice(&gid);
        }
        self.execute(&input, SHORT).map(drop)
    }

    /// RST2INIT_QP.
    pub fn to_init(&mut self, qp: &Qp, to: &Connection) -> Result<(), Error> {
        // As the kernel's driver does, which allows no reads and atomics so early.
        let write = u64::from(to.access & access::REMOTE_WRITE != 0);
        let values = [
            (qpc::rwe, write),
            (qpc::q_key, to.qkey.into()),
            (qpc::pd, qp.options.pd.into()),
        ];
        let path = [(ads::vhca_port_num, 1)];
        self.modify_qp(0x502, qp.number, 0, &values, &path, None)
    }

    /// INIT2RTR_QP.
    pub fn to_rtr(&mut self, qp: &Qp, to: &Connection) -> Result<(), Error> {
        let allows = |right| u64::from(to.access & right != 0);
        let values = [
            (qpc::mtu, 5),
            (qpc::log_msg_max, 30),
            (qpc::remote_qpn, to.remote_qpn.into()),
            (qpc::min_rnr_nak, to.min_rnr_nak.into()),
            (qpc::log_rra_max, 4),
            (qpc::rre, allows(access::REMOTE_READ)),
            (qpc::rwe, allows(access::REMOTE_WRITE)),
            (qpc::rae, allows(access::ATOMIC)),
        ];
        let path = [(ads::rlid, to.lid.into())];
        self.modify_qp(0x503, qp.number, OPTIONAL_RIGHTS, &values, &path, to.gid)
    }

    /// RTR2RTS_QP.
    pub fn to_rts(&mut self, qp: &Qp, to: &Connection) -> Result<(), Error> {
        let values = [
            (qpc::retry_count, 7),
            (qpc::rnr_retry, to.rnr_retry.into()),
            (qpc::log_sra_max, 4),
        ];
        self.modify_qp(0x504, qp.number, 0, &values, &[], None)
    }

    /// All the way from reset to ready to send.
    pub fn connect(&mut self, qp: &Qp, to: &Connection) -> Result<(), Error> {
        self.to_init(qp, to)?;
        self.to_rtr(qp, to)?;
        self.to_rts(qp, to)
    }

    /// 2ERR_QP.
    pub fn to_error(&mut self, qp: &Qp) -> Result<(), Error> {
        self.simple(0x507, qp.number).map(drop)
    }

    /// 2RST_QP; its queues are empty afterwards.
    pub fn to_reset(&mut self, qp: &mut Qp) -> Result<(), Error> {
        self.simple(0x50a, qp.number)?;
        (qp.send_next, qp.receive_next) = (0, 0);
        qp.doorbell.write(0, &[0; 8]);
        Ok(())
    }

    /// QUERY_QP: the context.
    pub fn query_qp(&mut self, qp: &Qp) -> Result<Vec<u8>, Error> {
        let mut input = command(0x50b, SHORT);
        request::number.set(&mut input, qp.number.into());
        let output = self.execute(&input, query_qp_out::LAYOUT.len)?;
        Ok(query_qp_out::qpc.bytes(&output).to_vec())
    }

    /// The state that QUERY_QP says, see [`crate::state`].
    pub fn qp_state(&mut self, qp: &Qp) -> Result<u32, Error> {
        Ok(qpc::state.get32(&self.query_qp(qp)?))
    }

    /// Posts a request to a send queue and rings for it.
    pub fn post(&mut self, qp: &mut Qp, request: &Request) {
        let doorbell = qp.prepare(request);
        self.ring(qp, doorbell);
    }

    /// Rings a send queue's doorbell with the first eight bytes of a request.
    pub fn ring(&mut self, qp: &mut Qp, doorbell: u64) {
        let at = self.page() + qp.register;
        self.function.write64(at, doorbell);
        qp.register ^= HALF;
    }

    /// The same by two writes.
    pub fn ring_in_halves(&mut self, qp: &mut Qp, doorbell: u64) {
        let at = self.page() + qp.register;
        for (offset, half) in [(0, doorbell >> 32), (4, doorbell & 0xffff_ffff)] {
            let half = u32::try_from(half).expect("half");
            self.function.write(at + offset, half);
        }
        qp.register ^= HALF;
    }

    /// Changes a key by a request to `qp`; the translations go through `key`, which is physical.
    pub fn post_umr(&mut self, qp: &mut Qp, key: u32, umr: &Umr) {
        let list = (!umr.entries.is_empty()).then(|| {
            let bytes: Vec<u8> = umr
                .entries
                .iter()
                .flat_map(|one| one.to_be_bytes())
                .collect();
            let area = self.memory.pages(bytes.len() as u64);
            area.write(0, &bytes);
            Sge {
                key,
                addr: area.addr(),
                len: u32::try_from(bytes.len()).expect("a list of less than 4 GiB"),
            }
        });
        self.post(qp, &Request::umr(umr, list));
    }
}

/// Sets fields of a context in a command.
fn fill(input: &mut [u8], (context, values): (Field, &[(Field, u64)])) {
    let context = context.bytes_mut(input);
    for &(field, value) in values {
        field.set(context, value);
    }
}
