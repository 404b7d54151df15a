// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the test programs of the guest, all in one boot.

use crate::command::shell_quote;
use crate::program::Step;
use crate::results::tap::Tap;
use crate::results::{Case, Event, Reader};
use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes the script that runs the programs of a guest one after the other, and reads what it prints.
#[derive(Debug)]
pub struct Programs {
    steps: Vec<Step>,
    /// Begins a line that is the script's and not a program's, behind an empty one: no program knows
    /// it, and none that ends within a line hides it.
    mark: String,
    /// The first of the steps that did not start yet.
    next: usize,
    running: Option<Running>,
}

/// The program that runs.
#[derive(Debug)]
struct Running {
    title: String,
    tap: Tap,
    /// Its failed tests so far.
    failed: usize,
}

impl Programs {
    /// Those of these steps.
    #[must_use]
    pub fn new(steps: Vec<Step>) -> Self {
        // Another number each time.
        let number = RandomState::new().build_hasher().finish();
        Self {
            steps,
            mark: format!("== {number:016x} "),
            next: 0,
            running: None,
        }
    }

    /// The script. It ends well, whatever the programs do. The kernel's log tells whose messages follow.
    #[must_use]
    pub fn script(&self) -> String {
        let mut script = String::new();
        for (number, step) in self.steps.iter().enumerate() {
            let mark = &self.mark;
            let begins = shell_quote(&format!("<5>lab: {} begins", step.title));
            let _ = writeln!(
                script,
                "echo {begins} >/dev/kmsg\n\
                 printf '\\n%s\\n' '{mark}start {number}'\n{step} </dev/null\n\
                 printf '\\n%s %s\\n' '{mark}end' $?"
            );
        }
        script
    }

    /// Ends the running program.
    fn finish(&mut self, status: Option<i32>) -> Vec<Event> {
        let Some(Running {
            title,
            mut tap,
            failed,
        }) = self.running.take()
        else {
            return Vec::new();
        };
        let mut events = tap.end();
        let failed = failed + count_failures(&events);
        match status {
            Some(0) => {}
            Some(_) if failed > 0 => {}
            Some(status) => events.push(Event::Case(Case::fail(
                title,
                format!("no test failed, yet the program ended with status {status}"),
            ))),
            None => events.push(Event::Case(Case::fail(
                title,
                "the guest ended before it did",
            ))),
        }
        events
    }

    /// Takes what follows the mark.
    fn marked(&mut self, what: &str) -> Vec<Event> {
        match what.split_once(' ') {
            Some(("start", number)) => {
                let events = self.finish(None);
                if let Ok(number) = number.parse::<usize>()
                    && let Some(Step { title, .. }) = self.steps.get(number)
                {
                    self.next = number + 1;
                    self.running = Some(Running {
                        title: title.clone(),
                        tap: Tap::new(title),
                        failed: 0,
                    });
                }
                events
            }
            Some(("end", status)) => self.finish(Some(status.parse().unwrap_or(-1))),
            _ => Vec::new(),
        }
    }
}

fn count_failures(events: &[Event]) -> usize {
    use crate::results::Verdict::Fail;
    events
        .iter()
        .filter(|event| {
            matches!(
                event,
                Event::Case(Case {
                    verdict: Fail(_),
                    ..
                })
            )
        })
        .count()
}

impl Reader for Programs {
    fn line(&mut self, line: &str) -> Vec<Event> {
        if let Some(what) = line.strip_prefix(&self.mark) {
            let what = what.to_owned();
            return self.marked(&what);
        }
        match &mut self.running {
            Some(Running { tap, failed, .. }) => {
                let events = tap.line(line);
                *failed += count_failures(&events);
                events
            }
            None if line.is_empty() => Vec::new(),
            None => vec![Event::Note(line.into())],
        }
    }

