// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intel's VT-d as QEMU's `intel-iommu` emulates it: finds out where a requester's address leads by
//! walking the guest's own tables, as the IOMMU does.
//!
//! QEMU tells a vfio-user server which addresses it may use, but for a BAR of another device not
//! what is there. Legacy mode only (Intel Virtualization Technology for Directed I/O, "DMA
//! Remapping" and "Translation Structure Formats"), which is what QEMU offers by default.

use fabric::Iommu;
use std::io;
use tlp::Bdf;

/// Registers of the one remapping unit of the q35 machine.
const REGISTERS: u64 = 0xfed9_0000;
/// Global Status, 32 bits.
const GLOBAL_STATUS: u64 = REGISTERS + 0x1c;
/// Translation Enable Status.
const TRANSLATING: u32 = 1 << 31;
/// Root Table Address, 64 bits.
const ROOT_TABLE: u64 = REGISTERS + 0x20;
/// Translation Table Mode, 0 for legacy.
const TABLE_MODE: u64 = 0b11 << 10;

/// Present, in root and context entries.
const PRESENT: u64 = 1 << 0;
/// Readable or writable, in page table entries.
const READ_OR_WRITE: u64 = 0b11;
/// The entry is the last one, for a page larger than 4 KiB.
const LARGE: u64 = 1 << 7;
/// Address of a table or page.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Address bits of a 4 KiB page, and those that one level of tables decodes.
const PAGE_BITS: u32 = 12;
const LEVEL_BITS: u32 = 9;

/// Physical memory of the guest.
pub trait Physical: Send + Sync {
    /// The 32-bit value at `addr`.
    fn read_u32(&self, addr: u64) -> io::Result<u32>;
    /// The 64-bit value at `addr`.
    fn read_u64(&self, addr: u64) -> io::Result<u64>;
}

/// The remapping unit of a guest.
pub struct VtD<M>(pub M);

impl<M: Physical> Iommu for VtD<M> {
    fn translate(&self, requester: Bdf, page: u64) -> io::Result<Option<u64>> {
        if self.0.read_u32(GLOBAL_STATUS)? & TRANSLATING == 0 {
            return Ok(Some(page));
        }
        let root = self.0.read_u64(ROOT_TABLE)?;
        if root & TABLE_MODE != 0 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the guest's IOMMU is not in legacy mode",
            ));
        }
        let [devfn, bus] = requester.0.to_le_bytes();
        let root = self.0.read_u64((root & ADDRESS) + 16 * u64::from(bus))?;
        if root & PRESENT == 0 {
            return Ok(None);
        }
        let context = (root & ADDRESS) + 16 * u64::from(devfn);
        let (low, high) = (self.0.read_u64(context)?, self.0.read_u64(context + 8)?);
        if low & PRESENT == 0 {
            return Ok(None);
        }
        // Translation Type.
        match low >> 2 & 0b11 {
            0b00 | 0b01 => {}
            0b10 => return Ok(Some(page)),
            _ => return Ok(None),
        }
        // Address Width: 001 is 39 bits, and each one more is a level more.
        let levels = match high & 0b111 {
            width @ 1..=3 => u32::try_from(width + 2).unwrap_or(0),
            _ => return Ok(None),
        };
        self.walk(low & ADDRESS, levels, page)
    }
}

