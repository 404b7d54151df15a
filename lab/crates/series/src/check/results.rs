// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results, as TAP, and the memory of those that passed.

use crate::git::Repository;
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

    /// One result. What went wrong is why it failed, be it the series' fault or not.
    pub fn check(&mut self, name: &str, outcome: Result<()>) -> Result<()> {
        let number = self.passed + self.failed + 1;
        match outcome {
            Ok(()) => {
                self.passed += 1;
                self.print(&format!("ok {number} - {name}"))
            }
            Err(error) => {
                self.failed += 1;
                let why = error.to_string().replace('\n', "\n# ");
                self.print(&format!("not ok {number} - {name}\n# {why}"))
            }
        }
    }

    /// As [`check()`](Self::check), but what has passed for the same `key` is not made again.
    pub fn once(&mut self, key: &str, name: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
        let hash = self
            .repository
            .hash(&format!("{key}\n{name}\n{}", super::SOURCES))?;
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
