// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the devices sit: known to the process that serves them and to the one that starts QEMU.

use clap::ValueEnum;
use std::path::{Path, PathBuf};
use tlp::Bdf;

/// A ready-made arrangement of devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// Initiator 00:10.0, accelerator 00:11.0, and 00:12.0, an initiator that can do 16-bit tags; all
    /// of them integrated endpoints on the root bus.
    #[default]
    T1,
    /// T1 and, from 00:13.0 on, an accelerator of each completer type that T1's has not.
    T1Completers,
}

/// What a device of a topology is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A requester of 8-bit tags.
    Initiator,
    /// A requester of 8- and 16-bit tags; its driver enables the latter.
    ExtendedInitiator,
    /// The completer.
    Accelerator,
    /// A completer of this type, whatever the type of the other is.
    AcceleratorOf(Completer),
}

/// A device of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub role: Role,
    /// Its name in traces and logs.
    pub name: &'static str,
    /// Its slot on the root bus.
    pub slot: u8,
    /// The socket on which it is served.
    pub socket: PathBuf,
}

impl Device {
    /// Its address: root bus, function 0.
    pub fn bdf(&self) -> Bdf {
        Bdf::new(0, self.slot, 0)
    }
}

impl Topology {
    /// Its devices, with their sockets in `dir`.
    pub fn devices(self, dir: &Path) -> Vec<Device> {
        let device = |role, name, slot| Device {
            role,
            name,
            slot,
            socket: dir.join(format!("{name}.sock")),
        };
        let mut devices = vec![
            device(Role::Initiator, "initiator", 0x10),
            device(Role::Accelerator, "accelerator", 0x11),
            device(Role::ExtendedInitiator, "initiator-ext", 0x12),
        ];
        if self == Self::T1Completers {
            let of = Role::AcceleratorOf;
            devices.extend([
                device(of(Completer::None), "accelerator-none", 0x13),
                device(of(Completer::Tph), "accelerator-tph", 0x14),
                device(of(Completer::Reserved), "accelerator-reserved", 0x15),
            ]);
        }
        devices
    }
}

/// Header format of the fabric's links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LinkMode {
    /// PCIe 6.0 and later: hints in OHC-B.
    #[default]
    Flit,
    /// Up to PCIe 5.0: hints in the header and the TPH prefix.
    Nonflit,
}

/// What the accelerator's Device Capabilities 2 say about hints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Completer {
    /// 00b: it does not take them.
    None,
    /// 01b: 8-bit tags.
    Tph,
    /// 11b: 8- and 16-bit tags.
    #[default]
    TphExt,
    /// 10b: the code that the specification reserves.
    Reserved,
}

/// The devices of a run, as options of the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub struct Devices {
    /// Where they sit.
    #[arg(long, value_enum, default_value_t)]
    pub topology: Topology,
    /// Header format of the links.
    #[arg(long, value_enum, default_value_t)]
    pub mode: LinkMode,
    /// TPH completer type of the accelerator.
    #[arg(long, value_enum, default_value_t)]
    pub completer: Completer,
}

impl Devices {
    /// The options that say the same.
    pub fn options(self) -> [String; 3] {
        fn option(name: &str, value: &impl ValueEnum) -> String {
            let value = value.to_possible_value();
            format!(
                "--{name}={}",
                value.as_ref().map_or("", |value| value.get_name())
            )
        }
        [
            option("topology", &self.topology),
            option("mode", &self.mode),
            option("completer", &self.completer),
        ]
    }
}
