// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that are wrong: each gets an answer, and the next one is executed.

use crate::harness::{BAD_QP_STATE, BAD_RESOURCE, BUSY, Lab, cases, words};
use connectx::ifc::create_mkey_in;
use connectx::wire::{mailbox, queue_entry};
use connectx_driver::{
    Adapter, CqOptions, Error, Key, Prepared, QpOptions, Receive, SrqOptions, access, command,
};
use proptest::prelude::*;
use std::cell::RefCell;

/// Opcodes that the model has, and some that it has not.
const OPCODES: [u16; 46] = [
    0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x107, 0x109, 0x10a, 0x200, 0x202, 0x301, 0x302,
    0x400, 0x401, 0x402, 0x403, 0x500, 0x501, 0x502, 0x503, 0x504, 0x505, 0x506, 0x507, 0x50a,
    0x50b, 0x50d, 0x50e, 0x700, 0x701, 0x702, 0x703, 0x762, 0x763, 0x764, 0x765, 0x800, 0x801,
    0x802, 0x803, 0x805, 0x80e, 0x80f, 0, 0xffff,
];

/// A command that needs three mailboxes in each direction.
fn long() -> Vec<u8> {
    command(0x100, 16 + 3 * 512)
}

/// Starts a command whose entry and mailboxes may have been changed; how it ended.
fn submit(adapter: &mut Adapter, prepared: Prepared) -> Result<(), Error> {
    adapter.commands.start(&mut adapter.function, &prepared);
    adapter.commands.wait(&prepared);
    adapter.commands.finish(prepared).map(drop)
}

#[test]
fn each_delivery_error_has_its_status() {
    type Change = fn(&mut Prepared);
    let changes: [(u8, &str, Change); 11] = [
        (0x10, "another kind of entry", |prepared| {
            queue_entry::kind.set(&mut prepared.entry, 6);
        }),
        (7, "no input", |prepared| {
            queue_entry::inlen.set(&mut prepared.entry, 0);
        }),
        (7, "endless input", |prepared| {
            queue_entry::inlen.set(&mut prepared.entry, 0xffff_ffff);
        }),
        (8, "no output", |prepared| {
            queue_entry::outlen.set(&mut prepared.entry, 0);
        }),
        (8, "endless output", |prepared| {
            queue_entry::outlen.set(&mut prepared.entry, 0xffff_ffff);
        }),
        (5, "input that is not aligned", |prepared| {
            let at = prepared.input[0].addr() + 0x40;
            queue_entry::in_ptr.set(&mut prepared.entry, at);
        }),
        (4, "output that is not aligned", |prepared| {
            let at = prepared.output[0].addr() + 0x40;
            queue_entry::out_ptr.set(&mut prepared.entry, at);
        }),
        (6, "input that cannot be reached", |prepared| {
            queue_entry::in_ptr.set(&mut prepared.entry, 0x1000);
        }),
        (2, "a token of something else", |prepared| {
            let token = queue_entry::token.get(&prepared.entry) ^ 1;
            queue_entry::token.set(&mut prepared.entry, token);
        }),
        (3, "mailboxes in another order", |prepared| {
            let at = (mailbox::block_num.offset / 8) as u64;
            prepared.input[1].store(at, 2);
        }),
        (4, "a chain of output that ends early", |prepared| {
            let at = (mailbox::next.offset / 8) as u64;
            prepared.output[0].write(at, &[0; 8]);
        }),
    ];
    let mut lab = Lab::cold(false);
    for (status, what, change) in changes {
        let mut prepared = lab.adapter.commands.prepare(&long(), long().len());
        change(&mut prepared);
        let got = submit(&mut lab.adapter, prepared);
        assert_eq!(got, Err(Error::Delivery(status)), "{what}");
        lab.adapter.simple(0x10a, 0).unwrap();
    }
}

#[test]
fn a_chain_that_never_ends_is_followed_only_as_far_as_the_command_goes() {
    let mut lab = Lab::cold(false);
    let prepared = lab.adapter.commands.prepare(&long(), long().len());
    let at = (mailbox::next.offset / 8) as u64;
    let first = prepared.input[0].addr().to_be_bytes();
    prepared.input[2].write(at, &first);
    submit(&mut lab.adapter, prepared).unwrap();
}

