// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the kernel's own tests of VFIO, kselftests, in one boot.

use crate::command::shell_quote;
use crate::results::tap::Tap;
use crate::results::{Case, Event, Reader, Verdict};
use crate::signals::Interrupt;
use crate::topology::preset;
use crate::{Accel, Cause, DevicesEnd, Kernel, Setup, Task, Vm, VmError, log::LogTail};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a guest that hangs.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Of the topology T2-requesters: requesters of 8-bit tags, of both with the ST table in the
/// capability and in the MSI-X table, one without TPH; a completer.
const DEVICES: [&str; 5] = [
    "0000:00:10.0",
    "0000:00:13.0",
    "0000:00:14.0",
    "0000:00:16.0",
    "0000:00:11.0",
];

/// Stands before a line that is the script's and not a program's, behind an empty one: none that ends
/// within a line hides it.
const START: &str = "== start ";
const END: &str = "== end ";

/// The exit status of a kselftest that is skipped as a whole.
const SKIPPED: i32 = 4;

/// The tests, and where what they leave goes.
#[derive(Debug, Clone, Copy)]
pub struct Tests<'a> {
    /// tools/testing/selftests/vfio of the kernel that they are of.
    pub source: &'a Path,
    /// The programs that were built of it.
    pub programs: &'a Path,
    /// Directory for traces and logs.
    pub out: &'a Path,
}

/// Runs the tests on the lab's devices behind an IOMMU, and returns what they say, and whether the
/// guest ended well.
pub fn run(
    setup: &Setup,
    kernel: &Kernel,
    accel: Accel,
    tests: &Tests<'_>,
    interrupt: &Interrupt,
) -> Result<Vec<Case>, VmError> {
    let failed = |path: &Path| {
        let what = format!("write {}", path.display());
        |error| VmError::io(what, error)
    };
    fs::create_dir_all(tests.out).map_err(failed(tests.out))?;
    let out = fs::canonicalize(tests.out).map_err(failed(tests.out))?;
    let path = out.join("tests.log");
    let mut file = File::create(&path).map_err(failed(&path))?;
    let vm = Vm {
        kernel,
        accel,
        cpus: 2,
        icount: false,
        devices: Some(preset::T2_REQUESTERS.clone().into()),
        devices_end: DevicesEnd::WithQemu,
        append: &[],
        task: Task::Script(script(tests.source, tests.programs, &DEVICES)),
        limit: LIMIT,
        out: &out,
    };
    let mut programs = Kselftests::default();
    let mut written = Ok(());
    let run = crate::run(setup, &vm, interrupt, &mut |line| {
        if let Some(program) = programs.line(line) {
            eprintln!("on {}: {program}", kernel.name());
        }
        if written.is_ok() {
            written = writeln!(file, "{line}");
        }
    });
    written.map_err(failed(&path))?;
    let clean = "the guest ended well and its kernel log holds no complaint";
    let clean = match run {
        Ok(run) if run.status == 0 => Case::pass(clean),
        Ok(run) => {
            return Err(VmError::ScriptFailed {
                status: run.status,
                log: LogTail::of(&path),
            });
        }
        Err(error) if error.cause() == Cause::Fault => Case::fail(clean, error.to_string()),
        Err(error) => return Err(error),
    };
    let mut cases = programs.end();
    cases.push(clean);
    Ok(cases)
}

/// A script that runs the kernel's tests of VFIO on each of `devices`. The tests' own scripts bind a device to vfio-pci and give it back.
fn script(source: &Path, programs: &Path, devices: &[&str]) -> String {
    let quoted = |path: PathBuf| shell_quote(&path.display().to_string());
    let bind = quoted(source.join("scripts/setup.sh"));
    let give_back = quoted(source.join("scripts/cleanup.sh"));
    let programs = quoted(programs.to_owned());
    let mut script = "modprobe -a iommufd vfio-pci || exit\n".to_owned();
    for device in devices {
        let _ = write!(
            script,
            "bash {bind} {device} >/dev/null || exit\n\
             for t in {programs}/vfio_*_test; do\n\
             \tprintf '\\n%s\\n' \"{START}{device} ${{t##*/}}\"\n\
             \t\"$t\" {device} 2>&1\n\
             \tprintf '\\n%s\\n' \"{END}$?\"\n\
             done\n\
             bash {give_back} {device} >/dev/null || exit\n"
        );
    }
    script
}

/// Reads what the script prints: a case for each test, and for each program that tells of none.
#[derive(Debug, Default)]
pub struct Kselftests {
    cases: Vec<Case>,
    running: Option<Program>,
}

#[derive(Debug)]
struct Program {
    name: String,
    tap: Tap,
    cases: Vec<Case>,
    /// What it said last.
    said: String,
}

