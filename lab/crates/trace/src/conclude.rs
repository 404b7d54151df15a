// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a run: the trace, its text and its page.

use crate::error::TraceError;
use crate::filter::Filter;
use crate::list::print;
use fabric::trace::{BINARY_FILE, finish};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Name of a trace's text, next to the trace.
pub const TEXT_FILE: &str = "trace.txt";
/// Name of the page of a demo's trace, next to the trace.
pub const PAGE_FILE: &str = "trace.html";
/// Length of the longest trace whose text is written at the end of a run: it takes about a second.
const TEXT_MAX: u64 = 8 << 20;

/// Removes what an earlier run left in `dir`.
pub fn clear(dir: &Path) -> io::Result<()> {
    for name in [BINARY_FILE, TEXT_FILE, PAGE_FILE] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Finishes the trace that a run left in `dir`, if there is one, and writes its text next to it.
///
/// The process that wrote the trace has ended, in whichever way.
pub fn conclude(dir: &Path) -> Result<(), TraceError> {
    conclude_up_to(dir, TEXT_MAX)
}

fn conclude_up_to(dir: &Path, text_max: u64) -> Result<(), TraceError> {
    let trace = dir.join(BINARY_FILE);
    if !trace.exists() {
        return Ok(());
    }
    finish(&trace)?;
    let len = fs::metadata(&trace)?.len();
    let mut text = BufWriter::new(File::create(dir.join(TEXT_FILE))?);
    if len > text_max {
        let mib = len >> 20;
        // Whoever reads it need not see the directory under the name that it has here.
        writeln!(
            text,
            "The trace has {mib} MiB. To print it:\n\n    lab-trace list {BINARY_FILE}"
        )?;
        text.flush()?;
        return Ok(());
    }
    print(&[trace], &Filter::default(), &mut text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{send, sender};
    use fabric::trace::{Options, Tap};

    fn text(dir: &Path) -> String {
        fs::read_to_string(dir.join(TEXT_FILE)).unwrap()
    }

    #[test]
    fn the_text_of_a_run_is_what_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let port = sender(Tap::create(dir.path()).unwrap());
        send(&port, 2);
        drop(port);
        conclude(dir.path()).unwrap();
        let mut printed = Vec::new();
        print(
            &[dir.path().join(BINARY_FILE)],
            &Filter::default(),
            &mut printed,
        )
        .unwrap();
        let text = text(dir.path());
        assert_eq!(String::from_utf8(printed).unwrap(), text);
        assert!(text.starts_with("# 1: sender -> nobody"), "{text}");
        assert_eq!(text.matches("MWr32").count(), 2, "{text}");
        assert_eq!(text.matches("\n\n").count(), 1, "{text}");
    }

    #[test]
    fn a_trace_whose_process_was_killed_is_finished() {
        let [dir, left] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let port = sender(Tap::create(dir.path()).unwrap());
        send(&port, 3);
        let [from, to] = [&dir, &left].map(|dir| dir.path().join(BINARY_FILE));
        fs::copy(&from, &to).unwrap();
        conclude(left.path()).unwrap();
        assert_eq!(text(left.path()).matches("MWr32").count(), 3);
        assert!(fs::metadata(to).unwrap().len() < 1000);
    }

    #[test]
    fn the_text_says_what_is_not_in_the_trace() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            limit: 4096,
            ..Options::default()
        };
        let port = sender(Tap::with(dir.path(), options).unwrap());
        send(&port, 100);
        drop(port);
        conclude(dir.path()).unwrap();
        let text = text(dir.path());
        let recorded = text.matches("MWr32").count();
        assert!((10..100).contains(&recorded));
        let rest = format!("\n\n# {} more TLPs were not recorded", 100 - recorded);
        assert!(text.contains(&rest), "{text}");
    }

    #[test]
    fn a_long_trace_is_printed_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let port = sender(Tap::create(dir.path()).unwrap());
        send(&port, 10);
        drop(port);
        conclude_up_to(dir.path(), 500).unwrap();
        let text = text(dir.path());
        assert!(
            text.ends_with("\n    lab-trace list trace.pcapng\n"),
            "{text}"
        );
    }

    #[test]
    fn a_run_without_trace_has_no_text() {
        let dir = tempfile::tempdir().unwrap();
        for name in [BINARY_FILE, TEXT_FILE, PAGE_FILE] {
            fs::write(dir.path().join(name), "of an earlier run").unwrap();
        }
        clear(dir.path()).unwrap();
        clear(dir.path()).unwrap();
        conclude(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(clear(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn what_is_no_trace_is_not_concluded() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(BINARY_FILE), "08000260 -> STP MWr64\n").unwrap();
        let error = conclude(dir.path()).unwrap_err();
        assert!(error.to_string().contains(BINARY_FILE), "{error}");
    }
}
