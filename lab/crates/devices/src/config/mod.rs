// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configuration space of one function: 4 KiB with the access rules of each bit.
//!
//! Register layouts are those of `include/uapi/linux/pci_regs.h`. Bits are read-only unless a
//! capability says otherwise. Of the write-1-to-clear bits the lab's functions set one, Received
//! Master Abort.
//!
//! A write yields [`Event`]s: what the rest of the function must know of it.

mod build;
mod capabilities;
mod image;
mod space;
#[cfg(test)]
mod tests;
mod tph;

pub use build::{BarKind, ConfigBuilder, Identity};
pub use capabilities::{CompleterType, MsiX, Pcie};
pub use image::SIZE;
pub use space::{ConfigSpace, Event};
pub use tph::{StTable, TphCapability, TphRequester};
