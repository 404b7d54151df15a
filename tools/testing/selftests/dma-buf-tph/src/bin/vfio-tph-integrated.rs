// SPDX-License-Identifier: GPL-2.0
//! Tests of `VFIO_DEVICE_FEATURE_TPH`, `_TPH_RESOLVE` and `_TPH_ST`: a requester that user space
//! owns.
//!
//! What the device does is read from its real configuration space, and where it must show on the
//! wire, from what the accelerator makes of a write. Here all devices are integrated endpoints, so
//! that no root port limits them, and no CPU has a tag for them: `vfio-tph-root-port` tests that.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::pci::{self, CompleterType, INITIATOR, INITIATOR_EXT};
use dma_buf_tph::requester::{
    self, CAPABILITY, CONTROL, DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, ENTRIES, EXTENDED, Entry,
    HEADER, INTERRUPT_VECTOR, NO_ST, RESOLVE, Requester, Resolved, ST, SetEntries, Source, TABLE,
    TPH, UNTOUCHED,
};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::udmabuf;
use dma_buf_tph::vfio::{Device, GET, PROBE, SET, TPH_ST, TPH_ST_EXT, Tph};
use libc::{EBADF, EFAULT, EINVAL, ENODEV, ENOTTY, EOPNOTSUPP};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Policy levels.
const LEVELS: std::ops::RangeInclusive<i32> = 0..=3;
const NO_ST_LEVEL: i32 = 0;
const IV_ST_LEVEL: i32 = 1;
const DS_ST_LEVEL: i32 = 2;
const LITERAL_LEVEL: i32 = 3;

/// What the lab's accelerators publish, see `accelerator.rs`.
const PUBLISHED: Resolved = Resolved {
    steering_tag: 0xf4,
    ph: 2,
};
const PUBLISHED_EXT: Resolved = Resolved {
    steering_tag: 0xf35a,
    ph: 2,
};

/// A requester of this id, enabled in device specific mode with this TPH Requester Enable.
fn enabled(id: u16, level: i32, enable: u32) -> Requester {
    let requester = Requester::opted_in(id, level).unwrap();
    requester.control(DEVICE_SPECIFIC | enable).unwrap();
    agree(&requester, DEVICE_SPECIFIC | enable);
    requester
}

/// User space sees this control register, and the device has it.
#[track_caller]
fn agree(requester: &Requester, control: u32) {
    assert_eq!(requester.seen(CONTROL).unwrap(), control, "seen");
    let expected = if control & ENABLE_EXT == 0 {
        0
    } else {
        control
    };
    assert_eq!(requester.real(CONTROL).unwrap(), expected, "real");
}

/// Every entry of the table is zero but these.
#[track_caller]
fn assert_table(requester: &Requester, entries: &[(u32, u16)]) {
    for (index, tag) in (0..).zip(requester.table().unwrap()) {
        let expected = entries.iter().find(|entry| entry.0 == index);
        assert_eq!(tag, expected.map_or(0, |entry| entry.1), "entry {index}");
    }
}

/// A request that fails before its first entry: it reports nothing and writes nothing.
#[track_caller]
fn refused(requester: &Requester, flags: u32, entries: &[Entry], errno: i32) {
    let before = requester.table().unwrap();
    let control = requester.real(CONTROL).unwrap();
    let (result, applied) = requester.set(flags, entries);
    assert_errno(result, errno);
    assert_eq!(applied, UNTOUCHED);
    assert_eq!(requester.table().unwrap(), before);
    assert_eq!(requester.real(CONTROL).unwrap(), control);
}

fn literal(index: u32, tag: u32) -> Entry {
    Entry::new(index, Source::Literal(tag))
}

