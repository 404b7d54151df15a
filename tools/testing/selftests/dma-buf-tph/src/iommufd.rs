// SPDX-License-Identifier: GPL-2.0
//! An I/O address space of iommufd: which memory, and which dma-bufs, the devices in it reach.
//!
//! Without an IOMMU the kernel keeps the same account, and tells the bus address of what is mapped.

use crate::page::{self, Page};
use crate::pci;
use crate::sys::{io, ioctl_ref};
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const fn request(nr: u32) -> u64 {
    io(b';', nr)
}

const IOAS_ALLOC: u64 = request(0x81);
const IOAS_MAP: u64 = request(0x85);
const IOAS_UNMAP: u64 = request(0x86);
const IOAS_MAP_FILE: u64 = request(0x8f);
const IOAS_NOIOMMU_GET_PA: u64 = request(0x95);

/// `IOMMU_IOAS_MAP_WRITEABLE`.
const WRITEABLE: u32 = 1 << 1;
/// `IOMMU_IOAS_MAP_READABLE`.
const READABLE: u32 = 1 << 2;

/// `struct iommu_ioas_alloc`.
#[repr(C)]
struct Alloc {
    size: u32,
    flags: u32,
    out_ioas_id: u32,
}

/// `struct iommu_ioas_map`.
#[repr(C)]
struct Map {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    user_va: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_map_file`.
#[repr(C)]
struct MapFile {
    size: u32,
    flags: u32,
    ioas_id: u32,
    fd: i32,
    start: u64,
    length: u64,
    iova: u64,
}

/// `struct iommu_ioas_unmap`.
#[repr(C)]
struct Unmap {
    size: u32,
    ioas_id: u32,
    iova: u64,
    length: u64,
}

/// `struct iommu_ioas_noiommu_get_pa`.
#[repr(C)]
struct GetPa {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    iova: u64,
    length: u64,
    out_phys: u64,
}

const _: () = {
    assert!(size_of::<Alloc>() == 12);
    assert!(size_of::<Map>() == 40 && offset_of!(Map, user_va) == 16);
    assert!(size_of::<MapFile>() == 40 && offset_of!(MapFile, start) == 16);
    assert!(size_of::<Unmap>() == 24 && offset_of!(Unmap, iova) == 8);
    assert!(size_of::<GetPa>() == 40 && offset_of!(GetPa, out_phys) == 32);
};

/// An I/O address space.
pub struct Ioas {
    /// `/dev/iommu`.
    pub(crate) iommufd: File,
    /// Its number.
    pub(crate) id: u32,
}

impl Ioas {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        pci::modprobe("iommufd", &[])?;
        let iommufd = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/iommu")
            .map_err(|error| Error::new(error.kind(), format!("/dev/iommu: {error}")))?;
        let mut alloc = Alloc {
            size: size_of::<Alloc>() as u32,
            flags: 0,
            out_ioas_id: 0,
        };
        // SAFETY: The kernel respects `size`.
        unsafe { ioctl_ref(iommufd.as_fd(), IOAS_ALLOC, &mut alloc) }?;
        Ok(Self {
            iommufd,
            id: alloc.out_ioas_id,
        })
    }

    /// Lets the devices read and write `page`; returns its address in this space.
    pub fn map(&self, page: &Page) -> io::Result<u64> {
        let mut map = Map {
            size: size_of::<Map>() as u32,
            flags: WRITEABLE | READABLE,
            ioas_id: self.id,
            reserved: 0,
            user_va: page.address(),
            length: page::SIZE as u64,
            iova: 0,
        };
        // SAFETY: The kernel respects `size`. Devices write to the page, to which there are no
        // references.
        unsafe { ioctl_ref(self.iommufd.as_fd(), IOAS_MAP, &mut map) }?;
        Ok(map.iova)
    }

    /// Lets the devices read and write the first `length` bytes of a dma-buf of vfio; returns their
    /// address in this space.
    pub fn map_dmabuf(&self, dmabuf: BorrowedFd<'_>, length: u64) -> io::Result<u64> {
        let mut map = MapFile {
            size: size_of::<MapFile>() as u32,
            flags: WRITEABLE | READABLE,
            ioas_id: self.id,
            fd: dmabuf.as_raw_fd(),
            start: 0,
            length,
            iova: 0,
        };
        // SAFETY: The kernel respects `size`.
        unsafe { ioctl_ref(self.iommufd.as_fd(), IOAS_MAP_FILE, &mut map) }?;
        Ok(map.iova)
    }

    /// Takes away what is mapped at `iova`.
    pub fn unmap(&self, iova: u64, length: u64) -> io::Result<()> {
        let mut unmap = Unmap {
            size: size_of::<Unmap>() as u32,
            ioas_id: self.id,
            iova,
            length,
        };
        // SAFETY: The kernel respects `size`.
        unsafe { ioctl_ref(self.iommufd.as_fd(), IOAS_UNMAP, &mut unmap) }?;
        Ok(())
    }

    /// The bus address of `length` bytes at `iova`, which the devices must be given if there is no
    /// IOMMU.
    pub fn bus_address(&self, iova: u64, length: u64) -> io::Result<u64> {
        let mut get = GetPa {
            size: size_of::<GetPa>() as u32,
            flags: 0,
            ioas_id: self.id,
            reserved: 0,
            iova,
            length,
            out_phys: 0,
        };
        // SAFETY: The kernel respects `size`.
        unsafe { ioctl_ref(self.iommufd.as_fd(), IOAS_NOIOMMU_GET_PA, &mut get) }?;
        if get.length < length {
            return Err(Error::other(format!("{iova:#x} is in pieces")));
        }
        Ok(get.out_phys)
    }
}
