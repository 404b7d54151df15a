// SPDX-License-Identifier: GPL-2.0
//! Tests of a requester that user space owns: resets, the next user, sleep, and everything at once.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::pci::{self, INITIATOR_EXT};
use dma_buf_tph::requester::{
    CAPABILITY, CONTROL, DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, EXTENDED, Entry, FROM_TABLE, HEADER,
    NO_ST, Requester, Resolved, Source, TABLE, UNTOUCHED, Written, level,
};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::vfio::SET;
use libc::EINVAL;
use std::env;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// How many cycles the test of that makes.
const CYCLES: &str = "VFIO_CYCLES";

fn resets() {
    let requester = Requester::opted_in(INITIATOR_EXT, level::LITERAL).unwrap();
    let resets: [&dyn Fn(); 2] = [&|| requester.vfio.reset().unwrap(), &|| {
        requester.vfio.function_level_reset().unwrap()
    }];
    for reset in resets {
        requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
        requester
            .set_one(EXTENDED, 3, Source::Literal(0xbef0))
            .unwrap();
        reset();
        requester.assert_control(0);
        // Nothing is replayed. (The model clears its table.)
        requester.assert_table(&[]);
        requester.assert_refused(0, &[Entry::literal(0, 1)], EINVAL);
        // Whoever opted in still has.
        requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
        requester.assert_control(DEVICE_SPECIFIC | ENABLE);
        requester.set_one(0, 3, Source::Literal(0x12)).unwrap();
        requester.assert_table(&[(3, 0x12)]);
        requester.set_one(0, 3, Source::None).unwrap();
    }
}

fn next_user() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
    requester
        .set_one(EXTENDED, 3, Source::Literal(0xbef0))
        .unwrap();
    let requester = requester.reopen().unwrap();
    requester.assert_control(0);
    requester.assert_table(&[]);
    requester.control(ENABLE).unwrap();
    requester.assert_control(0);
    requester.assert_refused(0, &[Entry::literal(0, 1)], EINVAL);
}

/// A requester that was enabled, and is off now that it is closed.
fn close_enabled() -> Requester {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
    requester
        .set_one(EXTENDED, 3, Source::Literal(0xbef0))
        .unwrap();
    requester.vfio.close().unwrap();
    assert_eq!(requester.real(CONTROL).unwrap(), 0);
    requester.assert_table(&[]);
    requester
}

fn closed() {
    close_enabled();
}

/// A device that the kernel cannot reset while this exists.
struct WithoutReset(pci::Device);

impl WithoutReset {
    fn new(id: u16) -> Self {
        let pdev = pci::Device::find(id).unwrap();
        pdev.set_reset_methods("").unwrap();
        Self(pdev)
    }
}

impl Drop for WithoutReset {
    fn drop(&mut self) {
        self.0.set_reset_methods("default").unwrap();
    }
}

/// A reset would turn TPH off, too.
fn changes_hands_without_reset() {
    const CONTROLLED: u32 = DEVICE_SPECIFIC | ENABLE_EXT;

    let _without = WithoutReset::new(INITIATOR_EXT);
    let requester = close_enabled();
    // Nobody has it, and root writes to it.
    for (offset, bytes) in [(CONTROL, CONTROLLED), (TABLE, 0x1234_5678)] {
        let offset = requester.offset(offset);
        let pdev = &requester.pdev;
        pdev.write_config(offset, &bytes.to_le_bytes()).unwrap();
    }
    assert_eq!(requester.real(CONTROL).unwrap(), CONTROLLED);
    requester.assert_table(&[(0, 0x5678), (1, 0x1234)]);
    let requester = requester.reopen().unwrap();
    requester.assert_control(0);
    requester.assert_table(&[]);
    assert_errno(requester.vfio.reset(), EINVAL);
}

fn asleep() {
    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
    requester.set_one(0, 1, Source::Literal(0x11)).unwrap();

    requester.vfio.set_power_state(3).unwrap();
    requester.set_one(0, 2, Source::Literal(0x22)).unwrap();
    requester.assert_table(&[(1, 0x11), (2, 0x22)]);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE_EXT);

    requester.vfio.set_power_state(3).unwrap();
    requester.control(DEVICE_SPECIFIC | ENABLE).unwrap();
    requester.assert_control(DEVICE_SPECIFIC | ENABLE);

    // A reset while it is asleep.
    requester.vfio.set_power_state(3).unwrap();
    requester.vfio.function_level_reset().unwrap();
    requester.assert_control(0);
}

fn low_power() {
    const LOW_POWER_ENTRY: u32 = 3;
    const LOW_POWER_EXIT: u32 = 5;

    let requester = Requester::enabled(INITIATOR_EXT, level::LITERAL, ENABLE_EXT).unwrap();
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
    requester.assert_table(&[(1, 0x11), (2, 0x22)]);
    requester.assert_control(DEVICE_SPECIFIC | ENABLE);
}

