// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test said, whatever the format in which it said it.

pub mod compare;
pub mod ktap;
pub mod libtest;
pub mod tap;

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Pass,
    /// It failed; the reason in one line, empty if its own notes tell.
    Fail(String),
    /// It was not run; the reason is never empty.
    Skip(String),
}

/// One test and its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Full name: suite or program, then the test.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

impl Case {
    /// A test that passed.
    pub fn pass(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Pass,
        }
    }

    /// A test that failed for `why`.
    pub fn fail(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verdict: Verdict::Fail(why.into()),
        }
    }

    /// A test that was not run for `reason`; without a reason that is a failure.
    pub fn skip(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let verdict = if reason.trim().is_empty() {
            Verdict::Fail("skipped without a reason".into())
        } else {
            Verdict::Skip(reason)
        };
        Self {
            name: name.into(),
            verdict,
        }
    }
}

/// What a line of a test's output means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A test ended.
    Case(Case),
    /// Something worth showing beside the results.
    Note(String),
}

/// Reads a stream of results line by line.
pub trait Reader {
    /// Takes the next line, without its line end.
    fn line(&mut self, line: &str) -> Vec<Event>;

    /// The stream is over: whatever it promised and did not deliver comes back as failed cases.
    fn end(&mut self) -> Vec<Event>;
}

/// Reads a whole text at once.
pub fn read_all(reader: &mut dyn Reader, text: &str) -> Vec<Event> {
    let mut events: Vec<Event> = text.lines().flat_map(|line| reader.line(line)).collect();
    events.extend(reader.end());
    events
}
