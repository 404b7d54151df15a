// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the devices sit: known to the process that serves them and to the one that starts QEMU.

use clap::ValueEnum;
use devices::{CompleterType, InitiatorConfig};
use fabric::trace::DEFAULT_LIMIT;
use std::fmt::{self, Display, Formatter};
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;
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
    /// T1 and, from 00:13.0 on, an initiator of each kind that T1 has not.
    T1Requesters,
    /// T1 with a processor that the kernel does not trust with peer-to-peer DMA.
    T1Untrusted,
    /// T1 and an RDMA adapter at 00:13.0.
    T1Rdma,
    /// T1 behind an IOMMU.
    T2,
    /// T1Requesters behind an IOMMU.
    T2Requesters,
    /// The devices of T1 at 03:00.0, 04:00.0 and 05:00.0, below a switch at a root port.
    T3,
    /// T3 and, below the same switch at 06:00.0, an RDMA adapter.
    T3Rdma,
    /// The devices of T1Requesters from 03:00.0 on, below a switch at a root port, and an initiator at
    /// 00:17.0, an integrated endpoint beside the root port.
    T3Requesters,
    /// The devices of T1 as the functions 01:00.0, 01:00.1 and 01:00.2, below a root port.
    T4,
}

/// What a topology is without its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// The devices are on the root bus.
    RootBus,
    /// The same behind an IOMMU.
    Iommu,
    /// They are below a switch at a root port.
    Switch,
    /// They are functions of one slot below a root port.
    Slot,
}

/// Which address a peer-to-peer write has when it leaves the initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// The physical address of the BAR: through the host bridge, and nobody translates.
    Physical,
    /// One that the IOMMU translates to that of the BAR.
    Iova,
    /// The bus address of the BAR: what routes the write is below the host bridge.
    Bus,
}

/// What a device of a topology is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A requester of 8-bit tags.
    Initiator,
    /// A requester of 8- and 16-bit tags; its driver enables the latter.
    ExtendedInitiator,
    /// A requester of this kind, whatever the others are.
    InitiatorOf(InitiatorConfig),
    /// The completer.
    Accelerator,
    /// A completer of this type, whatever the type of the other is.
    AcceleratorOf(Completer),
    /// A requester that the mlx5 drivers use.
    ConnectX,
}

/// A device of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub role: Role,
    /// Its name in traces and logs.
    pub name: &'static str,
    /// QEMU's name of the bus that it is on.
    pub bus: &'static str,
    /// Its slot on that bus.
    pub slot: u8,
    /// Its address, as the guest numbers the buses.
    pub bdf: Bdf,
    /// The socket on which it is served.
    pub socket: PathBuf,
}

impl Device {
    /// Its slot and function on its bus, in QEMU's words.
    #[must_use]
    pub fn addr(&self) -> String {
        format!("{:#x}.{:#x}", self.slot, self.bdf.function())
    }
}

/// Root port, switch, and below it seven buses; in QEMU's words, in the order of creation.
const SWITCH: [&str; 9] = [
    "pcie-root-port,id=root-port,bus=pcie.0,addr=0x10,chassis=1",
    "x3130-upstream,id=switch,bus=root-port,addr=0x0",
    "xio3130-downstream,id=arm0,bus=switch,addr=0x0,chassis=2",
    "xio3130-downstream,id=arm1,bus=switch,addr=0x1,chassis=3",
    "xio3130-downstream,id=arm2,bus=switch,addr=0x2,chassis=4",
    "xio3130-downstream,id=arm3,bus=switch,addr=0x3,chassis=5",
    "xio3130-downstream,id=arm4,bus=switch,addr=0x4,chassis=6",
    "xio3130-downstream,id=arm5,bus=switch,addr=0x5,chassis=7",
    "xio3130-downstream,id=arm6,bus=switch,addr=0x6,chassis=8",
];
const ARMS: [&str; 7] = ["arm0", "arm1", "arm2", "arm3", "arm4", "arm5", "arm6"];
/// Number of the first arm's bus: the root port's is 1, the switch's own is 2.
const FIRST_ARM: u8 = 3;

/// VT-d. Interrupts are remapped, since VFIO takes them for unsafe else, and the guest reports each
/// mapping to the IOMMU, since QEMU could not tell the devices else.
const IOMMU: [&str; 1] = ["intel-iommu,intremap=on,caching-mode=on"];

/// A topology that is being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The topology.
    pub topology: Topology,
    /// TPH completer type of its root port.
    pub root_port: Completer,
    /// Where its sockets are.
    pub dir: PathBuf,
}

impl Topology {
    /// Its devices, with their sockets in `dir`.
    #[must_use]
    pub fn devices(self, dir: &Path) -> Vec<Device> {
        self.roles()
            .into_iter()
            .zip(0..)
            .map(|((role, name), number)| {
                let (bus, slot, bdf) = self.place(number);
                Device {
                    role,
                    name,
                    bus,
                    slot,
                    bdf,
                    socket: dir.join(format!("{name}.sock")),
                }
            })
            .collect()
    }

