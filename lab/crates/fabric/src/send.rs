// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of a request, from what a function wants to what became of it.

use crate::{
    DmaError, Want, split,
    state::{HOST, HOST_ID, RCB_ENDPOINT, RCB_HOST, State, Target, in_dw},
};
use std::{iter, mem};
use tlp::{
    Bdf, CompletionHeader, CompletionStatus, FieldError, MAX_ENCODED_LEN, MemRequest, Mode, Tlp,
};

/// Bytes that one TLP carries at most.
const MAX_PAYLOAD: usize = 4096;

impl State {
    /// Sends one memory write from `port`: as many bytes of `data` as one TLP takes.
    pub fn write(
        &mut self,
        port: usize,
        requester: Bdf,
        addr: u64,
        data: &[u8],
        want: Want,
    ) -> Result<usize, DmaError> {
        let limits = self.ports[port].limits;
        let len = split::request_len(addr, data.len(), limits.max_payload);
        let data = &data[..len];
        if self.write_unseen(port, addr, data, want)? {
            return Ok(len);
        }
        let sender = &mut self.ports[port];
        let hint = want.on(&sender.steering);
        let tag = sender.take_tag(hint.map(|hint| hint.tag.value()));
        let mut request = MemRequest::for_bytes(requester, addr, len)?.with_tag(tag)?;
        if let Some(hint) = hint {
            request = request.with_hint(hint);
        }
        let mut padded;
        let payload = if request.len_bytes() == len {
            data
        } else {
            padded = [0; MAX_PAYLOAD];
            let lead = in_dw(addr);
            padded[lead..lead + len].copy_from_slice(data);
            &padded[..request.len_bytes()]
        };
        let mut buffer = mem::take(&mut self.buffers.request);
        let wire = encode(&Tlp::MemWrite(request, payload), self.mode, &mut buffer)?;
        self.deliver_write(port, wire)?;
        self.buffers.request = buffer;
        Ok(len)
    }

    /// Sends memory writes from `port` up to the end of a page; returns how many bytes of `data` they
    /// took.
    pub fn write_page(
        &mut self,
        port: usize,
        requester: Bdf,
        addr: u64,
        data: &[u8],
        want: Want,
    ) -> Result<usize, DmaError> {
        let len = split::request_len(addr, data.len(), MAX_PAYLOAD);
        let data = &data[..len];
        if self.write_unseen(port, addr, data, want)? {
            return Ok(len);
        }
        let mut done = 0;
        while done < len {
            let at = addr + done as u64;
            done += self.write(port, requester, at, &data[done..], want)?;
        }
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
        let limits = self.ports[port].limits;
        let len = split::request_len(addr, data.len(), limits.max_read_request);
        let data = &mut data[..len];
        if self.read_unseen(port, addr, data, want)? {
            return Ok(len);
        }
        let sender = &mut self.ports[port];
        let hint = want.on(&sender.steering);
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
        let mut buffer = mem::take(&mut self.buffers.request);
        let wire = encode(&Tlp::MemRead(request), self.mode, &mut buffer)?;
        let mut pending = Pending {
            addr,
            data,
            returned: 0,
            skip,
        };
        let answered = self.deliver_read(port, wire, &mut pending);
        if let Err(DmaError::Completion { .. }) = answered {
            self.ports[port].master_abort = true;
        }
        answered?;
        let returned = pending.returned;
        self.buffers.request = buffer;
        if returned == len {
            Ok(len)
        } else {
            Err(DmaError::Codec)
        }
    }

    /// Sends memory reads from `port` up to the end of a page; returns how many bytes of `data` came
    /// back.
    pub fn read_page(
        &mut self,
        port: usize,
        requester: Bdf,
        addr: u64,
        data: &mut [u8],
        want: Want,
    ) -> Result<usize, DmaError> {
        let len = split::request_len(addr, data.len(), MAX_PAYLOAD);
        let data = &mut data[..len];
        if self.read_unseen(port, addr, data, want)? {
            return Ok(len);
        }
        let mut done = 0;
        while done < len {
            let at = addr + done as u64;
            done += self.read(port, requester, at, &mut data[done..], want)?;
        }
        Ok(len)
    }

    /// Records a request on every link of its way; returns the one that the root complex makes of it,
    /// if it passes it on with another address.
    fn carry(
        &mut self,
        from: usize,
        target: &Target,
        wire: &[u8],
    ) -> Result<Option<Vec<u8>>, DmaError> {
        let &Target::Bar {
            translated: Some(addr),
            ..
        } = target
        else {
            self.tap
                .record(from + 1, target.receiver(), self.mode, wire)?;
            return Ok(None);
        };
        self.tap
            .record(from + 1, Some((HOST, None)), self.mode, wire)?;
        let moved = match Tlp::decode(wire, self.mode)? {
            Tlp::MemWrite(request, payload) => Tlp::MemWrite(readdressed(&request, addr)?, payload),
            Tlp::MemRead(request) => Tlp::MemRead(readdressed(&request, addr)?),
            Tlp::Completion(..) => return Err(DmaError::Codec),
        };
        let mut passed_on = vec![];
        let len = encode(&moved, self.mode, &mut passed_on)?.len();
        passed_on.truncate(len);
        self.tap
            .record(HOST, target.receiver(), self.mode, &passed_on)?;
        Ok(Some(passed_on))
    }

