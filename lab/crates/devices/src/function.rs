// SPDX-License-Identifier: MIT OR Apache-2.0
//! One PCI function as a vfio-user client drives it: configuration space, BARs, interrupt, DMA
//! mappings.
//!
//! The client may post its writes (NO_REPLY), and must then get no answer at all, but the server
//! answers every error. So no region access is an error here: what makes no sense reads as all
//! ones, and is ignored when written.

use crate::{
    config::{self, ConfigSpace, Event, TphRequester},
    interrupt::Interrupt,
};
use fabric::{Error, Port};
use std::{fs::File, io, os::fd::RawFd, sync::Arc};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
    vfio_region_sparse_mmap_area,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion, SparseArea};

/// Length of a region's description; a client refuses a reply that claims less.
#[allow(clippy::cast_possible_truncation)] // 32
const INFO_SIZE: u32 = size_of::<vfio_region_info>() as u32;

/// What a model may use while its client writes a register.
pub struct Context<'a> {
    /// The function's configuration space.
    pub config: &'a ConfigSpace,
    /// Its port to the fabric.
    pub port: &'a Port,
}

/// What is particular to a kind of function. Accesses lie within the BAR.
pub trait Model: Send {
    /// The client reads a BAR.
    fn bar_read(&mut self, bar: usize, offset: u64, data: &mut [u8]);

    /// The client writes a BAR. No DMA may be waited for here.
    fn bar_write(&mut self, context: &Context<'_>, bar: usize, offset: u64, data: &[u8]);

    /// The function is reset; its requesters are void already.
    fn reset(&mut self);

    /// The memory behind a BAR that the client may map; it lives as long as the model.
    fn mappable(&self, _bar: usize) -> Option<RawFd> {
        None
    }
}

/// A function, ready to be served.
pub struct Function {
    name: String,
    config: ConfigSpace,
    port: Port,
    interrupt: Arc<Interrupt>,
    model: Box<dyn Model>,
}

impl Function {
    pub fn new(
        name: &str,
        config: ConfigSpace,
        port: Port,
        interrupt: Arc<Interrupt>,
        model: Box<dyn Model>,
    ) -> Self {
        let function = Self {
            name: name.to_owned(),
            config,
            port,
            interrupt,
            model,
        };
        function.sync_port();
        function
    }

    /// The regions that the client is told of.
    pub fn regions(&self) -> Vec<ServerRegion> {
        (0..VFIO_PCI_NUM_REGIONS)
            .map(|index| {
                let mut region = ServerRegion {
                    region_info: vfio_region_info {
                        argsz: INFO_SIZE,
                        index,
                        ..Default::default()
                    },
                    sparse_areas: vec![],
                    mmap_fd: None,
                };
                let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
                if index == VFIO_PCI_CONFIG_REGION_INDEX {
                    region.region_info.size = config::SIZE as u64;
                    region.region_info.flags = access;
                } else if let Some((bar, size)) = self.bar(index) {
                    region.region_info.size = size;
                    region.region_info.flags = access;
                    if let Some(fd) = self.model.mappable(bar) {
                        region.region_info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
                        // The server passes the descriptor with a list of areas only.
                        let area = vfio_region_sparse_mmap_area { offset: 0, size };
                        region.sparse_areas = vec![SparseArea { area }];
                        region.mmap_fd = Some(fd);
                    }
                }
                region
            })
            .collect()
    }

    /// The interrupts that the client is told of: MSI-X only.
    pub fn irqs(&self) -> Vec<IrqInfo> {
        (0..VFIO_PCI_NUM_IRQS)
            .map(|index| {
                if index == VFIO_PCI_MSIX_IRQ_INDEX {
                    let flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
                    IrqInfo {
                        index,
                        flags,
                        count: self.interrupt.vectors(),
                    }
                } else {
                    IrqInfo {
                        index,
                        flags: 0,
                        count: 0,
                    }
                }
            })
            .collect()
    }

    /// The client has gone: the function falls silent.
    pub fn disconnect(&mut self) {
        self.power_on_reset();
        self.port.unmap_all_memory();
    }

    /// BAR number and size behind a region index.
    fn bar(&self, region: u32) -> Option<(usize, u64)> {
        self.config
            .bars()
            .find(|&(bar, _)| u32::try_from(bar) == Ok(region))
    }

    fn power_on_reset(&mut self) {
        self.port.reset();
        self.config.reset();
        self.model.reset();
        self.sync_port();
    }

