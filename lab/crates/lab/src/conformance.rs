// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the tests of the uAPI on any kernel and says, case by case of the contract, what it does.

use crate::check::attempt::void;
use crate::check::{Totals, programs};
use report::Report;
use report::style::{Style, relative};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vm::guest;
use vm::results::{Case, Event, Reader, Verdict};
use vm::signals::Interrupt;
use vm::topology::preset;
use vm::{Accel, Cause, DevicesEnd, Kernel, Manifest, ManifestError, Setup, Task, Vm, VmError};

/// For a guest that hangs.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// The contract's cases (spec of the behaviour of DMA_BUF_TPH) are 1 to this.
const CASES: u8 = 43;

/// Options without which a kernel cannot be the guest's, or has nothing to test.
const NEEDED: [&str; 8] = [
    "SERIAL_8250_CONSOLE",
    "VIRTIO_PCI",
    "VIRTIO_CONSOLE",
    "VIRTIO_FS",
    "PCI_MMCONFIG",
    "VFIO",
    "VFIO_PCI",
    "VFIO_NOIOMMU",
];

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The kernel's configuration.
    #[error("the kernel in {} lacks {}, which the guest needs; set them and build it again", .dir.display(), .options.join(", "))]
    Config {
        /// Its build directory.
        dir: PathBuf,
        /// The options, with their prefix.
        options: Vec<String>,
    },
    /// A program is not there.
    #[error(transparent)]
    Program(#[from] ManifestError),
    /// The guest could not be run.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Runs the tests on `kernel` and writes TAP, the table and the closing line to `to`.
pub fn conformance(
    setup: &Setup,
    kernel: &Kernel,
    accel: Accel,
    out: &Path,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<Totals, ConformanceError> {
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|option| !kernel.has(option) && !kernel.has_module(option))
        .map(|option| format!("CONFIG_{option}"))
        .collect();
    if !missing.is_empty() {
        return Err(ConformanceError::Config {
            dir: kernel.dir().into(),
            options: missing,
        });
    }
    let built = Manifest::of_build(&setup.lab)?;
    let steps = programs::CONFORMANCE
        .iter()
        // All of them are built.
        .map(|program| program.step(&built, Path::new("/")))
        .collect::<Result<Vec<_>, _>>()?;

    let start = Instant::now();
    let mut report = Report::new(to, Style::of_stdout());
    report.begin(&format!("conformance of {}", kernel.name()))?;
    let (mut found, mut said) = (Vec::new(), Ok(()));
    let attempt = || {
        let mut reader = guest::Programs::new(steps.clone());
        let vm = Vm {
            kernel,
            accel,
            cpus: 2,
            icount: false,
            devices: Some(preset::T1_COMPLETERS.clone().into()),
            devices_end: DevicesEnd::WithQemu,
            append: &["vfio.enable_unsafe_noiommu_mode=1"],
            task: Task::Script(reader.script()),
            limit: LIMIT,
            out,
        };
        found.clear();
        let run = vm::run(setup, &vm, interrupt, &mut |line| {
            found.extend(reader.line(line));
        });
        found.extend(reader.end());
        run
    };
    let run = vm::twice(out, attempt, |error, aside| {
        said = report.started_twice(&void(error, out, aside));
    });
    said?;
    let failed = match run {
        Ok(_) => None,
        Err(error) if error.cause() == Cause::Fault => Some(relative(&error.to_string())),
        Err(error) => return Err(error.into()),
    };
    for event in &found {
        report.event(event)?;
    }
    if let Some(why) = failed {
        report.case(&Case::fail("the guest ended well", why))?;
        report.end(start.elapsed())?;
    } else {
        report.end(start.elapsed())?;
        let cases = found.into_iter().filter_map(|event| match event {
            Event::Case(case) => Some(case),
            Event::Note(_) => None,
        });
        report.text(&table(&cases.collect::<Vec<_>>()))?;
    }
    Ok(report.close()?)
}

/// The numbers of the contract's cases in the name of a test, such as `case 2: ...` or
/// `program: cases 20, 34: ...`.
fn numbers(name: &str) -> Vec<u8> {
    name.split(": ")
        .find_map(|part| {
            part.strip_prefix("cases ")
                .or_else(|| part.strip_prefix("case "))
        })
        .map(|list| {
            list.split(", ")
                .filter_map(|number| number.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}

/// Why user space on this machine cannot see a case at all, if it cannot.
fn elsewhere(case: u8) -> Option<&'static str> {
    match case {
        29 => Some("needs a test inside the kernel: KUnit suite rust_dma_buf, with lockdep"),
        31 | 32 => {
            Some("needs a kernel of another configuration: make check FLAVOUR='notph norust'")
        }
        35..=42 => Some("needs mlx5"),
        _ => None,
    }
}

/// What became of all tests of a case: a failure counts most, then a success.
fn row<'a>(cases: impl Iterator<Item = &'a Case>) -> Option<(&'static str, String)> {
    let (mut passed, mut skipped) = (false, None);
    for case in cases {
        match &case.verdict {
            Verdict::Fail(why) => return Some(("FAIL", format!("{} {why}", case.name))),
            Verdict::Pass => passed = true,
            Verdict::Skip(reason) => skipped = Some(reason.clone()),
        }
    }
    match (passed, skipped) {
        (true, None) => Some(("pass", String::new())),
        (true, Some(reason)) => Some(("pass", format!("in part; {reason}"))),
        (false, Some(reason)) => Some(("skip", reason)),
        (false, None) => None,
    }
}

fn table(cases: &[Case]) -> String {
    let mut text = String::from("case  result  reason\n");
    for number in 1..=CASES {
        let of_number = cases
            .iter()
            .filter(|case| numbers(&case.name).contains(&number));
        let (result, reason) = row(of_number).unwrap_or_else(|| {
            let why = elsewhere(number).unwrap_or("its program did not come to it");
            ("skip", why.to_owned())
        });
        let _ = writeln!(
            text,
            "{}",
            format!("{number:>4}  {result:6}  {reason}").trim_end()
        );
    }
    let get = cases.iter().filter(|case| case.name.contains("GET "));
    let (result, reason) = row(get.filter(|case| numbers(&case.name).is_empty()))
        .unwrap_or(("skip", "no test".into()));
    let _ = writeln!(text, "{}", format!(" GET  {result:6}  {reason}").trim_end());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_says_of_which_cases_it_is() {
        assert_eq!(numbers("guest-a: case 2: PROBE"), [2]);
        assert_eq!(numbers("guest-a: cases 13, 14: ph, then the fd"), [13, 14]);
        assert_eq!(numbers("case 4: PROBE of GET"), [4]);
        assert!(numbers("guest-a: GET of -1 tells the namespaces").is_empty());
        assert!(numbers("guest-a: in any case 3").is_empty());
    }

    /// The cases that the names of the tests of a program name, in its source.
    fn cases_of(program: &str) -> Vec<u8> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../tools/testing/selftests/dma-buf-tph/src/bin")
            .join(program)
            .with_extension("rs");
        let source = std::fs::read_to_string(source).unwrap();
        source
            .split('"')
            .skip(1)
            .step_by(2)
            .flat_map(numbers)
            .collect()
    }

    #[test]
    fn every_case_has_a_test_or_a_reason() {
        let mut tested: Vec<_> = programs::CONFORMANCE
            .iter()
            .flat_map(|program| cases_of(program.title()))
            .collect();
        tested.sort_unstable();
        for case in 1..=CASES {
            let is_tested = tested.binary_search(&case).is_ok();
            assert!(is_tested || elsewhere(case).is_some(), "case {case}");
        }
        assert!(tested.last() <= Some(&CASES), "{tested:?}");
    }

    #[test]
    fn every_case_has_a_row() {
        let cases = [
            Case::pass("p: cases 1, 9: no completer"),
            Case::pass("p: case 2: PROBE"),
            Case::fail("p: cases 2, 3: PROBE", "it does not"),
            Case::skip("p: case 20: tags", "this kernel lacks GET"),
            Case::pass("p: cases 20, 34: tags"),
            Case::skip("p: GET of -1", "this kernel lacks GET"),
        ];
        let table = table(&cases);
        let rows: Vec<_> = table.lines().collect();
        assert_eq!(rows.len(), 1 + 43 + 1);
        assert_eq!(rows[1], "   1  pass");
        assert!(
            rows[2].starts_with("   2  FAIL    p: cases 2, 3"),
            "{table}"
        );
        assert_eq!(rows[4], "   4  skip    its program did not come to it");
        assert_eq!(rows[20], "  20  pass    in part; this kernel lacks GET");
        assert_eq!(rows[34], "  34  pass");
        assert_eq!(rows[36], "  36  skip    needs mlx5");
        assert_eq!(rows[44], " GET  skip    this kernel lacks GET");
    }
}
