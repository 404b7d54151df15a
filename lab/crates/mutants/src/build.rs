// SPDX-License-Identifier: MIT OR Apache-2.0
//! Has a kernel built that has a fault.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// Builds kernels by a program, `scripts/mutants`.
#[derive(Debug)]
pub struct Builder {
    program: PathBuf,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The program does not start.
    #[error("cannot start {}: {error}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The fault does not apply, or what it makes is no C or Rust.
    #[error("{0}")]
    Failed(String),
}

impl Builder {
    /// Builds by `program`: `PROGRAM build [NAME]` prints the build directory of a kernel with the
    /// fault NAME, or without one.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
        }
    }

    /// Builds the kernel with a fault, or without one, and returns its build directory.
    pub fn build(&self, fault: Option<&str>) -> Result<PathBuf, BuildError> {
        let start = |error| BuildError::Start {
            program: self.program.clone(),
            error,
        };
        let mut child = Command::new(&self.program)
            .arg("build")
            .args(fault)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let errors = child.stderr.take();
        // Progress is shown as it comes; what was said last is why there is no kernel.
        let last = thread::spawn(move || {
            let lines = errors
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines());
            lines
                .map_while(Result::ok)
                .inspect(|line| eprintln!("{line}"))
                .last()
        });
        let output = child.wait_with_output().map_err(start)?;
        let last = match last.join() {
            Ok(last) => last.unwrap_or_else(|| "it says nothing".to_owned()),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        match said.lines().last() {
            Some(dir) if output.status.success() => Ok(dir.into()),
            _ => {
                let why = last.trim_start_matches("error: ");
                Err(BuildError::Failed(format!("{why} ({})", output.status)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn build(script: &str, fault: Option<&str>) -> Result<PathBuf, String> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("builder");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let built = Builder::new(&program).build(fault);
        built.map_err(|error| error.to_string())
    }

    #[test]
    fn the_last_line_is_the_build_directory() {
        let script = "echo progress; echo \"/build/$#-$2\"";
        assert_eq!(build(script, None).unwrap(), Path::new("/build/1-"));
        assert_eq!(build(script, Some("x")).unwrap(), Path::new("/build/2-x"));
    }

    #[test]
    fn a_kernel_that_does_not_build_says_why() {
        let script = "echo /build; echo log >&2; echo 'error: no C' >&2; exit 1";
        assert_eq!(build(script, None).unwrap_err(), "no C (exit status: 1)");
        assert_eq!(
            build("exit 0", None).unwrap_err(),
            "it says nothing (exit status: 0)"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Builder::new(Path::new("/nowhere/x"))
            .build(None)
            .unwrap_err();
        assert!(
            error.to_string().starts_with("cannot start /nowhere/x"),
            "{error}"
        );
    }
}
