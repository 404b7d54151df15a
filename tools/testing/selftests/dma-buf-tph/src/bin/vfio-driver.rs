// SPDX-License-Identifier: GPL-2.0
//! Tests of a driver in user space with requesters of every kind, up to what arrives: the
//! accelerator's registers tell the tag of the last write. They run behind root ports of every
//! completer type, and where there is none.

use clap::Parser;
use dma_buf_tph::accelerator::{Accelerator, State};
use dma_buf_tph::driver::Driver;
use dma_buf_tph::engine::{Hint, Namespace};
use dma_buf_tph::page::Page;
use dma_buf_tph::pci;
use dma_buf_tph::requester::{
    self, CONTROL, DEVICE_SPECIFIC, INTERRUPT_VECTOR, RESOLVE, Resolved, ST, Source, TPH, level,
};
use dma_buf_tph::tap::{self, Test, assert_errno};
use dma_buf_tph::vfio::{Device, TPH_ST, Tph};
use libc::{EINVAL, ENODEV, EOPNOTSUPP};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

const PAGE: u64 = 4096;
/// The entry of the ST table that is used.
const ENTRY: u16 = 63;
/// What is written, and what that adds to.
const SOURCE: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// What is published for the accelerator's memory: the tag and the cache partition that it selects.
fn published(namespace: Namespace) -> (u16, usize) {
    match namespace {
        Namespace::St => (0xf4, 4),
        Namespace::Ext => (0xf35a, 3),
    }
}
const PH: u8 = 2;

/// The initiators that can be requesters.
const REQUESTERS: [u16; 5] = [
    pci::INITIATOR,
    pci::INITIATOR_EXT,
    pci::INITIATOR_IV,
    pci::INITIATOR_MSIX,
    pci::INITIATOR_NO_TABLE,
];

/// What the root port is to be, if there is one.
#[derive(Parser)]
struct Args {
    /// The code of its TPH Completer Supported; without one, what the kernel's command line says.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=3))]
    root_port: Option<u8>,
}

/// Where the devices are.
#[derive(Clone, Copy)]
struct Place {
    /// TPH completer type of the root port; none if there is no root port.
    root_port: Option<u8>,
}

impl Place {
    /// Finds it, and makes a root port what it is to be.
    fn find(completer: Option<u8>) -> io::Result<Self> {
        let device = pci::Device::find(pci::INITIATOR_NO_TPH)?;
        let Some(port) = device.root_port()? else {
            return match completer {
                Some(_) => Err(io::Error::other("there is no root port; omit --root-port")),
                None => Ok(Self { root_port: None }),
            };
        };
        let mut parameters = Vec::new();
        if let Some(code) = completer {
            // Another program may have loaded it otherwise.
            pci::unload("tph_root_port")?;
            parameters.push(format!("completer={code}"));
        }
        let parameters: Vec<_> = parameters.iter().map(String::as_str).collect();
        pci::modprobe("tph_root_port", &parameters)?;
        let found = port.completer_field()?;
        if completer.is_some_and(|code| code != found) {
            return Err(io::Error::other(format!(
                "the root port says {found}, not {completer:?}"
            )));
        }
        let root_port = Some(found);
        Ok(Self { root_port })
    }

    /// Opens the driver of one of the devices there.
    fn open(self, id: u16, level: i32) -> Driver {
        let pdev = pci::Device::find_behind(id, self.root_port.is_some()).unwrap();
        Driver::open(pdev, level).unwrap()
    }

    /// Whether a requester there may use hints of this namespace.
    fn allows(self, namespace: Namespace) -> bool {
        match self.root_port {
            None | Some(3) => true,
            Some(1) => namespace == Namespace::St,
            Some(_) => false,
        }
    }
}

/// Lets the driver write with `hint`; returns what the accelerator says then.
fn written(driver: &Driver, accelerator: &Accelerator, hint: Option<Hint>) -> io::Result<State> {
    let memory = accelerator.vfio.region(2)?;
    memory.write_dwords(PAGE, &SOURCE)?;
    let mapping = driver.map_dmabuf(accelerator.dmabuf.as_fd(), PAGE)?;
    let result = driver.write(mapping.address, &SOURCE, hint);
    driver.unmap(mapping)?;
    result.and_then(|()| accelerator.state())
}

