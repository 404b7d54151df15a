// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the kernel's own tests of VFIO on the pristine kernel and on ours. Each must pass on both, or
//! be skipped on both for the same reason.

use crate::check::attempt::void;
use crate::check::{Target, Totals};
use crate::cli::VfioSelftestsArgs;
use report::Report;
use report::style::Style;
use std::io::{self, Write};
use std::time::Instant;
use vm::results::compare::compare;
use vm::signals::Interrupt;
use vm::{Setup, VmError, kselftest};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum VfioSelftestsError {
    /// A guest could not be run.
    #[error("on the {kernel} kernel: {error}")]
    Vm {
        /// On which.
        kernel: &'static str,
        /// Why.
        error: VmError,
    },
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Report(#[from] io::Error),
}

/// Runs the tests on both kernels and writes TAP and the closing line to `to`.
pub fn vfio_selftests(
    setup: &Setup,
    pristine: &Target,
    ours: &Target,
    args: &VfioSelftestsArgs,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<Totals, VfioSelftestsError> {
    let mut report = Report::new(to, Style::of_stdout());
    report.begin("the kernel's own tests of VFIO, on the pristine kernel and on ours")?;
    let mut run_on = |name, Target { kernel, accel }: &Target| {
        let out = &args.out.join(name);
        let tests = kselftest::Tests {
            source: &args.source,
            programs: &args.programs,
            out,
        };
        let mut said = Ok(());
        let cases = vm::twice(
            out,
            || kselftest::run(setup, kernel, *accel, &tests, interrupt),
            |error, aside| said = report.started_twice(&void(error, out, aside)),
        );
        said?;
        cases.map_err(|error| VfioSelftestsError::Vm {
            kernel: name,
            error,
        })
    };
    let start = Instant::now();
    let before = run_on("pristine", pristine)?;
    let after = run_on("changed", ours)?;
    for case in compare(&before, &after) {
        report.case(&case)?;
    }
    report.end(start.elapsed())?;
    Ok(report.close()?)
}
