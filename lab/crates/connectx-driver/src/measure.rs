// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the adapter costs: measured from outside the process that serves it, without a guest.
//!
//! Processor time is that of the device process, and is compared with something that was measured in the
//! same run; only latencies are times of the clock.

mod device;
pub mod events;
pub mod latency;
mod measurement;
pub mod memory;
mod times;
pub mod writes;

pub use device::{Device, Process, Recorded};
pub use measurement::{Bound, Measurement, Required};
