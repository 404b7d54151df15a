// SPDX-License-Identifier: MIT OR Apache-2.0
//! What connected queue pairs do for each other when all is well.

use crate::harness::{End, LOCAL_OPERATION, Lab, RNR_EXCEEDED, cases, pattern};
use connectx_driver::{Completion, Connection, QpOptions, Request, Sge, access, state};
use proptest::prelude::*;
use std::cell::RefCell;
use std::time::{Duration, Instant};

#[test]
fn a_write_arrives_and_the_peer_does_not_hear_of_it() {
    let mut lab = Lab::new();
    for service in [QpOptions::RC, QpOptions::UC] {
        let (mut a, mut b) = lab.pair(service);
        a.area.write(0x100, &pattern(5000, 3));
        let write = Request::write(b.key, b.at(0x777)).data(a.sge(0x100, 5000));
        let completion = lab.run_well(&mut a, &write);
        assert_eq!(completion.qpn, a.qp.number);
        assert_eq!(completion.request, Request::WRITE);
        assert_eq!(completion.bytes, 5000);
        assert_eq!(b.area.part(0x777, 5000).to_vec(), pattern(5000, 3));
        assert_eq!(b.area.bytes::<1>(0x776), [0]);
        assert_eq!(b.area.bytes::<1>(0x777 + 5000), [0]);
        assert_eq!(b.cq.poll(), None);
    }
}

#[test]
fn a_write_with_immediate_data_takes_a_receive_request() {
    let mut lab = Lab::new();
    for service in [QpOptions::RC, QpOptions::UC] {
        let (mut a, mut b) = lab.pair(service);
        b.receive(0x8000, 16);
        a.area.write(0, &pattern(64, 5));
        let write = Request::write_imm(b.key, b.at(0), 0xcafe_f00d).data(a.sge(0, 64));
        lab.run_well(&mut a, &write);
        let arrived = b.cq.wait();
        assert_eq!(arrived.opcode, Completion::WRITTEN);
        assert_eq!((arrived.immediate, arrived.bytes), (0xcafe_f00d, 64));
        assert_eq!((arrived.qpn, arrived.counter), (b.qp.number, 0));
        assert_eq!(b.area.bytes::<64>(0)[..], pattern(64, 5));
        assert_eq!(b.area.bytes::<16>(0x8000), [0; 16], "not there");
    }
}

#[test]
fn messages_take_receive_requests_in_their_order() {
    let mut lab = Lab::new();
    for service in [QpOptions::RC, QpOptions::UC] {
        let (mut a, mut b) = lab.pair(service);
        // More than the receive queue holds, so that it wraps.
        for number in 0..80u16 {
            let seed = number.to_le_bytes()[0];
            b.receive(u64::from(number) * 64, 64);
            a.area.write(0, &pattern(48, seed));
            let request = match number % 2 {
                0 => Request::send(),
                _ => Request::send_imm(number.into()),
            };
            let request = request.data(a.sge(0, 48));
            lab.run_well(&mut a, &request);
            let arrived = b.cq.wait();
            let (opcode, immediate) = match number % 2 {
                0 => (Completion::RECEIVED, 0),
                _ => (Completion::RECEIVED_IMM, number.into()),
            };
            assert_eq!((arrived.opcode, arrived.immediate), (opcode, immediate));
            assert_eq!((arrived.counter, arrived.bytes), (number, 48));
            let at = u64::from(number) * 64;
            assert_eq!(b.area.bytes::<48>(at)[..], pattern(48, seed));
        }
    }
}

#[test]
fn a_read_brings_what_the_peer_has() {
    let mut lab = Lab::new();
    let (mut a, b) = lab.pair(QpOptions::RC);
    b.area.write(0x123, &pattern(9000, 7));
    let read = Request::read(b.key, b.at(0x123)).data(a.sge(0x456, 9000));
    assert_eq!(lab.run_well(&mut a, &read).bytes, 9000);
    assert_eq!(a.area.part(0x456, 9000).to_vec(), pattern(9000, 7));
}

#[test]
fn an_unreliable_connection_does_not_read() {
    let mut lab = Lab::new();
    let (mut a, b) = lab.pair(QpOptions::UC);
    let read = Request::read(b.key, b.at(0)).data(a.sge(0, 8));
    assert_eq!(lab.run_badly(&mut a, &read), LOCAL_OPERATION);
}

#[test]
fn atomics_change_memory_and_bring_what_was_there() {
    let mut lab = Lab::new();
    let (mut a, b) = lab.pair(QpOptions::RC);
    let value = |end: &End, at| u64::from_le_bytes(end.area.bytes(at));
    b.area.write(8, &7u64.to_le_bytes());
    let (key, at) = (b.key, b.at(8));
    for (request, before, after) in [
        (Request::fetch_add(key, at, 5), 7, 12),
        (Request::fetch_add(key, at, u64::MAX), 12, 11),
        (Request::compare_swap(key, at, 11, 100), 11, 100),
        (Request::compare_swap(key, at, 11, 200), 100, 100),
    ] {
        let request = request.data(a.sge(0x10, 8));
        assert_eq!(lab.run_well(&mut a, &request).bytes, 8);
        assert_eq!((value(&a, 0x10), value(&b, 8)), (before, after));
    }
}

