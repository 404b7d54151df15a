// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab devices`: the process that serves the devices.

use crate::topology::{Adapter, Completer, Device, Devices, Role, StTable, Tags};
use clap::Args;
use connectx::{ConnectXConfig, Profile};
use devices::{AcceleratorConfig, Endpoint, InitiatorConfig, Topology as Served};
use env_logger::Env;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Size of the accelerator's memory BAR in bytes: more than the guest's firmware finds room for
/// below 4 GiB, so that writes into it have 64-bit addresses. Only what is touched takes memory.
const ACCELERATOR_MEMORY: u64 = 4 << 30;

/// What the device process prints when QEMU may connect.
pub const READY_LINE: &str = "ready";

/// Upon this signal the process dies, as by SIGKILL, when the next transfer is on its way.
pub const DIE: Signal = Signal::USR1;

/// Why the devices are not served, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The devices cannot be set up, or a client broke the protocol.
    #[error(transparent)]
    Devices(#[from] devices::Error),
    /// The system refused something.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
}

/// Options of `lab devices`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Directory for the sockets
    #[arg(long, value_name = "RUNDIR")]
    pub dir: PathBuf,
    /// Directory for the trace
    #[arg(long, value_name = "DIR")]
    pub trace: PathBuf,
    /// End as soon as the parent, which has this number, is gone
    #[arg(long, value_name = "PID", hide = true)]
    pub end_with_parent: Option<i32>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub devices: Devices,
}

/// Serves the devices until their clients have gone. Says [`READY_LINE`] when QEMU may connect.
pub fn serve(args: &ServeArgs) -> Result<(), ServeError> {
    let io = |what| move |error| ServeError::Io { what, error };
    if let Some(parent) = args.end_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(io::Error::from)
            .map_err(io("ask for the parent's death"))?;
        if getppid() != Pid::from_raw(parent) {
            // It died before the line above.
            return Ok(());
        }
    }
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    let crash = Arc::default();
    signal_hook::flag::register(DIE.as_raw(), Arc::clone(&crash))
        .map_err(io("wait for the signal to die"))?;
    let limit = args.devices.trace_limit.bytes();
    let running = devices::serve(&Served {
        mode: args.devices.mode.into(),
        iommu: args.devices.topology.monitor(&args.dir),
        crash,
        trace_dir: limit.map(|_| args.trace.clone()),
        trace_limit: limit.unwrap_or_default(),
        endpoints: endpoints(args.devices, &args.dir),
    })?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{READY_LINE}")
        .and_then(|()| stdout.flush())
        .map_err(io("say that the devices are ready"))?;
    running.wait()?;
    Ok(())
}

/// What is served, with the sockets in `dir`.
pub(crate) fn endpoints(devices: Devices, dir: &Path) -> Vec<Endpoint> {
    let all = devices.topology.devices(dir).into_iter();
    all.map(|device| endpoint(device, devices)).collect()
}

fn connectx(devices: Devices) -> ConnectXConfig {
    let full = ConnectXConfig::default();
    let config = ConnectXConfig {
        extended: devices.tags == Tags::TphExt,
        table: devices.st_table == StTable::Capability,
        ..full
    };
    match devices.adapter {
        Adapter::Full => config,
        Adapter::Plain => ConnectXConfig {
            vectors: 1,
            profile: Profile {
                latency_sensitive_disable: true,
                ..full.profile
            },
            ..config
        },
    }
}

fn endpoint(device: Device, devices: Devices) -> Endpoint {
    let accelerator = |completer: Completer| {
        Box::new(AcceleratorConfig {
            completer: completer.into(),
            memory: ACCELERATOR_MEMORY,
        })
    };
    Endpoint {
        bdf: device.bdf,
        path: devices.topology.path(&device),
        name: device.name.into(),
        device: match device.role {
            Role::Initiator => Box::new(InitiatorConfig::Tph),
            Role::ExtendedInitiator => Box::new(InitiatorConfig::Extended),
            Role::InitiatorOf(config) => Box::new(config),
            Role::Accelerator => accelerator(devices.completer),
            Role::AcceleratorOf(completer) => accelerator(completer),
            Role::ConnectX => Box::new(connectx(devices)),
        },
        socket: device.socket,
    }
}
