// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults in the kernel half, one at a time: each must be found by the test that it names.
//!
//! A fault that no test finds is something that is not tested. That a run failed says little: the
//! guest may have been stopped from outside. So a fault counts as found only if its own test fails,
//! in a guest that ran its tests, and passes on the kernel without a fault, which is run first.

mod build;
mod mutant;
mod run;

pub use build::{BuildError, Builder};
pub use mutant::{Mutant, MutantError};
pub use run::{Counts, Error, Lab, Outcome, State, run};