fn no_capability() {
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    for level in LEVELS {
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
        for level in LEVELS {
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
    let requester = Requester::open(INITIATOR_EXT, LITERAL_LEVEL).unwrap();
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
    agree(&requester, 0);
}

fn extended_of_the_device() {
    let standard = Requester::opted_in(INITIATOR, DS_ST_LEVEL).unwrap();
    assert_eq!(standard.seen(CAPABILITY).unwrap() & 1 << 8, 0);
    standard.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
    agree(&standard, DEVICE_SPECIFIC);
    standard.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    agree(&standard, DEVICE_SPECIFIC | ENABLE);

    let extended = Requester::opted_in(INITIATOR_EXT, DS_ST_LEVEL).unwrap();
    assert_eq!(extended.seen(CAPABILITY).unwrap() & 1 << 8, 1 << 8);
    for enable in [ENABLE, ENABLE_EXT, ENABLE, 0, ENABLE_EXT] {
        extended.control(DEVICE_SPECIFIC | enable).unwrap();
        agree(&extended, DEVICE_SPECIFIC | enable);
    }
}

fn reserved_enable() {
    for id in [INITIATOR, INITIATOR_EXT] {
        for old in [DEVICE_SPECIFIC, DEVICE_SPECIFIC | ENABLE] {
            let requester = Requester::opted_in(id, DS_ST_LEVEL).unwrap();
            requester.control(old).unwrap();
            requester.control(DEVICE_SPECIFIC | 2 << 8).unwrap();
            agree(&requester, old);
        }
    }
}

fn undefined_control() {
    let requester = Requester::opted_in(INITIATOR_EXT, LITERAL_LEVEL).unwrap();
    requester
        .control(0xffff_fcf8 | DEVICE_SPECIFIC | ENABLE_EXT)
        .unwrap();
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
    for mode in 3..8 {
        requester.control(mode | ENABLE_EXT).unwrap();
        agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
    }
}

fn only_control_can_be_written() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
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
    assert_table(&requester, &[]);
}

fn opt_in_comes_first() {
    for level in LEVELS {
        let requester = Requester::open(INITIATOR_EXT, level).unwrap();
        for control in [ENABLE, ENABLE_EXT, DEVICE_SPECIFIC | ENABLE] {
            requester.control(control).unwrap();
            agree(&requester, 0);
        }
        let dmabuf = udmabuf::create(1).unwrap();
        assert_errno(requester.resolve(0, Source::of(dmabuf.as_fd())), EINVAL);
        if level >= DS_ST_LEVEL {
            refused(&requester, 0, &[Entry::new(0, Source::None)], EINVAL);
        }

        requester.opt_in().unwrap();
        agree(&requester, 0);
        requester.control(ENABLE_EXT).unwrap();
        agree(&requester, ENABLE_EXT);
    }
}

fn table_needs_enable() {
    let requester = Requester::opted_in(INITIATOR_EXT, LITERAL_LEVEL).unwrap();
    requester.control(DEVICE_SPECIFIC).unwrap();
    for flags in [0, EXTENDED] {
        for source in [Source::None, Source::Literal(1), Source::DmaBuf(-1)] {
            refused(&requester, flags, &[Entry::new(0, source)], EINVAL);
        }
    }
    agree(&requester, DEVICE_SPECIFIC);
}

fn extended_needs_its_enable() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE);
    requester.set_one(0, 1, Source::Literal(0x12)).unwrap();
    refused(&requester, EXTENDED, &[literal(1, 0x34)], EINVAL);
    agree(&requester, DEVICE_SPECIFIC | ENABLE);

    // It can never do it, enabled or not.
    let requester = enabled(INITIATOR, LITERAL_LEVEL, ENABLE);
    refused(&requester, EXTENDED, &[literal(1, 0x34)], EOPNOTSUPP);
    requester.control(0).unwrap();
    refused(&requester, EXTENDED, &[literal(1, 0x34)], EOPNOTSUPP);
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    assert_errno(requester.resolve(EXTENDED, source), EOPNOTSUPP);
}

fn both_namespaces() {
    let requester = enabled(INITIATOR_EXT, DS_ST_LEVEL, ENABLE_EXT);
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    requester.set_one(0, 0, source).unwrap();
    requester.set_one(EXTENDED, 1, source).unwrap();
    assert_table(&requester, &[(0, 0xf4), (1, 0xf35a)]);
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
}

fn no_replay() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester
        .set_one(EXTENDED, 5, Source::Literal(0xbef0))
        .unwrap();
    for control in [
        DEVICE_SPECIFIC,
        NO_ST | ENABLE,
        DEVICE_SPECIFIC | ENABLE,
        DEVICE_SPECIFIC | ENABLE_EXT,
    ] {
        requester.control(control).unwrap();
        agree(&requester, control);
        assert_table(&requester, &[(5, 0xbef0)]);
    }
    requester.set_one(0, 5, Source::None).unwrap();
    assert_table(&requester, &[]);
}

