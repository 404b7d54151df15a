// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: `lab trace` and the program `lab-trace` are the same.

use crate::error::TraceError;
use crate::filter::Filter;
use crate::list::print;
use crate::page::write_page;
use crate::summary::summarize;
use clap::{Args, Subcommand};
use fabric::trace::extract;
use std::io::Write;
use std::path::PathBuf;

/// The subcommands of `lab trace` and of the program `lab-trace`.
#[derive(Debug, Subcommand)]
pub enum TraceCommand {
    /// Print every TLP as an analyzer does
    List(TraceArgs),
    /// Print who sent how much to whom, for what, and with which tags
    Summary(TraceArgs),
    /// Write a page to look at in a browser, beside the trace or to --out
    Html(TraceOutArgs),
    /// Write a trace with a part of the TLPs
    Filter(TraceOutArgs),
}

/// Options of `list` and `summary`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Traces (pcapng)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub filter: Filter,
}

/// Options of `html` and `filter`.
#[derive(Debug, Args)]
pub struct TraceOutArgs {
    /// The trace (pcapng)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The file to write; a part of a trace replaces none [default: FILE with the ending html, or
    /// part.pcapng]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub filter: Filter,
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
            writeln!(to, "{}", out.display())?;
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
            writeln!(to, "{}: {kept} TLPs", out.display())?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conclude::PAGE_FILE;
    use crate::testing::{ID, send, sender};
    use clap::Parser;
    use fabric::trace::{BINARY_FILE, Options, Snaplen, Tap};
    use std::fs;
    use std::path::Path;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: TraceCommand,
    }

    /// What `lab trace` with these words prints.
    fn run(words: &[&str], file: &Path) -> Result<String, TraceError> {
        let line = ["lab-trace"].iter().chain(words).map(PathBuf::from);
        let line = line.chain([file.to_owned()]).map(PathBuf::into_os_string);
        let mut text = Vec::new();
        super::run(&Line::parse_from(line).command, &mut text)?;
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
    fn payload_that_was_not_captured_is_said_to_be_so_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            snaplen: Some(Snaplen::HEADERS),
            ..Options::default()
        };
        let port = sender(Tap::with(dir.path(), options).unwrap());
        port.requester(ID).write(0x1000, &[7; 64], None).unwrap();
        drop(port);
        let file = dir.path().join(BINARY_FILE);
        let list = run(&["list"], &file).unwrap();
        assert!(
            list.contains("... payload not captured: 13 dwords"),
            "{list}"
        );
        let summary = summarize(&file, &Filter::default()).unwrap();
        assert_eq!((summary.total.bytes, summary.undecoded), (64, 0));
        assert_eq!(
            summary.remarks(),
            [
                "1 requests were taken by nobody",
                "payload not captured: 52 bytes",
            ]
        );
    }

    #[test]
    fn sums_say_what_the_trace_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            limit: 4096,
            ..Options::default()
        };
        let port = sender(Tap::with(dir.path(), options).unwrap());
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
}
