// SPDX-License-Identifier: GPL-2.0
//! Tests of how the steering tags of devices behind a root port depend on its completer type, which
//! the module `tph_root_port` sets.

use dma_buf_tph::initiator::{self, Hint, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap;
use dma_buf_tph::vfio::{self, Tph};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

const BAR: u32 = 2;
const PAGE: u64 = 4096;
/// `PCI_TPH_REQ_DISABLE`.
const DISABLED: u8 = 0;

/// What is published.
const PUBLISHED: Tph = Tph {
    dmabuf_fd: -1,
    flags: vfio::TPH_ST | vfio::TPH_ST_EXT,
    steering_tag_ext: 0x1234,
    steering_tag: 0x56,
    ph: 1,
};

fn hint(req_type: u8) -> Option<Hint> {
    let steering_tag = match req_type {
        initiator::REQ_TPH => PUBLISHED.steering_tag.into(),
        initiator::REQ_EXT => PUBLISHED.steering_tag_ext,
        _ => return None,
    };
    let ph = PUBLISHED.ph;
    Some(Hint {
        req_type,
        steering_tag,
        ph,
    })
}

/// What the two initiators can send if their root port is a completer of this type.
fn completer(completer: CompleterType, expected: [u8; 2]) {
    pci::unload("rust_tph_initiator").unwrap();
    pci::unload("tph_root_port").unwrap();

    let accelerator = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    let port = accelerator.root_port().unwrap().expect("a root port");
    let emulated = port.completer_field().unwrap();
    let parameter = format!("completer={}", completer as u8);
    pci::modprobe("tph_root_port", &[&parameter]).unwrap();
    assert_eq!(port.completer_field().unwrap(), completer as u8);

    let vfio = vfio::Device::open(&accelerator).unwrap();
    vfio.set_memory_enable(true).unwrap();
    let dmabuf = vfio.export(BAR, 0, PAGE).unwrap();
    let dmabuf_fd = dmabuf.as_raw_fd();
    vfio.publish(Tph {
        dmabuf_fd,
        ..PUBLISHED
    })
    .unwrap();
    for (node, req_type) in [initiator::STANDARD, initiator::EXTENDED]
        .into_iter()
        .zip(expected)
    {
        let initiator = Initiator::open(node).unwrap();
        assert_eq!(initiator.req_type().unwrap(), req_type, "{node}");
        initiator.import(dmabuf.as_fd()).unwrap();
        let sent = initiator.write(0, &[0; 4]).unwrap();
        assert_eq!(sent, hint(req_type), "{node}");
    }

    pci::unload("rust_tph_initiator").unwrap();
    pci::unload("tph_root_port").unwrap();
    assert_eq!(port.completer_field().unwrap(), emulated);
}

fn undefined() {
    pci::unload("rust_tph_initiator").unwrap();
    pci::unload("tph_root_port").unwrap();
    pci::modprobe("tph_root_port", &["completer=4"]).unwrap_err();
    pci::modprobe("tph_root_port", &[]).unwrap();
}

fn main() -> ExitCode {
    use CompleterType::{ExtTph, None, Reserved, Tph};
    let (st, ext) = (initiator::REQ_TPH, initiator::REQ_EXT);

    tap::run(vec![
        (
            "no completer: no hints",
            Box::new(|| completer(None, [DISABLED; 2])),
        ),
        (
            "reserved completer type: no hints",
            Box::new(|| completer(Reserved, [DISABLED; 2])),
        ),
        (
            "completer of 8-bit tags: no others",
            Box::new(|| completer(Tph, [st; 2])),
        ),
        (
            "completer of both: each device its own",
            Box::new(|| completer(ExtTph, [st, ext])),
        ),
        ("a type that does not exist is refused", Box::new(undefined)),
    ])
}
