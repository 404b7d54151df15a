// SPDX-License-Identifier: MIT OR Apache-2.0
//! A topology: the buses of a guest, and the devices on them.
//!
//! It is data. From the one value come the configuration of the process that serves the devices,
//! QEMU's options, and what a demo expects of a trace. Those that come with the lab are [`preset`]s;
//! others are files of the same form.

mod bus;
mod device;
mod file;
mod options;
pub mod preset;
mod qemu;
mod rules;

pub use bus::{Bridge, BridgeKind, ROOT_BUS};
pub use device::{
    Accelerator, Completer, ConnectX, Device, Initiator, Model, Profile, StTable, Tags,
};
pub use file::ReadError;
pub use options::{DevicesArgs, NothingToChange, TopologyArgs, TraceLimit};
pub use rules::Violation;

use clap::ValueEnum;
use devices::InitiatorConfig;
use fabric::trace::Snaplen;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The buses of a guest, and the devices on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// What reports call it.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// Header format of the links.
    #[serde(default)]
    pub mode: LinkMode,
    /// QEMU's name of the processor. The kernel trusts some of them with peer-to-peer DMA through the
    /// host bridge.
    pub cpu: String,
    /// Whether there is an IOMMU, which is Intel's.
    #[serde(default)]
    pub iommu: bool,
    /// The kernel parameters that it needs.
    #[serde(default)]
    pub kernel_parameters: Vec<String>,
    /// TPH completer type that the guest's module tph_root_port gives all root ports, once it is
    /// loaded.
    #[serde(default)]
    pub root_ports: Completer,
    /// Root ports and the ports of switches; each behind the one whose bus it is on.
    #[serde(default)]
    pub bridges: Vec<Bridge>,
    /// The devices, in the order in which QEMU creates them.
    pub devices: Vec<Device>,
}

/// Header format of the fabric's links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkMode {
    /// PCIe 6.0 and later: hints in OHC-B.
    #[default]
    Flit,
    /// Up to PCIe 5.0: hints in the header and the TPH prefix.
    Nonflit,
}

impl From<LinkMode> for tlp::Mode {
    fn from(mode: LinkMode) -> Self {
        match mode {
            LinkMode::Flit => Self::Flit,
            LinkMode::Nonflit => Self::NonFlit,
        }
    }
}

/// Which address a peer-to-peer write has when it leaves the requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// The physical address of the BAR: through the host bridge, and nobody translates.
    Physical,
    /// One that the IOMMU translates to that of the BAR.
    Iova,
    /// The bus address of the BAR: what routes the write is below the host bridge.
    Bus,
}

/// A topology that is being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The topology.
    pub topology: Topology,
    /// Where its sockets are.
    pub dir: PathBuf,
}

/// The devices of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// What they are, and where they sit.
    pub topology: Topology,
    /// Most MiB of their trace.
    pub trace_limit: TraceLimit,
    /// How much of each packet it captures, if not all.
    pub snaplen: Option<Snaplen>,
}

impl From<Topology> for Devices {
    fn from(topology: Topology) -> Self {
        Self {
            topology,
            trace_limit: TraceLimit::default(),
            snaplen: None,
        }
    }
}

impl Topology {
    /// The first accelerator.
    #[must_use]
    pub fn accelerator(&self) -> Option<&Device> {
        self.find(|model| matches!(model, Model::Accelerator(_)))
    }

    /// The first initiator that is such a requester.
    #[must_use]
    pub fn initiator(&self, requester: InitiatorConfig) -> Option<&Device> {
        self.find(|model| *model == Model::Initiator(Initiator { requester }))
    }

    /// The first RDMA adapter, which then is the requester of a demo.
    #[must_use]
    pub fn adapter(&self) -> Option<&Device> {
        self.find(|model| matches!(model, Model::Connectx(_)))
    }

    fn find(&self, is_wanted: impl Fn(&Model) -> bool) -> Option<&Device> {
        self.devices.iter().find(|device| is_wanted(&device.model))
    }

    /// Whether there is a root port, for which the firmware knows tags of CPU memory.
    #[must_use]
    pub fn has_root_port(&self) -> bool {
        let mut bridges = self.bridges.iter();
        bridges.any(|bridge| bridge.kind == BridgeKind::RootPort)
    }

    /// The address of a write of `requester` into the BAR of `completer`.
    #[must_use]
    pub fn address_kind(&self, requester: &Device, completer: &Device) -> AddressKind {
        let below = |device: &Device| self.bridges_above(&device.bus).last();
        if below(requester).is_some() && below(requester) == below(completer) {
            AddressKind::Bus
        } else if self.iommu {
            AddressKind::Iova
        } else {
            AddressKind::Physical
        }
    }

