// SPDX-License-Identifier: GPL-2.0
//! Tests of a requester that user space owns: the opt-in, the policy, and the registers of its
//! capability.
//!
//! What the device does is read from its real configuration space. Here all devices are integrated
//! endpoints, so that no root port limits them: `vfio-tph-root-port` tests that.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::pci::{self, CompleterType, INITIATOR, INITIATOR_EXT};
use dma_buf_tph::requester::{
    self, CAPABILITY, CONTROL, DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, ENTRIES, Entry, HEADER,
    INTERRUPT_VECTOR, NO_ST, RESOLVE, Requester, ST, Source, TABLE, TPH, level,
};
use dma_buf_tph::sys::drop_privileges;
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::udmabuf;
use dma_buf_tph::vfio::{GET, PROBE, SET};
use libc::{EACCES, EFAULT, EINVAL, ENOTTY, EOPNOTSUPP};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;

fn no_capability() {
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    for level in level::ALL {
        let vfio = requester::open_at(&pdev, level).unwrap();
        assert!(!requester::is_seen(&vfio).unwrap());
        for feature in [TPH, RESOLVE, ST] {
            assert_errno(requester::probe(&vfio, feature), EOPNOTSUPP);
        }
        assert_errno(vfio.feature(TPH | SET, HEADER, &mut []), EOPNOTSUPP);
        // The capability comes before the payload.
        assert_errno(vfio.feature(RESOLVE | GET, HEADER, &mut []), EOPNOTSUPP);
        assert_errno(vfio.feature(ST | SET, HEADER, &mut []), EOPNOTSUPP);
    }
    drop(pdev);
}

fn integrated_endpoint() {
    for id in [INITIATOR, INITIATOR_EXT] {
        for level in level::ALL {
            let requester = Requester::open(id, level).unwrap();
            assert!(requester.pdev.root_port().unwrap().is_none());
            assert!(requester.is_seen().unwrap());
            requester.probe(TPH).unwrap();
            requester.opt_in().unwrap();
            // Again.
            requester.opt_in().unwrap();
        }
    }
}

fn operations() {
    let requester = Requester::open(INITIATOR_EXT, level::LITERAL).unwrap();
    let vfio = &requester.vfio;
    assert_errno(vfio.feature(TPH | GET, HEADER, &mut []), EINVAL);
    assert_errno(
        vfio.feature(RESOLVE | SET, HEADER + 16, &mut [0; 16]),
        EINVAL,
    );
    assert_errno(vfio.feature(ST | GET, HEADER + 24, &mut [0; 24]), EINVAL);
    for feature in [TPH, RESOLVE, ST] {
        assert_errno(vfio.feature(feature, HEADER + 24, &mut [0; 24]), EINVAL);
        vfio.feature(feature | PROBE, HEADER, &mut []).unwrap();
    }
    assert_errno(
        vfio.feature(RESOLVE | GET, HEADER + 15, &mut [0; 15]),
        EINVAL,
    );
    assert_errno(vfio.feature(ST | SET, HEADER + 23, &mut [0; 23]), EINVAL);
    assert_errno(vfio.feature((ST + 1) | PROBE, HEADER, &mut []), ENOTTY);
    for (feature, operation, size) in [(RESOLVE, GET, 16), (ST, SET, 24)] {
        let ret = vfio.feature_unmapped_payload(feature | operation, HEADER + size);
        assert_errno(ret, EFAULT);
    }
    // None of that was an opt-in.
    requester.control(ENABLE).unwrap();
    requester.assert_control(0);
}

fn opt_in_comes_first() {
    for level in level::ALL {
        let requester = Requester::open(INITIATOR_EXT, level).unwrap();
        for control in [ENABLE, ENABLE_EXT, DEVICE_SPECIFIC | ENABLE] {
            requester.control(control).unwrap();
            requester.assert_control(0);
        }
        let dmabuf = udmabuf::create(1).unwrap();
        assert_errno(requester.resolve(0, Source::of(dmabuf.as_fd())), EINVAL);
        if level >= level::DS_ST {
            requester.assert_refused(0, &[Entry::new(0, Source::None)], EINVAL);
        }

        requester.opt_in().unwrap();
        requester.assert_control(0);
        requester.control(ENABLE_EXT).unwrap();
        requester.assert_control(ENABLE_EXT);
    }
}

