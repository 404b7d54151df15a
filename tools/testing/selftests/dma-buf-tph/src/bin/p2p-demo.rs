// SPDX-License-Identifier: GPL-2.0
//! Publishes a steering tag for a dma-buf of the accelerator, lets an initiator write into it
//! peer-to-peer, and prints what happened as JSON, one line per step.
//!
//! It is the guest's half of `make demo`. It judges nothing: what the TLPs carried is in the trace,
//! which only the host can see.

use clap::Parser;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::vfio::{self, Tph};
use serde::Serialize;
use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};

/// The BAR with the accelerator's memory.
const BAR: u32 = 2;
const PAGE: u64 = 4096;
/// Where in its page each step writes.
const OFFSET: u64 = 0x800;

#[derive(Parser)]
struct Args {
    /// 8-bit steering tag to publish
    #[arg(long, default_value = "0xf0", value_parser = parse_number::<u8>)]
    st: u8,
    /// Processing hint to publish, 0 to 3
    #[arg(long, default_value = "2", value_parser = parse_number::<u8>)]
    ph: u8,
    /// 16-bit Extended steering tag to publish
    #[arg(long, default_value = "0xbef0", value_parser = parse_number::<u16>)]
    ext: u16,
}

fn parse_number<T: TryFrom<u32>>(text: &str) -> Result<T, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("'{text}' is not a number that fits"))
}

/// What was published, as the kernel got it.
#[derive(Serialize)]
struct Published {
    flags: u32,
    steering_tag: u8,
    steering_tag_ext: u16,
    ph: u8,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    bar_address: u64,
    offset: u64,
    published: Option<Published>,
    requester: &'static str,
    before: [u32; 8],
    source: [u32; 8],
    after: [u32; 8],
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let pdev = pci::Device::accelerator(CompleterType::ExtTph)?;
    let vfio = vfio::Device::open(&pdev)?;
    vfio.set_memory_enable(true)?;

    let steps = [
        (
            "hint",
            initiator::STANDARD,
            Some(Tph {
                flags: vfio::TPH_ST,
                steering_tag: args.st,
                ph: args.ph,
                ..Tph::default()
            }),
        ),
        ("none", initiator::STANDARD, None),
        (
            "ext",
            initiator::EXTENDED,
            Some(Tph {
                flags: vfio::TPH_ST_EXT,
                steering_tag_ext: args.ext,
                ph: args.ph,
                ..Tph::default()
            }),
        ),
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
    // No operation leaves these as they are, and no two give the same result.
    let before: [u32; 8] = std::array::from_fn(|i| 0x1000_0f00 + 0x0101 * i as u32);
    let source: [u32; 8] = std::array::from_fn(|i| 0x0200_00f3 + 0x1010 * i as u32);

    let memory = vfio.region(BAR)?;
    memory.write_dwords(page + OFFSET, &before)?;
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
        bar_address: pdev.bar(BAR as usize)?,
        offset: page + OFFSET,
        published: tph.map(|tph| Published {
            flags: tph.flags,
            steering_tag: tph.steering_tag,
            steering_tag_ext: tph.steering_tag_ext,
            ph: tph.ph,
        }),
        requester,
        before,
        source,
        after: memory.read_dwords(page + OFFSET)?,
    })
}