    fn end(&mut self) -> Vec<Event> {
        let mut events = self.finish(None);
        let never = self.steps.drain(..).skip(self.next);
        events.extend(never.map(|Step { title, .. }| {
            Event::Case(Case::fail(title, "the guest ended before it was run"))
        }));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Verdict;
    use std::process::Command;

    /// What a program prints that passes.
    const GOOD: &str = "echo 1..1; echo ok 1 - works";

    /// Shell commands as the programs `a`, `b` and so on.
    fn programs(commands: &[&str]) -> Programs {
        let step = |(title, command): (char, &&str)| {
            Step::new(
                title,
                ["/bin/sh".to_owned(), "-c".to_owned(), (*command).to_owned()],
            )
        };
        Programs::new(('a'..).zip(commands).map(step).collect())
    }

    /// What the script of `programs` prints, with `log` for the kernel's.
    fn output_with(programs: &Programs, log: &str) -> String {
        let script = programs.script().replace("/dev/kmsg", log);
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the script of `programs` prints.
    fn output(programs: &Programs) -> String {
        output_with(programs, "/dev/null")
    }

    fn events(programs: &mut Programs, text: &str) -> Vec<Event> {
        let mut events: Vec<_> = text.lines().flat_map(|line| programs.line(line)).collect();
        events.extend(programs.end());
        events
    }

    fn cases(programs: &mut Programs, text: &str) -> Vec<Case> {
        let case = |event| match event {
            Event::Case(case) => Some(case),
            Event::Note(_) => None,
        };
        events(programs, text)
            .into_iter()
            .filter_map(case)
            .collect()
    }

    fn run(commands: &[&str]) -> Vec<Case> {
        let mut programs = programs(commands);
        let text = output(&programs);
        cases(&mut programs, &text)
    }

    #[test]
    fn every_program_is_run_and_read_in_its_order() {
        assert_eq!(
            run(&[GOOD, "echo 1..1; echo ok 1 - too; cat"]),
            [Case::pass("a: works"), Case::pass("b: too")]
        );
    }

    #[test]
    fn the_same_program_runs_twice_under_two_titles() {
        assert_eq!(
            run(&[GOOD, GOOD]),
            [Case::pass("a: works"), Case::pass("b: works")]
        );
    }

    #[test]
    fn what_the_script_says_itself_is_no_note() {
        let mut programs = programs(&[GOOD, GOOD]);
        let text = output(&programs);
        let notes = events(&mut programs, &text)
            .into_iter()
            .filter(|event| matches!(event, Event::Note(_)));
        assert_eq!(notes.count(), 0);
    }

    #[test]
    fn the_kernel_log_tells_which_program_runs() {
        let text = output_with(&programs(&[GOOD, GOOD]), "/dev/stdout");
        let told: Vec<_> = text.lines().filter(|line| line.starts_with('<')).collect();
        assert_eq!(told, ["<5>lab: a begins", "<5>lab: b begins"]);
    }

    #[test]
    fn a_program_that_was_not_run_fails() {
        let mut programs = programs(&[GOOD, GOOD]);
        let text = output(&programs);
        let end = text.find("start 1").unwrap() - programs.mark.len();
        assert_eq!(
            cases(&mut programs, &text[..end]).last(),
            Some(&Case::fail("b", "the guest ended before it was run"))
        );
    }

    #[test]
    fn a_guest_that_ends_within_a_program_fails() {
        let mut programs = programs(&[GOOD, GOOD]);
        let text = output(&programs);
        let end = text.rfind("ok 1").unwrap();
        let cases = cases(&mut programs, &text[..end]);
        assert_eq!(
            cases.last(),
            Some(&Case::fail("b", "the guest ended before it did"))
        );
    }

    #[test]
    fn a_program_that_fails_silently_fails() {
        let got = run(&[GOOD, &format!("{GOOD}; exit 139")]);
        assert!(matches!(&got[2], Case { name, verdict: Verdict::Fail(why) }
            if name == "b" && why.contains("status 139")));
    }

    #[test]
    fn a_program_without_plan_fails_once() {
        let got = run(&["echo ok 1 - works; exit 1"]);
        assert_eq!(got[1..], [Case::fail("a: TAP", "ended without a plan")]);
    }

    #[test]
    fn a_program_that_ends_within_a_line_hides_nothing() {
        let got = run(&["echo 1..1; printf 'ok 1 - cut'", GOOD]);
        assert_eq!(got, [Case::pass("a: cut"), Case::pass("b: works")]);
    }

    #[test]
    fn a_program_cannot_say_what_the_script_says() {
        let other = programs(&[GOOD]);
        let forged = format!("{GOOD}; echo '{}end 0'; exit 3", other.mark);
        assert!(matches!(&run(&[&forged])[1].verdict, Verdict::Fail(why)
            if why.contains("status 3")));
    }
}
