// SPDX-License-Identifier: GPL-2.0
//! The lab's accelerator (`lab/crates/devices/src/accelerator`), owned through VFIO, with a page of
//! its memory exported and tags of both namespaces published for it.

use crate::pci::{self, CompleterType};
use crate::vfio::{Device, TPH_ST, TPH_ST_EXT, Tph};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const REGISTERS: u32 = 0;
/// BAR with the memory.
pub const MEMORY: u32 = 2;
const PAGE: u64 = 4096;

/// What is published: the tags add.
pub const PUBLISHED: Tph = Tph {
    dmabuf_fd: -1,
    flags: TPH_ST | TPH_ST_EXT,
    steering_tag_ext: 0xf35a,
    steering_tag: 0xf4,
    ph: 2,
};

/// What the accelerator counts and remembers of the writes that arrive, and the start of its
/// memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Writes without a hint.
    pub unhinted: u32,
    /// Writes with a hint that it does not complete.
    pub ignored: u32,
    /// What it accounts for each cache partition.
    pub partitions: [[u32; 8]; 16],
    /// The first dwords of the exported page.
    pub memory: [u32; 8],
}

/// The accelerator.
pub struct Accelerator {
    /// Its device.
    pub vfio: Device,
    /// The exported page.
    pub dmabuf: OwnedFd,
}

impl Accelerator {
    /// Opens the accelerator that completes hints of both namespaces.
    pub fn open() -> io::Result<Self> {
        let vfio = Device::open(&pci::Device::accelerator(CompleterType::ExtTph)?)?;
        vfio.set_memory_enable(true)?;
        let dmabuf = vfio.export(MEMORY, PAGE, PAGE)?;
        let dmabuf_fd = dmabuf.as_raw_fd();
        vfio.publish(Tph {
            dmabuf_fd,
            ..PUBLISHED
        })?;
        Ok(Self { vfio, dmabuf })
    }

    /// Opens it after the kernel has looked at it anew: what it knows of the ways between an
    /// exporter and its peers it forgets when the exporter is unbound.
    pub fn open_anew() -> io::Result<Self> {
        drop(Self::open()?);
        pci::Device::accelerator(CompleterType::ExtTph)?.unbind()?;
        Self::open()
    }

    /// Its state now.
    pub fn state(&self) -> io::Result<State> {
        let registers = self.vfio.region(REGISTERS)?;
        let [unhinted, ignored] = registers.read_dwords(0x10)?;
        let mut partitions = [[0; 8]; 16];
        for (offset, partition) in (0x100..).step_by(0x20).zip(&mut partitions) {
            *partition = registers.read_dwords(offset)?;
        }
        Ok(State {
            unhinted,
            ignored,
            partitions,
            memory: self.vfio.region(MEMORY)?.read_dwords(PAGE)?,
        })
    }

    /// Whether the tags are published as they were at first.
    pub fn is_published(&self) -> io::Result<bool> {
        let dmabuf_fd = self.dmabuf.as_raw_fd();
        let expected = Tph {
            dmabuf_fd,
            ..PUBLISHED
        };
        Ok(self.vfio.published(dmabuf_fd)? == expected)
    }
}