fn published_in_one_namespace() {
    let requester = enabled(INITIATOR_EXT, DS_ST_LEVEL, ENABLE_EXT);
    let accelerator = Accelerator::open().unwrap();
    let dmabuf = accelerator.dmabuf.as_fd();
    let source = Source::of(dmabuf);
    let publish = |flags| {
        accelerator
            .vfio
            .publish(Tph {
                dmabuf_fd: dmabuf.as_raw_fd(),
                flags,
                steering_tag_ext: 0x1234,
                steering_tag: 0x56,
                ph: 3,
            })
            .unwrap();
    };
    for (published, flags, other, tag) in [
        (TPH_ST, 0, EXTENDED, 0x56),
        (TPH_ST_EXT, EXTENDED, 0, 0x1234),
    ] {
        publish(published);
        let expected = Resolved {
            steering_tag: tag,
            ph: 3,
        };
        assert_eq!(requester.resolve(flags, source).unwrap(), expected);
        assert_errno(requester.resolve(other, source), EOPNOTSUPP);
        requester.set_one(flags, 2, source).unwrap();
        let (result, applied) = requester.set(other, &[Entry::new(3, source)]);
        assert_errno(result, EOPNOTSUPP);
        assert_eq!(applied, 0);
        assert_table(&requester, &[(2, tag)]);
    }
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
}

fn targets_without_a_tag() {
    let requester = enabled(INITIATOR_EXT, DS_ST_LEVEL, ENABLE_EXT);
    let dmabuf = udmabuf::create(1).unwrap();
    let closed = udmabuf::create(1).unwrap();
    let number = closed.as_raw_fd();
    drop(closed);
    let (pipe, _writer) = io::pipe().unwrap();

    for flags in [0, EXTENDED] {
        for (source, errno) in [
            (Source::of(dmabuf.as_fd()), EOPNOTSUPP),
            (Source::of(pipe.as_fd()), EINVAL),
            (Source::DmaBuf(number), EBADF),
            (Source::DmaBuf(-1), EBADF),
        ] {
            assert_errno(requester.resolve(flags, source), errno);
            let (result, applied) = requester.set(flags, &[Entry::new(0, source)]);
            assert_errno(result, errno);
            assert_eq!(applied, 0);
        }
    }
    assert_table(&requester, &[]);
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
}

fn published_no_more() {
    let requester = enabled(INITIATOR_EXT, DS_ST_LEVEL, ENABLE_EXT);
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    requester.set_one(0, 4, source).unwrap();
    accelerator
        .vfio
        .publish(Tph {
            dmabuf_fd: accelerator.dmabuf.as_raw_fd(),
            ..Tph::default()
        })
        .unwrap();
    assert_errno(requester.resolve(0, source), EOPNOTSUPP);
    assert_table(&requester, &[(4, 0xf4)]);
}

fn resolve_at_each_level() {
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    for level in LEVELS {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        requester.probe(RESOLVE).unwrap();
        let disclosed = |resolved: Resolved| Resolved {
            steering_tag: if level < DS_ST_LEVEL {
                0
            } else {
                resolved.steering_tag
            },
            ..resolved
        };
        // TPH need not be enabled.
        assert_eq!(requester.resolve(0, source).unwrap(), disclosed(PUBLISHED));
        assert_eq!(
            requester.resolve(EXTENDED, source).unwrap(),
            disclosed(PUBLISHED_EXT)
        );
        // No CPU has a tag for a device that is behind no root port.
        let errno = if level < DS_ST_LEVEL {
            EOPNOTSUPP
        } else {
            ENODEV
        };
        assert_errno(requester.resolve(0, Source::Cpu(0)), errno);
    }
}

fn resolve_of_nonsense() {
    for level in LEVELS {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        for source in [
            Source::None,
            Source::Literal(1),
            Source::Raw(4, 0),
            Source::Raw(u32::MAX, 0),
        ] {
            assert_errno(requester.resolve(0, source), EINVAL);
        }
        for flags in [2, 0x8000_0000, u32::MAX] {
            assert_errno(requester.resolve(flags, Source::DmaBuf(-1)), EINVAL);
        }
    }
}

