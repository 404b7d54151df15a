// SPDX-License-Identifier: MIT OR Apache-2.0
//! A served hierarchy, with a vfio-user client on each endpoint and guest memory that all share.

// Every test binary compiles its own copy and uses a part of it.
#![allow(dead_code)]

use devices::{
    AcceleratorConfig, CompleterType, Device as Description, Endpoint, Hierarchy, InitiatorConfig,
    Running,
};
use fabric::trace::{BINARY_FILE, Reader, Record};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fs::{MemfdFlags, memfd_create},
};
use std::{
    fs::File,
    io::Read,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};
use tempfile::TempDir;
use tlp::{Bdf, Mode};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::Client;

pub const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;
/// Where the tests place guest memory and the accelerator's BAR 2.
pub const RAM: u64 = 0x10_0000;
pub const RAM_SIZE: u64 = 0x20_0000;
pub const PAYLOAD: u64 = 0x38_0000_0000;
/// Offset of the initiator's TPH capability, and of that which is the first extended one.
pub const TPH: u64 = 0x110;
pub const TPH_FIRST: u64 = 0x100;
/// HINT: PH 2, width 8 and 16 bits.
pub const HINT_8: u32 = 0x0012_0000;
pub const HINT_16: u32 = 0x0032_0000;
/// HINT: the tag is that of an ST table entry.
pub const TABLE: u32 = 1 << 24;

pub struct Lab {
    pub dir: TempDir,
    pub running: Running,
    pub initiator: Device,
    pub accelerator: Device,
    pub ram: File,
    pub eventfd: OwnedFd,
}

pub struct Device {
    pub client: Client,
}

pub fn hierarchy(dir: &Path, mode: Mode, completer: CompleterType) -> Hierarchy {
    let endpoint = |name: &str, slot, device: Box<dyn Description>| Endpoint {
        name: name.to_owned(),
        socket: dir.join(name),
        bdf: Bdf::new(0, slot, 0),
        path: format!("pcie.0/00:{slot:02x}.0"),
        device,
    };
    Hierarchy {
        mode,
        iommu: None,
        crash: std::sync::Arc::default(),
        trace_dir: Some(dir.to_owned()),
        trace_limit: fabric::trace::DEFAULT_LIMIT,
        trace_snaplen: None,
        endpoints: vec![
            endpoint("initiator", 0x10, Box::new(InitiatorConfig::Extended)),
            endpoint(
                "accelerator",
                0x11,
                Box::new(AcceleratorConfig {
                    completer,
                    memory: 1 << 20,
                }),
            ),
        ],
    }
}

impl Lab {
    pub fn new(mode: Mode, completer: CompleterType) -> Self {
        Self::with(mode, completer, InitiatorConfig::Extended)
    }

    pub fn with(mode: Mode, completer: CompleterType, initiator: InitiatorConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut hierarchy = hierarchy(dir.path(), mode, completer);
        hierarchy.endpoints[0].device = Box::new(initiator);
        let running = devices::serve(&hierarchy).unwrap();
        let connect = |name: &str| Device {
            client: Client::new(&dir.path().join(name)).unwrap(),
        };
        let mut initiator = connect("initiator");
        let mut accelerator = connect("accelerator");

        let ram = File::from(memfd_create("ram", MemfdFlags::CLOEXEC).unwrap());
        ram.set_len(RAM_SIZE).unwrap();
        initiator
            .client
            .dma_map(0, RAM, RAM_SIZE, ram.as_raw_fd())
            .unwrap();

        // As QEMU does: first no descriptor at all, then one for the vector.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        initiator.set_irq(0, &[]);
        initiator.set_irq(0, &[&eventfd]);

        accelerator
            .client
            .region_write(CONFIG, 0x18, &PAYLOAD.to_le_bytes())
            .unwrap();
        accelerator.config_write16(4, 0x2);
        initiator.config_write16(4, 0x6);
        initiator.set_register(0x08, Bdf::new(0, 0x10, 0).0.into());
        Self {
            dir,
            running,
            initiator,
            accelerator,
            ram,
            eventfd,
        }
    }

