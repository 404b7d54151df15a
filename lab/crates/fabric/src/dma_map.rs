// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one requester can address: guest memory, and pages that an IOMMU translates.

use crate::{Error, PAGE_SIZE};
use std::{collections::BTreeMap, fs::File};
use tlp::Bdf;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Answers of the IOMMU that are kept for one range. A driver chooses requester ids and pages, so
/// without a limit it could fill the memory. Beyond it they are forgotten, and asked for again.
const MAX_PAGES: usize = 4096;

/// The ranges that a client has mapped for one function's DMA.
#[derive(Default)]
pub struct DmaMap {
    /// In order of their addresses, which do not overlap: few, and looked at for every request.
    ranges: Vec<Range>,
    /// Number of the next range of the kind [`Backing::Device`].
    next: u64,
}

struct Range {
    first: u64,
    size: u64,
    writable: bool,
    backing: Backing,
}

enum Backing {
    /// Guest memory.
    Memory(MmapRegion),
    /// Something else. The client does not say what; the IOMMU does, page by page.
    Device {
        /// Tells it from one that was mapped here earlier, and from itself before it forgot.
        number: u64,
        /// Requesters and pages that were asked for, and physical addresses unless the IOMMU blocks
        /// them; [`MAX_PAGES`] at most.
        pages: BTreeMap<(u16, u64), Option<u64>>,
    },
}

/// A page whose translation is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address.
    pub addr: u64,
    /// Who addresses it.
    pub requester: Bdf,
    /// The range that it belongs to.
    range: u64,
}

fn page_of(addr: u64) -> u64 {
    addr & !(PAGE_SIZE - 1)
}

impl DmaMap {
    /// Maps `size` bytes of `file` from `offset` on at address `addr`.
    pub fn insert(
        &mut self,
        addr: u64,
        size: u64,
        file: File,
        offset: u64,
        writable: bool,
    ) -> Result<(), Error> {
        let len = usize::try_from(size).map_err(|_| Error::NoRange { addr, size })?;
        self.check_free(addr, size)?;
        // Access beyond the end of the file would kill the process.
        let end = file
            .metadata()
            .map_err(|source| Error::Examine { addr, size, source })?
            .len();
        if offset.checked_add(size).is_none_or(|wanted| wanted > end) {
            return Err(Error::BeyondFile {
                addr,
                size,
                offset,
                end,
            });
        }
        let region = MmapRegion::from_file(FileOffset::new(file, offset), len)
            .map_err(|source| Error::Map { addr, size, source })?;
        self.place(addr, size, writable, Backing::Memory(region));
        Ok(())
    }

    /// Maps `size` bytes at `addr` of which the IOMMU knows what they are.
    pub fn insert_device(&mut self, addr: u64, size: u64, writable: bool) -> Result<(), Error> {
        self.check_free(addr, size)?;
        let backing = Backing::Device {
            number: self.next,
            pages: BTreeMap::new(),
        };
        self.next += 1;
        self.place(addr, size, writable, backing);
        Ok(())
    }

    fn place(&mut self, first: u64, size: u64, writable: bool, backing: Backing) {
        let range = Range {
            first,
            size,
            writable,
            backing,
        };
        self.ranges.insert(self.up_to(first), range);
    }

    /// How many ranges begin at `addr` or before.
    fn up_to(&self, addr: u64) -> usize {
        self.ranges.partition_point(|range| range.first <= addr)
    }

    fn check_free(&self, addr: u64, size: u64) -> Result<(), Error> {
        if size == 0 || addr.checked_add(size - 1).is_none() {
            return Err(Error::NoRange { addr, size });
        }
        match self.overlapping(addr, size).next() {
            Some(_) => Err(Error::Overlap { addr, size }),
            None => Ok(()),
        }
    }

    /// Unmaps every range within `size` bytes at `addr`; there need not be any.
    pub fn remove(&mut self, addr: u64, size: u64) -> Result<(), Error> {
        if size == 0 || addr.checked_add(size - 1).is_none() {
            return Err(Error::NoRange { addr, size });
        }
        let last = addr + (size - 1);
        let inside = |(first, range_last): (u64, u64)| first >= addr && range_last <= last;
        let hit: Vec<_> = self.overlapping(addr, size).collect();
        if !hit.iter().copied().all(inside) {
            return Err(Error::PartOfMapping { addr, size });
        }
        self.ranges
            .retain(|range| !hit.iter().any(|&(first, _)| first == range.first));
        Ok(())
    }

    /// Unmaps everything.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The page at `addr`, if its translation must be asked for.
    pub fn unknown(&self, requester: Bdf, addr: u64) -> Option<Page> {
        let Backing::Device { number, pages } = &self.find(addr, 1)?.0.backing else {
            return None;
        };
        let page = page_of(addr);
        (!pages.contains_key(&(requester.0, page))).then_some(Page {
            addr: page,
            requester,
            range: *number,
        })
    }

