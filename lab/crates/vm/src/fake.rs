// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that stand for real ones in tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes the program `name` in `dir` from a script.
///
/// Another process writes the file: if this one did, a test that forks in another thread could hold
/// it open for writing at the moment when it is to be executed, which the kernel refuses.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = writer.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    assert!(writer.wait().unwrap().success());
    path
}
