// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of the process as nobody can foresee it, for tests of what survives it.

use rustix::process::{Signal, getpid, kill_process};
use std::time::SystemTime;

/// Accesses to memory within which a busy device dies.
const MOMENTS: u64 = 2000;

/// A number of accesses after which a device dies, another one each time.
pub fn moment() -> u64 {
    let nanos = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.subsec_nanos());
    u64::from(nanos) % MOMENTS
}

/// Dies: no answer is sent, nothing is flushed.
pub fn now() -> ! {
    if let Err(error) = kill_process(getpid(), Signal::KILL) {
        log::error!("the process cannot kill itself: {error}");
    }
    std::process::abort()
}
