// SPDX-License-Identifier: GPL-2.0
//! Tests of `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`, and of what importers then see.
//!
//! What is published is asked for by an import: the initiators' driver tells which hint it put on
//! its writes. The 8-bit namespace is seen by the standard initiator, the 16-bit one by the
//! Extended initiator.

use dma_buf_tph::feature::{self, feature};
use dma_buf_tph::initiator::{self, Hint, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::udmabuf;
use dma_buf_tph::vfio::{Device, GET, PROBE, SET, TPH_ST, TPH_ST_EXT, Tph};
use libc::{EBADF, EBUSY, EFAULT, EINVAL, ENODEV, ENOENT, ENOTTY};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};

const BAR: u32 = 2;
/// A feature that does not exist: the highest number that fits.
const UNKNOWN: u32 = 0xffff;
const PAGE: u64 = 4096;
/// Size of the header of `struct vfio_device_feature`.
const HEADER: u32 = 8;
/// Size of the header with its payload.
const ARGSZ: u32 = HEADER + 12;

/// A valid request, and what it publishes.
const PUBLISHED: Tph = Tph {
    dmabuf_fd: -1,
    flags: TPH_ST | TPH_ST_EXT,
    steering_tag_ext: 0x0034,
    steering_tag: 0x12,
    ph: 1,
};

fn hint(req_type: u8, steering_tag: u16, ph: u8) -> Option<Hint> {
    Some(Hint {
        req_type,
        steering_tag,
        ph,
    })
}

/// Writes one dword at the start of `dmabuf` and returns the hint on the write.
fn ask(node: &str, dmabuf: BorrowedFd<'_>) -> io::Result<Option<Hint>> {
    let initiator = Initiator::open(node)?;
    initiator.import(dmabuf)?;
    initiator.write(0, &[0; 4])
}

/// What both namespaces of `dmabuf` publish: the 8-bit one, then the 16-bit one.
fn asked(dmabuf: &OwnedFd) -> [Option<Hint>; 2] {
    [initiator::STANDARD, initiator::EXTENDED].map(|node| ask(node, dmabuf.as_fd()).unwrap())
}

/// An accelerator that user space owns.
struct Accelerator {
    vfio: Device,
}

impl Accelerator {
    fn open() -> io::Result<Self> {
        let vfio = Device::open(&pci::Device::accelerator(CompleterType::ExtTph)?)?;
        vfio.set_memory_enable(true)?;
        Ok(Self { vfio })
    }

    fn export(&self) -> OwnedFd {
        self.vfio.export(BAR, 0, PAGE).unwrap()
    }

    fn publish(&self, dmabuf: &OwnedFd, tph: Tph) -> io::Result<()> {
        self.vfio.publish(Tph {
            dmabuf_fd: dmabuf.as_raw_fd(),
            ..tph
        })
    }

    /// What both namespaces of `dmabuf` publish, if anything tells: importers ask, or else GET
    /// does.
    fn observed(&self, dmabuf: &OwnedFd) -> Option<[Option<Hint>; 2]> {
        if Initiator::has_driver().unwrap() {
            return Some(asked(dmabuf));
        }
        if !feature().has_get {
            return None;
        }
        let tph = self.vfio.published(dmabuf.as_raw_fd()).unwrap();
        let tags = [
            (TPH_ST, initiator::REQ_TPH, tph.steering_tag.into()),
            (TPH_ST_EXT, initiator::REQ_EXT, tph.steering_tag_ext),
        ];
        Some(tags.map(|(flag, req_type, tag)| {
            hint(req_type, tag, tph.ph).filter(|_| tph.flags & flag != 0)
        }))
    }

    fn published(&self, dmabuf: &OwnedFd) -> [Option<Hint>; 2] {
        self.observed(dmabuf)
            .unwrap_or_else(|| feature::lacks("an importer for the lab's initiators, and GET"))
    }

