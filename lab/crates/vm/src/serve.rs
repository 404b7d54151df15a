// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab devices`: the process that serves the devices.

use crate::topology::{
    ConnectX, DevicesArgs, Model, NothingToChange, Profile, StTable, Tags, Topology,
};
use clap::Args;
use connectx::ConnectXConfig;
use devices::{AcceleratorConfig, Device, Endpoint, Hierarchy};
use env_logger::Env;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{panic, process, thread};

/// Size of the accelerator's memory BAR in bytes: more than the guest's firmware finds room for
/// below 4 GiB, so that writes into it have 64-bit addresses. Only what is touched takes memory.
const ACCELERATOR_MEMORY: u64 = 4 << 30;

/// What the device process prints when QEMU may connect.
pub const READY_LINE: &str = "ready";

/// What begins the line that the device process prints when something happened which must not; then
/// it ends.
pub const COMPLAINT: &str = "complaint: ";

/// Exit status of a device process that panicked: Rust's own.
const PANICKED: i32 = 101;

/// Upon this signal the process dies, as by SIGKILL, when the next transfer is on its way.
pub const DIE: Signal = Signal::USR1;

/// Why the devices are not served, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The devices cannot be set up, or a client broke the protocol.
    #[error(transparent)]
    Devices(#[from] devices::Error),
    /// An option changes nothing.
    #[error(transparent)]
    Options(#[from] NothingToChange),
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
    pub devices: DevicesArgs,
}

/// Serves the devices until their clients have gone. Says [`READY_LINE`] when QEMU may connect, and
/// what a device complains about.
pub fn serve(args: ServeArgs) -> Result<(), ServeError> {
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
    complain_of_panics();
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    let crash = Arc::default();
    signal_hook::flag::register(DIE.as_raw(), Arc::clone(&crash))
        .map_err(io("wait for the signal to die"))?;
    let devices = args.devices.devices()?;
    let limit = devices.trace_limit.bytes();
    let running = devices::serve(&Hierarchy {
        mode: devices.topology.mode.into(),
        iommu: devices.topology.monitor(&args.dir),
        crash,
        trace_dir: limit.map(|_| args.trace),
        trace_limit: limit.unwrap_or_default(),
        trace_snaplen: devices.snaplen,
        endpoints: endpoints(&devices.topology, &args.dir),
    })?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{READY_LINE}")
        .and_then(|()| stdout.flush())
        .map_err(io("say that the devices are ready"))?;
    running.wait().inspect_err(|error| {
        if matches!(
            error,
            devices::Error::Complaint { .. } | devices::Error::Panicked(_)
        ) {
            complain(&error.to_string());
        }
    })?;
    Ok(())
}

/// Says what happened which must not, in one line.
fn complain(what: &str) {
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    // The log has it, too.
    let _ = writeln!(io::stdout().lock(), "{COMPLAINT}{what}");
}

/// Whatever thread panics, the process ends at once: a device that goes on without one of its threads
/// would only hang its guest.
fn complain_of_panics() {
    let log = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        log(panicked);
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        complain(&format!("the thread {name} {panicked}"));
        process::exit(PANICKED);
    }));
}

/// What is served, with the sockets in `dir`.
pub(crate) fn endpoints(topology: &Topology, dir: &Path) -> Vec<Endpoint> {
    let devices = topology.devices.iter();
    devices
        .map(|device| Endpoint {
            name: device.name.clone(),
            socket: device.socket(dir),
            bdf: topology.bdf(device),
            path: topology.path(device),
            device: model(device.model),
        })
        .collect()
}

fn model(model: Model) -> Box<dyn Device> {
    match model {
        Model::Accelerator(accelerator) => Box::new(AcceleratorConfig {
            completer: accelerator.completer.into(),
            memory: ACCELERATOR_MEMORY,
        }),
        Model::Initiator(initiator) => Box::new(initiator.requester),
        Model::Connectx(adapter) => Box::new(connectx(adapter)),
    }
}

fn connectx(adapter: ConnectX) -> ConnectXConfig {
    let full = ConnectXConfig::default();
    let config = ConnectXConfig {
        extended: adapter.tags == Tags::TphExt,
        table: adapter.st_table == StTable::Capability,
        ..full
    };
    match adapter.profile {
        Profile::Full => config,
        Profile::Plain => ConnectXConfig {
            vectors: 1,
            profile: connectx::Profile {
                latency_sensitive_disable: true,
                ..full.profile
            },
            ..config
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::preset;
    use std::env;
    use std::process::Command;

    /// All kinds of adapters in one guest.
    #[test]
    fn several_adapters_are_served_side_by_side() {
        let text = include_str!("topology/presets/t1-rdma.toml").replace(
            "\n]\n",
            r#"
    { name = "direct", bus = "pcie.0", slot = 0x14, kind = "connectx", st_table = "none" },
    { name = "plain", bus = "pcie.0", slot = 0x15, kind = "connectx", profile = "plain" },
    { name = "short", bus = "pcie.0", slot = 0x16, kind = "connectx", tags = "tph" },
]
"#,
        );
        let topology = Topology::from_toml(&text).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let endpoints = endpoints(&topology, dir.path());
        assert_eq!(endpoints.len(), preset::T1_RDMA.devices.len() + 3);
        let adapters: Vec<_> = topology
            .devices
            .iter()
            .filter_map(|device| match device.model {
                Model::Connectx(adapter) => Some(connectx(adapter)),
                _ => None,
            })
            .map(|config| (config.table, config.vectors, config.extended))
            .collect();
        assert_eq!(
            adapters,
            [
                (true, 8, true),
                (false, 8, true),
                (true, 1, true),
                (true, 8, false)
            ]
        );
        let sockets: Vec<_> = endpoints.iter().map(|one| one.socket.clone()).collect();
        let running = devices::serve(&Hierarchy {
            mode: topology.mode.into(),
            iommu: None,
            crash: Arc::default(),
            trace_dir: Some(dir.path().into()),
            trace_limit: 1 << 20,
            trace_snaplen: None,
            endpoints,
        })
        .unwrap();
        for socket in sockets {
            assert!(socket.exists(), "{socket:?}");
        }
        running.dismiss();
        // Whoever hangs up at once is not served, and not complained about.
        running.wait().unwrap();
    }

    /// Set in the child process that is to panic.
    const PANICS: &str = "LAB_TEST_PANICS";

    #[test]
    fn a_panic_of_any_thread_is_a_complaint_and_ends_the_process() {
        if env::var_os(PANICS).is_some() {
            complain_of_panics();
            let engine = thread::Builder::new().name("nic engine".into());
            engine.spawn(|| panic!("a fault\nin two lines")).unwrap();
            loop {
                thread::park();
            }
        }
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("serve::tests::a_panic_of_any_thread_is_a_complaint_and_ends_the_process")
            .env(PANICS, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(PANICKED), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut complaints = text.lines().filter_map(|line| line.strip_prefix(COMPLAINT));
        let complaint = complaints.next().unwrap();
        assert!(
            complaint.starts_with("the thread nic engine panicked at "),
            "{text}"
        );
        assert!(complaint.ends_with(" a fault in two lines"), "{text}");
        assert_eq!(complaints.next(), None);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains("in two lines"), "{log}");
    }
}
