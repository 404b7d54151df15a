// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts a configuration space together.

use super::{BAR0, Bar, COMMAND, ConfigSpace, MsiX, Pcie, SIZE, STATUS, TphCapability};

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
    bytes: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
    clearable: Box<[u8; SIZE]>,
    bars: Vec<Bar>,
    /// Where the pointer to the next capability goes.
    link: usize,
    /// First free byte for a capability.
    free: usize,
    /// Offset of the last extended capability, and first free byte for the next.
    extended: Option<usize>,
    extended_free: usize,
    pcie: usize,
    vectors: u16,
    tph: Option<(usize, usize)>,
}

impl ConfigBuilder {
    /// A header of type 0 without BARs and capabilities, and the PCI Express capability, which
    /// every function of the lab has.
    #[must_use]
    pub fn new(identity: Identity, pcie: Pcie) -> Self {
        let mut builder = Self {
            bytes: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            clearable: Box::new([0; SIZE]),
            bars: vec![],
            link: 0x34,
            free: 0x40,
            extended: None,
            extended_free: 0x100,
            pcie: 0,
            vectors: 0,
            tph: None,
        };
        builder.set16(0x00, identity.vendor);
        builder.set16(0x02, identity.device);
        builder.set32(0x08, identity.class << 8 | u32::from(identity.revision));
        builder.set16(0x2c, identity.vendor);
        builder.set16(0x2e, identity.device);
        // Memory, master, parity response, SERR, INTx disable; there is no I/O BAR.
        builder.allow16(COMMAND, 0x0546);
        // Capabilities List, and the error bits.
        builder.set16(STATUS, 1 << 4);
        builder.clear16(STATUS, 0xf900);
        builder.allow(0x0c, 0xff); // cache line size
        builder.allow(0x3c, 0xff); // interrupt line
        builder.pcie = pcie.place(&mut builder);
        builder
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
        self.bytes[at] = 0b100 | u8::from(prefetchable) << 3;
        for (offset, mask) in (!(size - 1)).to_le_bytes().into_iter().enumerate() {
            self.allow(at + offset, mask);
        }
        self.bars.push(Bar {
            number,
            size,
            wide: true,
        });
        self
    }

    /// Power Management, version 3: D0 and D3hot, without PME.
    ///
    /// The client keeps the power state; a function in D3hot is not modelled.
    #[must_use]
    pub fn power_management(mut self) -> Self {
        let at = self.capability(0x01, 8);
        self.set16(at + 2, 0x0003);
        self.set16(at + 4, 1 << 3); // No Soft Reset: D3hot to D0 keeps the state
        self.allow16(at + 4, 0x0003);
        self
    }

    /// MSI-X.
    #[must_use]
    pub fn msix(mut self, msix: MsiX) -> Self {
        msix.place(&mut self);
        self.vectors = msix.vectors;
        self
    }

    /// Device Serial Number.
    #[must_use]
    pub fn serial_number(mut self, serial: u64) -> Self {
        let at = self.extended_capability(0x0003, 1, 12);
        for (offset, byte) in serial.to_le_bytes().into_iter().enumerate() {
            self.bytes[at + 4 + offset] = byte;
        }
        self
    }

    /// TPH requester.
    #[must_use]
    pub fn tph(mut self, tph: TphCapability) -> Self {
        self.tph = Some((tph.place(&mut self), tph.table.entries()));
        self
    }

    /// The space, in its state after power-on.
    #[must_use]
    pub fn build(self) -> ConfigSpace {
        ConfigSpace {
            reset: self.bytes.clone(),
            bytes: self.bytes,
            writable: self.writable,
            clearable: self.clearable,
            bars: self.bars,
            pcie: self.pcie,
            vectors: self.vectors,
            tph: self.tph,
        }
    }

    /// Chains a capability of `len` bytes and returns its offset.
    pub(super) fn capability(&mut self, id: u8, len: usize) -> usize {
        let at = self.free;
        assert!(at + len <= 0x100, "capability {id:#x} does not fit");
        self.bytes[self.link] = u8::try_from(at).expect("below 0x100");
        self.bytes[at] = id;
        self.link = at + 1;
        self.free = (at + len).next_multiple_of(4);
        at
    }

    /// Chains an extended capability of `len` bytes and returns its offset.
    pub(super) fn extended_capability(&mut self, id: u16, version: u16, len: usize) -> usize {
        let at = self.extended_free;
        assert!(at + len <= SIZE, "extended capability {id:#x} does not fit");
        if let Some(last) = self.extended {
            let next = u16::try_from(at).expect("below 0x1000") << 4;
            let version_bits = u16::from(self.bytes[last + 2] & 0xf);
            self.set16(last + 2, next | version_bits);
        }
        self.set16(at, id);
        self.set16(at + 2, version);
        self.extended = Some(at);
        self.extended_free = (at + len).next_multiple_of(16);
        at
    }

    pub(super) fn set16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn set32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// Makes bits writable.
    pub(super) fn allow16(&mut self, at: usize, mask: u16) {
        let [low, high] = mask.to_le_bytes();
        self.allow(at, low);
        self.allow(at + 1, high);
    }

    /// Makes bits write-1-to-clear.
    pub(super) fn clear16(&mut self, at: usize, mask: u16) {
        self.clearable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow(&mut self, at: usize, mask: u8) {
        self.writable[at] = mask;
    }
}