    /// Publishes [`PUBLISHED`], runs `test`, and checks that this is still what is published.
    fn unchanged_by(&self, test: impl FnOnce(&OwnedFd)) {
        let dmabuf = self.export();
        self.publish(&dmabuf, PUBLISHED).unwrap();
        test(&dmabuf);
        match self.observed(&dmabuf) {
            Some(observed) => assert_eq!(
                observed,
                [
                    hint(initiator::REQ_TPH, 0x12, 1),
                    hint(initiator::REQ_EXT, 0x34, 1)
                ]
            ),
            None => feature::lacks(
                "an importer for the lab's initiators, and GET: only the answer itself was seen",
            ),
        }
    }

    fn feature(&self, flags: u32, argsz: u32) -> io::Result<i32> {
        // Were it looked at, it would be refused.
        self.vfio
            .feature(feature().number | flags, argsz, &mut [0xff; 12])
    }

    fn probe_succeeds(&self) {
        self.feature(PROBE, HEADER).unwrap();
    }

    fn probe_looks_at_no_payload(&self) {
        self.unchanged_by(|_| {
            self.feature(PROBE | SET, ARGSZ).unwrap();
        });
    }

    fn probe_of_get(&self) {
        for operations in [GET, GET | SET] {
            let probe = self.feature(PROBE | operations, HEADER);
            if feature().has_get {
                probe.unwrap();
            } else {
                assert_errno(probe, EINVAL);
            }
        }
    }

    fn one_operation_is_needed(&self) {
        self.unchanged_by(|_| {
            assert_errno(self.feature(0, ARGSZ), EINVAL);
            assert_errno(self.feature(GET | SET, ARGSZ), EINVAL);
            if !feature().has_get {
                assert_errno(self.feature(GET, ARGSZ), EINVAL);
            }
        });
    }

    fn short_payload(&self) {
        self.unchanged_by(|_| assert_errno(self.feature(SET, ARGSZ - 1), EINVAL));
    }

    fn long_payload(&self) {
        let dmabuf = self.export();
        let mut payload = [0xff; 56];
        payload[0..4].copy_from_slice(&dmabuf.as_raw_fd().to_ne_bytes());
        payload[4..8].copy_from_slice(&TPH_ST.to_ne_bytes());
        payload[8..12].copy_from_slice(&[0, 0, 0x5a, 3]);
        self.vfio
            .feature(feature().number | SET, HEADER + 56, &mut payload)
            .unwrap();
        assert_eq!(
            self.published(&dmabuf),
            [hint(initiator::REQ_TPH, 0x5a, 3), None]
        );
    }

    fn unmapped_payload(&self) {
        self.unchanged_by(|_| {
            let ret = self
                .vfio
                .feature_unmapped_payload(feature().number | SET, ARGSZ);
            assert_errno(ret, EFAULT);
        });
    }

    fn undefined_flags(&self) {
        self.unchanged_by(|dmabuf| {
            for flags in [4, 0x8000_0001, u32::MAX] {
                let tph = Tph { flags, ..PUBLISHED };
                assert_errno(self.publish(dmabuf, tph), EINVAL);
            }
        });
    }

    fn undefined_ph(&self) {
        self.unchanged_by(|dmabuf| {
            for ph in [4, 0x80, 0xff] {
                for flags in [0, TPH_ST] {
                    let tph = Tph {
                        flags,
                        ph,
                        ..PUBLISHED
                    };
                    assert_errno(self.publish(dmabuf, tph), EINVAL);
                }
            }
        });
    }

    fn bad_fd(&self) {
        let closed = self.export();
        let number = closed.as_raw_fd();
        drop(closed);
        for dmabuf_fd in [-1, number] {
            let tph = Tph {
                dmabuf_fd,
                ..PUBLISHED
            };
            assert_errno(self.vfio.publish(tph), EBADF);
        }
    }

    fn fields_are_checked_before_the_fd(&self) {
        let tph = Tph {
            dmabuf_fd: -1,
            ph: 4,
            ..PUBLISHED
        };
        assert_errno(self.vfio.publish(tph), EINVAL);
    }

