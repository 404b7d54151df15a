// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold in a topology so that QEMU can build it and traces can name its devices.

use super::{BridgeKind, ROOT_BUS, Topology};
use fabric::trace::HOST;

/// Most slots of a bus, and functions of a slot.
const SLOTS: u8 = 32;
const FUNCTIONS: u8 = 8;

/// Most buses below the root bus.
const BUSES: usize = 255;

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A name is none for QEMU, a trace or a file.
    #[error(
        "{0:?} is no name: it begins with a letter, and holds small letters, digits and hyphens"
    )]
    Name(String),
    /// Another thing has the name, or the lab itself.
    #[error("{0}: the name is taken")]
    NameTaken(String),
    /// There is no such bus, or it comes later.
    #[error("{name} is on bus {bus}, but no bridge before it has that name")]
    NoBus {
        /// Device or bridge.
        name: String,
        /// The bus.
        bus: String,
    },
    /// A port is where no such port can be, or a device inside a switch.
    #[error("{name} cannot be on bus {bus}: {why}")]
    WrongBus {
        /// Device or bridge.
        name: String,
        /// The bus.
        bus: String,
        /// Where it can be.
        why: &'static str,
    },
    /// There is no such slot on a bus, or function in a slot.
    #[error("{name} cannot be in slot {slot:#x}, function {function}, of bus {bus}: {why}")]
    NoSlot {
        /// Device or bridge.
        name: String,
        /// The bus.
        bus: String,
        /// The slot.
        slot: u8,
        /// The function.
        function: u8,
        /// What there is.
        why: &'static str,
    },
    /// Two are in one place.
    #[error("{name} is where {other} is")]
    Taken {
        /// Device or bridge.
        name: String,
        /// The one before it.
        other: String,
    },
    /// A slot has functions, but not the one that says so.
    #[error("{0} is in a slot without function 0, so the guest does not find it")]
    NoFunctionZero(String),
    /// There are more buses than numbers.
    #[error("there are more than {BUSES} bridges")]
    TooManyBridges,
}

/// What is somewhere: a bridge, or a device.
struct Part<'a> {
    name: &'a str,
    /// None for a device.
    kind: Option<BridgeKind>,
    bus: &'a str,
    slot: u8,
    function: u8,
}

impl Topology {
    /// Whether QEMU can build it.
    pub fn check(&self) -> Result<(), Violation> {
        if self.bridges.len() > BUSES {
            return Err(Violation::TooManyBridges);
        }
        let bridges = self.bridges.iter().map(|bridge| Part {
            name: &bridge.name,
            kind: Some(bridge.kind),
            bus: &bridge.bus,
            slot: bridge.slot,
            function: 0,
        });
        let devices = self.devices.iter().map(|device| Part {
            name: &device.name,
            kind: None,
            bus: &device.bus,
            slot: device.slot,
            function: device.function,
        });
        let parts: Vec<_> = bridges.chain(devices).collect();
        for (at, part) in parts.iter().enumerate() {
            part.check(&parts[..at])?;
            let has_function_0 = parts
                .iter()
                .any(|other| (other.bus, other.slot, other.function) == (part.bus, part.slot, 0));
            if !has_function_0 {
                return Err(Violation::NoFunctionZero(part.name.into()));
            }
        }
        Ok(())
    }
}

