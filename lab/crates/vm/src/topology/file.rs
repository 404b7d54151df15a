// SPDX-License-Identifier: MIT OR Apache-2.0
//! Topologies as text.

use super::{Topology, Violation, preset};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no topology.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// None that comes with the lab has this name.
    #[error("there is no topology {0:?}: give {known}, or a file as ./FILE.toml", known = names())]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It holds no topology.
    #[error("{}: {error}", .path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        error: TextError,
    },
}

/// Why a text is no topology.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It is no TOML, or has not the keys and values of a topology.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// QEMU could not build it.
    #[error(transparent)]
    Violation(#[from] Violation),
}

/// The names of those that come with the lab.
fn names() -> String {
    let names: Vec<_> = preset::ALL.iter().map(|preset| &*preset.name).collect();
    names.join(", ")
}

impl Topology {
    /// The topology that comes with the lab under this name, or that in this file: with a `/` or a
    /// `.toml` it is a path.
    pub fn named(text: &str) -> Result<Self, ReadError> {
        if let Some(preset) = preset::ALL.iter().find(|preset| preset.name == text) {
            return Ok(Self::clone(preset));
        }
        let path = Path::new(text);
        if text.contains('/') || path.extension().is_some_and(|end| end == "toml") {
            Self::read(path)
        } else {
            Err(ReadError::Unknown(text.into()))
        }
    }

    /// The topology in this file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = fs::read_to_string(path).map_err(|error| ReadError::File {
            path: path.into(),
            error,
        })?;
        Self::from_toml(&text).map_err(|error| ReadError::Text {
            path: path.into(),
            error,
        })
    }

    /// Leaves it in a file, to be [read](Self::read).
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        fs::write(path, text)
    }

    /// The topology that this text describes.
    pub fn from_toml(text: &str) -> Result<Self, TextError> {
        let topology: Self = toml::from_str(text)?;
        topology.check()?;
        Ok(topology)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Completer, LinkMode, Profile, StTable, Tags};

    #[test]
    fn a_topology_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("topology.toml");
        for preset in preset::ALL {
            let topology = Topology {
                mode: LinkMode::Nonflit,
                root_ports: Completer::Reserved,
                ..Topology::clone(preset)
            }
            .with_adapters(|adapter| {
                adapter.st_table = StTable::None;
                adapter.tags = Tags::Tph;
                adapter.profile = Profile::Plain;
            });
            topology.write(&path).unwrap();
            assert_eq!(Topology::named(path.to_str().unwrap()).unwrap(), topology);
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_refused_with_those_that_are() {
        let error = Topology::named("t9").unwrap_err().to_string();
        assert!(error.starts_with("there is no topology \"t9\""), "{error}");
        for preset in preset::ALL {
            assert!(error.contains(&preset.name), "{error}");
        }
        let error = Topology::named("t9.toml").unwrap_err().to_string();
        assert!(error.starts_with("cannot read t9.toml: "), "{error}");
    }

    /// What is said of the text of T1-RDMA with a change.
    fn refused(from: &str, to: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let text = include_str!("presets/t1-rdma.toml");
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Topology::read(&path).unwrap_err().to_string();
        let place = format!("{}: ", path.display());
        error.strip_prefix(&place).expect(&error).to_owned()
    }

    #[test]
    fn what_is_wrong_in_a_file_is_said_with_its_place() {
        let line = |error: &str, text: &str| {
            let at = include_str!("presets/t1-rdma.toml")
                .lines()
                .position(|line| line.contains(text))
                .unwrap();
            assert!(error.contains(&format!("at line {}", at + 1)), "{error}");
        };
        let error = refused("cpu =", "cpus =");
        assert!(error.contains("unknown field `cpus`"), "{error}");
        line(&error, "cpu =");
        let error = refused("slot = 0x11", "slot = 256");
        assert!(error.contains("256"), "{error}");
        line(&error, "accelerator");
        let error = refused("kind = \"connectx\"", "kind = \"connectx\", vectors = 3");
        assert!(error.contains("unknown field `vectors`"), "{error}");
        line(&error, "connectx");
        let error = refused("requester = \"tph\"", "requester = \"tpm\"");
        assert!(error.contains("unknown variant `tpm`"), "{error}");
        assert!(error.contains("no-table"), "those that are there: {error}");
        line(&error, "requester");
        let error = refused("kind = \"connectx\"", "kind = \"disk\"");
        assert!(error.contains("unknown variant `disk`"), "{error}");
        line(&error, "connectx");
        let error = refused("slot = 0x11", "slot = 0x10");
        assert_eq!(error, "accelerator is where initiator is");
    }
}
