// SPDX-License-Identifier: GPL-2.0
//! Tests of a kernel whose PCI core knows nothing of TPH (CONFIG_PCIE_TPH=n).

use dma_buf_tph::feature::feature;
use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::requester::Requester;
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::vfio::{Device, PROBE, TPH_ST, Tph};
use libc::EOPNOTSUPP;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

const BAR: u32 = 2;
const PAGE: u64 = 4096;
const DATA: [u8; 8] = *b"no hints";

fn open() -> Device {
    let device = Device::open(&pci::Device::accelerator(CompleterType::ExtTph).unwrap()).unwrap();
    device.set_memory_enable(true).unwrap();
    device
}

fn nothing_is_published() {
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    let probe = device.feature(feature().number | PROBE, 8, &mut []);
    assert_errno(probe, EOPNOTSUPP);
    assert_errno(device.published(-1), EOPNOTSUPP);
    let publish = device.publish(Tph {
        dmabuf_fd: dmabuf.as_raw_fd(),
        flags: TPH_ST,
        ..Tph::default()
    });
    assert_errno(publish, EOPNOTSUPP);
}

fn data_arrives() {
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    for node in [initiator::STANDARD, initiator::EXTENDED] {
        let region = device.region(BAR).unwrap();
        region.write(0, &[0; DATA.len()]).unwrap();
        let initiator = Initiator::open(node).unwrap();
        assert_eq!(initiator.req_type().unwrap(), 0);
        initiator.import(dmabuf.as_fd()).unwrap();
        assert_eq!(initiator.write(0, &DATA).unwrap(), None);
        let mut read = [0; DATA.len()];
        region.read(0, &mut read).unwrap();
        assert_eq!(read, DATA);
    }
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
        (
            "case 31: SET and PROBE without TPH: EOPNOTSUPP",
            Box::new(nothing_is_published),
        ),
        (
            "case 31: the importer works, without hints",
            Box::new(data_arrives),
        ),
        ("vfio case 7: the capability is hidden", Box::new(hidden)),
    ])
}
