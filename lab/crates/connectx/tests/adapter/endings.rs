// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends: of objects, of mastering the bus, of the device's life.

use crate::harness::{BAD_RESOURCE, End, Lab, pattern};
use connectx_driver::{
    Adapter, Area, Commands, Completion, CqOptions, QpOptions, Request, state, wait_for,
};
use std::fs;

/// Whether a TLP went to one of `areas` since `from`.
fn is_touched(lab: &Lab, from: usize, areas: &[&Area]) -> bool {
    lab.requests()[from..]
        .iter()
        .any(|(request, _)| areas.iter().any(|area| area.contains(request.addr())))
}

#[test]
fn what_was_destroyed_gets_no_more_dma() {
    let mut lab = Lab::recording();
    let eq = lab.adapter.create_eq(4, 2, &[]).unwrap();
    let mut cq = lab
        .adapter
        .create_cq_on(eq.number, CqOptions::default())
        .unwrap();
    let mut end = lab.end_with(QpOptions::RC, |options| {
        options.send_cq = cq.number;
        options.receive_cq = cq.number;
    });
    let own = connectx_driver::Connection::to(end.qp.number);
    lab.adapter.connect(&end.qp, &own).unwrap();
    lab.adapter.arm_cq(&mut cq, false);
    let nop = Request::new(Request::NOP);
    lab.adapter.post(&mut end.qp, &nop);
    wait_for("the completion", || cq.poll());
    let areas = [
        end.qp.area(),
        end.qp.doorbell(),
        cq.area(),
        cq.doorbell(),
        eq.area(),
    ]
    .map(Area::clone);
    let areas: Vec<_> = areas.iter().collect();
    lab.settle();
    assert!(areas.iter().all(|area| is_touched(&lab, 0, &[area])));

    // Posted, and armed, when it ends; then rung for what is no more.
    lab.adapter.arm_cq(&mut cq, false);
    for _ in 0..4 {
        lab.adapter.post(&mut end.qp, &nop);
    }
    lab.adapter.destroy_qp(end.qp.number).unwrap();
    let from = lab.requests().len();
    lab.adapter.post(&mut end.qp, &nop);
    lab.settle();
    assert!(!is_touched(&lab, from, &areas[..2]), "the queue pair");
    lab.adapter.destroy_cq(cq.number).unwrap();
    let from = lab.requests().len();
    lab.adapter.arm_cq(&mut cq, false);
    lab.settle();
    assert!(!is_touched(&lab, from, &areas[..4]), "the completion queue");
    lab.adapter.destroy_eq(eq.number).unwrap();
    let from = lab.requests().len();
    lab.adapter.update_eq(&eq, true);
    let (mut a, b) = lab.pair(QpOptions::RC);
    let write = Request::write(b.key, b.at(0)).inline(&[1]);
    lab.run_well(&mut a, &write);
    lab.settle();
    assert!(!is_touched(&lab, from, &areas), "all");
}

#[test]
fn a_queue_pair_in_error_is_forgotten_with_its_end() {
    let mut lab = Lab::recording();
    let end = lab.end(QpOptions::RC);
    lab.adapter.to_error(&end.qp).unwrap();
    // It is looked at by itself.
    wait_for("a look", || {
        is_touched(&lab, 0, &[end.qp.doorbell()]).then_some(())
    });
    lab.adapter.destroy_qp(end.qp.number).unwrap();
    let from = lab.requests().len();
    std::thread::sleep(std::time::Duration::from_millis(20));
    lab.settle();
    assert!(!is_touched(&lab, from, &[end.qp.area(), end.qp.doorbell()]));
}

#[test]
fn the_memory_of_a_destroyed_key_is_not_reached() {
    let mut lab = Lab::recording();
    let (mut a, b) = lab.pair(QpOptions::RC);
    lab.adapter.destroy_key(b.key).unwrap();
    let from = lab.requests().len();
    let write = Request::write(b.key, b.at(0)).inline(&[1]);
    lab.run_badly(&mut a, &write);
    assert!(!is_touched(&lab, from, &[&b.area]));
    assert_eq!(lab.adapter.destroy_key(b.key), Err(BAD_RESOURCE));
}