#[test]
fn inline_data_is_a_part_of_the_request() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    for len in [0, 1, 12, 28, 60, 300] {
        let write = Request::write(b.key, b.at(0)).inline(&pattern(len, 9));
        lab.run_well(&mut a, &write);
        assert_eq!(b.area.part(0, len as u64).to_vec(), pattern(len, 9));
        b.receive(0x1000, 512);
        let send = Request::send().inline(&pattern(len, 11));
        lab.run_well(&mut a, &send);
        assert_eq!(b.cq.wait().bytes as usize, len);
        assert_eq!(b.area.part(0x1000, len as u64).to_vec(), pattern(len, 11));
    }
}

#[test]
fn pieces_are_gathered_and_scattered_across_pages() {
    let lab = RefCell::new(Lab::new());
    let pair = RefCell::new(lab.borrow_mut().pair(QpOptions::RC));
    let pieces = |count| prop::collection::vec((0u64..0xc000, 0u32..5000), 1..count);
    proptest!(cases(60), |(from in pieces(6), to in pieces(4), seed: u8)| {
        let (lab, (a, b)) = (&mut *lab.borrow_mut(), &mut *pair.borrow_mut());
        let room: u32 = to.iter().map(|(_, len)| len).sum();
        let mut left = room;
        let mut message = vec![];
        let mut send = Request::send();
        a.area.write(0, &pattern(0xe000, seed));
        for (offset, len) in from {
            let len = len.min(left);
            left -= len;
            message.extend(a.area.part(offset, len.into()).to_vec());
            send = send.data(a.sge(offset, len));
        }
        let segments: Vec<Sge> = to.iter().map(|&(at, len)| b.sge(at, len)).collect();
        b.qp.post_receive(&segments);
        b.area.write(0, &vec![0; 0x1_0000]);
        // What the pieces make of memory, one after the other.
        let mut expected = vec![0; 0x1_0000];
        let mut rest = &message[..];
        for (at, len) in to {
            let (front, back) = rest.split_at(rest.len().min(len as usize));
            let at = usize::try_from(at).unwrap();
            expected[at..at + front.len()].copy_from_slice(front);
            rest = back;
        }
        lab.run_well(a, &send);
        let arrived = b.cq.wait();
        prop_assert_eq!(arrived.bytes as usize, message.len());
        prop_assert!(b.area.to_vec() == expected);
    });
}

#[test]
fn a_request_may_go_round_the_end_of_its_queue() {
    let mut lab = Lab::new();
    let mut a = lab.end_with(QpOptions::RC, |options| options.log_send = 2);
    let b = lab.end(QpOptions::RC);
    lab.join(&a, &b, |_| {});
    let mut next = 0;
    for round in 0..20u8 {
        let data = pattern(100, round);
        // Three blocks of four.
        let write = Request::write(b.key, b.at(0)).inline(&data);
        let completion = lab.run_well(&mut a, &write);
        assert_eq!(completion.counter, next, "its first block");
        next += 3;
        assert_eq!(b.area.part(0, 100).to_vec(), data);
    }
}

#[test]
fn a_quiet_request_completes_only_if_it_fails() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    let write = Request::write(b.key, b.at(0)).inline(&[1]);
    lab.adapter.post(&mut a.qp, &write.clone().quiet());
    let completion = lab.run_well(&mut a, &write);
    assert_eq!(completion.counter, 1, "that of the second one");
    assert_eq!(a.cq.poll(), None);
    let bad = Request::write(0x0047_1100, b.at(0)).inline(&[1]).quiet();
    lab.run_badly(&mut a, &bad);
    lab.join_again(&mut a, &mut b);
}

#[test]
fn a_queue_pair_may_be_its_own_peer() {
    let mut lab = Lab::new();
    let mut end = lab.end(QpOptions::RC);
    let own = Connection::to(end.qp.number);
    lab.adapter.connect(&end.qp, &own).unwrap();
    end.area.write(0, &pattern(100, 1));
    end.receive(0x1000, 200);
    let send = Request::send().data(end.sge(0, 100));
    lab.adapter.post(&mut end.qp, &send);
    let opcodes = [end.cq.wait().opcode, end.cq.wait().opcode];
    assert_eq!(opcodes, [Completion::RECEIVED, Completion::SENT]);
    assert_eq!(end.area.part(0x1000, 100).to_vec(), pattern(100, 1));
    // And its own enemy: each request completes once.
    let bad = Request::write(end.key + 1, end.at(0)).inline(&[1]);
    lab.adapter.post(&mut end.qp, &bad);
    lab.adapter.post(&mut end.qp, &bad);
    end.receive(0, 8);
    let syndromes: Vec<_> = (0..3).map(|_| end.cq.wait().syndrome).collect();
    assert_eq!(syndromes, [0x13, 0x05, 0x05]);
    lab.settle();
    assert_eq!(end.cq.poll(), None);
    assert_eq!(lab.state(&end), state::ERROR);
}

