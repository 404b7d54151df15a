// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree of buses.

use super::{Device, Topology};
use serde::{Deserialize, Serialize};
use tlp::Bdf;

/// QEMU's name of the root bus.
pub const ROOT_BUS: &str = "pcie.0";

/// A port that has a bus below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// Its name, and that of the bus below it.
    pub name: String,
    /// What it is.
    pub kind: BridgeKind,
    /// The bus that it is on.
    pub bus: String,
    /// Its slot on that bus, 0 to 31; function 0 of it.
    #[serde(default)]
    pub slot: u8,
}

/// What a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BridgeKind {
    /// Of the root complex.
    RootPort,
    /// The one port of a switch towards the root complex.
    UpstreamPort,
    /// Another port of a switch, on the bus below its upstream port.
    DownstreamPort,
}

impl Topology {
    /// The port that has this bus below it; none for the root bus.
    pub(super) fn bridge(&self, bus: &str) -> Option<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.name == bus)
    }

    /// The ports between a bus and the root bus, upwards.
    pub(super) fn bridges_above(&self, bus: &str) -> impl Iterator<Item = &Bridge> {
        let above = |bridge: &&Bridge| self.bridge(&bridge.bus);
        std::iter::successors(self.bridge(bus), above)
    }

    /// The ports in the order in which the guest numbers the buses below them: depth first, and by
    /// their slots.
    fn bridges_by_number(&self) -> Vec<&Bridge> {
        fn descend<'a>(topology: &'a Topology, bus: &str, into: &mut Vec<&'a Bridge>) {
            let on_bus = topology.bridges.iter().filter(|bridge| bridge.bus == bus);
            let mut on_bus: Vec<_> = on_bus.collect();
            on_bus.sort_by_key(|bridge| bridge.slot);
            for bridge in on_bus {
                into.push(bridge);
                descend(topology, &bridge.name, into);
            }
        }
        let mut bridges = Vec::new();
        descend(self, ROOT_BUS, &mut bridges);
        bridges
    }

    /// The address of a device, as the guest numbers the buses.
    #[must_use]
    pub fn bdf(&self, device: &Device) -> Bdf {
        let mut numbered = self.bridges_by_number().into_iter().zip(1..=u8::MAX);
        let below = numbered.find(|(bridge, _)| bridge.name == device.bus);
        let bus = below.map_or(0, |(_, number)| number);
        Bdf::new(bus, device.slot, device.function)
    }

    /// Where a device is: the buses from the root bus on, and its address.
    #[must_use]
    pub fn path(&self, device: &Device) -> String {
        let bdf = self.bdf(device);
        let mut path = format!(
            "{:02x}:{:02x}.{:x}",
            bdf.bus(),
            bdf.device(),
            bdf.function()
        );
        for bridge in self.bridges_above(&device.bus) {
            path = format!("{}/{path}", bridge.name);
        }
        format!("{ROOT_BUS}/{path}")
    }

    /// Whether a device shares its slot with another one.
    #[must_use]
    pub fn is_multifunction(&self, device: &Device) -> bool {
        let in_slot = |other: &&Device| (&other.bus, other.slot) == (&device.bus, device.slot);
        self.devices.iter().filter(in_slot).count() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::preset;

    #[test]
    fn a_path_leads_from_the_root_bus_to_the_device() {
        for (topology, expected) in [
            (&preset::T1, "pcie.0/00:11.0"),
            (&preset::T2, "pcie.0/00:11.0"),
            (&preset::T3, "pcie.0/root-port/switch/arm1/04:00.0"),
            (&preset::T4, "pcie.0/root-port/01:00.1"),
        ] {
            assert_eq!(topology.path(&topology.devices[1]), expected);
        }
    }

    #[test]
    fn buses_are_numbered_depth_first_and_by_slot() {
        let mut topology = preset::T3.clone();
        // It is written last and comes first.
        topology.bridges.push(Bridge {
            name: "first".into(),
            kind: BridgeKind::RootPort,
            bus: ROOT_BUS.into(),
            slot: 3,
        });
        let bus = |name: &str| {
            let device = Device {
                bus: name.into(),
                ..topology.devices[0].clone()
            };
            topology.bdf(&device).bus()
        };
        assert_eq!(bus(ROOT_BUS), 0);
        assert_eq!(bus("first"), 1);
        assert_eq!(bus("root-port"), 2);
        assert_eq!(["arm0", "arm1", "arm2"].map(bus), [4, 5, 6]);
    }

    #[test]
    fn functions_of_one_slot_know_of_each_other() {
        for topology in preset::ALL {
            for device in &topology.devices {
                let expected = topology.name == "t4";
                assert_eq!(topology.is_multifunction(device), expected);
            }
        }
    }
}
