// SPDX-License-Identifier: GPL-2.0
//! A mapped page: of memory that devices read and write, too, or of a device's BAR.

use std::fs::File;
use std::io::{self, Error};
use std::os::fd::AsRawFd;

/// Size of a page.
pub const SIZE: usize = 4096;

/// A page that is read and written in dwords.
pub struct Page(*mut libc::c_void);

impl Page {
    /// A page of zeroes.
    pub fn new() -> io::Result<Self> {
        Self::map(
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
    }

    /// The page at `offset` of a file, shared with all who map it.
    pub fn of(file: &File, offset: u64) -> io::Result<Self> {
        Self::map(libc::MAP_SHARED, file.as_raw_fd(), offset)
    }

    fn map(flags: i32, fd: i32, offset: u64) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let offset = libc::off_t::try_from(offset).map_err(Error::other)?;
        // SAFETY: A new mapping, to which nothing refers yet.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, prot, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Self(base))
    }

    fn at(&self, offset: usize, index: usize) -> *mut u32 {
        let offset = offset + 4 * index;
        assert!(offset.is_multiple_of(4) && offset < SIZE);
        // SAFETY: It stays within the page.
        unsafe { self.0.byte_add(offset).cast() }
    }

    /// Reads `N` little-endian dwords.
    ///
    /// # Panics
    ///
    /// If they are not in the page, or not aligned.
    #[must_use]
    pub fn read<const N: usize>(&self, offset: usize) -> [u32; N] {
        // SAFETY: The dword is in the page, and any bit pattern is a number.
        std::array::from_fn(|i| u32::from_le(unsafe { self.at(offset, i).read_volatile() }))
    }

    /// Writes dwords in little endian.
    ///
    /// # Panics
    ///
    /// If they are not in the page, or not aligned.
    pub fn write(&self, offset: usize, dwords: &[u32]) {
        for (i, dword) in dwords.iter().enumerate() {
            // SAFETY: The dword is in the page, to which there are no references.
            unsafe { self.at(offset, i).write_volatile(dword.to_le()) };
        }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.addr() as u64
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to it any more; while devices reach it, the kernel has it pinned.
        unsafe { libc::munmap(self.0, SIZE) };
    }
}
