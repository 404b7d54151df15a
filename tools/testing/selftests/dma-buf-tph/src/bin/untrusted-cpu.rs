// SPDX-License-Identifier: GPL-2.0
//! Tests on a processor that the kernel does not trust with peer-to-peer DMA through the host
//! bridge, and devices that have no other way to each other.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::kmsg::Log;
use dma_buf_tph::memory::Exporter;
use dma_buf_tph::tap::{self, assert_errno};
use libc::EINVAL;
use std::os::fd::AsFd;
use std::process::ExitCode;

fn no_way_to_a_peer(node: &str) {
    let accelerator = Accelerator::open().unwrap();
    let before = accelerator.state().unwrap();
    let initiator = Initiator::open(node).unwrap();
    initiator.import(accelerator.dmabuf.as_fd()).unwrap();

    // The kernel looks at the way between two devices once, until one of them is unbound.
    let log = Log::from_now().unwrap();
    assert_errno(initiator.write(0, &[0x5a; 32]), EINVAL);
    log.assert_says(&["do not share an upstream bridge or whitelisted host bridge"]);
    assert_errno(initiator.write(0, &[0x5a; 32]), EINVAL);

    assert_eq!(accelerator.state().unwrap(), before);
    assert!(accelerator.is_published().unwrap());
    initiator.release().unwrap();
}

fn a_way_to_memory() {
    let exporter = Exporter::open().unwrap();
    let dmabuf = exporter.create(4096, 0).unwrap();
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    initiator.import(dmabuf.as_fd()).unwrap();
    initiator.write(8, &[0x5a; 32]).unwrap();
    let mut read = [0; 32];
    exporter.read(dmabuf.as_fd(), 8, &mut read).unwrap();
    assert_eq!(read, [0x5a; 32]);
}

fn main() -> ExitCode {
    tap::run(vec![
        (
            "export and attach work, the map fails: EINVAL, and nothing arrives",
            Box::new(|| no_way_to_a_peer(initiator::STANDARD)),
        ),
        (
            "the same for the Extended initiator",
            Box::new(|| no_way_to_a_peer(initiator::EXTENDED)),
        ),
        (
            "a write to CPU memory arrives all the same",
            Box::new(a_way_to_memory),
        ),
    ])
}
