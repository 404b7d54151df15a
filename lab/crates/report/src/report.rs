// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints results as TAP, part by part, and keeps count.

use crate::style::{Style, relative};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::time::Duration;
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

/// What became of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How its tests ended.
    pub totals: Totals,
    /// How long it took.
    pub took: Duration,
    /// How many of its guests had to be started twice.
    pub started_twice: usize,
    /// Why it could not be run; then it has no results.
    pub not_run: Option<String>,
}

/// Where the results go.
pub struct Report<'a> {
    to: &'a mut dyn Write,
    style: Style,
    /// The parts in their order: the last one is the current one.
    parts: Vec<Part>,
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

    /// The current part.
    ///
    /// # Panics
    /// If no part has begun.
    fn part(&mut self) -> &mut Part {
        self.parts.last_mut().expect("a part has begun")
    }

    /// Begins the part `name`.
    pub fn begin(&mut self, name: &str) -> io::Result<()> {
        self.number = 0;
        self.parts.push(Part {
            name: name.to_owned(),
            ..Part::default()
        });
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
                self.part().totals.passed += 1;
                writeln!(self.to, "ok {number} - {name}")?;
            }
            Verdict::Skip(reason) => {
                self.part().totals.skipped += 1;
                writeln!(self.to, "ok {number} - {name} # SKIP {reason}")?;
            }
            Verdict::Fail(why) => {
                self.part().totals.failed += 1;
                let line = format!("not ok {number} - {name}");
                writeln!(self.to, "{}", self.style.bad(line))?;
                for line in relative(why).lines() {
                    writeln!(self.to, "#   {line}")?;
                }
            }
        }
        self.to.flush()
    }

    /// A guest of the part had to be started once more, for a reason of as many lines as it needs.
    pub fn started_twice(&mut self, why: &str) -> io::Result<()> {
        self.part().started_twice += 1;
        for line in why.lines() {
            self.event(&Event::Note(line.to_owned()))?;
        }
        Ok(())
    }

    /// The part could not be run.
    pub fn not_run(&mut self, why: String) {
        self.part().not_run = Some(why);
    }

    /// Ends the part, which took so long. One that was run and has no result is a failure.
    pub fn end(&mut self, took: Duration) -> io::Result<()> {
        self.part().took = took;
        if let Some(why) = self.part().not_run.clone() {
            let mut lines = why.lines();
            let first = lines.next().unwrap_or_default();
            writeln!(self.to, "{}", self.style.bad(format!("Bail out! {first}")))?;
            for line in lines {
                writeln!(self.to, "#   {line}")?;
            }
            writeln!(self.to)?;
            return self.to.flush();
        }
        if self.number == 0 {
            self.case(&Case::fail("this part", "nothing was tested"))?;
        }
        writeln!(self.to, "1..{}\n", self.number)?;
        self.to.flush()
    }

    /// The parts so far, in their order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What became of each part, and the closing line; that stands alone and is never coloured, so
    /// that programs find it. What could not be run stands before it, and does not count.
    pub fn close(self) -> io::Result<Totals> {
        let mut totals = Totals::default();
        for Part {
            name,
            totals: part,
            took,
            ..
        } in &self.parts
        {
            totals.add(*part);
            let line = format!("# {name}: {part} in {:.1} s", took.as_secs_f64());
            writeln!(self.to, "{}", self.style.faint(line))?;
        }
        let twice: usize = self.parts.iter().map(|part| part.started_twice).sum();
        writeln!(
            self.to,
            "{}",
            self.style.faint(format!("# guests started twice: {twice}"))
        )?;
        writeln!(self.to)?;
        for Part { name, not_run, .. } in &self.parts {
            if let Some(why) = not_run {
                let why = why.lines().next().unwrap_or_default();
                writeln!(self.to, "could not be run: {name}: {why}")?;
            }
        }
        writeln!(self.to, "{totals}")?;
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
        report.end(Duration::from_millis(12_340)).unwrap();
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
                "\n\n# part: 2 passed, 1 failed, 1 skipped in 12.3 s\n# guests started twice: 0\n\n\
                 2 passed, 1 failed, 1 skipped\n"
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
        report.end(Duration::from_millis(12_340)).unwrap();
        report.begin("two").unwrap();
        report.case(&Case::pass("b")).unwrap();
        report.case(&Case::skip("c", "no device")).unwrap();
        report.end(Duration::from_millis(12_340)).unwrap();
        report.close().unwrap();
        let text = String::from_utf8(text).unwrap();
        let end = "# one: 1 passed, 0 failed, 0 skipped in 12.3 s\n\
            # two: 1 passed, 0 failed, 1 skipped in 12.3 s\n\
            # guests started twice: 0\n\n2 passed, 0 failed, 1 skipped\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn what_could_not_be_run_is_said_and_does_not_count() {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        report.begin("one").unwrap();
        report.case(&Case::pass("a")).unwrap();
        report.end(Duration::ZERO).unwrap();
        report.begin("two").unwrap();
        report.started_twice("no guest\nits files").unwrap();
        report.not_run("no guest\n    its log".into());
        report.end(Duration::from_secs(90)).unwrap();
        report.close().unwrap();
        let text = String::from_utf8(text).unwrap();
        let end = "# two\nTAP version 13\n# no guest\n# its files\n\
            Bail out! no guest\n#       its log\n\n\
            # one: 1 passed, 0 failed, 0 skipped in 0.0 s\n\
            # two: 0 passed, 0 failed, 0 skipped in 90.0 s\n\
            # guests started twice: 1\n\n\
            could not be run: two: no guest\n1 passed, 0 failed, 0 skipped\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn an_empty_part_fails() {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        report.begin("part").unwrap();
        report.end(Duration::from_millis(12_340)).unwrap();
        assert_eq!(report.close().unwrap().failed, 1);
    }
}