    fn no_dmabuf(&self) {
        let (reader, _writer) = io::pipe().unwrap();
        assert_errno(self.publish(&reader.into(), PUBLISHED), EINVAL);
    }

    fn foreign_exporter(&self) {
        let dmabuf = udmabuf::create(1).unwrap();
        assert_errno(self.publish(&dmabuf, PUBLISHED), EINVAL);
    }

    fn nothing_at_first(&self) {
        assert_eq!(self.published(&self.export()), [None, None]);
    }

    fn standard_only(&self) {
        let dmabuf = self.export();
        let tph = Tph {
            flags: TPH_ST,
            steering_tag: 0xf0,
            steering_tag_ext: 0xbef0,
            ph: 2,
            ..PUBLISHED
        };
        self.publish(&dmabuf, tph).unwrap();
        assert_eq!(
            self.published(&dmabuf),
            [hint(initiator::REQ_TPH, 0xf0, 2), None]
        );
    }

    fn both_namespaces(&self) {
        let dmabuf = self.export();
        self.publish(&dmabuf, PUBLISHED).unwrap();
        assert_eq!(
            self.published(&dmabuf),
            [
                hint(initiator::REQ_TPH, 0x12, 1),
                hint(initiator::REQ_EXT, 0x34, 1)
            ]
        );
    }

    fn set_replaces_everything(&self) {
        let dmabuf = self.export();
        self.publish(&dmabuf, PUBLISHED).unwrap();
        let tph = Tph {
            flags: TPH_ST,
            ..PUBLISHED
        };
        self.publish(&dmabuf, tph).unwrap();
        assert_eq!(
            self.published(&dmabuf),
            [hint(initiator::REQ_TPH, 0x12, 1), None]
        );
    }

    fn no_flags_clear_everything(&self) {
        let dmabuf = self.export();
        self.publish(&dmabuf, PUBLISHED).unwrap();
        let tph = Tph {
            flags: 0,
            ..PUBLISHED
        };
        self.publish(&dmabuf, tph).unwrap();
        assert_eq!(self.published(&dmabuf), [None, None]);
    }

    fn zero_is_a_tag(&self) {
        let dmabuf = self.export();
        let tph = Tph {
            flags: TPH_ST | TPH_ST_EXT,
            ..Tph::default()
        };
        self.publish(&dmabuf, tph).unwrap();
        assert_eq!(
            self.published(&dmabuf),
            [
                hint(initiator::REQ_TPH, 0, 0),
                hint(initiator::REQ_EXT, 0, 0)
            ]
        );
    }

    fn get_returns_what_is_published(&self) {
        let dmabuf = self.export();
        let fd = dmabuf.as_raw_fd();
        let nothing = Tph {
            dmabuf_fd: fd,
            ..Tph::default()
        };
        assert_eq!(self.vfio.published(fd).unwrap(), nothing);
        self.publish(&dmabuf, PUBLISHED).unwrap();
        let expected = Tph {
            dmabuf_fd: fd,
            ..PUBLISHED
        };
        assert_eq!(self.vfio.published(fd).unwrap(), expected);
        let standard = Tph {
            flags: TPH_ST,
            ..expected
        };
        self.publish(&dmabuf, standard).unwrap();
        let expected = Tph {
            steering_tag_ext: 0,
            ..standard
        };
        assert_eq!(self.vfio.published(fd).unwrap(), expected);
        let clear = Tph {
            flags: 0,
            ..PUBLISHED
        };
        self.publish(&dmabuf, clear).unwrap();
        assert_eq!(self.vfio.published(fd).unwrap(), nothing);
    }

