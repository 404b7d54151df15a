// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completion queues: laps, overrun, other memory, moderation, arming.

use crate::harness::{BAD_SIZE, End, Lab, cases};
use connectx_driver::{Completion, Connection, CqOptions, Event, QpOptions, Request, wait_for};
use proptest::prelude::*;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// A queue pair, connected with itself, that completes to a queue of 2^`log_size`.
fn loopback(lab: &mut Lab, options: CqOptions) -> End {
    let cq = lab.adapter.create_cq(options).unwrap();
    let mut end = lab.end_with(QpOptions::RC, |options| {
        options.send_cq = cq.number;
        options.receive_cq = cq.number;
    });
    end.cq = cq;
    let own = Connection::to(end.qp.number);
    lab.adapter.connect(&end.qp, &own).unwrap();
    end
}

fn of_size(log_size: u32) -> CqOptions {
    CqOptions {
        log_size,
        ..CqOptions::default()
    }
}

/// Posts requests that only complete.
fn post(lab: &mut Lab, end: &mut End, count: u32) {
    for _ in 0..count {
        let nop = Request::new(Request::NOP);
        lab.adapter.post(&mut end.qp, &nop);
    }
}

/// Takes what there is; the places of the requests.
fn take(end: &mut End, count: usize) -> Vec<u16> {
    (0..count).map(|_| end.cq.wait().counter).collect()
}

/// Waits for the device.
fn drained(lab: &mut Lab, posted: u32) {
    for _ in 0..posted {
        lab.settle();
    }
}

#[test]
fn completions_come_in_order_over_many_laps() {
    let mut lab = Lab::new();
    let mut end = loopback(&mut lab, of_size(2));
    let mut expected = 0;
    for count in [1, 4, 3, 2, 4, 4, 1, 3].repeat(4) {
        post(&mut lab, &mut end, count);
        for counter in take(&mut end, count as usize) {
            assert_eq!(counter, expected);
            expected += 1;
        }
        assert_eq!(end.cq.poll(), None);
    }
}

#[test]
fn a_full_queue_is_lost_and_told_once() {
    let mut lab = Lab::new();
    let mut end = loopback(&mut lab, of_size(2));
    post(&mut lab, &mut end, 4);
    drained(&mut lab, 1);
    assert_eq!(lab.adapter.event(), None, "it is full, no more");
    post(&mut lab, &mut end, 3);
    let event = lab.adapter.wait_for_event();
    assert_eq!(
        (event.kind, event.number()),
        (Event::CQ_ERROR, end.cq.number)
    );
    drained(&mut lab, 1);
    assert_eq!(take(&mut end, 4), [0, 1, 2, 3], "what was there is there");
    post(&mut lab, &mut end, 1);
    drained(&mut lab, 1);
    assert_eq!(end.cq.poll(), None, "nothing more comes");
    assert_eq!(lab.adapter.event(), None);
    lab.adapter.destroy_qp(end.qp.number).unwrap();
    lab.adapter.destroy_cq(end.cq.number).unwrap();
}

#[test]
fn a_queue_may_be_made_to_be_overrun() {
    let mut lab = Lab::new();
    let mut end = loopback(
        &mut lab,
        CqOptions {
            log_size: 2,
            ignore_overrun: true,
        },
    );
    post(&mut lab, &mut end, 6);
    drained(&mut lab, 1);
    assert_eq!(lab.adapter.event(), None);
    // The consumer knows; two are overwritten.
    end.cq.consumer = 2;
    assert_eq!(take(&mut end, 4), [2, 3, 4, 5]);
}

#[test]
fn a_queue_goes_on_in_other_memory() {
    let mut lab = Lab::new();
    let mut end = loopback(&mut lab, of_size(3));
    let mut seen = vec![];
    for log_size in [5, 3, 6, 4] {
        post(&mut lab, &mut end, 3);
        drained(&mut lab, 1);
        lab.adapter.resize_cq(&mut end.cq, log_size).unwrap();
        post(&mut lab, &mut end, 3);
        // Three of before, the one that says so, three of after.
        while seen.len() % 6 < 5 {
            seen.extend(take(&mut end, 1));
        }
        seen.extend(take(&mut end, 1));
        assert_eq!(end.cq.size(), 1 << log_size);
    }
    assert_eq!(seen, (0..24).collect::<Vec<_>>());
}

#[test]
fn a_queue_that_is_too_small_for_what_is_there_is_refused() {
    let mut lab = Lab::new();
    let mut end = loopback(&mut lab, of_size(4));
    post(&mut lab, &mut end, 5);
    drained(&mut lab, 1);
    let refused = lab.adapter.resize_cq(&mut end.cq, 2);
    assert_eq!(refused, Err(BAD_SIZE));
    post(&mut lab, &mut end, 1);
    assert_eq!(take(&mut end, 6), [0, 1, 2, 3, 4, 5], "as before");
    // A full one has no room for the completion that says where it goes on.
    post(&mut lab, &mut end, 16);
    drained(&mut lab, 2);
    let refused = lab.adapter.resize_cq(&mut end.cq, 6);
    assert_eq!(refused, Err(BAD_SIZE));
    assert_eq!(take(&mut end, 16), (6..22).collect::<Vec<_>>());
}

