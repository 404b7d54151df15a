// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the first command to the last one, and again.

use crate::harness::{BAD_OPCODE, Lab, pattern};
use crate::log_lines;
use connectx_driver::{Adapter, Commands, CqOptions, Key, QpOptions, Request, access, wait_for};

const NOTHING: &str = "0 UARs, 0 EQs, 0 PDs, 0 mkeys, 0 CQs, 0 SRQs, 0 QPs";

/// What the engine says of its objects at a reset.
fn census(lab: &mut Lab) -> String {
    lab.adapter.function.reset();
    let name = format!("{}: reset with", lab.name);
    wait_for("the census", || log_lines::find(&[&name]))
}

#[test]
fn bring_up_and_tear_down_leave_no_object() {
    let mut lab = Lab::new();
    lab.adapter.destroy_queues().unwrap();
    let line = census(&mut lab);
    assert!(line.ends_with(NOTHING), "{line}");
}

#[test]
fn what_a_driver_leaves_ends_when_the_device_is_torn_down() {
    // Before there is an event queue, so that the end of the last command is seen.
    let mut lab = Lab::cold(false);
    let pd = lab.adapter.alloc_pd().unwrap();
    let all = Key::physical(pd, access::ALL);
    lab.adapter.create_key(&all).unwrap();
    lab.adapter.create_eq(4, 0, &[]).unwrap();
    lab.adapter.simple(0x103, 0).unwrap(); // TEARDOWN_HCA
    let line = census(&mut lab);
    assert!(line.ends_with(NOTHING), "{line}");
}

#[test]
fn what_was_made_is_there_until_it_is_destroyed() {
    let mut lab = Lab::new();
    let end = lab.end(QpOptions::RC);
    let adapter = &mut lab.adapter;
    adapter.destroy_qp(end.qp.number).unwrap();
    adapter.destroy_key(end.key).unwrap();
    adapter.destroy_cq(end.cq.number).unwrap();
    let line = census(&mut lab);
    assert!(
        line.ends_with("1 UARs, 3 EQs, 1 PDs, 0 mkeys, 0 CQs, 0 SRQs, 0 QPs"),
        "{line}"
    );
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
    let write = Request::write(b.key, b.at(0)).data(a.segment(0, 64));
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
