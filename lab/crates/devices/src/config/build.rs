// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts a configuration space together.

use super::capabilities::{MsiX, Pcie};
use super::image::{BAR0, COMMAND, Image, PMCSR, POWER_STATE, STATUS};
use super::space::{Bar, ConfigSpace};
use super::tph::TphCapability;

/// What the header says that the function is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor and subsystem vendor id.
    pub vendor: u16,
    /// Device and subsystem id.
    pub device: u16,
    /// Class, subclass and programming interface: 24 bits.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// Kinds of BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// 64-bit memory; takes this BAR's register and the next.
    Memory64 {
        /// Reads have no side effects, writes may be merged.
        prefetchable: bool,
    },
}

/// Puts a configuration space together, capability by capability, in the order of the calls.
pub struct ConfigBuilder {
    pub(super) image: Image,
    pub(super) bars: Vec<Bar>,
    /// Offset of the PCI Express capability.
    pub(super) pcie: usize,
    /// Offset of the Power Management capability.
    pub(super) power: Option<usize>,
    /// Number of MSI-X vectors.
    pub(super) vectors: u16,
    /// Offset and number of entries of the TPH requester capability.
    pub(super) tph: Option<(usize, usize)>,
}

impl ConfigBuilder {
    /// A header of type 0 without BARs and capabilities, and the PCI Express capability, which
    /// every function of the lab has.
    #[must_use]
    pub fn new(identity: Identity, pcie: Pcie) -> Self {
        let mut image = Image::new();
        image.set16(0x00, identity.vendor);
        image.set16(0x02, identity.device);
        image.set32(0x08, identity.class << 8 | u32::from(identity.revision));
        image.set16(0x2c, identity.vendor);
        image.set16(0x2e, identity.device);
        // Memory, master, parity response, SERR, INTx disable; there is no I/O BAR.
        image.allow16(COMMAND, 0x0546);
        // Capabilities List, and the error bits.
        image.set16(STATUS, 1 << 4);
        image.clear16(STATUS, 0xf900);
        image.allow(0x0c, 0xff); // cache line size
        image.allow(0x3c, 0xff); // interrupt line
        let pcie = pcie.place(&mut image);
        Self {
            image,
            bars: vec![],
            pcie,
            power: None,
            vectors: 0,
            tph: None,
        }
    }

    /// BAR `number` of `size` bytes, a power of two.
    ///
    /// # Panics
    /// If the size or the number is out of range: both belong to a device's design.
    #[must_use]
    pub fn bar(mut self, number: usize, size: u64, kind: BarKind) -> Self {
        assert!(
            size.is_power_of_two() && size >= 0x1000,
            "BAR size {size:#x}"
        );
        assert!(number < 5, "BAR {number} has no register after it");
        let BarKind::Memory64 { prefetchable } = kind;
        let at = BAR0 + 4 * number;
        self.image.bytes[at] = 0b100 | u8::from(prefetchable) << 3;
        for (offset, mask) in (!(size - 1)).to_le_bytes().into_iter().enumerate() {
            self.image.allow(at + offset, mask);
        }
        self.bars.push(Bar {
            number,
            size,
            wide: true,
        });
        self
    }

    /// Power Management, version 3: D0 and D3hot, without PME. In D3hot the function neither sends
    /// requests nor takes those of its peers.
    #[must_use]
    pub fn power_management(mut self) -> Self {
        let at = self.image.capability(0x01, 8);
        self.image.set16(at + 2, 0x0003);
        // No Soft Reset: D3hot to D0 keeps the state.
        self.image.set16(at + PMCSR, 1 << 3);
        self.image.allow16(at + PMCSR, POWER_STATE);
        self.power = Some(at);
        self
    }

    /// MSI-X.
    #[must_use]
    pub fn msix(mut self, msix: MsiX) -> Self {
        msix.place(&mut self.image);
        self.vectors = msix.vectors;
        self
    }

    /// Device Serial Number.
    #[must_use]
    pub fn serial_number(mut self, serial: u64) -> Self {
        let at = self.image.extended_capability(0x0003, 1, 12);
        for (offset, byte) in serial.to_le_bytes().into_iter().enumerate() {
            self.image.bytes[at + 4 + offset] = byte;
        }
        self
    }

    /// TPH requester.
    #[must_use]
    pub fn tph(mut self, tph: TphCapability) -> Self {
        self.tph = Some((tph.place(&mut self.image), tph.table.entries()));
        self
    }

    /// The space, in its state after power-on.
    #[must_use]
    pub fn build(self) -> ConfigSpace {
        ConfigSpace::new(self)
    }
}