    /// The socket in `dir` on which QEMU's monitor listens, if the devices need one: they ask it for
    /// the tables of the IOMMU.
    #[must_use]
    pub fn monitor(&self, dir: &Path) -> Option<PathBuf> {
        self.iommu.then(|| dir.join("monitor.sock"))
    }

    /// The same topology with each RDMA adapter changed.
    #[must_use]
    pub fn with_adapters(mut self, change: impl Fn(&mut ConnectX)) -> Self {
        for device in &mut self.devices {
            if let Model::Connectx(adapter) = &mut device.model {
                change(adapter);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guest tests name them.
    #[test]
    fn the_requesters_have_fixed_addresses() {
        let addresses = |topology: &Topology| -> Vec<_> {
            let devices = topology.devices.iter();
            devices
                .map(|device| (device.name.clone(), topology.bdf(device)))
                .collect()
        };
        let names = [
            "initiator",
            "accelerator",
            "initiator-ext",
            "initiator-iv",
            "initiator-msix",
            "initiator-no-table",
            "initiator-no-tph",
        ];
        let expected = |place: fn(u8) -> tlp::Bdf| -> Vec<_> {
            names
                .into_iter()
                .zip(0..)
                .map(|(name, at)| (name.to_owned(), place(at)))
                .collect()
        };
        let of_t1 = expected(|at| tlp::Bdf::new(0, 0x10 + at, 0));
        assert_eq!(addresses(&preset::T1_REQUESTERS), of_t1);
        assert_eq!(addresses(&preset::T2_REQUESTERS), of_t1);
        let mut of_t3 = expected(|at| tlp::Bdf::new(3 + at, 0, 0));
        of_t3.push(("initiator-rciep".to_owned(), tlp::Bdf::new(0, 0x17, 0)));
        assert_eq!(addresses(&preset::T3_REQUESTERS), of_t3);
    }

    #[test]
    fn the_devices_of_the_demos_are_found() {
        for topology in preset::ALL {
            let name = |device: Option<&Device>| device.map(|device| device.name.clone());
            assert_eq!(name(topology.accelerator()).unwrap(), "accelerator");
            let initiator = |requester| name(topology.initiator(requester)).unwrap();
            assert_eq!(initiator(InitiatorConfig::Tph), "initiator");
            assert_eq!(initiator(InitiatorConfig::Extended), "initiator-ext");
            let has_adapter = ["rdma", "adapters"].map(|end| topology.name.ends_with(end));
            let adapter = has_adapter.contains(&true).then(|| "connectx".into());
            assert_eq!(name(topology.adapter()), adapter);
            assert_eq!(
                topology.has_root_port(),
                topology.name.starts_with("t3") || topology.name == "t4"
            );
        }
    }

    #[test]
    fn the_way_decides_on_the_address() {
        let kind = |topology: &Topology, from: usize, to: usize| {
            topology.address_kind(&topology.devices[from], &topology.devices[to])
        };
        assert_eq!(kind(&preset::T1, 0, 1), AddressKind::Physical);
        assert_eq!(kind(&preset::T2, 0, 1), AddressKind::Iova);
        assert_eq!(kind(&preset::T3, 0, 1), AddressKind::Bus);
        assert_eq!(kind(&preset::T4, 0, 1), AddressKind::Bus);
        // The last one is beside the root port.
        assert_eq!(kind(&preset::T3_REQUESTERS, 7, 1), AddressKind::Physical);
    }

    #[test]
    fn only_an_iommu_needs_the_monitor() {
        for topology in preset::ALL {
            let monitor = topology.monitor(Path::new("/r"));
            assert_eq!(monitor.is_some(), topology.name.starts_with("t2"));
        }
    }

    #[test]
    fn all_adapters_are_changed_and_nothing_else() {
        let mut two = preset::T1_RDMA.clone();
        two.devices.push(Device {
            name: "other".into(),
            slot: 0x14,
            ..two.adapter().unwrap().clone()
        });
        let changed = two
            .clone()
            .with_adapters(|adapter| adapter.tags = Tags::Tph);
        assert_eq!(changed.devices[..3], two.devices[..3]);
        for device in &changed.devices[3..] {
            let Model::Connectx(adapter) = device.model else {
                panic!("{device:?}");
            };
            assert_eq!(
                (adapter.tags, adapter.st_table),
                (Tags::Tph, StTable::Capability)
            );
        }
    }
}
