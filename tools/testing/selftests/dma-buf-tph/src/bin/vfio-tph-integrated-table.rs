// SPDX-License-Identifier: GPL-2.0
//! Tests of a requester that user space owns: `VFIO_DEVICE_FEATURE_TPH_RESOLVE` and `_TPH_ST`.
//!
//! The ST table is read from the device's real configuration space, and what it is good for is seen
//! from what the accelerator makes of a write. Here all devices are integrated endpoints, so no CPU
//! has a tag for them: `vfio-tph-root-port` tests that.

use dma_buf_tph::accelerator::{self, Accelerator};
use dma_buf_tph::pci::{self, CompleterType, INITIATOR, INITIATOR_EXT};
use dma_buf_tph::requester::{
    DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, ENTRIES, EXTENDED, Entry, FROM_TABLE, FROM_USER, HEADER,
    NO_ST, RESOLVE, Requester, Resolved, ST, SetEntries, Source, TABLE, UNTOUCHED, Written, level,
};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::udmabuf;
use dma_buf_tph::vfio::{SET, TPH_ST, TPH_ST_EXT, Tph};
use libc::{EBADF, EFAULT, EINVAL, ENODEV, EOPNOTSUPP};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

/// What the lab's accelerators publish.
const PUBLISHED: Resolved = Resolved {
    steering_tag: accelerator::PUBLISHED.steering_tag as u16,
    ph: accelerator::PUBLISHED.ph,
};
const PUBLISHED_EXT: Resolved = Resolved {
    steering_tag: accelerator::PUBLISHED.steering_tag_ext,
    ph: accelerator::PUBLISHED.ph,
};

fn resolve_at_each_level() {
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    for level in level::ALL {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        requester.probe(RESOLVE).unwrap();
        let disclosed = |resolved: Resolved| Resolved {
            steering_tag: if level < level::DS_ST {
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
        let errno = if level < level::DS_ST {
            EOPNOTSUPP
        } else {
            ENODEV
        };
        assert_errno(requester.resolve(0, Source::Cpu(0)), errno);
    }
}

fn resolve_of_nonsense() {
    for level in level::ALL {
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
    for level in level::ALL {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        if level < level::DS_ST {
            // No mode of this device uses the table then.
            assert_errno(requester.probe(ST), EOPNOTSUPP);
            requester.assert_refused(0, &[Entry::new(0, Source::None)], EOPNOTSUPP);
            requester.assert_refused(0, &[Entry::literal(0, 1)], EOPNOTSUPP);
            continue;
        }
        requester.probe(ST).unwrap();
        requester.set_one(0, 0, Source::None).unwrap();
        if level < level::LITERAL {
            let entries = [Entry::new(0, Source::None), Entry::literal(0, 1)];
            requester.assert_refused(0, &entries, EOPNOTSUPP);
        } else {
            requester.set_one(0, 0, Source::Literal(1)).unwrap();
            requester.assert_table(&[(0, 1)]);
        }
    }
}

fn table_needs_enable() {
    let requester = Requester::opted_in(INITIATOR_EXT, level::LITERAL).unwrap();
    requester.control(DEVICE_SPECIFIC).unwrap();
    for flags in [0, EXTENDED] {
        for source in [Source::None, Source::Literal(1), Source::DmaBuf(-1)] {
            requester.assert_refused(flags, &[Entry::new(0, source)], EINVAL);
        }
    }
    requester.assert_control(DEVICE_SPECIFIC);
}

fn extended_needs_its_enable() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE).unwrap();
    requester.set_one(0, 1, Source::Literal(0x12)).unwrap();
    requester.assert_refused(EXTENDED, &[Entry::literal(1, 0x34)], EINVAL);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE);

    // It can never do it, enabled or not.
    let requester = Requester::enabled(INITIATOR, level::LITERAL, ENABLE).unwrap();
    requester.assert_refused(EXTENDED, &[Entry::literal(1, 0x34)], EOPNOTSUPP);
    requester.control(0).unwrap();
    requester.assert_refused(EXTENDED, &[Entry::literal(1, 0x34)], EOPNOTSUPP);
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    assert_errno(requester.resolve(EXTENDED, source), EOPNOTSUPP);
}