/// One write arrives with the tag that is published in `namespace`, which adds.
#[track_caller]
fn arrives(driver: &Driver, accelerator: &Accelerator, namespace: Namespace, hint: Hint) {
    let before = accelerator.state().unwrap();
    let after = written(driver, accelerator, Some(hint)).unwrap();

    let (tag, partition) = published(namespace);
    let extended = u32::from(namespace == Namespace::Ext) << 16;
    let (before, mut expected) = (before.partitions, after.partitions);
    expected[partition] = before[partition];
    assert_eq!(expected, before, "no other partition");
    let [writes, _, _, _, last_tag, last_ph, ..] = after.partitions[partition];
    assert_eq!(writes, before[partition][0] + 1);
    assert_eq!((last_tag, last_ph), (extended | u32::from(tag), PH.into()));
    assert_eq!(after.memory, SOURCE.map(|value| 2 * value));
}

/// A driver that may use `namespace` has the kernel write the tag of a peer.
#[track_caller]
fn writes_to_a_peer(driver: &mut Driver, mode: u32, entry: u16, namespace: Namespace) {
    let accelerator = Accelerator::open().unwrap();
    driver.enable(mode, namespace).unwrap();
    let target = Source::of(accelerator.dmabuf.as_fd());
    let hint = driver.steer(entry, namespace, target).unwrap();
    arrives(driver, &accelerator, namespace, hint);
}

fn a_root_port_decides(place: Place, namespace: Namespace) {
    let mut driver = place.open(pci::INITIATOR_EXT, level::DS_ST);
    if place.allows(namespace) {
        writes_to_a_peer(&mut driver, DEVICE_SPECIFIC, ENTRY, namespace);
        return;
    }
    driver.enable(DEVICE_SPECIFIC, namespace).unwrap_err();
    let accelerator = Accelerator::open().unwrap();
    let before = accelerator.state().unwrap();
    let hint = Hint::Entry {
        index: ENTRY,
        namespace,
        ph: PH,
    };
    written(&driver, &accelerator, Some(hint)).unwrap_err();
    let after = written(&driver, &accelerator, None).unwrap();
    assert_eq!(after.partitions, before.partitions);
    assert_eq!(after.memory, SOURCE, "a plain store");
}

fn eight_bits_only(place: Place) {
    let mut driver = place.open(pci::INITIATOR, level::DS_ST);
    driver.enable(DEVICE_SPECIFIC, Namespace::Ext).unwrap_err();
    writes_to_a_peer(&mut driver, DEVICE_SPECIFIC, ENTRY, Namespace::St);
}

fn an_integrated_endpoint() {
    let pdev = pci::Device::find_behind(pci::INITIATOR_IV, false).unwrap();
    let mut driver = Driver::open(pdev, level::DS_ST).unwrap();
    for namespace in [Namespace::St, Namespace::Ext] {
        writes_to_a_peer(&mut driver, DEVICE_SPECIFIC, ENTRY, namespace);
        let error = driver.resolve(namespace, Source::Cpu(0));
        assert_errno(error, ENODEV);
    }
}

fn every_interrupt_vector(place: Place) {
    const VECTORS: u8 = 4;

    let mut driver = place.open(pci::INITIATOR_IV, level::IV_ST);
    driver.enable(DEVICE_SPECIFIC, Namespace::St).unwrap_err();
    driver.enable(INTERRUPT_VECTOR, Namespace::St).unwrap();
    driver.take_vectors(VECTORS.into()).unwrap();

    // A buffer for each vector, whose tag selects the cache partition of that number.
    let accelerator = Accelerator::open().unwrap();
    let buffers: Vec<_> = (0..VECTORS)
        .map(|vector| {
            let page = (2 + u64::from(vector)) * PAGE;
            let dmabuf = accelerator.vfio.export(2, page, PAGE).unwrap();
            let tph = Tph {
                dmabuf_fd: dmabuf.as_raw_fd(),
                flags: TPH_ST,
                steering_tag: 0xf0 + vector,
                ph: PH,
                ..Tph::default()
            };
            accelerator.vfio.publish(tph).unwrap();
            let target = Source::of(dmabuf.as_fd());
            // The tag stays in the kernel.
            let (steering_tag, ph) = (0, PH);
            assert_eq!(
                driver.resolve(Namespace::St, target).unwrap(),
                Resolved { steering_tag, ph }
            );
            let hint = driver.steer(vector.into(), Namespace::St, target);
            (dmabuf, hint.unwrap())
        })
        .collect();

    for (vector, (dmabuf, hint)) in buffers.iter().enumerate() {
        let before = accelerator.state().unwrap();
        let mapping = driver.map_dmabuf(dmabuf.as_fd(), PAGE).unwrap();
        driver.write(mapping.address, &SOURCE, Some(*hint)).unwrap();
        assert_eq!(driver.raised().unwrap(), [0; VECTORS as usize]);
        let mut after = accelerator.state().unwrap().partitions;
        let [writes, _, _, _, last_tag, ..] = after[vector];
        assert_eq!(writes, before.partitions[vector][0] + 1);
        assert_eq!(last_tag, 0xf0 + vector as u32);
        after[vector] = before.partitions[vector];
        assert_eq!(after, before.partitions, "no other partition");
    }
}

