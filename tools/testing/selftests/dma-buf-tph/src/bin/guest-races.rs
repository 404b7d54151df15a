// SPDX-License-Identifier: GPL-2.0
//! Tests of what may happen at the same time, and of what goes away while others still use it.

use dma_buf_tph::feature;
use dma_buf_tph::initiator::{self, Hint, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::slab;
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::vfio::{Device, TPH_ST, Tph};
use libc::{EINTR, EINVAL, ENODEV, ENOTTY};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, io, thread};

const BAR: u32 = 2;
const PAGE: u64 = 4096;
/// Long enough to span many requests.
const LONG: usize = 32768;
/// The argument that makes this program the receiver of a dma-buf.
const RECEIVER: &str = "--receiver";

fn open() -> Device {
    let device = Device::open(&pci::Device::accelerator(CompleterType::ExtTph).unwrap()).unwrap();
    device.set_memory_enable(true).unwrap();
    device
}

fn tuple(dmabuf: &OwnedFd, steering_tag: u8, ph: u8) -> Tph {
    Tph {
        dmabuf_fd: dmabuf.as_raw_fd(),
        flags: TPH_ST,
        steering_tag,
        ph,
        ..Tph::default()
    }
}

fn hint(steering_tag: u16, ph: u8) -> Option<Hint> {
    Some(Hint {
        req_type: initiator::REQ_TPH,
        steering_tag,
        ph,
    })
}

fn import(dmabuf: &OwnedFd) -> Initiator {
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    initiator.import(dmabuf.as_fd()).unwrap();
    initiator
}

/// Runs `disturb` again and again while `work` runs.
fn while_disturbed(disturb: impl Fn(usize) + Sync, work: impl FnOnce()) {
    /// Ends the disturbance, also if `work` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                disturb(i);
            }
        });
        let _stop = Stop(&stop);
        work();
    });
}

fn never_a_mixed_pair() {
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    let tuples = [tuple(&dmabuf, 0xa1, 1), tuple(&dmabuf, 0xa2, 2)];
    device.publish(tuples[0]).unwrap();
    let initiator = import(&dmabuf);

    while_disturbed(
        |i| device.publish(tuples[i % 2]).unwrap(),
        || {
            let mut seen = [false; 2];
            for _ in 0..2000 {
                match initiator.write(0, &[0; 4]).unwrap() {
                    got if got == hint(0xa1, 1) => seen[0] = true,
                    got if got == hint(0xa2, 2) => seen[1] = true,
                    got => panic!("a pair that nobody published: {got:?}"),
                }
            }
            assert_eq!(seen, [true; 2], "the two did not run at the same time");
        },
    );
}

/// Lets the initiator write `count` times while the memory is taken away again and again: a write
/// arrives with its hint, or is refused.
fn transfers(count: u32, device: &Device, take_away: impl Fn() + Sync) {
    let dmabuf = device.export(BAR, 0, LONG as u64).unwrap();
    device.publish(tuple(&dmabuf, 0xa1, 1)).unwrap();
    let initiator = import(&dmabuf);

    while_disturbed(
        |_| {
            take_away();
            device.set_memory_enable(true).unwrap();
        },
        || {
            let mut landed = 0;
            for _ in 0..count {
                match initiator.write(0, &[0x5a; LONG]) {
                    Ok(got) => {
                        assert_eq!(got, hint(0xa1, 1));
                        landed += 1;
                    }
                    Err(error) => assert_errno::<()>(Err(error), ENODEV),
                }
            }
            assert!(landed > 0, "no transfer came through");
        },
    );
    assert_eq!(initiator.write(0, &[0; 4]).unwrap(), hint(0xa1, 1));
}

fn memory_disabled_in_mid_transfer() {
    let device = open();
    transfers(300, &device, || device.set_memory_enable(false).unwrap());
}

fn reset_in_mid_transfer() {
    let device = open();
    transfers(60, &device, || {
        // Time for a transfer to begin.
        thread::sleep(Duration::from_millis(20));
        device.reset().unwrap();
    });
}

fn set_while_the_device_is_closed() {
    for _ in 0..5 {
        let device = open();
        let dmabuf = device.export(BAR, 0, PAGE).unwrap();
        let last = thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                (0..=u8::MAX)
                    .cycle()
                    .find_map(|tag| device.publish(tuple(&dmabuf, tag, 1)).err())
                    .unwrap()
            });
            thread::sleep(Duration::from_millis(5));
            device.close().unwrap();
            publisher.join().unwrap()
        });
        // What is there now knows nothing of the feature.
        assert_errno::<()>(Err(last), ENOTTY);
        drop(device);
        assert_errno(open().publish(tuple(&dmabuf, 1, 1)), EINVAL);
    }
}

