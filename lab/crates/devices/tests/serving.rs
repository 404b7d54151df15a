// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vfio-user client sees of an endpoint, and how serving begins and ends.

mod common;

use common::{CONFIG, Lab, hierarchy};
use devices::{
    AcceleratorConfig, CompleterType, Error, Running,
    accelerator::MemorySize,
    client::{Client, ClientError},
};
use rustix::event::{EventfdFlags, eventfd};
use std::{
    fs,
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
};
use tlp::Mode;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP,
};

#[test]
fn regions_and_interrupts() {
    let mut lab = Lab::ready();
    for (device, sizes) in [
        (&mut lab.initiator, [0x2000, 0, 0]),
        (&mut lab.accelerator, [0x2000, 0, 0x10_0000]),
    ] {
        for (bar, size) in (0..).zip(sizes) {
            assert_eq!(device.client.region(bar).unwrap().size, size);
        }
        assert_eq!(device.client.region(CONFIG).unwrap().size, 4096);
        assert!(device.client.region(8).is_some() && device.client.region(9).is_none());
        for index in 0..5 {
            let count = u32::from(index == VFIO_PCI_MSIX_IRQ_INDEX);
            assert_eq!(device.client.get_irq_info(index).unwrap().count, count);
        }
    }
    assert!(
        lab.initiator
            .client
            .region(0)
            .unwrap()
            .file_offset
            .is_none()
    );
    let payload = lab.accelerator.client.region(2).unwrap();
    assert_ne!(payload.flags & VFIO_REGION_INFO_FLAG_MMAP, 0);
    assert_eq!(payload.sparse_areas.len(), 1);
    assert_eq!(
        (payload.sparse_areas[0].offset, payload.sparse_areas[0].size),
        (0, 0x10_0000)
    );
}

#[test]
fn payload_by_message_and_by_mapping_is_the_same() {
    let mut lab = Lab::ready();
    lab.accelerator
        .client
        .region_write(2, 0x123, b"message")
        .unwrap();
    assert_eq!(&lab.payload_at::<7>(0x123), b"message");
    let mut data = [0; 7];
    lab.accelerator
        .client
        .region_read(2, 0x123, &mut data)
        .unwrap();
    assert_eq!(&data, b"message");
}

#[test]
fn accesses_out_of_range_read_as_ones() {
    let mut lab = Lab::ready();
    for (region, offset) in [
        (0, 0x2000),
        (0, 0x1ffc),
        (0, u64::MAX),
        (1, 0),
        (8, 0),
        (CONFIG, 4096),
        (CONFIG, u64::MAX),
    ] {
        let mut data = [0; 8];
        lab.initiator
            .client
            .region_write(region, offset, &data)
            .unwrap();
        lab.initiator
            .client
            .region_read(region, offset, &mut data)
            .unwrap();
        assert_eq!(data, [0xff; 8], "region {region} at {offset:#x}");
    }
    // Any width, any alignment.
    for (offset, expected) in [
        (0u64, &b"IHPT\x01\0\0\0"[..]),
        (1, b"HP"),
        (2, b"PT\x01\0\0"),
    ] {
        let mut data = vec![0; expected.len()];
        lab.initiator
            .client
            .region_read(0, offset, &mut data)
            .unwrap();
        assert_eq!(data, expected);
    }
}

