// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter that is measured: served by a process of its own as for a guest, driven from here.

use connectx_driver::{Adapter, Connection, Cq, CqOptions, Function, Memory, Qp, QpOptions};
use rustix::process::Pid;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;
use vm::memory::beyond_guest;
use vm::signals::Interrupt;
use vm::topology::{Devices, Role, Topology, TraceLimit};
use vm::{DeviceProcess, DevicesEnd, Setup, VmError};

/// Guest memory; only what is touched takes any.
const BASE: u64 = 0x1_0000_0000;
const SIZE: u64 = 3 << 30;

/// More than any transfer needs.
const TRACE: TraceLimit = TraceLimit(4096);
const NO_TRACE: TraceLimit = TraceLimit(0);

/// An adapter that was brought up.
pub struct Device {
    pub adapter: Adapter,
    process: DeviceProcess,
}

impl Device {
    pub fn start(
        setup: &Setup,
        traced: bool,
        out: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, Box<dyn Error>> {
        let devices = Devices {
            topology: Topology::T1Rdma,
            trace_limit: if traced { TRACE } else { NO_TRACE },
            ..Devices::default()
        };
        let process = DeviceProcess::start(setup, devices, DevicesEnd::default(), out, interrupt)?;
        let placed = process.placed();
        let all = placed.topology.devices(&placed.dir);
        let device = all.iter().find(|device| device.role == Role::ConnectX);
        let socket = &device.ok_or("no adapter in the topology")?.socket;
        let memory = Memory::new(BASE, SIZE)?;
        let mut adapter = Adapter::new(Function::connect(socket)?, &memory);
        adapter.bring_up()?;
        Ok(Self { adapter, process })
    }

    /// The processor time that the process has used.
    pub fn cpu_time(&self) -> Result<Duration, VmError> {
        let of_threads = || -> std::io::Result<u64> {
            let mut total = 0;
            for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
                total += nanoseconds(&fs::read_to_string(thread?.path().join("schedstat"))?);
            }
            Ok(total)
        };
        let time = of_threads().map_err(|error| VmError::io("ask for processor time", error))?;
        Ok(Duration::from_nanos(time))
    }

    pub fn pid(&self) -> Pid {
        self.process.id()
    }

    /// A queue pair that is connected with itself, and where its requests complete.
    pub fn loopback(&mut self) -> Result<(Qp, Cq, u32), connectx_driver::Failure> {
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

/// The memory of a process, the guest's not counted.
pub fn resident(process: Pid) -> u64 {
    beyond_guest(process).unwrap_or_default()
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
