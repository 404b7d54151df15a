// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a command takes, and how many interrupts completions raise.

use super::device::Device;
use super::measurement::{Measurement, float};
use super::times::{Times, microseconds};
use crate::{Adapter, Cq, Eq, Error, Qp, Request, wait_for};
use std::time::Instant;

const COMMANDS: usize = 5000;
const COMPLETIONS: u16 = 4096;
/// Completions that moderation waits for, and microseconds that it waits at most.
const COUNT: u16 = 16;
const PERIOD: u16 = 4095;

/// The measurements.
pub fn measure(device: &mut Device) -> Result<Vec<Measurement>, Error> {
    let mut measurements = commands(&mut device.adapter)?;
    measurements.extend(interrupts(device)?);
    Ok(measurements)
}

fn commands(adapter: &mut Adapter) -> Result<Vec<Measurement>, Error> {
    let group = "A command, by the clock";
    let (mut queries, mut reads) = (vec![], vec![]);
    for _ in 0..COMMANDS {
        let start = Instant::now();
        adapter.simple(0x10a, 0)?; // QUERY_ISSI
        queries.push(start.elapsed());
        let start = Instant::now();
        adapter.function.read(0x1fc);
        reads.push(start.elapsed());
    }
    let [reads, queries] = [reads, queries].map(|times| {
        let times = Times::new(times);
        move |percent| microseconds(times.at_percent(percent))
    });
    let row = |name: &str, value| Measurement::new(group, name, value, "us");
    Ok(vec![
        row("reading a register, median", reads(50)),
        row("reading a register, 99 %", reads(99)),
        row("QUERY_ISSI until its event, median", queries(50)).compared_with("reading a register"),
        row("QUERY_ISSI until its event, 99 %", queries(99)).compared_with("reading a register"),
    ])
}

fn interrupts(device: &mut Device) -> Result<Vec<Measurement>, Error> {
    let (mut qp, mut cq, _) = device.loopback()?;
    let adapter = &mut device.adapter;
    let unarmed = count(adapter, &mut qp, &mut cq, false, 1);
    let armed = count(adapter, &mut qp, &mut cq, true, 1);
    adapter.moderate_cq(&cq, COUNT, PERIOD)?;
    let moderated = count(adapter, &mut qp, &mut cq, true, COUNT);
    let group = format!("Interrupts of {COMPLETIONS} completions");
    let row = |name: &str, value| Measurement::new(&group, name, value, "per completion");
    Ok(vec![
        row("every one armed", armed),
        row("an event for 16 of them", moderated),
        row("none armed", unarmed),
    ])
}

/// Interrupts of each completion.
fn count(adapter: &mut Adapter, qp: &mut Qp, cq: &mut Cq, armed: bool, batch: u16) -> f64 {
    let mut eq = adapter.completion_eq.take().expect("it was brought up");
    let _before = adapter.function.interrupts(eq.vector);
    for _ in 0..COMPLETIONS / batch {
        complete(adapter, qp, cq, armed.then_some(&mut eq), batch);
    }
    let interrupts = adapter.function.interrupts(eq.vector);
    adapter.completion_eq = Some(eq);
    float(interrupts) / f64::from(COMPLETIONS)
}

/// Lets `batch` requests complete, and takes the completions and, if there is an event queue, the event of them.
fn complete(adapter: &mut Adapter, qp: &mut Qp, cq: &mut Cq, eq: Option<&mut Eq>, batch: u16) {
    if eq.is_some() {
        adapter.arm_cq(cq, false);
    }
    for _ in 0..batch {
        adapter.post(qp, &Request::new(Request::NOP));
    }
    for _ in 0..batch {
        cq.wait();
    }
    if let Some(eq) = eq {
        wait_for("the event", || eq.poll());
        adapter.update_eq(eq, true);
    }
}