fn set_while_memory_is_disabled() {
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();

    while_disturbed(
        |_| {
            device.set_memory_enable(false).unwrap();
            device.set_memory_enable(true).unwrap();
        },
        || {
            for i in 0..=255 {
                device.publish(tuple(&dmabuf, i, i % 4)).unwrap();
                assert_eq!(
                    device.published(dmabuf.as_raw_fd()).unwrap(),
                    tuple(&dmabuf, i, i % 4)
                );
            }
        },
    );
}

fn interrupted_set() {
    extern "C" fn ignore(_signal: libc::c_int) {}

    let handler: extern "C" fn(libc::c_int) = ignore;
    // SAFETY: An all-zero one is valid: no flags, so system calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: The handler does nothing, so it may run at any time.
    let ret = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    assert_eq!(ret, 0);
    // SAFETY: It has no requirements.
    let this_thread = unsafe { libc::pthread_self() };

    let device = open();
    let dmabuf = device.export(BAR, 0, LONG as u64).unwrap();
    let initiator = import(&dmabuf);
    let mut last = tuple(&dmabuf, 0, 1);
    device.publish(last).unwrap();

    let mut interrupted = false;
    // The importer holds the reservation while it writes.
    while_disturbed(
        |_| {
            initiator.write(0, &[0x5a; LONG]).unwrap();
        },
        || {
            while_disturbed(
                |_| {
                    // SAFETY: The thread runs until this one has ended.
                    unsafe { libc::pthread_kill(this_thread, libc::SIGUSR1) };
                    thread::sleep(Duration::from_micros(100));
                },
                || {
                    for i in 0..10_000u32 {
                        let tph = tuple(&dmabuf, (i % 256) as u8, 1);
                        match device.publish(tph) {
                            Ok(()) => last = tph,
                            Err(error) => {
                                assert_errno::<()>(Err(error), EINTR);
                                interrupted = true;
                                break;
                            }
                        }
                    }
                },
            );
        },
    );
    assert!(interrupted, "no SET was interrupted");
    assert_eq!(device.published(dmabuf.as_raw_fd()).unwrap(), last);
}

fn device_closed_while_attached() {
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    device.publish(tuple(&dmabuf, 0xa1, 1)).unwrap();
    let initiator = import(&dmabuf);
    initiator.write(0, &[0; 4]).unwrap();
    drop(device);

    assert_errno(initiator.write(0, &[0; 4]), ENODEV);
    initiator.release().unwrap();
    assert_errno(initiator.import(dmabuf.as_fd()), ENODEV);
}

fn exporter_unbound_while_attached() {
    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    let initiator = import(&dmabuf);
    drop(device);
    pdev.unbind().unwrap();

    assert_errno(initiator.write(0, &[0; 4]), ENODEV);
    drop(initiator);
    drop(dmabuf);
    open();
}

fn importer_unbound_while_attached() {
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    device.publish(tuple(&dmabuf, 0xa1, 1)).unwrap();
    let initiator = import(&dmabuf);
    let pdev = pci::Device::find(pci::INITIATOR).unwrap();
    pdev.unbind().unwrap();

    assert_errno(initiator.write(0, &[0; 4]), ENODEV);
    assert_errno(initiator.import(dmabuf.as_fd()), ENODEV);
    assert_errno(initiator.req_type(), ENODEV);
    drop(initiator);
    pdev.bind("rust_tph_initiator").unwrap();
    assert_eq!(import(&dmabuf).write(0, &[0; 4]).unwrap(), hint(0xa1, 1));
}

fn importer_unbound_in_mid_transfer() {
    let device = open();
    let dmabuf = device.export(BAR, 0, LONG as u64).unwrap();
    let initiator = import(&dmabuf);
    let pdev = pci::Device::find(pci::INITIATOR).unwrap();

    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..10_000 {
                if let Err(error) = initiator.write(0, &[0x5a; LONG]) {
                    return Some(error);
                }
            }
            None
        });
        thread::yield_now();
        pdev.unbind().unwrap();
        let error = writer.join().unwrap().expect("no write was refused");
        assert_errno::<()>(Err(error), ENODEV);
    });
    drop(initiator);
    pdev.bind("rust_tph_initiator").unwrap();
    import(&dmabuf).write(0, &[0; 4]).unwrap();
}

