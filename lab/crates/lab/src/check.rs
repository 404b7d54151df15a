// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs every test, part by part, and prints one total.

mod arrivals;
mod boots;
mod checkers;
mod child;
pub(crate) mod guest;
pub(crate) mod report;

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
use boots::Boot;
use report::Report;
pub use report::Totals;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Limits for what hangs; building the tests counts. That of the guest is for a plain kernel.
const HOST_LIMIT: Duration = Duration::from_secs(30 * 60);
const SCRIPTS_LIMIT: Duration = Duration::from_secs(10 * 60);
const GUEST_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Uses of the kernel half that its types refuse.
const MISUSE: &str = "tools/testing/selftests/dma-buf-tph/compile-fail";

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

/// A kernel to run the guest's tests on.
#[derive(Debug)]
pub struct Target {
    /// The kernel.
    pub kernel: Kernel,
    /// How its guests execute.
    pub accel: Accel,
}

/// Runs the host's tests, then those of the guest on every target, and writes TAP and the closing
/// line to `to`. The first target's traces and logs go into the output directory itself, those of
/// each other one into a directory there that has the kernel's name.
pub fn check(
    setup: &Setup,
    targets: &[Target],
    args: &CheckArgs,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<Totals, CheckError> {
    let mut report = Report::new(to, Style::of_stdout());
    if !args.guest_only {
        let host = Host { args, interrupt };
        host.lab(&mut report)?;
        if !args.fast {
            host.scripts(&mut report)?;
            host.misuse(&targets[0].kernel, &mut report)?;
        }
    }
    for (index, Target { kernel, accel }) in targets.iter().enumerate() {
        let name = kernel.name();
        let guest = Guest {
            setup,
            kernel,
            accel: *accel,
            fast: args.fast,
            is_first: index == 0,
            out: match index {
                0 => args.out.clone(),
                _ => args.out.join(&name),
            },
            name,
            interrupt,
        };
        let boots = boots::of(kernel);
        if boots.has_demos {
            guest.demo(&mut report)?;
        }
        if !args.fast {
            for boot in boots.boots {
                guest.programs(boot, &mut report)?;
            }
            guest.kunit(boots.boots, &mut report)?;
        }
    }
    Ok(report.close()?)
}

/// The tests that need no guest.
struct Host<'a> {
    args: &'a CheckArgs,
    interrupt: &'a Interrupt,
}

impl Host<'_> {
    fn lab(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
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

    /// What the types of the kernel half must refuse, compiled against `kernel`.
    fn misuse(&self, kernel: &Kernel, report: &mut Report<'_>) -> Result<(), CheckError> {
        report.begin(&format!(
            "misuse that must not compile on {}",
            kernel.name()
        ))?;
        let mut command = Command::new(self.args.repo.join("scripts/compile-fail"));
        command
            .arg(kernel.dir())
            .arg(self.args.repo.join(MISUSE))
            .arg(self.args.out.join("compile-fail"));
        child::run(
            "scripts/compile-fail",
            &mut command,
            HOST_LIMIT,
            &mut Tap::new("compile-fail"),
            report,
            self.interrupt,
        )?;
        Ok(report.end()?)
    }
}

/// The tests on one kernel.
struct Guest<'a> {
    setup: &'a Setup,
    kernel: &'a Kernel,
    accel: Accel,
    fast: bool,
    /// Whether no other kernel's tests were run before.
    is_first: bool,
    name: String,
    out: PathBuf,
    interrupt: &'a Interrupt,
}

impl Guest<'_> {
    fn begin(&self, part: &str, report: &mut Report<'_>) -> io::Result<()> {
        report.begin(&format!("{part} on {}", self.name))
    }

    fn demo(&self, report: &mut Report<'_>) -> Result<(), CheckError> {
        let all = [
            ("demo-flit", Topology::T1, LinkMode::Flit),
            ("demo-nonflit", Topology::T1, LinkMode::Nonflit),
            ("demo-t2", Topology::T2, LinkMode::Flit),
            ("demo-t3", Topology::T3, LinkMode::Flit),
        ];
        let count = if self.fast { 1 } else { all.len() };
        for (name, topology, mode) in all.into_iter().take(count) {
            if !self.is_first && mode != LinkMode::default() {
                // How a link encodes does not depend on the kernel.
                continue;
            }
            self.begin(name, report)?;
            let plan = demo::Plan {
                kernel: self.kernel,
                accel: self.accel,
                publish: Publish::default(),
                topology,
                mode,
                out: &self.out.join(name),
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

    fn programs(&self, boot: &Boot, report: &mut Report<'_>) -> Result<(), CheckError> {
        self.begin(boot.part, report)?;
        let dir = self.setup.lab.parent().unwrap_or(Path::new("/"));
        let out = self.out.join(boot.dir);
        let mut programs = Vec::new();
        for prefix in boot.programs {
            let found = guest::programs(dir, prefix)?;
            if found.is_empty() {
                let why = format!(
                    "{} holds no {prefix}* program: build the workspace",
                    dir.display()
                );
                report.case(&Case::fail(boot.part, why))?;
            }
            programs.extend(found);
        }
        let checkers = checkers::command(self.kernel, &out)?;
        let last = checkers.as_deref().map(|command| (checkers::NAME, command));
        programs.extend(last.map(|(name, _)| name.to_owned()));
        let parameters = boot.parameters();
        let parameters: Vec<_> = parameters.iter().map(String::as_str).collect();
        let mut reader = guest::Programs::new(programs);
        let mut written = Ok(());
        let vm = Vm {
            kernel: self.kernel,
            accel: self.accel,
            // Two, so that what runs in parallel can collide.
            cpus: 2,
            devices: Some(Devices {
                topology: boot.topology,
                ..Devices::default()
            }),
            devices_end: boot.devices_end,
            append: &parameters,
            task: Task::Script(guest::script(dir, boot.programs, last)),
            limit: GUEST_LIMIT,
            out: &out,
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
        if let Some(case) = boot.arrivals.case(&out) {
            report.case(&case)?;
        }
        Ok(report.end()?)
    }

    /// What ran when the guests of `boots` started.
    fn kunit(&self, boots: &[Boot], report: &mut Report<'_>) -> Result<(), CheckError> {
        let ran: Vec<_> = boots
            .iter()
            .filter_map(|boot| boot.kunit.as_ref().map(|kunit| (boot.dir, kunit)))
            .filter(|(_, kunit)| self.kernel.has(kunit.option))
            .collect();
        if ran.is_empty() {
            return Ok(());
        }
        self.begin("KUnit", report)?;
        for (dir, kunit) in ran {
            let log = fs::read(self.out.join(dir).join("serial.log")).unwrap_or_default();
            let mut reader = Ktap::new(kunit.names);
            for line in String::from_utf8_lossy(&log).lines() {
                for event in reader.line(line) {
                    report.event(&event)?;
                }
            }
            for event in reader.end() {
                report.event(&event)?;
            }
        }
        Ok(report.end()?)
    }
}
