// SPDX-License-Identifier: MIT OR Apache-2.0
//! The devices of a topology, and what can be chosen of each.

use clap::ValueEnum;
use devices::{CompleterType, InitiatorConfig};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A device of a topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in traces and logs.
    pub name: String,
    /// The bus that it is on.
    pub bus: String,
    /// Its slot on that bus, 0 to 31.
    #[serde(default)]
    pub slot: u8,
    /// Its function, 0 to 7.
    #[serde(default)]
    pub function: u8,
    /// What it is: its key `kind`, and the options of that kind.
    #[serde(flatten)]
    pub model: Model,
}

impl Device {
    /// The socket in `dir` on which it is served.
    #[must_use]
    pub fn socket(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.sock", self.name))
    }
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// A completer.
    Accelerator(Accelerator),
    /// A requester, which copies memory.
    Initiator(Initiator),
    /// A requester that the mlx5 drivers use.
    Connectx(ConnectX),
}

/// What can be chosen of an accelerator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// Its TPH completer type.
    #[serde(default)]
    pub completer: Completer,
}

/// What can be chosen of an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initiator {
    /// What kind of requester it is.
    pub requester: InitiatorConfig,
}

/// What can be chosen of an RDMA adapter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectX {
    /// Where it keeps its steering tags.
    #[serde(default)]
    pub st_table: StTable,
    /// Which tags it can send.
    #[serde(default)]
    pub tags: Tags,
    /// How much it can do.
    #[serde(default)]
    pub profile: Profile,
}

/// What the Device Capabilities 2 of a completer say about hints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// Where an RDMA adapter keeps its steering tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StTable {
    /// In a table in its TPH capability, of which its memory keys name an entry.
    #[default]
    Capability,
    /// In its memory keys: there is no table.
    None,
}

/// Which tags an RDMA adapter can send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tags {
    /// Those of 8 bits.
    Tph,
    /// Those of 8 and 16 bits.
    #[default]
    TphExt,
}

/// How much an RDMA adapter can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// One interrupt vector for everything, and no doorbells of low latency.
    Plain,
    /// Eight vectors, and doorbells of low latency for the driver's own work.
    #[default]
    Full,
}
