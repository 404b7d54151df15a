// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands of a ConnectX, and the work that they start.
#![no_main]

use connectx::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::commands(bytes));
