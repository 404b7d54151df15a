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

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::Fabric;
    use fabric::trace::{BINARY_FILE, TEXT_FILE, Tap};
    use std::fs;
    use tlp::{Bdf, Mode};

    #[test]
    fn what_is_printed_is_the_text_trace() {
        let dir = tempfile::tempdir().unwrap();
        let fabric = Fabric::new(Mode::Flit, Tap::create(dir.path()).unwrap());
        let port = fabric.attach("sender", Bdf::new(0, 0x10, 0), None).unwrap();
        port.set_command(true, false);
        // Nobody decodes the address, which a trace shows as well.
        for addr in [0x1000, 0x2000] {
            let _ = port
                .requester(Bdf::new(0, 0x10, 0))
                .write(addr, &[0; 8], None);
        }
        let mut printed = Vec::new();
        print(&[dir.path().join(BINARY_FILE)], &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let written = fs::read_to_string(dir.path().join(TEXT_FILE)).unwrap();
        assert_eq!(printed.trim_end(), written.trim_end());
        assert_eq!(printed.matches("MWr32").count(), 2, "{printed}");
    }

    #[test]
    fn an_empty_trace_has_no_text() {
        let dir = tempfile::tempdir().unwrap();
        drop(Tap::create(dir.path()).unwrap());
        let mut text = Vec::new();
        print(&[dir.path().join(BINARY_FILE)], &mut text).unwrap();
        assert!(text.is_empty());
    }

    #[test]
    fn a_file_that_is_no_trace_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(TEXT_FILE);
        fs::write(&file, "08000260 -> STP MWr64\n").unwrap();
        let error = print(std::slice::from_ref(&file), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(TEXT_FILE), "{error}");
        fs::remove_file(&file).unwrap();
        let error = print(&[file], &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(TEXT_FILE), "{error}");
    }
}
