// SPDX-License-Identifier: GPL-2.0
//! Tests of devices that vanish in mid-transfer: the process that serves them is killed.
//!
//! The tests are steps: each goes on where the one before it ended.

use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::vfio::Device;
use libc::ETIMEDOUT;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// After this line the lab kills the process, in the next transfer.
const KILL: &str = "# kill the device process";

const MEMORY: u32 = 2;
/// The longest transfer.
const LONG: usize = 65536;
/// How many transfers must have gone well before.
const WARM: usize = 4;
/// QEMU waits five seconds for an answer, the driver one for its device; the rest is for a slow
/// guest.
const LIMIT: Duration = Duration::from_secs(20);

/// All that is open when the devices vanish.
struct Open {
    accelerator: Device,
    dmabuf: OwnedFd,
    initiators: Vec<Initiator>,
}

impl Open {
    fn new() -> io::Result<Self> {
        let accelerator = Device::open(&pci::Device::accelerator(CompleterType::ExtTph)?)?;
        accelerator.set_memory_enable(true)?;
        let dmabuf = accelerator.export(MEMORY, 0, LONG as u64)?;
        let mut initiators = Vec::new();
        for node in [initiator::STANDARD, initiator::EXTENDED] {
            let initiator = Initiator::open(node)?;
            initiator.import(dmabuf.as_fd())?;
            initiators.push(initiator);
        }
        Ok(Self {
            accelerator,
            dmabuf,
            initiators,
        })
    }

    fn killed_in_mid_transfer(&self) {
        let (warm, is_warm) = channel();
        thread::scope(|scope| {
            let writers: Vec<_> = self
                .initiators
                .iter()
                .map(|initiator| {
                    let warm = warm.clone();
                    scope.spawn(move || {
                        for _ in 0..WARM {
                            initiator.write(0, &[0x5a; LONG]).unwrap();
                        }
                        warm.send(()).unwrap();
                        drop(warm);
                        write_until_error(initiator)
                    })
                })
                .collect();
            drop(warm);
            for _ in &writers {
                is_warm.recv().unwrap();
            }
            println!("{KILL}");
            for writer in writers {
                let (error, took) = writer.join().unwrap().expect("no write failed");
                assert_errno::<()>(Err(error), ETIMEDOUT);
                assert!(took < LIMIT, "it took {took:?}");
            }
        });
    }

    fn later_writes(&self) {
        for initiator in &self.initiators {
            let started = Instant::now();
            assert_errno(initiator.write(0, &[0; 4]), ETIMEDOUT);
            assert!(started.elapsed() < LIMIT);
        }
    }
}

/// Writes again and again; returns the error and how long it took to come.
fn write_until_error(initiator: &Initiator) -> Option<(io::Error, Duration)> {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        let started = Instant::now();
        if let Err(error) = initiator.write(0, &[0x5a; LONG]) {
            return Some((error, started.elapsed()));
        }
    }
    None
}

/// The BARs, which follow, are kept by QEMU.
fn all_ones() {
    for id in [pci::INITIATOR, pci::INITIATOR_EXT, pci::ACCELERATOR] {
        let config = pci::Device::find(id).unwrap().config().unwrap();
        assert_eq!(config[..16], [0xff; 16], "{id:#x}");
    }
}

fn importers_go(open: &mut Open) {
    for initiator in open.initiators.drain(..) {
        initiator.release().unwrap();
    }
    for id in [pci::INITIATOR, pci::INITIATOR_EXT] {
        pci::Device::find(id).unwrap().unbind().unwrap();
    }
    pci::unload("rust_tph_initiator").unwrap();
}

fn exporter_goes(open: Open) {
    let begun = Instant::now();
    drop(open.accelerator);
    pci::Device::find(pci::ACCELERATOR)
        .unwrap()
        .unbind()
        .unwrap();
    drop(open.dmabuf);
    pci::unload("vfio-pci").unwrap();
    assert!(begun.elapsed() < LIMIT);
}

fn main() -> ExitCode {
    let open = match Open::new() {
        Ok(open) => RefCell::new(Some(open)),
        Err(error) => {
            println!("Bail out! {error}");
            return ExitCode::FAILURE;
        }
    };
    let with = |test: fn(&mut Open)| -> Box<dyn Fn() + '_> {
        let open = &open;
        Box::new(move || test(open.borrow_mut().as_mut().unwrap()))
    };
    tap::run(vec![
        (
            "killed in mid-transfer: both writers get an error in bounded time",
            with(|open| open.killed_in_mid_transfer()),
        ),
        ("config reads give all ones", Box::new(all_ones)),
        (
            "later writes end with an error",
            with(|open| open.later_writes()),
        ),
        (
            "importers release and unbind, and their module unloads",
            with(importers_go),
        ),
        (
            "exporter closes and unbinds, and its module unloads",
            Box::new(|| exporter_goes(open.take().unwrap())),
        ),
    ])
}
