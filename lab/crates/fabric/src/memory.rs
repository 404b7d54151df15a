// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guest memory as one requester addresses it.

use crate::MapError;
use std::{collections::BTreeMap, fs::File};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// The ranges of guest memory that a client has mapped for one function's DMA.
///
/// Keys are the first addresses; ranges do not overlap.
#[derive(Default)]
pub struct DmaMap(BTreeMap<u64, Range>);

struct Range {
    region: MmapRegion,
    writable: bool,
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
    ) -> Result<(), MapError> {
        let len = usize::try_from(size).map_err(|_| MapError::Range { addr, size })?;
        if size == 0 || addr.checked_add(size - 1).is_none() {
            return Err(MapError::Range { addr, size });
        }
        if self.overlapping(addr, size).next().is_some() {
            return Err(MapError::Overlap { addr, size });
        }
        // Access beyond the end of the file would kill the process.
        let end = file
            .metadata()
            .map_err(|source| MapError::File { addr, size, source })?
            .len();
        if offset.checked_add(size).is_none_or(|wanted| wanted > end) {
            return Err(MapError::BeyondFile {
                addr,
                size,
                offset,
                end,
            });
        }
        let region = MmapRegion::from_file(FileOffset::new(file, offset), len)
            .map_err(|source| MapError::Mmap { addr, size, source })?;
        self.0.insert(addr, Range { region, writable });
        Ok(())
    }

    /// Unmaps every range within `size` bytes at `addr`; there need not be any.
    pub fn remove(&mut self, addr: u64, size: u64) -> Result<(), MapError> {
        if size == 0 || addr.checked_add(size - 1).is_none() {
            return Err(MapError::Range { addr, size });
        }
        let last = addr + (size - 1);
        let inside = |(first, range_last): (u64, u64)| first >= addr && range_last <= last;
        let hit: Vec<_> = self.overlapping(addr, size).collect();
        if !hit.iter().copied().all(inside) {
            return Err(MapError::Partial { addr, size });
        }
        for (first, _) in hit {
            self.0.remove(&first);
        }
        Ok(())
    }

    /// Unmaps everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// True if `len` bytes at `addr` are mapped by one range, and writable if `write`.
    pub fn covers(&self, addr: u64, len: usize, write: bool) -> bool {
        self.find(addr, len)
            .is_some_and(|(range, _)| range.writable || !write)
    }

    /// Copies out of guest memory; false (and `data` unchanged) if the range is not mapped.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        self.find(addr, data.len()).is_some_and(|(range, offset)| {
            range
                .region
                .as_volatile_slice()
                .read_slice(data, offset)
                .is_ok()
        })
    }

    /// Copies into guest memory; false (and memory unchanged) if the range is not mapped writable.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        self.find(addr, data.len()).is_some_and(|(range, offset)| {
            range.writable
                && range
                    .region
                    .as_volatile_slice()
                    .write_slice(data, offset)
                    .is_ok()
        })
    }

    /// First and last address of each range that overlaps `size` bytes at `addr`, a valid range.
    fn overlapping(&self, addr: u64, size: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let last = addr + (size - 1);
        self.0
            .range(..=last)
            .rev()
            .map(|(&first, range)| (first, first + (range.region.len() as u64 - 1)))
            .take_while(move |&(_, range_last)| range_last >= addr)
    }

    fn find(&self, addr: u64, len: usize) -> Option<(&Range, usize)> {
        let (&first, range) = self.0.range(..=addr).next_back()?;
        let offset = usize::try_from(addr - first).ok()?;
        (offset.checked_add(len)? <= range.region.len()).then_some((range, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                Err(MapError::Overlap { .. })
            ));
        }
        assert!(matches!(
            map.insert(0x8000, 0, file(1), 0, true),
            Err(MapError::Range { .. })
        ));
        assert!(matches!(
            map.insert(u64::MAX - 1, 0x1000, file(1), 0, true),
            Err(MapError::Range { .. })
        ));
        for (size, offset) in [(0x2000, 0), (0x1000, 0x1000), (0x1000, u64::MAX)] {
            assert!(matches!(
                map.insert(0x8000, size, file(1), offset, true),
                Err(MapError::BeyondFile { .. })
            ));
        }
        assert!(matches!(
            map.remove(0x1000, 0x1000),
            Err(MapError::Partial { .. })
        ));
        assert!(map.covers(0x1000, 0x2000, true));
        map.remove(0, 0x10000).unwrap();
        assert!(!map.covers(0x1000, 1, false));
        map.remove(0, 0x10000).unwrap();
    }
}
