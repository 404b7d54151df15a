// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest, from nothing to its exit code.
//!
//! [`run()`] is the one way to a guest. It starts the process that serves the lab's devices, then virtme-ng,
//! watches both, and leaves nothing behind: neither processes nor an unread log.

mod arrivals;
mod attempt;
pub mod checkers;
pub mod command;
mod device_process;
mod error;
#[cfg(test)]
mod fake;
mod firmware;
#[cfg(test)]
mod golden;
pub mod guest;
mod hang;
mod kernel;
pub mod kselftest;
pub mod kvm;
pub mod log;
mod manifest;
pub mod memory;
pub mod process;
mod program;
pub mod results;
mod run;
pub mod serve;
mod setup;
pub mod signals;
pub mod topology;

pub use arrivals::Arrivals;
pub use attempt::twice;
pub use command::{Accel, Task};
pub use device_process::{DeviceProcess, DevicesEnd};
pub use error::{Cause, Reached, VmError};
pub use firmware::cpu_hint;
pub use kernel::{Kernel, KernelError};
pub use manifest::{Manifest, ManifestError};
pub use program::{File, Program, Step};
pub use run::{DEVICE_MEMORY_MAX, Run, Vm, run};
pub use setup::Setup;
