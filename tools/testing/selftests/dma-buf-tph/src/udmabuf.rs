// SPDX-License-Identifier: GPL-2.0
//! A dma-buf of ordinary memory, whose exporter knows nothing of TPH.

use crate::sys::{ioctl_ref, iow};
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `struct udmabuf_create` (include/uapi/linux/udmabuf.h).
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const UDMABUF_CREATE: u64 = iow::<Create>(b'u', 0x42);

/// Creates a dma-buf of `pages` pages.
pub fn create(pages: u64) -> io::Result<OwnedFd> {
    // SAFETY: The name is a string that ends in a NUL.
    let memfd = unsafe { libc::memfd_create(c"udmabuf".as_ptr(), libc::MFD_ALLOW_SEALING) };
    if memfd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: It was just created and is ours.
    let memfd = File::from(unsafe { OwnedFd::from_raw_fd(memfd) });
    memfd.set_len(pages * 4096)?;
    // SAFETY: The arguments are numbers.
    if unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) } < 0 {
        return Err(Error::last_os_error());
    }

    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/udmabuf")?;
    let mut create = Create {
        memfd: memfd.as_raw_fd().cast_unsigned(),
        flags: 0,
        offset: 0,
        size: pages * 4096,
    };
    // SAFETY: The kernel reads one such structure.
    let fd = unsafe { ioctl_ref(device.as_fd(), UDMABUF_CREATE, &mut create) }?;
    // SAFETY: The ioctl returned a file descriptor that is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
