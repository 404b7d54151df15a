// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a trace cannot be shown.

use fabric::trace::ReadError;
use std::io;
use std::path::PathBuf;

/// Why a trace is not printed to its end.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output takes no more.
    #[error("cannot write the text of the trace: {0}")]
    Write(#[from] io::Error),
    /// A file cannot be written.
    #[error("cannot write {}: {error}; give another one with --out", .path.display())]
    Out {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A part of a trace would take the place of a file.
    #[error("{} exists; remove it, or give another file with --out", .0.display())]
    Exists(PathBuf),
}

impl TraceError {
    /// Whether the reader of the text went away: it has seen enough.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