/// What is done to the entry and its chains.
#[derive(Clone, Debug)]
struct Damage {
    in_entry: Option<(usize, u8)>,
    in_mailbox: Option<(usize, usize, u8)>,
}

fn damage() -> impl Strategy<Value = Damage> {
    // Not the last byte of an entry, which says whose it is, nor the data of a mailbox.
    let in_entry = prop::option::of((0usize..0x3f, any::<u8>()));
    let in_mailbox = prop::option::of((0usize..6, 0x230usize..0x240, any::<u8>()));
    (in_entry, in_mailbox).prop_map(|(in_entry, in_mailbox)| Damage {
        in_entry,
        in_mailbox,
    })
}

#[test]
fn a_damaged_entry_or_chain_is_always_given_back() {
    let lab = RefCell::new(Lab::cold(false));
    let config = cases(500);
    proptest!(config, |(damage in damage())| {
        let adapter = &mut lab.borrow_mut().adapter;
        let mut prepared = adapter.commands.prepare(&long(), long().len());
        if let Some((at, byte)) = damage.in_entry {
            prepared.entry[at] = byte;
        }
        if let Some((which, at, byte)) = damage.in_mailbox {
            let chains = [&prepared.input, &prepared.output];
            chains[which / 3][which % 3].write(at as u64, &[byte]);
        }
        // Any answer will do.
        let _ = submit(adapter, prepared);
        prop_assert!(adapter.simple(0x10a, 0).is_ok());
    });
}

#[test]
fn a_command_of_any_length_and_content_is_answered() {
    let lab = RefCell::new(Lab::cold(false));
    let config = cases(600);
    proptest!(config, |(
        opcode in prop::sample::select(OPCODES.to_vec()),
        mut input in words(2..100),
        output_len in 8usize..0x300,
        number in 0u8..6,
    )| {
        input[..2].copy_from_slice(&opcode.to_be_bytes());
        // A number that there may be.
        if let Some(bytes) = input.get_mut(8..12) {
            bytes.copy_from_slice(&[0, 0, 0, number]);
        }
        let adapter = &mut lab.borrow_mut().adapter;
        match adapter.execute(&input, output_len) {
            Ok(output) => prop_assert_eq!(output.len(), output_len),
            Err(error) => prop_assert!(matches!(error, Error::Status(_)), "{}", error),
        }
        prop_assert!(adapter.simple(0x10a, 0).is_ok());
    });
}

#[test]
fn every_length_up_to_the_whole_command_is_answered() {
    let mut lab = Lab::cold(false);
    for opcode in OPCODES {
        for len in (8..=0x120).step_by(4) {
            let answer = lab.adapter.execute(&command(opcode, len), 16);
            assert!(
                !matches!(answer, Err(Error::Delivery(_))),
                "{opcode:#x} of {len} bytes: {answer:?}"
            );
        }
    }
}

#[test]
fn what_is_not_there_cannot_be_used() {
    let mut lab = Lab::new();
    let destroying = [
        0x202, 0x302, 0x401, 0x402, 0x501, 0x507, 0x50a, 0x50b, 0x701, 0x702, 0x703, 0x801, 0x803,
        0x80f,
    ];
    for opcode in destroying {
        let got = lab.adapter.simple(opcode, 0x1234);
        assert_eq!(got, Err(BAD_RESOURCE), "{opcode:#x}");
    }
    // Twice is once too often.
    let pd = lab.adapter.alloc_pd().unwrap();
    lab.adapter.dealloc_pd(pd).unwrap();
    assert_eq!(lab.adapter.dealloc_pd(pd), Err(BAD_RESOURCE));
    // Nor can it be named by what is made.
    let no_cq = QpOptions::new(QpOptions::RC, 1, 0x1234);
    assert_eq!(lab.adapter.create_qp(no_cq).err(), Some(BAD_RESOURCE));
    let made = lab.adapter.create_cq_on(0x33, CqOptions::default());
    assert_eq!(made.err(), Some(BAD_RESOURCE));
}

