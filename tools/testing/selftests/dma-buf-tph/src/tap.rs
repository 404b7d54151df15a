// SPDX-License-Identifier: GPL-2.0
//! Output in the Test Anything Protocol, version 13, as kselftest prints it.

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};

/// One test: its name, and a function that panics if it fails.
pub type Test<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Runs the tests in order and prints their results; returns whether all passed.
pub fn run(tests: Vec<Test<'_>>) -> bool {
    println!("TAP version 13\n1..{}", tests.len());

    let mut failed = 0;
    for (i, (name, test)) in tests.iter().enumerate() {
        let passed = panic::catch_unwind(AssertUnwindSafe(test)).is_ok();
        if !passed {
            failed += 1;
        }
        println!("{} {} {name}", if passed { "ok" } else { "not ok" }, i + 1);
    }

    failed == 0
}

/// Asserts that `result` is the error `errno`.
///
/// # Panics
///
/// If it is not.
#[track_caller]
pub fn assert_errno<T: Debug>(result: std::io::Result<T>, errno: i32) {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => (),
        other => panic!(
            "expected {:?}, got {other:?}",
            std::io::Error::from_raw_os_error(errno)
        ),
    }
}
