// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows what traces hold: as an analyzer's text, as sums, as a page; and takes parts of them.

pub mod filter;
mod page;
pub mod summary;

use crate::cli::TraceCommand;
use crate::style::relative;
use fabric::trace::{BINARY_FILE, ReadError, Reader, extract, finish};
use filter::Filter;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use summary::Summary;

/// Name of a trace's text, next to the trace.
pub const TEXT_FILE: &str = "trace.txt";
/// Name of the page of a demo's trace, next to the trace.
pub const PAGE_FILE: &str = "trace.html";
/// Length of the longest trace whose text is written at the end of a run: it takes about a second.
const TEXT_MAX: u64 = 8 << 20;

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

/// Does what the command line asks for; what is to be read goes to `to`.
pub fn run(command: &TraceCommand, to: &mut dyn Write) -> Result<(), TraceError> {
    match command {
        TraceCommand::List(args) => print(&args.files, &args.filter, to),
        TraceCommand::Summary(args) => {
            for (at, file) in args.files.iter().enumerate() {
                if args.files.len() > 1 {
                    let gap = if at == 0 { "" } else { "\n" };
                    writeln!(to, "{gap}## {}", file.display())?;
                }
                write!(to, "{}", summarize(file, &args.filter)?)?;
            }
            to.flush()?;
            Ok(())
        }
        TraceCommand::Html(args) => {
            let out = args
                .out
                .clone()
                .unwrap_or_else(|| args.file.with_extension("html"));
            write_page(
                &args.file,
                &out,
                &args.file.display().to_string(),
                &args.filter,
            )?;
            writeln!(to, "{}", relative(&out.display().to_string()))?;
            Ok(())
        }
        TraceCommand::Filter(args) => {
            let out = args
                .out
                .clone()
                .unwrap_or_else(|| args.file.with_extension("part.pcapng"));
            if out.exists() {
                return Err(TraceError::Exists(out));
            }
            let kept = extract(&args.file, &out, |record| args.filter.takes(record))?;
            writeln!(to, "{}: {kept} TLPs", relative(&out.display().to_string()))?;
            Ok(())
        }
    }
}

/// Sums up the TLPs of the trace that `filter` takes.
pub fn summarize(file: &Path, filter: &Filter) -> Result<Summary, ReadError> {
    let mut summary = Summary::default();
    let mut reader = Reader::open(file)?;
    for record in reader.by_ref() {
        let record = record?;
        if filter.takes(&record) {
            summary.add(&record);
        }
    }
    summary.end(&reader);
    Ok(summary)
}

/// Writes the page of a trace, of which `title` says what it is.
pub fn write_page(
    trace: &Path,
    out: &Path,
    title: &str,
    filter: &Filter,
) -> Result<(), TraceError> {
    let page = page::page(trace, title, filter)?;
    fs::write(out, page).map_err(|error| TraceError::Out {
        path: out.to_owned(),
        error,
    })
}

