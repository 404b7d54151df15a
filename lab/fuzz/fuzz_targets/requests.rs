// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work requests of a ConnectX.
#![no_main]

use connectx::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::requests(bytes));
