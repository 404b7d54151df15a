// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs every test, part by part, and prints one total.

mod child;
mod guest;
mod report;

use crate::cli::{CheckArgs, Publish};
use crate::demo;
use crate::results::ktap::Ktap;
use crate::results::libtest::Libtest;
use crate::results::tap::Tap;
use crate::results::{Case, Reader};
use crate::signals::Interrupt;
use crate::style::{Style, relative};
use crate::topology::{Devices, LinkMode, Topology};
use crate::vm::{self, Accel, Kernel, Setup, Task, Vm, VmError};
use report::Report;
pub use report::Totals;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Limits for what hangs; building the tests counts.
const HOST_LIMIT: Duration = Duration::from_secs(30 * 60);
const SCRIPTS_LIMIT: Duration = Duration::from_secs(10 * 60);
const GUEST_LIMIT: Duration = Duration::from_secs(5 * 60);

/// KUnit suites of this project.
const SUITES: [&str; 1] = ["rust_pci_tph"];

/// Kernel parameters that run them, and not the kernel's own suites, when the guest boots.
const RUN_SUITES: [&str; 3] = [
    "kunit.enable=1",
    "kunit.autorun=1",
    "kunit.filter_glob=rust_pci_tph",
];

/// Why not every test could be run. Whatever a test does is a result, not an error.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A program does not start.
    #[error("cannot start {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// Results cannot be written, or processes not be watched.
    #[error("the check cannot go on: {0}")]
    Io(#[from] io::Error),
    /// Somebody asked to stop.
    #[error("stopped by {0}; what ran was ended, and there is no total")]
    Interrupted(&'static str),
}

/// Runs the tests and writes TAP and the closing line to `to`.
pub fn check(
    setup: &Setup,
    kernel: &Kernel,
    accel: Accel,
    args: &CheckArgs,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<Totals, CheckError> {
    let mut report = Report::new(to, Style::of_stdout());
    let context = Context {
        setup,
        kernel,
        accel,
        args,
        interrupt,
    };
    context.host(&mut report)?;
    if !args.fast {
        context.scripts(&mut report)?;
    }
    context.demo(&mut report)?;
    if !args.fast {
        context.guest(&mut report)?;
        context.kunit(&mut report)?;
    }
    Ok(report.close()?)
}

struct Context<'a> {
    setup: &'a Setup,
    kernel: &'a Kernel,
    accel: Accel,
    args: &'a CheckArgs,
    interrupt: &'a Interrupt,
}

impl Context<'_> {
    fn host(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
        report.begin("host tests: cargo test")?;
        let mut command = Command::new("cargo");
        command
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .args(["--color", "never"])
            .current_dir(self.args.repo.join("lab"));
        child::run(
            "cargo test",
            &mut command,
            HOST_LIMIT,
            &mut Libtest::default(),
            report,
            self.interrupt,
        )?;
        Ok(report.end()?)
    }

    fn scripts(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
        report.begin("host tests: scripts/selftest")?;
        let mut command = Command::new(self.args.repo.join("scripts/selftest"));
        command.current_dir(&self.args.repo);
        child::run(
            "scripts/selftest",
            &mut command,
            SCRIPTS_LIMIT,
            &mut Tap::new("scripts"),
            report,
            self.interrupt,
        )?;
        Ok(report.end()?)
    }

    fn demo(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
        for mode in [LinkMode::Flit, LinkMode::Nonflit] {
            let name = match mode {
                LinkMode::Flit => "demo-flit",
                LinkMode::Nonflit if self.args.fast => continue,
                LinkMode::Nonflit => "demo-nonflit",
            };
            report.begin(name)?;
            let plan = demo::Plan {
                kernel: self.kernel,
                accel: self.accel,
                publish: Publish::default(),
                mode,
                out: &self.args.out.join(name),
            };
            match demo::record(self.setup, &plan, self.interrupt) {
                Ok(recorded) => {
                    for case in demo::cases(&recorded, &plan) {
                        report.case(&case)?;
                    }
                }
                Err(demo::DemoError::Vm(VmError::Interrupted(signal))) => {
                    return Err(CheckError::Interrupted(signal));
                }
                Err(error) => report.case(&Case::fail(name, relative(&error.to_string())))?,
            }
            report.end()?;
        }
        Ok(())
    }

    fn guest(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
        report.begin("guest tests")?;
        let dir = self.setup.lab.parent().unwrap_or(Path::new("/"));
        let programs = guest::programs(dir)?;
        if programs.is_empty() {
            let why = format!(
                "{} holds no guest-* program: build the workspace",
                dir.display()
            );
            report.case(&Case::fail("guest tests", why))?;
        }
        let mut reader = guest::Programs::new(programs);
        let mut written = Ok(());
        let vm = Vm {
            kernel: self.kernel,
            accel: self.accel,
            // Two, so that what runs in parallel can collide.
            cpus: 2,
            devices: Some(Devices {
                topology: Topology::T1Completers,
                ..Devices::default()
            }),
            append: &RUN_SUITES,
            task: Task::Script(guest::script(dir)),
            limit: GUEST_LIMIT,
            out: &self.out_of_guest(),
        };
        let run = vm::run(self.setup, &vm, self.interrupt, &mut |line| {
            for event in reader.line(line) {
                if written.is_ok() {
                    written = report.event(&event);
                }
            }
        });
        written?;
        for event in reader.end() {
            report.event(&event)?;
        }
        let clean = "the guest ended well and its kernel log holds no complaint";
        match run {
            Ok(_) => report.case(&Case::pass(clean))?,
            Err(VmError::Interrupted(signal)) => return Err(CheckError::Interrupted(signal)),
            Err(error) => report.case(&Case::fail(clean, relative(&error.to_string())))?,
        }
        Ok(report.end()?)
    }

    fn out_of_guest(&self) -> std::path::PathBuf {
        self.args.out.join("guest")
    }

    /// The suites ran when the guest of the guest tests booted.
    fn kunit(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
        report.begin("KUnit")?;
        let log = fs::read(self.out_of_guest().join("serial.log")).unwrap_or_default();
        let mut reader = Ktap::new(&SUITES);
        for line in String::from_utf8_lossy(&log).lines() {
            for event in reader.line(line) {
                report.event(&event)?;
            }
        }
        for event in reader.end() {
            report.event(&event)?;
        }
        Ok(report.end()?)
    }
}
