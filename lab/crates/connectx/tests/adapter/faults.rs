// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that cannot be reached: what it belongs to is lost, and nothing else.

use crate::harness::{Lab, pattern};
use connectx::ifc::{create_qp_in, qpc};
use connectx_driver::{
    ClientError, Completion, Connection, CqOptions, Event, QpOptions, Request, command, state,
    wait_for,
};

/// CREATE_QP of a queue pair whose memory is nowhere.
fn nowhere(pd: u32, cq: u32) -> Vec<u8> {
    let mut input = command(0x500, create_qp_in::LAYOUT.len);
    let context = create_qp_in::qpc.bytes_mut(&mut input);
    for (field, value) in [
        (qpc::pd, u64::from(pd)),
        (qpc::log_sq_size, 4),
        (qpc::cqn_snd, cq.into()),
        (qpc::cqn_rcv, cq.into()),
        (qpc::dbr_addr, 0x5000),
    ] {
        field.set(context, value);
    }
    input.extend(0x6000u64.to_be_bytes());
    input
}

#[test]
fn a_queue_pair_whose_memory_is_nowhere_is_lost_alone() {
    let mut lab = Lab::new();
    let (mut a, b) = lab.pair(QpOptions::RC);
    let mut lost = lab.end(QpOptions::RC);
    let output = lab
        .adapter
        .execute(&nowhere(a.pd, a.cq.number), 16)
        .unwrap();
    lost.qp.number = u32::from_be_bytes([0, output[9], output[10], output[11]]);
    let own = Connection::to(lost.qp.number);
    lab.adapter.connect(&lost.qp, &own).unwrap();
    let event = lab.adapter.wait_for_event();
    assert_eq!(event.kind, Event::WQ_CATASTROPHIC);
    assert_eq!(event.number(), lost.qp.number);
    assert_eq!(lab.state(&lost), state::ERROR);
    // Rung for while commands come, it keeps nobody from anything.
    for round in 0..10 {
        let doorbell = lost.qp.prepare(&Request::new(Request::NOP));
        lab.adapter.ring(&mut lost.qp, doorbell);
        lab.adapter.simple(0x10a, 0).unwrap();
        a.area.write(0, &pattern(32, round));
        let write = Request::write(b.key, b.at(0)).data(a.sge(0, 32));
        lab.run_well(&mut a, &write);
        assert_eq!(b.area.bytes::<32>(0)[..], pattern(32, round));
    }
    lab.adapter.destroy_qp(lost.qp.number).unwrap();
}

#[test]
fn completions_that_cannot_be_written_lose_their_queue_pair() {
    let mut lab = Lab::new();
    let (mut a, _) = lab.pair(QpOptions::RC);
    let far = connectx_driver::GuestMemory::new(0x20_0000_0000, 0x10_0000).unwrap();
    lab.adapter.function.map(&far).unwrap();
    let near = std::mem::replace(&mut lab.adapter.memory, far);
    let cq = lab.adapter.create_cq(CqOptions::default()).unwrap();
    let far = std::mem::replace(&mut lab.adapter.memory, near);
    let mut end = lab.end_with(QpOptions::RC, |options| options.send_cq = cq.number);
    let own = Connection::to(end.qp.number);
    lab.adapter.connect(&end.qp, &own).unwrap();
    lab.adapter.function.unmap(&far).unwrap();
    lab.adapter.post(&mut end.qp, &Request::new(Request::NOP));
    let event = lab.adapter.wait_for_event();
    assert_eq!(event.kind, Event::WQ_CATASTROPHIC);
    assert_eq!(lab.state(&end), state::ERROR);
    lab.run_well(&mut a, &Request::new(Request::NOP));
    lab.adapter.destroy_qp(end.qp.number).unwrap();
    lab.adapter.destroy_cq(cq.number).unwrap();
}

#[test]
fn events_that_cannot_be_written_stop_nothing() {
    let mut lab = Lab::new();
    let far = connectx_driver::GuestMemory::new(0x20_0000_0000, 0x10_0000).unwrap();
    lab.adapter.function.map(&far).unwrap();
    let near = std::mem::replace(&mut lab.adapter.memory, far);
    let eq = lab.adapter.create_eq(2, 3, &[]).unwrap();
    let far = std::mem::replace(&mut lab.adapter.memory, near);
    lab.adapter.function.unmap(&far).unwrap();
    let mut cq = lab
        .adapter
        .create_cq_on(eq.number, CqOptions::default())
        .unwrap();
    let mut end = lab.end_with(QpOptions::RC, |options| options.send_cq = cq.number);
    let own = Connection::to(end.qp.number);
    lab.adapter.connect(&end.qp, &own).unwrap();
    lab.adapter.arm_cq(&mut cq, false);
    for _ in 0..3 {
        lab.adapter.post(&mut end.qp, &Request::new(Request::NOP));
        let completion = wait_for("the completion", || cq.poll());
        assert_eq!(completion.opcode, Completion::SENT);
        lab.adapter.simple(0x10a, 0).unwrap();
    }
}

#[test]
fn memory_is_mapped_once() {
    let mut lab = Lab::new();
    let memory = lab.adapter.memory.clone();
    let refused = lab.adapter.function.map(&memory);
    assert!(
        matches!(refused, Err(ClientError::Refused { .. })),
        "{refused:?}"
    );
    // What was mapped before still is.
    lab.adapter.simple(0x10a, 0).unwrap();
}
