// SPDX-License-Identifier: MIT OR Apache-2.0
//! A crash of the device process at a moment that nobody can foresee, for tests of what survives
//! it.

use rustix::process::{Signal, getpid, kill_process};
use std::time::SystemTime;

/// Accesses to memory within which a busy device crashes.
const MOMENTS: u64 = 2000;

/// A number of accesses after which a device is to crash, another one each time.
#[must_use]
pub fn moment() -> u64 {
    let nanos = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.subsec_nanos());
    u64::from(nanos) % MOMENTS
}

/// Ends the process by SIGKILL: no answer is sent, no file is written out.
pub fn now() -> ! {
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        log::error!("the process cannot kill itself: {error}");
    }
    std::process::abort()
}
