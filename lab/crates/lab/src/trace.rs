// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints binary traces as an analyzer's text.

use fabric::trace::{ReadError, Reader};
use std::io::{self, Write};
use std::path::PathBuf;

/// Why a trace is not printed to its end.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The output takes no more.
    #[error("cannot write the text: {0}")]
    Write(#[from] io::Error),
}

/// Writes every TLP of every file to `to`, decoded from its bytes, with an empty line between two.
pub fn print(files: &[PathBuf], to: &mut dyn Write) -> Result<(), TraceError> {
    let mut first = true;
    for file in files {
        if files.len() > 1 {
            let gap = if first { "" } else { "\n" };
            writeln!(to, "{gap}## {}", file.display())?;
        }
        for record in Reader::open(file)? {
            let gap = if first { "" } else { "\n" };
            writeln!(to, "{gap}{}", record?)?;
            first = false;
        }
    }
    to.flush()?;
    Ok(())
}
