// SPDX-License-Identifier: MIT OR Apache-2.0
//! Event queues and interrupts.

use crate::harness::Lab;
use connectx_driver::{CqOptions, Event, QpOptions, Request, wait_for};
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);

/// An event queue of four entries on vector 3, with a completion queue and a queue pair.
fn small(lab: &mut Lab) -> (connectx_driver::Eq, crate::harness::End) {
    let eq = lab.adapter.create_eq(2, 3, &[]).unwrap();
    let number = eq.number;
    let cq = lab.adapter.create_cq_on(number, CqOptions::default());
    let cq = cq.unwrap();
    let mut end = lab.end_with(QpOptions::RC, |options| {
        options.send_cq = cq.number;
        options.receive_cq = cq.number;
    });
    end.cq = cq;
    let own = connectx_driver::Connection::to(end.qp.number);
    lab.adapter.connect(&end.qp, &own).unwrap();
    (eq, end)
}

#[test]
fn the_owner_bit_tells_events_from_those_of_the_lap_before() {
    let mut lab = Lab::new();
    let (mut eq, mut end) = small(&mut lab);
    for round in 0..30 {
        lab.adapter.arm_cq(&mut end.cq, false);
        assert_eq!(eq.poll(), None, "round {round}: an old one");
        lab.run_well(&mut end, &Request::new(Request::NOP));
        let event = wait_for("the event", || eq.poll());
        assert_eq!(event.kind, Event::COMPLETION);
        assert_eq!(event.number(), end.cq.number);
        lab.adapter.update_eq(&eq, false);
    }
}

#[test]
fn an_armed_queue_raises_its_vector_once() {
    let mut lab = Lab::new();
    let (mut eq, mut end) = small(&mut lab);
    let nop = Request::new(Request::NOP);
    // Not armed: nothing, until it is.
    lab.adapter.arm_cq(&mut end.cq, false);
    lab.run_well(&mut end, &nop);
    wait_for("the event", || eq.poll());
    assert!(!lab.adapter.function.is_raised(3, NOW));
    eq.consumer -= 1;
    lab.adapter.update_eq(&eq, true);
    assert!(lab.adapter.function.is_raised(3, SOON), "it was pending");
    eq.consumer += 1;
    // Armed: once for two events.
    lab.adapter.update_eq(&eq, true);
    for _ in 0..2 {
        lab.adapter.arm_cq(&mut end.cq, false);
        lab.run_well(&mut end, &nop);
        wait_for("the event", || eq.poll());
    }
    assert!(lab.adapter.function.is_raised(3, SOON));
    lab.settle();
    assert!(!lab.adapter.function.is_raised(3, NOW), "twice");
}

#[test]
fn what_comes_to_a_full_queue_is_lost_and_no_more() {
    let mut lab = Lab::new();
    let (mut eq, mut end) = small(&mut lab);
    let nop = Request::new(Request::NOP);
    for _ in 0..6 {
        lab.adapter.arm_cq(&mut end.cq, false);
        lab.run_well(&mut end, &nop);
    }
    lab.settle();
    for _ in 0..4 {
        assert!(eq.poll().is_some());
    }
    assert_eq!(eq.poll(), None);
    lab.adapter.update_eq(&eq, false);
    lab.adapter.arm_cq(&mut end.cq, false);
    lab.run_well(&mut end, &nop);
    wait_for("the event", || eq.poll());
}

#[test]
fn ends_of_commands_are_told_over_many_laps() {
    let mut lab = Lab::new();
    for _ in 0..100 {
        let pd = lab.adapter.alloc_pd().unwrap();
        lab.adapter.dealloc_pd(pd).unwrap();
    }
    assert!(lab.adapter.function.is_raised(0, NOW));
}

#[test]
fn a_doorbell_may_come_whole_or_in_halves() {
    let mut lab = Lab::new();
    let (mut eq, mut end) = small(&mut lab);
    let nop = Request::new(Request::NOP);
    for halves in [false, true, false, true] {
        if halves {
            lab.adapter.arm_cq_in_halves(&mut end.cq, false);
        } else {
            lab.adapter.arm_cq(&mut end.cq, false);
        }
        let doorbell = end.qp.prepare(&nop);
        if halves {
            lab.adapter.ring_in_halves(&mut end.qp, doorbell);
        } else {
            lab.adapter.ring(&mut end.qp, doorbell);
        }
        end.cq.wait();
        wait_for("the event", || eq.poll());
        lab.adapter.update_eq(&eq, false);
    }
}