fn table_at_each_level() {
    for level in LEVELS {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        if level < DS_ST_LEVEL {
            // No mode of this device uses the table then.
            assert_errno(requester.probe(ST), EOPNOTSUPP);
            refused(&requester, 0, &[Entry::new(0, Source::None)], EOPNOTSUPP);
            refused(&requester, 0, &[literal(0, 1)], EOPNOTSUPP);
            continue;
        }
        requester.probe(ST).unwrap();
        requester.set_one(0, 0, Source::None).unwrap();
        if level < LITERAL_LEVEL {
            let entries = [Entry::new(0, Source::None), literal(0, 1)];
            refused(&requester, 0, &entries, EOPNOTSUPP);
        } else {
            requester.set_one(0, 0, Source::Literal(1)).unwrap();
            assert_table(&requester, &[(0, 1)]);
        }
    }
}

fn modes_at_each_level() {
    for level in LEVELS {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        let seen = requester.seen(CAPABILITY).unwrap();
        let real = requester.real(CAPABILITY).unwrap();
        // The device has no interrupt vector mode.
        assert_eq!(real, 0b101 | 1 << 8 | 1 << 9 | (ENTRIES - 1) << 16);
        let expected = match level {
            NO_ST_LEVEL => 0b001 | 1 << 8,
            IV_ST_LEVEL => real & !0b110,
            _ => real,
        };
        assert_eq!(seen, expected);

        for mode in [INTERRUPT_VECTOR, DEVICE_SPECIFIC] {
            requester.control(NO_ST).unwrap();
            requester.control(mode | ENABLE).unwrap();
            let selected = match mode {
                DEVICE_SPECIFIC if level >= DS_ST_LEVEL => mode,
                _ => NO_ST,
            };
            agree(&requester, selected | ENABLE);
        }
    }
}

fn parameter() {
    let requester = Requester::open(INITIATOR, DS_ST_LEVEL).unwrap();
    for level in [4, -1, 255, i32::MAX] {
        assert_errno(requester::set_level(level), EINVAL);
        assert_eq!(requester::level().unwrap(), "0");
    }
    for level in LEVELS {
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

fn bounds() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester
        .set_one(0, ENTRIES - 1, Source::Literal(0x7a))
        .unwrap();
    let last = (ENTRIES - 1, 0x7a);
    assert_table(&requester, &[last]);

    for index in [ENTRIES, ENTRIES + 1, 0xffff, 0x1_0000, u32::MAX] {
        refused(&requester, 0, &[literal(0, 1), literal(index, 1)], EINVAL);
    }
    for source in [
        Source::Raw(4, 0),
        Source::Raw(u32::MAX, 0),
        Source::Raw(0, 1),
    ] {
        let entries = [literal(0, 1), Entry::new(1, source)];
        refused(&requester, 0, &entries, EINVAL);
    }
    for flags in [2, 0x8000_0000, u32::MAX] {
        refused(&requester, flags, &[literal(0, 1)], EINVAL);
    }
    let reserved = Entry {
        reserved: 1,
        ..literal(0, 1)
    };
    refused(&requester, 0, &[literal(0, 1), reserved], EINVAL);
    refused(&requester, 0, &[], EINVAL);

    let entries = vec![literal(0, 1); ENTRIES as usize + 1];
    refused(&requester, 0, &entries, EINVAL);
    let good = SetEntries::new(0, &entries[..1]);
    for (request, errno) in [
        (
            SetEntries {
                reserved: 1,
                ..good
            },
            EINVAL,
        ),
        (SetEntries { count: 0, ..good }, EINVAL),
        (
            SetEntries {
                count: u32::MAX,
                ..good
            },
            EINVAL,
        ),
        // Times the size of an entry, this is one.
        (
            SetEntries {
                count: 0x1000_0001,
                ..good
            },
            EINVAL,
        ),
        (SetEntries { entries: 8, ..good }, EFAULT),
        (
            SetEntries {
                entries: u64::MAX - 7,
                ..good
            },
            EFAULT,
        ),
        // The entries come before what else is wrong.
        (
            SetEntries {
                entries: 8,
                flags: 2,
                ..good
            },
            EFAULT,
        ),
    ] {
        let (result, applied) = requester.request(request);
        assert_errno(result, errno);
        assert_eq!(applied, UNTOUCHED);
    }
    assert_table(&requester, &[last]);

    // As many as the table has, the same one each time.
    let (result, applied) = requester.set(0, &entries[..ENTRIES as usize]);
    result.unwrap();
    assert_eq!(applied, ENTRIES);
    assert_table(&requester, &[(0, 1), last]);
}

fn long_payload() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE);
    let entries = [literal(9, 0x21)];
    let mut payload = [0xff; 56];
    payload[0..16].copy_from_slice(&[0; 16]);
    payload[4..8].copy_from_slice(&1u32.to_ne_bytes());
    payload[16..24].copy_from_slice(&(entries.as_ptr().addr() as u64).to_ne_bytes());
    requester
        .vfio
        .feature(ST | SET, HEADER + 56, &mut payload)
        .unwrap();
    assert_eq!(payload[8..12], 1u32.to_ne_bytes());
    assert_eq!(payload[24..], [0xff; 32]);
    assert_table(&requester, &[(9, 0x21)]);
}

