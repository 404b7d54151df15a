// SPDX-License-Identifier: MIT OR Apache-2.0
//! A trace as an analyzer's text.

use crate::error::TraceError;
use crate::filter::Filter;
use fabric::trace::Reader;
use std::io::Write;
use std::path::PathBuf;

/// Writes every TLP of every file that `filter` takes to `to`, decoded from its bytes, with an
/// empty line between two.
pub fn print(files: &[PathBuf], filter: &Filter, to: &mut dyn Write) -> Result<(), TraceError> {
    let mut first = true;
    for file in files {
        if files.len() > 1 {
            let gap = if first { "" } else { "\n" };
            writeln!(to, "{gap}## {}", file.display())?;
        }
        let mut reader = Reader::open(file)?;
        for record in reader.by_ref() {
            let record = record?;
            if !filter.takes(&record) {
                continue;
            }
            let gap = if first { "" } else { "\n" };
            writeln!(to, "{gap}{record}")?;
            first = false;
        }
        match reader.unrecorded() {
            0 => {}
            tlps => writeln!(
                to,
                "\n# {tlps} more TLPs were not recorded: the trace had reached its limit"
            )?,
        }
    }
    to.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::trace::{BINARY_FILE, Tap};
    use std::fs;

    #[test]
    fn an_empty_trace_has_no_text() {
        let dir = tempfile::tempdir().unwrap();
        drop(Tap::create(dir.path()).unwrap());
        let mut text = Vec::new();
        print(
            &[dir.path().join(BINARY_FILE)],
            &Filter::default(),
            &mut text,
        )
        .unwrap();
        assert!(text.is_empty());
    }

    #[test]
    fn a_file_that_is_no_trace_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(BINARY_FILE);
        fs::write(&file, "08000260 -> STP MWr64\n").unwrap();
        let error = print(
            std::slice::from_ref(&file),
            &Filter::default(),
            &mut Vec::new(),
        )
        .unwrap_err();
        assert!(error.to_string().contains(BINARY_FILE), "{error}");
        fs::remove_file(&file).unwrap();
        let error = print(&[file], &Filter::default(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(BINARY_FILE), "{error}");
    }
}
