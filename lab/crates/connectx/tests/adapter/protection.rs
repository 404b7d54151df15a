// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is not allowed: both sides hear of it as they should, go into error, and work again
//! afterwards.

use crate::harness::{
    End, FLUSHED, LOCAL_LENGTH, LOCAL_OPERATION, LOCAL_PROTECTION, Lab, REMOTE_ACCESS,
    REMOTE_INVALID, REMOTE_OPERATION, RETRY_EXCEEDED,
};
use connectx_driver::{Completion, Connection, Event, Key, QpOptions, Request, Sge, access, state};

const ALL_BUT_WRITE: u32 = access::ALL & !access::REMOTE_WRITE;

/// Both ends work, also if they were in error.
fn work_again(lab: &mut Lab, a: &mut End, b: &mut End) {
    lab.join_again(a, b);
    while a.cq.poll().is_some() || b.cq.poll().is_some() {}
    b.receive(0x100, 64);
    let send = Request::send().inline(b"again");
    lab.run_well(a, &send);
    assert_eq!(b.cq.wait().opcode, Completion::RECEIVED);
    assert_eq!(&b.area.bytes::<5>(0x100), b"again");
}

/// A request that the requester itself may not make: only it goes into error.
fn fails_locally(lab: &mut Lab, a: &mut End, b: &mut End, request: &Request, syndrome: u8) {
    assert_eq!(lab.run_badly(a, request), syndrome);
    assert_eq!(lab.state(b), state::RTS);
    assert_eq!(b.cq.poll(), None);
    work_again(lab, a, b);
}

/// A request that the responder does not allow: both go into error.
fn is_refused(lab: &mut Lab, a: &mut End, b: &mut End, request: &Request, syndrome: u8) {
    assert_eq!(lab.run_badly(a, request), syndrome);
    assert_eq!(lab.state(b), state::ERROR);
    let event = lab.adapter.wait_for_event();
    let kind = match syndrome {
        REMOTE_ACCESS => Event::WQ_ACCESS,
        _ => Event::WQ_INVALID,
    };
    assert_eq!((event.kind, event.number()), (kind, b.qp.number));
    assert_eq!(b.cq.poll(), None);
    work_again(lab, a, b);
}

/// Requests of all kinds that read or write `local`.
fn all_with(b: &End, local: Sge) -> [(Request, bool); 6] {
    let at = b.at(0);
    [
        (Request::write(b.key, at).data(local), false),
        (Request::send().data(local), false),
        (Request::write_imm(b.key, at, 1).data(local), false),
        (Request::read(b.key, at).data(local), true),
        (Request::fetch_add(b.key, at, 1).data(local), true),
        (Request::compare_swap(b.key, at, 1, 2).data(local), true),
    ]
}

#[test]
fn a_bad_local_key_is_a_local_protection_error() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let free = lab.adapter.create_key(&Key::pooled(a.pd, 16)).unwrap();
    let mut gone = lab.adapter.register(a.pd, access::ALL, &a.area).unwrap();
    lab.adapter.destroy_key(gone).unwrap();
    gone &= !0xff;
    let (good, end) = (a.key, a.at(a.area.len()));
    for (what, key, addr, len) in [
        ("there is none", 0x00ff_ff00, a.at(0), 8),
        ("it was destroyed", gone, a.at(0), 8),
        ("it is free", free, a.at(0), 8),
        ("its variant is another", good ^ 1, a.at(0), 8),
        ("it belongs to another domain", b.key, b.at(0), 8),
        ("before its beginning", good, a.at(0) - 1, 8),
        ("beyond its end", good, end - 7, 8),
        ("round the end of all addresses", good, u64::MAX - 3, 8),
    ] {
        println!("{what}");
        for (request, _) in all_with(&b, Sge { key, addr, len }) {
            fails_locally(&mut lab, &mut a, &mut b, &request, LOCAL_PROTECTION);
        }
    }
}

