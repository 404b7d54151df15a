// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program `lab-trace`: it needs nothing but the trace.

use fabric::Fabric;
use fabric::trace::{BINARY_FILE, Tap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use tlp::{Bdf, Mode};

fn lab_trace(words: &[&str], file: &Path) -> Output {
    command(words, file).output().unwrap()
}

fn command(words: &[&str], file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab-trace"));
    command.args(words).arg(file).env_clear();
    command
}

/// A trace of one write.
fn trace_of_a_write() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let id = Bdf::new(0, 0x10, 0);
    let fabric = Fabric::new(Mode::Flit, Tap::create(dir.path()).unwrap());
    let port = fabric.attach("sender", id, None).unwrap();
    port.set_command(true, false);
    port.requester(id).write(0x1000, &[0; 8], None).unwrap();
    let file = dir.path().join(BINARY_FILE);
    (dir, file)
}

#[test]
fn it_prints_a_trace() {
    let (_dir, file) = trace_of_a_write();
    let output = lab_trace(&["list"], &file);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("# 1: sender -> nobody"), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_it_cannot_read_is_named_and_its_status_says_so() {
    let output = lab_trace(&["summary"], Path::new("/nowhere/trace.pcapng"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("lab-trace: "), "{error}");
    assert!(error.contains("/nowhere/trace.pcapng"), "{error}");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_reader_that_went_away_is_no_error_to_tell() {
    let (_dir, file) = trace_of_a_write();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(&["list"], &file).stdout(writer).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(2));
}