#[test]
fn what_is_in_use_is_not_destroyed() {
    let mut lab = Lab::new();
    let adapter = &mut lab.adapter;
    let eq = adapter.create_eq(4, 2, &[]).unwrap();
    let cq = adapter
        .create_cq_on(eq.number, CqOptions::default())
        .unwrap();
    let pd = adapter.alloc_pd().unwrap();
    let xrcd = adapter.alloc_xrcd().unwrap();
    let options = SrqOptions {
        log_size: 2,
        pd,
        xrcd,
        cqn: cq.number,
    };
    let srq = adapter.create_srq(options).unwrap();
    let mut options = QpOptions::new(QpOptions::RC, pd, cq.number);
    options.receive = Receive::Shared(srq.number);
    let qp = adapter.create_qp(options).unwrap();
    let key = adapter.create_key(&Key::physical(pd, access::ALL)).unwrap();
    let eq_cq_srq_pd_xrcd = |adapter: &mut Adapter| {
        [
            adapter.destroy_eq(eq.number),
            adapter.destroy_cq(cq.number),
            adapter.destroy_srq(srq.number),
            adapter.dealloc_pd(pd),
            adapter.dealloc_xrcd(xrcd),
        ]
    };
    let busy = Err(BUSY);
    let all = eq_cq_srq_pd_xrcd(adapter);
    assert_eq!(all, [busy; 5], "by a queue pair");
    adapter.destroy_qp(qp.number).unwrap();
    assert_eq!(adapter.destroy_cq(cq.number), busy, "by a shared queue");
    assert_eq!(adapter.dealloc_xrcd(xrcd), busy, "by a shared queue");
    adapter.destroy_srq(srq.number).unwrap();
    assert_eq!(adapter.dealloc_pd(pd), busy, "by a key");
    adapter.destroy_key(key).unwrap();
    assert_eq!(adapter.destroy_eq(eq.number), busy, "by a completion queue");
    adapter.destroy_cq(cq.number).unwrap();
    adapter.destroy_eq(eq.number).unwrap();
    adapter.dealloc_pd(pd).unwrap();
    adapter.dealloc_xrcd(xrcd).unwrap();
}

#[test]
fn a_transition_out_of_order_is_refused_and_changes_nothing() {
    let mut lab = Lab::new();
    let end = lab.end(QpOptions::RC);
    let to = connectx_driver::Connection::to(end.qp.number);
    let before = lab.adapter.query_qp(&end.qp).unwrap();
    assert_eq!(lab.adapter.to_rtr(&end.qp, &to), Err(BAD_QP_STATE));
    assert_eq!(lab.adapter.to_rts(&end.qp, &to), Err(BAD_QP_STATE));
    assert_eq!(lab.adapter.query_qp(&end.qp).unwrap(), before);
    lab.adapter.connect(&end.qp, &to).unwrap();
    assert_eq!(lab.adapter.to_init(&end.qp, &to), Err(BAD_QP_STATE));
    assert_eq!(lab.state(&end), connectx_driver::state::RTS);
}

#[test]
fn a_key_with_an_enormous_table_is_refused() {
    let mut lab = Lab::new();
    let pd = lab.adapter.alloc_pd().unwrap();
    let enormous = Key::pooled(pd, 1 << 32);
    assert_eq!(
        lab.adapter.create_key(&enormous),
        Err(Error::Status(8)),
        "more than the device may keep"
    );
    // As many as for 4 GiB in pages of 4 KiB.
    lab.adapter.create_key(&Key::pooled(pd, 1 << 20)).unwrap();
    let mut input = command(0x200, create_mkey_in::LAYOUT.len);
    create_mkey_in::translations_octword_actual_size.set(&mut input, 0xffff_ffff);
    lab.adapter.execute(&input, 16).unwrap();
}

#[test]
fn commands_are_refused_as_often_as_it_was_asked_for() {
    const REFUSE: u64 = 0x3f_f000;
    const NO_RESOURCES: u8 = 0xf;
    let mut lab = Lab::new();
    lab.adapter.function.write(REFUSE, 0x0800_0002);
    for _ in 0..2 {
        assert_eq!(lab.adapter.alloc_pd(), Err(Error::Status(NO_RESOURCES)));
    }
    let pd = lab.adapter.alloc_pd().unwrap();
    lab.adapter.dealloc_pd(pd).unwrap();
}