    /// A lab in flit mode whose initiator may send any hint.
    pub fn ready() -> Self {
        let mut lab = Self::new(Mode::Flit, CompleterType::TphAndExtended);
        lab.initiator.config_write16(TPH + 8, 0x0302);
        lab
    }

    /// A lab in flit mode with an initiator of this kind, whose TPH control register (in the
    /// capability at `at`) holds `control`.
    pub fn of(initiator: InitiatorConfig, at: u64, control: u16) -> Self {
        let mut lab = Self::with(Mode::Flit, CompleterType::TphAndExtended, initiator);
        lab.initiator.config_write16(at + 8, control);
        lab
    }

    /// Copies `data` to the accelerator's payload memory at `offset`; returns STATUS.
    pub fn copy(&mut self, data: &[u8], offset: u64, hint: u32) -> u32 {
        self.ram.write_all_at(data, 0).unwrap();
        self.start(RAM, PAYLOAD + offset, data.len().try_into().unwrap(), hint);
        self.wait_for_interrupt();
        self.initiator.register(0x2c)
    }

    /// Rings the doorbell, interrupt enabled.
    pub fn start(&mut self, source: u64, destination: u64, len: u32, hint: u32) {
        let initiator = &mut self.initiator;
        initiator.bar_write(0x10, &destination.to_le_bytes());
        initiator.bar_write(0x18, &source.to_le_bytes());
        initiator.set_register(0x20, len);
        initiator.set_register(0x24, hint);
        initiator.set_register(0x34, 1);
        initiator.set_register(0x30, 1);
        initiator.set_register(0x28, 1);
    }

    /// The limit only ends a test that would hang.
    pub fn wait_for_interrupt(&self) {
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.eventfd, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "no interrupt");
        let mut count = [0; 8];
        File::from(self.eventfd.try_clone().unwrap())
            .read_exact(&mut count)
            .unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }

    pub fn no_interrupt(&self) {
        let mut fds = [PollFd::new(&self.eventfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut fds, Some(&now)).unwrap(), 0);
    }

    /// The accelerator's payload memory as a client maps it.
    pub fn payload(&self) -> &File {
        let region = self.accelerator.client.region(2).unwrap();
        region.file_offset.as_ref().unwrap().file()
    }

    pub fn payload_at<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.payload().read_exact_at(&mut data, offset).unwrap();
        data
    }

    pub fn trace(&self) -> Vec<Record> {
        trace(self.dir.path())
    }
}

/// What the tap has recorded in `dir` until now.
pub fn trace(dir: &Path) -> Vec<Record> {
    let reader = Reader::open(&dir.join(BINARY_FILE)).unwrap();
    reader.map(Result::unwrap).collect()
}

impl Device {
    pub fn register(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(0, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub fn set_register(&mut self, offset: u64, value: u32) {
        self.bar_write(offset, &value.to_le_bytes());
    }

    pub fn bar_write(&mut self, offset: u64, data: &[u8]) {
        self.client.region_write(0, offset, data).unwrap();
    }

    pub fn config32(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.client.region_read(CONFIG, offset, &mut data).unwrap();
        u32::from_le_bytes(data)
    }

    pub fn config_write16(&mut self, offset: u64, value: u16) {
        self.client
            .region_write(CONFIG, offset, &value.to_le_bytes())
            .unwrap();
    }

    /// Connects `vector`, or disconnects it.
    pub fn set_irq(&mut self, vector: u32, eventfds: &[&OwnedFd]) {
        let fds: Vec<_> = eventfds.iter().map(|fd| fd.as_raw_fd()).collect();
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
        self.client
            .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, vector, 1, &fds)
            .unwrap();
    }
}
