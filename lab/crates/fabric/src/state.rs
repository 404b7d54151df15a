// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fabric's lock guards: the ports, the tap, and the way of one TLP.

use crate::{
    Completer, DmaError, Iommu, Limits, Steering, Want, memory::DmaMap, split, trace::Tap,
};
use std::{borrow::Cow, ops::Range, sync::Arc};
use tlp::{
    Bdf, CompletionHeader, CompletionStatus, FieldError, MAX_ENCODED_LEN, MemRequest, Mode, Tlp,
};

/// Read Completion Boundary of the root complex, bytes.
const RCB_HOST: usize = 64;
/// Read Completion Boundary of an endpoint, bytes (fixed by the specification).
const RCB_ENDPOINT: usize = 128;
/// Routing id of the host bridge, which answers for guest memory and for nobody.
const HOST_ID: Bdf = Bdf::new(0, 0, 0);

/// A function as the fabric sees it.
pub struct PortState {
    pub id: Bdf,
    pub completer: Option<Arc<dyn Completer>>,
    pub bus_master: bool,
    pub memory_enable: bool,
    pub limits: Limits,
    pub steering: Steering,
    /// Address range of each BAR that is placed.
    pub bars: [Option<Range<u64>>; 6],
    pub memory: DmaMap,
    /// Counts resets: requesters of an earlier epoch are void.
    pub epoch: u64,
    pub next_tag: u8,
    /// A completion with Unsupported Request came back.
    pub master_abort: bool,
}

impl PortState {
    pub fn new(id: Bdf, completer: Option<Arc<dyn Completer>>) -> Self {
        Self {
            id,
            completer,
            bus_master: false,
            memory_enable: false,
            limits: Limits::default(),
            steering: Steering::default(),
            bars: [const { None }; 6],
            memory: DmaMap::default(),
            epoch: 0,
            next_tag: 0,
            master_abort: false,
        }
    }

    /// The next transaction tag.
    ///
    /// It never equals the low byte of `steering_tag`, so that a trace cannot mix them up.
    fn take_tag(&mut self, steering_tag: Option<u16>) -> u16 {
        let mask = if self.limits.extended_tag { 0xff } else { 0x1f };
        loop {
            let tag = self.next_tag & mask;
            self.next_tag = tag.wrapping_add(1);
            if steering_tag.is_none_or(|st| st.to_le_bytes()[0] != tag) {
                return tag.into();
            }
        }
    }
}

/// Where a request goes.
enum Target {
    Bar {
        completer: Arc<dyn Completer>,
        port: usize,
        bar: usize,
        offset: u64,
        /// The address that the IOMMU made of the request's, if there is one.
        translated: Option<u64>,
    },
    Memory,
    Nobody,
}

impl Target {
    /// Sender number and BAR, as the tap wants them.
    fn receiver(&self) -> Option<(usize, Option<u8>)> {
        match *self {
            Self::Bar { port, bar, .. } => Some((port + 1, u8::try_from(bar).ok())),
            Self::Memory => Some((HOST, None)),
            Self::Nobody => None,
        }
    }

    /// Number of the sender that answers a read.
    fn completer(&self) -> usize {
        match *self {
            Self::Bar { port, .. } => port + 1,
            Self::Memory | Self::Nobody => HOST,
        }
    }
}

/// Number of the host as a sender; port `n` is number `n + 1`.
const HOST: usize = 0;

/// Everything behind the fabric's lock.
pub struct State {
    pub mode: Mode,
    pub tap: Tap,
    pub ports: Vec<PortState>,
    pub iommu: Option<Arc<dyn Iommu>>,
}

impl State {
    pub fn new(mode: Mode, tap: Tap, iommu: Option<Arc<dyn Iommu>>) -> Self {
        Self {
            mode,
            tap,
            ports: vec![],
            iommu,
        }
    }

    /// Sends one memory write from `port`: as many bytes of `data` as one TLP takes.
    pub fn write(
        &mut self,
        port: usize,
        requester: Bdf,
        addr: u64,
        data: &[u8],
        want: Want,
    ) -> Result<usize, DmaError> {
        let sender = &mut self.ports[port];
        let hint = want.on(&sender.steering);
        let len = split::request_len(addr, data.len(), sender.limits.max_payload);
        let tag = sender.take_tag(hint.map(|hint| hint.tag.value()));
        let mut request = MemRequest::for_bytes(requester, addr, len)?.with_tag(tag)?;
        if let Some(hint) = hint {
            request = request.with_hint(hint);
        }
        let lead = in_dw(addr);
        let mut payload = vec![0; request.len_bytes()];
        payload[lead..lead + len].copy_from_slice(&data[..len]);
        let wire = self.encode(&Tlp::MemWrite(request, &payload))?;
        self.deliver_write(port, &wire)?;
        Ok(len)
    }