impl Part<'_> {
    fn check(&self, before: &[Part<'_>]) -> Result<(), Violation> {
        let &Self {
            name,
            bus,
            slot,
            function,
            ..
        } = self;
        let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
        let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !begins_well || !name.chars().all(is_of_name) {
            return Err(Violation::Name(name.into()));
        }
        if name == HOST || before.iter().any(|other| other.name == name) {
            return Err(Violation::NameTaken(name.into()));
        }
        let parent = before
            .iter()
            .find(|other| other.name == bus)
            .and_then(|other| other.kind);
        if parent.is_none() && bus != ROOT_BUS {
            return Err(Violation::NoBus {
                name: name.into(),
                bus: bus.into(),
            });
        }
        if let Some(why) = self.wrong_bus(parent) {
            return Err(Violation::WrongBus {
                name: name.into(),
                bus: bus.into(),
                why,
            });
        }
        let no_slot = match parent {
            _ if slot >= SLOTS || function >= FUNCTIONS => {
                Some("slots end at 0x1f, functions at 7")
            }
            None if slot == 0 => Some("the host bridge is there"),
            Some(BridgeKind::RootPort | BridgeKind::DownstreamPort) if slot != 0 => {
                Some("a link has one slot, 0")
            }
            _ => None,
        };
        if let Some(why) = no_slot {
            return Err(Violation::NoSlot {
                name: name.into(),
                bus: bus.into(),
                slot,
                function,
                why,
            });
        }
        let place = (bus, slot, function);
        let taken = |other: &&Part<'_>| (other.bus, other.slot, other.function) == place;
        match before.iter().find(taken) {
            None => Ok(()),
            Some(other) => Err(Violation::Taken {
                name: name.into(),
                other: other.name.into(),
            }),
        }
    }

    /// Why it cannot be on the bus of such a bridge, or on the root bus.
    fn wrong_bus(&self, parent: Option<BridgeKind>) -> Option<&'static str> {
        use BridgeKind::{DownstreamPort, RootPort, UpstreamPort};
        match (self.kind, parent) {
            (Some(RootPort), Some(_)) => Some("a root port is on the root bus"),
            (Some(UpstreamPort), None | Some(UpstreamPort)) => {
                Some("an upstream port is below a root port or a downstream port")
            }
            (Some(DownstreamPort), None | Some(RootPort | DownstreamPort)) => {
                Some("a downstream port is on the bus of an upstream port")
            }
            (None, Some(UpstreamPort)) => {
                Some("a switch has nothing but downstream ports on its own bus")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Bridge, Device, preset};

    /// What is wrong with T3 after a change.
    fn wrong(change: impl Fn(&mut Topology)) -> String {
        let mut topology = preset::T3.clone();
        change(&mut topology);
        topology.check().unwrap_err().to_string()
    }

    fn device(change: impl Fn(&mut Device)) -> String {
        wrong(|topology| change(&mut topology.devices[1]))
    }

    fn bridge(at: usize, change: impl Fn(&mut Bridge)) -> String {
        wrong(|topology| change(&mut topology.bridges[at]))
    }

    #[test]
    fn names_are_words_and_differ() {
        for name in ["", "a/b", "a b", "1a", "-a", "Accelerator", "a.b"] {
            let error = device(|device| device.name = name.into());
            assert!(
                error.starts_with(&format!("{name:?} is no name")),
                "{error}"
            );
        }
        for name in ["initiator", "switch", "host"] {
            let error = device(|device| device.name = name.into());
            assert_eq!(error, format!("{name}: the name is taken"));
        }
    }

    #[test]
    fn buses_are_there() {
        let error = device(|device| device.bus = "arm9".into());
        assert_eq!(
            error,
            "accelerator is on bus arm9, but no bridge before it has that name"
        );
        let on_device = device(|device| device.bus = "initiator".into());
        assert!(on_device.contains("no bridge before it"), "{on_device}");
        let circle = bridge(1, |switch| switch.bus = "arm0".into());
        assert!(circle.starts_with("switch is on bus arm0, but"), "{circle}");
    }

    #[test]
    fn ports_are_where_ports_can_be() {
        let error = bridge(3, |port| port.kind = BridgeKind::RootPort);
        assert!(error.ends_with("a root port is on the root bus"), "{error}");
        let error = bridge(1, |switch| switch.bus = ROOT_BUS.into());
        assert!(error.starts_with("switch cannot be on bus pcie.0: an upstream"));
        let error = bridge(2, |arm| arm.bus = "root-port".into());
        assert!(error.starts_with("arm0 cannot be on bus root-port: a downstream"));
        let error = device(|device| device.bus = "switch".into());
        assert!(error.starts_with("accelerator cannot be on bus switch: a switch"));
    }

    #[test]
    fn slots_are_there_and_free() {
        let error = device(|device| device.slot = 1);
        assert!(error.ends_with("a link has one slot, 0"), "{error}");
        let error = device(|device| device.function = 8);
        assert!(error.ends_with("functions at 7"), "{error}");
        let error = bridge(2, |arm| arm.slot = 32);
        assert!(error.starts_with("arm0 cannot be in slot 0x20"), "{error}");
        let error = device(|device| device.bus = ROOT_BUS.into());
        assert!(error.ends_with("the host bridge is there"), "{error}");
        let error = device(|device| device.bus = "arm0".into());
        assert_eq!(error, "accelerator is where initiator is");
        let error = bridge(3, |arm| arm.slot = 0);
        assert_eq!(error, "arm1 is where arm0 is");
    }

    #[test]
    fn functions_begin_with_0() {
        let error = device(|device| device.function = 1);
        assert!(error.starts_with("accelerator is in a slot without function 0"));
    }

    #[test]
    fn buses_have_numbers() {
        let error = wrong(|topology| {
            let more = topology.bridges[0].clone();
            topology.bridges.resize(BUSES + 1, more);
        });
        assert_eq!(error, "there are more than 255 bridges");
    }
}
