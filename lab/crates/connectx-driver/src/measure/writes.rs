// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast an RDMA WRITE is, and what a recorded TLP costs.

use super::device::{Device, Recorded};
use super::measurement::{Bound, Measurement, float};
use crate::{Area, Completion, Cq, Qp, Request, Sge, access};
use fabric::trace::{BINARY_FILE, Reader, finish};
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

const VOLUME: usize = 64 << 20;
const MESSAGE: u32 = 1 << 20;
const MESSAGES: u64 = VOLUME as u64 / MESSAGE as u64;
/// In each, memcpy, the transfer without trace and those with one take turns.
const ROUNDS: u32 = 5;

/// Largest payload and read request: as Linux leaves them, and the largest payload that the model has.
/// With them, the nanoseconds that a recorded TLP may cost.
const SIZES: [(u16, u16, f64); 2] = [(128, 512, 100.0), (512, 4096, 150.0)];
/// Those that one may cost of which only the headers are captured.
const HEADERS: f64 = 90.0;
/// What the rate without a trace must be, in per cent of memcpy's.
const RATE: f64 = 85.0;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The measurements.
pub fn measure(
    start: &impl Fn(Recorded) -> Result<Device>,
    out: &Path,
) -> Result<Vec<Measurement>> {
    let mut measurements = vec![];
    for (payload, request, cost) in SIZES {
        let group = format!(
            "RDMA WRITE, 64 MiB in messages of 1 MiB, payloads of {payload} B, read requests of {request} B"
        );
        let times = times(start, payload, request)?;
        let tlps = recorded(out)?;
        measurements.extend(rows(&group, tlps, cost, times));
    }
    Ok(measurements)
}

/// What memcpy, the transfer without trace, and those with a whole one and one of headers took at best.
fn times(
    start: &impl Fn(Recorded) -> Result<Device>,
    payload: u16,
    request: u16,
) -> Result<[Duration; 4]> {
    let sized = |recorded| {
        let mut device = start(recorded)?;
        device.adapter.function.set_sizes(payload, request);
        Transfer::new(device)
    };
    let (source, mut target) = (vec![0xa5; VOLUME], vec![0; VOLUME]);
    let mut plain = sized(Recorded::Nothing)?;
    let mut best = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        let copied = memcpy(&source, &mut target);
        let unrecorded = plain.run()?;
        // Each with a trace of its own, the whole one last: it is counted.
        let headers = sized(Recorded::Headers)?.run()?;
        let whole = sized(Recorded::Whole)?.run()?;
        let times = [copied, unrecorded, whole, headers];
        for (best, time) in best.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }
    Ok(best)
}

fn rows(group: &str, tlps: u64, cost: f64, times: [Duration; 4]) -> Vec<Measurement> {
    let [memcpy, plain, traced, headers] = times.map(|time| time.as_secs_f64());
    let (bytes, tlps) = (float(VOLUME as u64), float(tlps));
    let one = |name: &str, value, unit| Measurement::new(group, name, value, unit);
    let nanoseconds = 1e9 / tlps;
    vec![
        one("memcpy", bytes / memcpy / 1e9, "GB/s"),
        one("without trace", bytes / plain / 1e9, "GB/s"),
        one(
            "without trace, of memcpy's rate",
            100.0 * memcpy / plain,
            "%",
        )
        .compared_with("memcpy")
        .required(Bound::AtLeast(RATE)),
        one("without trace, TLPs", tlps / plain / 1e6, "million/s")
            .compared_with("those that the trace has"),
        one("with trace", bytes / traced / 1e9, "GB/s"),
        one("with trace, of memcpy's rate", 100.0 * memcpy / traced, "%").compared_with("memcpy"),
        one("with trace, TLPs", tlps / traced / 1e6, "million/s"),
        one("a recorded TLP", traced * nanoseconds, "ns").required(Bound::AtMost(cost)),
        one(
            "a recorded TLP, its headers captured",
            headers * nanoseconds,
            "ns",
        )
        .required(Bound::AtMost(HEADERS)),
        one("recording it", (traced - plain) * nanoseconds, "ns").compared_with("without trace"),
    ]
}

