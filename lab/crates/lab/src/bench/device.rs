// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter that is measured, in a process of its own as for a guest.

use connectx_driver::measure::{Device, Process, Recorded};
use fabric::trace::Snaplen;
use rustix::process::Pid;
use std::error::Error;
use std::path::Path;
use vm::memory::beyond_guest;
use vm::signals::Interrupt;
use vm::topology::{Devices, TraceLimit, preset};
use vm::{DeviceProcess, DevicesEnd, Setup};

/// More than any transfer needs.
const TRACE: TraceLimit = TraceLimit(4096);
const NO_TRACE: TraceLimit = TraceLimit(0);

struct Served(DeviceProcess);

impl Process for Served {
    fn id(&self) -> Pid {
        self.0.id()
    }

    fn resident(&self) -> Option<u64> {
        beyond_guest(self.0.id())
    }
}

/// Starts the process, which leaves its trace in `out`, and brings up the adapter.
pub fn start(
    setup: &Setup,
    recorded: Recorded,
    out: &Path,
    interrupt: &Interrupt,
) -> Result<Device, Box<dyn Error>> {
    let devices = Devices {
        topology: preset::T1_RDMA.clone(),
        trace_limit: match recorded {
            Recorded::Nothing => NO_TRACE,
            Recorded::Whole | Recorded::Headers => TRACE,
        },
        snaplen: (recorded == Recorded::Headers).then_some(Snaplen::HEADERS),
    };
    let process = DeviceProcess::start(setup, devices, DevicesEnd::default(), out, interrupt)?;
    let placed = process.placed();
    let adapter = placed.topology.adapter();
    let adapter = adapter.ok_or("no adapter in the topology")?;
    let socket = adapter.socket(&placed.dir);
    Device::connect(&socket, Served(process))
}
