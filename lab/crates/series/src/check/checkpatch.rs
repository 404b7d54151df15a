// SPDX-License-Identifier: MIT OR Apache-2.0
//! What checkpatch says, and what of that is right as it is.

use super::tool;
use crate::{Result, git};
use std::process::Command;

/// The entries of `patches/checkpatch-justified`: a type, where (a file, a folder with its slash,
/// or `*` for anywhere), and why.
#[derive(Debug)]
pub struct Justified {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    line: String,
    is_needed: bool,
}

impl Entry {
    fn covers(&self, finding: &Finding) -> bool {
        let mut words = self.line.split_whitespace();
        let (kind, place) = (words.next(), words.next().unwrap_or_default());
        let covers = |file: &str| place == file || place.ends_with('/') && file.starts_with(place);
        kind == Some(finding.kind) && (place == "*" || finding.file.is_some_and(covers))
    }
}

/// A thing that checkpatch says.
#[derive(Debug, PartialEq, Eq)]
struct Finding<'a> {
    text: &'a str,
    kind: &'a str,
    /// The file; none if it is about the message.
    file: Option<&'a str>,
}

impl Justified {
    /// Reads the entries.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let entries = lines
            .filter(|line| !line.trim().is_empty())
            .map(|line| Entry {
                line: line.to_owned(),
                is_needed: false,
            })
            .collect();
        Self { entries }
    }

    /// What checkpatch said that no entry excuses.
    pub fn judge(&mut self, said: &str) -> Vec<String> {
        let mut left = Vec::new();
        for finding in findings(said) {
            match self.entries.iter_mut().find(|entry| entry.covers(&finding)) {
                Some(entry) => entry.is_needed = true,
                None => left.push(match finding.file {
                    Some(file) => format!("{} in {file}", finding.text),
                    None => finding.text.to_owned(),
                }),
            }
        }
        left
    }

    /// An entry that excuses nothing any more is to go.
    pub fn all_are_needed(&self) -> Result<()> {
        let stale = self.entries.iter().filter(|entry| !entry.is_needed);
        let lines: Vec<_> = stale
            .map(|entry| format!("excuses nothing any more, remove it: {}", entry.line))
            .collect();
        super::wrong(&lines)
    }
}

/// Runs checkpatch and returns what it says. It ends with 1 if it finds something, and only then;
/// any other failure is its own, and so is that it lacks a file of which things to look for.
pub fn run(checkpatch: &mut Command) -> Result<String> {
    let output = checkpatch.output().map_err(git::start(checkpatch))?;
    let code = tool::code("checkpatch", &output, &[0, 1])?;
    let said = tool::said(&output);
    let lacks = |line: &str| line.starts_with("No ") && line.contains(" - file '");
    if said.lines().any(lacks) || code == 1 && findings(&said).is_empty() {
        return Err(tool::failed("checkpatch", &output));
    }
    Ok(said)
}

fn findings(said: &str) -> Vec<Finding<'_>> {
    let mut found: Vec<Finding> = Vec::new();
    for line in said.lines() {
        if let Some(kind) = kind(line) {
            found.push(Finding {
                text: line,
                kind,
                file: None,
            });
        } else if let (Some(last), Some(file)) = (found.last_mut(), place(line)) {
            last.file = last.file.or(Some(file));
        }
    }
    found
}

/// Of `WARNING:LONG_LINE: text` the type.
fn kind(line: &str) -> Option<&str> {
    let rest = ["ERROR:", "WARNING:", "CHECK:"]
        .iter()
        .find_map(|level| line.strip_prefix(level))?;
    let (kind, _) = rest.split_once(": ")?;
    let is_type = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!kind.is_empty() && kind.chars().all(is_type)).then_some(kind)
}

/// Of `#12: FILE: drivers/a.c:1:` or `#12: FILE: drivers/a.c` the file.
fn place(line: &str) -> Option<&str> {
    let (number, rest) = line.strip_prefix('#')?.split_once(": FILE: ")?;
    number.parse::<u32>().ok()?;
    let with_line = rest
        .strip_suffix(':')
        .and_then(|rest| rest.rsplit_once(':'));
    Some(with_line.map_or(rest, |(file, _)| file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "WARNING:LONG_LINE: line is long\n#12: FILE: drivers/new/new.c:1:\n+int new;\n\n\
        CHECK:TYPO: in the log\n#3: \n";

    fn left(justified: &str) -> Vec<String> {
        Justified::parse(justified).judge(SAID)
    }

    const LONG: &str = "WARNING:LONG_LINE: line is long in drivers/new/new.c";
    const TYPO: &str = "CHECK:TYPO: in the log";

    #[test]
    fn what_nothing_justifies_is_left() {
        assert_eq!(left("# LONG_LINE * no entry\n\n"), [LONG, TYPO]);
    }

    #[test]
    fn an_entry_is_for_a_type_and_a_place() {
        for place in ["drivers/new/new.c", "drivers/new/", "*"] {
            assert_eq!(left(&format!("LONG_LINE {place} why")), [TYPO], "{place}");
        }
        for entry in [
            "LONG_LINE drivers/new why",
            "TYPO drivers/ why",
            "LONG * why",
        ] {
            assert_eq!(left(entry), [LONG, TYPO], "{entry}");
        }
        assert_eq!(left("LONG_LINE * why\nTYPO * why\n"), [""; 0]);
    }

    #[test]
    fn a_finding_may_be_about_a_file_as_a_whole() {
        let said = "ERROR:EXECUTE_PERMISSIONS: x\n#7: FILE: tools/a.sh\n";
        let mut justified = Justified::parse("EXECUTE_PERMISSIONS tools/ why");
        assert_eq!(justified.judge(said), [""; 0]);
    }

    #[test]
    fn an_entry_that_excuses_nothing_is_named() {
        let mut justified = Justified::parse("LONG_LINE * why\nGONE * It was once.\n");
        justified.judge(SAID);
        assert_eq!(
            justified.all_are_needed().unwrap_err().to_string(),
            "excuses nothing any more, remove it: GONE * It was once."
        );
        let mut justified = Justified::parse("LONG_LINE * why\n");
        justified.judge(SAID);
        justified.all_are_needed().unwrap();
    }

    fn run_fake(script: &str) -> Result<String> {
        run(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_checkpatch_that_finds_nothing_or_something_has_worked() {
        assert_eq!(run_fake("exit 0").unwrap(), "");
        let script = format!("printf '%s' '{SAID}'; exit 1");
        assert_eq!(run_fake(&script).unwrap(), SAID);
    }

    #[test]
    fn a_checkpatch_that_cannot_work_is_an_error() {
        for (script, error) in [
            (
                "echo Must be run from the top-level dir. of a kernel tree; exit 2",
                "checkpatch failed (exit status: 2): Must be run from the top-level dir. of a kernel tree",
            ),
            (
                "echo 'Out of memory!' >&2; exit 1",
                "checkpatch failed (exit status: 1): Out of memory!",
            ),
            (
                "kill -9 $$",
                "checkpatch failed (signal: 9 (SIGKILL)): it says nothing",
            ),
            (
                "echo \"No codespell typos will be found - file '/x': gone\" >&2",
                "checkpatch failed (exit status: 0): No codespell typos will be found - file '/x': gone",
            ),
        ] {
            assert_eq!(run_fake(script).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_checkpatch_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut perl = Command::new("perl");
        let outcome = run(perl.current_dir(&dir).arg("scripts/checkpatch.pl"));
        let error = outcome.unwrap_err().to_string();
        let begin = "checkpatch failed (exit status: 2): Can't open perl script";
        assert!(error.starts_with(begin), "{error}");
    }
}
