// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads TAP (<https://testanything.org/tap-version-13-specification.html>), as kselftests and
//! shell scripts print it.

use super::{Case, Event, Reader};

/// One `ok` or `not ok` line.
#[derive(Debug, PartialEq, Eq)]
pub struct ResultLine<'a> {
    /// `ok` rather than `not ok`.
    pub ok: bool,
    /// The test's number, if the line has one.
    pub number: Option<usize>,
    /// The description, without the dash.
    pub name: &'a str,
    /// What follows `# SKIP`, if the line has that directive.
    pub skip: Option<&'a str>,
}

impl<'a> ResultLine<'a> {
    /// Reads a line; `None` if it is no result.
    pub fn parse(line: &'a str) -> Option<Self> {
        let (ok, rest) = if let Some(rest) = line.strip_prefix("not ok") {
            (false, rest)
        } else {
            (true, line.strip_prefix("ok")?)
        };
        if !rest.is_empty() && !rest.starts_with(' ') {
            return None;
        }
        let rest = rest.trim_start();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = rest.split_at(digits);
        let (name, directive) = match rest.split_once(" # ") {
            Some((name, directive)) => (name, directive),
            None => (rest, ""),
        };
        let name = name.trim_start();
        let name = name.strip_prefix("- ").unwrap_or(name).trim();
        let skip = directive
            .get(..4)
            .filter(|word| word.eq_ignore_ascii_case("skip"))
            .map(|_| directive[4..].trim_start_matches(|c: char| c.is_alphabetic() || c == ':'))
            .map(str::trim);
        Some(Self {
            ok,
            number: number.parse().ok(),
            name,
            skip,
        })
    }

    /// The line as a case of `suite`.
    #[must_use]
    pub fn case(&self, suite: &str) -> Case {
        let name = match self.name {
            "" => format!("{suite}: test {}", self.number.unwrap_or_default()),
            name => format!("{suite}: {name}"),
        };
        match (self.ok, self.skip) {
            (true, Some(reason)) => Case::skip(name, reason),
            (true, None) => Case::pass(name),
            // A test that is skipped did not fail; `not ok` is a failure whatever is written behind it.
            (false, _) => Case::fail(name, ""),
        }
    }
}

/// The count and the trailing remark of a plan line (`1..4`, `1..0 # SKIP reason`).
#[must_use]
pub fn parse_plan(line: &str) -> Option<(usize, &str)> {
    let rest = line.strip_prefix("1..")?;
    let (count, remark) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((count.parse().ok()?, remark.trim()))
}

/// Reads the TAP of one program.
#[derive(Debug)]
pub struct Tap {
    program: String,
    planned: Option<usize>,
    seen: usize,
    bailed: bool,
}

impl Tap {
    /// A reader for what `program` prints.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            planned: None,
            seen: 0,
            bailed: false,
        }
    }

    fn plan(&mut self, count: usize, remark: &str) -> Vec<Event> {
        if self.planned.replace(count).is_some() {
            return vec![self.broken("printed two plans")];
        }
        if count > 0 {
            return Vec::new();
        }
        let reason = remark.trim_start_matches('#').trim();
        let reason = reason.get(4..).unwrap_or_default().trim();
        vec![Event::Case(Case::skip(&self.program, reason))]
    }

    fn broken(&self, what: &str) -> Event {
        Event::Case(Case::fail(format!("{}: TAP", self.program), what))
    }
}

impl Reader for Tap {
    fn line(&mut self, line: &str) -> Vec<Event> {
        let line = line.trim_end();
        if let Some(result) = ResultLine::parse(line) {
            self.seen += 1;
            let mut events = vec![Event::Case(result.case(&self.program))];
            if result.number.is_some_and(|number| number != self.seen) {
                let what = format!("result {} came with another number: {line}", self.seen);
                events.push(self.broken(&what));
            }
            return events;
        }
        if let Some((count, remark)) = parse_plan(line) {
            return self.plan(count, remark);
        }
        if let Some(reason) = line.strip_prefix("Bail out!") {
            self.bailed = true;
            return vec![self.broken(&format!("bailed out: {}", reason.trim()))];
        }
        if line.is_empty() || line.starts_with("TAP version") {
            return Vec::new();
        }
        let note = line.strip_prefix('#').unwrap_or(line).trim_start();
        vec![Event::Note(note.to_owned())]
    }

