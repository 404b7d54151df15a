// SPDX-License-Identifier: GPL-2.0
//! Tests of how `VFIO_DEVICE_FEATURE_DMA_BUF_TPH` depends on the device's completer type, and that
//! a dma-buf belongs to one device.

use dma_buf_tph::feature::{self, feature};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::vfio::{Device, PROBE, SET, TPH_ST, TPH_ST_EXT, Tph};
use libc::{EBADF, EINVAL, EOPNOTSUPP};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

const BAR: u32 = 2;
const PAGE: u64 = 4096;

fn open(completer: CompleterType) -> Device {
    let device = Device::open(&pci::Device::accelerator(completer).unwrap()).unwrap();
    device.set_memory_enable(true).unwrap();
    device
}

fn request(dmabuf: &OwnedFd, flags: u32) -> Tph {
    Tph {
        dmabuf_fd: dmabuf.as_raw_fd(),
        flags,
        ..Tph::default()
    }
}

fn probe(device: &Device) -> std::io::Result<i32> {
    device.feature(feature().number | PROBE, 8, &mut [])
}

/// Devices that complete no hints: the gate comes before every look at the request.
fn no_completer(completer: CompleterType) {
    let device = open(completer);
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();

    assert_errno(probe(&device), EOPNOTSUPP);
    if feature().has_get {
        assert_errno(device.published(-1), EOPNOTSUPP);
    }
    assert_errno(device.publish(request(&dmabuf, TPH_ST)), EOPNOTSUPP);
    assert_errno(device.publish(request(&dmabuf, 0)), EOPNOTSUPP);
    let everything_wrong = Tph {
        dmabuf_fd: -1,
        flags: u32::MAX,
        ph: 0xff,
        ..Tph::default()
    };
    assert_errno(device.publish(everything_wrong), EOPNOTSUPP);
    assert_errno(
        device.feature(feature().number | SET, 8, &mut []),
        EOPNOTSUPP,
    );
}

fn none() {
    no_completer(CompleterType::None);
}

fn reserved() {
    no_completer(CompleterType::Reserved);
}

fn standard_only() {
    let device = open(CompleterType::Tph);
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();

    probe(&device).unwrap();
    device.publish(request(&dmabuf, TPH_ST)).unwrap();
    assert_errno(device.publish(request(&dmabuf, TPH_ST_EXT)), EOPNOTSUPP);
    let both = request(&dmabuf, TPH_ST | TPH_ST_EXT);
    assert_errno(device.publish(both), EOPNOTSUPP);
}

fn standard_only_order() {
    let device = open(CompleterType::Tph);
    let extended = Tph {
        dmabuf_fd: -1,
        flags: TPH_ST_EXT,
        ..Tph::default()
    };

    assert_errno(device.publish(Tph { ph: 4, ..extended }), EINVAL);
    assert_errno(device.publish(extended), EOPNOTSUPP);
    let standard = Tph {
        flags: TPH_ST,
        ..extended
    };
    assert_errno(device.publish(standard), EBADF);
}

fn discovery() {
    for (completer, flags) in [
        (CompleterType::Tph, TPH_ST),
        (CompleterType::ExtTph, TPH_ST | TPH_ST_EXT),
    ] {
        let expected = Tph {
            dmabuf_fd: -1,
            flags,
            ..Tph::default()
        };
        assert_eq!(open(completer).published(-1).unwrap(), expected);
    }
}

fn other_device() {
    let owner = open(CompleterType::Tph);
    let dmabuf = owner.export(BAR, 0, PAGE).unwrap();
    let other = open(CompleterType::ExtTph);

    assert_errno(other.publish(request(&dmabuf, TPH_ST)), EINVAL);
    if feature().has_get {
        assert_errno(other.published(dmabuf.as_raw_fd()), EINVAL);
    }
    owner.publish(request(&dmabuf, TPH_ST)).unwrap();
}

fn main() -> ExitCode {
    feature::find();
    tap::run(vec![
        ("cases 1, 9: no completer", Box::new(none)),
        ("cases 1, 9: reserved completer type", Box::new(reserved)),
        (
            "case 12: Extended tag on a standard completer: EOPNOTSUPP",
            Box::new(standard_only),
        ),
        (
            "cases 13, 14: ph, then the completer type, then the fd",
            Box::new(standard_only_order),
        ),
        ("GET of -1 tells the namespaces", Box::new(discovery)),
        (
            "case 18: dma-buf of another device: EINVAL",
            Box::new(other_device),
        ),
    ])
}
