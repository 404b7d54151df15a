// SPDX-License-Identifier: GPL-2.0
//! Tests of a kernel that was told `pci=notph`: no device may emit hints, so the data arrives
//! without.

use dma_buf_tph::accelerator::{Accelerator, State};
use dma_buf_tph::feature::feature;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::pci;
use dma_buf_tph::requester::Requester;
use dma_buf_tph::tap;
use dma_buf_tph::vfio::{GET, PROBE, SET, TPH_ST, TPH_ST_EXT, Tph};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// `PCI_TPH_REQ_DISABLE`.
const DISABLED: u8 = 0;
const SOURCE: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// What the exporter can take is up to its completer type, not to what others may emit.
fn publishing() {
    let accelerator = Accelerator::open().unwrap();
    for operation in [GET, SET] {
        let flags = feature().number | PROBE | operation;
        accelerator.vfio.feature(flags, 8, &mut []).unwrap();
    }
    let both = Tph {
        dmabuf_fd: -1,
        flags: TPH_ST | TPH_ST_EXT,
        ..Tph::default()
    };
    assert_eq!(accelerator.vfio.published(-1).unwrap(), both);
    assert!(accelerator.is_published().unwrap());
}

fn arrives_plain(node: &str) {
    let accelerator = Accelerator::open().unwrap();
    let before = accelerator.state().unwrap();
    let initiator = Initiator::open(node).unwrap();
    assert_eq!(initiator.req_type().unwrap(), DISABLED);
    initiator.import(accelerator.dmabuf.as_fd()).unwrap();
    let source = SOURCE.map(u32::to_le_bytes).concat();
    assert_eq!(initiator.write(0, &source).unwrap(), None);

    let after = State {
        unhinted: before.unhinted + 1,
        memory: SOURCE,
        ..before
    };
    assert_eq!(accelerator.state().unwrap(), after);
}

/// A device with the capability, in a kernel that does not use it.
fn hidden() {
    for level in 0..=3 {
        let requester = Requester::open(pci::INITIATOR_EXT, level).unwrap();
        requester.assert_hidden();
    }
}

fn main() -> ExitCode {
    tap::run(vec![
        ("tags can be published", Box::new(publishing)),
        (
            "the initiator probes, and its write arrives without a hint",
            Box::new(|| arrives_plain(initiator::STANDARD)),
        ),
        (
            "the same for the Extended initiator",
            Box::new(|| arrives_plain(initiator::EXTENDED)),
        ),
        ("vfio case 7: the capability is hidden", Box::new(hidden)),
    ])
}
