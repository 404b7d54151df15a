// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared receive queues, and extended connections that name them.

use crate::harness::{
    End, LOCAL_LENGTH, LOCAL_PROTECTION, Lab, REMOTE_INVALID, REMOTE_OPERATION, RNR_EXCEEDED,
};
use connectx_driver::{
    Address, Completion, Connection, CqOptions, Event, QpOptions, Receive, Request, Sge, Srq,
    SrqOptions, state,
};

/// A shared queue of eight requests in a domain of its own, with memory for them.
struct Shared {
    srq: Srq,
    /// Its domain and memory; the queue pair is not used.
    own: End,
}

impl Shared {
    fn new(lab: &mut Lab, xrcd: u32, cqn: u32) -> Self {
        let own = lab.end(QpOptions::RC);
        let options = SrqOptions {
            log_size: 3,
            pd: own.pd,
            xrcd,
            cqn,
        };
        let srq = lab.adapter.create_srq(options).unwrap();
        Self { srq, own }
    }

    /// Posts the next request, for 64 bytes at its number, and says which one follows.
    fn post(&mut self, number: u64, following: u16) {
        let sge = self.own.sge(number * 64, 64);
        self.srq.post(sge, following);
    }
}

/// A connection whose one end takes from `shared`.
fn connected(lab: &mut Lab, shared: &Shared) -> (End, End) {
    let number = shared.srq.number;
    let a = lab.end(QpOptions::RC);
    let b = lab.end_with(QpOptions::RC, |options| {
        options.receive = Receive::Shared(number);
    });
    lab.join(&a, &b, |to| to.rnr_retry = 1);
    (a, b)
}

#[test]
fn requests_are_taken_as_the_list_goes() {
    let mut lab = Lab::new();
    let mut shared = Shared::new(&mut lab, 0, 0);
    let (mut a, mut b) = connected(&mut lab, &shared);
    // The list jumps, and comes back.
    for (number, following) in [(0, 5), (5, 2), (2, 7), (7, 0), (0, 1)] {
        shared.post(number, following);
        let text = [number.to_le_bytes()[0]; 16];
        let send = Request::send().inline(&text);
        lab.run_well(&mut a, &send);
        let arrived = b.cq.wait();
        assert_eq!(arrived.opcode, Completion::RECEIVED);
        assert_eq!(u64::from(arrived.counter), number);
        assert_eq!(arrived.srqn, shared.srq.number);
        assert_eq!(arrived.qpn, b.qp.number);
        assert_eq!(shared.own.area.bytes::<16>(number * 64), text);
    }
    assert_eq!(
        lab.run_badly(&mut a, &Request::send().inline(b"none left")),
        RNR_EXCEEDED
    );
}

#[test]
fn several_queue_pairs_share_one_queue() {
    let mut lab = Lab::new();
    let mut shared = Shared::new(&mut lab, 0, 0);
    let mut pairs = [connected(&mut lab, &shared), connected(&mut lab, &shared)];
    for number in 0..6u16 {
        shared.post(number.into(), number + 1);
    }
    for number in 0..6u16 {
        let (a, b) = &mut pairs[usize::from(number % 2)];
        lab.run_well(a, &Request::send().inline(b"text"));
        assert_eq!(b.cq.wait().counter, number);
    }
}

#[test]
fn a_limit_is_told_once_each_time_that_it_is_set() {
    let mut lab = Lab::new();
    let mut shared = Shared::new(&mut lab, 0, 0);
    let (mut a, mut b) = connected(&mut lab, &shared);
    for number in 0..6u16 {
        shared.post(number.into(), number + 1);
    }
    lab.adapter.arm_srq(&shared.srq, 4).unwrap();
    for left in (0..6).rev() {
        lab.run_well(&mut a, &Request::send().inline(b"text"));
        b.cq.wait();
        lab.settle();
        let event = lab.adapter.event();
        assert_eq!(event.is_some(), left == 3, "{left} are left");
        if let Some(event) = event {
            assert_eq!(event.kind, Event::SRQ_LIMIT);
            assert_eq!(event.number(), shared.srq.number);
        }
    }
    // It is below it already.
    lab.adapter.arm_srq(&shared.srq, 2).unwrap();
    assert_eq!(lab.adapter.wait_for_event().kind, Event::SRQ_LIMIT);
}

