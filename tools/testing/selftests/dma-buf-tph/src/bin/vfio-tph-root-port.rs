// SPDX-License-Identifier: GPL-2.0
//! Tests of a requester that user space owns behind a root port: that limits what it may emit, as
//! the module `tph_root_port` has it say, and the firmware tells the tags of CPUs.
//!
//! The tags are those of `lab/crates/vm/src/cpu-tags.asl`.

use dma_buf_tph::cpu;
use dma_buf_tph::pci::{self, CompleterType, INITIATOR, INITIATOR_EXT};
use dma_buf_tph::requester::{
    self, CAPABILITY, DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, EXTENDED, Entry, NO_ST, Requester,
    Resolved, Source, level,
};
use dma_buf_tph::tap::{self, assert_errno};
use libc::{EINVAL, EOPNOTSUPP};
use std::fs;
use std::process::ExitCode;

/// Lets the root ports say that they are completers of this type; no device is open.
fn root_ports(completer: CompleterType) {
    pci::unload("rust_tph_initiator").unwrap();
    pci::unload("tph_root_port").unwrap();
    let parameter = format!("completer={}", completer as u8);
    pci::modprobe("tph_root_port", &[&parameter]).unwrap();
}

/// There is no capability, and what is in its place is not the device's.
fn hidden(completer: CompleterType) {
    root_ports(completer);
    for id in [INITIATOR, INITIATOR_EXT] {
        for level in level::ALL {
            let requester = Requester::open(id, level).unwrap();
            requester.assert_hidden();
        }
    }
}

fn eight_bits_only() {
    root_ports(CompleterType::Tph);
    for id in [INITIATOR, INITIATOR_EXT] {
        let requester = Requester::opted_in(id, level::LITERAL).unwrap();
        assert_eq!(requester.seen(CAPABILITY).unwrap() & 1 << 8, 0);
        requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
        requester.assert_control(DEVICE_SPECIFIC);
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        requester.assert_control(DEVICE_SPECIFIC | ENABLE);
        for source in [Source::Cpu(0), Source::Literal(1)] {
            assert_errno(requester.set_one(EXTENDED, 0, source), EOPNOTSUPP);
        }
        assert_errno(requester.resolve(EXTENDED, Source::Cpu(0)), EOPNOTSUPP);
        requester.set_one(0, 0, Source::Cpu(0)).unwrap();
        assert_eq!(requester.entry(0).unwrap(), 0xc0);
    }
}

fn both() {
    root_ports(CompleterType::ExtTph);
    let requester = Requester::opted_in(INITIATOR_EXT, level::NO_ST).unwrap();
    for enable in [ENABLE, ENABLE_EXT, 0] {
        requester.control(NO_ST | enable).unwrap();
        requester.assert_control(NO_ST | enable);
    }
}

fn tags_of_cpus() {
    root_ports(CompleterType::ExtTph);
    let requester = Requester::opted_in(INITIATOR_EXT, level::DS_ST).unwrap();
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    for (cpu, tag) in [(0, 0xc0), (1, 0xc1)] {
        let hint = |steering_tag| Resolved {
            steering_tag,
            ph: 0,
        };
        assert_eq!(requester.resolve(0, Source::Cpu(cpu)).unwrap(), hint(tag));
        // In the other namespace, too, although that is not enabled.
        assert_eq!(
            requester.resolve(EXTENDED, Source::Cpu(cpu)).unwrap(),
            hint(0xca00 + tag - 0xc0)
        );
        requester.set_one(0, cpu, Source::Cpu(cpu)).unwrap();
        assert_eq!(requester.entry(cpu).unwrap(), tag);
    }
    requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
    let entries = [2, 3].map(|index| Entry::new(index, Source::Cpu(1)));
    let (result, applied) = requester.set(EXTENDED, &entries);
    result.unwrap();
    assert_eq!(applied, 2);
    assert_eq!(requester.entry(3).unwrap(), 0xca01);
}

fn cpu_that_is_offline() {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";

    root_ports(CompleterType::ExtTph);
    let requester = Requester::opted_in(INITIATOR_EXT, level::DS_ST).unwrap();
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    if fs::write(ONLINE, "0").is_err() {
        tap::skip("this kernel takes no CPU offline".to_owned());
    }
    let offline = requester.resolve(0, Source::Cpu(1));
    let (set, applied) = requester.set(
        0,
        &[Entry::new(0, Source::Cpu(0)), Entry::new(1, Source::Cpu(1))],
    );
    fs::write(ONLINE, "1").unwrap();
    assert_errno(offline, EINVAL);
    assert_errno(set, EINVAL);
    assert_eq!(applied, 1);
    assert_eq!(requester.entry(0).unwrap(), 0xc0);
    requester.resolve(0, Source::Cpu(1)).unwrap();
    for cpu in [cpu::first_absent().unwrap(), 63, u32::MAX] {
        assert_errno(requester.resolve(0, Source::Cpu(cpu)), EINVAL);
    }
}

/// The root port changes its mind: the write to the control register is accepted, as user space saw
/// that it may, but the device is not enabled, and user space sees that.
fn enable_that_fails() {
    root_ports(CompleterType::ExtTph);
    let requester = Requester::opted_in(INITIATOR_EXT, level::DS_ST).unwrap();
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    root_ports(CompleterType::Tph);
    requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
    requester.assert_control(DEVICE_SPECIFIC);
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    requester.assert_control(DEVICE_SPECIFIC | ENABLE);
}

fn hot_reset() {
    root_ports(CompleterType::ExtTph);
    let requester = Requester::opted_in(INITIATOR_EXT, level::LITERAL).unwrap();
    requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
    requester
        .set_one(EXTENDED, 3, Source::Literal(0xbef0))
        .unwrap();
    requester.vfio.hot_reset().unwrap();
    requester.assert_control(0);
    assert_eq!(requester.entry(3).unwrap(), 0);
    assert_errno(requester.set_one(0, 3, Source::Literal(1)), EINVAL);
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    requester.assert_control(DEVICE_SPECIFIC | ENABLE);
    requester.set_one(0, 3, Source::Literal(0x12)).unwrap();
    assert_eq!(requester.entry(3).unwrap(), 0x12);
}

fn end() {
    requester::set_level(0).unwrap();
    pci::unload("tph_root_port").unwrap();
}

fn main() -> ExitCode {
    use CompleterType::{None, Reserved};

    tap::run(vec![
        (
            "vfio case 2: the root port completes no hints",
            Box::new(|| hidden(None)),
        ),
        (
            "vfio case 6: the root port's type is reserved",
            Box::new(|| hidden(Reserved)),
        ),
        (
            "vfio case 4: the root port completes 8-bit tags",
            Box::new(eight_bits_only),
        ),
        ("vfio case 5: the root port completes both", Box::new(both)),
        ("vfio case 13: CPUs have tags", Box::new(tags_of_cpus)),
        (
            "vfio case 27: a CPU that is offline",
            Box::new(cpu_that_is_offline),
        ),
        (
            "vfio: an enable that fails does not read back",
            Box::new(enable_that_fails),
        ),
        ("vfio case 28: a hot reset", Box::new(hot_reset)),
        ("the root ports are as they were", Box::new(end)),
    ])
}
