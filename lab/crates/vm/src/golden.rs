// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of each topology that comes with the lab, held against `golden.txt`: the kernel's
//! parameters, QEMU's options, and the devices that are served.

use crate::command::tests::{kernel, qemu_words};
use crate::command::{Accel, Guest, Task, arguments};
use crate::serve::endpoints;
use crate::topology::{
    Accelerator, Completer, Model, Placed, Profile, StTable, Tags, Topology, preset,
};
use std::fmt::Write;
use std::path::Path;

/// Its arguments and devices, a line each.
fn describe(text: &mut String, title: &str, topology: &Topology) {
    let dir = tempfile::tempdir().unwrap();
    let guest = Guest {
        kernel: &kernel(dir.path()),
        accel: Accel::Kvm,
        cpus: 2,
        icount: false,
        devices: Some(&Placed {
            topology: topology.clone(),
            dir: "/run/l".into(),
        }),
        acpi_table: topology.has_root_port().then_some(Path::new("/tags.aml")),
        append: &[],
        task: &Task::Shell,
        script: None,
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
    for endpoint in endpoints(topology, Path::new("/run/l")) {
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
    for preset in preset::ALL {
        describe(&mut text, &preset.name, preset);
    }
    let mut other_completer = preset::T1_COMPLETERS.clone();
    other_completer.devices[1].model = Model::Accelerator(Accelerator {
        completer: Completer::Tph,
    });
    let t1_rdma = || preset::T1_RDMA.clone();
    for (title, topology) in [
        (
            "t1-completers with an accelerator of 8-bit tags",
            other_completer,
        ),
        (
            "t3-requesters with root ports of a reserved type",
            Topology {
                root_ports: Completer::Reserved,
                ..preset::T3_REQUESTERS.clone()
            },
        ),
        (
            "t3-rdma without an ST table",
            preset::T3_RDMA
                .clone()
                .with_adapters(|adapter| adapter.st_table = StTable::None),
        ),
        (
            "t1-rdma with a plain adapter",
            t1_rdma().with_adapters(|adapter| adapter.profile = Profile::Plain),
        ),
        (
            "t1-rdma with an adapter of 8-bit tags",
            t1_rdma().with_adapters(|adapter| adapter.tags = Tags::Tph),
        ),
    ] {
        describe(&mut text, title, &topology);
    }
    println!("what they become:{text}");
    let golden = include_str!("golden.txt").lines().skip(1);
    for (line, expected) in text.lines().zip(golden.clone()) {
        assert_eq!(line, expected);
    }
    assert_eq!(text.lines().count(), golden.count());
}
