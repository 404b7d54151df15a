// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a tool ended, and what it said.

use crate::{Error, Result};
use std::process::Output;

/// The exit code of a tool, which must be one of those that it ends with when it has done its work.
/// Any other, and a signal, is an error: what it said is then no judgement of the series.
pub fn code(tool: &'static str, output: &Output, meant: &[i32]) -> Result<i32> {
    match output.status.code() {
        Some(code) if meant.contains(&code) => Ok(code),
        _ => Err(failed(tool, output)),
    }
}

/// The error of a tool that did not do its work, with the last line that it said.
pub fn failed(tool: &'static str, output: &Output) -> Error {
    let said = said(output);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Error::Tool {
        tool,
        status: output.status,
        why: last.unwrap_or("it says nothing").trim().to_owned(),
    }
}

/// What a tool prints on standard output and then on standard error.
pub fn said(output: &Output) -> String {
    let said = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn run(script: &str) -> Output {
        Command::new("sh").args(["-c", script]).output().unwrap()
    }

    #[test]
    fn a_code_that_is_meant_is_returned() {
        for meant in [0, 1] {
            let output = run(&format!("exit {meant}"));
            assert_eq!(code("sh", &output, &[0, 1]).unwrap(), meant);
        }
    }

    #[test]
    fn any_other_end_is_an_error_with_the_last_line() {
        for (script, error) in [
            (
                "echo one; echo two >&2; echo >&2; exit 2",
                "sh failed (exit status: 2): two",
            ),
            (
                "kill -9 $$",
                "sh failed (signal: 9 (SIGKILL)): it says nothing",
            ),
        ] {
            let outcome = code("sh", &run(script), &[0, 1]);
            assert_eq!(outcome.unwrap_err().to_string(), error);
        }
    }
}