/// The server answers every error, and a posted write must not be answered.
#[test]
fn posted_writes_are_not_answered() {
    let lab = Lab::new(Mode::Flit, CompleterType::None);
    drop(lab.initiator.client);
    let dir = tempfile::tempdir().unwrap();
    let hierarchy = hierarchy(dir.path(), Mode::Flit, CompleterType::None);
    let running = devices::serve(&hierarchy).unwrap();
    let mut socket = UnixStream::connect(&hierarchy.endpoints[0].socket).unwrap();
    let message = |id: u16, command: u16, flags: u32, region: u32, offset: u64, data: &[u8]| {
        let header = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
        let size = 32 + u32::try_from(data.len()).unwrap();
        let words = [size, flags, 0].map(u32::to_ne_bytes).concat();
        let access = [region, 4].map(u32::to_ne_bytes).concat();
        [&header[..], &words, &offset.to_ne_bytes(), &access, data].concat()
    };
    let (read, write, no_reply) = (9, 10, 1 << 4);
    for (id, region, offset) in [(1, 0, 0x20), (2, 0, 0x9999), (3, 1, 0), (4, CONFIG, 0x9999)] {
        socket
            .write_all(&message(id, write, no_reply, region, offset, &[7, 0, 0, 0]))
            .unwrap();
    }
    socket
        .write_all(&message(5, read, 0, 0, 0x20, &[]))
        .unwrap();
    let mut reply = [0; 36];
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(
        reply[..2],
        5u16.to_ne_bytes(),
        "the first answer is the read's"
    );
    assert_eq!(reply[32..], [7, 0, 0, 0]);
    drop(socket);
    running.wait().unwrap();
}

/// Serves a lab's devices without a client, and connects one that hears refusals to the initiator.
fn hearing(dir: &Path) -> (Running, Client) {
    let hierarchy = hierarchy(dir, Mode::Flit, CompleterType::None);
    let running = devices::serve(&hierarchy).unwrap();
    let client = Client::new(&hierarchy.endpoints[0].socket).unwrap();
    (running, client)
}

fn refused(result: &Result<(), ClientError>) {
    assert!(
        matches!(result, Err(ClientError::Refused { .. })),
        "{result:?}"
    );
}

#[test]
fn set_irqs_is_checked() {
    const MSIX: u32 = VFIO_PCI_MSIX_IRQ_INDEX;
    let dir = tempfile::tempdir().unwrap();
    let (running, mut client) = hearing(dir.path());
    let connect = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
    let raise = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
    let mask = VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_DATA_NONE;
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let fd = eventfd.as_fd();
    let raised = || {
        let mut count = [0; 8];
        let read = rustix::io::read(&eventfd, &mut count);
        read.map_or(0, |_| u64::from_ne_bytes(count))
    };
    client.set_irqs(MSIX, connect, 0, 1, &[fd]).unwrap();

    // The function has one vector.
    refused(&client.set_irqs(MSIX, connect, 1, 1, &[]));
    refused(&client.set_irqs(MSIX, connect, u32::MAX, 1, &[]));
    refused(&client.set_irqs(MSIX, connect, 0, 2, &[fd, fd]));
    refused(&client.set_irqs(MSIX, connect, 0, 0, &[fd]));
    refused(&client.set_irqs(MSIX, mask, 0, 1, &[]));
    // And no INTx.
    refused(&client.set_irqs(0, connect, 0, 1, &[]));
    client.set_irqs(0, raise, 0, 0, &[]).unwrap();
    // Nothing of that has raised the vector, or lost it.
    assert_eq!(raised(), 0);
    client.set_irqs(MSIX, raise, 0, 1, &[]).unwrap();
    assert_eq!(raised(), 1);

    client.set_irqs(MSIX, raise, 0, 0, &[]).unwrap(); // disconnects
    client.set_irqs(MSIX, raise, 0, 1, &[]).unwrap();
    assert_eq!(raised(), 0);
    drop(client);
    running.wait().unwrap();
}

#[test]
fn mappings_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (running, mut client) = hearing(dir.path());
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(0x2000).unwrap();
    client.dma_map(0, 0x1000, 0x1000, memory.as_fd()).unwrap();
    // It overlaps, or is more than the file has.
    refused(&client.dma_map(0, 0x1000, 0x1000, memory.as_fd()));
    refused(&client.dma_map(0x1000, 0x8000, 0x2000, memory.as_fd()));
    refused(&client.dma_unmap(0x1000, 0x800));
    client.dma_unmap(0x1000, 0x1000).unwrap();
    client.dma_map(0, 0x1000, 0x1000, memory.as_fd()).unwrap();
    drop(client);
    running.wait().unwrap();
}