#[test]
fn an_address_may_have_a_route() {
    let mut lab = Lab::new();
    let mut gid = [0; 16];
    gid[0] = 0xfe;
    gid[1] = 0x80;
    gid[8..].copy_from_slice(&0x0254_50ff_fe00_0001u64.to_be_bytes());
    let (mut a, b) = (lab.end(QpOptions::RC), lab.end(QpOptions::RC));
    lab.join(&a, &b, |to| to.gid = Some(gid));
    let write = Request::write(b.key, b.at(0)).inline(&[1]);
    lab.run_well(&mut a, &write);
}

#[test]
fn a_message_waits_for_a_receive_request() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::RC);
    for request in [Request::send(), Request::write_imm(b.key, b.at(0), 1)] {
        b.area.write(0, &[0; 8]);
        lab.adapter.post(&mut a.qp, &request.inline(b"patience"));
        lab.settle();
        assert_eq!(a.cq.poll(), None);
        assert_eq!(lab.state(&a), state::RTS, "without end");
        assert_eq!(b.area.bytes::<8>(0), [0; 8]);
        b.receive(0, 64);
        assert_eq!(a.cq.wait().opcode, Completion::SENT);
        assert_eq!(b.cq.wait().bytes, 8);
        assert_eq!(&b.area.bytes::<8>(0), b"patience");
    }
}

#[test]
fn a_message_waits_only_as_often_as_it_may() {
    let mut lab = Lab::new();
    for retries in [0, 1, 6] {
        let (mut a, mut b) = (lab.end(QpOptions::RC), lab.end(QpOptions::RC));
        lab.join(&a, &b, |to| {
            to.rnr_retry = retries;
            to.min_rnr_nak = 14; // 1 ms
        });
        let before = Instant::now();
        let send = Request::send().inline(b"patience");
        assert_eq!(lab.run_badly(&mut a, &send), RNR_EXCEEDED);
        let pauses = Duration::from_millis(u64::from(retries));
        assert!(before.elapsed() >= pauses, "{retries}");
        assert_eq!(lab.state(&b), state::RTS, "the peer is well");
        assert_eq!(b.cq.poll(), None);
    }
}

#[test]
fn a_message_waits_also_while_its_queue_pair_is_modified() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.end(QpOptions::RC), lab.end(QpOptions::RC));
    lab.join(&a, &b, |to| to.min_rnr_nak = 18); // 4 ms
    lab.adapter
        .post(&mut a.qp, &Request::send().inline(b"patience"));
    lab.settle();
    lab.adapter
        .modify_qp(0x505, a.qp.number, 0, &[], &[], None)
        .unwrap(); // RTS2RTS
    b.receive(0, 64);
    assert_eq!(a.cq.wait().opcode, Completion::SENT);
}

#[test]
fn a_message_to_nobody_is_lost_without_acknowledgements() {
    let mut lab = Lab::new();
    let (mut a, mut b) = lab.pair(QpOptions::UC);
    // No receive request.
    lab.run_well(&mut a, &Request::send().inline(b"lost"));
    assert_eq!(b.cq.poll(), None);
    // No right.
    let key = lab.adapter.register(b.pd, access::LOCAL_WRITE, &b.area);
    let write = Request::write(key.unwrap(), b.at(0)).inline(b"lost");
    lab.run_well(&mut a, &write);
    assert_eq!(b.area.bytes::<4>(0), [0; 4]);
    assert_eq!((lab.state(&a), lab.state(&b)), (state::RTS, state::RTS));
}

#[test]
fn nothing_is_executed_before_the_queue_pair_is_ready_to_send() {
    let mut lab = Lab::new();
    let (mut a, b) = (lab.end(QpOptions::RC), lab.end(QpOptions::RC));
    let to = Connection::to(b.qp.number);
    lab.adapter
        .connect(&b.qp, &Connection::to(a.qp.number))
        .unwrap();
    lab.adapter.to_init(&a.qp, &to).unwrap();
    let write = Request::write(b.key, b.at(0)).inline(&[1]);
    lab.adapter.post(&mut a.qp, &write);
    lab.adapter.to_rtr(&a.qp, &to).unwrap();
    lab.settle();
    assert_eq!(a.cq.poll(), None);
    lab.adapter.to_rts(&a.qp, &to).unwrap();
    assert_eq!(a.cq.wait().opcode, Completion::SENT);
    assert_eq!(b.area.bytes::<1>(0), [1]);
}