    fn roles(self) -> Vec<(Role, &'static str)> {
        let mut roles = vec![
            (Role::Initiator, "initiator"),
            (Role::Accelerator, "accelerator"),
            (Role::ExtendedInitiator, "initiator-ext"),
        ];
        if self == Self::T1Completers {
            roles.extend([
                (Role::AcceleratorOf(Completer::None), "accelerator-none"),
                (Role::AcceleratorOf(Completer::Tph), "accelerator-tph"),
                (
                    Role::AcceleratorOf(Completer::Reserved),
                    "accelerator-reserved",
                ),
            ]);
        }
        if self.has_requesters() {
            roles.extend([
                (
                    Role::InitiatorOf(InitiatorConfig::InterruptVector),
                    "initiator-iv",
                ),
                (
                    Role::InitiatorOf(InitiatorConfig::MsixTable),
                    "initiator-msix",
                ),
                (
                    Role::InitiatorOf(InitiatorConfig::NoTable),
                    "initiator-no-table",
                ),
                (
                    Role::InitiatorOf(InitiatorConfig::NoTph),
                    "initiator-no-tph",
                ),
            ]);
        }
        if self == Self::T3Requesters {
            // The switch has no arm for it.
            roles.push((
                Role::InitiatorOf(InitiatorConfig::InterruptVector),
                "initiator-rciep",
            ));
        }
        if self.has_adapter() {
            roles.push((Role::ConnectX, "connectx"));
        }
        roles
    }

    /// Bus, slot and address of device `number`.
    fn place(self, number: u8) -> (&'static str, u8, Bdf) {
        match (self.shape(), ARMS.get(usize::from(number))) {
            (Shape::Switch, Some(arm)) => (arm, 0, Bdf::new(FIRST_ARM + number, 0, 0)),
            (Shape::Slot, _) => ("root-port", 0, Bdf::new(1, 0, number)),
            _ => ("pcie.0", 0x10 + number, Bdf::new(0, 0x10 + number, 0)),
        }
    }

    /// What it is without its devices.
    fn shape(self) -> Shape {
        match self {
            Self::T1
            | Self::T1Completers
            | Self::T1Requesters
            | Self::T1Untrusted
            | Self::T1Rdma => Shape::RootBus,
            Self::T2 | Self::T2Requesters => Shape::Iommu,
            Self::T3 | Self::T3Rdma | Self::T3Requesters => Shape::Switch,
            Self::T4 => Shape::Slot,
        }
    }