#[test]
fn a_local_key_needs_the_right() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    for (writes, right) in [(false, access::LOCAL_READ), (true, access::LOCAL_WRITE)] {
        let rights = access::ALL & !right;
        let key = lab.adapter.register(a.pd, rights, &a.area).unwrap();
        let (addr, len) = (a.at(0), 8);
        for (request, request_writes) in all_with(&b, Sge { key, addr, len }) {
            if writes == request_writes {
                fails_locally(&mut lab, &mut a, &mut b, &request, LOCAL_PROTECTION);
            }
        }
    }
}

#[test]
fn nothing_is_there_where_a_key_has_no_translation() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    // Two pages are promised, one is there.
    let hole = |end: &End| {
        let page = end.area.page_list()[0];
        Key::translated(end.pd, access::ALL, end.at(0), 0x2000, 12, &[page])
    };
    let local = lab.adapter.create_key(&hole(&a)).unwrap();
    let sge = Sge {
        key: local,
        addr: a.at(0xff8),
        len: 16,
    };
    let write = Request::write(b.key, b.at(0)).data(sge);
    fails_locally(&mut lab, &mut a, &mut b, &write, LOCAL_PROTECTION);
    let remote = lab.adapter.create_key(&hole(&b)).unwrap();
    let write = Request::write(remote, b.at(0xff8)).data(a.sge(0, 16));
    is_refused(&mut lab, &mut a, &mut b, &write, REMOTE_ACCESS);
    let read = Request::read(remote, b.at(0xff8)).data(a.sge(0, 16));
    is_refused(&mut lab, &mut a, &mut b, &read, REMOTE_ACCESS);
    // With immediate data, the receive request is not taken: the next message takes it.
    b.receive(0x100, 64);
    let write = Request::write_imm(b.key, b.at(0), 1).data(sge);
    assert_eq!(lab.run_badly(&mut a, &write), LOCAL_PROTECTION);
    assert_eq!((lab.state(&b), b.cq.poll()), (state::RTS, None));
    lab.adapter.to_reset(&mut a.qp).unwrap();
    let to = Connection::to(b.qp.number);
    lab.adapter.connect(&a.qp, &to).unwrap();
    lab.run_well(&mut a, &Request::send().inline(b"next"));
    let arrived = b.cq.wait();
    assert_eq!((arrived.opcode, arrived.counter), (Completion::RECEIVED, 1));
    // Where the responder goes into error, it is flushed.
    b.receive(0x100, 64);
    let write = Request::write_imm(remote, b.at(0xff8), 1).data(a.sge(0, 16));
    assert_eq!(lab.run_badly(&mut a, &write), REMOTE_ACCESS);
    let event = lab.adapter.wait_for_event();
    assert_eq!(
        (event.kind, event.number()),
        (Event::WQ_ACCESS, b.qp.number)
    );
    let flushed = b.cq.wait();
    assert_eq!(flushed.opcode, Completion::RECEIVE_ERROR);
    assert_eq!((flushed.syndrome, flushed.counter), (FLUSHED, 2));
    work_again(&mut lab, &mut a, &mut b);
}

#[test]
fn a_bad_remote_key_is_a_remote_access_error() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let free = lab.adapter.create_key(&Key::pooled(b.pd, 16)).unwrap();
    let end = b.at(b.area.len());
    for (what, key, addr) in [
        ("there is none", 0x00ff_ff00, b.at(0)),
        ("it is free", free, b.at(0)),
        ("its variant is another", b.key ^ 1, b.at(0)),
        ("it belongs to another domain", a.key, a.at(0)),
        ("before its beginning", b.key, b.at(0) - 8),
        ("beyond its end", b.key, end),
        ("at the end of all addresses", b.key, u64::MAX - 7),
    ] {
        println!("{what}");
        for request in [
            Request::write(key, addr),
            Request::write_imm(key, addr, 1),
            Request::read(key, addr),
            Request::fetch_add(key, addr & !7, 1),
            Request::compare_swap(key, addr & !7, 1, 2),
        ] {
            let request = request.data(a.sge(0, 8));
            is_refused(&mut lab, &mut a, &mut b, &request, REMOTE_ACCESS);
        }
    }
}

