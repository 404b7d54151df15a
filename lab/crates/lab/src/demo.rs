// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo: the guest publishes a steering tag, hands the dma-buf to the initiator's driver, and a
//! peer-to-peer write follows; then two controls. Everything is held against the recorded TLPs.

mod operation;
mod print;
pub mod steps;
pub mod verify;

use crate::check::programs;
use crate::cli::{Driver, Publish};
use fabric::trace::{BINARY_FILE, Reader, Record};
use report::style::{self, Style};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use steps::{Kind, Step, StepsError};
use verify::verify;
use vm::results::{Case, Verdict};
use vm::signals::Interrupt;
use vm::topology::Topology;
use vm::{
    Accel, DEVICE_MEMORY_MAX, DevicesEnd, Kernel, Manifest, ManifestError, Run, Setup, Task, Vm,
    VmError,
};

/// A demo's guest ends after seconds; this is for one that hangs.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Most memory, in bytes, that QEMU and the device process may take together.
const TOTAL_MEMORY_MAX: u64 = 4 << 30;

/// A demo to be run.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// How the guest executes.
    pub accel: Accel,
    /// What is published.
    pub publish: Publish,
    /// What drives the initiators.
    pub driver: Driver,
    /// Where the devices sit.
    pub topology: &'a Topology,
    /// Where traces and logs go.
    pub out: &'a Path,
    /// The repository.
    pub repo: &'a Path,
}

impl Plan<'_> {
    /// How many processors the guest needs. More cost more than they help: little of a boot runs in
    /// parallel.
    fn cpus(&self) -> u8 {
        match self.driver {
            Driver::UserSpace if self.topology.has_root_port() => {
                u8::try_from(self.publish.cpu + 1).unwrap_or(u8::MAX)
            }
            _ => 1,
        }
    }
}

/// Why there is nothing to verify.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The guest could not be run, or not to its end.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The guest's program gave up.
    #[error("{program} ended with status {status}: {last}; its messages are in {}", .log.display())]
    Program {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: u8,
        /// The last line that it wrote to stderr.
        last: String,
        /// All that it wrote to stderr.
        log: PathBuf,
    },
    /// The guest's program is not there.
    #[error(transparent)]
    NoProgram(#[from] ManifestError),
    /// The topology is made for another requester.
    #[error(
        "the requester of topology {0} is its RDMA adapter; a driver of initiators needs another one, such as t3"
    )]
    Adapter(String),
    /// The guest's report is not one of the demo.
    #[error(transparent)]
    Steps(#[from] StepsError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] fabric::trace::ReadError),
}

/// What a demo run left, before it is judged.
#[derive(Debug)]
pub struct Recorded {
    steps: Vec<Step>,
    trace: Vec<Record>,
    run: Run,
}