fn passed_to_another_process() {
    // The other process needs it.
    Initiator::open(initiator::STANDARD).unwrap();
    let device = open();
    let dmabuf = device.export(BAR, 0, PAGE).unwrap();
    device.publish(tuple(&dmabuf, 0xa1, 1)).unwrap();

    // SAFETY: The argument is a number; the copy is inherited, since it is not close-on-exec.
    let inherited = unsafe { libc::dup(dmabuf.as_raw_fd()) };
    assert!(inherited >= 0);
    // SAFETY: It was just created and is ours.
    let inherited = unsafe { OwnedFd::from_raw_fd(inherited) };
    drop(dmabuf);
    let status = Command::new(env::current_exe().unwrap())
        .args([RECEIVER, &inherited.as_raw_fd().to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "the receiver: {status}");
}

/// The other process: it sees what was published, and cannot publish for a device that it has not.
fn receive(number: &str) -> io::Result<()> {
    let number = number.parse().map_err(io::Error::other)?;
    // SAFETY: The parent gave this descriptor to us and to nobody else here.
    let dmabuf = unsafe { OwnedFd::from_raw_fd(number) };
    assert_eq!(import(&dmabuf).write(0, &[0; 4])?, hint(0xa1, 1));

    let other = Device::open(&pci::Device::accelerator(CompleterType::Tph)?)?;
    assert_errno(other.publish(tuple(&dmabuf, 0xa2, 2)), EINVAL);
    assert_eq!(import(&dmabuf).write(0, &[0; 4])?, hint(0xa1, 1));
    Ok(())
}

/// One after the other: export, publish, import, write, release.
fn cycles(device: &Device, initiator: &Initiator, count: u32) {
    for i in 0..count {
        let tag = (i % 256) as u8;
        let dmabuf = device.export(BAR, 0, PAGE).unwrap();
        device.publish(tuple(&dmabuf, tag, 2)).unwrap();
        initiator.import(dmabuf.as_fd()).unwrap();
        assert_eq!(
            initiator.write(0, &i.to_le_bytes()).unwrap(),
            hint(tag.into(), 2)
        );
        initiator.release().unwrap();
    }
}

fn many_cycles() {
    const CYCLES: u32 = 10_000;
    /// What other work may add to a cache; far fewer than a leak in each cycle, or in every tenth.
    const NOISE: u64 = 500;

    let device = open();
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    // Whatever grows once has grown then.
    cycles(&device, &initiator, 500);
    let before = slab::objects().unwrap();
    cycles(&device, &initiator, CYCLES);

    // The last references to files and what RCU frees go some time later.
    let mut grown = Vec::new();
    for _ in 0..50 {
        grown = slab::objects()
            .unwrap()
            .into_iter()
            .filter_map(|(cache, objects)| {
                let before = before.get(&cache).copied().unwrap_or_default();
                (objects > before + NOISE).then_some((cache, before, objects))
            })
            .collect();
        if grown.is_empty() {
            break;
        }
        for (cache, ..) in &grown {
            slab::shrink(cache).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(grown, [], "(cache, objects before, objects after)");
}

fn modules_unload() {
    Initiator::open(initiator::STANDARD).unwrap();
    // With vfio-pci goes what only it uses.
    for module in ["rust_tph_initiator", "rust_tph_memory", "vfio-pci"] {
        pci::unload(module).unwrap();
    }
    for module in ["rust_tph_initiator", "rust_tph_memory", "vfio_pci_core"] {
        assert!(!pci::is_loaded(module).unwrap(), "{module} is still there");
    }
    open();
    Initiator::open(initiator::STANDARD).unwrap();
}

fn main() -> ExitCode {
    feature::find();
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [option, number] = arguments.as_slice()
        && option == RECEIVER
    {
        return match receive(number) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("receiver: {error}");
                ExitCode::FAILURE
            }
        };
    }

    tap::run(vec![
        (
            "case 30: SET against queries, never a mixed pair",
            Box::new(never_a_mixed_pair),
        ),
        (
            "memory disabled in mid-transfer",
            Box::new(memory_disabled_in_mid_transfer),
        ),
        ("reset in mid-transfer", Box::new(reset_in_mid_transfer)),
        (
            "SET while the device is closed",
            Box::new(set_while_the_device_is_closed),
        ),
        (
            "SET while memory is disabled and enabled",
            Box::new(set_while_memory_is_disabled),
        ),
        (
            "case 27: SET interrupted while it waits: EINTR",
            Box::new(interrupted_set),
        ),
        (
            "exporting device closed while attached",
            Box::new(device_closed_while_attached),
        ),
        (
            "exporter unbound while attached",
            Box::new(exporter_unbound_while_attached),
        ),
        (
            "importer unbound while attached",
            Box::new(importer_unbound_while_attached),
        ),
        (
            "importer unbound in mid-transfer",
            Box::new(importer_unbound_in_mid_transfer),
        ),
        (
            "dma-buf passed to another process",
            Box::new(passed_to_another_process),
        ),
        (
            "10000 cycles of export, publish, import, write, release; the slabs do not grow",
            Box::new(many_cycles),
        ),
        (
            "the modules can be unloaded after that, and loaded again",
            Box::new(modules_unload),
        ),
    ])
}
