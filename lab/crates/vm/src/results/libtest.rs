// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads what `cargo test` prints: libtest's stable text form, one block per test binary.

use super::{Case, Event, Reader};

/// Reads the merged output of `cargo test`.
#[derive(Debug, Default)]
pub struct Libtest {
    /// The binary whose tests run now, as cargo named it.
    binary: String,
    /// How many results its block still owes; `None` outside a block.
    owed: Option<usize>,
    blocks: usize,
}

impl Libtest {
    fn broken(&self, what: impl Into<String>) -> Event {
        let binary = if self.binary.is_empty() {
            "cargo test"
        } else {
            &self.binary
        };
        Event::Case(Case::fail(binary, what))
    }

    /// A block that did not say how it ended did not end well.
    fn close(&mut self) -> Vec<Event> {
        match self.owed.take() {
            None => Vec::new(),
            Some(owed) => {
                vec![self.broken(format!("ended early, {owed} results missing"))]
            }
        }
    }

    fn result(&mut self, name: &str, outcome: &str) -> Option<Event> {
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        let name = format!("{}: {name}", self.binary);
        let case = match outcome {
            "ok" => Case::pass(name),
            "FAILED" => Case::fail(name, ""),
            "ignored" => Case::skip(name, ""),
            other => Case::skip(name, other.strip_prefix("ignored, ")?),
        };
        self.owed = self.owed.and_then(|owed| owed.checked_sub(1));
        Some(Event::Case(case))
    }
}

/// The name of the crate or file in cargo's ` Running … (target/debug/deps/name-hash)` line.
fn binary_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(krate) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{krate} doc"));
    }
    let line = line.strip_prefix("Running ")?;
    let file = line.rsplit_once('/')?.1.trim_end_matches(')');
    Some(
        file.rsplit_once('-')
            .map_or(file, |(name, _)| name)
            .to_owned(),
    )
}

impl Reader for Libtest {
    fn line(&mut self, line: &str) -> Vec<Event> {
        if let Some(name) = binary_name(line) {
            let events = self.close();
            self.binary = name;
            return events;
        }
        if let Some(count) = line
            .strip_prefix("running ")
            .and_then(|rest| rest.split_once(" test"))
            .and_then(|(count, _)| count.parse().ok())
        {
            let events = self.close();
            self.owed = Some(count);
            self.blocks += 1;
            return events;
        }
        if line.starts_with("test result: ") {
            return match self.owed.take() {
                Some(0) => Vec::new(),
                Some(owed) => {
                    vec![self.broken(format!("{owed} results missing before its end"))]
                }
                None => vec![self.broken("reported more results than it announced")],
            };
        }
        if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
            && let Some(event) = self.result(name, outcome.trim_end())
        {
            return vec![event];
        }
        if line.trim().is_empty() {
            return Vec::new();
        }
        vec![Event::Note(line.to_owned())]
    }

    fn end(&mut self) -> Vec<Event> {
        let mut events = self.close();
        if self.blocks == 0 {
            events.push(self.broken("no test binary ran"));
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::read_all;

    fn cases(text: &str) -> Vec<Case> {
        read_all(&mut Libtest::default(), text)
            .into_iter()
            .filter_map(|event| match event {
                Event::Case(case) => Some(case),
                Event::Note(_) => None,
            })
            .collect()
    }

    const GOOD: &str = "\
   Compiling tlp v0.1.0 (/tph/repo/lab/crates/tlp)
     Running unittests src/lib.rs (target/debug/deps/tlp-0123456789abcdef)

running 3 tests
test header::round_trip ... ok
test header::refuses - should panic ... ok
test slow ... ignored, needs a day

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests tlp

running 1 test
test src/lib.rs - (line 4) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn reads_every_block() {
        assert_eq!(
            cases(GOOD),
            [
                Case::pass("tlp: header::round_trip"),
                Case::pass("tlp: header::refuses"),
                Case::skip("tlp: slow", "needs a day"),
                Case::pass("tlp doc: src/lib.rs - (line 4)"),
            ]
        );
    }

    #[test]
    fn a_failure_keeps_its_output_as_notes() {
        let text = "     Running unittests src/lib.rs (t/deps/x-1)\nrunning 1 test\ntest a ... FAILED\n\n\
                    failures:\n\n---- a stdout ----\nassertion failed\n\n\
                    test result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        let events = read_all(&mut Libtest::default(), text);
        assert_eq!(events[0], Event::Case(Case::fail("x: a", "")));
        assert!(events.contains(&Event::Note("assertion failed".into())));
        assert_eq!(cases(text).len(), 1);
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        let text = "     Running tests/t.rs (t/deps/t-1)\nrunning 1 test\ntest a ... ignored\ntest result: ok.\n";
        assert_eq!(
            cases(text),
            [Case::fail("t: a", "skipped without a reason")]
        );
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let cut = &GOOD[..GOOD.find("test slow").unwrap()];
        assert_eq!(
            cases(cut).last(),
            Some(&Case::fail("tlp", "ended early, 1 results missing"))
        );
        let next =
            format!("{cut}   Doc-tests tlp\n\nrunning 0 tests\n\ntest result: ok. 0 passed\n");
        assert!(cases(&next).contains(&Case::fail("tlp", "ended early, 1 results missing")));
    }

    #[test]
    fn a_binary_that_dies_after_its_last_result_is_a_failure() {
        let cut = &GOOD[..GOOD.find("test result").unwrap()];
        assert_eq!(
            cases(cut).last(),
            Some(&Case::fail("tlp", "ended early, 0 results missing"))
        );
    }

    #[test]
    fn a_build_that_fails_is_a_failure() {
        let events = read_all(
            &mut Libtest::default(),
            "error[E0308]: mismatched types\nerror: could not compile `tlp`\n",
        );
        assert_eq!(
            events.last(),
            Some(&Event::Case(Case::fail("cargo test", "no test binary ran")))
        );
        assert!(events.contains(&Event::Note("error: could not compile `tlp`".into())));
    }
}
