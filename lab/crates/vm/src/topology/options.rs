// SPDX-License-Identifier: MIT OR Apache-2.0
//! A topology as options of the command line.

use super::{Completer, Devices, LinkMode, Model, Profile, StTable, Tags, Topology, preset};
use clap::Args;
use fabric::trace::{DEFAULT_LIMIT, Snaplen};
use std::fmt::{self, Display, Formatter, Write};
use std::num::ParseIntError;
use std::str::FromStr;

/// Which topology it is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TopologyArgs {
    /// Where the devices sit: a name, or a file
    #[arg(
        long,
        value_name = "NAME|FILE.toml",
        default_value = "t1",
        value_parser = Topology::named,
        long_help = long_help()
    )]
    pub topology: Topology,
    /// Header format of the links, whatever the topology says
    #[arg(long, value_enum)]
    pub mode: Option<LinkMode>,
}

fn long_help() -> String {
    let mut text = "Where the devices sit: a name, or a file\n\nThe names:\n".to_owned();
    for preset in preset::ALL {
        // A string takes what is written to it.
        let _ = writeln!(text, "- {}: {}", preset.name, preset.about);
    }
    text.truncate(text.trim_end().len());
    text
}

impl TopologyArgs {
    /// The topology.
    #[must_use]
    pub fn topology(self) -> Topology {
        let mut topology = self.topology;
        if let Some(mode) = self.mode {
            topology.mode = mode;
        }
        topology
    }
}

/// The devices of a run.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub topology: TopologyArgs,
    /// TPH completer type of the first accelerator
    #[arg(long, value_enum)]
    pub completer: Option<Completer>,
    /// TPH completer type that the guest's module tph_root_port gives the root ports, once it is loaded
    #[arg(long, value_enum)]
    pub root_port: Option<Completer>,
    /// Where RDMA adapters keep their steering tags
    #[arg(long, value_enum)]
    pub st_table: Option<StTable>,
    /// Which tags RDMA adapters can send
    #[arg(long, value_enum)]
    pub tags: Option<Tags>,
    /// How much RDMA adapters can do
    #[arg(long, value_enum)]
    pub adapter: Option<Profile>,
    /// Most MiB of the trace, 0 for none: what is beyond is counted only
    #[arg(long, value_name = "MIB", default_value_t)]
    pub trace_limit: TraceLimit,
    /// Keep N bytes of each packet in the trace: 32 are all headers without payload; a multiple of
    /// 4 [default: all]
    #[arg(long, value_name = "N", value_parser = snaplen)]
    pub snaplen: Option<Snaplen>,
}

/// An option is about something that the topology has not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("topology {topology} has no {what}, so there is nothing for --{option} to change")]
pub struct NothingToChange {
    topology: String,
    what: &'static str,
    option: &'static str,
}

impl DevicesArgs {
    /// The devices.
    pub fn devices(self) -> Result<Devices, NothingToChange> {
        let mut topology = self.topology.topology();
        let has_adapter = topology.adapter().is_some();
        let has_root_port = topology.has_root_port();
        let has_accelerator = topology.accelerator().is_some();
        for (option, is_given, what, is_there) in [
            (
                "completer",
                self.completer.is_some(),
                "accelerator",
                has_accelerator,
            ),
            (
                "root-port",
                self.root_port.is_some(),
                "root port",
                has_root_port,
            ),
            (
                "st-table",
                self.st_table.is_some(),
                "RDMA adapter",
                has_adapter,
            ),
            ("tags", self.tags.is_some(), "RDMA adapter", has_adapter),
            (
                "adapter",
                self.adapter.is_some(),
                "RDMA adapter",
                has_adapter,
            ),
        ] {
            if is_given && !is_there {
                return Err(NothingToChange {
                    topology: topology.name,
                    what,
                    option,
                });
            }
        }
        if let Some(completer) = self.completer {
            let mut models = topology.devices.iter_mut().map(|device| &mut device.model);
            let accelerator = models.find_map(|model| match model {
                Model::Accelerator(accelerator) => Some(accelerator),
                _ => None,
            });
            if let Some(accelerator) = accelerator {
                accelerator.completer = completer;
            }
        }
        if let Some(completer) = self.root_port {
            topology.root_ports = completer;
        }
        let topology = topology.with_adapters(|adapter| {
            adapter.st_table = self.st_table.unwrap_or(adapter.st_table);
            adapter.tags = self.tags.unwrap_or(adapter.tags);
            adapter.profile = self.adapter.unwrap_or(adapter.profile);
        });
        Ok(Devices {
            topology,
            trace_limit: self.trace_limit,
            snaplen: self.snaplen,
        })
    }
}