    /// Records, routes and delivers a memory write, which is known by its bytes alone.
    fn deliver_write(&mut self, from: usize, wire: &[u8]) -> Result<(), DmaError> {
        let (mut request, mut payload) = as_write(wire, self.mode)?;
        let target = self.route(from, &request, true);
        let passed_on = self.carry(from, &target, wire)?;
        if let Some(wire) = &passed_on {
            (request, payload) = as_write(wire, self.mode)?;
        }
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

    /// Records, routes and answers a memory read, which is known by its bytes alone.
    fn deliver_read(
        &mut self,
        from: usize,
        wire: &[u8],
        pending: &mut Pending<'_>,
    ) -> Result<(), DmaError> {
        let mut request = as_read(wire, self.mode)?;
        let target = self.route(from, &request, false);
        if let Some(wire) = self.carry(from, &target, wire)? {
            request = as_read(&wire, self.mode)?;
        }

        let mut data = mem::take(&mut self.buffers.data);
        data.clear();
        data.resize(request.len_bytes(), 0);
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
        if !answered {
            let status = CompletionStatus::UnsupportedRequest;
            let header = CompletionHeader::answering(&request, HOST_ID, status);
            return self.complete(from, &target, &Tlp::Completion(header, &[]), pending);
        }
        let (mut header, lens) = self.completions(from, &target, &request);
        // The next byte to return, as an offset into `data`.
        let mut at = usize::from(header.lower_address() & 0b11);
        for len in lens {
            let payload = &data[at / 4 * 4..(at + len).next_multiple_of(4)];
            self.complete(from, &target, &Tlp::Completion(header, payload), pending)?;
            at += len;
            if len < usize::from(header.byte_count()) {
                header = rest_of(&header, len)?;
            }
        }
        self.buffers.data = data;
        Ok(())
    }

    /// The header of the first completion of a read that succeeds, and how many bytes each returns.
    fn completions(
        &self,
        from: usize,
        target: &Target,
        request: &MemRequest,
    ) -> (CompletionHeader, impl Iterator<Item = usize> + use<>) {
        let (id, rcb, limits) = match *target {
            Target::Bar { port, .. } => {
                (self.ports[port].id, RCB_ENDPOINT, self.ports[port].limits)
            }
            // A root port's payload size is that of the endpoint below it.
            Target::Memory | Target::Nobody => (HOST_ID, RCB_HOST, self.ports[from].limits),
        };
        let header = CompletionHeader::answering(request, id, CompletionStatus::Success);
        let addr = request.addr() + u64::from(header.lower_address() & 0b11);
        let bytes = header.byte_count().into();
        let lens = split::completion_lens(addr, bytes, limits.max_payload, rcb);
        (header, lens)
    }

    /// Records a completion and hands its bytes to the requester at port `to`.
    fn complete(
        &mut self,
        to: usize,
        target: &Target,
        completion: &Tlp<'_>,
        pending: &mut Pending<'_>,
    ) -> Result<(), DmaError> {
        let mut buffer = mem::take(&mut self.buffers.completion);
        let wire = encode(completion, self.mode, &mut buffer)?;
        self.tap
            .record(target.completer(), Some((to + 1, None)), self.mode, wire)?;
        pending.take(wire, self.mode)?;
        self.buffers.completion = buffer;
        Ok(())
    }
}

/// Room for what one request needs, kept for the next one; what fails loses it.
#[derive(Default)]
pub struct Buffers {
    request: Vec<u8>,
    data: Vec<u8>,
    completion: Vec<u8>,
}

/// Puts a TLP's bytes into `buffer`.
fn encode<'a>(tlp: &Tlp<'_>, mode: Mode, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], DmaError> {
    buffer.resize(MAX_ENCODED_LEN, 0);
    let len = tlp.encode(mode, buffer)?;
    Ok(&buffer[..len])
}

fn as_write(wire: &[u8], mode: Mode) -> Result<(MemRequest, &[u8]), DmaError> {
    match Tlp::decode(wire, mode)? {
        Tlp::MemWrite(request, payload) => Ok((request, payload)),
        _ => Err(DmaError::Codec),
    }
}

fn as_read(wire: &[u8], mode: Mode) -> Result<MemRequest, DmaError> {
    match Tlp::decode(wire, mode)? {
        Tlp::MemRead(request) => Ok(request),
        _ => Err(DmaError::Codec),
    }
}

/// A read that waits for its completions.
struct Pending<'a> {
    addr: u64,
    data: &'a mut [u8],
    /// Bytes that came back.
    returned: usize,
    /// Bytes to come in front of the first one that is wanted.
    skip: usize,
}

impl Pending<'_> {
    fn take(&mut self, wire: &[u8], mode: Mode) -> Result<(), DmaError> {
        let Tlp::Completion(header, payload) = Tlp::decode(wire, mode)? else {
            return Err(DmaError::Codec);
        };
        if header.status() != CompletionStatus::Success {
            return Err(DmaError::Completion {
                addr: self.addr,
                status: header.status(),
            });
        }
        let lead = usize::from(header.lower_address() & 0b11) + mem::take(&mut self.skip);
        let wanted = &mut self.data[self.returned..];
        let taken = payload.len().saturating_sub(lead).min(wanted.len());
        wanted[..taken].copy_from_slice(&payload[lead..lead + taken]);
        self.returned += taken;
        Ok(())
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
    let len = payload.len();
    let mut at = 0;
    iter::from_fn(move || {
        let start = (at..len).find(|&byte| request.is_enabled(byte))?;
        // Only a request of at most two DWs has gaps.
        let inside = if len > 8 { len - 4 } else { start };
        let end = (inside..len).find(|&byte| !request.is_enabled(byte));
        at = end.unwrap_or(len);
        Some((start as u64, &payload[start..at]))
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