    fn end(&mut self) -> Vec<Event> {
        match self.planned {
            _ if self.bailed => Vec::new(),
            None => vec![self.broken("ended without a plan")],
            Some(planned) if planned != self.seen => {
                vec![self.broken(&format!("planned {planned} tests, reported {}", self.seen))]
            }
            Some(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Verdict, read_all};

    fn cases(text: &str) -> Vec<Case> {
        read_all(&mut Tap::new("p"), text)
            .into_iter()
            .filter_map(|event| match event {
                Event::Case(case) => Some(case),
                Event::Note(_) => None,
            })
            .collect()
    }

    #[test]
    fn reads_results_in_order() {
        let got = cases(
            "TAP version 13\n1..3\nok 1 - first\nnot ok 2 second\nok 3 - third # SKIP no device\n",
        );
        assert_eq!(
            got,
            [
                Case::pass("p: first"),
                Case::fail("p: second", ""),
                Case::skip("p: third", "no device"),
            ]
        );
    }

    #[test]
    fn a_plan_may_come_last() {
        assert_eq!(cases("ok 1 - a\n1..1\n"), [Case::pass("p: a")]);
    }

    #[test]
    fn a_stream_without_plan_fails() {
        assert_eq!(
            cases("ok 1 - a\n").last(),
            Some(&Case::fail("p: TAP", "ended without a plan"))
        );
        assert_eq!(cases(""), [Case::fail("p: TAP", "ended without a plan")]);
    }

    #[test]
    fn a_stream_that_ends_early_fails() {
        assert_eq!(
            cases("1..3\nok 1 - a\n").last(),
            Some(&Case::fail("p: TAP", "planned 3 tests, reported 1"))
        );
    }

    #[test]
    fn a_stream_with_more_results_than_planned_fails() {
        assert_eq!(
            cases("1..1\nok 1 - a\nok 2 - b\n").last(),
            Some(&Case::fail("p: TAP", "planned 1 tests, reported 2"))
        );
    }

    #[test]
    fn a_repeated_number_fails() {
        let got = cases("1..2\nok 1 - a\nok 1 - b\n");
        assert!(
            got.iter()
                .any(|case| case.name == "p: TAP" && matches!(case.verdict, Verdict::Fail(_)))
        );
    }

    #[test]
    fn bail_out_fails() {
        assert_eq!(
            cases("1..2\nok 1 - a\nBail out! no vfio\n").last(),
            Some(&Case::fail("p: TAP", "bailed out: no vfio"))
        );
    }

    #[test]
    fn a_skip_needs_a_reason() {
        assert_eq!(
            cases("1..1\nok 1 - a # SKIP\n"),
            [Case::fail("p: a", "skipped without a reason")]
        );
        assert_eq!(
            cases("1..0 # SKIP not root\n"),
            [Case::skip("p", "not root")]
        );
        assert_eq!(
            cases("1..0\n"),
            [Case::fail("p", "skipped without a reason")]
        );
    }

    #[test]
    fn a_todo_does_not_excuse_a_failure() {
        assert_eq!(
            cases("1..1\nnot ok 1 - a # later\n"),
            [Case::fail("p: a", "")]
        );
    }

    #[test]
    fn words_that_begin_with_ok_are_no_results() {
        let events = read_all(&mut Tap::new("p"), "1..0 # SKIP x\nokay then\n# a note\n");
        assert_eq!(
            events[1..],
            [
                Event::Note("okay then".into()),
                Event::Note("a note".into())
            ]
        );
    }
}