    /// Tells the port all that the configuration space says.
    fn sync_port(&self) {
        self.apply(self.config.command());
        self.apply(Event::DeviceControl(self.config.limits()));
        self.sync_tph();
        for (bar, _) in self.config.bars() {
            if let Some(address) = self.config.bar_address(bar) {
                self.apply(Event::BarMoved { bar, address });
            }
        }
    }

    fn apply(&self, event: Event) {
        match event {
            Event::Command { bus_master, memory } => self.port.set_command(bus_master, memory),
            Event::BarMoved { bar, address } => {
                if let Some((_, size)) = self.config.bars().find(|&(number, _)| number == bar) {
                    self.port.set_bar(bar, address, size);
                }
            }
            Event::DeviceControl(limits) => self.port.set_limits(limits),
            Event::TphControl { .. } | Event::SteeringTag { .. } => self.sync_tph(),
            Event::FunctionLevelReset => {}
        }
    }

    fn sync_tph(&self) {
        self.port
            .set_tph(self.config.tph().map(TphRequester::state));
    }

    /// Takes over what the function's requests ran into, before STATUS is read or cleared.
    fn take_errors(&mut self) {
        if self.port.take_master_abort() {
            self.config.set_master_abort();
        }
    }

    /// An error is the client's to hear and the log's to keep.
    fn logged(&self, result: Result<(), Error>) -> io::Result<()> {
        result.map_err(|error| {
            log::error!("{}: {error}", self.name);
            io::Error::other(error)
        })
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.take_errors();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        for event in self.config.write(offset, data) {
            log::debug!("{}: {event:x?}", self.name);
            if event == Event::FunctionLevelReset {
                self.port.reset();
                self.model.reset();
                self.sync_port();
            } else {
                self.apply(event);
            }
        }
    }
}

impl ServerBackend for Function {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        data.fill(0xff);
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            self.take_errors();
            self.config
                .read(usize::try_from(offset).unwrap_or(usize::MAX), data);
        } else if let Some((bar, size)) = self.bar(region)
            && within(offset, data.len(), size)
        {
            self.model.bar_read(bar, offset, data);
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            self.write_config(offset, data);
        } else if let Some((bar, size)) = self.bar(region)
            && within(offset, data.len(), size)
        {
            let context = Context {
                config: &self.config,
                port: &self.port,
            };
            self.model.bar_write(&context, bar, offset, data);
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let writable = flags.contains(DmaMapFlags::WRITE);
        let Some(file) = fd else {
            // ROM, or a BAR.
            log::debug!("{}: no descriptor for {address:#x}+{size:#x}", self.name);
            return self.logged(self.port.map_device(address, size, writable));
        };
        self.logged(self.port.map_memory(address, size, file, offset, writable))
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.port.unmap_all_memory();
            return Ok(());
        }
        self.logged(self.port.unmap_memory(address, size))
    }

    fn reset(&mut self) -> io::Result<()> {
        log::debug!("{}: device reset", self.name);
        self.power_on_reset();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        if index == VFIO_PCI_MSIX_IRQ_INDEX {
            self.interrupt.set(flags, start, count, fds)
        } else if count == 0 {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::InvalidInput))
        }
    }
}

