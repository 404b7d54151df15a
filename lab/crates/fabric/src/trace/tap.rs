// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writing side of the traces.

use super::{
    BINARY_FILE, Destination, FLAG_FLIT, FLAG_UNSUPPORTED, HOST, NONE, Record, TEXT_FILE, VERSION,
};
use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            enhanced_packet::EnhancedPacketBlock,
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};
use std::{
    borrow::Cow,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};
use thiserror::Error;
use tlp::Mode;

/// A trace that cannot be begun.
#[derive(Debug, Error)]
pub enum TapError {
    /// The file cannot be made or written.
    #[error("cannot write the trace {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Records what travels on a fabric.
pub struct Tap {
    names: Vec<String>,
    next: u64,
    files: Option<Files>,
}

struct Files {
    text: File,
    binary: File,
    /// Blocks are put together in memory, so that each reaches the file in one write.
    blocks: PcapNgWriter<Vec<u8>>,
}

impl Tap {
    /// A tap that writes both traces into the existing directory `dir`, replacing older ones.
    pub fn create(dir: &Path) -> Result<Self, TapError> {
        let file = |name: &str| {
            let path = dir.join(name);
            File::create(&path).map_err(|source| TapError::File { path, source })
        };
        let (text, binary) = (file(TEXT_FILE)?, file(BINARY_FILE)?);
        let begin = || -> io::Result<Self> {
            let blocks = PcapNgWriter::new(Vec::new()).map_err(into_io)?;
            let mut tap = Self {
                names: vec![],
                next: 1,
                files: Some(Files {
                    text,
                    binary,
                    blocks,
                }),
            };
            tap.add_sender(HOST)?;
            Ok(tap)
        };
        begin().map_err(|source| TapError::File {
            path: dir.join(BINARY_FILE),
            source,
        })
    }

    /// A tap that keeps nothing.
    #[must_use]
    pub fn discard() -> Self {
        Self {
            names: vec![HOST.to_owned()],
            next: 1,
            files: None,
        }
    }

    /// True if a sender has this name.
    pub(crate) fn has_sender(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Adds the next sender; the host is number 0 and there from the beginning.
    pub(crate) fn add_sender(&mut self, name: &str) -> io::Result<()> {
        self.names.push(name.to_owned());
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::USER0,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                // Timestamps count 10^-9 s.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        };
        files
            .blocks
            .write_block(&interface.into_block())
            .map_err(into_io)?;
        files.flush()
    }

    /// Records one TLP from sender number `from`.
    ///
    /// `to` is the receiver's number and BAR; none for an unsupported request.
    pub(crate) fn record(
        &mut self,
        from: usize,
        to: Option<(usize, Option<u8>)>,
        mode: Mode,
        bytes: &[u8],
    ) -> io::Result<()> {
        let Some(files) = &mut self.files else {
            return Ok(());
        };
        let destination = match to {
            Some((receiver, bar)) => Destination::To {
                name: self.names[receiver].clone(),
                bar,
            },
            None => Destination::Nobody,
        };
        let record = Record {
            number: self.next,
            from: self.names[from].clone(),
            to: destination,
            mode,
            bytes: bytes.to_vec(),
        };
        files.text.write_all(format!("{record}\n\n").as_bytes())?;

        let mut flags = 0;
        if mode == Mode::Flit {
            flags |= FLAG_FLIT;
        }
        if to.is_none() {
            flags |= FLAG_UNSUPPORTED;
        }
        let receiver = to
            .and_then(|(receiver, _)| u8::try_from(receiver).ok())
            .unwrap_or(NONE);
        let bar = to.and_then(|(_, bar)| bar).unwrap_or(NONE);
        let mut data = vec![VERSION, flags, receiver, bar];
        data.extend_from_slice(bytes);
        files.packet(from, data)?;
        self.next += 1;
        Ok(())
    }
}

impl Files {
    fn packet(&mut self, interface: usize, data: Vec<u8>) -> io::Result<()> {
        let too_big = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(interface).map_err(too_big)?,
            timestamp: SystemTime::UNIX_EPOCH.elapsed().map_err(io::Error::other)?,
            original_len: u32::try_from(data.len()).map_err(too_big)?,
            data: Cow::Owned(data),
            options: vec![],
        };
        self.blocks
            .write_block(&block.into_block())
            .map_err(into_io)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let pending = self.blocks.get_mut();
        self.binary.write_all(pending)?;
        pending.clear();
        Ok(())
    }
}

fn into_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
