// SPDX-License-Identifier: MIT OR Apache-2.0
//! The PCI function: configuration space, BAR 0, MSI-X, reset.

use crate::guest_memory::GuestMemory;
use devices::client::{Client, ClientError};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
};

const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;
/// Registers of configuration space, and their bits.
const COMMAND: u64 = 0x04;
const MEMORY: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;
const CAPABILITIES: u64 = 0x34;
const PCI_EXPRESS: u8 = 0x10;
const DEVICE_CONTROL: u64 = 8;
const SIZES: u16 = 0b111 << 5 | 0b111 << 12;
const INITIATE_RESET: u16 = 1 << 15;
const EXTENDED: u64 = 0x100;
const TPH: u16 = 0x17;
const TPH_CONTROL: u64 = 8;
const TPH_TABLE: u64 = 12;
const DEVICE_SPECIFIC: u16 = 2;

/// The function.
pub struct Function {
    client: Client,
    vectors: Vec<OwnedFd>,
}

impl Function {
    /// The function that is served at `socket`, with an eventfd for each vector.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let mut client = Client::new(socket)?;
        let count = client.irqs(VFIO_PCI_MSIX_IRQ_INDEX)?;
        let vectors: Vec<_> = (0..count)
            .map(|_| {
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
            })
            .collect();
        let fds: Vec<_> = vectors.iter().map(AsFd::as_fd).collect();
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
        client.set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 0, count, &fds)?;
        Ok(Self { client, vectors })
    }

    /// Gives it `memory`, for DMA.
    pub fn map(&mut self, memory: &GuestMemory) -> Result<(), ClientError> {
        let fd = memory.file().as_fd();
        self.client.dma_map(0, memory.base(), memory.len(), fd)
    }

    /// Takes `memory` away.
    pub fn unmap(&mut self, memory: &GuestMemory) -> Result<(), ClientError> {
        self.client.dma_unmap(memory.base(), memory.len())
    }

    /// Switches its registers on, and DMA if it is to be bus master.
    pub fn enable(&mut self, bus_master: bool) {
        let command = if bus_master {
            MEMORY | BUS_MASTER
        } else {
            MEMORY
        };
        self.config_write(COMMAND, command);
    }

    /// Bytes of the largest payload and of the largest read request.
    pub fn set_sizes(&mut self, payload: u16, read_request: u16) {
        // Of 128 bytes the code is 0, of twice as many 1, and so on.
        let code = |bytes: u16| u16::from((bytes / 128).trailing_zeros().to_le_bytes()[0]);
        let control = self.capability(PCI_EXPRESS) + DEVICE_CONTROL;
        let others = u16::from_le_bytes(self.config(control)) & !SIZES;
        let sizes = code(payload) << 5 | code(read_request) << 12;
        self.config_write(control, others | sizes);
    }

    /// Requester Enable of TPH, in device-specific mode: 0 off, 1 for 8-bit tags, 3 for 16-bit
    /// ones.
    pub fn set_tph(&mut self, requester: u16) {
        let at = self.extended_capability(TPH);
        self.config_write(at + TPH_CONTROL, requester << 8 | DEVICE_SPECIFIC);
    }

    /// The same in No ST mode, in which there is no tag but 0.
    pub fn set_tph_without_tags(&mut self, requester: u16) {
        let at = self.extended_capability(TPH);
        self.config_write(at + TPH_CONTROL, requester << 8);
    }

    /// An entry of the table of steering tags.
    pub fn set_steering_tag(&mut self, index: u8, tag: u16) {
        let at = self.extended_capability(TPH);
        self.config_write(at + TPH_TABLE + 2 * u64::from(index), tag);
    }

    /// Resets the function by its own register.
    pub fn function_level_reset(&mut self) {
        let control = self.capability(PCI_EXPRESS) + DEVICE_CONTROL;
        let value = u16::from_le_bytes(self.config(control));
        self.config_write(control, value | INITIATE_RESET);
    }

    /// Resets the device, as by its slot.
    pub fn reset(&mut self) {
        self.client.reset().expect("the device answers");
    }

    /// A register of BAR 0.
    pub fn read(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        let read = self.client.region_read(0, offset, &mut data);
        read.expect("the device answers");
        u32::from_be_bytes(data)
    }

    /// Writes a register of BAR 0.
    pub fn write(&mut self, offset: u64, value: u32) {
        self.write_bytes(offset, &value.to_be_bytes());
    }

    /// Writes a register of 64 bits at once.
    pub fn write64(&mut self, offset: u64, value: u64) {
        self.write_bytes(offset, &value.to_be_bytes());
    }

    /// Writes any bytes of BAR 0.
    pub fn write_bytes(&mut self, offset: u64, data: &[u8]) {
        let written = self.client.region_write(0, offset, data);
        written.expect("the device answers");
    }

    /// Whether a vector was raised since the last time that it was asked; waits `limit` for it.
    #[must_use]
    pub fn is_raised(&self, vector: u32, limit: Duration) -> bool {
        let eventfd = &self.vectors[vector as usize];
        let limit = Timespec::try_from(limit).expect("a short time");
        let mut fds = [PollFd::new(eventfd, PollFlags::IN)];
        poll(&mut fds, Some(&limit)).expect("poll") != 0 && self.interrupts(vector) != 0
    }

    /// How often a vector was raised since the last time that it was asked.
    #[must_use]
    pub fn interrupts(&self, vector: u32) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.vectors[vector as usize], &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(Errno::AGAIN) => 0,
            Err(error) => panic!("no count: {error}"),
        }
    }

    /// Bytes of configuration space.
    pub fn config<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        let read = self.client.region_read(CONFIG, offset, &mut data);
        read.expect("the device answers");
        data
    }

    fn config_write(&mut self, offset: u64, value: u16) {
        let written = self
            .client
            .region_write(CONFIG, offset, &value.to_le_bytes());
        written.expect("the device answers");
    }

    fn capability(&mut self, id: u8) -> u64 {
        let [mut at] = self.config(CAPABILITIES);
        while at != 0 {
            let [found, next] = self.config(at.into());
            if found == id {
                return at.into();
            }
            at = next;
        }
        panic!("no capability {id:#x}");
    }

    fn extended_capability(&mut self, id: u16) -> u64 {
        let mut at = EXTENDED;
        while at != 0 {
            let header = u32::from_le_bytes(self.config(at));
            if header & 0xffff == u32::from(id) {
                return at;
            }
            at = u64::from(header >> 20);
        }
        panic!("no extended capability {id:#x}");
    }
}