    /// Sends one memory read from `port`, for as many bytes of `data` as one TLP may ask for, and
    /// takes its completions.
    pub fn read(
        &mut self,
        port: usize,
        requester: Bdf,
        addr: u64,
        data: &mut [u8],
        want: Want,
    ) -> Result<usize, DmaError> {
        let sender = &mut self.ports[port];
        let hint = want.on(&sender.steering);
        let len = split::request_len(addr, data.len(), sender.limits.max_read_request);
        let tag = sender.take_tag(hint.map(|hint| hint.tag.value()));
        let mut request = MemRequest::for_bytes(requester, addr, len)?.with_tag(tag)?;
        // Bytes that are asked for in front of the first one that is wanted.
        let mut skip = 0;
        if let Some(hint) = hint {
            // In non-flit mode the tag takes the place of the byte enables.
            let last_be = if request.len_dw() == 1 { 0 } else { 0xf };
            request = request.with_byte_enables(0xf, last_be)?.with_hint(hint);
            skip = in_dw(addr);
        }
        let wire = self.encode(&Tlp::MemRead(request))?;
        let mut returned = 0;
        for completion in self.deliver_read(port, &wire)? {
            let Tlp::Completion(header, payload) = Tlp::decode(&completion, self.mode)? else {
                return Err(DmaError::Codec);
            };
            if header.status() != CompletionStatus::Success {
                self.ports[port].master_abort = true;
                return Err(DmaError::Completion {
                    addr,
                    status: header.status(),
                });
            }
            let lead = usize::from(header.lower_address() & 0b11) + std::mem::take(&mut skip);
            let taken = payload.len().saturating_sub(lead).min(len - returned);
            data[returned..returned + taken].copy_from_slice(&payload[lead..lead + taken]);
            returned += taken;
        }
        if returned == len {
            Ok(len)
        } else {
            Err(DmaError::Codec)
        }
    }

    fn encode(&self, tlp: &Tlp<'_>) -> Result<Vec<u8>, DmaError> {
        let mut wire = vec![0; MAX_ENCODED_LEN];
        let len = tlp.encode(self.mode, &mut wire)?;
        wire.truncate(len);
        Ok(wire)
    }

    /// Records a request on every link of its way; returns it as it arrives.
    fn carry<'a>(
        &mut self,
        from: usize,
        target: &Target,
        wire: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, DmaError> {
        let &Target::Bar {
            translated: Some(addr),
            ..
        } = target
        else {
            self.tap
                .record(from + 1, target.receiver(), self.mode, wire)?;
            return Ok(Cow::Borrowed(wire));
        };
        self.tap
            .record(from + 1, Some((HOST, None)), self.mode, wire)?;
        let passed_on = match Tlp::decode(wire, self.mode)? {
            Tlp::MemWrite(request, payload) => Tlp::MemWrite(readdressed(&request, addr)?, payload),
            Tlp::MemRead(request) => Tlp::MemRead(readdressed(&request, addr)?),
            Tlp::Completion(..) => return Err(DmaError::Codec),
        };
        let passed_on = self.encode(&passed_on)?;
        self.tap
            .record(HOST, target.receiver(), self.mode, &passed_on)?;
        Ok(Cow::Owned(passed_on))
    }

    /// Records, routes and delivers a memory write, which is known by its bytes alone.
    fn deliver_write(&mut self, from: usize, wire: &[u8]) -> Result<(), DmaError> {
        let Tlp::MemWrite(request, _) = Tlp::decode(wire, self.mode)? else {
            return Err(DmaError::Codec);
        };
        let target = self.route(from, &request, true);
        let wire = self.carry(from, &target, wire)?;
        let Tlp::MemWrite(request, payload) = Tlp::decode(&wire, self.mode)? else {
            return Err(DmaError::Codec);
        };
        match target {
            Target::Bar {
                completer,
                bar,
                offset,
                ..
            } => completer.write(bar, offset, &request, payload),
            Target::Memory => {
                for (offset, run) in enabled_runs(&request, payload) {
                    self.ports[from].memory.write(request.addr() + offset, run);
                }
            }
            // Posted: the requester does not hear of it. The trace tells.
            Target::Nobody => {}
        }
        Ok(())
    }

    /// Records, routes and answers a memory read; returns the completions as they were sent.
    fn deliver_read(&mut self, from: usize, wire: &[u8]) -> Result<Vec<Vec<u8>>, DmaError> {
        let Tlp::MemRead(request) = Tlp::decode(wire, self.mode)? else {
            return Err(DmaError::Codec);
        };
        let target = self.route(from, &request, false);
        let wire = self.carry(from, &target, wire)?;
        let Tlp::MemRead(request) = Tlp::decode(&wire, self.mode)? else {
            return Err(DmaError::Codec);
        };

        let mut data = vec![0; request.len_bytes()];
        let answered = match &target {
            Target::Bar {
                completer,
                bar,
                offset,
                ..
            } => {
                completer.read(*bar, *offset, &request, &mut data);
                true
            }
            Target::Memory => self.ports[from].memory.read(request.addr(), &mut data),
            Target::Nobody => false,
        };
        let completions = if answered {
            self.success(from, &target, &request, &data)?
        } else {
            let status = CompletionStatus::UnsupportedRequest;
            let header = CompletionHeader::answering(&request, HOST_ID, status);
            vec![self.encode(&Tlp::Completion(header, &[]))?]
        };
        for completion in &completions {
            self.tap.record(
                target.completer(),
                Some((from + 1, None)),
                self.mode,
                completion,
            )?;
        }
        Ok(completions)
    }