fn no_st_mode() {
    let requester = Requester::opted_in(INITIATOR_EXT, LITERAL_LEVEL).unwrap();
    requester.control(NO_ST | ENABLE_EXT).unwrap();
    for flags in [0, EXTENDED] {
        refused(&requester, flags, &[literal(0, 1)], EINVAL);
        refused(&requester, flags, &[Entry::new(0, Source::None)], EINVAL);
    }
    agree(&requester, NO_ST | ENABLE_EXT);
}

fn partial_failure() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester
        .set(0, &[literal(2, 0x22), literal(3, 0x33)])
        .0
        .unwrap();
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    let entries = [
        Entry::new(0, source),
        literal(1, 0x11),
        Entry::new(2, Source::DmaBuf(-1)),
        literal(3, 0x44),
    ];
    let (result, applied) = requester.set(0, &entries);
    assert_errno(result, EBADF);
    assert_eq!(applied, 2);
    assert_table(&requester, &[(0, 0xf4), (1, 0x11), (2, 0x22), (3, 0x33)]);
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);

    // No reference to the buffer is kept: its exporter can be unbound.
    drop(accelerator);
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    pdev.unbind().unwrap();

    // In order, the last one counts.
    let (result, applied) = requester.set(0, &[literal(7, 1), literal(7, 2)]);
    result.unwrap();
    assert_eq!(applied, 2);
    assert_eq!(requester.entry(7).unwrap(), 2);
}

fn cpus() {
    let requester = enabled(INITIATOR_EXT, DS_ST_LEVEL, ENABLE_EXT);
    for flags in [0, EXTENDED] {
        for (cpu, errno) in [(0, ENODEV), (1, ENODEV), (2, EINVAL), (u32::MAX, EINVAL)] {
            assert_errno(requester.resolve(flags, Source::Cpu(cpu)), errno);
            let (result, applied) = requester.set(flags, &[Entry::new(0, Source::Cpu(cpu))]);
            assert_errno(result, errno);
            assert_eq!(applied, 0);
        }
    }
    assert_table(&requester, &[]);
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
}

/// Sets Initiate Function Level Reset.
fn function_level_reset(vfio: &Device) {
    const EXPRESS: u8 = 0x10;
    const DEVCTL: u64 = 8;

    let config = vfio.config().unwrap();
    let mut bytes = [0; 0x100];
    config.read(0, &mut bytes).unwrap();
    let mut at = usize::from(bytes[0x34]);
    while bytes[at] != EXPRESS {
        at = usize::from(bytes[at + 1]);
    }
    let control = [bytes[at + 8], bytes[at + 9] | 0x80];
    config.write(at as u64 + DEVCTL, &control).unwrap();
}

fn resets() {
    let requester = Requester::opted_in(INITIATOR_EXT, LITERAL_LEVEL).unwrap();
    let resets: [&dyn Fn(); 2] = [&|| requester.vfio.reset().unwrap(), &|| {
        function_level_reset(&requester.vfio)
    }];
    for reset in resets {
        requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
        requester
            .set_one(EXTENDED, 3, Source::Literal(0xbef0))
            .unwrap();
        reset();
        agree(&requester, 0);
        // Nothing is replayed. (The model clears its table.)
        assert_table(&requester, &[]);
        refused(&requester, 0, &[literal(0, 1)], EINVAL);
        // Whoever opted in still has.
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        agree(&requester, DEVICE_SPECIFIC | ENABLE);
        requester.set_one(0, 3, Source::Literal(0x12)).unwrap();
        assert_table(&requester, &[(3, 0x12)]);
        requester.set_one(0, 3, Source::None).unwrap();
    }
}

