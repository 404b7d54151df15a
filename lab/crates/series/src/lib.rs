// SPDX-License-Identifier: MIT OR Apache-2.0
//! The patch series of the kernel half.
//!
//! Each file of `patches/` becomes a commit: its hunks, and those files of the repository's slice
//! of a kernel tree that its header claims by `Adds:`. [`write()`] makes mails of these commits,
//! with a cover letter; [`check()`] looks at them as their readers will, with the kernel's own
//! tools.
//!
//! The repository of the commits holds of the pristine kernel only what the series changes. That is
//! enough for patches, and does not need minutes and gigabytes.

mod base;
pub mod check;
mod claims;
mod commits;
mod disk;
mod error;
mod git;
mod letter;
mod patch;
mod progress;
mod sources;
pub mod write;

pub use check::check;
pub use error::{Error, Result};
pub use write::write;

use std::io::Write;

/// What can be done with the series.
#[derive(Debug, clap::Subcommand)]
pub enum SeriesCommand {
    /// Write it as mails, with a cover letter
    Write(write::WriteArgs),
    /// Check that it makes the tree that the lab builds, and each patch with the kernel's own tools
    Check(check::CheckArgs),
}

/// Does it, prints to `to`, and says whether everything is as it should be.
pub fn run(command: &SeriesCommand, to: &mut dyn Write) -> Result<bool> {
    match command {
        SeriesCommand::Write(args) => write(args, to).map(|()| true),
        SeriesCommand::Check(args) => check(args, to),
    }
}
