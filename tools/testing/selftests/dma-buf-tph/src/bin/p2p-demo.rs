// SPDX-License-Identifier: GPL-2.0
//! Publishes a steering tag for a dma-buf of the accelerator, lets an initiator write into it
//! peer-to-peer, and prints what happened as JSON, one line per step.
//!
//! It is the guest's half of `make demo`. It judges nothing: what the TLPs carried is in the trace,
//! which only the host can see.

use clap::Parser;
use dma_buf_tph::demo::{self, Publish, Step};
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::vfio::{self, Tph};
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};

/// The BAR with the accelerator's memory.
const BAR: u32 = 2;
const PAGE: u64 = 4096;
/// Where in its page each step writes.
const OFFSET: u64 = 0x800;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    publish: Publish,
}

fn main() -> Result<(), Box<dyn Error>> {
    let publish = Args::parse().publish;
    let pdev = pci::Device::accelerator(CompleterType::ExtTph)?;
    let vfio = vfio::Device::open(&pdev)?;
    vfio.set_memory_enable(true)?;

    let steps = [
        ("hint", initiator::STANDARD, Some(publish.standard())),
        ("none", initiator::STANDARD, None),
        ("ext", initiator::EXTENDED, Some(publish.extended())),
    ];

    for (page, (step, node, tph)) in (0..).step_by(PAGE as usize).zip(steps) {
        let step = run(&vfio, &pdev, page, step, node, tph)?;
        println!("{}", serde_json::to_string(&step)?);
    }

    Ok(())
}

fn run(
    vfio: &vfio::Device,
    pdev: &pci::Device,
    page: u64,
    step: &'static str,
    node: &str,
    tph: Option<Tph>,
) -> Result<Step, Box<dyn Error>> {
    let source = demo::source();
    let memory = vfio.region(BAR)?;
    memory.write_dwords(page + OFFSET, &demo::before())?;
    let before = memory.read_dwords(page + OFFSET)?;

    let dmabuf = vfio.export(BAR, page, PAGE)?;
    if let Some(tph) = tph {
        vfio.publish(Tph {
            dmabuf_fd: dmabuf.as_raw_fd(),
            ..tph
        })?;
    }

    let initiator = Initiator::open(node)?;
    let requester = match initiator.req_type()? {
        initiator::REQ_TPH => "tph",
        initiator::REQ_EXT => "ext",
        _ => "off",
    };
    initiator.import(dmabuf.as_fd())?;
    initiator.write(OFFSET, &source.map(u32::to_le_bytes).concat())?;
    initiator.release()?;

    Ok(Step {
        step,
        base: pdev.bar(BAR as usize)?,
        offset: page + OFFSET,
        published: tph.map(Into::into),
        cpu: None,
        requester,
        before,
        source,
        after: memory.read_dwords(page + OFFSET)?,
    })
}