    /// What else QEMU must have, as values of its option `-device`, before the devices.
    #[must_use]
    pub fn fabric(self) -> &'static [&'static str] {
        match self {
            Self::T3Rdma => &SWITCH[..6],
            Self::T3Requesters => &SWITCH,
            _ => match self.shape() {
                Shape::RootBus => &[],
                Shape::Iommu => &IOMMU,
                Shape::Switch => &SWITCH[..5],
                Shape::Slot => &SWITCH[..1],
            },
        }
    }

    /// Where one of its devices is: the buses from the root bus on, and its address.
    #[must_use]
    pub fn path(self, device: &Device) -> String {
        let mut path = format!(
            "{:02x}:{:02x}.{:x}",
            device.bdf.bus(),
            device.bdf.device(),
            device.bdf.function()
        );
        let value = |part: &'static str, name: &str| {
            let mut values = part.split(',').filter_map(|value| value.split_once('='));
            values.find_map(|(known, value)| (known == name).then_some(value))
        };
        let mut next = Some(device.bus);
        while let Some(bus) = next {
            path = format!("{bus}/{path}");
            let mut parts = self.fabric().iter();
            let part = parts.find(|part| value(part, "id") == Some(bus));
            next = part.and_then(|part| value(part, "bus"));
        }
        path
    }

    /// Whether QEMU has an IOMMU.
    #[must_use]
    pub fn has_iommu(self) -> bool {
        self.shape() == Shape::Iommu
    }

    /// Whether it has an RDMA adapter, which then is the requester.
    #[must_use]
    pub fn has_adapter(self) -> bool {
        matches!(self, Self::T1Rdma | Self::T3Rdma)
    }

    /// Whether it has an initiator of every kind.
    fn has_requesters(self) -> bool {
        matches!(
            self,
            Self::T1Requesters | Self::T2Requesters | Self::T3Requesters
        )
    }

    /// Whether its devices are behind a root port, for which the firmware knows tags of CPU memory.
    #[must_use]
    pub fn has_root_port(self) -> bool {
        matches!(self.shape(), Shape::Switch | Shape::Slot)
    }

    /// Whether its devices are functions of one slot.
    #[must_use]
    pub fn is_multifunction(self) -> bool {
        self.shape() == Shape::Slot
    }

    /// The processor, in QEMU's words.
    #[must_use]
    pub fn cpu(self) -> &'static str {
        match self.shape() {
            // Peer-to-peer DMA through the host bridge needs one that the kernel trusts with it.
            Shape::RootBus | Shape::Iommu if self != Self::T1Untrusted => "EPYC",
            // One that it does not trust: what arrives went another way.
            _ => "qemu64",
        }
    }

    /// The kernel parameters that it needs.
    #[must_use]
    pub fn kernel_parameters(self) -> &'static [&'static str] {
        match self.shape() {
            Shape::RootBus => &[],
            Shape::Iommu => &["intel_iommu=on"],
            // Its hints depend on `tph_root_port`, so nobody may load it before that.
            Shape::Switch | Shape::Slot => &["modprobe.blacklist=rust_tph_initiator"],
        }
    }

    /// The socket in `dir` on which QEMU's monitor listens, if the devices need one: they ask it for
    /// the tables of the IOMMU.
    #[must_use]
    pub fn monitor(self, dir: &Path) -> Option<PathBuf> {
        self.has_iommu().then(|| dir.join("monitor.sock"))
    }

    /// The address of a peer-to-peer write.
    #[must_use]
    pub fn address_kind(self) -> AddressKind {
        match self.shape() {
            Shape::RootBus => AddressKind::Physical,
            Shape::Iommu => AddressKind::Iova,
            Shape::Switch | Shape::Slot => AddressKind::Bus,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
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

impl From<LinkMode> for tlp::Mode {
    fn from(mode: LinkMode) -> Self {
        match mode {
            LinkMode::Flit => Self::Flit,
            LinkMode::Nonflit => Self::NonFlit,
        }
    }
}

/// What the Device Capabilities 2 of a completer say about hints.
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

impl Completer {
    /// The code of TPH Completer Supported.
    #[must_use]
    pub fn code(self) -> u8 {
        CompleterType::from(self).code()
    }
}

impl From<Completer> for CompleterType {
    fn from(completer: Completer) -> Self {
        match completer {
            Completer::None => Self::None,
            Completer::Tph => Self::Tph,
            Completer::TphExt => Self::TphAndExtended,
            Completer::Reserved => Self::Reserved,
        }
    }
}

/// Where the RDMA adapter keeps its steering tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum StTable {
    /// In a table in its TPH capability, of which its memory keys name an entry.
    #[default]
    Capability,
    /// In its memory keys: there is no table.
    None,
}

/// Which tags the RDMA adapter can send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Tags {
    /// Those of 8 bits.
    Tph,
    /// Those of 8 and 16 bits.
    #[default]
    TphExt,
}

/// How much the RDMA adapter can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Adapter {
    /// One interrupt vector for everything, and no doorbells of low latency.
    Plain,
    /// Eight vectors, and doorbells of low latency for the driver's own work.
    #[default]
    Full,
}

/// How many MiB a trace may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLimit(pub u32);

impl TraceLimit {
    /// The same in bytes; none if there is to be no trace.
    #[must_use]
    pub fn bytes(self) -> Option<u64> {
        (self.0 > 0).then_some(u64::from(self.0) << 20)
    }
}

impl Default for TraceLimit {
    fn default() -> Self {
        Self(u32::try_from(DEFAULT_LIMIT >> 20).unwrap_or(u32::MAX))
    }
}

impl FromStr for TraceLimit {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Display for TraceLimit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
    /// TPH completer type that the guest's module tph_root_port gives the root ports, once it is loaded.
    #[arg(long, value_enum, default_value_t)]
    pub root_port: Completer,
    /// Where the RDMA adapter keeps its steering tags.
    #[arg(long, value_enum, default_value_t)]
    pub st_table: StTable,
    /// Which tags the RDMA adapter can send.
    #[arg(long, value_enum, default_value_t)]
    pub tags: Tags,
    /// How much the RDMA adapter can do.
    #[arg(long, value_enum, default_value_t)]
    pub adapter: Adapter,
    /// Most MiB of the trace, 0 for none: what is beyond is counted only.
    #[arg(long, value_name = "MIB", default_value_t)]
    pub trace_limit: TraceLimit,
}

