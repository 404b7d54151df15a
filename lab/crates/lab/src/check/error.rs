// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can become of a check instead of a total.

use std::io;
use vm::ManifestError;

/// Why not every test could be run. Whatever a test does is a result, not an error.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A program does not start.
    #[error("cannot start {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// Results cannot be written, or processes not be watched.
    #[error("the check cannot go on: {0}")]
    Io(#[from] io::Error),
    /// The harness failed parts of it, twice.
    #[error("{}; the report says which, and why", match .0 {
        1 => "1 part could not be run".to_owned(),
        count => format!("{count} parts could not be run"),
    })]
    NotRun(usize),
    /// No part has such a name.
    #[error("no part's name contains '{only}'; the parts are:\n  {}", .names.join("\n  "))]
    NoPart {
        /// What was asked for.
        only: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// No guest runs a test of this name.
    #[error(
        "no guest runs '{0}'; a test is named PROGRAM: TEST or SUITE: TEST, as the report of `make check` does"
    )]
    NoBoot(String),
    /// A program was not built.
    #[error(transparent)]
    Programs(#[from] ManifestError),
    /// Somebody asked to stop.
    #[error("stopped by {0}; what ran was ended, and there is no total")]
    Interrupted(&'static str),
}
