// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the first command to the last one, and again.

use crate::harness::{BAD_OPCODE, BAD_RESOURCE, Lab, pattern};
use crate::log_lines;
use connectx_driver::{Adapter, Commands, CqOptions, Key, QpOptions, Request, access, state};
use std::ops::Range;

/// What there may be: whose numbers, and the command that destroys one. What uses others comes
/// before them.
const KINDS: [(&str, u16); 8] = [
    ("QP", 0x501),
    ("SRQ", 0x701),
    ("CQ", 0x401),
    ("mkey", 0x202),
    ("PD", 0x801),
    ("XRCD", 0x80f),
    ("EQ", 0x302),
    ("UAR", 0x803),
];
/// More than the tests here create of one kind; the first memory key is number 0x100.
const NUMBERS: Range<u32> = 0..0x140;

/// Destroys whatever there is, and says what that was.
fn destroyed(adapter: &mut Adapter) -> Vec<&'static str> {
    let mut found = vec![];
    for (kind, opcode) in KINDS {
        for number in NUMBERS {
            // The number of an event queue has eight bits.
            if kind == "EQ" && number > 0xff {
                continue;
            }
            match adapter.simple(opcode, number) {
                Ok(_) => found.push(kind),
                Err(error) => assert_eq!(error, BAD_RESOURCE, "{kind} {number:#x}"),
            }
        }
    }
    found
}

#[test]
fn bring_up_makes_what_destroying_it_leaves_nothing_of() {
    let mut lab = Lab::new();
    // Commands are polled from here on, so that the device may forget where it would tell of them.
    lab.adapter.forget_events();
    assert_eq!(destroyed(&mut lab.adapter), ["EQ", "EQ", "EQ", "UAR"]);
    let mut lab = Lab::new();
    lab.adapter.destroy_queues().unwrap();
    assert_eq!(destroyed(&mut lab.adapter), [""; 0]);
}

#[test]
fn what_a_driver_leaves_ends_when_the_device_is_torn_down() {
    for torn_down in [false, true] {
        // Before there is an event queue, so that the end of the last command is seen.
        let mut lab = Lab::cold(false);
        let pd = lab.adapter.alloc_pd().unwrap();
        let all = Key::physical(pd, access::ALL);
        lab.adapter.create_key(&all).unwrap();
        let eq = lab.adapter.create_eq(4, 0, &[]).unwrap();
        let cq = lab
            .adapter
            .create_cq_on(eq.number, CqOptions::default())
            .unwrap();
        let options = QpOptions::new(QpOptions::RC, pd, cq.number);
        lab.adapter.create_qp(options).unwrap();
        let left: &[_] = if torn_down {
            lab.adapter.simple(0x103, 0).unwrap(); // TEARDOWN_HCA
            &[]
        } else {
            &["QP", "CQ", "mkey", "PD", "EQ"]
        };
        assert_eq!(destroyed(&mut lab.adapter), left);
    }
}

#[test]
fn what_was_made_is_there_until_it_is_destroyed() {
    let mut lab = Lab::new();
    let end = lab.end(QpOptions::RC);
    let adapter = &mut lab.adapter;
    assert_eq!(adapter.qp_state(&end.qp), Ok(state::RESET));
    adapter.destroy_qp(end.qp.number).unwrap();
    adapter.destroy_key(end.key).unwrap();
    adapter.destroy_cq(end.cq.number).unwrap();
    assert_eq!(adapter.qp_state(&end.qp), Err(BAD_RESOURCE));
    adapter.destroy_queues().unwrap();
    assert_eq!(destroyed(adapter), ["PD"]);
}

#[test]
fn a_driver_that_comes_back_may_have_its_queue_elsewhere() {
    let mut lab = Lab::new();
    for _ in 0..3 {
        lab.adapter.tear_down().unwrap();
        let Adapter {
            function,
            memory,
            commands,
            ..
        } = &mut lab.adapter;
        let before = commands.area().addr();
        *commands = Commands::new(function, memory);
        assert_ne!(commands.area().addr(), before);
        lab.adapter.bring_up().unwrap();
    }
    let (mut a, b) = lab.pair(QpOptions::RC);
    a.area.write(0, &pattern(64, 1));
    let write = Request::write(b.key, b.at(0)).data(a.sge(0, 64));
    lab.run_well(&mut a, &write);
    assert_eq!(b.area.bytes::<64>(0)[..], pattern(64, 1));
}

#[test]
fn an_unknown_command_is_refused_and_logged() {
    let mut lab = Lab::new();
    assert_eq!(lab.adapter.simple(0xbad, 0), Err(BAD_OPCODE));
    let line = log_lines::find(&["command 0xbad", "refused"]);
    assert!(line.is_some());
    lab.adapter.simple(0x10a, 0).unwrap();
}

#[test]
fn objects_are_made_by_polling_and_by_events() {
    let mut lab = Lab::cold(false);
    // Before there is an event queue.
    let pd = lab.adapter.alloc_pd().unwrap();
    lab.adapter.bring_up().unwrap();
    let other = lab.adapter.alloc_pd().unwrap();
    assert_ne!(pd, other);
    let cq = lab.adapter.create_cq(CqOptions::default()).unwrap();
    let area = lab.adapter.memory.pages(0x5000);
    // A list that does not fit into the first mailbox.
    let large = lab.adapter.memory.pages(0x20_0000);
    for area in [area, large] {
        let key = lab.adapter.register(pd, access::ALL, &area).unwrap();
        lab.adapter.destroy_key(key).unwrap();
    }
    lab.adapter.destroy_cq(cq.number).unwrap();
}