/// True if `len` bytes at `offset` lie within `size` bytes.
fn within(offset: u64, len: usize, size: u64) -> bool {
    offset
        .checked_add(len as u64)
        .is_some_and(|end| end <= size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CompleterType, ConfigBuilder, Identity, MsiX, Pcie};
    use fabric::{Fabric, Iommu, trace::Tap};
    use std::sync::Mutex;
    use tlp::{Bdf, Mode};

    struct Nothing;

    impl Model for Nothing {
        fn bar_read(&mut self, _bar: usize, _offset: u64, _data: &mut [u8]) {}
        fn bar_write(&mut self, _context: &Context<'_>, _bar: usize, _offset: u64, _data: &[u8]) {}
        fn reset(&mut self) {}
    }

    const ID: Bdf = Bdf::new(0, 1, 0);

    /// A function that may master the bus, with memory at 0.
    fn function() -> Function {
        function_on(&Fabric::new(Mode::Flit, Tap::discard()))
    }

    fn function_on(fabric: &Fabric) -> Function {
        let port = fabric.attach("function", ID, None).unwrap();
        let config = ConfigBuilder::new(
            Identity {
                vendor: 0x1af4,
                device: 0x10ff,
                class: 0,
                revision: 0,
            },
            Pcie {
                completer: CompleterType::None,
                mode: Mode::Flit,
            },
        )
        .msix(MsiX {
            vectors: 1,
            bar: 0,
            table: 0x1000,
            pending: 0x1800,
        })
        .build();
        let interrupt = Arc::new(Interrupt::new(&config));
        let mut function = Function::new("function", config, port, interrupt, Box::new(Nothing));
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(0x1000).unwrap();
        function
            .dma_map(DmaMapFlags::READ_WRITE, 0, 0, 0x1000, Some(memory))
            .unwrap();
        enable(&mut function);
        function
    }

    fn enable(function: &mut Function) {
        function
            .region_write(VFIO_PCI_CONFIG_REGION_INDEX, 4, &[6, 0])
            .unwrap();
    }

    #[test]
    fn a_copy_does_not_outlive_a_reset() {
        let device_reset = |function: &mut Function| ServerBackend::reset(function).unwrap();
        let flr = |function: &mut Function| {
            let (control, initiate) = (0x48, [0x10, 0xa8]);
            function
                .region_write(VFIO_PCI_CONFIG_REGION_INDEX, control, &initiate)
                .unwrap();
        };
        for reset in [&device_reset as &dyn Fn(&mut Function), &flr] {
            let mut function = function();
            let before = function.port.requester(ID);
            before.read(0, &mut [0; 4]).unwrap();
            reset(&mut function);
            let after = function.port.requester(ID);
            assert!(matches!(
                after.read(0, &mut [0; 4]),
                Err(Error::BusMasterOff)
            ));
            enable(&mut function);
            assert!(matches!(before.read(0, &mut [0; 4]), Err(Error::Reset)));
            after.read(0, &mut [0; 4]).unwrap();
        }
    }

    #[test]
    fn a_function_without_client_has_no_memory() {
        let mut function = function();
        function.disconnect();
        enable(&mut function);
        let read = function.port.requester(ID).read(0, &mut [0; 4]);
        assert!(matches!(read, Err(Error::Completion { .. })));
    }

    #[test]
    fn dma_maps_that_make_no_sense_are_refused() {
        let mut function = function();
        let file = || Some(tempfile::tempfile().unwrap());
        let mut map = |addr, size, fd| function.dma_map(DmaMapFlags::READ, 0, addr, size, fd);
        assert!(map(0x8000, 0x1000, file()).is_err(), "the file is empty");
        assert!(map(0x800, 0x1000, file()).is_err(), "overlaps");
        map(0x800, 0x1000, None).unwrap();
        assert!(
            function
                .dma_unmap(DmaUnmapFlags::empty(), 0, 0x800)
                .is_err(),
            "a part"
        );
        function.dma_unmap(DmaUnmapFlags::UNMAP_ALL, 0, 0).unwrap();
        let read = function.port.requester(ID).read(0, &mut [0; 4]);
        assert!(matches!(read, Err(Error::Completion { .. })));
    }

    /// Translates every page to itself; keeps which ones.
    #[derive(Default)]
    struct OneToOne(Mutex<Vec<u64>>);

    impl Iommu for OneToOne {
        fn translate(&self, _requester: Bdf, page: u64) -> io::Result<Option<u64>> {
            self.0.lock().unwrap().push(page);
            Ok(Some(page))
        }
    }

    #[test]
    fn what_is_mapped_without_descriptor_is_for_the_iommu_to_know() {
        let iommu = Arc::new(OneToOne::default());
        let fabric = Fabric::with_iommu(Mode::Flit, Tap::discard(), iommu.clone());
        let mut function = function_on(&fabric);
        function
            .dma_map(DmaMapFlags::READ, 0, 0x8000, 0x1000, None)
            .unwrap();
        let requester = function.port.requester(ID);
        for addr in [0, 0x8010, 0x9000] {
            // Nobody is at any of the addresses but the first.
            assert_eq!(requester.read(addr, &mut [0; 4]).is_ok(), addr == 0);
        }
        assert_eq!(*iommu.0.lock().unwrap(), [0x8000]);
        function
            .dma_unmap(DmaUnmapFlags::empty(), 0x8000, 0x1000)
            .unwrap();
        requester.read(0x8010, &mut [0; 4]).unwrap_err();
        assert_eq!(iommu.0.lock().unwrap().len(), 1);
    }
}