fn no_st_mode() {
    let requester = Requester::opted_in(INITIATOR_EXT, level::LITERAL).unwrap();
    requester.control(NO_ST | ENABLE_EXT).unwrap();
    for flags in [0, EXTENDED] {
        requester.assert_refused(flags, &[Entry::literal(0, 1)], EINVAL);
        requester.assert_refused(flags, &[Entry::new(0, Source::None)], EINVAL);
    }
    requester.assert_control(NO_ST | ENABLE_EXT);
}

fn both_namespaces() {
    let requester = Requester::enabled(INITIATOR_EXT, level::DS_ST, ENABLE_EXT).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    requester.set_one(0, 0, source).unwrap();
    requester.set_one(EXTENDED, 1, source).unwrap();
    requester.assert_table(&[(0, 0xf4), (1, 0xf35a)]);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);
}

fn no_replay() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
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
        requester.assert_control(control);
        requester.assert_table(&[(5, 0xbef0)]);
    }
    requester.set_one(0, 5, Source::None).unwrap();
    requester.assert_table(&[]);
}

fn published_in_one_namespace() {
    let requester = Requester::enabled(INITIATOR_EXT, level::DS_ST, ENABLE_EXT).unwrap();
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
        requester.assert_table(&[(2, tag)]);
    }
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);
}

fn published_no_more() {
    let requester = Requester::enabled(INITIATOR_EXT, level::DS_ST, ENABLE_EXT).unwrap();
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
    requester.assert_table(&[(4, 0xf4)]);
}

fn targets_without_a_tag() {
    let requester = Requester::enabled(INITIATOR_EXT, level::DS_ST, ENABLE_EXT).unwrap();
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
    requester.assert_table(&[]);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);
}

fn cpus() {
    let requester = Requester::enabled(INITIATOR_EXT, level::DS_ST, ENABLE_EXT).unwrap();
    for flags in [0, EXTENDED] {
        for (cpu, errno) in [(0, ENODEV), (1, ENODEV), (2, EINVAL), (u32::MAX, EINVAL)] {
            assert_errno(requester.resolve(flags, Source::Cpu(cpu)), errno);
            let (result, applied) = requester.set(flags, &[Entry::new(0, Source::Cpu(cpu))]);
            assert_errno(result, errno);
            assert_eq!(applied, 0);
        }
    }
    requester.assert_table(&[]);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);
}

fn literals() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
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
        requester.assert_refused(0, &[Entry::literal(8, tag)], EINVAL);
    }
    for tag in [0x1_0000, u32::MAX] {
        requester.assert_refused(EXTENDED, &[Entry::literal(8, tag)], EINVAL);
    }
    assert_eq!(requester.entry(8).unwrap(), 0x5a);
}

fn bounds() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
    requester
        .set_one(0, ENTRIES - 1, Source::Literal(0x7a))
        .unwrap();
    let last = (ENTRIES - 1, 0x7a);
    requester.assert_table(&[last]);

    for index in [ENTRIES, ENTRIES + 1, 0xffff, 0x1_0000, u32::MAX] {
        requester.assert_refused(0, &[Entry::literal(0, 1), Entry::literal(index, 1)], EINVAL);
    }
    for source in [
        Source::Raw(4, 0),
        Source::Raw(u32::MAX, 0),
        Source::Raw(0, 1),
    ] {
        let entries = [Entry::literal(0, 1), Entry::new(1, source)];
        requester.assert_refused(0, &entries, EINVAL);
    }
    for flags in [2, 0x8000_0000, u32::MAX] {
        requester.assert_refused(flags, &[Entry::literal(0, 1)], EINVAL);
    }
    let reserved = Entry {
        reserved: 1,
        ..Entry::literal(0, 1)
    };
    requester.assert_refused(0, &[Entry::literal(0, 1), reserved], EINVAL);
    requester.assert_refused(0, &[], EINVAL);

    let entries = vec![Entry::literal(0, 1); ENTRIES as usize + 1];
    requester.assert_refused(0, &entries, EINVAL);
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
    requester.assert_table(&[last]);

    // As many as the table has, the same one each time.
    let (result, applied) = requester.set(0, &entries[..ENTRIES as usize]);
    result.unwrap();
    assert_eq!(applied, ENTRIES);
    requester.assert_table(&[(0, 1), last]);
}

