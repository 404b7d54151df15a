// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong with a series.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a series cannot be written, or what a check found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a directory.
    #[error("{path}: {error}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A program that cannot be started.
    #[error("cannot start {program}: {error}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// A command of git that failed.
    #[error("git {command} failed: {why}")]
    Git {
        /// The command and its arguments.
        command: String,
        /// What it said first.
        why: String,
    },
    /// A tool that did not do its work, whatever the series is like.
    #[error("{tool} failed ({status}): {why}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        why: String,
    },
    /// There is nothing to make a series of.
    #[error("{0} holds no patch")]
    NoPatches(PathBuf),
    /// A patch without the line that names it.
    #[error("patches/{0} does not begin with its 'Subject: '; add it")]
    NoSubject(String),
    /// A patch that does nothing.
    #[error("patches/{0} changes nothing; give it hunks or a line 'Adds:'")]
    ChangesNothing(String),
    /// A patch for another kernel.
    #[error(
        "patches/{patch} does not apply to {base} ({why}); refresh the patch or give the Linux that it was made for"
    )]
    DoesNotApply {
        /// The patch's file name.
        patch: String,
        /// The pristine kernel's version.
        base: String,
        /// What git says.
        why: String,
    },
    /// A file of the slice that the kernel has, too.
    #[error("{0} is in the kernel already; a change of it belongs into patches/")]
    InTheKernel(String),
    /// A file of the slice that would not be in the series.
    #[error("{0} is claimed by no patch; add a line \"Adds: {0}\" to one in patches/")]
    Unclaimed(String),
    /// A file of the slice that would be in the series twice.
    #[error("{file} is claimed by two patches, {first} and {second}; leave it to one of them")]
    ClaimedTwice {
        /// The file.
        file: String,
        /// The first patch's file name.
        first: String,
        /// The other's.
        second: String,
    },
    /// A claim of what is not there.
    #[error("{patch} claims {claim}, which is not there; remove that line")]
    ClaimsNothing {
        /// The patch's file name.
        patch: String,
        /// What it claims.
        claim: String,
    },
    /// A former series for a first version.
    #[error("PREV= is what a later version is compared with; give V=2 or more too")]
    FirstVersion,
    /// A former series that is none.
    #[error("PREV= holds no 0001-*.patch; give the directory of the former series")]
    NoFormerSeries,
    /// A former series for another kernel.
    #[error(
        "the former series PREV= does not apply to {base} ({why}); give the base of it, or leave PREV= away"
    )]
    FormerSeries {
        /// The pristine kernel's version.
        base: String,
        /// What git says.
        why: String,
    },
    /// The JSON of a run that is none.
    #[error("{path} is not what a run writes ({error}); remove it, or run it again")]
    Run {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// A figure that does not exist.
    #[error("the cover letter asks for @{0}@, which nobody knows")]
    UnknownFigure(String),
    /// A patch that the series does not have.
    #[error("P={number} is not a patch; the series has {count}")]
    NoSuchPatch {
        /// What was asked for.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// A disk that is too full.
    #[error(
        "{what} needs {need} MB of disk space in {dir}, {free} MB are free; free some or give another place as CACHE="
    )]
    Space {
        /// What for.
        what: &'static str,
        /// How many MB it takes.
        need: u64,
        /// How many there are.
        free: u64,
        /// Where.
        dir: PathBuf,
    },
    /// What a check found wrong with the series, in a few lines.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// For `map_err`: names the file.
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            path: path.as_ref().to_owned(),
            error,
        }
    }
}
