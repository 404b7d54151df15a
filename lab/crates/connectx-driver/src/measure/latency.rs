// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a small RDMA WRITE takes, and the processor time of the device then, and when there is
//! nothing to do.
//!
//! It is the path of perftest's `ib_write_lat`: one WRITE of 8 bytes under way at a time, from its
//! doorbell to its completion in guest memory. A doorbell is a register access through the
//! vfio-user socket, whose cost is the transport's; what the model adds is told from it by register
//! accesses that take turns with the writes.

use super::device::Device;
use super::measurement::{Bound, Measurement};
use super::times::{Times, microseconds};
use crate::{Completion, Request, Sge, access};
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

const WRITES: u32 = 10_000;
/// Writes that are not counted: whatever is touched for the first time is touched by them.
const FIRST: u32 = 500;
const LEN: u32 = 8;
/// How long the device is watched when it has nothing to do.
const IDLE: Duration = Duration::from_millis(500);
/// Percent of a processor that it may use then.
const IDLE_BOUND: Bound = Bound::AtMost(1.0);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The measurements.
pub fn measure(device: &mut Device) -> Result<Vec<Measurement>> {
    let (mut qp, mut cq, pd) = device.loopback()?;
    let source = device.adapter.memory.pages(LEN.into());
    let target = device.adapter.memory.pages(LEN.into());
    let key = device.adapter.register(pd, access::ALL, &source)?;
    let remote = device.adapter.register(pd, access::ALL, &target)?;
    let data = Sge {
        key,
        addr: source.addr(),
        len: LEN,
    };
    let request = Request::write(remote, target.addr()).data(data);

    let (mut writes, mut accesses) = (vec![], vec![]);
    let mut before = device.settled()?;
    for number in 0..FIRST + WRITES {
        if number == FIRST {
            (writes, accesses) = (vec![], vec![]);
            before = device.settled()?;
        }
        let bytes = u64::from(number).to_le_bytes();
        source.write(0, &bytes);
        let start = Instant::now();
        device.adapter.function.read(0x1fc);
        accesses.push(start.elapsed());
        let doorbell = qp.prepare(&request);
        let start = Instant::now();
        device.adapter.ring(&mut qp, doorbell);
        let completion = cq.wait();
        writes.push(start.elapsed());
        if completion.opcode != Completion::SENT || target.bytes(0) != bytes {
            return Err(format!("write {number} failed: {completion:x?}").into());
        }
    }
    let (after, watched) = (device.settled()?, Instant::now());
    thread::sleep(IDLE);
    let idle = device.settled()?.saturating_sub(after).as_secs_f64();
    let idle = idle / watched.elapsed().as_secs_f64();
    let used = after.saturating_sub(before) / WRITES;
    Ok(rows(accesses, writes, used, idle))
}

fn rows(
    accesses: Vec<Duration>,
    writes: Vec<Duration>,
    used: Duration,
    idle: f64,
) -> Vec<Measurement> {
    let (accesses, writes) = (Times::new(accesses), Times::new(writes));
    let row = |name: &str, value| {
        let group = "RDMA WRITE of 8 bytes, one at a time";
        Measurement::new(group, name, value, "us")
    };
    let [access, write] = [&accesses, &writes].map(|times| microseconds(times.at_percent(50)));
    vec![
        row("a register access, median", access),
        row("doorbell to completion, median", write).compared_with("a register access"),
        row(
            "doorbell to completion, 99 %",
            microseconds(writes.at_percent(99)),
        )
        .compared_with("a register access"),
        row(
            "beyond the register access of the doorbell, median",
            write - access,
        )
        .compared_with("a register access"),
        // Less than 0 if most of it goes on while the answer to the doorbell is on its way.
        row("beyond two register accesses, median", write - 2.0 * access)
            .compared_with("two register accesses"),
        row(
            "processor time of the device, with a register access",
            microseconds(used),
        ),
        Measurement {
            unit: "%",
            ..row("processor time of the device, idle", 100.0 * idle)
        }
        .compared_with("one processor")
        .required(IDLE_BOUND),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_accesses_are_taken_off() {
        let us = Duration::from_micros;
        let accesses = vec![us(9), us(10), us(500)];
        let writes = vec![us(900), us(26), us(25)];
        let rows = rows(accesses, writes, us(30), 0.02);
        let values: Vec<_> = rows.iter().map(|row| row.value.round()).collect();
        assert_eq!(values, [10.0, 26.0, 900.0, 16.0, 6.0, 30.0, 2.0]);
        let required = rows[6].required.as_ref().unwrap();
        assert!(!required.met, "2 % of a processor are not idle");
    }
}
