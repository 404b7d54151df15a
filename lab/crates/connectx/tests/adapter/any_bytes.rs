// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes where a guest's bytes come in: nothing panics or hangs, and the device goes on.
//!
//! The entry points are those of the fuzz targets in lab/fuzz.

use crate::harness::{End, Lab, cases, words};
use connectx::fuzz;
use connectx::wire::control;
use connectx_driver::{Completion, Connection, QpOptions, Receive, Request, SrqOptions, state};
use proptest::prelude::*;
use std::cell::RefCell;

/// Commands that may follow each other: opcode, number, and some bytes.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![
        0x200u16, 0x301, 0x400, 0x403, 0x500, 0x501, 0x502, 0x503, 0x504, 0x507, 0x50a, 0x700,
        0x703, 0x800, 0x802, 0x80e, 0x202, 0x302, 0x401, 0x701, 0x103, 0xffff,
    ]);
    let command = (
        opcode,
        0u8..4,
        prop::collection::vec(any::<u8>(), 0..24),
        0u64..16,
        0u8..40,
    );
    let command = command.prop_map(|(opcode, number, spots, page, units)| {
        let len = 8 * (usize::from(units) + 1);
        let mut input = vec![0; len];
        // A few bytes anywhere, and a list of pages at its end.
        for (at, spot) in spots.iter().enumerate() {
            input[(at * 41 + usize::from(*spot)) % len] = spot & 0x1f;
        }
        for entry in input[272.min(len)..].chunks_exact_mut(8) {
            entry.copy_from_slice(&(page << 12).to_be_bytes());
        }
        input[..2].copy_from_slice(&opcode.to_be_bytes());
        if let Some(place) = input.get_mut(8..12) {
            place.copy_from_slice(&[0, 0, 0, number]);
        }
        input.insert(0, units);
        input
    });
    prop::collection::vec(command, 1..16).prop_map(|commands| commands.concat())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_bytes_are_a_work_request_or_none(bytes in words(0..270)) {
        fuzz::requests(&bytes);
    }

    #[test]
    fn any_bytes_may_be_written_to_registers(bytes in words(0..100)) {
        fuzz::registers(&bytes);
    }

    #[test]
    fn any_bytes_may_be_commands(bytes in words(0..300)) {
        fuzz::commands(&bytes);
    }

    #[test]
    fn any_commands_may_follow_each_other(script in script()) {
        fuzz::commands(&script);
    }
}

/// To itself; it does not wait for receive requests for long.
fn to_itself(end: &End) -> Connection {
    Connection {
        rnr_retry: 1,
        ..Connection::to(end.qp.number)
    }
}

/// Queue pairs of every kind, each its own peer.
fn one_of_each(lab: &mut Lab) -> Vec<End> {
    let xrcd = lab.adapter.alloc_xrcd().unwrap();
    [
        QpOptions::RC,
        QpOptions::UC,
        QpOptions::UD,
        QpOptions::XRC,
        QpOptions::UMR,
    ]
    .map(|service| {
        let end = lab.end_with(service, |options| {
            options.xrcd = xrcd;
            if matches!(service, QpOptions::XRC | QpOptions::UMR) {
                options.receive = Receive::Nowhere;
            }
        });
        let own = to_itself(&end);
        lab.adapter.connect(&end.qp, &own).unwrap();
        let options = SrqOptions {
            log_size: 2,
            pd: end.pd,
            xrcd,
            cqn: end.cq.number,
        };
        lab.adapter.create_srq(options).unwrap();
        end
    })
    .into()
}

/// Waits until a request that does nothing has ended; how.
fn wait_for_nop(end: &mut End) -> u8 {
    loop {
        let Completion {
            opcode, request, ..
        } = end.cq.wait();
        let sent = matches!(opcode, Completion::SENT | Completion::SEND_ERROR);
        if sent && request == Request::NOP {
            return opcode;
        }
    }
}

#[test]
fn any_request_completes_and_its_queue_pair_works_again() {
    let mut lab = Lab::new();
    let ends = RefCell::new(one_of_each(&mut lab));
    let lab = RefCell::new(lab);
    let opcode = prop::sample::select(vec![
        Request::WRITE,
        Request::WRITE_IMM,
        Request::SEND,
        Request::SEND_IMM,
        Request::READ,
        Request::COMPARE_SWAP,
        Request::FETCH_ADD,
        Request::UMR,
        0x77,
    ]);
    let config = cases(500);
    proptest!(config, |(
        which in 0usize..5,
        opcode in opcode,
        mut request in words(0..75),
        with_key in prop::collection::vec((1usize..18, 0u64..0x1000), 0..4),
    )| {
        let (lab, ends) = (&mut *lab.borrow_mut(), &mut *ends.borrow_mut());
        let end = &mut ends[which];
        request.resize(request.len().next_multiple_of(16).max(16), 0);
        // Here and there a segment that makes sense: length, key, address; the other way round it
        // is a remote address with its key.
        for (segment, offset) in with_key {
            let place = segment * 16..segment * 16 + 16;
            if let Some(place) = request.get_mut(place) {
                place.copy_from_slice(&end.sge(offset, 8).to_bytes());
            }
        }
        control::opcode.set(&mut request, opcode.into());
        control::signalled.set(&mut request, 1);
        let segments = request.len() / 16;
        control::ds.set(&mut request, segments as u64);
        end.receive(0, 64);
        end.qp.put(&request);
        let posted = Request::new(Request::NOP);
        let doorbell = end.qp.prepare(&posted);
        lab.adapter.ring(&mut end.qp, doorbell);
        // It, and the one behind it, end well or badly.
        wait_for_nop(end);
        if lab.state(end) == state::ERROR {
            lab.adapter.to_reset(&mut end.qp).unwrap();
            let own = to_itself(end);
            lab.adapter.connect(&end.qp, &own).unwrap();
        }
        lab.adapter.post(&mut end.qp, &Request::new(Request::NOP));
        prop_assert_eq!(wait_for_nop(end), Completion::SENT);
        while end.cq.poll().is_some() {}
        while lab.adapter.event().is_some() {}
    });
}