impl<M: Physical> VtD<M> {
    fn walk(&self, mut table: u64, levels: u32, page: u64) -> io::Result<Option<u64>> {
        if page >> (PAGE_BITS + levels * LEVEL_BITS) != 0 {
            return Ok(None);
        }
        for level in (0..levels).rev() {
            let shift = PAGE_BITS + level * LEVEL_BITS;
            let index = page >> shift & ((1 << LEVEL_BITS) - 1);
            let entry = self.0.read_u64(table + 8 * index)?;
            if entry & READ_OR_WRITE == 0 {
                return Ok(None);
            }
            if level == 0 || entry & LARGE != 0 {
                let within = (1 << shift) - 1;
                return Ok(Some(entry & ADDRESS & !within | page & within));
            }
            table = entry & ADDRESS;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Memory that holds zero unless said otherwise.
    #[derive(Default)]
    struct Memory(BTreeMap<u64, u64>);

    impl Physical for Memory {
        fn read_u32(&self, addr: u64) -> io::Result<u32> {
            Ok(u32::try_from(self.read_u64(addr)?).unwrap())
        }

        fn read_u64(&self, addr: u64) -> io::Result<u64> {
            Ok(self.0.get(&addr).copied().unwrap_or(0))
        }
    }

    const ID: Bdf = Bdf::new(1, 0x10, 2);
    const CONTEXT: u64 = 0x2000 + 16 * 0x82;
    const PAGE: u64 = 0xfff_f000;

    /// Tables of three levels in which `ID` has `PAGE`.
    fn guest() -> VtD<Memory> {
        let entries = [
            (GLOBAL_STATUS, 1 << 31),
            (ROOT_TABLE, 0x1000),
            (0x1010, 0x2001),
            (CONTEXT, 0x3001),
            (CONTEXT + 8, 0x501),
            // 0x0fff_f000: indices 0, 0x7f, 0x1ff.
            (0x3000, 0x4003),
            (0x4000 + 8 * 0x7f, 0x5003),
            (0x5000 + 8 * 0x1ff, 0xfe_0000_3003),
        ];
        VtD(Memory(entries.into()))
    }

    fn with(addr: u64, value: u64) -> Option<u64> {
        let mut guest = guest();
        guest.0.0.insert(addr, value);
        guest.translate(ID, PAGE).unwrap()
    }

    #[test]
    fn a_page_is_found() {
        assert_eq!(guest().translate(ID, PAGE).unwrap(), Some(0xfe_0000_3000));
        assert_eq!(guest().translate(ID, PAGE - 0x1000).unwrap(), None);
        assert_eq!(guest().translate(ID, PAGE + (1 << 39)).unwrap(), None);
        assert_eq!(guest().translate(Bdf::new(1, 0x10, 3), PAGE).unwrap(), None);
        assert_eq!(guest().translate(Bdf::new(0, 0x10, 2), PAGE).unwrap(), None);
    }

    #[test]
    fn what_is_absent_is_blocked() {
        for addr in [0x1010, CONTEXT, CONTEXT + 8, 0x3000, 0x5000 + 8 * 0x1ff] {
            assert_eq!(with(addr, 0), None, "{addr:#x}");
        }
        assert_eq!(with(CONTEXT, 0x300d), None, "a reserved translation type");
    }

    #[test]
    fn large_pages_end_the_walk() {
        let page = with(0x4000 + 8 * 0x7f, 0xfe_0020_0083);
        assert_eq!(page, Some(0xfe_003f_f000));
    }

    #[test]
    fn four_levels_begin_one_table_higher() {
        let mut guest = guest();
        guest.0.0.insert(CONTEXT, 0x6001);
        guest.0.0.insert(CONTEXT + 8, 0x502);
        guest.0.0.insert(0x6000, 0x3003);
        assert_eq!(guest.translate(ID, PAGE).unwrap(), Some(0xfe_0000_3000));
    }

    #[test]
    fn without_translation_addresses_stay() {
        assert_eq!(with(GLOBAL_STATUS, 0x4000_0000), Some(PAGE));
        assert_eq!(with(CONTEXT, 0x3009), Some(PAGE), "pass-through");
    }

    #[test]
    fn scalable_mode_is_refused() {
        let mut guest = guest();
        guest.0.0.insert(ROOT_TABLE, 0x1400);
        let error = guest.translate(ID, PAGE).unwrap_err();
        assert!(error.to_string().contains("legacy"), "{error}");
    }
}
