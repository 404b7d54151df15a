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
pub mod faults;
pub mod vfio_selftests;
