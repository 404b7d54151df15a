// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter that is measured: served by a process of its own as for a guest, driven from here.

use crate::{Adapter, Connection, Cq, CqOptions, Function, GuestMemory, Qp, QpOptions};
use rustix::process::Pid;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Guest memory; only what is touched takes any.
const BASE: u64 = 0x1_0000_0000;
const SIZE: u64 = 3 << 30;

/// What the process that serves an adapter records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Nothing.
    Nothing,
    /// Every TLP, whole.
    Whole,
    /// The first bytes of every TLP, as many as headers may have.
    Headers,
}

/// How long the process may take until it sleeps.
const LIMIT: Duration = Duration::from_secs(10);

/// The process that serves an adapter. Dropping it ends the process.
pub trait Process: Sync {
    /// Its number.
    fn id(&self) -> Pid;

    /// The memory that it has now, in bytes, the guest's not counted; `None` if it does not show.
    fn resident(&self) -> Option<u64>;
}

/// An adapter that was brought up.
pub struct Device {
    /// The adapter.
    pub adapter: Adapter,
    process: Box<dyn Process>,
}

impl Device {
    /// Brings up the adapter that `process` serves on `socket`.
    pub fn connect(socket: &Path, process: impl Process + 'static) -> Result<Self, Box<dyn Error>> {
        let memory = GuestMemory::new(BASE, SIZE)?;
        let mut adapter = Adapter::new(Function::connect(socket)?, &memory);
        adapter.bring_up()?;
        Ok(Self {
            adapter,
            process: Box::new(process),
        })
    }

    /// The adapter, and the process that serves it.
    pub(super) fn parts(&mut self) -> (&mut Adapter, &dyn Process) {
        (&mut self.adapter, &*self.process)
    }

    /// The processor time that the process has used.
    fn cpu_time(&self) -> Result<Duration, Box<dyn Error>> {
        let of_threads = || -> std::io::Result<u64> {
            let mut total = 0;
            for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
                total += nanoseconds(&fs::read_to_string(thread?.path().join("schedstat"))?);
            }
            Ok(total)
        };
        let time = of_threads()
            .map_err(|error| format!("cannot ask for the device's processor time: {error}"))?;
        Ok(Duration::from_nanos(time))
    }

    /// The processor time when the process sleeps: while it runs, not all is accounted for yet.
    pub(super) fn settled(&self) -> Result<Duration, Box<dyn Error>> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let before = self.cpu_time()?;
            thread::sleep(Duration::from_millis(20));
            if self.cpu_time()? == before {
                return Ok(before);
            }
        }
        let limit = LIMIT.as_secs();
        Err(format!("the device process still runs after {limit} s without work").into())
    }

    /// A queue pair that is connected with itself, and where its requests complete.
    pub(super) fn loopback(&mut self) -> Result<(Qp, Cq, u32), crate::Error> {
        let pd = self.adapter.alloc_pd()?;
        let cq = self.adapter.create_cq(CqOptions {
            log_size: 8,
            ..CqOptions::default()
        })?;
        let qp = self.adapter.create_qp(QpOptions {
            log_send: 8,
            ..QpOptions::new(QpOptions::RC, pd, cq.number)
        })?;
        self.adapter.connect(&qp, &Connection::to(qp.number))?;
        Ok((qp, cq, pd))
    }
}

/// The first of the scheduler's numbers about a thread: how long it ran.
fn nanoseconds(schedstat: &str) -> u64 {
    let first = schedstat.split_ascii_whitespace().next();
    first.and_then(|time| time.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_run() {
        assert_eq!(nanoseconds("721158 9772711 2\n"), 721_158);
        assert_eq!(nanoseconds(""), 0);
        assert!(nanoseconds(&fs::read_to_string("/proc/self/schedstat").unwrap()) > 0);
    }
}