fn next_user() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester
        .set_one(EXTENDED, 3, Source::Literal(0xbef0))
        .unwrap();
    let requester = requester.reopen().unwrap();
    agree(&requester, 0);
    assert_table(&requester, &[]);
    requester.control(ENABLE).unwrap();
    agree(&requester, 0);
    refused(&requester, 0, &[literal(0, 1)], EINVAL);
}

fn closed() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester
        .set_one(EXTENDED, 3, Source::Literal(0xbef0))
        .unwrap();
    requester.vfio.close().unwrap();
    assert_eq!(requester.real(CONTROL).unwrap(), 0);
    assert_table(&requester, &[]);
}

/// Sets the power state in the device's power management capability.
fn set_power_state(vfio: &Device, state: u8) {
    const POWER_MANAGEMENT: u8 = 1;

    let config = vfio.config().unwrap();
    let mut bytes = [0; 0x100];
    config.read(0, &mut bytes).unwrap();
    let mut at = usize::from(bytes[0x34]);
    while bytes[at] != POWER_MANAGEMENT {
        at = usize::from(bytes[at + 1]);
    }
    config
        .write(at as u64 + 4, &[bytes[at + 4] & !3 | state])
        .unwrap();
}

fn asleep() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester.set_one(0, 1, Source::Literal(0x11)).unwrap();

    set_power_state(&requester.vfio, 3);
    requester.set_one(0, 2, Source::Literal(0x22)).unwrap();
    assert_table(&requester, &[(1, 0x11), (2, 0x22)]);
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);

    set_power_state(&requester.vfio, 3);
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    agree(&requester, DEVICE_SPECIFIC | ENABLE);

    // A reset while it is asleep.
    set_power_state(&requester.vfio, 3);
    function_level_reset(&requester.vfio);
    agree(&requester, 0);
}

fn low_power() {
    const LOW_POWER_ENTRY: u32 = 3;
    const LOW_POWER_EXIT: u32 = 5;

    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    requester.set_one(0, 1, Source::Literal(0x11)).unwrap();
    requester
        .vfio
        .feature(LOW_POWER_ENTRY | SET, HEADER, &mut [])
        .unwrap();
    requester.set_one(0, 2, Source::Literal(0x22)).unwrap();
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    requester
        .vfio
        .feature(LOW_POWER_EXIT | SET, HEADER, &mut [])
        .unwrap();
    assert_table(&requester, &[(1, 0x11), (2, 0x22)]);
    agree(&requester, DEVICE_SPECIFIC | ENABLE);
}

/// Ends the threads that look at it, also if the test fails.
struct Done(AtomicBool);

impl Done {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct SetDone<'a>(&'a Done);

impl Drop for SetDone<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

