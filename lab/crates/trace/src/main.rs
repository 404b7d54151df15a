// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab-trace`: see `lab-trace --help`.

use clap::Parser;
use std::io::stdout;
use std::process::ExitCode;
use trace::command::{TraceCommand, run};

/// Show what a trace of the lab holds: as text, sums, or a page.
#[derive(Debug, Parser)]
#[command(name = "lab-trace", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: TraceCommand,
}

fn main() -> ExitCode {
    match run(&Cli::parse().command, &mut stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::from(2),
        Err(error) => {
            eprintln!("lab-trace: {error}");
            ExitCode::from(2)
        }
    }
}
