// SPDX-License-Identifier: GPL-2.0
//! Tests of a kernel whose vfio exports no dma-bufs (CONFIG_VFIO_PCI_DMABUF=n), for example one
//! without Rust.

use dma_buf_tph::feature::feature;
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::vfio::{Device, GET, PROBE, SET};
use libc::ENOTTY;
use std::process::ExitCode;

fn no_feature() {
    let device = Device::open(&pci::Device::accelerator(CompleterType::ExtTph).unwrap()).unwrap();
    device.set_memory_enable(true).unwrap();
    for operation in [PROBE, SET, GET] {
        let ret = device.feature(feature().number | operation, 20, &mut [0xff; 12]);
        assert_errno(ret, ENOTTY);
    }
    assert_errno(device.export(2, 0, 4096), ENOTTY);
}

fn main() -> ExitCode {
    tap::run(vec![(
        "case 32: every operation without dma-bufs: ENOTTY",
        Box::new(no_feature),
    )])
}
