// SPDX-License-Identifier: MIT OR Apache-2.0
//! The writing side of the trace.

use super::{
    BINARY_FILE, DEFAULT_LIMIT, HEADER_LEN, HOST, Object, Snaplen,
    append::Append,
    header::{Header, NONE},
};
use crate::Error;
use pcap_file::{
    DataLink, Endianness, PcapError,
    pcapng::{
        PcapNgBlock, PcapNgWriter,
        blocks::{
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption},
        },
    },
};
use std::{borrow::Cow, io, path::Path, time::SystemTime};
use tlp::{MAX_HEADERS_DW, Mode, Tlp};

/// Type of an enhanced packet block.
const PACKET: u32 = 6;
/// Bytes of such a block in front of its data, and behind it.
const PACKET_HEAD: usize = 28;
const PACKET_TAIL: usize = 4;
/// DWs in front of a TLP: of the block, and of the packet's data.
const HEAD_DW: usize = (PACKET_HEAD + HEADER_LEN) / 4;
/// Bytes of a statistics block in front of the number of packets that were dropped.
const DROPPED_AT: u64 = 24;
/// Bytes of such a block.
const STATISTICS_LEN: u64 = 40;
/// Room for all senders, beyond the limit.
const SENDERS_LEN: u64 = 1 << 20;

/// How much a trace keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// About how many bytes the trace may have: the TLP that finds no room and all that follow it
    /// are counted only.
    pub limit: u64,
    /// How much of a packet is captured; all unless it is said.
    pub snaplen: Option<Snaplen>,
}

/// [`DEFAULT_LIMIT`], and whole packets.
impl Default for Options {
    fn default() -> Self {
        Self {
            limit: DEFAULT_LIMIT,
            snaplen: None,
        }
    }
}

/// Records what travels on a fabric.
pub struct Tap {
    names: Vec<String>,
    /// Names of senders to come, and their paths.
    paths: Vec<(String, String)>,
    trace: Option<Trace>,
}

struct Trace {
    file: Append,
    /// Makes the blocks that are few.
    blocks: PcapNgWriter<Vec<u8>>,
    /// Most bytes of the file, but for senders that come later.
    limit: u64,
    /// Most bytes of a packet's data.
    snaplen: Option<Snaplen>,
    /// Nanoseconds since 1970 when the current call began.
    now: u64,
    /// What the current call is for.
    object: Option<Object>,
    /// What follows the trace's end, once that is reached.
    beyond: Option<Beyond>,
}

/// What is not recorded.
struct Beyond {
    tlps: u64,
    /// Where in the file their number is.
    at: u64,
}

impl Tap {
    /// A tap that writes the trace into the existing directory `dir`, replacing an older one.
    pub fn create(dir: &Path) -> Result<Self, Error> {
        Self::with(dir, Options::default())
    }

    /// The same with a trace that keeps what `options` say.
    pub fn with(dir: &Path, options: Options) -> Result<Self, Error> {
        let Options { limit, snaplen } = options;
        let path = dir.join(BINARY_FILE);
        let begin = || -> io::Result<Self> {
            let file = Append::create(&path, limit.saturating_add(SENDERS_LEN))?;
            let blocks = PcapNgWriter::with_endianness(Vec::new(), Endianness::Little);
            let trace = Trace {
                file,
                blocks: blocks.map_err(into_io)?,
                limit,
                snaplen,
                now: 0,
                object: None,
                beyond: None,
            };
            let mut tap = Self {
                names: vec![],
                paths: vec![],
                trace: Some(trace),
            };
            tap.add_sender(HOST)?;
            Ok(tap)
        };
        begin().map_err(|source| Error::Trace { path, source })
    }

    /// A tap that keeps nothing.
    #[must_use]
    pub fn discard() -> Self {
        Self {
            names: vec![HOST.to_owned()],
            paths: vec![],
            trace: None,
        }
    }

    /// Says where senders that will be added are, by their names: the buses from the root bus on,
    /// and the address, with `/` between them. The trace keeps it for those who draw it.
    #[must_use]
    pub fn placed(mut self, paths: impl IntoIterator<Item = (String, String)>) -> Self {
        self.paths.extend(paths);
        self
    }

