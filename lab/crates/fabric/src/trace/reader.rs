// SPDX-License-Identifier: MIT OR Apache-2.0
//! The reading side of the binary trace.

use super::{
    Destination, HEADER_LEN, Record,
    append::{self, Blocks},
    header::Header,
    tap::into_io,
};
use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        Block, PcapNgReader, PcapNgWriter,
        blocks::{
            enhanced_packet::EnhancedPacketBlock,
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption},
        },
    },
};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why a binary trace cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read the trace {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A part of it cannot be written.
    #[error("cannot write the part of the trace {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file ends within a block: it is a part of a trace. What came before is good.
    #[error(
        "the trace {path} ends within TLP {number}: it was cut, or its disk is full; \
         what comes before is good"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Number of the TLP that is not whole.
        number: u64,
    },
    /// The file is no pcapng file, or not one of the lab's.
    #[error("{path} is not a trace that this program can read: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A function on the fabric, or the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its name.
    pub name: String,
    /// Where it is, as [`super::Tap::placed`] was told.
    pub path: Option<String>,
}

/// Iterates over the TLPs of a binary trace, in order of delivery.
///
/// After an error there are no more records. The file may still be growing: the records are those
/// that were there when it was opened.
pub struct Reader {
    path: PathBuf,
    blocks: PcapNgReader<Blocks>,
    next: u64,
    unrecorded: u64,
    failed: bool,
}

impl Reader {
    /// Opens the trace at `path` (a [`super::BINARY_FILE`]).
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let path = path.to_owned();
        let blocks = match append::read(&path) {
            Ok(blocks) => blocks,
            Err(source) => return Err(ReadError::File { path, source }),
        };
        match PcapNgReader::new(blocks) {
            Ok(blocks) => Ok(Self {
                path,
                blocks,
                next: 1,
                unrecorded: 0,
                failed: false,
            }),
            // Text, too, ends before a block does.
            Err(_) if !begins_as_pcapng(&path) => Err(ReadError::Format {
                path,
                reason: "it is no pcapng file".to_owned(),
            }),
            Err(error) => Err(explain(error, path, 1)),
        }
    }

    /// TLPs that followed the last record but were not recorded, since the trace had reached its
    /// limit. It is known when there are no more records.
    #[must_use]
    pub const fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// The senders that are known so far; all whose TLPs were read are among them.
    #[must_use]
    pub fn senders(&self) -> Vec<Sender> {
        let interfaces = self.blocks.interfaces().iter();
        interfaces
            .map(|interface| Sender {
                name: interface_option(interface, |option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name),
                    _ => None,
                })
                .unwrap_or_default(),
                path: interface_option(interface, |option| match option {
                    InterfaceDescriptionOption::IfDescription(path) => Some(path),
                    _ => None,
                }),
            })
            .collect()
    }

    fn next_record(&mut self) -> Option<Result<Record, ReadError>> {
        loop {
            let packet = match self.blocks.next_block()? {
                Ok(Block::EnhancedPacket(packet)) => packet.into_owned(),
                Ok(Block::InterfaceStatistics(statistics)) => {
                    self.unrecorded += dropped(&statistics);
                    continue;
                }
                Ok(_) => continue,
                Err(error) => return Some(Err(explain(error, self.path.clone(), self.next))),
            };
            let record =
                to_record(&packet, self.next, self.blocks.interfaces()).map_err(|reason| {
                    ReadError::Format {
                        path: self.path.clone(),
                        reason,
                    }
                });
            self.next += 1;
            return Some(record);
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.next_record();
        self.failed = matches!(record, Some(Err(_)));
        record
    }
}

/// Whether the first bytes of a file, if it has any, are those of pcapng.
fn begins_as_pcapng(path: &Path) -> bool {
    let mut first = vec![];
    let read = File::open(path).and_then(|file| file.take(4).read_to_end(&mut first));
    read.is_ok() && [0x0a, 0x0d, 0x0d, 0x0a].starts_with(&first)
}

/// Finishes a trace whose process was killed before it did, for programs that know nothing of this.
pub fn finish(path: &Path) -> Result<(), ReadError> {
    append::finish(path).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source,
    })
}

/// Copies the trace at `from` to `to`, with those TLPs only that `keep` wants; returns how many
/// they are. What the trace says of its end is kept. If it fails, there is no `to`.
pub fn extract(
    from: &Path,
    to: &Path,
    keep: impl FnMut(&Record) -> bool,
) -> Result<u64, ReadError> {
    let reader = Reader::open(from)?;
    let file = File::create_new(to).map_err(|source| ReadError::Write {
        path: to.to_owned(),
        source,
    })?;
    let copied = copy(reader, to, file, keep);
    if copied.is_err() {
        // What failed is said already.
        let _ = fs::remove_file(to);
    }
    copied
}

