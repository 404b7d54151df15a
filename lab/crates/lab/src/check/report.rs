// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints results as TAP, part by part, and keeps count.

use crate::style::Style;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use vm::results::{Case, Event, Verdict};

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Not run, for a reason.
    pub skipped: usize,
}

impl Totals {
    /// Counts those of `other` too.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Display for Totals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Where the results go.
pub struct Report<'a> {
    to: &'a mut dyn Write,
    style: Style,
    /// The parts in their order: the last one is the current one.
    parts: Vec<(String, Totals)>,
    /// Results of the current part so far.
    number: usize,
}

impl<'a> Report<'a> {
    /// A report that is written to `to`.
    pub fn new(to: &'a mut dyn Write, style: Style) -> Self {
        Self {
            to,
            style,
            parts: Vec::new(),
            number: 0,
        }
    }

    /// The current part's totals.
    ///
    /// # Panics
    /// If no part has begun.
    fn part(&mut self) -> &mut Totals {
        &mut self.parts.last_mut().expect("a part has begun").1
    }

    /// Begins the part `name`.
    pub fn begin(&mut self, name: &str) -> io::Result<()> {
        self.number = 0;
        self.parts.push((name.to_owned(), Totals::default()));
        writeln!(self.to, "{}", self.style.heading(format!("# {name}")))?;
        writeln!(self.to, "TAP version 13")?;
        self.to.flush()
    }

    /// Takes what a test said.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Case(case) => self.case(case),
            Event::Note(note) => {
                writeln!(self.to, "{}", self.style.faint(format!("# {note}")))?;
                self.to.flush()
            }
        }
    }

    /// Writes what is no result.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.to, "{text}")
    }

    /// Takes a result.
    pub fn case(&mut self, case: &Case) -> io::Result<()> {
        self.number += 1;
        let (number, name) = (self.number, escape(&case.name));
        match &case.verdict {
            Verdict::Pass => {
                self.part().passed += 1;
                writeln!(self.to, "ok {number} - {name}")?;
            }
            Verdict::Skip(reason) => {
                self.part().skipped += 1;
                writeln!(self.to, "ok {number} - {name} # SKIP {reason}")?;
            }
            Verdict::Fail(why) => {
                self.part().failed += 1;
                let line = format!("not ok {number} - {name}");
                writeln!(self.to, "{}", self.style.bad(line))?;
                for line in why.lines() {
                    writeln!(self.to, "#   {line}")?;
                }
            }
        }
        self.to.flush()
    }

    /// Ends the part. One that has no result is a failure.
    pub fn end(&mut self) -> io::Result<()> {
        if self.number == 0 {
            self.case(&Case::fail("this part", "nothing was tested"))?;
        }
        writeln!(self.to, "1..{}\n", self.number)?;
        self.to.flush()
    }

    /// The parts so far, in their order, and how many of their tests ended how.
    pub fn parts(&self) -> &[(String, Totals)] {
        &self.parts
    }

    /// What ran in each part, and the closing line; that stands alone and is never coloured, so that
    /// programs find it.
    pub fn close(self) -> io::Result<Totals> {
        let mut totals = Totals::default();
        for (name, part) in &self.parts {
            totals.add(*part);
            writeln!(self.to, "{}", self.style.faint(format!("# {name}: {part}")))?;
        }
        writeln!(self.to, "\n{totals}")?;
        self.to.flush()?;
        Ok(totals)
    }
}

/// In TAP a `#` after a blank begins a directive.
fn escape(name: &str) -> String {
    name.replace(" #", " \\#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm::results::{read_all, tap::Tap};

    #[test]
    fn what_is_written_is_tap() {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        report.begin("part").unwrap();
        report.case(&Case::pass("a")).unwrap();
        report.case(&Case::fail("b", "two\nlines")).unwrap();
        report.case(&Case::skip("c", "no device")).unwrap();
        report
            .case(&Case::pass("d # SKIP is part of the name"))
            .unwrap();
        report.end().unwrap();
        let totals = report.close().unwrap();
        assert_eq!(
            totals,
            Totals {
                passed: 2,
                failed: 1,
                skipped: 1
            }
        );
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.ends_with(
                "\n\n# part: 2 passed, 1 failed, 1 skipped\n\n2 passed, 1 failed, 1 skipped\n"
            ),
            "{text}"
        );
        let (body, _) = text.split_once("\n\n").unwrap();
        let cases: Vec<_> = read_all(&mut Tap::new("p"), body)
            .into_iter()
            .filter_map(|event| match event {
                Event::Case(case) => Some(case.verdict),
                Event::Note(_) => None,
            })
            .collect();
        assert_eq!(
            cases,
            [
                Verdict::Pass,
                Verdict::Fail(String::new()),
                Verdict::Skip("no device".into()),
                Verdict::Pass
            ]
        );
    }

    #[test]
    fn the_total_is_that_of_all_parts() {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        report.begin("one").unwrap();
        report.case(&Case::pass("a")).unwrap();
        report.end().unwrap();
        report.begin("two").unwrap();
        report.case(&Case::pass("b")).unwrap();
        report.case(&Case::skip("c", "no device")).unwrap();
        report.end().unwrap();
        report.close().unwrap();
        let text = String::from_utf8(text).unwrap();
        let end = "# one: 1 passed, 0 failed, 0 skipped\n\
            # two: 1 passed, 0 failed, 1 skipped\n\n2 passed, 0 failed, 1 skipped\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn an_empty_part_fails() {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        report.begin("part").unwrap();
        report.end().unwrap();
        assert_eq!(report.close().unwrap().failed, 1);
    }
}