impl Kselftests {
    /// What the tests came to; one that still runs failed.
    #[must_use]
    pub fn end(mut self) -> Vec<Case> {
        if let Some(program) = self.running.take() {
            self.cases.extend(program.cases);
            let why = "the guest ended before it did";
            self.cases.push(Case::fail(program.name, why));
        }
        self.cases
    }

    /// Takes a line; returns the name of the program if one begins with it.
    pub fn line<'l>(&mut self, line: &'l str) -> Option<&'l str> {
        let begins = line.strip_prefix(START);
        if let Some(name) = begins {
            self.running = Some(Program {
                name: name.to_owned(),
                tap: Tap::new(name),
                cases: Vec::new(),
                said: String::new(),
            });
        } else if let Some(status) = line.strip_prefix(END) {
            if let Some(program) = self.running.take() {
                self.cases.extend(program.end(status));
            }
        } else if let Some(program) = &mut self.running {
            let events = program.tap.line(line);
            program.cases.extend(events.into_iter().filter_map(case));
            if !line.trim().is_empty() {
                line.trim().clone_into(&mut program.said);
            }
        }
        begins
    }
}

impl Program {
    fn end(mut self, status: &str) -> Vec<Case> {
        let status = status.parse().unwrap_or(-1);
        if self.cases.is_empty() && status == SKIPPED {
            return vec![Case::skip(self.name, self.said)];
        }
        self.cases
            .extend(self.tap.end().into_iter().filter_map(case));
        let tells = |case: &Case| !matches!(case.verdict, Verdict::Pass);
        let is_well = match status {
            0 => true,
            // What failed, or was skipped, is why.
            1 | SKIPPED => self.cases.iter().any(tells),
            _ => false,
        };
        if !is_well {
            self.cases
                .push(Case::fail(self.name, format!("ended with {status}")));
        }
        self.cases
    }
}

fn case(event: Event) -> Option<Case> {
    match event {
        Event::Case(case) => Some(case),
        Event::Note(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_says_what_it_runs_and_ends_if_a_device_cannot_be_bound() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path();
        let program = |name: &str, text: &str| {
            let path = bin.join(name);
            let dir = path.parent().unwrap();
            fs::create_dir_all(dir).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            crate::fake::script(
                dir,
                name,
                &format!(
                    "#!/bin/sh
{text}
"
                ),
            );
        };
        program("modprobe", "exit 0");
        program("scripts/setup.sh", "exit 0");
        program("scripts/cleanup.sh", "exit 0");
        program("vfio_x_test", "echo \"on $1\"; exit 4");
        let run = || {
            let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
            let output = std::process::Command::new("bash")
                .args(["-c", &script(bin, bin, &DEVICES)])
                .env("PATH", path)
                .output()
                .unwrap();
            (
                String::from_utf8(output.stdout).unwrap(),
                output.status.code(),
            )
        };
        let (text, status) = run();
        assert_eq!(status, Some(0));
        let begin = "\n== start 0000:00:10.0 vfio_x_test\non 0000:00:10.0\n\n== end 4\n\n\
                     == start 0000:00:13.0";
        assert!(text.starts_with(begin), "{text}");
        assert_eq!(text.matches("== end 4\n").count(), DEVICES.len());
        program("scripts/setup.sh", "[ $1 != 0000:00:14.0 ]");
        let (text, status) = run();
        assert_eq!((status, text.matches(START).count()), (Some(1), 2));
    }

    fn read(text: &str) -> Vec<Case> {
        let mut programs = Kselftests::default();
        for line in text.lines() {
            programs.line(line);
        }
        programs.end()
    }

    #[test]
    fn a_program_within_which_the_guest_ends_fails() {
        assert_eq!(
            read("== start p\n1..2\nok 1 a\n"),
            [
                Case::pass("p: a"),
                Case::fail("p", "the guest ended before it did")
            ]
        );
    }

    #[test]
    fn a_program_that_tells_of_no_test_tells_by_its_status() {
        assert_eq!(
            read("== start p\nno device\n\n== end 4\n"),
            [Case::skip("p", "no device")]
        );
        assert_eq!(
            read("== start p\n== end 0\n"),
            [Case::fail("p: TAP", "ended without a plan")]
        );
    }

    #[test]
    fn a_status_that_no_test_explains_is_a_failure() {
        let test = "== start p\n1..1\nok 1 a\n";
        assert_eq!(read(&format!("{test}== end 0\n")), [Case::pass("p: a")]);
        for status in ["1", "4", "139", "x"] {
            let cases = read(&format!("{test}== end {status}\n"));
            assert!(
                matches!(&cases[1], Case { name, verdict: Verdict::Fail(why) }
                if name == "p" && why.starts_with("ended with ")),
                "{cases:?}"
            );
        }
    }
}
