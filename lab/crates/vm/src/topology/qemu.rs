// SPDX-License-Identifier: MIT OR Apache-2.0
//! A topology in the words of QEMU and of the kernel's command line.

use super::{Bridge, BridgeKind, Device, Topology};
use serde_json::json;
use std::path::Path;

/// VT-d. Interrupts are remapped, since VFIO takes them for unsafe else, and the guest reports each
/// mapping to the IOMMU, since QEMU could not tell the devices else.
const IOMMU: &str = "intel-iommu,intremap=on,caching-mode=on";

impl Topology {
    /// The values of QEMU's option `-device`, in the order in which they must be created. The devices
    /// are served in `dir`.
    #[must_use]
    pub fn qemu_devices(&self, dir: &Path) -> Vec<String> {
        let iommu = self.iommu.then(|| IOMMU.to_owned());
        // The number of a slot for hot-plug, which QEMU wants of every port but the upstream one.
        let mut chassis = 0;
        let bridges = self.bridges.iter().map(|bridge| {
            let Bridge {
                name, bus, slot, ..
            } = bridge;
            let driver = match bridge.kind {
                BridgeKind::RootPort => "pcie-root-port",
                BridgeKind::UpstreamPort => "x3130-upstream",
                BridgeKind::DownstreamPort => "xio3130-downstream",
            };
            let words = format!("{driver},id={name},bus={bus},addr={slot:#x}");
            if bridge.kind == BridgeKind::UpstreamPort {
                return words;
            }
            chassis += 1;
            format!("{words},chassis={chassis}")
        });
        let bridges: Vec<_> = bridges.collect();
        let devices = self.devices.iter();
        let devices = devices.map(|device| self.qemu_device(device, dir));
        iommu.into_iter().chain(bridges).chain(devices).collect()
    }

    fn qemu_device(&self, device: &Device, dir: &Path) -> String {
        let device = json!({
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": device.socket(dir)},
            "bus": device.bus,
            "addr": format!("{:#x}.{:#x}", device.slot, device.function),
            "multifunction": self.is_multifunction(device),
            "rombar": 0,
        });
        device.to_string()
    }

    /// The parameters with which the kernel boots.
    pub fn boot_parameters(&self) -> impl Iterator<Item = String> {
        // modprobe takes a module's parameters from there.
        let completer = || format!("tph_root_port.completer={}", self.root_ports.code());
        let completer = self.has_root_port().then(completer);
        self.kernel_parameters.iter().cloned().chain(completer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_ports_are_told_apart() {
        let text = r#"
            name = "two"
            about = "two root ports"
            cpu = "qemu64"
            bridges = [
                { name = "left", kind = "root-port", bus = "pcie.0", slot = 0x10 },
                { name = "right", kind = "root-port", bus = "pcie.0", slot = 0x11 },
            ]
            devices = [
                { name = "initiator", bus = "left", kind = "initiator", requester = "tph" },
                { name = "accelerator", bus = "right", kind = "accelerator" },
            ]
        "#;
        let topology = Topology::from_toml(text).unwrap();
        let words = topology.qemu_devices(Path::new("/r"));
        assert_eq!(
            words[..2],
            [
                "pcie-root-port,id=left,bus=pcie.0,addr=0x10,chassis=1",
                "pcie-root-port,id=right,bus=pcie.0,addr=0x11,chassis=2"
            ]
        );
        for (word, bus) in words[2..].iter().zip(["left", "right"]) {
            let device: serde_json::Value = serde_json::from_str(word).unwrap();
            assert_eq!(device["bus"], bus);
            assert_eq!(device["addr"], "0x0.0x0");
        }
        let [initiator, accelerator] = &topology.devices[..] else {
            panic!("{topology:?}");
        };
        assert_eq!(topology.path(accelerator), "pcie.0/right/02:00.0");
        let kind = topology.address_kind(initiator, accelerator);
        assert_eq!(kind, crate::topology::AddressKind::Physical);
    }
}
