// SPDX-License-Identifier: GPL-2.0
//! Tests of CPU memory whose steering tags the firmware tells: the tag on a write names the CPU
//! that will use the data, in the namespace of the device that writes.
//!
//! The tags are those of `lab/crates/vm/src/cpu-tags.asl`.

use dma_buf_tph::cpu;
use dma_buf_tph::initiator::{self, Hint, Initiator};
use dma_buf_tph::memory::Exporter;
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use libc::EINVAL;
use std::os::fd::AsFd;
use std::process::ExitCode;

const PAGE: u32 = 4096;
const DATA: [u8; 16] = *b"for one CPU only";

/// The exporter's hint: the CPU reads what arrives.
const PH_TARGET: u8 = 2;

/// Lets the initiator at `node` write into new memory for `cpu`; returns the hint on the write.
fn written(node: &str, cpu: u32) -> Option<Hint> {
    let exporter = Exporter::open().unwrap();
    let dmabuf = exporter.create(PAGE, cpu).unwrap();
    let initiator = Initiator::open(node).unwrap();
    initiator.import(dmabuf.as_fd()).unwrap();
    let hint = initiator.write(64, &DATA).unwrap();

    let mut read = [0; DATA.len()];
    exporter.read(dmabuf.as_fd(), 64, &mut read).unwrap();
    assert_eq!(read, DATA);
    hint
}

fn tag_names_the_cpu() {
    for cpu in 0..2u8 {
        let expected = Hint {
            req_type: initiator::REQ_TPH,
            steering_tag: u16::from(0xc0 + cpu),
            ph: PH_TARGET,
        };
        assert_eq!(written(initiator::STANDARD, cpu.into()), Some(expected));
    }
}

fn extended_tag_names_the_cpu() {
    for cpu in 0..2u16 {
        let expected = Hint {
            req_type: initiator::REQ_EXT,
            steering_tag: 0xca00 + cpu,
            ph: PH_TARGET,
        };
        assert_eq!(written(initiator::EXTENDED, cpu.into()), Some(expected));
    }
}

fn no_such_cpu() {
    let exporter = Exporter::open().unwrap();
    let absent = cpu::first_absent().unwrap();
    assert_errno(exporter.create(PAGE, absent), EINVAL);
}

fn root_port_is_no_completer() {
    let none = format!("completer={}", CompleterType::None as u8);
    pci::unload("rust_tph_initiator").unwrap();
    pci::unload("tph_root_port").unwrap();
    pci::modprobe("tph_root_port", &[&none]).unwrap();
    let hints = [initiator::STANDARD, initiator::EXTENDED].map(|node| written(node, 0));
    pci::unload("rust_tph_initiator").unwrap();
    pci::unload("tph_root_port").unwrap();
    assert_eq!(hints, [None, None]);
}

fn main() -> ExitCode {
    tap::run(vec![
        (
            "memory: an 8-bit tag names the CPU",
            Box::new(tag_names_the_cpu),
        ),
        (
            "memory: a 16-bit tag names the CPU",
            Box::new(extended_tag_names_the_cpu),
        ),
        (
            "memory: a CPU that is not there is refused",
            Box::new(no_such_cpu),
        ),
        (
            "memory: below a root port that takes no hints there are none",
            Box::new(root_port_is_no_completer),
        ),
    ])
}
