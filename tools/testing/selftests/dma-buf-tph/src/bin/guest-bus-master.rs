// SPDX-License-Identifier: GPL-2.0
//! Test of an initiator whose Bus Master Enable was cleared behind its driver's back.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::kmsg::Log;
use dma_buf_tph::pci;
use dma_buf_tph::tap::{self, assert_errno};
use libc::EIO;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// The initiator's register EMITTED: how many writes it emitted
/// (`lab/crates/devices/src/initiator`).
const EMITTED: usize = 0x38;

fn bus_master_off(node: &str, id: u16) {
    let accelerator = Accelerator::open().unwrap();
    let initiator = Initiator::open(node).unwrap();
    initiator.import(accelerator.dmabuf.as_fd()).unwrap();
    let pdev = pci::Device::find(id).unwrap();
    let emitted = || pdev.register(0, EMITTED).unwrap();
    let before = (accelerator.state().unwrap(), emitted());

    pdev.set_bus_master(false).unwrap();
    let log = Log::from_now().unwrap();
    let refused = initiator.write(0, &[0x5a; 32]);
    pdev.set_bus_master(true).unwrap();
    assert_errno(refused, EIO);
    log.assert_says(&[&pdev.address(), "the device reports error 1"]);
    assert_eq!((accelerator.state().unwrap(), emitted()), before);

    assert!(initiator.write(0, &[0x5a; 32]).unwrap().is_some());
    let (state, count) = before;
    assert_ne!(accelerator.state().unwrap().memory, state.memory);
    assert_eq!(emitted(), count + 1);
}

fn main() -> ExitCode {
    tap::run(vec![
        (
            "bus master off: EIO, and nothing is emitted",
            Box::new(|| bus_master_off(initiator::STANDARD, pci::INITIATOR)),
        ),
        (
            "the same for the Extended initiator",
            Box::new(|| bus_master_off(initiator::EXTENDED, pci::INITIATOR_EXT)),
        ),
    ])
}