fn no_table(place: Place) {
    let mut driver = place.open(pci::INITIATOR_NO_TABLE, level::DS_ST);
    driver.enable(DEVICE_SPECIFIC, Namespace::Ext).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let target = Source::of(accelerator.dmabuf.as_fd());
    for namespace in [Namespace::St, Namespace::Ext] {
        assert_errno(driver.steer(0, namespace, target), EOPNOTSUPP);
        let Resolved { steering_tag, ph } = driver.resolve(namespace, target).unwrap();
        let tag = Hint::Tag {
            tag: steering_tag,
            namespace,
            ph,
        };
        arrives(&driver, &accelerator, namespace, tag);
    }
}

fn table_in_msix(place: Place) {
    let mut driver = place.open(pci::INITIATOR_MSIX, level::LITERAL);
    driver.enable(DEVICE_SPECIFIC, Namespace::St).unwrap();
    let accelerator = Accelerator::open().unwrap();
    let target = Source::of(accelerator.dmabuf.as_fd());
    assert_errno(driver.steer(0, Namespace::St, target), EOPNOTSUPP);

    // The device says why it could not use it anyway.
    let before = accelerator.state().unwrap();
    let hint = Hint::Entry {
        index: 0,
        namespace: Namespace::St,
        ph: PH,
    };
    let error = written(&driver, &accelerator, Some(hint)).unwrap_err();
    assert!(error.to_string().ends_with("error 6"), "{error}");
    assert_eq!(accelerator.state().unwrap().partitions, before.partitions);
}

/// These devices are no requesters to user space.
fn no_requester(place: Place, ids: &[u16]) {
    for &id in ids {
        let pdev = pci::Device::find_behind(id, place.root_port.is_some()).unwrap();
        let vfio = requester::open_at(&pdev, level::LITERAL).unwrap();
        assert!(!requester::is_seen(&vfio).unwrap(), "{id:#x}");
        for feature in [TPH, RESOLVE, ST] {
            assert_errno(requester::probe(&vfio, feature), EOPNOTSUPP);
        }
    }
}

/// The first capability is hidden; those behind it are not.
fn hidden_and_first(place: Place) {
    const FIRST: u64 = 0x100;
    const SERIAL_NUMBER: u32 = 3;

    let pdev = pci::Device::find_behind(pci::INITIATOR_IV, place.root_port.is_some()).unwrap();
    let vfio = requester::open_at(&pdev, level::LITERAL).unwrap();
    let config = vfio.config().unwrap();
    let [anchor] = config.read_dwords(FIRST).unwrap();
    assert_eq!(anchor & 0xf_ffff, 0, "id and version");
    let [next] = config.read_dwords(u64::from(anchor >> 20)).unwrap();
    assert_eq!(next & 0xffff, SERIAL_NUMBER);
}

fn reset(place: Place, how: impl Fn(&Device) -> io::Result<()>) {
    let mut driver = place.open(pci::INITIATOR_EXT, level::DS_ST);
    let accelerator = Accelerator::open().unwrap();
    let target = Source::of(accelerator.dmabuf.as_fd());
    driver.enable(DEVICE_SPECIFIC, Namespace::Ext).unwrap();
    let hint = driver.steer(ENTRY, Namespace::Ext, target).unwrap();
    arrives(&driver, &accelerator, Namespace::Ext, hint);

    let requester = driver.requester();
    how(&requester.vfio).unwrap();
    assert_eq!(requester.seen(CONTROL).unwrap(), 0);
    assert_eq!(requester.real(CONTROL).unwrap(), 0);
    assert_eq!(requester.entry(ENTRY.into()).unwrap(), 0);
    requester.vfio.set_memory_enable(true).unwrap();
    requester.vfio.set_bus_master(true).unwrap();
    let before = accelerator.state().unwrap();
    written(&driver, &accelerator, Some(hint)).unwrap_err();
    assert_eq!(accelerator.state().unwrap().partitions, before.partitions);

    driver.enable(DEVICE_SPECIFIC, Namespace::Ext).unwrap();
    let hint = driver.steer(ENTRY, Namespace::Ext, target).unwrap();
    arrives(&driver, &accelerator, Namespace::Ext, hint);
}