fn everything_at_once() {
    const ROUNDS: u32 = 200;

    let requester = Requester::opted_in(INITIATOR_EXT, LITERAL_LEVEL).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let dmabuf = Source::of(accelerator.dmabuf.as_fd());
    let done = Done(AtomicBool::new(false));
    thread::scope(|scope| {
        let _set_done = SetDone(&done);
        scope.spawn(|| {
            while !done.is_set() {
                let entries = [literal(1, 0x11), Entry::new(2, dmabuf), literal(3, 0x33)];
                match requester.set(0, &entries) {
                    (Ok(()), applied) => assert_eq!(applied, 3),
                    // It was off.
                    (error, applied) => {
                        assert_errno(error, EINVAL);
                        assert_eq!(applied, UNTOUCHED);
                    }
                }
            }
        });
        scope.spawn(|| {
            while !done.is_set() {
                for enable in [ENABLE, ENABLE_EXT, 0] {
                    requester.control(DEVICE_SPECIFIC | enable).unwrap();
                }
                set_power_state(&requester.vfio, 3);
            }
        });
        scope.spawn(|| {
            while !done.is_set() {
                assert_eq!(requester.resolve(0, dmabuf).unwrap(), PUBLISHED);
                requester.seen(CONTROL).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            requester.vfio.reset().unwrap();
        }
    });

    let control = requester.seen(CONTROL).unwrap();
    agree(&requester, control);
    requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
    agree(&requester, DEVICE_SPECIFIC | ENABLE_EXT);
    requester
        .set_one(EXTENDED, 5, Source::Literal(0xbef0))
        .unwrap();
    assert_eq!(requester.entry(5).unwrap(), 0xbef0);
}

fn literals() {
    let requester = enabled(INITIATOR_EXT, LITERAL_LEVEL, ENABLE_EXT);
    for tag in [0, 1, 0xff] {
        requester.set_one(0, 8, Source::Literal(tag)).unwrap();
        assert_eq!(u32::from(requester.entry(8).unwrap()), tag);
    }
    for tag in [0xffff, 0x100, 0xff, 0] {
        requester
            .set_one(EXTENDED, 8, Source::Literal(tag))
            .unwrap();
        assert_eq!(u32::from(requester.entry(8).unwrap()), tag);
    }
    requester.set_one(0, 8, Source::Literal(0x5a)).unwrap();
    for tag in [0x100, 0x1_0000, u32::MAX] {
        refused(&requester, 0, &[literal(8, tag)], EINVAL);
    }
    for tag in [0x1_0000, u32::MAX] {
        refused(&requester, EXTENDED, &[literal(8, tag)], EINVAL);
    }
    assert_eq!(requester.entry(8).unwrap(), 0x5a);
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
    let requester = Requester::opted_in(INITIATOR_EXT, DS_ST_LEVEL).unwrap();
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
                agree(&requester, old);
                write(&requester, value);
                let end = requester.seen(CONTROL).unwrap();
                agree(&requester, end);
                end
            });
            assert!(
                ends.iter().all(|end| *end == ends[0]),
                "{old:x} {value:x} {ends:x?}"
            );
        }
    }
}

fn table_that_is_not_shown() {
    for level in LEVELS {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        if level < DS_ST_LEVEL {
            // As something else than the kernel would have left it.
            requester
                .pdev
                .write_config(requester.offset(TABLE), &[0x77, 0])
                .unwrap();
        } else {
            let accelerator = Accelerator::open().unwrap();
            let source = Source::of(accelerator.dmabuf.as_fd());
            requester.set_one(0, 0, source).unwrap();
        }
        let seen = requester.seen(TABLE).unwrap();
        assert_eq!(seen, if level < DS_ST_LEVEL { 0 } else { 0xf4 });
    }
}

/// The HINT register of the initiator: the tag of entry 0 of its ST table, 8 bits of it, PH 2.
const FROM_TABLE: u32 = 1 << 24 | 1 << 20 | 2 << 16;
/// This tag, 8 bits.
const ADD: u32 = 1 << 20 | 2 << 16 | 0xf4;
const PAGE: u64 = 4096;
const MEMORY: u32 = 2;
const SOURCE: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Lets the device write [`SOURCE`] into the exported page with this hint. Returns whether that was
/// dropped, and whether what arrived was added, as the tag means, and not stored.
fn written(requester: &Requester, accelerator: &Accelerator, hint: u32) -> (bool, bool) {
    let memory = accelerator.vfio.region(MEMORY).unwrap();
    memory.write_dwords(0, &SOURCE).unwrap();
    memory.write_dwords(PAGE, &[0x100; 8]).unwrap();
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    let bar = pdev.bar(MEMORY as usize).unwrap();
    let dropped = requester.copy(bar, bar + PAGE, 32, hint).unwrap();
    let after = memory.read_dwords(PAGE).unwrap();
    if after == SOURCE {
        (dropped, false)
    } else {
        assert_eq!(after, SOURCE.map(|dword| 0x100 + dword));
        (dropped, true)
    }
}

