// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads KTAP (Documentation/dev-tools/ktap.rst) out of a kernel log: the KUnit suites that run at boot.

use super::tap::{ResultLine, parse_plan};
use super::{Case, Event, Reader};
use crate::log::message;

/// One level of nesting.
#[derive(Debug)]
struct Level {
    /// The suite's name from its `# Subtest:` line, empty above the suites.
    suite: String,
    planned: Option<usize>,
    seen: usize,
}

/// Whether a diagnostic line is only an attribute that KUnit prints for every test.
fn is_attribute(note: &str) -> bool {
    note.contains("speed: ") || note.contains(".location: ") || note.starts_with("module: ")
}

/// Reads the results of the cases whose name, `SUITE: CASE`, begins with one of the given prefixes.
#[derive(Debug)]
pub struct Ktap {
    /// The prefixes, and whether a case was seen of each.
    prefixes: Vec<(String, bool)>,
    levels: Vec<Level>,
    started: bool,
}

impl Ktap {
    /// A reader for the cases that begin with one of `prefixes`, each of which has at least one.
    #[must_use]
    pub fn new(prefixes: &[&str]) -> Self {
        let prefixes = prefixes.iter().map(|&prefix| (prefix.to_owned(), false));
        Self {
            prefixes: prefixes.collect(),
            levels: Vec::new(),
            started: false,
        }
    }

    /// Whether a wanted case may be in `suite`.
    fn wanted(&self, suite: &str) -> bool {
        fn top(name: &str) -> &str {
            name.split(": ").next().unwrap_or_default()
        }
        self.prefixes
            .iter()
            .any(|(prefix, _)| top(prefix) == top(suite))
    }

    /// Whether a case is wanted, of which note is taken.
    fn take(&mut self, case: &Case) -> bool {
        let mut wanted = false;
        for (prefix, seen) in &mut self.prefixes {
            if case.name.starts_with(prefix.as_str()) {
                *seen = true;
                wanted = true;
            }
        }
        wanted
    }

    fn broken(suite: &str, what: String) -> Event {
        let name = if suite.is_empty() { "KUnit" } else { suite };
        Event::Case(Case::fail(name, what))
    }

    /// Leaves every level deeper than `depth`; a level with results missing is a failure.
    fn leave(&mut self, depth: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while self.levels.len() > depth {
            let level = self.levels.pop().expect("the loop checked its length");
            let counts = level.suite.is_empty() || self.wanted(&level.suite);
            match level.planned {
                Some(planned) if counts && planned != level.seen => events.push(Self::broken(
                    &level.suite,
                    format!("planned {planned} tests, reported {}", level.seen),
                )),
                // The parameters of one case need not be counted beforehand.
                None if counts && self.levels.len() < 2 => {
                    events.push(Self::broken(&level.suite, "ended without a plan".into()));
                }
                _ => {}
            }
        }
        events
    }

    fn result(&mut self, depth: usize, result: &ResultLine<'_>) -> Vec<Event> {
        let mut events = self.leave(depth + 1);
        let Some(level) = self.levels.get_mut(depth) else {
            return events;
        };
        level.seen += 1;
        let suite = level.suite.clone();
        // A suite's own line repeats its cases.
        if !suite.is_empty() {
            let case = result.case(&suite);
            if self.take(&case) {
                events.push(Event::Case(case));
            }
        }
        events
    }
}

