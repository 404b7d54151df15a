// SPDX-License-Identifier: MIT OR Apache-2.0
//! The TPH requester capability (extended capability 0x17).

use super::image::Image;
use fabric::{RequesterEnable, StEntries, StMode, Tph};

/// Offset of the control register within the capability.
pub(super) const CONTROL: usize = 8;
/// Lowest bit of ST Table Location in the capability register.
const LOCATION: u32 = 9;
/// Offset of the ST table within the capability.
pub(super) const TABLE: usize = 12;

/// ST Table Location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StTable {
    /// 00: there is none, the tags are the device's own.
    None,
    /// 01: in the capability, with this many entries, 1..=64.
    Capability(u8),
    /// 10: in the MSI-X table. A vfio-user client keeps that to itself, so no tag ever gets here.
    MsiX,
}

impl StTable {
    /// Entries in the capability.
    pub(super) fn entries(self) -> usize {
        match self {
            Self::None | Self::MsiX => 0,
            Self::Capability(entries) => entries.into(),
        }
    }
}

/// What a function's TPH requester capability announces: No-ST mode, device-specific mode, and
/// this.
#[derive(Clone, Copy, Debug)]
pub struct TphCapability {
    /// Extended TPH Requester Supported: 16-bit tags.
    pub extended: bool,
    /// Interrupt Vector Mode Supported.
    pub interrupt_vector: bool,
    /// Where the ST table is.
    pub table: StTable,
}

impl TphCapability {
    pub(super) fn place(self, image: &mut Image) -> usize {
        let entries = self.table.entries();
        assert!(
            entries <= 64,
            "an ST table in the capability has 64 entries at most"
        );
        let at = image.extended_capability(0x17, 1, TABLE + 2 * entries);
        let (no_st, device_specific) = (1, 1 << 2);
        let interrupt_vector = u32::from(self.interrupt_vector) << 1;
        let extended = u32::from(self.extended) << 8;
        let table = match self.table {
            StTable::None => 0b00 << LOCATION,
            StTable::Capability(entries) => 0b01 << LOCATION | (u32::from(entries) - 1) << 16,
            StTable::MsiX => 0b10 << LOCATION,
        };
        image.set32(
            at + 4,
            no_st | interrupt_vector | device_specific | extended | table,
        );
        // Without Extended the upper enable bit and the upper halves of the entries are hardwired.
        image.allow16(at + CONTROL, if self.extended { 0x0307 } else { 0x0107 });
        for entry in 0..entries {
            image.allow16(
                at + TABLE + 2 * entry,
                if self.extended { 0xffff } else { 0x00ff },
            );
        }
        at
    }
}

/// Reads a function's TPH requester capability.
#[derive(Clone, Copy, Debug)]
pub struct TphRequester<'a> {
    capability: &'a [u8],
}

impl<'a> TphRequester<'a> {
    /// `capability` begins with the capability's header and ends with the ST table.
    pub(super) const fn new(capability: &'a [u8]) -> Self {
        Self { capability }
    }

    /// ST Mode Select.
    #[must_use]
    pub fn mode(self) -> StMode {
        match self.capability[CONTROL] & 0b111 {
            0 => StMode::NoSt,
            1 => StMode::InterruptVector,
            2 => StMode::DeviceSpecific,
            code => StMode::Reserved(code),
        }
    }

    /// TPH Requester Enable.
    #[must_use]
    pub fn enable(self) -> RequesterEnable {
        match self.capability[CONTROL + 1] & 0b11 {
            0 => RequesterEnable::Off,
            1 => RequesterEnable::Tph,
            2 => RequesterEnable::Reserved,
            _ => RequesterEnable::TphAndExtended,
        }
    }

    /// Entry `number` of an ST table in the capability, if the table has it.
    #[must_use]
    pub fn entry(self, number: usize) -> Option<u16> {
        self.tags().nth(number)
    }

    fn tags(self) -> impl Iterator<Item = u16> + 'a {
        let (entries, _) = self.capability[TABLE..].as_chunks::<2>();
        entries.iter().copied().map(u16::from_le_bytes)
    }

    /// What the gate for hints goes by.
    #[must_use]
    pub fn state(self) -> Tph {
        Tph {
            interrupt_vector: self.capability[4] & 1 << 1 != 0,
            device_specific: self.capability[4] & 1 << 2 != 0,
            // The lab's functions have no reserved location.
            table: match self.capability[5] >> (LOCATION - 8) & 0b11 {
                0b01 => StEntries::Capability(self.tags().collect()),
                0b10 => StEntries::MsiX,
                _ => StEntries::None,
            },
            mode: self.mode(),
            enable: self.enable(),
        }
    }
}
