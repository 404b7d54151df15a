// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a test program on the host and reads its results.

use super::error::CheckError;
use super::parts::Results;
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use vm::process::{Group, TICK, lines, rest};
use vm::results::{Case, Reader};
use vm::signals::Interrupt;

/// How a program ended.
enum End {
    Exit(ExitStatus),
    TimedOut,
}

/// Runs `command`, reads what it prints with `reader` and reports it. A program that cannot be
/// started, takes longer than `limit`, or fails without a failed test is a failure of `name`.
pub fn run(
    name: &str,
    command: &mut Command,
    limit: Duration,
    reader: &mut dyn Reader,
    results: &mut Results,
    interrupt: &Interrupt,
) -> Result<(), CheckError> {
    let end = stream(command, limit, interrupt, &mut |line| {
        for event in reader.line(line) {
            results.event(event);
        }
    });
    for event in reader.end() {
        results.event(event);
    }
    let why = match end {
        Ok(End::Exit(status)) if status.success() || results.failed() => return Ok(()),
        Ok(End::Exit(status)) => format!("no test failed, yet the program did ({status})"),
        Ok(End::TimedOut) => format!("did not end within {} s and was killed", limit.as_secs()),
        Err(CheckError::Start { program, error }) => format!("cannot start {program}: {error}"),
        Err(error) => return Err(error),
    };
    results.case(Case::fail(name, why));
    Ok(())
}

fn stream(
    command: &mut Command,
    limit: Duration,
    interrupt: &Interrupt,
    take: &mut dyn FnMut(&str),
) -> Result<End, CheckError> {
    // One pipe for both, so that lines keep their order.
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let started = Group::spawn(command);
    // `command` holds the writing ends, and lines end only when all of them are closed.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut group = started.map_err(|error| CheckError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        error,
    })?;
    let lines = lines(reader);
    let deadline = Instant::now() + limit;
    let end = loop {
        for line in lines.try_iter() {
            take(&line);
        }
        if let Some(signal) = interrupt.signal() {
            return Err(CheckError::Interrupted(signal));
        }
        if let Some(status) = group.ended()? {
            break End::Exit(status);
        }
        if Instant::now() >= deadline {
            break End::TimedOut;
        }
        sleep(TICK);
    };
    group.stop()?;
    for line in rest(&lines) {
        take(&line);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::parts::{self, Part};
    use report::Report;
    use report::style::Style;
    use std::num::NonZeroUsize;
    use vm::results::tap::Tap;

    /// Runs `command` as the only part of a check.
    fn run_alone(
        command: &mut Command,
        limit: Duration,
        interrupt: &Interrupt,
    ) -> Result<String, CheckError> {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        let part = Part::new("part", |results: &mut Results| {
            run(
                "program",
                command,
                limit,
                &mut Tap::new("t"),
                results,
                interrupt,
            )
        });
        parts::run(vec![part], NonZeroUsize::MIN, &mut report, interrupt)?;
        report.close().unwrap();
        let text = String::from_utf8(text).unwrap();
        let begin = "# part\nTAP version 13\n";
        Ok(text.strip_prefix(begin).unwrap().to_owned())
    }

    fn check(script: &str, limit: Duration) -> String {
        let mut command = Command::new("sh");
        run_alone(command.args(["-c", script]), limit, &Interrupt::default()).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn good_results_pass() {
        let text = check("echo 1..1; echo ok 1 - a", LONG);
        assert!(text.starts_with("ok 1 - t: a\n1..1\n\n"), "{text}");
        assert!(
            text.ends_with("\n1 passed, 0 failed, 0 skipped\n"),
            "{text}"
        );
    }

    #[test]
    fn stderr_is_shown_in_its_place() {
        let text = check("echo 1..1; echo oh >&2; echo ok 1 - a", LONG);
        assert!(text.starts_with("# oh\nok 1"), "{text}");
    }

    #[test]
    fn a_program_that_fails_silently_is_a_failure() {
        let text = check("echo 1..1; echo ok 1 - a; exit 3", LONG);
        assert!(
            text.contains("not ok 2 - program\n#   no test failed"),
            "{text}"
        );
    }

    #[test]
    fn a_failed_test_counts_once() {
        let text = check("echo 1..1; echo not ok 1 - a; exit 1", LONG);
        assert!(text.ends_with("0 passed, 1 failed, 0 skipped\n"), "{text}");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let text = check("echo 1..2; echo ok 1 - a; sleep 1000", Duration::ZERO);
        assert!(text.contains("was killed"), "{text}");
    }

    #[test]
    fn a_child_that_slipped_away_does_not_hold_up_the_results() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stray");
        let file = file.display();
        let text = check(
            &format!(
                "setsid sh -c 'echo $$ >{file}; exec sleep 1000' &\n\
                 while [ ! -s {file} ]; do sleep 0.1; done; echo 1..1; echo ok 1 - a"
            ),
            LONG,
        );
        assert!(text.ends_with("1 passed, 0 failed, 0 skipped\n"), "{text}");
        let kill = format!("kill $(cat {file})");
        let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(killed.success());
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        let mut command = Command::new("/nowhere/test");
        let text = run_alone(&mut command, LONG, &Interrupt::default()).unwrap();
        assert!(text.contains("cannot start /nowhere/test"), "{text}");
    }

    #[test]
    fn a_request_to_stop_stops() {
        let interrupt = Interrupt::default();
        interrupt.request();
        let result = run_alone(Command::new("sleep").arg("1000"), LONG, &interrupt);
        assert!(matches!(result, Err(CheckError::Interrupted("SIGTERM"))));
    }
}