impl Devices {
    /// The options that say the same.
    #[must_use]
    pub fn options(self) -> [String; 8] {
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
            option("root-port", &self.root_port),
            option("st-table", &self.st_table),
            option("tags", &self.tags),
            option("adapter", &self.adapter),
            format!("--trace-limit={}", self.trace_limit),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::ffi::OsStr;

    #[test]
    fn no_two_devices_share_a_place() {
        for &topology in Topology::value_variants() {
            let devices = topology.devices(Path::new("/r"));
            let first = devices.iter().map(|device| device.role).take(3);
            assert!(first.eq([Role::Initiator, Role::Accelerator, Role::ExtendedInitiator]));
            for (at, one) in devices.iter().enumerate() {
                for other in &devices[at + 1..] {
                    assert_ne!((one.bus, one.addr()), (other.bus, other.addr()));
                    assert_ne!(one.bdf, other.bdf);
                    assert_ne!(one.socket, other.socket);
                }
            }
        }
    }

    /// Guest tests name them.
    #[test]
    fn the_requesters_have_fixed_addresses() {
        let addresses = |topology: Topology| -> Vec<_> {
            let devices = topology.devices(Path::new("/r")).into_iter();
            devices.map(|device| (device.name, device.bdf)).collect()
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
        let expected = |place: fn(u8) -> Bdf| -> Vec<_> {
            names
                .into_iter()
                .zip(0..)
                .map(|(name, at)| (name, place(at)))
                .collect()
        };
        let of_t1 = expected(|at| Bdf::new(0, 0x10 + at, 0));
        assert_eq!(addresses(Topology::T1Requesters), of_t1);
        assert_eq!(addresses(Topology::T2Requesters), of_t1);
        let mut of_t3 = expected(|at| Bdf::new(3 + at, 0, 0));
        of_t3.push(("initiator-rciep", Bdf::new(0, 0x17, 0)));
        assert_eq!(addresses(Topology::T3Requesters), of_t3);
    }

    #[test]
    fn every_bus_is_there() {
        for &topology in Topology::value_variants() {
            for device in topology.devices(Path::new("/r")) {
                let id = format!("id={},", device.bus);
                let made = topology.fabric().iter().any(|part| part.contains(&id));
                assert!(made || device.bus == "pcie.0", "{}", device.bus);
            }
        }
    }

    #[test]
    fn a_path_leads_from_the_root_bus_to_the_device() {
        for (topology, expected) in [
            (Topology::T1, "pcie.0/00:11.0"),
            (Topology::T2, "pcie.0/00:11.0"),
            (Topology::T3, "pcie.0/root-port/switch/arm1/04:00.0"),
            (Topology::T4, "pcie.0/root-port/01:00.1"),
        ] {
            let device = &topology.devices(Path::new("/r"))[1];
            assert_eq!(topology.path(device), expected);
        }
    }

    #[test]
    fn only_an_iommu_needs_the_monitor() {
        for &topology in Topology::value_variants() {
            let monitor = topology.monitor(Path::new("/r"));
            assert_eq!(monitor.is_some(), topology.has_iommu());
            assert_eq!(
                topology.fabric().iter().any(|part| part.contains("iommu")),
                topology.has_iommu()
            );
        }
    }

    /// The devices that these options of the command line ask for.
    fn parse(options: &[impl AsRef<OsStr>]) -> Devices {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            devices: Devices,
        }
        let options = options.iter().map(AsRef::as_ref);
        Line::parse_from([OsStr::new("lab")].into_iter().chain(options)).devices
    }

    #[test]
    fn topologies_have_names() {
        for (name, topology) in [
            ("t1-requesters", Topology::T1Requesters),
            ("t1-untrusted", Topology::T1Untrusted),
            ("t1-rdma", Topology::T1Rdma),
            ("t2", Topology::T2),
            ("t2-requesters", Topology::T2Requesters),
            ("t3", Topology::T3),
            ("t3-requesters", Topology::T3Requesters),
            ("t3-rdma", Topology::T3Rdma),
            ("t4", Topology::T4),
        ] {
            assert_eq!(Topology::from_str(name, false), Ok(topology));
            assert_eq!(topology.name(), name);
        }
        assert!(Topology::from_str("t9", false).is_err());
    }

    #[test]
    fn the_devices_of_a_run_survive_the_command_line() {
        let modes = [LinkMode::Flit, LinkMode::Nonflit].into_iter().cycle();
        let mut limits = [0, 1, u32::MAX].map(TraceLimit).into_iter().cycle();
        for (&topology, mode) in Topology::value_variants().iter().zip(modes) {
            for &completer in Completer::value_variants() {
                let devices = Devices {
                    topology,
                    mode,
                    completer,
                    root_port: Completer::Reserved,
                    st_table: StTable::None,
                    tags: Tags::Tph,
                    adapter: Adapter::Plain,
                    trace_limit: limits.next().unwrap(),
                };
                assert_eq!(parse(&devices.options()), devices);
            }
        }
    }

    #[test]
    fn a_trace_has_a_limit() {
        let limit = |options: &[&str]| parse(options).trace_limit.bytes();
        assert_eq!(limit(&[]), Some(256 << 20));
        assert_eq!(limit(&["--trace-limit", "3"]), Some(3 << 20));
        assert_eq!(limit(&["--trace-limit", "0"]), None);
    }
}