impl Reader for Ktap {
    fn line(&mut self, line: &str) -> Vec<Event> {
        let text = message(line);
        let body = text.trim_start_matches(' ');
        let depth = (text.len() - body.len()) / 4;
        let body = body.trim_end();
        if body.starts_with("KTAP version") {
            let events = self.leave(depth);
            self.started = true;
            if self.levels.len() == depth {
                self.levels.push(Level {
                    suite: String::new(),
                    planned: None,
                    seen: 0,
                });
            }
            return events;
        }
        if !self.started {
            return Vec::new();
        }
        if let Some(name) = body.strip_prefix("# Subtest: ") {
            // The parameters of one case belong to its suite.
            let suite = match depth
                .checked_sub(1)
                .and_then(|above| self.levels.get(above))
            {
                Some(above) if !above.suite.is_empty() => format!("{}: {name}", above.suite),
                _ => name.to_owned(),
            };
            if let Some(level) = self.levels.get_mut(depth)
                && depth > 0
            {
                level.suite = suite;
            }
            return Vec::new();
        }
        if let Some((count, _)) = parse_plan(body) {
            if let Some(level) = self.levels.get_mut(depth) {
                level.planned = Some(count);
            }
            return Vec::new();
        }
        if let Some(result) = ResultLine::parse(body) {
            return self.result(depth, &result);
        }
        let in_suite = self
            .levels
            .last()
            .is_some_and(|level| !level.suite.is_empty() && self.wanted(&level.suite));
        match body.strip_prefix("# ") {
            Some(note) if in_suite && depth > 0 && !is_attribute(note) => {
                vec![Event::Note(note.to_owned())]
            }
            _ => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Event> {
        let mut events = self.leave(0);
        if !self.started {
            events.push(Self::broken(
                "",
                "the kernel ran no suite at boot: build it with CONFIG_KUNIT=y".into(),
            ));
            return events;
        }
        for (prefix, seen) in &self.prefixes {
            if !seen {
                events.push(Self::broken("", format!("no test named {prefix}* ran")));
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::read_all;

    const LOG: &str = "\
[    0.100000] Linux version 7.3.0
[    1.000000] KTAP version 1
[    1.000001] 1..2
[    1.000002]     KTAP version 1
[    1.000003]     # Subtest: list_test
[    1.000004]     # module: list_test
[    1.000005]     1..1
[    1.000006]     not ok 1 broken_elsewhere
[    1.000007] not ok 1 list_test
[    1.000008]     KTAP version 1
[    1.000009]     # Subtest: rust_tph
[    1.000010]     1..2
[    1.000011]     ok 1 hint_is_validated
[    1.000012]     ok 2 extended # SKIP no device
[    1.000013] # rust_tph: pass:1 fail:0 skip:1 total:2
[    1.000014] # Totals: pass:1 fail:0 skip:1 total:2
[    1.000015] ok 2 rust_tph
[    2.000000] Run /init as init process
";

    fn cases(text: &str) -> Vec<Case> {
        read_all(&mut Ktap::new(&["rust_tph: "]), text)
            .into_iter()
            .filter_map(|event| match event {
                Event::Case(case) => Some(case),
                Event::Note(_) => None,
            })
            .collect()
    }

    #[test]
    fn reads_the_wanted_suites_only() {
        assert_eq!(
            cases(LOG),
            [
                Case::pass("rust_tph: hint_is_validated"),
                Case::skip("rust_tph: extended", "no device"),
            ]
        );
    }

    #[test]
    fn the_words_of_a_failure_are_shown_and_attributes_are_not() {
        let words = "    # hint_is_validated: ASSERTION FAILED at rust/kernel/pci/tph.rs:1";
        let log = LOG.replace(
            "[    1.000011]",
            &format!("[    1.0] {words}\n[    1.0]     # hint.speed: normal\n[    1.000011]"),
        );
        let notes: Vec<_> = read_all(&mut Ktap::new(&["rust_tph: "]), &log)
            .into_iter()
            .filter(|event| matches!(event, Event::Note(_)))
            .collect();
        let words = words.trim_start().trim_start_matches("# ");
        assert_eq!(notes, [Event::Note(words.into())]);
    }

    #[test]
    fn cases_can_be_chosen_within_a_suite() {
        let mut reader = Ktap::new(&["rust_tph: hint", "rust_tph: other"]);
        let events = read_all(&mut reader, LOG);
        assert_eq!(
            events,
            [
                Event::Case(Case::pass("rust_tph: hint_is_validated")),
                Event::Case(Case::fail("KUnit", "no test named rust_tph: other* ran")),
            ]
        );
    }

    #[test]
    fn a_failed_case_fails() {
        let log = LOG.replace("ok 1 hint", "not ok 1 hint");
        assert_eq!(
            cases(&log)[0],
            Case::fail("rust_tph: hint_is_validated", "")
        );
    }

    #[test]
    fn a_suite_that_ends_early_fails() {
        let cut = &LOG[..LOG.find("[    1.000012]").unwrap()];
        assert!(cases(cut).contains(&Case::fail("rust_tph", "planned 2 tests, reported 1")));
    }

    #[test]
    fn a_log_that_ends_before_the_last_suite_fails() {
        let cut = &LOG[..LOG.find("[    1.000008]").unwrap()];
        let got = cases(cut);
        assert!(got.contains(&Case::fail("KUnit", "planned 2 tests, reported 1")));
        assert!(got.iter().any(|case| case.name == "KUnit"));
    }

    #[test]
    fn a_kernel_without_kunit_fails() {
        let got = cases("[    0.100000] Linux version 7.3.0\n[    0.2] ok 1 not a result\n");
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].name, "KUnit");
    }

    #[test]
    fn parameters_of_a_case_belong_to_its_suite() {
        let log = "\
KTAP version 1
1..1
    KTAP version 1
    # Subtest: rust_tph
    1..1
        KTAP version 1
        # Subtest: widths
        ok 1 eight
        not ok 2 sixteen
    not ok 1 widths
not ok 1 rust_tph
";
        assert_eq!(
            cases(log),
            [
                Case::pass("rust_tph: widths: eight"),
                Case::fail("rust_tph: widths: sixteen", ""),
                Case::fail("rust_tph: widths", ""),
            ]
        );
    }
}