    fn get_refuses_bad_requests(&self) {
        if !feature().has_get {
            feature::lacks("GET");
        }
        let foreign = udmabuf::create(1).unwrap();
        assert_errno(self.vfio.published(foreign.as_raw_fd()), EINVAL);
        assert_errno(self.vfio.published(-2), EBADF);
        let mut short = [0xff; 11];
        let ret = self
            .vfio
            .feature(feature().number | GET, ARGSZ - 1, &mut short);
        assert_errno(ret, EINVAL);
        let unmapped = self
            .vfio
            .feature_unmapped_payload(feature().number | GET, ARGSZ);
        assert_errno(unmapped, EFAULT);
    }

    fn every_ph(&self) {
        let dmabuf = self.export();
        for ph in 0..4 {
            let tph = Tph { ph, ..PUBLISHED };
            self.publish(&dmabuf, tph).unwrap();
            assert_eq!(
                self.published(&dmabuf),
                [
                    hint(initiator::REQ_TPH, 0x12, ph),
                    hint(initiator::REQ_EXT, 0x34, ph)
                ]
            );
        }
    }

    fn revoked_keeps_the_tuple(&self) {
        self.unchanged_by(|dmabuf| {
            self.vfio.set_memory_enable(false).unwrap();
            let refused = ask(initiator::STANDARD, dmabuf.as_fd());
            let set = self.publish(dmabuf, PUBLISHED);
            self.vfio.set_memory_enable(true).unwrap();
            assert_errno(refused, ENODEV);
            set.unwrap();
        });
    }

    fn revoked_while_attached(&self) {
        let dmabuf = self.export();
        self.publish(&dmabuf, PUBLISHED).unwrap();
        let initiator = Initiator::open(initiator::STANDARD).unwrap();
        initiator.import(dmabuf.as_fd()).unwrap();
        initiator.write(0, &[0; 4]).unwrap();
        self.vfio.set_memory_enable(false).unwrap();
        let refused = initiator.write(0, &[0; 4]);
        self.vfio.set_memory_enable(true).unwrap();
        assert_errno(refused, ENODEV);
        assert_eq!(
            initiator.write(0, &[0; 4]).unwrap(),
            hint(initiator::REQ_TPH, 0x12, 1)
        );
    }

    fn invalidation_ends_a_hint(&self) {
        let dmabuf = self.export();
        self.publish(&dmabuf, PUBLISHED).unwrap();
        let initiator = Initiator::open(initiator::STANDARD).unwrap();
        initiator.import(dmabuf.as_fd()).unwrap();
        let old = initiator.write(0, &[0; 4]).unwrap();
        assert_eq!(old, hint(initiator::REQ_TPH, 0x12, 1));

        for (flags, new) in [
            (TPH_ST, hint(initiator::REQ_TPH, 0x77, 3)),
            (TPH_ST_EXT, None),
            (TPH_ST, hint(initiator::REQ_TPH, 0x77, 3)),
        ] {
            let tph = Tph {
                flags,
                steering_tag: 0x77,
                ph: 3,
                ..PUBLISHED
            };
            self.publish(&dmabuf, tph).unwrap();
            self.vfio.set_memory_enable(false).unwrap();
            self.vfio.set_memory_enable(true).unwrap();
            assert_eq!(initiator.write(0, &[0; 4]).unwrap(), new);
        }
    }

    fn revocable_importers_only(&self) {
        if feature::is_conformance() {
            feature::lacks("the importer for tests (dmabuf_test_importer)");
        }
        let dmabuf = self.export();
        assert_eq!(
            attach_for_good(&dmabuf),
            Err("Operation not supported".into())
        );
        let anybody = udmabuf::create(1).unwrap();
        assert_eq!(attach_for_good(&anybody), Ok(()));
    }

    fn buffers_are_independent(&self) {
        let [one, other] = [self.export(), self.export()];
        self.publish(&one, PUBLISHED).unwrap();
        assert_eq!(self.published(&other), [None, None]);
    }