/// Ends the threads that look at it, also if the test fails.
#[derive(Default)]
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

    let requester = Requester::opted_in(INITIATOR_EXT, level::LITERAL).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let dmabuf = Source::of(accelerator.dmabuf.as_fd());
    let done = Done::default();
    thread::scope(|scope| {
        let _set_done = SetDone(&done);
        scope.spawn(|| {
            while !done.is_set() {
                let entries = [
                    Entry::literal(1, 0x11),
                    Entry::new(2, dmabuf),
                    Entry::literal(3, 0x33),
                ];
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
                requester.vfio.set_power_state(3).unwrap();
            }
        });
        scope.spawn(|| {
            while !done.is_set() {
                let Resolved { steering_tag, .. } = requester.resolve(0, dmabuf).unwrap();
                assert_eq!(steering_tag, 0xf4);
                requester.seen(CONTROL).unwrap();
            }
        });
        for _ in 0..ROUNDS {
            requester.vfio.reset().unwrap();
        }
    });

    agree(&requester, &accelerator);
}

/// Whatever happened before: the device has what user space sees, and the kernel knows what is so.
#[track_caller]
fn agree(requester: &Requester, accelerator: &Accelerator) {
    let control = requester.seen(CONTROL).unwrap();
    requester.assert_control(control);

    let source = Source::of(accelerator.dmabuf.as_fd());
    for enable in [0, ENABLE, ENABLE_EXT, 0, ENABLE_EXT, ENABLE] {
        let control = DEVICE_SPECIFIC | enable;
        requester.control(control).unwrap();
        requester.assert_control(control);
        if enable == 0 {
            requester.assert_refused(0, &[Entry::new(0, source)], EINVAL);
            let written = requester.write_to(accelerator, FROM_TABLE).unwrap();
            assert_eq!(written, Written::Dropped);
            continue;
        }
        for (source, arrives) in [(source, Written::Added), (Source::None, Written::Stored)] {
            requester.set_one(0, 0, source).unwrap();
            requester.assert_control(control);
            let written = requester.write_to(accelerator, FROM_TABLE).unwrap();
            assert_eq!(written, arrives);
        }
    }
}

/// Enable, program, write, reset, while others write to the capability.
fn cycles() {
    let count = match env::var(CYCLES) {
        Ok(count) => count.parse().expect(CYCLES),
        Err(_) => 20,
    };
    let requester = Requester::opted_in(INITIATOR_EXT, level::DS_ST).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let source = Source::of(accelerator.dmabuf.as_fd());
    let done = Done::default();
    let mut with_a_tag = 0;
    thread::scope(|scope| {
        let _set_done = SetDone(&done);
        scope.spawn(|| {
            while !done.is_set() {
                for control in [
                    DEVICE_SPECIFIC | ENABLE,
                    DEVICE_SPECIFIC,
                    NO_ST | ENABLE_EXT,
                    DEVICE_SPECIFIC | ENABLE_EXT,
                    7 | 2 << 8,
                ] {
                    requester.control(control).unwrap();
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            while !done.is_set() {
                requester.write(CONTROL + 1, &[3]).unwrap();
                requester.write(CONTROL, &[DEVICE_SPECIFIC as u8]).unwrap();
                requester.write(CAPABILITY, &[0xff; 16]).unwrap();
            }
        });
        for _ in 0..count {
            requester.control(DEVICE_SPECIFIC | ENABLE_EXT).unwrap();
            let set = requester.set_one(0, 0, source);
            match requester.write_to(&accelerator, FROM_TABLE).unwrap() {
                Written::Added => with_a_tag += 1,
                // Somebody had turned it off, now or before.
                Written::Dropped => (),
                Written::Stored => assert!(set.is_err(), "the entry was written"),
            }
            if set.is_err() {
                assert_errno(set, EINVAL);
            }
            requester.vfio.reset().unwrap();
        }
    });
    println!("# {with_a_tag} of {count} writes had the tag");
    assert_ne!(with_a_tag, 0);
    agree(&requester, &accelerator);
}

fn main() -> ExitCode {
    tap::run(vec![
        ("vfio case 28: resets", Box::new(resets)),
        ("vfio case 29: the next user", Box::new(next_user)),
        ("vfio case 29: closed", Box::new(closed)),
        (
            "vfio case 29: it changes hands without a reset",
            Box::new(changes_hands_without_reset),
        ),
        ("vfio case 30: the device is asleep", Box::new(asleep)),
        ("vfio case 30: the device is suspended", Box::new(low_power)),
        (
            "vfio case 30: everything at once",
            Box::new(everything_at_once),
        ),
        (
            "vfio: enable, program, write, reset, and others write, too",
            Box::new(cycles),
        ),
    ])
}
