// SPDX-License-Identifier: MIT OR Apache-2.0
//! A function's memory, which a client maps too.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::{fs::File, io, os::fd::AsRawFd, os::fd::RawFd, sync::atomic::Ordering};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Shared memory of a fixed size, all zero at first. Accesses beyond its end do nothing.
///
/// The guest's CPUs write it while the model does, so every access is volatile, and lanes are
/// accessed atomically.
pub struct SharedMemory {
    file: File,
    region: MmapRegion,
}

impl SharedMemory {
    /// `size` bytes; `name` is what /proc shows.
    ///
    /// # Errors
    /// If there is no such memory.
    pub fn new(name: &str, size: u64) -> io::Result<Self> {
        let file = File::from(memfd_create(
            name,
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?);
        file.set_len(size)?;
        // Were a client to shrink it, the next access would kill the process.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let len = usize::try_from(size).map_err(io::Error::other)?;
        let region = MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), len)
            .map_err(io::Error::other)?;
        Ok(Self { file, region })
    }

    /// The descriptor that a client maps; owned by this value.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Copies bytes out; what lies beyond the end reads as 0xff.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Ok(offset) = usize::try_from(offset) {
            // Beyond the end there is nothing to copy.
            let _ = self.region.as_volatile_slice().read(data, offset);
        }
    }

    /// Copies bytes in; what lies beyond the end is dropped.
    pub fn write(&self, offset: u64, data: &[u8]) {
        if let Ok(offset) = usize::try_from(offset) {
            // Beyond the end there is nothing to copy to.
            let _ = self.region.as_volatile_slice().write(data, offset);
        }
    }

    /// The 32-bit little-endian lane at `offset`, a multiple of 4.
    #[must_use]
    pub fn lane(&self, offset: u64) -> Option<u32> {
        let offset = usize::try_from(offset).ok()?;
        let lane = self
            .region
            .as_volatile_slice()
            .load::<u32>(offset, Ordering::Relaxed)
            .ok()?;
        Some(u32::from_le(lane))
    }

    /// Sets the lane at `offset`, a multiple of 4.
    pub fn set_lane(&self, offset: u64, value: u32) {
        if let Ok(offset) = usize::try_from(offset) {
            // Beyond the end there is no lane.
            let _ = self
                .region
                .as_volatile_slice()
                .store(value.to_le(), offset, Ordering::Relaxed);
        }
    }
}
