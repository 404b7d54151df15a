// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routing identifiers.

use core::fmt;

/// Bus, device and function of a requester or completer: the 16-bit routing ID of a TLP
/// (bus in bits 15:8, device in 7:3, function in 2:0).
///
/// `Display` is the analyzer's form, `4h:0h.0h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(pub u16);

impl Bdf {
    /// Builds the ID from its parts; `device` is 0..=31, `function` 0..=7.
    ///
    /// # Panics
    /// If `device` or `function` is out of range: both are constants of a topology, not input.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        assert!(device < 32, "PCI device number above 31");
        assert!(function < 8, "PCI function number above 7");
        Self((bus as u16) << 8 | (device as u16) << 3 | function as u16)
    }

    /// Bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device number, 0..=31.
    #[must_use]
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 0x1f
    }

    /// Function number, 0..=7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 as u8 & 0x7
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:X}h:{:X}h.{:X}h",
            self.bus(),
            self.device(),
            self.function()
        )
    }
}
