// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the tests of the guest on kernels with faults.

use crate::check::{self, CheckError, Target};
use crate::cli::MutantsArgs;
use mutants::{BuildError, Builder, Counts, Mutant, Outcome};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use vm::signals::Interrupt;
use vm::{Accel, Kernel, Setup, VmError, kvm};

/// Runs the faults that `args` names, and writes TAP and the count to `to`.
pub fn run(
    setup: &Setup,
    args: &MutantsArgs,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<Counts, Box<dyn Error>> {
    let mut guests = Guests {
        setup,
        args,
        builder: Builder::new(&args.builder),
        accel: None,
        interrupt,
    };
    let mutants = Mutant::read_all(&args.faults, &args.names)?;
    Ok(mutants::run(&mut guests, &mutants, to)?)
}

/// Why no more kernels are tried.
#[derive(Debug, thiserror::Error)]
enum GuestsError {
    /// Of the guests' tests.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Of the guests themselves.
    #[error(transparent)]
    Vm(#[from] VmError),
}

struct Guests<'a> {
    setup: &'a Setup,
    args: &'a MutantsArgs,
    builder: Builder,
    /// Of all guests, as the kernel without a fault, which is the first one, had it.
    accel: Option<Accel>,
    interrupt: &'a Interrupt,
}

impl mutants::Lab for Guests<'_> {
    type Error = GuestsError;

    fn build(&mut self, fault: Option<&str>) -> Result<Result<PathBuf, BuildError>, GuestsError> {
        let built = self.builder.build(fault);
        match self.interrupt.signal() {
            Some(signal) => Err(CheckError::Interrupted(signal).into()),
            None => Ok(built),
        }
    }

    fn boot_of(&self, test: &str) -> Result<String, GuestsError> {
        Ok(check::boot_of(test)?.to_owned())
    }

    fn boot(&mut self, dir: &Path, test: &str, name: &str) -> Result<Outcome, GuestsError> {
        let kernel = Kernel::at(dir).map_err(VmError::from)?;
        let accel = match self.accel {
            Some(accel) => accel,
            None => kvm::choose(self.setup, &kernel, &self.args.cache, self.interrupt)?,
        };
        self.accel = Some(accel);
        let target = Target { kernel, accel };
        let (repo, out) = (&self.args.repo, self.args.out.join(name));
        Ok(check::boot(
            self.setup,
            repo,
            &target,
            test,
            &out,
            self.interrupt,
        )?)
    }
}