fn snaplen(text: &str) -> Result<Snaplen, String> {
    let bytes = text
        .parse()
        .map_err(|error: ParseIntError| error.to_string())?;
    Snaplen::new(bytes).map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        devices: DevicesArgs,
    }

    fn parse(options: &[&str]) -> Result<Devices, String> {
        let line = Line::try_parse_from(["lab"].iter().chain(options));
        let args = line.map_err(|error| error.to_string())?.devices;
        args.devices().map_err(|error| error.to_string())
    }

    #[test]
    fn every_preset_has_its_name() {
        assert_eq!(parse(&[]).unwrap(), Devices::from(preset::T1.clone()));
        for preset in preset::ALL {
            let devices = parse(&["--topology", &preset.name]).unwrap();
            assert_eq!(devices, Devices::from(Topology::clone(preset)));
        }
        let error = parse(&["--topology", "t9"]).unwrap_err();
        assert!(error.contains("t3-requesters"), "{error}");
    }

    #[test]
    fn the_help_tells_what_there_is() {
        let help = Line::command().render_long_help().to_string();
        for preset in preset::ALL {
            assert!(help.contains(&format!("- {}: ", preset.name)), "{help}");
        }
    }

    #[test]
    fn options_change_what_the_topology_says() {
        let devices = parse(&["--mode", "nonflit"]).unwrap();
        assert_eq!(devices.topology.mode, LinkMode::Nonflit);
        let devices = parse(&["--topology", "t3", "--root-port", "reserved"]).unwrap();
        assert_eq!(devices.topology.root_ports, Completer::Reserved);
        let of_adapter = ["--st-table", "none", "--tags", "tph", "--adapter", "plain"];
        let line = [&["--topology", "t3-rdma"], &of_adapter[..]].concat();
        let expected = preset::T3_RDMA.clone().with_adapters(|adapter| {
            adapter.st_table = StTable::None;
            adapter.tags = Tags::Tph;
            adapter.profile = Profile::Plain;
        });
        assert_eq!(parse(&line).unwrap().topology, expected);
    }

    #[test]
    fn one_accelerator_gets_another_type() {
        let line = ["--topology", "t1-completers", "--completer", "none"];
        let devices = parse(&line).unwrap().topology.devices;
        let before = &preset::T1_COMPLETERS.devices;
        let changed: Vec<_> = devices.iter().zip(before).filter(|(a, b)| a != b).collect();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].0.name, "accelerator");
    }

    #[test]
    fn an_option_without_its_object_is_refused() {
        for (option, value, what) in [
            ("root-port", "tph", "root port"),
            ("st-table", "none", "RDMA adapter"),
            ("tags", "tph", "RDMA adapter"),
            ("adapter", "plain", "RDMA adapter"),
        ] {
            assert_eq!(
                parse(&[&format!("--{option}"), value]).unwrap_err(),
                format!("topology t1 has no {what}, so there is nothing for --{option} to change")
            );
        }
    }

    #[test]
    fn a_trace_has_a_limit() {
        let limit = |options: &[&str]| parse(options).unwrap().trace_limit.bytes();
        assert_eq!(limit(&[]), Some(256 << 20));
        assert_eq!(limit(&["--trace-limit", "3"]), Some(3 << 20));
        assert_eq!(limit(&["--trace-limit", "0"]), None);
    }

    #[test]
    fn a_trace_has_whole_packets_unless_it_is_said() {
        assert_eq!(parse(&[]).unwrap().snaplen, None);
        let headers = parse(&["--snaplen", "32"]).unwrap();
        assert_eq!(headers.snaplen, Some(Snaplen::HEADERS));
        let error = parse(&["--snaplen", "28"]).unwrap_err();
        assert!(error.contains("it must be 32 at least"), "{error}");
        assert!(parse(&["--snaplen", "all"]).is_err());
    }
}
