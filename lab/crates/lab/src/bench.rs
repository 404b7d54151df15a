// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmarks, as a table and as JSON.
//!
//! They are no tests: nothing fails because a machine is slow. What runs on the host counts processor
//! time of the device process, the best of several rounds, and is compared with something that was measured in
//! the same run; only latencies are times of the clock. What runs in a guest counts its instructions.
//!
//! `bench.json` holds an object:
//!
//! - `host`: `processor`, `processors`, and `load`, how many processes wanted to run in the minute before;
//! - `kernel`: the guest's, `uname -r`, if there was one;
//! - `inputs`: a hash of what that was built of, if `scripts/kernel` built it;
//! - `measurements`: a list of objects, in the table's order:
//!   - `group` and `name`: what was measured;
//!   - `value`, a number, and `unit`;
//!   - `compared_with`, if it is: what of the same run, mostly another measurement's `name`;
//!   - `required`, if it is: `at_least` or `at_most`, and `met`.

mod device;
mod guest;
mod report;

use ::report::style::{Style, relative};
use connectx_driver::measure::{Recorded, events, latency, memory, writes};
use report::{Host, Report};
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;
use vm::signals::Interrupt;
use vm::{Kernel, Setup};

/// The file in the output directory.
const JSON: &str = "bench.json";

/// Runs all benchmarks, those in a guest if there is a `kernel`, prints the table to `to` and leaves the JSON in `out`.
pub fn bench(
    setup: &Setup,
    kernel: Option<&Kernel>,
    out: &Path,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out)?;
    let inputs = kernel.and_then(Kernel::inputs);
    let mut report = Report::new(Host::of_now(), kernel.map(Kernel::name), inputs);
    // A process for each, so that none has to do with what another has left.
    let start = |recorded| device::start(setup, recorded, out, interrupt);
    let unrecorded = || start(Recorded::Nothing);
    report.extend(writes::measure(&start, out)?);
    report.extend(latency::measure(&mut unrecorded()?)?);
    report.extend(events::measure(&mut unrecorded()?)?);
    report.extend(memory::measure(&mut unrecorded()?)?);
    trace::clear(out)?; // half a gigabyte of the same
    if let Some(kernel) = kernel {
        let out = out.join("guest");
        report.extend(guest::measure(setup, kernel, &out, interrupt)?);
    }
    let json = out.join(JSON);
    fs::write(&json, report.json())?;
    write!(to, "{}", report.table(Style::of_stdout()))?;
    writeln!(to, "\n{}", relative(&json.display().to_string()))?;
    Ok(())
}