    /// The completions of a read that succeeded with `data`, whole DWs.
    fn success(
        &self,
        from: usize,
        target: &Target,
        request: &MemRequest,
        data: &[u8],
    ) -> Result<Vec<Vec<u8>>, DmaError> {
        let (id, rcb, limits) = match *target {
            Target::Bar { port, .. } => {
                (self.ports[port].id, RCB_ENDPOINT, self.ports[port].limits)
            }
            // A root port's payload size is that of the endpoint below it.
            Target::Memory | Target::Nobody => (HOST_ID, RCB_HOST, self.ports[from].limits),
        };
        let mut header = CompletionHeader::answering(request, id, CompletionStatus::Success);
        // The next byte to return, as an offset into `data`.
        let mut at = usize::from(header.lower_address() & 0b11);
        let mut completions = vec![];
        loop {
            let addr = request.addr() + at as u64;
            let remaining = usize::from(header.byte_count());
            let len = split::completion_len(addr, remaining, limits.max_payload, rcb);
            let payload = &data[at / 4 * 4..(at + len).next_multiple_of(4)];
            completions.push(self.encode(&Tlp::Completion(header, payload))?);
            if len == remaining {
                return Ok(completions);
            }
            at += len;
            header = rest_of(&header, len)?;
        }
    }

    fn route(&self, from: usize, request: &MemRequest, write: bool) -> Target {
        let (addr, len) = (request.addr(), request.len_bytes());
        let memory = &self.ports[from].memory;
        let bar = if self.iommu.is_none() {
            self.bar_at(from, addr, len, None)
        } else {
            memory
                .translated(request.requester(), addr, len, write)
                .and_then(|addr| self.bar_at(from, addr, len, Some(addr)))
        };
        match bar {
            Some(target) => target,
            None if memory.covers(addr, len, write) => Target::Memory,
            None => Target::Nobody,
        }
    }

    /// The BAR of another function than `from` that decodes `len` bytes at `addr`.
    fn bar_at(
        &self,
        from: usize,
        addr: u64,
        len: usize,
        translated: Option<u64>,
    ) -> Option<Target> {
        for (number, peer) in self.ports.iter().enumerate() {
            // A link does not return to its sender what it sent.
            if number == from || !peer.memory_enable {
                continue;
            }
            let Some(completer) = &peer.completer else {
                continue;
            };
            for (bar, range) in peer.bars.iter().enumerate() {
                let Some(range) = range else { continue };
                if range.start <= addr && range.end.saturating_sub(addr) >= len as u64 {
                    return Some(Target::Bar {
                        completer: completer.clone(),
                        port: number,
                        bar,
                        offset: addr - range.start,
                        translated,
                    });
                }
            }
        }
        None
    }
}

/// The same request to another address, which is aligned alike.
fn readdressed(request: &MemRequest, addr: u64) -> Result<MemRequest, FieldError> {
    let moved = MemRequest::new(request.requester(), addr, request.len_dw())?
        .with_byte_enables(request.first_be(), request.last_be())?
        .with_tag(request.tag())?
        .with_tc(request.tc())?
        .with_attr(request.attr())?;
    Ok(match request.hint() {
        Some(hint) => moved.with_hint(hint),
        None => moved,
    })
}

/// Runs of enabled bytes of a write: offset from the request's address, and the bytes.
fn enabled_runs<'a>(
    request: &MemRequest,
    payload: &'a [u8],
) -> impl Iterator<Item = (u64, &'a [u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = (at..payload.len()).find(|&byte| request.is_enabled(byte))?;
        let end = (start..payload.len())
            .find(|&byte| !request.is_enabled(byte))
            .unwrap_or(payload.len());
        at = end;
        Some((start as u64, &payload[start..end]))
    })
}

/// The header of the completion that follows one which returned `len` bytes, up to the RCB.
fn rest_of(header: &CompletionHeader, len: usize) -> Result<CompletionHeader, FieldError> {
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    let lower_address = (u16::from(header.lower_address()) + len).to_le_bytes()[0] & 0x7f;
    CompletionHeader::new(
        header.completer(),
        header.requester(),
        header.tag(),
        header.status(),
        header.byte_count().saturating_sub(len),
        lower_address,
    )?
    .with_tc(header.tc())?
    .with_attr(header.attr())
}

/// Byte address within its DW.
fn in_dw(addr: u64) -> usize {
    usize::from(addr.to_le_bytes()[0] & 0b11)
}
