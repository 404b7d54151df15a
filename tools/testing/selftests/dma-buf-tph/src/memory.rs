// SPDX-License-Identifier: GPL-2.0
//! Dma-bufs of CPU memory (samples/rust/rust_tph_memory.rs).

use crate::pci;
use crate::sys::{ioctl_ref, iow};
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `struct tph_memory_create`.
#[repr(C)]
struct Create {
    len: u32,
    cpu: u32,
}

/// `struct tph_memory_read`.
#[repr(C)]
struct Read {
    fd: i32,
    len: u32,
    offset: u64,
    data: u64,
}

const CREATE: u64 = iow::<Create>(b't', 0x90);
const READ: u64 = iow::<Read>(b't', 0x91);
const REVOKE: u64 = iow::<i32>(b't', 0x92);

/// The exporter.
pub struct Exporter {
    file: File,
}

impl Exporter {
    /// Loads the driver and opens its node.
    pub fn open() -> io::Result<Self> {
        pci::modprobe("rust_tph_memory", &[])?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tph-memory")?;
        Ok(Self { file })
    }

    /// Exports new memory, whose data `cpu` will use.
    pub fn create(&self, len: u32, cpu: u32) -> io::Result<OwnedFd> {
        let mut create = Create { len, cpu };
        // SAFETY: The kernel reads one such structure.
        let fd = unsafe { ioctl_ref(self.file.as_fd(), CREATE, &mut create) }?;
        // SAFETY: The ioctl returned a file descriptor that is ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Reads from a dma-buf that is not mapped for any device.
    pub fn read(&self, dmabuf: BorrowedFd<'_>, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let mut read = Read {
            fd: dmabuf.as_raw_fd(),
            len: u32::try_from(data.len()).map_err(Error::other)?,
            offset,
            data: data.as_mut_ptr().addr() as u64,
        };
        // SAFETY: The kernel reads one such structure, and writes to the bytes of `data`.
        unsafe { ioctl_ref(self.file.as_fd(), READ, &mut read) }?;
        Ok(())
    }

    /// Takes a dma-buf away from all devices.
    pub fn revoke(&self, dmabuf: BorrowedFd<'_>) -> io::Result<()> {
        let mut fd = dmabuf.as_raw_fd();
        // SAFETY: The kernel reads one int.
        unsafe { ioctl_ref(self.file.as_fd(), REVOKE, &mut fd) }?;
        Ok(())
    }
}