fn copy(
    mut reader: Reader,
    to: &Path,
    file: File,
    mut keep: impl FnMut(&Record) -> bool,
) -> Result<u64, ReadError> {
    let failed = |error: PcapError| ReadError::Write {
        path: to.to_owned(),
        source: into_io(error),
    };
    let header = reader.blocks.section().clone().into_owned();
    let writer = PcapNgWriter::with_section_header(BufWriter::new(file), header);
    let mut writer = writer.map_err(failed)?;
    let mut kept = 0;
    while let Some(block) = reader.blocks.next_block() {
        let number = reader.next;
        let block = block.map_err(|error| explain(error, reader.path.clone(), number))?;
        let block = block.into_owned();
        if let Block::EnhancedPacket(packet) = &block {
            reader.next += 1;
            let record = to_record(packet, number, reader.blocks.interfaces());
            let record = record.map_err(|reason| ReadError::Format {
                path: reader.path.clone(),
                reason,
            })?;
            if !keep(&record) {
                continue;
            }
            kept += 1;
        }
        let written = writer.write_block(&block);
        written.map_err(failed)?;
    }
    let flushed = writer.into_inner().flush();
    flushed.map_err(|error| failed(PcapError::IoError(error)))?;
    Ok(kept)
}

/// What a statistics block says about packets that were not recorded.
fn dropped(statistics: &InterfaceStatisticsBlock<'_>) -> u64 {
    let mut options = statistics.options.iter();
    let dropped = options.find_map(|option| match option {
        InterfaceStatisticsOption::IsbIfDrop(dropped) => Some(*dropped),
        _ => None,
    });
    dropped.unwrap_or_default()
}

fn to_record(
    packet: &EnhancedPacketBlock<'_>,
    number: u64,
    interfaces: &[InterfaceDescriptionBlock<'_>],
) -> Result<Record, String> {
    // Without the right link type the rest means nothing.
    let from = interface_name(interfaces, packet.interface_id, number)?;
    let Some((&header, bytes)) = packet.data.split_first_chunk::<HEADER_LEN>() else {
        return Err(format!("packet {number} is shorter than its header"));
    };
    let header = Header::from_bytes(header).map_err(|what| format!("packet {number} {what}"))?;
    let to = match header.receiver {
        None => Destination::Nobody,
        Some((receiver, bar)) => Destination::To {
            name: interface_name(interfaces, receiver.into(), number)?,
            bar,
        },
    };
    Ok(Record {
        number,
        time: u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX),
        from,
        to,
        mode: header.mode,
        object: header.object,
        bytes: bytes.to_vec(),
        missing: usize::try_from(packet.original_len)
            .unwrap_or(usize::MAX)
            .saturating_sub(packet.data.len()),
    })
}

fn interface_name(
    interfaces: &[InterfaceDescriptionBlock<'_>],
    id: u32,
    number: u64,
) -> Result<String, String> {
    let interface = usize::try_from(id)
        .ok()
        .and_then(|id| interfaces.get(id))
        .ok_or_else(|| format!("packet {number} names interface {id}, which is not there"))?;
    if interface.linktype != DataLink::USER0 {
        return Err(format!(
            "interface {id} has link type {:?}, those of the lab have USER0 (147)",
            interface.linktype
        ));
    }
    interface_option(interface, |option| match option {
        InterfaceDescriptionOption::IfName(name) => Some(name),
        _ => None,
    })
    .ok_or_else(|| format!("interface {id} has no name"))
}

fn interface_option(
    interface: &InterfaceDescriptionBlock<'_>,
    wanted: impl for<'a> Fn(&'a InterfaceDescriptionOption<'_>) -> Option<&'a str>,
) -> Option<String> {
    interface
        .options
        .iter()
        .find_map(|option| wanted(option).map(str::to_owned))
}

fn explain(error: PcapError, path: PathBuf, number: u64) -> ReadError {
    match error {
        PcapError::IncompleteBuffer => ReadError::Truncated { path, number },
        PcapError::IoError(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
            ReadError::Truncated { path, number }
        }
        PcapError::IoError(source) => ReadError::File { path, source },
        other => ReadError::Format {
            path,
            reason: other.to_string(),
        },
    }
}
