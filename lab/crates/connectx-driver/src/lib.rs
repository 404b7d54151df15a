// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's side of the ConnectX model: a small driver for tests and benchmarks.
//!
//! It reaches the device only through what a driver has: configuration space, the registers of BAR
//! 0, [guest memory](GuestMemory) that both share, and MSI-X vectors, which are eventfds here. So
//! it also shows how a driver of such a device works, in the order in which things happen:
//!
//! 1. [`Function`]: the PCI function; memory is mapped, bus mastering and hints are switched on.
//! 2. [`Commands`]: the command queue in memory; a register says which entries to run.
//! 3. [`Adapter`]: bring-up, and every command as a method; objects are numbers with memory.
//! 4. [`struct@Eq`]: events, which raise interrupts; [`Cq`]: completions, which raise events when
//!    armed.
//! 5. [`Qp`] and [`Srq`]: queues of [requests](Request), with a doorbell each.
//! 6. [`Key`] and [`Umr`]: who may access which memory.
//!
//! What the benchmarks measure with it is in [`measure`].
//!
//! What it does wrong it does on purpose: nothing keeps a test from posting nonsense. What cannot
//! go on is a panic, as is waiting for longer than [`LIMIT`].

// Said above, once.
#![allow(clippy::missing_panics_doc)]

mod adapter;
mod command;
mod completion;
mod event;
mod function;
mod guest_memory;
mod key;
pub mod measure;
mod qp;
mod request;
mod srq;
mod wait;

pub use adapter::Adapter;
pub use command::{Commands, Error, Prepared, command};
pub use completion::{Completion, Cq, CqOptions};
pub use devices::client::ClientError;
pub use event::{Eq, Event};
pub use function::Function;
pub use guest_memory::{Area, GuestMemory};
pub use key::{Key, Umr, access, mask};
pub use qp::{Connection, Qp, QpOptions, Receive, state};
pub use request::{Address, Request, Sge};
pub use srq::{Srq, SrqOptions};
pub use wait::{LIMIT, wait_for};