/// Runs the guest program of the demo and collects its report and the trace.
pub fn record(
    setup: &Setup,
    plan: &Plan<'_>,
    interrupt: &Interrupt,
) -> Result<Recorded, DemoError> {
    let has_adapter = plan.topology.adapter().is_some();
    let (program, kinds) = match plan.driver {
        Driver::Kernel if has_adapter => (programs::RDMA_DEMO, Kind::OF_ADAPTER),
        Driver::Kernel => (programs::DEMO, Kind::OF_INITIATORS),
        Driver::UserSpace if has_adapter => {
            return Err(DemoError::Adapter(plan.topology.name.clone()));
        }
        Driver::UserSpace => {
            let kinds = if plan.topology.has_root_port() {
                Kind::OF_USER_SPACE
            } else {
                Kind::OF_INITIATORS
            };
            (programs::USER_SPACE_DEMO, kinds)
        }
    };
    let mut step = program.step(&Manifest::of_build(&setup.lab)?, plan.repo)?;
    step.command.extend(arguments(plan));
    let mut report = String::new();
    let vm = Vm {
        kernel: plan.kernel,
        accel: plan.accel,
        cpus: plan.cpus(),
        icount: false,
        devices: Some(plan.topology.clone().into()),
        devices_end: DevicesEnd::default(),
        append: &[],
        task: Task::Script(step.to_string()),
        limit: LIMIT,
        out: plan.out,
    };
    let run = vm::run(setup, &vm, interrupt, &mut |line| {
        report.push_str(line);
        report.push('\n');
    })?;
    if run.status != 0 {
        let log = plan.out.join("guest.stderr");
        let said = fs::read(&log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = vm::log::tail(&said, 1).concat();
        return Err(DemoError::Program {
            program: program.title(),
            status: run.status,
            last,
            log,
        });
    }
    let steps = steps::parse(&report, kinds)?;
    let trace = Reader::open(&plan.out.join(BINARY_FILE))?.collect::<Result<_, _>>()?;
    Ok(Recorded { steps, trace, run })
}

/// What the guest's program is told.
fn arguments(plan: &Plan<'_>) -> Vec<String> {
    let Publish { st, ph, ext, cpu } = plan.publish;
    let mut arguments = vec![
        "--st".to_owned(),
        format!("{st:#x}"),
        "--ph".to_owned(),
        ph.to_string(),
        "--ext".to_owned(),
        format!("{ext:#x}"),
    ];
    if plan.driver == Driver::UserSpace {
        arguments.extend(["--cpu".to_owned(), cpu.to_string()]);
    }
    arguments
}

/// The judgement as test results.
pub fn cases(recorded: &Recorded, plan: &Plan<'_>) -> Vec<Case> {
    let verified = verify(
        &recorded.steps,
        &recorded.trace,
        plan.publish,
        plan.topology,
    );
    let mut cases: Vec<Case> = verified
        .iter()
        .flat_map(|verified| verified.cases().collect::<Vec<_>>())
        .collect();
    cases.extend(memory_cases(
        recorded.run.devices_peak,
        recorded.run.qemu_peak,
    ));
    cases
}

/// The run keeps to its share of memory: peaks of the device process beyond the guest's memory, and
/// of QEMU, in bytes.
fn memory_cases(devices: u64, qemu: u64) -> [Case; 2] {
    let case = |name, bytes: u64, max: u64| {
        // Nothing at all was not measured.
        if bytes > 0 && bytes < max {
            Case::pass(name)
        } else {
            Case::fail(name, format!("it took {:.1} MiB", mib(bytes)))
        }
    };
    [
        case(
            "the device process takes less than 64 MiB beyond the guest's memory",
            devices,
            DEVICE_MEMORY_MAX,
        ),
        case(
            "QEMU and the device process take less than 4 GiB",
            qemu.saturating_add(devices),
            TOTAL_MEMORY_MAX,
        ),
    ]
}

/// Writes the demo's report to `to` and says whether everything is as it should be.
pub fn report(recorded: &Recorded, plan: &Plan<'_>, to: &mut dyn Write) -> io::Result<bool> {
    let style = Style::of_stdout();
    let verified = verify(
        &recorded.steps,
        &recorded.trace,
        plan.publish,
        plan.topology,
    );
    writeln!(to, "{}\n", title(plan, style))?;
    for one in &verified {
        writeln!(to, "{}", print::step(one, style))?;
    }
    let run = &recorded.run;
    let mut holds = verified.iter().all(verify::Verified::holds);
    for case in memory_cases(run.devices_peak, run.qemu_peak) {
        if let Verdict::Fail(why) = case.verdict {
            holds = false;
            writeln!(to, "{} {}: {why}", style.bad("not so:"), case.name)?;
        }
    }
    let good = verified.iter().filter(|one| one.holds()).count();
    let verdict = format!("{good} of {} steps are as they should be", verified.len());
    let verdict = if holds {
        style.good(verdict)
    } else {
        style.bad(verdict)
    };
    writeln!(
        to,
        "{verdict} · {:.1} s · QEMU {:.0} MiB, device process {:.1} MiB · traces in {}",
        run.took.as_secs_f32(),
        mib(run.qemu_peak),
        mib(run.devices_peak),
        style::relative(&plan.out.display().to_string())
    )?;
    let page = plan.out.join(trace::PAGE_FILE);
    let about = title(plan, Style::default());
    trace::write_page(
        &plan.out.join(BINARY_FILE),
        &page,
        &about,
        &trace::filter::Filter::default(),
    )
    .map_err(io::Error::other)?;
    let page = style::relative(&page.display().to_string());
    writeln!(to, "to look at in a browser: {page}")?;
    to.flush()?;
    Ok(holds)
}

fn title(plan: &Plan<'_>, style: Style) -> String {
    let release = plan.kernel.release().unwrap_or_else(|| "kernel".into());
    let accel = match plan.accel {
        Accel::Tcg => "software emulation",
        Accel::Kvm => "KVM",
    };
    let mode = tlp::Mode::from(plan.topology.mode);
    let topology = plan.topology.name.to_uppercase();
    let driver = match plan.driver {
        Driver::Kernel => "",
        Driver::UserSpace => " · driver in user space",
    };
    format!(
        "{} {}",
        style.heading("rust-tph demo"),
        style.faint(format!(
            "· Linux {release} · {accel} · {mode} mode · topology {topology}{driver} · TLPs emitted by the model"
        ))
    )
}

#[allow(clippy::cast_precision_loss)] // a size for people
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm::topology::preset;

    #[test]
    fn memory_has_bounds_and_must_be_measured() {
        let failed = |devices, qemu| {
            memory_cases(devices, qemu).map(|case| matches!(case.verdict, Verdict::Fail(_)))
        };
        assert_eq!(failed(1 << 20, 1 << 30), [false, false]);
        assert_eq!(failed(64 << 20, 1 << 30), [true, false]);
        assert_eq!(failed(1 << 20, (4 << 30) - (1 << 20)), [false, true]);
        assert_eq!(failed(0, 0), [true, true]);
    }

    fn kernel(dir: &Path) -> Kernel {
        fs::create_dir_all(dir.join("arch/x86/boot")).unwrap();
        for file in ["arch/x86/boot/bzImage", ".config", "modules.order"] {
            fs::write(dir.join(file), "").unwrap();
        }
        Kernel::at(dir).unwrap()
    }

    fn plan<'a>(kernel: &'a Kernel, driver: Driver, topology: &'a Topology) -> Plan<'a> {
        Plan {
            kernel,
            accel: Accel::Tcg,
            publish: Publish {
                st: 0x0f,
                ph: 3,
                ext: 0x1234,
                cpu: 2,
            },
            driver,
            topology,
            out: Path::new("/nowhere"),
            repo: Path::new("/nowhere"),
        }
    }

    #[test]
    fn the_guest_program_gets_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = kernel(dir.path());
        let arguments = |driver| arguments(&plan(&kernel, driver, &preset::T3)).join(" ");
        assert_eq!(arguments(Driver::Kernel), "--st 0xf --ph 3 --ext 0x1234");
        assert_eq!(
            arguments(Driver::UserSpace),
            "--st 0xf --ph 3 --ext 0x1234 --cpu 2"
        );
    }

    #[test]
    fn the_guest_has_the_processor_that_is_steered_at() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = kernel(dir.path());
        for (driver, topology, cpus) in [
            (Driver::Kernel, &preset::T3, 1),
            (Driver::UserSpace, &preset::T2, 1),
            (Driver::UserSpace, &preset::T3, 3),
        ] {
            assert_eq!(plan(&kernel, driver, topology).cpus(), cpus);
        }
    }

    #[test]
    fn a_driver_of_initiators_is_not_for_the_adapter() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = kernel(dir.path());
        let plan = plan(&kernel, Driver::UserSpace, &preset::T1_RDMA);
        let setup = Setup::new().unwrap();
        let error = record(&setup, &plan, &Interrupt::default()).unwrap_err();
        assert!(error.to_string().contains("t1-rdma"), "{error}");
    }
}