#[test]
fn unmapped_memory_is_gone() {
    let mut lab = Lab::ready();
    assert_eq!(lab.copy(&[1; 4], 0, 0), 2);
    lab.initiator
        .client
        .dma_unmap(common::RAM, common::RAM_SIZE)
        .unwrap();
    assert_eq!(lab.copy(&[1; 4], 0, 0), 0x202);
}

#[test]
fn serving_ends_when_the_client_goes() {
    let lab = Lab::ready();
    let sockets = [
        lab.dir.path().join("initiator"),
        lab.dir.path().join("accelerator"),
    ];
    assert!(sockets.iter().all(|socket| socket.exists()));
    drop(lab.initiator);
    drop(lab.accelerator);
    lab.running.wait().unwrap();
    assert!(!sockets.iter().any(|socket| socket.exists()));
}

#[test]
fn endpoints_that_never_had_a_client_are_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let hierarchy = hierarchy(dir.path(), Mode::Flit, CompleterType::Tph);
    let running = devices::serve(&hierarchy).unwrap();
    drop(vfio_user::Client::new(&hierarchy.endpoints[1].socket).unwrap());
    running.wait().unwrap();

    let running = devices::serve(&hierarchy).unwrap();
    running.dismiss();
    running.wait().unwrap();
}

#[test]
fn a_write_after_the_completer_has_gone_is_unsupported() {
    let Lab {
        dir,
        running,
        mut initiator,
        accelerator,
        ..
    } = Lab::ready();
    drop(accelerator);
    // Its thread silences it after it has seen the end of the connection.
    while dir.path().join("accelerator").exists() {
        std::thread::yield_now();
    }
    initiator.bar_write(0x10, &common::PAYLOAD.to_le_bytes());
    initiator.bar_write(0x18, &common::RAM.to_le_bytes());
    initiator.set_register(0x20, 4);
    initiator.set_register(0x28, 1);
    while initiator.register(0x2c) & 1 != 0 {
        std::thread::yield_now();
    }
    let path = dir.path().join(fabric::trace::BINARY_FILE);
    let last = fabric::trace::Reader::open(&path)
        .unwrap()
        .last()
        .unwrap()
        .unwrap();
    assert!(last.is_unsupported());
    drop(initiator);
    running.wait().unwrap();
}

#[test]
fn what_cannot_be_served_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut devices::Hierarchy)| {
        let mut hierarchy = hierarchy(dir.path(), Mode::Flit, CompleterType::Tph);
        change(&mut hierarchy);
        let error = devices::serve(&hierarchy)
            .err()
            .expect("it must be refused");
        let left: Vec<_> = ["initiator", "accelerator"]
            .into_iter()
            .filter(|name| dir.path().join(name).exists())
            .collect();
        (error, left.len())
    };
    let (error, left) = refused(&|hierarchy| hierarchy.trace_dir = Some("/no/such".into()));
    assert!(matches!(error, Error::Tap(_)) && left == 0, "{error}");

    let (error, left) = refused(&|hierarchy| hierarchy.endpoints[1].name = "initiator".into());
    assert!(
        matches!(&error, Error::Attach { name, .. } if name == "initiator"),
        "{error}"
    );
    assert_eq!(left, 0);

    for size in [0, 0x800, 0x1800] {
        let (error, left) = refused(&|hierarchy: &mut devices::Hierarchy| {
            hierarchy.endpoints[1].device = Box::new(AcceleratorConfig {
                memory: size,
                ..AcceleratorConfig::default()
            });
        });
        assert!(
            matches!(&error, Error::Device { name, source }
                if name == "accelerator" && source.downcast_ref() == Some(&MemorySize(size))),
            "{error}"
        );
        assert_eq!(left, 0);
    }

    let (error, left) = refused(&|hierarchy| hierarchy.endpoints[1].socket = "/no/such".into());
    assert!(matches!(error, Error::Socket { .. }), "{error}");
    assert_eq!(left, 0);

    fs::write(dir.path().join("accelerator"), "").unwrap();
    let (error, left) = refused(&|_| ());
    assert!(matches!(error, Error::SocketExists { .. }), "{error}");
    assert_eq!(left, 1, "what was there before is left alone");
}
