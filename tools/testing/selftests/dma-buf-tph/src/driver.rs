// SPDX-License-Identifier: GPL-2.0
//! A driver in user space for the lab's initiator, a device that copies memory and puts steering
//! tags on its writes (`lab/crates/devices/src/initiator`).
//!
//! In this order:
//!
//! 1. [`Driver::open`] opens the device's own character device, in an address space of its own;
//! 2. [`Driver::enable`] opts in to TPH, and enables it in config space as a driver in the kernel
//!    would;
//! 3. [`Driver::map_dmabuf`] or [`Driver::map`] makes the target reachable;
//! 4. [`Driver::steer`] has the kernel write the target's steering tag into the device's ST table,
//!    and returns the processing hint that belongs to it. The tag itself never gets here;
//! 5. [`Driver::write`] lets the device write, with the tag of that entry.

use crate::engine::{self, Copy, Hint, LIMIT, Namespace};
use crate::iommufd::Ioas;
use crate::page::{self, Page};
use crate::pci;
use crate::requester::{self, CONTROL, Requester, Resolved, Source};
use crate::vfio::Device;
use std::fs::File;
use std::io::{self, Error, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What a device reaches.
#[derive(Debug)]
pub struct Mapping {
    iova: u64,
    length: u64,
    /// Where, for the device.
    pub address: u64,
}

/// An eventfd that does not block.
fn eventfd() -> io::Result<File> {
    // SAFETY: No pointer is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: The descriptor is new, and ours.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// What an eventfd has counted; it begins anew.
fn count(mut eventfd: &File) -> io::Result<u64> {
    let mut count = [0; 8];
    match eventfd.read_exact(&mut count) {
        Ok(()) => Ok(u64::from_ne_bytes(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Waits for an interrupt.
fn wait(eventfd: &File) -> io::Result<()> {
    let mut fd = libc::pollfd {
        fd: eventfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: The kernel accesses one such structure.
    match unsafe { libc::poll(&mut fd, 1, LIMIT.as_millis() as i32) } {
        0 => Err(Error::other("no interrupt comes")),
        1.. => count(eventfd).map(drop),
        _ => Err(Error::last_os_error()),
    }
}

/// An initiator and its driver.
pub struct Driver {
    requester: Requester,
    ioas: Ioas,
    /// What is written comes from here.
    source: Page,
    source_address: u64,
    /// What is selected in the control register.
    mode: u32,
    /// The eventfds of the interrupt vectors.
    vectors: Vec<File>,
}

impl Driver {
    /// Opens an initiator, bound at this policy level of vfio-pci.
    pub fn open(pdev: pci::Device, level: i32) -> io::Result<Self> {
        if pdev.root_port()?.is_some() {
            // An emulated root port takes no hints, so the devices behind it would be denied them.
            pci::modprobe("tph_root_port", &[])?;
        }
        Device::load(&pdev)?;
        let ioas = Ioas::new()?;
        let vfio = requester::open_with(&pdev, level, |pdev| Device::open_in(pdev, &ioas))?;
        vfio.set_memory_enable(true)?;
        vfio.set_bus_master(true)?;

        let requester = Requester::of(pdev, vfio)?;
        let mut this = Self {
            requester,
            ioas,
            source: Page::new()?,
            source_address: 0,
            mode: requester::NO_ST,
            vectors: vec![],
        };
        this.source_address = this.map(&this.source)?.address;
        Ok(this)
    }

    /// Opts in to TPH and enables it, with `mode` as in the control register.
    pub fn enable(&mut self, mode: u32, namespace: Namespace) -> io::Result<()> {
        self.requester.opt_in()?;
        let control = mode | namespace.enable();
        self.requester.control(control)?;
        // What is refused does not read back.
        match self.requester.seen(CONTROL)? {
            seen if seen == control => {
                self.mode = mode;
                Ok(())
            }
            seen => Err(Error::other(format!(
                "TPH control reads {seen:#x} instead of {control:#x}"
            ))),
        }
    }

    /// What the kernel says that requests to a target should carry; the tag is 0 if it keeps that.
    pub fn resolve(&self, namespace: Namespace, target: Source) -> io::Result<Resolved> {
        self.requester.resolve(namespace.flags(), target)
    }

    /// Has the tag of a target written into an entry of the ST table; returns how to hint with it.
    pub fn steer(&self, index: u16, namespace: Namespace, target: Source) -> io::Result<Hint> {
        let ph = self.resolve(namespace, target)?.ph;
        self.requester
            .set_one(namespace.flags(), index.into(), target)?;
        Ok(Hint::Entry {
            index,
            namespace,
            ph,
        })
    }

    /// Takes so many interrupt vectors of the device. [`Driver::write`] waits for the first one
    /// from now on; in interrupt vector mode, for that whose tag the write has.
    pub fn take_vectors(&mut self, count: usize) -> io::Result<()> {
        self.vectors = (0..count).map(|_| eventfd()).collect::<io::Result<_>>()?;
        self.requester.vfio.connect_msix(&self.vectors)
    }

    /// How often each vector was raised and not waited for.
    pub fn raised(&self) -> io::Result<Vec<u64>> {
        self.vectors.iter().map(count).collect()
    }

    /// Makes the first `length` bytes of a dma-buf reachable.
    pub fn map_dmabuf(&self, dmabuf: BorrowedFd<'_>, length: u64) -> io::Result<Mapping> {
        self.mapping(self.ioas.map_dmabuf(dmabuf, length)?, length)
    }

    /// Makes a page of memory reachable.
    pub fn map(&self, page: &Page) -> io::Result<Mapping> {
        self.mapping(self.ioas.map(page)?, page::SIZE as u64)
    }

    fn mapping(&self, iova: u64, length: u64) -> io::Result<Mapping> {
        let address = if self.requester.pdev.has_iommu() {
            iova
        } else {
            self.ioas.bus_address(iova, length)?
        };
        Ok(Mapping {
            iova,
            length,
            address,
        })
    }

    /// Makes it unreachable again.
    pub fn unmap(&self, mapping: Mapping) -> io::Result<()> {
        self.ioas.unmap(mapping.iova, mapping.length)
    }

    /// Lets the device write `data` to `address`.
    pub fn write(&self, address: u64, data: &[u32], hint: Option<Hint>) -> io::Result<()> {
        self.source.write(0, data);
        let vector = match hint {
            // There the tag is that of the interrupt which follows.
            Some(Hint::Entry { index, .. }) if self.mode == requester::INTERRUPT_VECTOR => index,
            _ => 0,
        };
        let interrupt = self.vectors.get(usize::from(vector));
        let registers = self.requester.vfio.region(engine::BAR)?;
        let copy = Copy {
            rid: self.requester.pdev.rid()?,
            from: self.source_address,
            to: address,
            len: u32::try_from(4 * data.len()).map_err(Error::other)?,
            hint,
            vector: interrupt.map(|_| vector),
        };
        copy.begin(&registers)?;
        if let Some(interrupt) = interrupt {
            wait(interrupt)?;
        }
        if engine::end(&registers)? {
            return Err(Error::other("TPH control does not allow the hint"));
        }
        Ok(())
    }

    /// The requester, to look at what it holds.
    #[must_use]
    pub fn requester(&self) -> &Requester {
        &self.requester
    }
}