fn on_the_wire() {
    let requester = enabled(INITIATOR, DS_ST_LEVEL, ENABLE);
    let accelerator = Accelerator::open().unwrap();
    assert_eq!(
        written(&requester, &accelerator, FROM_TABLE),
        (false, false)
    );
    let source = Source::of(accelerator.dmabuf.as_fd());
    requester.set_one(0, 0, source).unwrap();
    assert_eq!(written(&requester, &accelerator, FROM_TABLE), (false, true));
    // The user knows it, and in this mode the device takes it.
    assert_eq!(requester.resolve(0, source).unwrap(), PUBLISHED);
    assert_eq!(written(&requester, &accelerator, ADD), (false, true));
    requester.control(DEVICE_SPECIFIC).unwrap();
    assert_eq!(written(&requester, &accelerator, FROM_TABLE), (true, false));
}

fn no_tag_at_the_lowest_level() {
    for id in [INITIATOR, INITIATOR_EXT] {
        let accelerator = Accelerator::open().unwrap();
        let requester = Requester::open(id, NO_ST_LEVEL).unwrap();
        let no_tag = || {
            for control in [
                ENABLE,
                ENABLE_EXT,
                DEVICE_SPECIFIC | ENABLE_EXT,
                7 | ENABLE_EXT,
            ] {
                requester.control(control).unwrap();
                requester.write(TABLE, &[0xf4, 0]).unwrap();
                let source = Source::of(accelerator.dmabuf.as_fd());
                for source in [source, Source::Literal(0xf4)] {
                    refused(&requester, 0, &[Entry::new(0, source)], EOPNOTSUPP);
                }
                for hint in [FROM_TABLE, ADD] {
                    assert_eq!(written(&requester, &accelerator, hint), (true, false));
                }
                assert_table(&requester, &[]);
            }
        };
        no_tag();
        requester.opt_in().unwrap();
        no_tag();
        requester.vfio.reset().unwrap();
        no_tag();
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
            "vfio case 9: nothing is written before the opt-in",
            Box::new(opt_in_comes_first),
        ),
        (
            "vfio cases 10 and 11: the table while TPH is off",
            Box::new(table_needs_enable),
        ),
        (
            "vfio case 12: Extended while only 8-bit is enabled",
            Box::new(extended_needs_its_enable),
        ),
        (
            "vfio case 14: both namespaces in one table",
            Box::new(both_namespaces),
        ),
        (
            "vfio case 15: entries stay, nothing is replayed",
            Box::new(no_replay),
        ),
        (
            "vfio case 16: one namespace is published",
            Box::new(published_in_one_namespace),
        ),
        (
            "vfio case 17: targets without a tag",
            Box::new(targets_without_a_tag),
        ),
        (
            "vfio case 18: published no more",
            Box::new(published_no_more),
        ),
        (
            "vfio case 19: RESOLVE at each level",
            Box::new(resolve_at_each_level),
        ),
        (
            "vfio case 19: RESOLVE of nonsense",
            Box::new(resolve_of_nonsense),
        ),
        (
            "vfio case 20: ST at each level",
            Box::new(table_at_each_level),
        ),
        (
            "vfio case 21: modes at each level",
            Box::new(modes_at_each_level),
        ),
        ("vfio case 22: the parameter", Box::new(parameter)),
        (
            "vfio case 23: bounds and undefined values",
            Box::new(bounds),
        ),
        ("vfio: a longer payload", Box::new(long_payload)),
        ("vfio case 25: No ST mode", Box::new(no_st_mode)),
        ("vfio case 26: an entry fails", Box::new(partial_failure)),
        (
            "vfio case 27: CPUs, of an integrated endpoint",
            Box::new(cpus),
        ),
        ("vfio case 28: resets", Box::new(resets)),
        ("vfio case 29: the next user", Box::new(next_user)),
        ("vfio case 29: closed", Box::new(closed)),
        ("vfio case 30: the device is asleep", Box::new(asleep)),
        ("vfio case 30: the device is suspended", Box::new(low_power)),
        (
            "vfio case 30: everything at once",
            Box::new(everything_at_once),
        ),
        (
            "vfio case 31: tags of the user's choice",
            Box::new(literals),
        ),
        ("vfio case 32: the width of a write", Box::new(widths)),
        (
            "vfio case 33: the table is not shown",
            Box::new(table_that_is_not_shown),
        ),
        ("vfio: the tag is on the wire", Box::new(on_the_wire)),
        (
            "vfio: no tag at the lowest level",
            Box::new(no_tag_at_the_lowest_level),
        ),
    ])
}
