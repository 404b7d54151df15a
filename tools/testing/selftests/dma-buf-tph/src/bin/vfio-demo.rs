// SPDX-License-Identifier: GPL-2.0
//! Two devices of user space: the accelerator's owner publishes a steering tag for its memory, the
//! initiator's driver writes there with it; and it writes to memory, steered at a CPU. Prints what
//! happened as JSON, one line per step.
//!
//! It is the guest's half of `make demo-vfio`. It judges nothing: what the TLPs carried is in the
//! trace, which only the host can see.

use clap::Parser;
use dma_buf_tph::demo::{self, Publish, Step};
use dma_buf_tph::driver::Driver;
use dma_buf_tph::engine::{Hint, Namespace};
use dma_buf_tph::page::Page;
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::requester::{self, Source};
use dma_buf_tph::vfio::{self, Tph};
use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The BAR with the accelerator's memory.
const BAR: u32 = 2;
const PAGE: u64 = 4096;
/// Where in its page each step writes.
const OFFSET: u64 = 0x800;

/// Policy level at which user space gets device-specific mode, which the initiators have.
const LEVEL: i32 = 2;
/// The entry of the ST table that is used.
const ENTRY: u16 = 5;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    publish: Publish,
    /// CPU at which writes to memory are steered
    #[arg(long, default_value_t = 1)]
    cpu: u32,
}

/// The accelerator, and its owner.
struct Accelerator {
    pdev: pci::Device,
    vfio: vfio::Device,
}

/// An initiator, and its driver.
struct Initiator {
    driver: Driver,
    namespace: Namespace,
}

impl Initiator {
    fn open(id: u16, namespace: Namespace) -> io::Result<Self> {
        let mut driver = Driver::open(pci::Device::find(id)?, LEVEL)?;
        driver.enable(requester::DEVICE_SPECIFIC, namespace)?;
        Ok(Self { driver, namespace })
    }

    /// How to write to `target`; without a hint if there is none for it.
    fn steer(&self, target: Source) -> io::Result<Option<Hint>> {
        match self.driver.steer(ENTRY, self.namespace, target) {
            Ok(hint) => Ok(Some(hint)),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn requester(&self) -> &'static str {
        match self.namespace {
            Namespace::St => "tph",
            Namespace::Ext => "ext",
        }
    }

    /// Writes into a page of the accelerator's memory, for which `tph` is published.
    fn write_peer(
        &self,
        accelerator: &Accelerator,
        page: u64,
        step: &'static str,
        tph: Option<Tph>,
    ) -> io::Result<Step> {
        let memory = accelerator.vfio.region(BAR)?;
        memory.write_dwords(page + OFFSET, &demo::before())?;
        let before = memory.read_dwords(page + OFFSET)?;
        let source = demo::source();

        let dmabuf = accelerator.vfio.export(BAR, page, PAGE)?;
        if let Some(tph) = tph {
            let dmabuf_fd = dmabuf.as_raw_fd();
            accelerator.vfio.publish(Tph { dmabuf_fd, ..tph })?;
        }

        let address = self.driver.map_dmabuf(dmabuf.as_fd(), PAGE)?.address;
        let hint = self.steer(Source::of(dmabuf.as_fd()))?;
        self.driver.write(address + OFFSET, &source, hint)?;

        Ok(Step {
            step,
            base: accelerator.pdev.bar(BAR as usize)?,
            offset: page + OFFSET,
            published: tph.map(Into::into),
            cpu: None,
            requester: self.requester(),
            before,
            source,
            // The read is behind the write, as PCI orders them.
            after: memory.read_dwords(page + OFFSET)?,
        })
    }

    /// Writes to memory that `cpu` is about to read, if there is one.
    fn write_memory(&self, step: &'static str, cpu: Option<u32>) -> io::Result<Step> {
        let memory = Page::new()?;
        memory.write(OFFSET as usize, &demo::before());
        let before = memory.read(OFFSET as usize);
        let source = demo::source();

        let address = self.driver.map(&memory)?.address;
        let hint = match cpu {
            Some(cpu) => self.steer(Source::Cpu(cpu))?,
            None => None,
        };
        self.driver.write(address + OFFSET, &source, hint)?;

        Ok(Step {
            step,
            base: address,
            offset: OFFSET,
            published: None,
            cpu,
            requester: self.requester(),
            before,
            source,
            after: memory.read(OFFSET as usize),
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Args { publish, cpu } = Args::parse();
    let pdev = pci::Device::accelerator(CompleterType::ExtTph)?;
    let has_root_port = pdev.root_port()?.is_some();
    let vfio = vfio::Device::open(&pdev)?;
    vfio.set_memory_enable(true)?;
    let accelerator = Accelerator { pdev, vfio };
    let standard = Initiator::open(pci::INITIATOR, Namespace::St)?;
    let extended = Initiator::open(pci::INITIATOR_EXT, Namespace::Ext)?;

    let tph = publish.standard();
    print(&standard.write_peer(&accelerator, 0, "hint", Some(tph))?)?;
    print(&standard.write_peer(&accelerator, PAGE, "none", None)?)?;
    let tph = publish.extended();
    print(&extended.write_peer(&accelerator, 2 * PAGE, "ext", Some(tph))?)?;
    // The firmware knows tags of root ports.
    if has_root_port {
        print(&standard.write_memory("cpu", Some(cpu))?)?;
        print(&standard.write_memory("memory", None)?)?;
        print(&extended.write_memory("cpu-ext", Some(cpu))?)?;
    }
    Ok(())
}

fn print(step: &Step) -> serde_json::Result<()> {
    println!("{}", serde_json::to_string(step)?);
    Ok(())
}
