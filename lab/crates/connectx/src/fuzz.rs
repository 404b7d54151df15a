// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where bytes of a guest come in: entry points for fuzzing.
//!
//! Each takes any bytes. None may panic, hang, or keep more memory than is justified. The targets
//! in lab/fuzz call them; the ordinary tests do, too, with bytes of their own.

use crate::capabilities::{LOG_MAX_CQ, LOG_MAX_QP};
use crate::command_queue::CommandQueue;
use crate::config::ConnectXConfig;
use crate::dma::Dma;
use crate::hca::Hca;
use crate::registers::{Action, Registers};
use crate::wqe::{ControlSegment, Form, WorkRequest, parse_receive};
use devices::{Complaints, Interrupt};
use fabric::{Fabric, Requester, trace::Tap};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tlp::{Bdf, Mode};

/// Bytes of guest memory, at address 0.
const MEMORY: usize = 0x1_0000;
/// Commands of one run, at most, and rounds of work after each.
const COMMANDS: usize = 32;
const ROUNDS: usize = 8;
/// Bytes of a register access, at most.
const ACCESS: usize = 16;

/// A work request, as send queues of every kind and receive queues read it.
///
/// # Panics
/// If the model is wrong.
pub fn requests(bytes: &[u8]) {
    let front = ControlSegment::parse(bytes);
    assert!((1..=16).contains(&front.blocks()), "{front:?}");
    for form in [Form::Connected, Form::Datagram, Form::Extended] {
        if let Ok(request) = WorkRequest::parse(bytes, form) {
            let total: u64 = request
                .segments
                .iter()
                .map(super::wqe::DataSegment::len)
                .sum();
            assert!(total <= u64::from(u32::MAX) * bytes.len() as u64);
        }
    }
    assert!(parse_receive(bytes).len() <= bytes.len() / 16);
}

/// Writes and reads of BAR 0: offset (4 bytes), length (1 byte), data.
///
/// # Panics
/// If the model is wrong.
pub fn registers(mut bytes: &[u8]) {
    let mut registers = Registers::new();
    while let Some((front, rest)) = bytes.split_at_checked(5) {
        let offset = u64::from(u32::from_le_bytes([front[0], front[1], front[2], front[3]]));
        let (data, rest) = rest.split_at(rest.len().min(usize::from(front[4]) % (ACCESS + 1)));
        for action in registers.write(offset, data) {
            match action {
                Action::Send(number) => assert!(number < 1 << LOG_MAX_QP),
                Action::Cq { number, .. } => assert!(number < 1 << LOG_MAX_CQ),
                _ => {}
            }
        }
        let mut read = vec![0; data.len()];
        registers.read(offset, &mut read);
        bytes = rest;
    }
}

/// Commands, and the work that they start: each is its length in units of 8 bytes (1 byte), then
/// its content. Guest memory is filled with all of `bytes`, so whatever a command places there is
/// any bytes.
///
/// # Panics
/// If the model is wrong.
pub fn commands(bytes: &[u8]) {
    let Some(mut hca) = hca(bytes) else {
        return;
    };
    let mut rest = bytes;
    for _ in 0..COMMANDS {
        let Some((&units, content)) = rest.split_first() else {
            return;
        };
        let len = (8 * (usize::from(units) + 1)).min(content.len());
        let (input, after) = content.split_at(len);
        rest = after;
        let output = hca.answer(input);
        assert!(output.len() >= 8, "an answer has a status");
        work(&mut hca);
    }
}

/// Rings for everything that there may be, now and later.
fn work(hca: &mut Hca) {
    for number in 0..4 {
        hca.ring_send_doorbell(number);
        hca.arm_cq(number, 0, false);
        hca.update_eq(number, 0, true);
    }
    for round in 0..ROUNDS {
        hca.work();
        hca.command(round);
    }
    hca.run_timers(Instant::now() + Duration::from_secs(1));
}

/// An adapter whose guest memory is filled with `bytes`.
fn hca(bytes: &[u8]) -> Option<Hca> {
    let memory = File::from(memfd_create("guest memory", MemfdFlags::CLOEXEC).ok()?);
    let image: Vec<u8> = bytes.iter().copied().cycle().take(MEMORY).collect();
    memory.set_len(MEMORY as u64).ok()?;
    memory.write_all_at(&image, 0).ok()?;
    let requester = requester(memory)?;
    let config = ConnectXConfig::default();
    let interrupt = Arc::new(Interrupt::new(&config.config_space(Mode::Flit, 0)));
    let queue = CommandQueue::new(0);
    let dma = Dma::new(
        requester,
        config.table,
        Arc::default(),
        Complaints::default(),
    );
    Some(Hca::new(config.profile, dma, queue, interrupt))
}

fn requester(memory: File) -> Option<Requester> {
    let id = Bdf::new(0, 1, 0);
    let fabric = Fabric::new(Mode::Flit, Tap::discard());
    let port = fabric.attach("adapter", id, None).ok()?;
    port.set_command(true, true);
    port.map_memory(0, MEMORY as u64, memory, 0, true).ok()?;
    Some(port.requester(id))
}