/// The three kinds of remote access and their rights.
fn remote_kinds(key: u32, b: &End, a: &End) -> [(Request, u32); 3] {
    let (at, local) = (b.at(0), a.sge(0, 8));
    [
        (Request::write(key, at).data(local), access::REMOTE_WRITE),
        (Request::read(key, at).data(local), access::REMOTE_READ),
        (Request::fetch_add(key, at, 1).data(local), access::ATOMIC),
    ]
}

#[test]
fn a_remote_key_needs_the_right() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    for right in [access::REMOTE_WRITE, access::REMOTE_READ, access::ATOMIC] {
        let only = lab.adapter.register(b.pd, right, &b.area).unwrap();
        for (request, needed) in remote_kinds(only, &b, &a) {
            if needed == right {
                lab.run_well(&mut a, &request);
            } else {
                is_refused(&mut lab, &mut a, &mut b, &request, REMOTE_ACCESS);
            }
        }
    }
}

#[test]
fn a_queue_pair_needs_the_right_too() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.end(QpOptions::RC), lab.end(QpOptions::RC));
    for right in [access::REMOTE_WRITE, access::REMOTE_READ, access::ATOMIC] {
        for (request, needed) in remote_kinds(b.key, &b, &a) {
            for end in [&mut a, &mut b] {
                lab.adapter.to_reset(&mut end.qp).unwrap();
            }
            lab.join(&a, &b, |to| to.access = right);
            if needed == right {
                lab.run_well(&mut a, &request);
            } else {
                is_refused(&mut lab, &mut a, &mut b, &request, REMOTE_ACCESS);
            }
        }
    }
}

#[test]
fn a_receive_request_that_cannot_be_used_fails_on_both_sides() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let read_only = lab.adapter.register(b.pd, access::LOCAL_READ, &b.area);
    let read_only = read_only.unwrap();
    for (what, key, addr) in [
        ("there is none", 0x00ff_ff00, b.at(0)),
        ("it belongs to another domain", a.key, a.at(0)),
        ("it does not reach so far", b.key, b.at(0) - 1),
        ("it does not allow that", read_only, b.at(0)),
    ] {
        println!("{what}");
        b.qp.post_receive(&[Sge { key, addr, len: 64 }]);
        b.receive(0, 64);
        let send = Request::send().data(a.sge(0, 8));
        assert_eq!(lab.run_badly(&mut a, &send), REMOTE_OPERATION);
        let failed = b.cq.wait();
        assert_eq!(failed.opcode, Completion::RECEIVE_ERROR);
        assert_eq!((failed.syndrome, failed.counter), (LOCAL_PROTECTION, 0));
        assert_eq!(b.cq.wait().syndrome, FLUSHED);
        assert_eq!(lab.state(&b), state::ERROR);
        work_again(&mut lab, &mut a, &mut b);
        lab.join_again(&mut a, &mut b);
    }
}

#[test]
fn a_message_that_is_too_long_fails_on_both_sides() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    b.receive(0, 63);
    let send = Request::send().data(a.sge(0, 64));
    assert_eq!(lab.run_badly(&mut a, &send), REMOTE_INVALID);
    assert_eq!(b.cq.wait().syndrome, LOCAL_LENGTH);
    assert_eq!(lab.state(&b), state::ERROR);
    assert_eq!(b.area.bytes::<64>(0), [0; 64]);
    work_again(&mut lab, &mut a, &mut b);
}

#[test]
fn nobody_at_the_other_end_is_a_retry_that_is_exceeded() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let other = lab.end(QpOptions::RC);
    let write = Request::write(b.key, b.at(0)).inline(&[1]);
    // It is in error; it is not ready; it has another peer; it is another kind; it is elsewhere.
    lab.adapter.to_error(&b.qp).unwrap();
    assert_eq!(lab.run_badly(&mut a, &write), RETRY_EXCEEDED);
    work_again(&mut lab, &mut a, &mut b);
    lab.adapter.to_reset(&mut b.qp).unwrap();
    assert_eq!(lab.run_badly(&mut a, &write), RETRY_EXCEEDED);
    work_again(&mut lab, &mut a, &mut b);
    let unreliable = lab.end(QpOptions::UC);
    let stranger = Connection::to(a.qp.number);
    lab.adapter.connect(&unreliable.qp, &stranger).unwrap();
    lab.adapter
        .connect(&other.qp, &Connection::to(b.qp.number))
        .unwrap();
    for to in [
        Connection::to(other.qp.number),
        Connection::to(unreliable.qp.number),
        Connection::to(0x4711),
        Connection {
            lid: 2,
            ..Connection::to(b.qp.number)
        },
    ] {
        lab.adapter.to_reset(&mut a.qp).unwrap();
        lab.adapter.connect(&a.qp, &to).unwrap();
        assert_eq!(lab.run_badly(&mut a, &write), RETRY_EXCEEDED, "{to:?}");
    }
    assert_eq!(b.area.bytes::<1>(0), [0]);
}

