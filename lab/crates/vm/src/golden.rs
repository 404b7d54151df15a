// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of each topology that comes with the lab, held against `golden.txt`: the kernel's
//! parameters, QEMU's options, and the devices that are served.

use crate::command::tests::{kernel, qemu_words};
use crate::command::{Accel, Guest, Task, arguments};
use crate::serve::endpoints;
use crate::topology::{Adapter, Completer, Devices, Placed, StTable, Tags, Topology};
use clap::ValueEnum;
use std::fmt::Write;
use std::path::Path;

/// Its arguments and devices, a line each.
fn describe(text: &mut String, title: &str, devices: Devices) {
    let dir = tempfile::tempdir().unwrap();
    let topology = devices.topology;
    let guest = Guest {
        kernel: &kernel(dir.path()),
        accel: Accel::Kvm,
        cpus: 2,
        icount: false,
        devices: Some(&Placed {
            topology,
            root_port: devices.root_port,
            dir: "/run/l".into(),
        }),
        acpi_table: topology.has_root_port().then_some(Path::new("/tags.aml")),
        append: &[],
        task: &Task::Shell,
        serial: Path::new("/serial.log"),
    };
    let arguments: Vec<_> = arguments(&guest)
        .into_iter()
        .map(|argument| argument.into_string().unwrap())
        .collect();
    let append = arguments.iter().position(|argument| argument == "--append");
    writeln!(text, "\n{title}").unwrap();
    writeln!(text, "  {}", arguments[append.unwrap() + 1]).unwrap();
    let words = qemu_words(&arguments);
    for option in words.chunk_by(|_, word| !word.starts_with('-')) {
        writeln!(text, "  {}", option.join(" ")).unwrap();
    }
    for endpoint in endpoints(devices, Path::new("/run/l")) {
        let devices::Endpoint {
            name,
            socket,
            bdf,
            path,
            device,
        } = endpoint;
        writeln!(text, "  {name} {bdf} {path} {}", socket.display()).unwrap();
        writeln!(text, "    {device:?}").unwrap();
    }
}

#[test]
fn topologies_become_what_they_have_always_been() {
    let mut text = String::new();
    for &topology in Topology::value_variants() {
        let devices = Devices {
            topology,
            ..Devices::default()
        };
        describe(&mut text, &topology.name(), devices);
    }
    let of = |topology| Devices {
        topology,
        ..Devices::default()
    };
    for (title, devices) in [
        (
            "t1-completers with an accelerator of 8-bit tags",
            Devices {
                completer: Completer::Tph,
                ..of(Topology::T1Completers)
            },
        ),
        (
            "t3-requesters with root ports of a reserved type",
            Devices {
                root_port: Completer::Reserved,
                ..of(Topology::T3Requesters)
            },
        ),
        (
            "t3-rdma without an ST table",
            Devices {
                st_table: StTable::None,
                ..of(Topology::T3Rdma)
            },
        ),
        (
            "t1-rdma with a plain adapter",
            Devices {
                adapter: Adapter::Plain,
                ..of(Topology::T1Rdma)
            },
        ),
        (
            "t1-rdma with an adapter of 8-bit tags",
            Devices {
                tags: Tags::Tph,
                ..of(Topology::T1Rdma)
            },
        ),
    ] {
        describe(&mut text, title, devices);
    }
    println!("what they become:{text}");
    let golden = include_str!("golden.txt").lines().skip(1);
    for (line, expected) in text.lines().zip(golden.clone()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text.lines().count(), golden.count());
}
