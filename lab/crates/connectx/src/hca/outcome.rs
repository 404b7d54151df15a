// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a work request.

use crate::cqe::Syndrome;
use std::time::Duration;

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// It ended well, and moved so many bytes.
    Done(u64),
    /// The peer was not ready; nothing was done.
    NotReady {
        /// How long the peer wants to be left alone.
        pause: Duration,
    },
    /// It failed.
    Failed(Syndrome),
}
