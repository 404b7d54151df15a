// SPDX-License-Identifier: GPL-2.0
//! Output in the Test Anything Protocol, version 13, as kselftest prints it.

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// Why a test is skipped; what a panic that skips it carries.
struct Skip(String);

/// Ends the running test, which is skipped.
///
/// # Panics
///
/// Always: that is how it ends.
pub fn skip(reason: String) -> ! {
    // Without the message of a panic.
    panic::resume_unwind(Box::new(Skip(reason)))
}

/// One test: its name, and a function that panics if it fails.
pub type Test<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Runs the tests in order and prints their results; returns what the program ends with.
pub fn run(tests: Vec<Test<'_>>) -> ExitCode {
    println!("TAP version 13\n1..{}", tests.len());
    // What explains a result is part of the output.
    panic::set_hook(Box::new(|panic| {
        for line in panic.to_string().lines() {
            println!("# {line}");
        }
    }));

    let mut failed = 0;
    for (i, (name, test)) in tests.iter().enumerate() {
        let number = i + 1;
        match panic::catch_unwind(AssertUnwindSafe(test)) {
            Ok(()) => println!("ok {number} {name}"),
            Err(payload) => match payload.downcast_ref() {
                Some(Skip(reason)) => println!("ok {number} {name} # SKIP {reason}"),
                None => {
                    failed += 1;
                    println!("not ok {number} {name}");
                }
            },
        }
    }

    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