/// The tag that the firmware (`lab/crates/vm/src/cpu-tags.asl`) has for volatile memory.
fn firmware_tag(namespace: Namespace, cpu: u16) -> Option<u16> {
    match (namespace, cpu) {
        (Namespace::St, 2) | (Namespace::Ext, 3) => None,
        (Namespace::St, cpu) => Some(0xc0 + cpu),
        (Namespace::Ext, cpu) => Some(0xca00 + cpu),
    }
}

fn memory_of_a_cpu(place: Place, namespace: Namespace) {
    let mut driver = place.open(pci::INITIATOR_EXT, level::DS_ST);
    driver.enable(DEVICE_SPECIFIC, namespace).unwrap();
    if place.root_port.is_none() {
        assert_errno(driver.steer(ENTRY, namespace, Source::Cpu(0)), ENODEV);
        return;
    }
    let memory = Page::new().unwrap();
    let address = driver.map(&memory).unwrap().address;
    for cpu in 0..4 {
        let target = Source::Cpu(cpu.into());
        let Some(steering_tag) = firmware_tag(namespace, cpu) else {
            assert_errno(driver.resolve(namespace, target), EOPNOTSUPP);
            let entry = driver.requester().entry(ENTRY.into()).unwrap();
            assert_errno(driver.steer(ENTRY, namespace, target), EOPNOTSUPP);
            assert_eq!(driver.requester().entry(ENTRY.into()).unwrap(), entry);
            continue;
        };
        let ph = 0;
        assert_eq!(
            driver.resolve(namespace, target).unwrap(),
            Resolved { steering_tag, ph }
        );
        let hint = driver.steer(ENTRY, namespace, target).unwrap();
        let entry = driver.requester().entry(ENTRY.into()).unwrap();
        assert_eq!(entry, steering_tag);
        memory.write(0, &[0; 8]);
        driver.write(address, &SOURCE, Some(hint)).unwrap();
        assert_eq!(memory.read(0), SOURCE);
    }
    assert_errno(driver.steer(ENTRY, namespace, Source::Cpu(4)), EINVAL);
}

fn main() -> ExitCode {
    let place = match Place::find(Args::parse().root_port) {
        Ok(place) => place,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut tests: Vec<Test<'_>> = vec![
        (
            "a peer, 8-bit tags: as the root port allows",
            Box::new(move || a_root_port_decides(place, Namespace::St)),
        ),
        (
            "a peer, 16-bit tags: as the root port allows",
            Box::new(move || a_root_port_decides(place, Namespace::Ext)),
        ),
        (
            "a device without TPH is no requester",
            Box::new(move || no_requester(place, &[pci::INITIATOR_NO_TPH])),
        ),
    ];
    if place.root_port.is_some() {
        tests.push((
            "an integrated endpoint depends on no root port, and has no tags of CPUs",
            Box::new(an_integrated_endpoint),
        ));
    }
    if place.allows(Namespace::St) {
        tests.push((
            "a requester of 8-bit tags gets no others",
            Box::new(move || eight_bits_only(place)),
        ));
        tests.push((
            "interrupt vector mode: each vector, with its tag, which user space does not know",
            Box::new(move || every_interrupt_vector(place)),
        ));
        tests.push((
            "vfio case 24: a table in the MSI-X table is refused, and out of the device's reach",
            Box::new(move || table_in_msix(place)),
        ));
        tests.push((
            "vfio case 27: memory of each CPU, 8-bit tags, one not valid",
            Box::new(move || memory_of_a_cpu(place, Namespace::St)),
        ));
    } else {
        tests.push((
            "behind this root port no device is a requester",
            Box::new(move || no_requester(place, &REQUESTERS)),
        ));
        tests.push((
            "vfio case 8: a hidden capability that is the first one",
            Box::new(move || hidden_and_first(place)),
        ));
    }
    if place.allows(Namespace::Ext) {
        tests.push((
            "vfio case 25: without a table the driver has the tag, and the device sends it",
            Box::new(move || no_table(place)),
        ));
        tests.push((
            "vfio case 27: memory of each CPU, 16-bit tags, one not valid",
            Box::new(move || memory_of_a_cpu(place, Namespace::Ext)),
        ));
        tests.push((
            "a reset turns hints off, and they can be used again",
            Box::new(move || reset(place, Device::reset)),
        ));
        tests.push((
            "a Function Level Reset in config space does, too",
            Box::new(move || reset(place, Device::function_level_reset)),
        ));
    }
    tap::run(tests)
}
