// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting, for as long as something may take.

use std::time::{Duration, Instant};

/// How long something may take that takes microseconds; it only ends a test that would hang.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Waits until `look` sees something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "waited for {what} in vain");
        std::thread::yield_now();
    }
}