/// Posts writes that take a while.
fn post_long_writes(lab: &mut Lab, a: &mut End, b: &End, count: usize) {
    let len = u32::try_from(a.area.len()).unwrap();
    let write = Request::write(b.key, b.at(0)).data(a.segment(0, len));
    for _ in 0..count {
        lab.adapter.post(&mut a.qp, &write);
    }
}

#[test]
fn a_reset_ends_everything_at_once() {
    for flr in [false, true] {
        let mut lab = Lab::recording();
        let (mut a, b) = lab.pair(QpOptions::RC);
        post_long_writes(&mut lab, &mut a, &b, 20);
        if flr {
            lab.adapter.function.function_level_reset();
        } else {
            lab.adapter.function.reset();
        }
        let from = lab.requests().len();
        // The driver finds a new device.
        let Adapter {
            function,
            memory,
            commands,
            ..
        } = &mut lab.adapter;
        function.enable(true);
        *commands = Commands::new(function, memory);
        lab.adapter.forget_events();
        lab.adapter.bring_up().unwrap();
        assert_eq!(lab.adapter.qp_state(&a.qp), Err(BAD_RESOURCE));
        let areas = [a.qp.area(), a.qp.doorbell(), a.cq.area(), &a.area, &b.area];
        assert!(!is_touched(&lab, from, &areas), "nothing of before goes on");
        let (mut a, b) = lab.pair(QpOptions::RC);
        let write = Request::write(b.key, b.at(0)).inline(b"new");
        lab.run_well(&mut a, &write);
        assert_eq!(&b.area.bytes::<3>(0), b"new");
    }
}

#[test]
fn without_bus_mastering_nothing_is_sent_and_the_device_lives() {
    let mut lab = Lab::recording();
    let (mut a, b) = lab.pair(QpOptions::RC);
    post_long_writes(&mut lab, &mut a, &b, 20);
    lab.adapter.function.enable(false);
    let from = lab.requests().len();
    post_long_writes(&mut lab, &mut a, &b, 1);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(lab.requests().len(), from);
    lab.adapter.function.enable(true);
    // The queue pair is lost; others, and commands, are not.
    assert_eq!(lab.state(&a), state::ERROR);
    let (mut a, b) = lab.pair(QpOptions::RC);
    a.area.write(0, &pattern(100, 1));
    let write = Request::write(b.key, b.at(0)).data(a.segment(0, 100));
    lab.run_well(&mut a, &write);
    assert_eq!(b.area.part(0, 100).to_vec(), pattern(100, 1));
}

/// Threads of this process that are called `name`.
fn threads(name: &str) -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|comm| comm.trim_end() == name)
        .count()
}

#[test]
fn the_device_s_thread_ends_when_the_client_goes() {
    let mut lab = Lab::new();
    let engine = format!("{} engine", lab.name);
    assert_eq!(threads(&engine), 1);
    let (mut a, b) = lab.pair(QpOptions::RC);
    post_long_writes(&mut lab, &mut a, &b, 20);
    let running = lab.running.take().unwrap();
    drop(lab);
    running.wait().unwrap();
    assert_eq!(threads(&engine), 0);
}

#[test]
fn what_is_destroyed_in_the_middle_of_its_work_is_gone() {
    let mut lab = Lab::new();
    for _ in 0..20 {
        let (mut a, b) = lab.pair(QpOptions::RC);
        post_long_writes(&mut lab, &mut a, &b, 5);
        lab.adapter.destroy_qp(b.qp.number).unwrap();
        // What was not done by then finds no peer.
        let last = (0..5).map(|_| a.cq.wait()).last().unwrap();
        let done = [Completion::SENT, Completion::SEND_ERROR];
        assert!(done.contains(&last.opcode));
        lab.adapter.destroy_qp(a.qp.number).unwrap();
    }
}