#[test]
fn an_event_waits_for_as_many_completions_as_it_is_told() {
    let mut lab = Lab::new();
    let mut end = loopback(&mut lab, of_size(6));
    lab.adapter.moderate_cq(&end.cq, 4, 4095).unwrap();
    let mut eq = lab.adapter.completion_eq.take().unwrap();
    lab.adapter.arm_cq(&mut end.cq, false);
    let before = Instant::now();
    post(&mut lab, &mut end, 3);
    take(&mut end, 3);
    let early = eq.poll();
    // Only if this thread did not sleep meanwhile.
    assert!(early.is_none() || before.elapsed() > Duration::from_millis(4));
    post(&mut lab, &mut end, 1);
    take(&mut end, 1);
    wait_for("the event", || early.or_else(|| eq.poll()));
}

#[test]
fn an_event_waits_no_longer_than_it_is_told() {
    let mut lab = Lab::new();
    let mut end = loopback(&mut lab, of_size(6));
    lab.adapter.moderate_cq(&end.cq, 100, 2000).unwrap();
    let mut eq = lab.adapter.completion_eq.take().unwrap();
    for _ in 0..2 {
        lab.adapter.arm_cq(&mut end.cq, false);
        let before = Instant::now();
        post(&mut lab, &mut end, 1);
        take(&mut end, 1);
        wait_for("the event", || eq.poll());
        assert!(before.elapsed() >= Duration::from_millis(2));
        lab.adapter.update_eq(&eq, true);
    }
}

#[test]
fn only_solicited_completions_and_errors_are_told_if_that_is_wanted() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let mut eq = lab.adapter.completion_eq.take().unwrap();
    lab.adapter.arm_cq(&mut b.cq, true);
    for solicited in [false, true] {
        b.receive(0, 64);
        let send = Request::send().data(a.sge(0, 8));
        let send = if solicited { send.solicited() } else { send };
        lab.run_well(&mut a, &send);
        b.cq.wait();
        lab.settle();
        assert_eq!(eq.poll().is_some(), solicited);
    }
    lab.adapter.update_eq(&eq, true);
    lab.adapter.arm_cq(&mut b.cq, true);
    b.receive(0, 4);
    let send = Request::send().data(a.sge(0, 8));
    lab.adapter.post(&mut a.qp, &send);
    assert_eq!(b.cq.wait().opcode, Completion::RECEIVE_ERROR);
    assert_eq!(wait_for("the event", || eq.poll()).number(), b.cq.number);
}

#[test]
fn who_wants_to_hear_of_everything_does_not_want_less_by_asking_again() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let mut eq = lab.adapter.completion_eq.take().unwrap();
    lab.adapter.arm_cq(&mut b.cq, false);
    lab.adapter.arm_cq(&mut b.cq, true);
    b.receive(0, 64);
    let send = Request::send().data(a.sge(0, 8));
    lab.run_well(&mut a, &send);
    wait_for("the event", || eq.poll());
}

/// What a consumer and its device do, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Complete(u32),
    Poll,
    Arm,
    Event,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u32..4).prop_map(Step::Complete),
        Just(Step::Poll),
        Just(Step::Arm),
        Just(Step::Event),
    ];
    prop::collection::vec(step, 1..24)
}

#[test]
fn a_consumer_that_follows_the_rules_never_sleeps_over_a_completion() {
    let lab = RefCell::new(Lab::new());
    let config = cases(150);
    proptest!(config, |(steps in steps(), moderated: bool)| {
        let lab = &mut *lab.borrow_mut();
        let mut end = loopback(lab, of_size(7));
        if moderated {
            lab.adapter.moderate_cq(&end.cq, 3, 200).unwrap();
        }
        let mut eq = lab.adapter.completion_eq.take().unwrap();
        let mut posted = 0;
        for step in steps {
            match step {
                Step::Complete(count) => {
                    post(lab, &mut end, count);
                    posted += count;
                }
                Step::Poll => while end.cq.poll().is_some() {},
                Step::Arm => lab.adapter.arm_cq(&mut end.cq, false),
                Step::Event => {
                    while eq.poll().is_some() {}
                    lab.adapter.update_eq(&eq, true);
                }
            }
        }
        // The rules: arm, look once more, sleep; when woken, look, and begin again.
        while end.cq.consumer < posted {
            while eq.poll().is_some() {}
            lab.adapter.update_eq(&eq, true);
            lab.adapter.arm_cq(&mut end.cq, false);
            while end.cq.poll().is_some() {}
            if end.cq.consumer < posted {
                wait_for("being woken", || eq.poll());
                while end.cq.poll().is_some() {}
            }
        }
        lab.settle();
        while eq.poll().is_some() {}
        lab.adapter.update_eq(&eq, true);
        lab.adapter.completion_eq = Some(eq);
        lab.adapter.destroy_qp(end.qp.number).unwrap();
        lab.adapter.destroy_key(end.key).unwrap();
        lab.adapter.destroy_cq(end.cq.number).unwrap();
    });
}