fn extended_of_the_device() {
    let standard = Requester::opted_in(INITIATOR, level::DS_ST).unwrap();
    assert_eq!(standard.seen(CAPABILITY).unwrap() & 1 << 8, 0);
    standard.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
    standard.assert_control(DEVICE_SPECIFIC);
    standard.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    standard.assert_control(DEVICE_SPECIFIC | ENABLE);

    let extended = Requester::opted_in(INITIATOR_EXT, level::DS_ST).unwrap();
    assert_eq!(extended.seen(CAPABILITY).unwrap() & 1 << 8, 1 << 8);
    for enable in [ENABLE, ENABLE_EXT, ENABLE, 0, ENABLE_EXT] {
        extended.control(DEVICE_SPECIFIC | enable).unwrap();
        extended.assert_control(DEVICE_SPECIFIC | enable);
    }
}

fn reserved_enable() {
    for id in [INITIATOR, INITIATOR_EXT] {
        for old in [DEVICE_SPECIFIC, DEVICE_SPECIFIC | ENABLE] {
            let requester = Requester::opted_in(id, level::DS_ST).unwrap();
            requester.control(old).unwrap();
            requester.control(DEVICE_SPECIFIC | 2 << 8).unwrap();
            requester.assert_control(old);
        }
    }
}

fn undefined_control() {
    let requester = Requester::opted_in(INITIATOR_EXT, level::LITERAL).unwrap();
    requester
        .control(0xffff_fcf8 | DEVICE_SPECIFIC | ENABLE_EXT)
        .unwrap();
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);
    for mode in 3..8 {
        requester.control(mode | ENABLE_EXT).unwrap();
        requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);
    }
}

fn only_control_can_be_written() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
    let before: Vec<_> = (0..12).map(|at| requester.real(at).unwrap()).collect();
    for offset in [0, CAPABILITY, TABLE, TABLE + 4, TABLE + 2 * 63] {
        requester.write(offset, &[0xff, 0xff]).unwrap();
        requester.write(offset, &[0xff]).unwrap();
    }
    // Across registers, not aligned, up to the end of the table.
    requester.write(CAPABILITY + 2, &[0xff; 2]).unwrap();
    requester
        .write(TABLE, &[0xff; 2 * ENTRIES as usize])
        .unwrap();
    let after: Vec<_> = (0..12).map(|at| requester.real(at).unwrap()).collect();
    assert_eq!(after, before);
    requester.assert_table(&[]);
}

fn modes_at_each_level() {
    for level in level::ALL {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        let seen = requester.seen(CAPABILITY).unwrap();
        let real = requester.real(CAPABILITY).unwrap();
        // The device has no interrupt vector mode.
        assert_eq!(real, 0b101 | 1 << 8 | 1 << 9 | (ENTRIES - 1) << 16);
        let expected = match level {
            level::NO_ST => 0b001 | 1 << 8,
            level::IV_ST => real & !0b110,
            _ => real,
        };
        assert_eq!(seen, expected);

        for mode in [INTERRUPT_VECTOR, DEVICE_SPECIFIC] {
            requester.control(NO_ST).unwrap();
            requester.control(mode | ENABLE).unwrap();
            let selected = match mode {
                DEVICE_SPECIFIC if level >= level::DS_ST => mode,
                _ => NO_ST,
            };
            requester.assert_control(selected | ENABLE);
        }
    }
}

fn parameter() {
    let requester = Requester::open(INITIATOR, level::DS_ST).unwrap();
    for level in [4, -1, 255, i32::MAX] {
        assert_errno(requester::set_level(level), EINVAL);
        assert_eq!(requester::level().unwrap(), "0");
    }
    for level in level::ALL {
        requester::set_level(level).unwrap();
        assert_eq!(requester::level().unwrap(), level.to_string());
        // What is bound does not change, not even when it is opened.
        assert_eq!(requester.latched_level().unwrap(), "2");
        assert_eq!(requester.seen(CAPABILITY).unwrap() & 0b111, 0b101);
    }
    requester::set_level(0).unwrap();
    let requester = requester.reopen().unwrap();
    assert_eq!(requester.latched_level().unwrap(), "2");
    assert_eq!(requester.seen(CAPABILITY).unwrap() & 0b111, 0b101);
}