    fn fds_of_a_buffer_agree(&self) {
        let dmabuf = self.export();
        let copy = dmabuf.try_clone().unwrap();
        self.publish(&copy, PUBLISHED).unwrap();
        assert_eq!(self.published(&dmabuf), self.published(&copy));
        assert_eq!(
            self.published(&dmabuf)[0],
            hint(initiator::REQ_TPH, 0x12, 1)
        );
    }

    fn importer_refuses_bad_ranges(&self) {
        let dmabuf = self.export();
        let initiator = Initiator::open(initiator::STANDARD).unwrap();
        assert_errno(initiator.write(0, &[0; 4]), ENOENT);
        assert_errno(initiator.release(), ENOENT);
        initiator.import(dmabuf.as_fd()).unwrap();
        assert_errno(initiator.import(dmabuf.as_fd()), EBUSY);
        assert_errno(initiator.write(0, &[]), EINVAL);
        assert_errno(initiator.write(PAGE - 4, &[0; 8]), EINVAL);
        assert_errno(initiator.write(u64::MAX, &[0; 8]), EINVAL);
        initiator.write(PAGE - 4, &[0; 4]).unwrap();
        initiator.release().unwrap();
        assert_errno(initiator.write(0, &[0; 4]), ENOENT);
    }

    fn importer_is_opened_once(&self) {
        let _initiator = Initiator::open(initiator::STANDARD).unwrap();
        let again = Initiator::open(initiator::STANDARD);
        assert_eq!(
            again.err().map(|error| error.kind()),
            Some(io::ErrorKind::ResourceBusy)
        );
    }

    fn write_spans_requests(&self) {
        let dmabuf = self.export();
        let data: Vec<u8> = (0..PAGE - 3).map(|i| (i % 251) as u8).collect();
        let initiator = Initiator::open(initiator::STANDARD).unwrap();
        initiator.import(dmabuf.as_fd()).unwrap();
        assert_eq!(initiator.write(1, &data).unwrap(), None);
        let mut read = vec![0; data.len()];
        self.vfio.region(BAR).unwrap().read(1, &mut read).unwrap();
        assert!(read == data);
    }
}

/// Attaches the initiator as an importer that cannot be told that the memory goes away; returns
/// what modprobe says is wrong.
fn attach_for_good(dmabuf: &OwnedFd) -> Result<(), String> {
    const MODULE: &str = "dmabuf_test_importer";

    // SAFETY: The argument is a number; the copy is inherited, since it is not close-on-exec.
    let inherited = unsafe { libc::dup(dmabuf.as_raw_fd()) };
    assert!(inherited >= 0);
    // SAFETY: It was just created and is ours.
    let inherited = unsafe { OwnedFd::from_raw_fd(inherited) };
    let device = pci::Device::find(pci::INITIATOR).unwrap().address();
    let output = Command::new("modprobe")
        .arg(MODULE)
        .arg(format!("device={device}"))
        .arg(format!("fd={}", inherited.as_raw_fd()))
        .output()
        .unwrap();
    if output.status.success() {
        pci::unload(MODULE).unwrap();
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.rsplit(": ").next().unwrap_or_default().trim().into())
}

fn exporter_without_tph() {
    let dmabuf = udmabuf::create(1).unwrap();
    assert_eq!(asked(&dmabuf), [None, None]);
}

/// Runs before the others open the device.
fn reopened_device_is_another() {
    let accelerator = Accelerator::open().unwrap();
    let dmabuf = accelerator.export();
    accelerator.publish(&dmabuf, PUBLISHED).unwrap();
    drop(accelerator);

    assert_errno(ask(initiator::STANDARD, dmabuf.as_fd()), ENODEV);
    let accelerator = Accelerator::open().unwrap();
    assert_errno(accelerator.publish(&dmabuf, PUBLISHED), EINVAL);
    assert_errno(ask(initiator::STANDARD, dmabuf.as_fd()), ENODEV);
}

fn unknown_feature() {
    let accelerator = Accelerator::open().unwrap();
    let ret = accelerator.vfio.feature(UNKNOWN | PROBE, HEADER, &mut []);
    assert_errno(ret, ENOTTY);
}

