// SPDX-License-Identifier: GPL-2.0
//! What the guest programs share: VFIO, the lab's devices, sysfs, the kernel log, TAP.
//!
//! All of it speaks to the kernel through the public uAPI, as a user-space driver would.

pub mod accelerator;
pub mod cpu;
pub mod demo;
pub mod driver;
pub mod engine;
pub mod feature;
pub mod initiator;
pub mod iommufd;
pub mod kmsg;
pub mod memory;
pub mod page;
pub mod pci;
pub mod requester;
pub mod slab;
pub mod sys;
pub mod tap;
pub mod udmabuf;
pub mod vfio;
