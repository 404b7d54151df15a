// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory the device takes: as much as is registered asks for, however much is transferred.

use super::device::{Device, Process};
use super::measurement::{Measurement, float};
use crate::{
    Adapter, Area, Completion, Connection, Cq, CqOptions, Key, Qp, QpOptions, Receive, Request,
    Sge, Umr, access,
};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const REGISTERED: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Translations that a request loads: those of 256 MiB.
const LOADED: usize = 1 << 16;
const TRANSFERRED: u64 = 1 << 30;
const MESSAGE: u32 = 1 << 20;
/// How often it is registered and deregistered once more: then what stays is no leak.
const AGAIN: u32 = 100;

/// Why there is no number.
const GONE: &str = "the device process does not show how much memory it has";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The measurements.
pub fn measure(device: &mut Device) -> Result<Vec<Measurement>> {
    let mut transfers = Transfers::new(device)?;
    let mut registrations = Registrations::new(&mut device.adapter)?;
    let (adapter, process) = device.parts();

    let before = resident(process)?;
    let mut key = 0;
    let registered = peak_during(process, || {
        key = registrations.register(adapter)?;
        Ok(())
    })?;
    let transferred = peak_during(process, || transfers.run(adapter))?;
    adapter.destroy_key(key)?;
    let deregistered = resident(process)?;
    for _ in 0..AGAIN {
        let key = registrations.register(adapter)?;
        adapter.destroy_key(key)?;
    }
    let again = resident(process)?;

    let row = |name: &str, bytes: u64| {
        Measurement::new("Memory of the device process", name, float(bytes), "B")
    };
    let table = REGISTERED / PAGE * 8;
    Ok(vec![
        row("before", before),
        row("while 1 GiB is registered, peak", registered)
            .compared_with(format!("before, and a table of {table} B")),
        row("while 1 GiB is transferred, peak", transferred)
            .compared_with("while 1 GiB is registered"),
        row("after deregistering", deregistered).compared_with("before"),
        row(&format!("after doing so {AGAIN} times more"), again)
            .compared_with("while 1 GiB is registered"),
    ])
}

/// Makes keys for much memory as the kernel's driver does: from a pool, by requests.
struct Registrations {
    qp: Qp,
    cq: Cq,
    pd: u32,
    /// The driver's own key, for the lists in the requests.
    all: u32,
    area: Area,
    pages: Vec<u64>,
}

impl Registrations {
    fn new(adapter: &mut Adapter) -> Result<Self> {
        let pd = adapter.alloc_pd()?;
        let cq = adapter.create_cq(CqOptions::default())?;
        let qp = adapter.create_qp(QpOptions {
            receive: Receive::Nowhere,
            ..QpOptions::new(QpOptions::UMR, pd, cq.number)
        })?;
        adapter.connect(&qp, &Connection::to(0))?;
        let all = adapter.create_key(&Key::physical(pd, access::ALL))?;
        let area = adapter.memory.pages(REGISTERED);
        let pages = area.page_list();
        Ok(Self {
            qp,
            cq,
            pd,
            all,
            area,
            pages,
        })
    }

    fn register(&mut self, adapter: &mut Adapter) -> Result<u32> {
        let pd = self.pd;
        let key = adapter.create_key(&Key::pooled(pd, REGISTERED / PAGE))?;
        // The table in parts, and with the first one all else.
        for (part, pages) in self.pages.chunks(LOADED).enumerate().skip(1) {
            let first = (part * LOADED) as u64;
            let umr = Umr::load(key, Umr::CHECK_FREE, first, pages);
            adapter.post_umr(&mut self.qp, self.all, &umr);
            well(self.cq.wait())?;
        }
        let (start, front) = (self.area.addr(), &self.pages[..LOADED]);
        let umr = Umr::enable(key, pd, access::ALL, start, REGISTERED, 12, front);
        adapter.post_umr(&mut self.qp, self.all, &umr);
        well(self.cq.wait())?;
        Ok(key)
    }
}

/// Moves much through little memory.
struct Transfers {
    qp: Qp,
    cq: Cq,
    key: u32,
    buffer: Area,
}

impl Transfers {
    fn new(device: &mut Device) -> Result<Self> {
        let (qp, cq, pd) = device.loopback()?;
        let adapter = &mut device.adapter;
        let buffer = adapter.memory.pages(2 * u64::from(MESSAGE));
        let key = adapter.register(pd, access::ALL, &buffer)?;
        Ok(Self {
            qp,
            cq,
            key,
            buffer,
        })
    }

    fn run(&mut self, adapter: &mut Adapter) -> Result<()> {
        let source = Sge {
            key: self.key,
            addr: self.buffer.addr(),
            len: MESSAGE,
        };
        let target = source.addr + u64::from(MESSAGE);
        for _ in 0..TRANSFERRED / u64::from(MESSAGE) {
            adapter.post(&mut self.qp, &Request::write(self.key, target).data(source));
            well(self.cq.wait())?;
        }
        Ok(())
    }
}

fn well(completion: Completion) -> Result<()> {
    if completion.opcode == Completion::SENT {
        return Ok(());
    }
    Err(format!("a request failed: {completion:x?}").into())
}

/// The memory of the process now.
fn resident(process: &dyn Process) -> Result<u64> {
    process.resident().ok_or_else(|| GONE.into())
}

/// The most memory that was seen while `work` ran and after it.
fn peak_during(process: &dyn Process, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = None;
            loop {
                // Asked before the last look, so that this comes after the end.
                let last = done.load(Ordering::Acquire);
                peak = peak.max(process.resident());
                if last {
                    return peak;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let worked = work();
        done.store(true, Ordering::Release);
        let peak = sampler.join().map_err(|_| "the sampler panicked")?;
        worked?;
        peak.ok_or_else(|| GONE.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, getpid};
    use std::sync::atomic::AtomicU64;

    /// A process that has so much memory, or shows none.
    struct Holding(Option<AtomicU64>);

    impl Process for Holding {
        fn id(&self) -> Pid {
            getpid()
        }

        fn resident(&self) -> Option<u64> {
            self.0.as_ref().map(|bytes| bytes.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_end_of_the_work_is_looked_at() {
        let process = Holding(Some(AtomicU64::new(1)));
        let grow = || {
            process
                .0
                .iter()
                .for_each(|it| it.store(7, Ordering::Relaxed));
            Ok(())
        };
        assert_eq!(peak_during(&process, grow).unwrap(), 7);
    }

    #[test]
    fn work_that_fails_has_no_peak() {
        let process = Holding(Some(AtomicU64::new(1)));
        let error = peak_during(&process, || Err("no".into())).unwrap_err();
        assert_eq!(error.to_string(), "no");
    }

    #[test]
    fn a_process_that_shows_no_memory_is_an_error() {
        let process = Holding(None);
        assert_eq!(resident(&process).unwrap_err().to_string(), GONE);
        let error = peak_during(&process, || Ok(())).unwrap_err();
        assert_eq!(error.to_string(), GONE);
    }
}
