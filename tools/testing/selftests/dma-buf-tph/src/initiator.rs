// SPDX-License-Identifier: GPL-2.0
//! The character device of the lab's initiator (samples/rust/rust_tph_initiator.rs).

use crate::feature;
use crate::pci;
use crate::sys::{io, ioctl_ref, ioctl_val, iow, iowr};
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

/// Node of the initiator that emits 8-bit tags.
pub const STANDARD: &str = "/dev/tph-initiator";
/// Node of the initiator that emits 16-bit Extended tags.
pub const EXTENDED: &str = "/dev/tph-initiator-ext";

/// `PCI_TPH_REQ_TPH_ONLY`.
pub const REQ_TPH: u8 = 1;
/// `PCI_TPH_REQ_EXT_TPH`.
pub const REQ_EXT: u8 = 3;

/// `struct tph_initiator_write`.
#[repr(C)]
struct Write {
    data: u64,
    offset: u64,
    len: u32,
    steering_tag: u16,
    ph: u8,
    req_type: u8,
}

const IMPORT: u64 = iow::<i32>(b't', 0x80);
const WRITE: u64 = iowr::<Write>(b't', 0x81);
const RELEASE: u64 = io(b't', 0x82);
const REQ_TYPE: u64 = io(b't', 0x83);

/// The hint that the driver put on a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Namespace of the tag, [`REQ_TPH`] or [`REQ_EXT`].
    pub req_type: u8,
    /// The tag.
    pub steering_tag: u16,
    /// The processing hint.
    pub ph: u8,
}

/// An initiator.
pub struct Initiator {
    file: File,
}

impl Initiator {
    /// Loads the driver and opens the node at `path`.
    pub fn open(path: &str) -> io::Result<Self> {
        if pci::Device::find(pci::INITIATOR)?.root_port()?.is_some() {
            // An emulated root port takes no hints, so the devices behind it would be denied them.
            pci::modprobe("tph_root_port", &[])?;
        }
        if !Self::has_driver()? {
            feature::lacks("an importer for the lab's initiators (rust_tph_initiator)");
        }
        pci::modprobe("rust_tph_initiator", &[])?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| Error::new(error.kind(), format!("{path}: {error}")))?;
        Ok(Self { file })
    }

    /// Whether the kernel has their driver.
    pub fn has_driver() -> io::Result<bool> {
        let status = Command::new("modprobe")
            .args(["--dry-run", "--quiet", "rust_tph_initiator"])
            .status()?;
        Ok(status.success())
    }

    /// The requests that the device is enabled to emit: 0, [`REQ_TPH`] or [`REQ_EXT`].
    pub fn req_type(&self) -> io::Result<u8> {
        let req_type = ioctl_val(self.file.as_fd(), REQ_TYPE, 0)?;
        u8::try_from(req_type).map_err(Error::other)
    }

    /// Imports a dma-buf.
    pub fn import(&self, dmabuf: BorrowedFd<'_>) -> io::Result<()> {
        let mut fd = dmabuf.as_raw_fd();
        // SAFETY: The kernel reads one int.
        unsafe { ioctl_ref(self.file.as_fd(), IMPORT, &mut fd) }?;
        Ok(())
    }

    /// Lets the device write `data` into the imported dma-buf; returns the hint on the writes.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<Option<Hint>> {
        let mut write = Write {
            data: data.as_ptr().addr() as u64,
            offset,
            len: u32::try_from(data.len()).map_err(Error::other)?,
            steering_tag: 0,
            ph: 0,
            req_type: 0,
        };
        // SAFETY: The kernel accesses one such structure, and reads the bytes of `data`.
        unsafe { ioctl_ref(self.file.as_fd(), WRITE, &mut write) }?;

        Ok((write.req_type != 0).then_some(Hint {
            req_type: write.req_type,
            steering_tag: write.steering_tag,
            ph: write.ph,
        }))
    }

    /// Releases the imported dma-buf.
    pub fn release(&self) -> io::Result<()> {
        ioctl_val(self.file.as_fd(), RELEASE, 0)?;
        Ok(())
    }
}
