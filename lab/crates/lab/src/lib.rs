// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab's command line: starts the devices and a guest, runs the demo and the tests, decodes
//! traces. It runs inside the toolbox.

// The library exists for the program of the same name and its tests.
#![allow(clippy::must_use_candidate)]

pub mod bench;
pub mod check;
pub mod cli;
pub mod conformance;
pub mod demo;
#[cfg(test)]
mod fake;
mod process;
pub mod results;
pub mod serve;
pub mod signals;
pub mod style;
pub mod topology;
pub mod vm;

/// Makes this process the one that orphaned descendants come to, so that it can reap them.
pub fn adopt_orphans() -> std::io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(Into::into)
}