fn long_payload() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE).unwrap();
    let entries = [Entry::literal(9, 0x21)];
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
    requester.assert_table(&[(9, 0x21)]);
}

fn partial_failure() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
    requester
        .set(0, &[Entry::literal(2, 0x22), Entry::literal(3, 0x33)])
        .0
        .unwrap();
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    let entries = [
        Entry::new(0, source),
        Entry::literal(1, 0x11),
        Entry::new(2, Source::DmaBuf(-1)),
        Entry::literal(3, 0x44),
    ];
    let (result, applied) = requester.set(0, &entries);
    assert_errno(result, EBADF);
    assert_eq!(applied, 2);
    requester.assert_table(&[(0, 0xf4), (1, 0x11), (2, 0x22), (3, 0x33)]);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);

    // No reference to the buffer is kept: its exporter can be unbound.
    drop(accelerator);
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    pdev.unbind().unwrap();

    // In order, the last one counts.
    let (result, applied) = requester.set(0, &[Entry::literal(7, 1), Entry::literal(7, 2)]);
    result.unwrap();
    assert_eq!(applied, 2);
    assert_eq!(requester.entry(7).unwrap(), 2);
}

fn table_that_is_not_shown() {
    for level in level::ALL {
        let requester = Requester::opted_in(INITIATOR_EXT, level).unwrap();
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        if level < level::DS_ST {
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
        assert_eq!(seen, if level < level::DS_ST { 0 } else { 0xf4 });
    }
}

fn on_the_wire() {
    let requester = Requester::enabled(INITIATOR, level::DS_ST, ENABLE).unwrap();
    let accelerator = Accelerator::open().unwrap();
    assert_eq!(
        requester.write_to(&accelerator, FROM_TABLE).unwrap(),
        Written::Stored
    );
    let source = Source::of(accelerator.dmabuf.as_fd());
    requester.set_one(0, 0, source).unwrap();
    assert_eq!(
        requester.write_to(&accelerator, FROM_TABLE).unwrap(),
        Written::Added
    );
    // The user knows it, and in this mode the device takes it.
    assert_eq!(requester.resolve(0, source).unwrap(), PUBLISHED);
    assert_eq!(
        requester.write_to(&accelerator, FROM_USER).unwrap(),
        Written::Added
    );
    requester.control(DEVICE_SPECIFIC).unwrap();
    assert_eq!(
        requester.write_to(&accelerator, FROM_TABLE).unwrap(),
        Written::Dropped
    );
}

fn main() -> ExitCode {
    tap::run(vec![
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
            "vfio cases 10 and 11: the table while TPH is off",
            Box::new(table_needs_enable),
        ),
        (
            "vfio case 12: Extended while only 8-bit is enabled",
            Box::new(extended_needs_its_enable),
        ),
        ("vfio case 25: No ST mode", Box::new(no_st_mode)),
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
            "vfio case 18: published no more",
            Box::new(published_no_more),
        ),
        (
            "vfio case 17: targets without a tag",
            Box::new(targets_without_a_tag),
        ),
        (
            "vfio case 27: CPUs, of an integrated endpoint",
            Box::new(cpus),
        ),
        (
            "vfio case 31: tags of the user's choice",
            Box::new(literals),
        ),
        (
            "vfio case 23: bounds and undefined values",
            Box::new(bounds),
        ),
        ("vfio: a longer payload", Box::new(long_payload)),
        ("vfio case 26: an entry fails", Box::new(partial_failure)),
        (
            "vfio case 33: the table is not shown",
            Box::new(table_that_is_not_shown),
        ),
        ("vfio: the tag is on the wire", Box::new(on_the_wire)),
    ])
}