    /// Forgets what the IOMMU has answered, and what it has been asked for.
    pub fn forget_translations(&mut self) {
        for range in &mut self.ranges {
            if let Backing::Device { number, pages } = &mut range.backing {
                pages.clear();
                *number = self.next;
                self.next += 1;
            }
        }
    }

    /// Keeps the answer of the IOMMU, unless the page was unmapped or forgotten in the meantime.
    pub fn learn(&mut self, page: Page, translation: Option<u64>) {
        for range in &mut self.ranges {
            if let Backing::Device { number, pages } = &mut range.backing
                && *number == page.range
            {
                if pages.len() >= MAX_PAGES {
                    pages.clear();
                }
                pages.insert((page.requester.0, page.addr), translation);
            }
        }
    }

    /// The physical address of `len` bytes at `addr`, which lie within one page, as the IOMMU said.
    pub fn translated(&self, requester: Bdf, addr: u64, len: usize, write: bool) -> Option<u64> {
        let (range, _) = self.find(addr, len)?;
        let Backing::Device { pages, .. } = &range.backing else {
            return None;
        };
        if write && !range.writable {
            return None;
        }
        let page = page_of(addr);
        let translation = pages.get(&(requester.0, page)).copied().flatten()?;
        Some(translation + (addr - page))
    }

    /// True if `len` bytes at `addr` are memory mapped by one range, and writable if `write`.
    pub fn covers(&self, addr: u64, len: usize, write: bool) -> bool {
        self.find_memory(addr, len, write).is_some()
    }