#[test]
fn the_domain_of_a_shared_queue_is_its_own() {
    let mut lab = Lab::new();
    let mut shared = Shared::new(&mut lab, 0, 0);
    let (mut a, mut b) = connected(&mut lab, &shared);
    // Memory of the queue pair's domain is not memory of the queue's.
    let foreign = b.sge(0, 64);
    shared.srq.post(foreign, 1);
    let send = Request::send().inline(b"text");
    assert_eq!(lab.run_badly(&mut a, &send), REMOTE_OPERATION);
    assert_eq!(b.cq.wait().syndrome, LOCAL_PROTECTION);
}

#[test]
fn the_last_request_of_a_queue_pair_in_error_is_told() {
    let mut lab = Lab::new();
    let mut shared = Shared::new(&mut lab, 0, 0);
    let (mut a, mut b) = connected(&mut lab, &shared);
    shared.post(0, 1);
    lab.adapter.to_error(&b.qp).unwrap();
    let event = lab.adapter.wait_for_event();
    assert_eq!((event.kind, event.number()), (Event::LAST_WQE, b.qp.number));
    assert_eq!(b.cq.poll(), None, "requests stay in the queue");
    // It is in error already.
    lab.adapter.to_error(&b.qp).unwrap();
    lab.settle();
    assert_eq!(lab.adapter.event(), None);
    lab.join_again(&mut a, &mut b);
    lab.run_well(&mut a, &Request::send().inline(b"text"));
    assert_eq!(b.cq.wait().counter, 0);
}

/// An extended connection: its two ends, and a shared queue that may be named, with the queue for
/// its completions.
fn extended(lab: &mut Lab) -> (End, End, Shared, u32) {
    let xrcd = lab.adapter.alloc_xrcd().unwrap();
    let cq = lab.adapter.create_cq(CqOptions::default()).unwrap();
    let mut shared = Shared::new(lab, xrcd, cq.number);
    shared.own.cq = cq;
    let nowhere = |options: &mut QpOptions| {
        options.receive = Receive::Nowhere;
        options.xrcd = xrcd;
    };
    let a = lab.end_with(QpOptions::XRC, nowhere);
    let b = lab.end_with(QpOptions::XRC, nowhere);
    lab.join(&a, &b, |_| {});
    (a, b, shared, xrcd)
}

#[test]
fn a_message_of_an_extended_connection_names_its_queue() {
    let mut lab = Lab::new();
    let (mut a, b, mut shared, _) = extended(&mut lab);
    shared.post(0, 1);
    shared.post(1, 2);
    let srqn = shared.srq.number;
    lab.run_well(&mut a, &Request::send_imm(9).for_srq(srqn).inline(b"named"));
    let arrived = shared.own.cq.wait();
    assert_eq!(arrived.opcode, Completion::RECEIVED_IMM);
    assert_eq!((arrived.immediate, arrived.srqn), (9, srqn));
    assert_eq!(arrived.qpn, b.qp.number);
    assert_eq!(&shared.own.area.bytes::<5>(0), b"named");
    // Writes reach memory of the queue's domain.
    let (key, at) = (shared.own.key, shared.own.at(0x1000));
    let write = Request::write_imm(key, at, 7)
        .for_srq(srqn)
        .inline(b"written");
    lab.run_well(&mut a, &write);
    assert_eq!(shared.own.cq.wait().counter, 1);
    assert_eq!(&shared.own.area.bytes::<7>(0x1000), b"written");
}