fn main() -> io::Result<ExitCode> {
    feature::find();
    let accelerator = std::cell::OnceCell::new();
    let on = |test: fn(&Accelerator)| -> Box<dyn Fn() + '_> {
        let accelerator = &accelerator;
        Box::new(move || test(accelerator.get_or_init(|| Accelerator::open().unwrap())))
    };

    Ok(tap::run(vec![
        ("unknown feature: ENOTTY", Box::new(unknown_feature)),
        (
            "case 26: a buffer of a closed device is dead",
            Box::new(reopened_device_is_another),
        ),
        (
            "case 28: exporter without get_tph",
            Box::new(exporter_without_tph),
        ),
        ("case 2: PROBE", on(Accelerator::probe_succeeds)),
        (
            "case 3: PROBE looks at no payload",
            on(Accelerator::probe_looks_at_no_payload),
        ),
        (
            "case 4: PROBE of GET, as the kernel has it",
            on(Accelerator::probe_of_get),
        ),
        (
            "case 5: no or two operations: EINVAL",
            on(Accelerator::one_operation_is_needed),
        ),
        (
            "case 6: short payload: EINVAL",
            on(Accelerator::short_payload),
        ),
        ("case 7: long payload", on(Accelerator::long_payload)),
        (
            "case 8: unmapped payload: EFAULT",
            on(Accelerator::unmapped_payload),
        ),
        (
            "case 10: undefined flags: EINVAL",
            on(Accelerator::undefined_flags),
        ),
        (
            "case 11: undefined ph: EINVAL",
            on(Accelerator::undefined_ph),
        ),
        (
            "case 13: fields come before the fd",
            on(Accelerator::fields_are_checked_before_the_fd),
        ),
        ("case 15: no open fd: EBADF", on(Accelerator::bad_fd)),
        ("case 16: no dma-buf: EINVAL", on(Accelerator::no_dmabuf)),
        (
            "case 17: dma-buf of another exporter: EINVAL",
            on(Accelerator::foreign_exporter),
        ),
        (
            "case 19: nothing is published at first",
            on(Accelerator::nothing_at_first),
        ),
        (
            "cases 20, 34: one namespace does not stand in for the other",
            on(Accelerator::standard_only),
        ),
        (
            "cases 21, 33: both namespaces",
            on(Accelerator::both_namespaces),
        ),
        (
            "case 22: SET replaces everything",
            on(Accelerator::set_replaces_everything),
        ),
        (
            "case 23: no flags clear everything",
            on(Accelerator::no_flags_clear_everything),
        ),
        ("case 24: zero is a tag", on(Accelerator::zero_is_a_tag)),
        (
            "GET returns what is published",
            on(Accelerator::get_returns_what_is_published),
        ),
        (
            "GET refuses what SET refuses",
            on(Accelerator::get_refuses_bad_requests),
        ),
        ("every processing hint", on(Accelerator::every_ph)),
        (
            "case 25: the tuple survives a revocation",
            on(Accelerator::revoked_keeps_the_tuple),
        ),
        (
            "revocation while attached",
            on(Accelerator::revoked_while_attached),
        ),
        (
            "case 43: after an invalidation the importer uses the new tuple",
            on(Accelerator::invalidation_ends_a_hint),
        ),
        (
            "an importer that cannot be told is refused",
            on(Accelerator::revocable_importers_only),
        ),
        (
            "two buffers of one BAR are independent",
            on(Accelerator::buffers_are_independent),
        ),
        (
            "all fds of a buffer agree",
            on(Accelerator::fds_of_a_buffer_agree),
        ),
        (
            "importer: bad ranges and order",
            on(Accelerator::importer_refuses_bad_ranges),
        ),
        (
            "importer: opened once",
            on(Accelerator::importer_is_opened_once),
        ),
        (
            "importer: unaligned write of many requests",
            on(Accelerator::write_spans_requests),
        ),
    ]))
}