    /// True if a sender has this name.
    pub(crate) fn has_sender(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Name of sender `number`.
    pub(crate) fn sender(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// Adds the next sender; the host is number 0 and there from the beginning.
    pub(crate) fn add_sender(&mut self, name: &str) -> io::Result<()> {
        self.names.push(name.to_owned());
        match &mut self.trace {
            // A trace that has ended has no packets of this sender.
            Some(trace @ Trace { beyond: None, .. }) => {
                let mut paths = self.paths.iter();
                let placed = paths.find(|(placed, _)| placed == name);
                trace.add_interface(name, placed.map(|(_, path)| path.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// True if the next TLP is to be recorded.
    pub(crate) fn is_recording(&self) -> bool {
        matches!(self.trace, Some(Trace { beyond: None, .. }))
    }

    /// Takes the time for the TLPs of one call, which are for `object`.
    pub(crate) fn tick(&mut self, object: Option<Object>) -> io::Result<()> {
        if let Some(trace @ Trace { beyond: None, .. }) = &mut self.trace {
            let now = SystemTime::UNIX_EPOCH.elapsed().map_err(io::Error::other)?;
            trace.now = u64::try_from(now.as_nanos()).map_err(io::Error::other)?;
            trace.object = object;
        }
        Ok(())
    }

    /// True if TLPs are to be counted, since the trace has reached its limit.
    pub(crate) fn is_counting(&self) -> bool {
        matches!(
            self.trace,
            Some(Trace {
                beyond: Some(_),
                ..
            })
        )
    }

    /// Counts `tlps` TLPs that travel while nothing is recorded.
    pub(crate) fn skip(&mut self, tlps: u64) -> io::Result<()> {
        let Some(Trace { file, beyond, .. }) = &mut self.trace else {
            return Ok(());
        };
        let Some(beyond) = beyond else {
            return Ok(());
        };
        beyond.tlps += tlps;
        file.amend(beyond.at, &beyond.tlps.to_le_bytes())
    }

    /// Records one TLP from sender number `from`.
    ///
    /// `to` is the receiver's number and BAR; none for an unsupported request.
    pub(crate) fn record(
        &mut self,
        from: usize,
        to: Option<(usize, Option<u8>)>,
        mode: Mode,
        tlp: &Tlp<'_>,
    ) -> Result<(), Error> {
        if self.is_recording() {
            let mut head = [[0; 4]; HEAD_DW + MAX_HEADERS_DW];
            let headers = head.last_chunk_mut().expect("it is longer");
            let len = tlp.encode_headers(mode, headers)?;
            let head = &mut head[..HEAD_DW + len];
            self.append(from, to, mode, head, tlp.payload())?;
        } else {
            self.skip(1)?;
        }
        Ok(())
    }

    /// Records a packet: room for what stands in front of a TLP and headers, and a payload.
    fn append(
        &mut self,
        from: usize,
        to: Option<(usize, Option<u8>)>,
        mode: Mode,
        head: &mut [[u8; 4]],
        payload: &[u8],
    ) -> io::Result<()> {
        if let Some(trace @ Trace { beyond: None, .. }) = &mut self.trace {
            let header = Header {
                mode,
                receiver: to.map(|(receiver, bar)| (u8::try_from(receiver).unwrap_or(NONE), bar)),
                object: trace.object,
            };
            if trace.packet(from, header, head, payload)? {
                return Ok(());
            }
            trace.end()?;
        }
        self.skip(1)
    }

    /// Records any bytes as those of a TLP.
    #[cfg(test)]
    pub(super) fn record_bytes(
        &mut self,
        from: usize,
        to: Option<(usize, Option<u8>)>,
        mode: Mode,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.append(from, to, mode, &mut [[0; 4]; HEAD_DW], bytes)
    }
}

impl Trace {
    fn add_interface(&mut self, name: &str, path: Option<&str>) -> io::Result<()> {
        let path = path.map(|path| InterfaceDescriptionOption::IfDescription(Cow::Borrowed(path)));
        let mut options = vec![InterfaceDescriptionOption::IfName(Cow::Borrowed(name))];
        options.extend(path);
        // Timestamps count 10^-9 s.
        options.push(InterfaceDescriptionOption::IfTsResol(9));
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::USER0,
            // 0 stands for no limit.
            snaplen: self.snaplen.map_or(0, Snaplen::bytes),
            options,
        };
        self.block(interface).map(drop)
    }

    /// Appends a block; returns where in the file it is.
    fn block<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<u64> {
        self.blocks
            .write_block(&block.into_block())
            .map_err(into_io)?;
        let bytes = self.blocks.get_mut();
        // Its length, as of each block of pcapng.
        let appended = match bytes.split_last_chunk() {
            Some((head, end)) => self.file.append(head, &[], *end),
            None => Err(io::ErrorKind::InvalidData.into()),
        };
        bytes.clear();
        appended
    }

    /// Appends a packet of whole DWs, if there is room for it. `head` ends with the TLP's headers.
    fn packet(
        &mut self,
        interface: usize,
        header: Header,
        head: &mut [[u8; 4]],
        payload: &[u8],
    ) -> io::Result<bool> {
        let data_len = 4 * head.len() - PACKET_HEAD + payload.len();
        let most = self.snaplen.map(|snaplen| snaplen.bytes() as usize);
        let captured = most.map_or(data_len, |most| data_len.min(most));
        let payload = &payload[..payload.len() - (data_len - captured)];
        let block_len = PACKET_HEAD + captured + PACKET_TAIL;
        if self.file.len() + block_len as u64 + STATISTICS_LEN > self.limit {
            return Ok(false);
        }
        let word = |value| u32::try_from(value).map_err(io::Error::other);
        let block_len = word(block_len)?.to_le_bytes();
        let (high, low) = ((self.now >> 32) as u32, (self.now & 0xffff_ffff) as u32);
        head[0] = PACKET.to_le_bytes();
        head[1] = block_len;
        head[2] = word(interface)?.to_le_bytes();
        head[3] = high.to_le_bytes();
        head[4] = low.to_le_bytes();
        head[5] = word(captured)?.to_le_bytes();
        head[6] = word(data_len)?.to_le_bytes();
        let head = head.as_flattened_mut();
        head[PACKET_HEAD..][..HEADER_LEN].copy_from_slice(&header.to_bytes());
        self.file.append(head, payload, block_len)?;
        Ok(true)
    }

    /// Ends the trace with room for the number of TLPs that it does not have.
    fn end(&mut self) -> io::Result<()> {
        let at = self.block(InterfaceStatisticsBlock {
            interface_id: 0,
            timestamp: self.now,
            options: vec![InterfaceStatisticsOption::IsbIfDrop(0)],
        })?;
        self.beyond = Some(Beyond {
            tlps: 0,
            at: at + DROPPED_AT,
        });
        log::warn!(
            "the trace has reached its limit of {} bytes: what follows is not recorded",
            self.limit
        );
        Ok(())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(Beyond { tlps, .. }) = self.beyond {
            log::warn!("{tlps} TLPs were not recorded, beyond the limit of the trace");
        }
    }
}

pub fn into_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