#[test]
fn a_queue_of_another_domain_must_not_be_named() {
    let mut lab = Lab::new();
    let (mut a, mut b, shared, _) = extended(&mut lab);
    let other = lab.adapter.alloc_xrcd().unwrap();
    let mut foreign = Shared::new(&mut lab, other, shared.own.cq.number);
    foreign.post(0, 1);
    let (key, at) = (foreign.own.key, foreign.own.at(0));
    let local = a.sge(0, 8);
    for request in [
        Request::send().inline(b"text"),
        Request::write(key, at).inline(b"text"),
        Request::write_imm(key, at, 1).inline(b"text"),
        Request::read(key, at).data(local),
        Request::fetch_add(key, at, 1).data(local),
    ] {
        for srqn in [foreign.srq.number, 0x4711] {
            let request = request.clone().for_srq(srqn);
            assert_eq!(lab.run_badly(&mut a, &request), REMOTE_INVALID);
            assert_eq!(lab.state(&b), state::ERROR);
            assert_eq!(lab.adapter.wait_for_event().kind, Event::WQ_INVALID);
            lab.join_again(&mut a, &mut b);
        }
    }
    assert_eq!(foreign.own.area.bytes::<8>(0), [0; 8]);
}

/// A shared queue whose memory cannot be reached.
fn unreachable(lab: &mut Lab) -> Srq {
    let far = connectx_driver::GuestMemory::new(0x20_0000_0000, 0x10_0000).unwrap();
    lab.adapter.function.map(&far).unwrap();
    let near = std::mem::replace(&mut lab.adapter.memory, far);
    let pd = lab.adapter.alloc_pd().unwrap();
    let options = SrqOptions {
        log_size: 3,
        pd,
        ..SrqOptions::default()
    };
    let srq = lab.adapter.create_srq(options).unwrap();
    let far = std::mem::replace(&mut lab.adapter.memory, near);
    lab.adapter.function.unmap(&far).unwrap();
    srq
}

#[test]
fn a_shared_queue_that_cannot_be_reached_loses_the_receiver_alone() {
    let mut lab = Lab::new();
    let srq = unreachable(&mut lab);
    let mut a = lab.end(QpOptions::RC);
    let b = lab.end_with(QpOptions::RC, |options| {
        options.receive = Receive::Shared(srq.number);
    });
    lab.join(&a, &b, |_| {});
    let send = Request::send().inline(b"text");
    assert_eq!(lab.run_badly(&mut a, &send), REMOTE_OPERATION);
    let event = lab.adapter.wait_for_event();
    assert_eq!(
        (event.kind, event.number()),
        (Event::WQ_CATASTROPHIC, b.qp.number)
    );
    assert_eq!(lab.state(&b), state::ERROR);
}

#[test]
fn a_queue_pair_that_loses_itself_is_lost_once() {
    let mut lab = Lab::new();
    let srq = unreachable(&mut lab);
    for service in [QpOptions::RC, QpOptions::UC, QpOptions::UD] {
        let mut end = lab.end_with(service, |options| {
            options.receive = Receive::Shared(srq.number);
        });
        let own = Connection::to(end.qp.number);
        lab.adapter.connect(&end.qp, &own).unwrap();
        let send = match service {
            QpOptions::UD => Request::send().to(&Address {
                qpn: end.qp.number,
                qkey: 0x1111_1111,
                lid: Connection::LID,
                gid: None,
            }),
            _ => Request::send(),
        };
        lab.adapter.post(&mut end.qp, &send.inline(b"text"));
        let event = lab.adapter.wait_for_event();
        assert_eq!(
            (event.kind, event.number()),
            (Event::WQ_CATASTROPHIC, end.qp.number)
        );
        lab.settle();
        assert_eq!(lab.adapter.event(), None);
        assert_eq!(end.cq.poll(), None, "nothing completes");
        assert_eq!(lab.state(&end), state::ERROR);
    }
}

#[test]
fn a_list_that_ends_at_once_has_no_room() {
    let mut lab = Lab::new();
    let mut shared = Shared::new(&mut lab, 0, 0);
    let (mut a, mut b) = connected(&mut lab, &shared);
    let end_of_list = Sge {
        key: 0x100,
        addr: 0,
        len: 64,
    };
    shared.srq.post(end_of_list, 1);
    let send = Request::send().inline(b"text");
    assert_eq!(lab.run_badly(&mut a, &send), REMOTE_INVALID);
    assert_eq!(b.cq.wait().syndrome, LOCAL_LENGTH);
}
