// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends: of objects, of mastering the bus, of the device's life.

use crate::harness::{BAD_RESOURCE, End, FLUSHED, Lab, RETRY_EXCEEDED, pattern};
use connectx_driver::{
    Adapter, Area, Commands, Completion, CqOptions, LIMIT, QpOptions, Request, state, wait_for,
};
use std::time::Duration;
use std::{fs, iter, thread};

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
    let (end, witness) = (lab.end(QpOptions::RC), lab.end(QpOptions::RC));
    // How often the device has looked whether something was posted to the other one, which is in
    // error from a little later on, and is not destroyed.
    let looks = |lab: &Lab| {
        let doorbell = witness.qp.doorbell();
        let requests = lab.requests().into_iter();
        let of_doorbell = requests.filter(|(request, _)| doorbell.contains(request.addr()));
        of_doorbell.count() / 2 // its sends, its receives
    };
    let more_looks = |lab: &Lab, number| {
        let before = looks(lab);
        wait_for("looks", || (looks(lab) >= before + number).then_some(()));
    };
    lab.adapter.to_error(&end.qp).unwrap();
    lab.adapter.to_error(&witness.qp).unwrap();
    let from = lab.requests().len();
    more_looks(&lab, 2);
    let areas = [end.qp.area(), end.qp.doorbell()];
    assert!(is_touched(&lab, from, &areas), "it is looked at, too");
    lab.adapter.destroy_qp(end.qp.number).unwrap();
    let from = lab.requests().len();
    more_looks(&lab, 2);
    assert!(!is_touched(&lab, from, &areas));
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
    let write = Request::write(b.key, b.at(0)).data(a.sge(0, len));
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
    // The device needs some time to find out: that its queue pair is in error afterwards says that
    // it did.
    let mut pause = Duration::from_millis(1);
    loop {
        let (mut a, b) = lab.pair(QpOptions::RC);
        post_long_writes(&mut lab, &mut a, &b, 20);
        lab.adapter.function.enable(false);
        let from = lab.requests().len();
        post_long_writes(&mut lab, &mut a, &b, 1);
        thread::sleep(pause);
        assert_eq!(lab.requests().len(), from);
        lab.adapter.function.enable(true);
        if lab.state(&a) == state::ERROR {
            break;
        }
        pause *= 2;
        assert!(pause < LIMIT, "the device sends on");
    }
    // Others are not lost, nor are commands.
    let (mut a, b) = lab.pair(QpOptions::RC);
    a.area.write(0, &pattern(100, 1));
    let write = Request::write(b.key, b.at(0)).data(a.sge(0, 100));
    lab.run_well(&mut a, &write);
    assert_eq!(b.area.part(0, 100).to_vec(), pattern(100, 1));
}

#[test]
fn a_queue_pair_in_error_outlives_a_time_without_bus_mastering() {
    let mut lab = Lab::new();
    let mut end = lab.end(QpOptions::RC);
    for rings in [false, true] {
        lab.adapter.to_error(&end.qp).unwrap();
        lab.adapter.function.enable(false);
        if rings {
            lab.adapter.post(&mut end.qp, &Request::new(Request::NOP));
        }
        // The device looks for what was posted after one millisecond, and after two.
        thread::sleep(Duration::from_millis(50));
        lab.adapter.function.enable(true);
        assert_eq!(lab.adapter.event(), None);
        end.receive(0, 64);
        for _ in 0..=usize::from(rings) {
            assert_eq!(end.cq.wait().syndrome, FLUSHED);
        }
        lab.settle();
        assert_eq!(end.cq.poll(), None);
    }
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
    const WRITES: usize = 40;
    // A write that is recorded takes longer than a command to arrive.
    let mut lab = Lab::recording();
    let mut in_the_middle = 0;
    for _ in 0..20 {
        let (mut a, b) = lab.pair(QpOptions::RC);
        post_long_writes(&mut lab, &mut a, &b, WRITES);
        let first = a.cq.wait();
        lab.adapter.destroy_qp(b.qp.number).unwrap();
        let rest = (1..WRITES).map(|_| a.cq.wait());
        let ends: Vec<_> = iter::once(first)
            .chain(rest)
            .map(|completion| (completion.opcode, completion.syndrome))
            .collect();
        // What was not done by then finds no peer, and what follows is flushed.
        let done = ends
            .iter()
            .take_while(|(opcode, _)| *opcode == Completion::SENT)
            .count();
        for (at, end) in ends.iter().enumerate().skip(done) {
            let why = if at == done { RETRY_EXCEEDED } else { FLUSHED };
            assert_eq!(
                *end,
                (Completion::SEND_ERROR, why),
                "write {at} of {ends:x?}"
            );
        }
        in_the_middle += usize::from((1..WRITES).contains(&done));
        lab.adapter.destroy_qp(a.qp.number).unwrap();
    }
    assert!(
        in_the_middle > 0,
        "each was destroyed too early or too late"
    );
}
