// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagrams: they arrive behind room for a route header, or nobody hears of them.

use crate::harness::{End, LOCAL_LENGTH, LOCAL_OPERATION, LOCAL_PROTECTION, Lab, pattern};
use connectx_driver::{Address, Completion, Connection, QpOptions, Request, Sge, state};

const QKEY: u32 = 0x1111_1111;
/// Bytes of a global route header.
const ROUTE: u32 = 40;

fn two(lab: &mut Lab) -> (End, End) {
    let (a, b) = (lab.end(QpOptions::UD), lab.end(QpOptions::UD));
    for end in [&a, &b] {
        lab.adapter.connect(&end.qp, &Connection::to(0)).unwrap();
    }
    (a, b)
}

fn address(end: &End) -> Address {
    Address {
        qpn: end.qp.number,
        qkey: QKEY,
        lid: Connection::LID,
        gid: None,
    }
}

fn gid() -> [u8; 16] {
    (0xfe80u128 << 112 | 0x0254_50ff_fe00_0001).to_be_bytes()
}

#[test]
fn a_datagram_arrives_with_and_without_a_route() {
    let mut lab = Lab::new();
    let (mut a, mut b) = two(&mut lab);
    for (gid, immediate) in [(None, None), (Some(gid()), None), (Some(gid()), Some(77))] {
        b.area.write(0, &[0xee; 0x100]);
        b.receive(0, 0x100);
        a.area.write(0, &pattern(100, 3));
        let request = match immediate {
            None => Request::send(),
            Some(immediate) => Request::send_imm(immediate),
        };
        let to = Address { gid, ..address(&b) };
        let request = request.to(&to).data(a.sge(0, 100));
        assert_eq!(lab.run_well(&mut a, &request).bytes, 100);
        let arrived = b.cq.wait();
        let (opcode, word) = match immediate {
            None => (Completion::RECEIVED, 0),
            Some(word) => (Completion::RECEIVED_IMM, word),
        };
        assert_eq!((arrived.opcode, arrived.immediate), (opcode, word));
        assert_eq!(arrived.bytes, 100 + ROUTE);
        assert_eq!(arrived.source, a.qp.number);
        assert_eq!(b.area.part(ROUTE.into(), 100).to_vec(), pattern(100, 3));
        let header: [u8; 40] = b.area.bytes(0);
        match gid {
            None => assert_eq!(header, [0xee; 40], "room is left, nothing is there"),
            Some(gid) => {
                assert_eq!(header[0] >> 4, 6, "version");
                assert_eq!(header[4..6], 100u16.to_be_bytes());
                assert_eq!((header[6], header[7]), (0x1b, 0x3f));
                assert_eq!((&header[8..24], &header[24..]), (&gid[..], &gid[..]));
            }
        }
    }
}

#[test]
fn who_does_not_listen_hears_nothing() {
    let mut lab = Lab::new();
    let (mut a, mut b) = two(&mut lab);
    let connection = lab.end(QpOptions::RC);
    b.receive(0, 0x100);
    let to = address(&b);
    for to in [
        Address { qkey: 5, ..to },
        Address { lid: 9, ..to },
        Address { qpn: 0x4711, ..to },
        address(&connection),
    ] {
        lab.run_well(&mut a, &Request::send().to(&to).inline(b"lost"));
    }
    lab.adapter.to_reset(&mut b.qp).unwrap();
    lab.run_well(&mut a, &Request::send().to(&to).inline(b"lost"));
    assert_eq!(b.cq.poll(), None);
    assert_eq!(lab.state(&a), state::RTS);
}

#[test]
fn a_datagram_without_a_receive_request_is_lost() {
    let mut lab = Lab::new();
    let (mut a, mut b) = two(&mut lab);
    let send = Request::send().to(&address(&b)).inline(b"lost");
    lab.run_well(&mut a, &send);
    b.receive(0, 0x100);
    lab.settle();
    assert_eq!(b.cq.poll(), None);
    lab.run_well(&mut a, &send);
    assert_eq!(b.cq.wait().counter, 0);
}

#[test]
fn the_upper_bit_of_a_key_stands_for_the_senders_own() {
    let mut lab = Lab::new();
    let (mut a, mut b) = two(&mut lab);
    b.receive(0, 0x100);
    let to = Address {
        qkey: 0x8000_0000,
        ..address(&b)
    };
    lab.run_well(&mut a, &Request::send().to(&to).inline(b"own"));
    assert_eq!(b.cq.wait().bytes, ROUTE + 3);
}

#[test]
fn a_sender_hears_of_its_own_mistakes() {
    let mut lab = Lab::new();
    let (mut a, mut b) = two(&mut lab);
    let to = address(&b);
    let foreign = b.sge(0, 8);
    for (request, syndrome) in [
        (Request::send().to(&to).data(foreign), LOCAL_PROTECTION),
        (Request::send().to(&to).data(a.sge(0, 4097)), LOCAL_LENGTH),
        (
            Request::write(b.key, b.at(0)).inline(b"no"),
            LOCAL_OPERATION,
        ),
    ] {
        b.receive(0, 0x100);
        assert_eq!(lab.run_badly(&mut a, &request), syndrome);
        assert_eq!(lab.state(&b), state::RTS);
        assert_eq!(b.cq.poll(), None);
        lab.adapter.to_reset(&mut a.qp).unwrap();
        lab.adapter.connect(&a.qp, &Connection::to(0)).unwrap();
    }
}

#[test]
fn a_receiver_hears_of_its_own_mistakes() {
    let mut lab = Lab::new();
    let (mut a, mut b) = two(&mut lab);
    let send = Request::send().to(&address(&b)).inline(b"text");
    let foreign = Sge {
        len: 0x100,
        ..a.sge(0, 0)
    };
    for (sge, syndrome) in [
        (foreign, LOCAL_PROTECTION),
        (b.sge(0, ROUTE + 3), LOCAL_LENGTH),
    ] {
        b.qp.post_receive(&[sge]);
        lab.run_well(&mut a, &send);
        let failed = b.cq.wait();
        assert_eq!(
            (failed.opcode, failed.syndrome),
            (Completion::RECEIVE_ERROR, syndrome)
        );
        assert_eq!(lab.state(&b), state::ERROR);
        lab.adapter.to_reset(&mut b.qp).unwrap();
        lab.adapter.connect(&b.qp, &Connection::to(0)).unwrap();
    }
}
