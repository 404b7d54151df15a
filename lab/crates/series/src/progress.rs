// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long work: a program whose output goes into a log, while a line on standard error says how far
//! it has come.

use crate::{Error, Result, git};
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write, stderr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How often a running program is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often a line is written where it cannot be written over.
const PERIOD: Duration = Duration::from_secs(15);

/// Runs a program with its output in `log`, and returns whether it succeeded. `status` says in a
/// few words how far a log has come. With `verbose` the output is shown instead.
pub fn run(
    label: &str,
    command: &mut Command,
    log: &Path,
    status: fn(&str) -> String,
    verbose: bool,
) -> Result<bool> {
    let file = File::create(log).map_err(Error::io(log))?;
    if verbose {
        eprintln!("{label}");
        return show(command, file, log);
    }
    let other = file.try_clone().map_err(Error::io(log))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(other)
        .spawn()
        .map_err(git::start(command))?;
    let begin = Instant::now();
    let is_terminal = stderr().is_terminal();
    let period = if is_terminal {
        Duration::from_secs(1)
    } else {
        PERIOD
    };
    let mut next = begin + period;
    let ended = loop {
        if let Some(ended) = child.try_wait().map_err(git::start(command))? {
            break ended;
        }
        if Instant::now() >= next {
            next += period;
            let text = fs::read(log).map_err(Error::io(log))?;
            let status = status(&String::from_utf8_lossy(&text));
            let line = format!("{label}: {status}, {}", clock(begin.elapsed()));
            if is_terminal {
                eprint!("\r\x1b[K{line}");
            } else {
                eprintln!("{line}");
            }
        }
        sleep(TICK);
    };
    if is_terminal {
        eprint!("\r\x1b[K");
    }
    let seconds = begin.elapsed().as_secs();
    if ended.success() && seconds >= 2 {
        eprintln!("{label}: done in {seconds} s");
    }
    Ok(ended.success())
}

/// Runs a program with its output in `file` and on standard error.
fn show(command: &mut Command, mut file: File, log: &Path) -> Result<bool> {
    let (mut reader, writer) = std::io::pipe().map_err(Error::io(log))?;
    let other = writer.try_clone().map_err(Error::io(log))?;
    let started = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(other)
        .spawn();
    // `command` holds the writing ends, and the reading one ends only when all of them are closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = started.map_err(git::start(command))?;
    let copied = thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                length => {
                    file.write_all(&buffer[..length])?;
                    stderr().write_all(&buffer[..length])?;
                }
            }
        }
    });
    let ended = child.wait().map_err(git::start(command))?;
    match copied.join() {
        Ok(result) => result.map_err(Error::io(log))?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(ended.success())
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The status of what does not say how far it is.
pub fn going_on(_: &str) -> String {
    "going on".to_owned()
}

/// The status of a build of the kernel: its steps.
pub fn steps(log: &str) -> String {
    let is_step = |line: &&str| {
        let mut rest = line.strip_prefix("  ").unwrap_or_default().chars();
        rest.next().is_some_and(|first| first.is_ascii_uppercase())
    };
    format!("{} steps", log.lines().filter(is_step).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str, verbose: bool) -> (bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        let command = command.args(["-c", script]);
        let success = run("test", command, &log, going_on, verbose).unwrap();
        (success, fs::read_to_string(log).unwrap())
    }

    #[test]
    fn output_and_errors_are_logged_in_order() {
        for verbose in [false, true] {
            let (success, log) = run_shell("echo one; echo two >&2; echo three", verbose);
            assert!(success);
            assert_eq!(log, "one\ntwo\nthree\n");
        }
    }

    #[test]
    fn a_failure_is_one_whether_shown_or_not() {
        for verbose in [false, true] {
            assert!(!run_shell("exit 3", verbose).0);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("/nowhere/make");
        let error = run("test", &mut command, &log, going_on, false).unwrap_err();
        assert!(error.to_string().starts_with("cannot start /nowhere/make"));
    }

    #[test]
    fn steps_are_lines_as_kbuild_prints_them() {
        let log = "make[1]: Entering\n  CC      a.o\n  RUSTC   b.o\n   note\nWarning\n";
        assert_eq!(steps(log), "2 steps");
    }
}
