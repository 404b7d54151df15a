// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCI identifiers of the lab's endpoints.
//!
//! They lie in the range 1af4:10f0 to 1af4:10ff, which QEMU's `docs/specs/pci-ids.rst` sets aside
//! for experiments.

/// Vendor and subsystem vendor id of every endpoint: Red Hat, Qumranet.
pub const VENDOR: u16 = 0x1af4;
/// Device and subsystem id of an initiator that supports 8-bit steering tags only.
pub const INITIATOR: u16 = 0x10f0;
/// Device and subsystem id of an initiator that supports Extended TPH too.
pub const INITIATOR_EXT: u16 = 0x10f1;
/// Device and subsystem id of an initiator that supports interrupt vector mode too.
pub const INITIATOR_IV: u16 = 0x10f3;
/// Device and subsystem id of an initiator whose ST table is in the MSI-X table.
pub const INITIATOR_MSIX: u16 = 0x10f4;
/// Device and subsystem id of an initiator without an ST table.
pub const INITIATOR_NO_TABLE: u16 = 0x10f5;
/// Device and subsystem id of an initiator without TPH.
pub const INITIATOR_NO_TPH: u16 = 0x10f6;
/// Device and subsystem id of the accelerator.
pub const ACCELERATOR: u16 = 0x10f2;
