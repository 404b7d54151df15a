// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab`: see `lab --help`.

use clap::Parser;
use lab::check::Target;
use lab::cli::{Cli, Command, KernelArgs, ShellArgs};
use lab::{bench, check, conformance, demo, faults, vfio_selftests};
use report::style::relative;
use std::error::Error;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use vm::signals::Interrupt;
use vm::{Accel, DevicesEnd, Kernel, Setup, Task, Vm};

/// A shell is for a person; it may stay open for a week.
const SHELL_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::from(2),
        Err(error) => {
            eprintln!("lab: {}", relative(&error.to_string()));
            ExitCode::from(2)
        }
    }
}

/// Whether the reader of stdout went away.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Does it, and says whether everything is as it should be.
fn run(command: Command) -> Result<bool, Box<dyn Error>> {
    match command {
        Command::Devices(args) => {
            vm::serve::serve(args)?;
            Ok(true)
        }
        Command::Trace(command) => {
            trace::command::run(&command, &mut stdout().lock())?;
            Ok(true)
        }
        Command::Series(command) => Ok(series::run(&command, &mut stdout().lock())?),
        Command::Demo(args) => {
            let lab = Lab::set_up(&args.kernel)?;
            let plan = demo::Plan {
                kernel: &lab.kernel,
                accel: lab.accel,
                publish: args.publish,
                driver: args.driver,
                topology: &args.topology.topology(),
                out: &args.out,
                repo: &args.repo,
            };
            let recorded = demo::record(&lab.setup, &plan, &lab.interrupt)?;
            Ok(demo::report(&recorded, &plan, &mut stdout().lock())?)
        }
        Command::Check(args) => {
            let lab = Lab::set_up(&args.kernel)?;
            let mut targets = vec![lab.target()];
            for dir in &args.also_on {
                targets.push(lab.target_at(dir, &args.kernel.cache)?);
            }
            let totals = check::check(
                &lab.setup,
                &targets,
                &args,
                &lab.interrupt,
                &mut stdout().lock(),
            )?;
            Ok(totals.failed == 0 && totals.passed > 0)
        }
        Command::VfioSelftests(args) => {
            let lab = Lab::set_up(&args.kernel)?;
            let pristine = lab.target_at(&args.pristine, &args.kernel.cache)?;
            let totals = vfio_selftests::vfio_selftests(
                &lab.setup,
                &pristine,
                &lab.target(),
                &args,
                &lab.interrupt,
                &mut stdout().lock(),
            )?;
            Ok(totals.failed == 0 && totals.passed > 0)
        }
        Command::Conformance(args) => {
            let lab = Lab::set_up(&args.kernel)?;
            let totals = conformance::conformance(
                &lab.setup,
                &lab.kernel,
                lab.accel,
                &args.out,
                &lab.interrupt,
                &mut stdout().lock(),
            )?;
            Ok(totals.failed == 0 && totals.passed > 0)
        }
        Command::Mutants(args) => {
            vm::process::adopt_orphans()?;
            let interrupt = Interrupt::install()?;
            let counts = faults::run(&Setup::new()?, &args, &interrupt, &mut stdout().lock())?;
            match counts.unknown {
                0 => Ok(counts.is_well()),
                1 => Err("1 fault has no result; the report says why".into()),
                many => Err(format!("{many} faults have no result; the report says why").into()),
            }
        }
        Command::Bench(args) => {
            vm::process::adopt_orphans()?;
            let interrupt = Interrupt::install()?;
            let kernel = args.kernel.as_deref().map(Kernel::at).transpose()?;
            bench::bench(
                &Setup::new()?,
                kernel.as_ref(),
                &args.out,
                &interrupt,
                &mut stdout().lock(),
            )?;
            Ok(true)
        }
        Command::Shell(args) => shell(args),
    }
}

/// A shell in the guest, or one command.
fn shell(args: ShellArgs) -> Result<bool, Box<dyn Error>> {
    let task = match args.run {
        Some(script) => Task::Script(script),
        None if stdin().is_terminal() && stdout().is_terminal() => Task::Shell,
        None => {
            return Err("a shell needs a terminal; for a command in the guest use --run".into());
        }
    };
    let devices = args.devices.devices()?;
    let lab = Lab::set_up(&args.kernel)?;
    let vm = Vm {
        kernel: &lab.kernel,
        accel: lab.accel,
        cpus: args.cpus,
        icount: false,
        devices: Some(devices),
        devices_end: DevicesEnd::default(),
        append: &[],
        task,
        limit: SHELL_LIMIT,
        out: &args.out,
    };
    let run = vm::run(&lab.setup, &vm, &lab.interrupt, &mut |line| {
        // Whoever does not read on still wants the guest to end well.
        let _ = writeln!(stdout(), "{line}");
    })?;
    Ok(run.status == 0)
}

/// What every guest needs.
struct Lab {
    setup: Setup,
    kernel: Kernel,
    accel: Accel,
    interrupt: Interrupt,
}

impl Lab {
    fn set_up(args: &KernelArgs) -> Result<Self, Box<dyn Error>> {
        vm::process::adopt_orphans()?;
        let interrupt = Interrupt::install()?;
        let setup = Setup::new()?;
        let kernel = Kernel::at(&args.kernel)?;
        let accel = vm::kvm::choose(&setup, &kernel, &args.cache, &interrupt)?;
        Ok(Self {
            setup,
            kernel,
            accel,
            interrupt,
        })
    }

    /// The kernel as one of several.
    fn target(&self) -> Target {
        Target {
            kernel: self.kernel.clone(),
            accel: self.accel,
        }
    }

    /// Another kernel.
    fn target_at(&self, dir: &Path, cache: &Path) -> Result<Target, Box<dyn Error>> {
        let kernel = Kernel::at(dir)?;
        let accel = vm::kvm::choose(&self.setup, &kernel, cache, &self.interrupt)?;
        Ok(Target { kernel, accel })
    }
}
