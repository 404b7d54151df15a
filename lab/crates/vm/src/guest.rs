// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the test programs of the guest, all in one boot.

use crate::command::shell_quote;
use crate::results::tap::Tap;
use crate::results::{Case, Event, Reader};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Stands before a line that is the script's and not a program's.
const START: &str = "== start ";
const END: &str = "== end ";

/// Where programs are.
#[derive(Debug, Clone, Copy)]
pub struct Homes<'a> {
    /// Those that are built.
    pub built: &'a Path,
    /// The repository.
    pub repo: &'a Path,
}

impl Homes<'_> {
    /// The path that the paths of all programs with this prefix begin with.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> PathBuf {
        if prefix.contains('/') {
            self.repo.join(prefix)
        } else {
            self.built.join(prefix)
        }
    }
}

/// The names of the programs whose path begins with `prefix`, sorted.
pub fn programs(prefix: &Path) -> io::Result<Vec<String>> {
    let start = prefix.file_name().unwrap_or_default().to_string_lossy();
    let mut names = Vec::new();
    for entry in fs::read_dir(prefix.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry.metadata()?;
        // Cargo leaves a list of dependencies beside each program.
        if name.starts_with(&*start) && metadata.is_file() && metadata.permissions().mode() & 1 != 0
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A script that runs every program whose path begins with one of `prefixes`, and `last` (its name, its
/// command) when they have ended, and marks where each begins and ends.
#[must_use]
pub fn script(prefixes: &[PathBuf], last: Option<(&str, &str)>) -> String {
    let quoted = |prefix: &PathBuf| shell_quote(&prefix.display().to_string());
    let patterns = prefixes.iter().map(quoted).collect::<Vec<_>>().join("* ");
    let last = last.map_or(String::new(), |(name, command)| {
        format!("\necho '{START}{name}'; {command}; echo \"{END}{name} $?\"")
    });
    format!(
        "for t in {patterns}*; do [ -x \"$t\" ] || continue; n=${{t##*/}}\n\
         echo \"{START}$n\"; \"$t\"; echo \"{END}$n $?\"; done{last}"
    )
}

/// Reads what the script prints.
#[derive(Debug)]
pub struct Programs {
    /// Programs that did not start yet.
    expected: Vec<String>,
    running: Option<(String, Tap, usize)>,
}

impl Programs {
    /// A reader that expects `programs` to run.
    #[must_use]
    pub fn new(programs: Vec<String>) -> Self {
        Self {
            expected: programs,
            running: None,
        }
    }

    /// Ends the running program, of whose failed tests the last count is known.
    fn finish(&mut self, status: Option<i32>) -> Vec<Event> {
        let Some((name, mut tap, failed)) = self.running.take() else {
            return Vec::new();
        };
        let mut events = tap.end();
        let failed = failed + count_failures(&events);
        match status {
            Some(0) => {}
            Some(_) if failed > 0 => {}
            Some(status) => events.push(Event::Case(Case::fail(
                name,
                format!("no test failed, yet the program ended with status {status}"),
            ))),
            None => events.push(Event::Case(Case::fail(
                name,
                "the guest ended before it did",
            ))),
        }
        events
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
        if let Some(name) = line.strip_prefix(START) {
            let events = self.finish(None);
            self.expected.retain(|expected| expected != name);
            self.running = Some((name.into(), Tap::new(name), 0));
            return events;
        }
        if let Some((_, status)) = line.strip_prefix(END).and_then(|end| end.rsplit_once(' ')) {
            return self.finish(Some(status.parse().unwrap_or(-1)));
        }
        match &mut self.running {
            Some((_, tap, failed)) => {
                let events = tap.line(line);
                *failed += count_failures(&events);
                events
            }
            None => vec![Event::Note(line.into())],
        }
    }

    fn end(&mut self) -> Vec<Event> {
        let mut events = self.finish(None);
        events.extend(
            self.expected
                .drain(..)
                .map(|name| Event::Case(Case::fail(name, "the guest ended before it was run"))),
        );
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Verdict, read_all};

    fn cases(text: &str) -> Vec<Case> {
        let expected = vec!["guest-a".into(), "guest-b".into()];
        read_all(&mut Programs::new(expected), text)
            .into_iter()
            .filter_map(|event| match event {
                Event::Case(case) => Some(case),
                Event::Note(_) => None,
            })
            .collect()
    }

    const A: &str = "== start guest-a\n1..1\nok 1 - works\n== end guest-a 0\n";
    const B: &str = "== start guest-b\n1..1\nok 1 - too\n== end guest-b 0\n";

    #[test]
    fn every_program_is_read() {
        assert_eq!(
            cases(&format!("{A}{B}")),
            [Case::pass("guest-a: works"), Case::pass("guest-b: too")]
        );
    }

    #[test]
    fn a_program_that_was_not_run_fails() {
        assert_eq!(
            cases(A).last(),
            Some(&Case::fail("guest-b", "the guest ended before it was run"))
        );
    }

    #[test]
    fn a_guest_that_ends_within_a_program_fails() {
        let cut = B.split_once("== end").unwrap().0;
        assert_eq!(
            cases(&format!("{A}{cut}")).last(),
            Some(&Case::fail("guest-b", "the guest ended before it did"))
        );
    }

    #[test]
    fn a_program_that_fails_silently_fails() {
        let bad = B.replace("guest-b 0", "guest-b 139");
        let got = cases(&format!("{A}{bad}"));
        assert!(matches!(&got[2], Case { name, verdict: Verdict::Fail(why) }
            if name == "guest-b" && why.contains("status 139")));
    }

    #[test]
    fn a_program_without_plan_fails_once() {
        let bad = B.replace("1..1\n", "").replace("guest-b 0", "guest-b 1");
        let got = cases(&format!("{A}{bad}"));
        assert_eq!(
            got[2..],
            [Case::fail("guest-b: TAP", "ended without a plan")]
        );
    }

    #[test]
    fn the_script_runs_what_programs_lists() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode, text) in [
            (
                "guest-a",
                0o755,
                "#!/bin/sh\necho 1..1\necho ok 1 - works\n",
            ),
            ("guest-b", 0o755, "#!/bin/sh\necho 1..1\necho ok 1 - too\n"),
            ("guest-a.d", 0o644, ""),
            ("other", 0o755, "#!/bin/sh\nexit 1\n"),
        ] {
            let path = crate::fake::script(dir.path(), name, text);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let homes = Homes {
            built: dir.path(),
            repo: Path::new("/repo"),
        };
        let prefixes =
            |names: &[&str]| -> Vec<_> { names.iter().map(|name| homes.prefix(name)).collect() };
        assert_eq!(
            programs(&homes.prefix("guest-")).unwrap(),
            ["guest-a", "guest-b"]
        );
        let run = |script: &str| {
            let output = std::process::Command::new("sh")
                .args(["-c", script])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(
            run(&script(&prefixes(&["guest-"]), None)),
            format!("{A}{B}")
        );
        let both = ["guest-b", "guest-a"];
        assert_eq!(run(&script(&prefixes(&both), None)), format!("{B}{A}"));
        assert_eq!(run(&script(&prefixes(&both[..1]), None)), B);
        assert_eq!(programs(&homes.prefix(both[0])).unwrap(), ["guest-b"]);
        let last = script(&prefixes(&["guest-"]), Some(("last", "false")));
        let of_last = "== start last\n== end last 1\n";
        assert_eq!(run(&last), format!("{A}{B}{of_last}"));
        assert_eq!(homes.prefix("tools/x-"), Path::new("/repo/tools/x-"));
    }
}
