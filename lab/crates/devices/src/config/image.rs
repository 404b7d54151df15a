// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of a configuration space after power-on, and who may write which bits.

/// Bytes of a configuration space.
pub const SIZE: usize = 4096;

/// Offsets in the header.
pub(super) const COMMAND: usize = 0x04;
pub(super) const STATUS: usize = 0x06;
pub(super) const BAR0: usize = 0x10;
/// Offset of Device Control within the PCI Express capability.
pub(super) const DEVCTL: usize = 0x08;
/// Offset of Power Management Control/Status within its capability.
pub(super) const PMCSR: usize = 0x04;
/// `PowerState` in that register: 0 is D0, 3 is D3hot.
pub(super) const POWER_STATE: u16 = 0b11;

/// The bytes, to which capabilities are added.
pub(super) struct Image {
    pub bytes: Box<[u8; SIZE]>,
    pub writable: Box<[u8; SIZE]>,
    pub clearable: Box<[u8; SIZE]>,
    /// Where the pointer to the next capability goes.
    link: usize,
    /// First free byte for a capability.
    free: usize,
    /// Offset of the last extended capability, and first free byte for the next.
    extended: Option<usize>,
    extended_free: usize,
}

impl Image {
    /// No header and no capability yet.
    pub(super) fn new() -> Self {
        Self {
            bytes: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            clearable: Box::new([0; SIZE]),
            link: 0x34,
            free: 0x40,
            extended: None,
            extended_free: 0x100,
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

    /// Makes bits of a byte writable.
    pub(super) fn allow(&mut self, at: usize, mask: u8) {
        self.writable[at] = mask;
    }
}
