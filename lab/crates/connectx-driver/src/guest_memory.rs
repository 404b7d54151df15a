// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that driver and device share.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Bytes of a page.
pub(crate) const PAGE: u64 = 0x1000;

/// A piece of guest memory at one address on the bus. What is taken of it is never given back, so
/// an address belongs to one object for good, also after its end.
#[derive(Clone, Debug)]
pub struct GuestMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    region: MmapRegion,
    base: u64,
    next: AtomicU64,
}

impl GuestMemory {
    /// `len` bytes at `base` on the bus, whole pages.
    pub fn new(base: u64, len: u64) -> io::Result<Self> {
        // As QEMU calls it, so that it counts as the guest's in whoever maps it.
        let file = File::from(memfd_create("memory-backend-memfd", MemfdFlags::CLOEXEC)?);
        file.set_len(len)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let region =
            MmapRegion::from_file(FileOffset::new(file, 0), len).map_err(io::Error::other)?;
        Ok(Self(Arc::new(Inner {
            region,
            base,
            next: AtomicU64::new(base),
        })))
    }

    /// Where it is on the bus.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.0.base
    }

    /// Its bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> u64 {
        self.0.region.len() as u64
    }

    /// The file behind it.
    pub(crate) fn file(&self) -> &File {
        let file = self
            .0
            .region
            .file_offset()
            .expect("it was made from a file");
        file.file()
    }

    /// Takes whole pages of at least `len` bytes, which are 0.
    #[must_use]
    pub fn pages(&self, len: u64) -> Area {
        let taken = len.max(1).next_multiple_of(PAGE);
        let addr = self.0.next.fetch_add(taken, Ordering::Relaxed);
        assert!(
            addr + taken <= self.0.base + self.len(),
            "guest memory is used up"
        );
        Area {
            memory: self.clone(),
            addr,
            len,
        }
    }

    fn at(&self, addr: u64) -> usize {
        usize::try_from(addr - self.0.base).expect("an address in memory")
    }
}

/// A part of memory.
#[derive(Clone, Debug)]
pub struct Area {
    memory: GuestMemory,
    addr: u64,
    len: u64,
}

impl Area {
    /// Where it is on the bus.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Its bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes of it, from `offset` on.
    #[must_use]
    pub fn part(&self, offset: u64, len: u64) -> Self {
        assert!(offset + len <= self.len, "{len:#x} bytes at {offset:#x}");
        Self {
            memory: self.memory.clone(),
            addr: self.addr + offset,
            len,
        }
    }

    /// The addresses of its pages.
    #[must_use]
    pub fn page_list(&self) -> Vec<u64> {
        let count = self.len.div_ceil(PAGE);
        (0..count).map(|page| self.addr + page * PAGE).collect()
    }

    /// Whether `addr` lies in one of its pages.
    #[must_use]
    pub fn contains(&self, addr: u64) -> bool {
        (self.addr..self.addr + self.len.next_multiple_of(PAGE)).contains(&addr)
    }

    /// Writes `data` at `offset`.
    pub fn write(&self, offset: u64, data: &[u8]) {
        assert!(offset + data.len() as u64 <= self.len, "beyond the end");
        let at = self.memory.at(self.addr + offset);
        let slice = self.memory.0.region.as_volatile_slice();
        slice.write_slice(data, at).expect("in memory");
    }

    /// Fills `data` from `offset` on.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        assert!(offset + data.len() as u64 <= self.len, "beyond the end");
        let at = self.memory.at(self.addr + offset);
        let slice = self.memory.0.region.as_volatile_slice();
        slice.read_slice(data, at).expect("in memory");
    }

    /// `N` bytes at `offset`.
    #[must_use]
    pub fn bytes<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.read(offset, &mut data);
        data
    }

    /// All of it.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut data = vec![0; usize::try_from(self.len).expect("in memory")];
        self.read(0, &mut data);
        data
    }

    /// Writes a big-endian word after everything that was written before.
    pub fn store(&self, offset: u64, word: u32) {
        let at = self.memory.at(self.addr + offset);
        let slice = self.memory.0.region.as_volatile_slice();
        let stored = slice.store(word.to_be(), at, Ordering::SeqCst);
        stored.expect("aligned, in memory");
    }

    /// Reads a big-endian word before everything that is read after it.
    #[must_use]
    pub fn load(&self, offset: u64) -> u32 {
        let at = self.memory.at(self.addr + offset);
        let slice = self.memory.0.region.as_volatile_slice();
        let word: u32 = slice
            .load(at, Ordering::SeqCst)
            .expect("aligned, in memory");
        u32::from_be(word)
    }
}
