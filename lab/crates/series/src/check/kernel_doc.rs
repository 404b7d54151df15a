// SPDX-License-Identifier: MIT OR Apache-2.0
//! What kernel-doc says of the comments in a file.

use super::{news, tool};
use crate::{Result, git};
use std::path::Path;
use std::process::Command;

/// What `kernel_doc` says of a file of the tree `dir`, without the numbers of lines, each thing
/// once; nothing of a file that the tree has not got. It ends with 0 whatever it has to say, as
/// long as `-Werror` is not asked for.
pub fn says(kernel_doc: &Path, dir: &Path, file: &str) -> Result<Vec<String>> {
    if !dir.join(file).exists() {
        return Ok(Vec::new());
    }
    let mut command = Command::new(kernel_doc);
    command
        .current_dir(dir)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-none", "-Wall", file]);
    let output = command.output().map_err(git::start(&command))?;
    tool::code("kernel-doc", &output, &[0])?;
    let said = tool::said(&output);
    let mut lines: Vec<_> = said.lines().map(news::without_number).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What a kernel-doc with this body says of `a.c`.
    fn say(body: &str) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.c"), "").unwrap();
        // By another process: what another test starts meanwhile would have a file of ours open for
        // writing, and such a file cannot be run.
        let mut write = Command::new("sh");
        write.args(["-c", "cat >kernel-doc && chmod +x kernel-doc"]);
        let script = format!("#!/bin/sh\n{body}\n");
        let written = git::feed(write.current_dir(&dir), script.as_bytes()).unwrap();
        assert!(written.status.success());
        says(&dir.path().join("kernel-doc"), dir.path(), "a.c")
    }

    #[test]
    fn each_thing_is_said_once_and_without_its_line() {
        let said = say("echo Warning: $3:2 b; echo Warning: $3:1 a >&2; echo Warning: $3:9 b");
        assert_eq!(said.unwrap(), ["Warning: a.c a", "Warning: a.c b"]);
    }

    #[test]
    fn of_a_file_that_is_not_there_nothing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let said = says(Path::new("/nowhere/kernel-doc"), dir.path(), "a.c");
        assert_eq!(said.unwrap(), [""; 0]);
    }

    #[test]
    fn a_kernel_doc_that_cannot_work_is_an_error() {
        let said = say("echo Traceback >&2; echo No module named kdoc >&2; exit 1");
        assert_eq!(
            said.unwrap_err().to_string(),
            "kernel-doc failed (exit status: 1): No module named kdoc"
        );
    }
}