/// The device is its owner's, who needs no privileges; the policy is not.
fn no_privileges() {
    let requester = Requester::open(INITIATOR_EXT, level::DS_ST).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    thread::scope(|scope| {
        scope.spawn(|| {
            drop_privileges().unwrap();
            assert_errno(requester::set_level(level::LITERAL), EACCES);
            assert_errno(requester.latched_level(), EACCES);
            requester.opt_in().unwrap();
            requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
            assert_eq!(requester.seen(CONTROL).unwrap(), DEVICE_SPECIFIC | ENABLE);
            requester.set_one(0, 0, source).unwrap();
            assert_errno(requester.set_one(0, 0, Source::Literal(1)), EOPNOTSUPP);
        });
    });
    requester.assert_control(DEVICE_SPECIFIC | ENABLE);
    requester.assert_table(&[(0, 0xf4)]);
    assert_eq!(requester::level().unwrap(), "0");
    assert_eq!(requester.latched_level().unwrap(), "2");
}

/// Writes to the control register in several ways.
type Write = fn(&Requester, u32);

fn widths() {
    let writes: [Write; 5] = [
        |requester, value| requester.control(value).unwrap(),
        |requester, value| {
            let bytes = value.to_le_bytes();
            requester.write(CONTROL, &bytes[..2]).unwrap();
        },
        |requester, value| {
            for (at, byte) in (CONTROL..).zip(value.to_le_bytes()) {
                requester.write(at, &[byte]).unwrap();
            }
        },
        |requester, value| {
            for (at, byte) in (CONTROL..CONTROL + 4).zip(value.to_le_bytes()).rev() {
                requester.write(at, &[byte]).unwrap();
            }
        },
        // From the register before it, so that the kernel cuts it into pieces.
        |requester, value| {
            let mut bytes = [0xff; 5];
            bytes[1..].copy_from_slice(&value.to_le_bytes());
            requester.write(CONTROL - 1, &bytes).unwrap();
        },
    ];
    let requester = Requester::opted_in(INITIATOR_EXT, level::DS_ST).unwrap();
    for old in [0, DEVICE_SPECIFIC, ENABLE, DEVICE_SPECIFIC | ENABLE_EXT] {
        for value in [
            0,
            DEVICE_SPECIFIC,
            ENABLE,
            DEVICE_SPECIFIC | ENABLE,
            DEVICE_SPECIFIC | ENABLE_EXT,
            INTERRUPT_VECTOR | ENABLE,
            DEVICE_SPECIFIC | 2 << 8,
            7 | ENABLE_EXT,
            u32::MAX,
        ] {
            let ends = writes.map(|write| {
                requester.control(0).unwrap();
                requester.control(old).unwrap();
                requester.assert_control(old);
                write(&requester, value);
                let end = requester.seen(CONTROL).unwrap();
                requester.assert_control(end);
                end
            });
            assert!(
                ends.iter().all(|end| *end == ends[0]),
                "{old:x} {value:x} {ends:x?}"
            );
        }
    }
}

fn main() -> ExitCode {
    tap::run(vec![
        ("vfio case 1: no capability", Box::new(no_capability)),
        (
            "vfio case 3: an integrated endpoint",
            Box::new(integrated_endpoint),
        ),
        ("vfio: operations and payloads", Box::new(operations)),
        (
            "vfio case 9: nothing is written before the opt-in",
            Box::new(opt_in_comes_first),
        ),
        (
            "vfio case 5: Extended is up to the device",
            Box::new(extended_of_the_device),
        ),
        (
            "vfio case 6: the reserved enable is refused",
            Box::new(reserved_enable),
        ),
        (
            "vfio: undefined bits and modes are refused",
            Box::new(undefined_control),
        ),
        (
            "vfio: only the control register can be written",
            Box::new(only_control_can_be_written),
        ),
        (
            "vfio case 21: modes at each level",
            Box::new(modes_at_each_level),
        ),
        ("vfio case 22: the parameter", Box::new(parameter)),
        ("vfio: a user without privileges", Box::new(no_privileges)),
        ("vfio case 32: the width of a write", Box::new(widths)),
    ])
}