    /// The guest memory of `len` bytes at `addr`, if one range maps them, writable if `write`.
    pub fn slice(&self, addr: u64, len: usize, write: bool) -> Option<VolatileSlice<'_>> {
        let (region, offset) = self.find_memory(addr, len, write)?;
        region.get_slice(offset, len).ok()
    }

    /// Copies out of guest memory; false (and `data` unchanged) if the range is not mapped.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        self.find_memory(addr, data.len(), false)
            .is_some_and(|(region, offset)| {
                region.as_volatile_slice().read_slice(data, offset).is_ok()
            })
    }

    /// Copies into guest memory; false (and memory unchanged) if the range is not mapped writable.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        self.find_memory(addr, data.len(), true)
            .is_some_and(|(region, offset)| {
                region.as_volatile_slice().write_slice(data, offset).is_ok()
            })
    }

    /// First and last address of each range that overlaps `size` bytes at `addr`, a valid range.
    fn overlapping(&self, addr: u64, size: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let last = addr + (size - 1);
        self.ranges[..self.up_to(last)]
            .iter()
            .rev()
            .map(|range| (range.first, range.first + (range.size - 1)))
            .take_while(move |&(_, range_last)| range_last >= addr)
    }

    /// The range that holds all `len` bytes at `addr`, and where in it they are.
    fn find(&self, addr: u64, len: usize) -> Option<(&Range, u64)> {
        let range = self.ranges[..self.up_to(addr)].last()?;
        let offset = addr - range.first;
        (offset.checked_add(len as u64)? <= range.size).then_some((range, offset))
    }

    fn find_memory(&self, addr: u64, len: usize, write: bool) -> Option<(&MmapRegion, usize)> {
        let (range, offset) = self.find(addr, len)?;
        match &range.backing {
            Backing::Memory(region) if range.writable || !write => {
                Some((region, usize::try_from(offset).ok()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Bdf = Bdf::new(0, 0x10, 0);

    fn file(pages: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(pages * 0x1000).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_read_and_is_in_the_file() {
        let backing = file(4);
        let mut map = DmaMap::default();
        map.insert(
            0x10_0000,
            0x2000,
            backing.try_clone().unwrap(),
            0x1000,
            true,
        )
        .unwrap();
        assert!(map.write(0x10_0ffe, &[1, 2, 3, 4]));
        let mut back = [0; 4];
        assert!(map.read(0x10_0ffe, &mut back));
        assert_eq!(back, [1, 2, 3, 4]);
        let mut other = DmaMap::default();
        other.insert(0, 0x4000, backing, 0, false).unwrap();
        assert!(other.read(0x1ffe, &mut back));
        assert_eq!(back, [1, 2, 3, 4]);
        assert!(!other.write(0x1ffe, &[9]), "a read-only range");
        assert!(!other.covers(0x1ffe, 1, true) && other.covers(0x1ffe, 1, false));
    }

    #[test]
    fn ranges_end_where_they_end() {
        let mut map = DmaMap::default();
        map.insert(0x1000, 0x1000, file(1), 0, true).unwrap();
        assert!(map.covers(0x1ffc, 4, true));
        assert!(!map.covers(0x1ffd, 4, true));
        assert!(!map.covers(0xfff, 4, true));
        assert!(!map.write(0x1ffe, &[0; 4]));
    }

    #[test]
    fn refusals_leave_the_map_as_it_was() {
        let mut map = DmaMap::default();
        map.insert(0x1000, 0x2000, file(2), 0, true).unwrap();
        for (addr, size) in [(0x2000, 0x1000), (0, 0x1001), (0x2fff, 1), (0, 0x10000)] {
            assert!(matches!(
                map.insert(addr, size, file(16), 0, true),
                Err(Error::Overlap { .. })
            ));
        }
        assert!(matches!(
            map.insert(0x8000, 0, file(1), 0, true),
            Err(Error::NoRange { .. })
        ));
        assert!(matches!(
            map.insert(u64::MAX - 1, 0x1000, file(1), 0, true),
            Err(Error::NoRange { .. })
        ));
        for (size, offset) in [(0x2000, 0), (0x1000, 0x1000), (0x1000, u64::MAX)] {
            assert!(matches!(
                map.insert(0x8000, size, file(1), offset, true),
                Err(Error::BeyondFile { .. })
            ));
        }
        assert!(matches!(
            map.remove(0x1000, 0x1000),
            Err(Error::PartOfMapping { .. })
        ));
        assert!(map.covers(0x1000, 0x2000, true));
        map.remove(0, 0x10000).unwrap();
        assert!(!map.covers(0x1000, 1, false));
        map.remove(0, 0x10000).unwrap();
    }

    #[test]
    fn a_translation_lives_as_long_as_the_mapping() {
        let mut map = DmaMap::default();
        map.insert_device(0x1000, 0x2000, true).unwrap();
        assert!(!map.covers(0x1000, 4, false), "it is no memory");
        let page = map.unknown(ID, 0x1234).unwrap();
        assert_eq!(page.addr, 0x1000);
        assert_eq!(map.translated(ID, 0x1234, 4, true), None, "not known yet");
        map.learn(page, Some(0xfe00_0000));
        assert_eq!(map.unknown(ID, 0x1234), None);
        assert_eq!(map.translated(ID, 0x1234, 4, true), Some(0xfe00_0234));
        assert!(map.unknown(ID, 0x2000).is_some(), "another page");

        map.remove(0x1000, 0x2000).unwrap();
        map.insert_device(0x1000, 0x2000, true).unwrap();
        assert_eq!(map.translated(ID, 0x1234, 4, true), None);
        map.learn(page, Some(0xfe00_0000));
        assert!(
            map.unknown(ID, 0x1234).is_some(),
            "an answer that came too late"
        );
    }

    #[test]
    fn translations_are_forgotten() {
        let mut map = DmaMap::default();
        let bytes = (MAX_PAGES as u64 + 1) * PAGE_SIZE;
        map.insert_device(0, bytes, true).unwrap();
        let early = map.unknown(ID, 0).unwrap();
        map.learn(early, Some(0));
        let late = map.unknown(ID, PAGE_SIZE).unwrap();
        map.forget_translations();
        assert!(map.unknown(ID, 0).is_some());
        map.learn(late, Some(0));
        assert!(map.unknown(ID, PAGE_SIZE).is_some(), "asked for before");

        // Not more than so many are kept.
        let kept = |map: &DmaMap| {
            let pages = (0..bytes).step_by(0x1000);
            pages
                .filter(|&addr| map.unknown(ID, addr).is_none())
                .count()
        };
        for addr in (0..bytes - PAGE_SIZE).step_by(0x1000) {
            map.learn(map.unknown(ID, addr).unwrap(), Some(addr));
        }
        assert_eq!(kept(&map), MAX_PAGES);
        let last = bytes - PAGE_SIZE;
        map.learn(map.unknown(ID, last).unwrap(), Some(last));
        assert_eq!(kept(&map), 1);
        assert_eq!(map.translated(ID, last, 4, true), Some(last));
    }

    #[test]
    fn what_is_blocked_or_read_only_has_no_translation() {
        let mut map = DmaMap::default();
        map.insert_device(0x1000, 0x2000, false).unwrap();
        for (addr, translation) in [(0x1000, Some(0xfe00_0000)), (0x2000, None)] {
            map.learn(map.unknown(ID, addr).unwrap(), translation);
            assert_eq!(map.unknown(ID, addr), None, "it was asked for");
            assert_eq!(map.translated(ID, addr, 4, false), translation);
            assert_eq!(map.translated(ID, addr, 4, true), None);
        }
        assert_eq!(map.translated(ID, 0x2ffe, 4, false), None, "beyond the end");
        map.insert(0x8000, 0x1000, file(1), 0, true).unwrap();
        assert_eq!(map.unknown(ID, 0x8000), None, "memory");
        assert_eq!(map.translated(ID, 0x8000, 4, true), None);
        assert!(matches!(
            map.insert_device(0x8800, 0x1000, true),
            Err(Error::Overlap { .. })
        ));
    }
}
