// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes and reads of the registers of a ConnectX.
#![no_main]

use connectx::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz::registers(bytes));