/// Writes every TLP of every file that `filter` takes to `to`, decoded from its bytes, with an empty
/// line between two.
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
        let (mib, trace) = (len >> 20, trace.display());
        writeln!(
            text,
            "The trace has {mib} MiB. To print it:\n\n    lab trace list {trace}"
        )?;
        text.flush()?;
        return Ok(());
    }
    print(&[trace], &Filter::default(), &mut text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::trace::Tap;
    use fabric::{Fabric, Port};
    use tlp::{Bdf, Mode};

    const ID: Bdf = Bdf::new(0, 0x10, 0);

    /// A sender whose TLPs nobody takes, which a trace shows as well.
    fn sender(tap: Tap) -> Port {
        let port = Fabric::new(Mode::Flit, tap).attach("sender", ID, None);
        let port = port.unwrap();
        port.set_command(true, false);
        port
    }

    fn send(port: &Port, tlps: u64) {
        for at in 0..tlps {
            let to = 0x1000 + at * 8;
            port.requester(ID).write(to, &[0; 8], None).unwrap();
        }
    }

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
        let port = sender(Tap::limited(dir.path(), 4096).unwrap());
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
        let command = format!("lab trace list {}", dir.path().join(BINARY_FILE).display());
        assert!(text(dir.path()).contains(&command), "{}", text(dir.path()));
    }

    /// What `lab trace` with these words prints.
    fn run(words: &[&str], file: &Path) -> Result<String, TraceError> {
        use crate::cli::{Cli, Command};
        use clap::Parser;
        let line = ["lab", "trace"].iter().chain(words).map(PathBuf::from);
        let line = line.chain([file.to_owned()]).map(PathBuf::into_os_string);
        let Command::Trace(command) = Cli::parse_from(line).command else {
            panic!("another command");
        };
        let mut text = Vec::new();
        super::run(&command, &mut text)?;
        Ok(String::from_utf8(text).unwrap())
    }

    #[test]
    fn conditions_choose_what_is_printed_summed_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let port = sender(Tap::create(dir.path()).unwrap());
        send(&port, 10);
        drop(port);
        let file = dir.path().join(BINARY_FILE);
        let condition = ["--addr", "0x1010+16"];
        let list = run(&[&["list"], &condition[..]].concat(), &file).unwrap();
        assert_eq!(list.matches("MWr32").count(), 2, "{list}");
        assert!(list.starts_with("# 3: sender -> nobody"), "{list}");
        let summary = run(&[&["summary"], &condition[..]].concat(), &file).unwrap();
        assert!(summary.starts_with("2 TLPs, 16 bytes, in "), "{summary}");
        assert!(
            summary.contains("2 requests were taken by nobody"),
            "{summary}"
        );

        let taken = dir.path().join("trace.part.pcapng");
        let kept = run(&[&["filter"], &condition[..]].concat(), &file).unwrap();
        assert!(kept.ends_with("trace.part.pcapng: 2 TLPs\n"), "{kept}");
        let list = run(&["list"], &taken).unwrap();
        assert_eq!(list.matches("MWr32").count(), 2, "{list}");
        let again = run(&["filter"], &file).unwrap_err();
        assert!(again.to_string().contains("exists; remove it"), "{again}");
        assert_eq!(run(&["list"], &taken).unwrap(), list);

        let page = run(&["html"], &file).unwrap();
        assert!(page.ends_with("trace.html\n"), "{page}");
        let written = fs::read_to_string(dir.path().join(PAGE_FILE)).unwrap();
        assert!(written.contains("10 TLPs"), "{written}");
        let error = run(&["html", "--out", "/nowhere/x.html"], &file).unwrap_err();
        assert!(
            error.to_string().contains("cannot write /nowhere/x.html"),
            "{error}"
        );
    }

    #[test]
    fn sums_say_what_the_trace_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let port = sender(Tap::limited(dir.path(), 4096).unwrap());
        send(&port, 100);
        drop(port);
        let file = dir.path().join(BINARY_FILE);
        let summary = run(&["summary"], &file).unwrap();
        let recorded = summary.split(' ').next().unwrap().parse::<u64>().unwrap();
        let lacking = format!("\n{} more TLPs were not recorded", 100 - recorded);
        assert!(summary.contains(&lacking), "{summary}");
        run(&["html"], &file).unwrap();
        let page = fs::read_to_string(dir.path().join(PAGE_FILE)).unwrap();
        assert!(page.contains(lacking.trim_start()), "{page}");
    }

    #[test]
    fn a_trace_that_was_cut_is_no_page() {
        let dir = tempfile::tempdir().unwrap();
        let port = sender(Tap::create(dir.path()).unwrap());
        send(&port, 10);
        drop(port);
        let file = dir.path().join(BINARY_FILE);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
        for command in ["list", "summary", "html", "filter"] {
            let error = run(&[command], &file).unwrap_err().to_string();
            assert!(
                error.contains("ends within TLP 10: it was cut"),
                "{command}: {error}"
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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
        assert!(conclude(dir.path()).is_err());
        fs::remove_file(&file).unwrap();
        let error = print(&[file], &Filter::default(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains(BINARY_FILE), "{error}");
    }
}
