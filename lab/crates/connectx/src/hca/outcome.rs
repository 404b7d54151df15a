// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a work request.

use crate::cqe::Syndrome;
use std::time::Duration;

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It ended well, and moved so many bytes.
    Done(u64),
    /// The receiver was not ready (RNR); nothing was done.
    RnrNak {
        /// For how long nothing is to be sent to it.
        timer: Duration,
    },
    /// It failed.
    Failed(Syndrome),
}