#[test]
fn a_request_that_makes_no_sense_is_a_local_operation_error() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    for request in [
        Request::new(0x77),
        Request::new(Request::WRITE),
        Request::new(Request::READ),
        Request::new(Request::FETCH_ADD),
        Request::new(Request::UMR),
        Request::fetch_add(b.key, b.at(0), 1).data(a.sge(0, 4)),
    ] {
        fails_locally(&mut lab, &mut a, &mut b, &request, LOCAL_OPERATION);
    }
    let odd = Request::fetch_add(b.key, b.at(4), 1).data(a.sge(0, 8));
    is_refused(&mut lab, &mut a, &mut b, &odd, REMOTE_INVALID);
}

#[test]
fn what_was_posted_is_flushed_in_its_order() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    for offset in 0..3 {
        b.receive(offset * 64, 64);
        a.receive(offset * 64, 64);
    }
    let key = lab.adapter.register(b.pd, ALL_BUT_WRITE, &b.area).unwrap();
    let bad = Request::write(key, b.at(0)).inline(&[1]);
    let doorbells: Vec<_> = (0..4).map(|_| a.qp.prepare(&bad.clone().quiet())).collect();
    lab.adapter.ring(&mut a.qp, doorbells[3]);
    let seen: Vec<_> = (0..7)
        .map(|_| a.cq.wait())
        .map(|one| (one.opcode, one.counter, one.syndrome))
        .collect();
    let send = Completion::SEND_ERROR;
    let receive = Completion::RECEIVE_ERROR;
    assert_eq!(
        seen,
        [
            (send, 0, REMOTE_ACCESS),
            (send, 1, FLUSHED),
            (send, 2, FLUSHED),
            (send, 3, FLUSHED),
            (receive, 0, FLUSHED),
            (receive, 1, FLUSHED),
            (receive, 2, FLUSHED),
        ]
    );
    for counter in 0..3 {
        let flushed = b.cq.wait();
        assert_eq!((flushed.counter, flushed.syndrome), (counter, FLUSHED));
    }
    work_again(&mut lab, &mut a, &mut b);
}

#[test]
fn what_is_posted_to_a_queue_pair_in_error_is_flushed_too() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    lab.adapter.to_error(&a.qp).unwrap();
    assert_eq!(a.cq.poll(), None);
    for round in 0..3u16 {
        // Nobody rings for this one.
        a.receive(0, 64);
        let flushed = a.cq.wait();
        assert_eq!(flushed.opcode, Completion::RECEIVE_ERROR);
        assert_eq!((flushed.counter, flushed.syndrome), (round, FLUSHED));
        let flushed = lab.run(&mut a, &Request::new(Request::NOP));
        assert_eq!(flushed.opcode, Completion::SEND_ERROR);
        assert_eq!((flushed.counter, flushed.syndrome), (round, FLUSHED));
    }
    work_again(&mut lab, &mut a, &mut b);
}

#[test]
fn nothing_but_the_state_changes_by_an_error() {
    let mut lab = Lab::new();
    let (a, _) = lab.pair(QpOptions::RC);
    let before = lab.adapter.query_qp(&a.qp).unwrap();
    // 2ERR with all that other transitions bring.
    lab.adapter
        .modify_qp(0x507, a.qp.number, !0, &[], &[], None)
        .unwrap();
    let mut after = lab.adapter.query_qp(&a.qp).unwrap();
    assert_ne!(after, before);
    connectx::ifc::qpc::state.set(&mut after, 3);
    assert_eq!(after, before);
}