/// TLPs that a transfer makes: those of the last trace, in which there are two transfers, and a few
/// hundred of what is done before.
fn recorded(out: &Path) -> Result<u64> {
    let trace = out.join(BINARY_FILE);
    finish(&trace)?;
    let mut reader = Reader::open(&trace)?;
    let mut records = 0;
    for record in reader.by_ref() {
        record?;
        records += 1;
    }
    if reader.unrecorded() > 0 {
        return Err(format!("{} TLPs are not in the trace", reader.unrecorded()).into());
    }
    Ok(records / 2)
}

/// A device with all that a transfer needs.
struct Transfer {
    device: Device,
    qp: Qp,
    cq: Cq,
    source: Sge,
    target: Sge,
}

impl Transfer {
    /// Whatever is touched for the first time is touched now.
    fn new(mut device: Device) -> Result<Self> {
        let (qp, cq, pd) = device.loopback()?;
        let source = device.adapter.memory.pages(VOLUME as u64);
        source.write(0, &vec![0xa5; VOLUME]);
        let target = device.adapter.memory.pages(VOLUME as u64);
        let mut register = |area: &Area| {
            let key = device.adapter.register(pd, access::ALL, area)?;
            Ok::<_, crate::Error>(Sge {
                key,
                addr: area.addr(),
                len: MESSAGE,
            })
        };
        let (source, target) = (register(&source)?, register(&target)?);
        let mut this = Self {
            device,
            qp,
            cq,
            source,
            target,
        };
        this.run()?;
        Ok(this)
    }

    /// Writes all of it, and returns the processor time that it took the device.
    fn run(&mut self) -> Result<Duration> {
        let before = self.device.settled()?;
        for number in 0..MESSAGES {
            let offset = number * u64::from(MESSAGE);
            let source = Sge {
                addr: self.source.addr + offset,
                ..self.source
            };
            let write = Request::write(self.target.key, self.target.addr + offset).data(source);
            self.device.adapter.post(&mut self.qp, &write);
        }
        for _ in 0..MESSAGES {
            let completion = self.cq.wait();
            if completion.opcode != Completion::SENT {
                return Err(format!("a write failed: {completion:x?}").into());
            }
        }
        Ok(self.device.settled()?.saturating_sub(before))
    }
}

fn memcpy(source: &[u8], target: &mut [u8]) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
    let before = now();
    for (source, target) in source
        .chunks(MESSAGE as usize)
        .zip(target.chunks_mut(MESSAGE as usize))
    {
        target.copy_from_slice(black_box(source));
    }
    black_box(target);
    now().saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_costs_are_told_apart() {
        let times = [10, 30, 100, 80].map(Duration::from_millis);
        let rows = rows("", 1_000_000, 100.0, times);
        let json = serde_json::to_value(&rows).unwrap();
        let value = |name: &str| {
            let rows = json.as_array().unwrap().iter();
            let mut rows = rows.filter(|row| row["name"] == name);
            rows.next().unwrap()["value"].as_f64().unwrap().round()
        };
        assert!((value("without trace, of memcpy's rate") - 33.0).abs() < 0.1);
        assert!((value("a recorded TLP") - 100.0).abs() < 0.1);
        assert!((value("a recorded TLP, its headers captured") - 80.0).abs() < 0.1);
        assert!((value("recording it") - 70.0).abs() < 0.1);
        assert!((value("with trace, TLPs") - 10.0).abs() < 0.1);
    }

    #[test]
    fn what_is_compared_with_copies() {
        let (source, mut target) = ([7; 4096], [0; 4096]);
        memcpy(&source, &mut target);
        assert_eq!(source, target);
    }
}
