// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results, as TAP, and the memory of those that passed.

use crate::git::Repository;
use crate::sources::SOURCES;
use crate::{Error, Result, disk};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Prints results as they come.
pub struct Results<'a> {
    to: &'a mut dyn Write,
    passed: usize,
    failed: usize,
    memory: PathBuf,
    /// Makes hashes.
    repository: Repository,
}

impl<'a> Results<'a> {
    /// Begins; `memory` is the directory for what passed.
    pub fn new(to: &'a mut dyn Write, memory: &Path, repository: Repository) -> Result<Self> {
        disk::create_dir(memory)?;
        let mut results = Self {
            to,
            passed: 0,
            failed: 0,
            memory: memory.to_owned(),
            repository,
        };
        results.print("TAP version 13")?;
        Ok(results)
    }

    /// One result: all is well, or what is [wrong](Error::Wrong) with the series. Any other error is
    /// the check's own; it is no result, and returned.
    pub fn check(&mut self, name: &str, outcome: Result<()>) -> Result<()> {
        let number = self.passed + self.failed + 1;
        match outcome {
            Ok(()) => {
                self.passed += 1;
                self.print(&format!("ok {number} - {name}"))
            }
            Err(Error::Wrong(why)) => {
                self.failed += 1;
                let why = why.replace('\n', "\n# ");
                self.print(&format!("not ok {number} - {name}\n# {why}"))
            }
            Err(error) => Err(error),
        }
    }

    /// As [`check()`](Self::check), but what has passed for the same `key` is not made again.
    pub fn once(&mut self, key: &str, name: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
        let hash = self
            .repository
            .hash(&format!("{key}\n{name}\n{}", SOURCES.concat()))?;
        let path = self.memory.join(hash);
        if disk::look(&path)?.is_some() {
            return self.check(name, Ok(()));
        }
        let outcome = make();
        if outcome.is_ok() {
            fs::write(&path, name).map_err(Error::io(&path))?;
        }
        self.check(name, outcome)
    }

    /// Prints plan and total, and says whether all is well.
    pub fn close(mut self) -> Result<bool> {
        let (passed, failed) = (self.passed, self.failed);
        self.print(&format!("1..{}", passed + failed))?;
        self.print(&format!("{passed} passed, {failed} failed, 0 skipped"))?;
        Ok(failed == 0)
    }

    fn print(&mut self, text: &str) -> Result<()> {
        writeln!(self.to, "{text}")
            .and_then(|()| self.to.flush())
            .map_err(Error::io("standard output"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Identity;

    /// What `report` comes to, and what it prints.
    fn print(report: impl FnOnce(&mut Results) -> Result<()>) -> (Result<bool>, String) {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            name: "Ada".into(),
            email: "ada@example.org".into(),
            date: 0,
        };
        let repository = Repository::init(&dir.path().join("repository"), identity).unwrap();
        let mut text = Vec::new();
        let mut results = Results::new(&mut text, &dir.path().join("passed"), repository).unwrap();
        let outcome = report(&mut results).and_then(|()| results.close());
        (outcome, String::from_utf8(text).unwrap())
    }

    fn wrong() -> Result<()> {
        Err(Error::Wrong("one\ntwo".into()))
    }

    fn full_disk() -> Result<()> {
        Err(Error::io("log")(std::io::ErrorKind::StorageFull.into()))
    }

    #[test]
    fn what_is_wrong_with_the_series_is_a_result() {
        let (outcome, text) = print(|results| {
            results.check("good", Ok(()))?;
            results.check("bad", wrong())
        });
        assert!(!outcome.unwrap());
        assert_eq!(
            text,
            "TAP version 13\nok 1 - good\nnot ok 2 - bad\n# one\n# two\n1..2\n\
             1 passed, 1 failed, 0 skipped\n"
        );
    }

    #[test]
    fn an_error_of_the_check_itself_is_no_result_and_ends_it() {
        for remembered in [false, true] {
            let (outcome, text) = print(|results| {
                if remembered {
                    results.once("key", "a", full_disk)
                } else {
                    results.check("a", full_disk())
                }
            });
            assert!(matches!(outcome.unwrap_err(), Error::Io { .. }));
            assert_eq!(text, "TAP version 13\n");
        }
    }

    #[test]
    fn only_what_passed_is_not_made_again() {
        let mut made = Vec::new();
        let (outcome, _) = print(|results| {
            for (key, outcome) in [("1", wrong()), ("1", Ok(())), ("1", wrong()), ("2", Ok(()))] {
                results.once(key, "a", || {
                    made.push(key);
                    outcome
                })?;
            }
            Ok(())
        });
        assert!(!outcome.unwrap());
        assert_eq!(made, ["1", "1", "2"]);
    }
}
