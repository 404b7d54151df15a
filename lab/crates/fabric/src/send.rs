// SPDX-License-Identifier: MIT OR Apache-2.0
//! The way of a request, from what a function wants to what became of it.

use crate::{
    Error, Want, direct,
    split::{self, RCB_ENDPOINT, RCB_HOST},
    state::{HOST, MAX_PAYLOAD, PortState, State, Target, in_dw},
    trace::Tap,
};
use std::{iter, sync::MutexGuard};
use tlp::{Bdf, CompletionHeader, CompletionStatus, FieldError, Hint, MemRequest, Mode, Tlp};

/// Routing id of the host bridge, which answers for guest memory and for nobody.
const HOST_ID: Bdf = Bdf::new(0, 0, 0);

/// A function that may send: the fabric, locked, with all gates open.
pub struct Egress<'a> {
    state: MutexGuard<'a, State>,
    port: usize,
    requester: Bdf,
}

impl<'a> Egress<'a> {
    pub fn new(state: MutexGuard<'a, State>, port: usize, requester: Bdf) -> Self {
        Self {
            state,
            port,
            requester,
        }
    }

    /// Sends one memory write: as many bytes of `data` as one TLP takes.
    pub fn write(&mut self, addr: u64, data: &[u8], want: Option<Want>) -> Result<usize, Error> {
        let data = &data[..self.write_len(addr, data.len())];
        if !direct::write(&mut self.state, self.port, addr, data, want)? {
            let hint = self.hint(want);
            self.send_write(addr, data, hint)?;
        }
        Ok(data.len())
    }

    /// Sends memory writes up to the end of a page; returns how many bytes of `data` they took.
    pub fn write_page(
        &mut self,
        addr: u64,
        data: &[u8],
        want: Option<Want>,
    ) -> Result<usize, Error> {
        let data = &data[..split::request_len(addr, data.len(), MAX_PAYLOAD)];
        if direct::write(&mut self.state, self.port, addr, data, want)? {
            return Ok(data.len());
        }
        let hint = self.hint(want);
        let mut done = 0;
        while done < data.len() {
            let at = addr + done as u64;
            let len = self.write_len(at, data.len() - done);
            self.send_write(at, &data[done..done + len], hint)?;
            done += len;
        }
        Ok(done)
    }

    /// Sends one memory read, for as many bytes of `data` as one TLP may ask for, and takes its
    /// completions.
    pub fn read(&mut self, addr: u64, data: &mut [u8], want: Option<Want>) -> Result<usize, Error> {
        let len = self.read_len(addr, data.len());
        let data = &mut data[..len];
        if !direct::read(&mut self.state, self.port, addr, data, want)? {
            let hint = self.hint(want);
            self.send_read(addr, data, hint)?;
        }
        Ok(len)
    }

    /// Sends memory reads up to the end of a page; returns how many bytes of `data` came back.
    pub fn read_page(
        &mut self,
        addr: u64,
        data: &mut [u8],
        want: Option<Want>,
    ) -> Result<usize, Error> {
        let len = split::request_len(addr, data.len(), MAX_PAYLOAD);
        let data = &mut data[..len];
        if direct::read(&mut self.state, self.port, addr, data, want)? {
            return Ok(len);
        }
        let hint = self.hint(want);
        let mut done = 0;
        while done < len {
            let at = addr + done as u64;
            let wanted = self.read_len(at, len - done);
            self.send_read(at, &mut data[done..done + wanted], hint)?;
            done += wanted;
        }
        Ok(len)
    }

    /// Copies guest memory to guest memory, as reads and writes would; false, and nothing is done,
    /// if these must be sent.
    pub fn copy(
        &mut self,
        from: (u64, Option<Want>),
        to: (u64, Option<Want>),
        len: usize,
    ) -> Result<bool, Error> {
        direct::copy(&mut self.state, self.port, from, to, len)
    }

    fn port(&self) -> &PortState {
        &self.state.ports[self.port]
    }

    /// The hint that the gate allows the next request, which nobody can change before it is sent.
    pub fn hint(&mut self, want: Option<Want>) -> Option<Hint> {
        self.state.hint(self.port, want)
    }

    fn write_len(&self, addr: u64, remaining: usize) -> usize {
        split::request_len(addr, remaining, self.port().limits.max_payload)
    }

    fn read_len(&self, addr: u64, remaining: usize) -> usize {
        split::request_len(addr, remaining, self.port().limits.max_read_request)
    }

    /// The header of the next request, for `len` bytes at `addr`, as its bytes will say it.
    fn request(
        &mut self,
        addr: u64,
        len: usize,
        hint: Option<Hint>,
        write: bool,
    ) -> Result<MemRequest, FieldError> {
        let mode = self.state.mode;
        let sender = &mut self.state.ports[self.port];
        let tag = sender.take_tag(hint.map(|hint| hint.tag.value()));
        let request = MemRequest::for_bytes(self.requester, addr, len)?;
        let Some(hint) = hint else {
            return request.with_tag(tag);
        };
        let request = request.with_hint(hint);
        // In flit mode the steering tag has a place of its own. In non-flit mode it takes that of a
        // write's tag, and that of a read's byte enables, so that a hinted read is for whole DWs.
        match (mode, write) {
            (Mode::Flit, _) => request.with_tag(tag),
            (Mode::NonFlit, true) => Ok(request),
            (Mode::NonFlit, false) => {
                let last_be = if request.len_dw() == 1 { 0 } else { 0xf };
                request.with_byte_enables(0xf, last_be)?.with_tag(tag)
            }
        }
    }

    fn send_write(&mut self, addr: u64, data: &[u8], hint: Option<Hint>) -> Result<(), Error> {
        let request = self.request(addr, data.len(), hint, true)?;
        let state = &mut *self.state;
        let target = state.route(self.port, &request, true);
        let payload = if request.len_bytes() == data.len() {
            data
        } else {
            pad(&mut state.padded[..request.len_bytes()], addr, data)
        };
        let link = Link {
            mode: state.mode,
            from: self.port,
            target,
        };
        let write = |request| Tlp::MemWrite(request, payload);
        let request = link.carry(&mut state.tap, request, write)?;
        match target {
            Target::Bar {
                port, bar, offset, ..
            } => {
                if let Some(completer) = &state.ports[port].completer {
                    completer.write(bar.into(), offset, &request, payload);
                }
            }
            Target::Memory => {
                let memory = &state.ports[self.port].memory;
                for (offset, run) in enabled_runs(&request, payload) {
                    memory.write(request.addr() + offset, run);
                }
            }
            // Posted: the requester does not hear of it. The trace tells.
            Target::Nobody => {}
        }
        Ok(())
    }

    fn send_read(&mut self, addr: u64, data: &mut [u8], hint: Option<Hint>) -> Result<(), Error> {
        let request = self.request(addr, data.len(), hint, false)?;
        let state = &mut *self.state;
        let target = state.route(self.port, &request, false);
        let link = Link {
            mode: state.mode,
            from: self.port,
            target,
        };
        let request = link.carry(&mut state.tap, request, Tlp::MemRead)?;
        let answered = if request.len_bytes() == data.len() {
            link.answer(&state.ports, &mut state.tap, &request, data)
        } else {
            let dws = &mut state.padded[..request.len_bytes()];
            let answered = link.answer(&state.ports, &mut state.tap, &request, dws);
            if let Ok(CompletionStatus::Success) = answered {
                let lead = in_dw(addr);
                data.copy_from_slice(&dws[lead..lead + data.len()]);
            }
            answered
        };
        match answered? {
            CompletionStatus::Success => Ok(()),
            status => {
                state.ports[self.port].master_abort = true;
                Err(Error::Completion { addr, status })
            }
        }
    }
}

/// The way between the port that sends a request and whoever takes it.
#[derive(Clone, Copy)]
struct Link {
    mode: Mode,
    from: usize,
    target: Target,
}

impl Link {
    /// Records a request on every link of its way; returns it as it arrives.
    fn carry<'a>(
        self,
        tap: &mut Tap,
        request: MemRequest,
        tlp: impl Fn(MemRequest) -> Tlp<'a>,
    ) -> Result<MemRequest, Error> {
        let (sender, receiver) = (self.from + 1, self.target.receiver());
        let Target::Bar {
            translated: Some(addr),
            ..
        } = self.target
        else {
            tap.record(sender, receiver, self.mode, &tlp(request))?;
            return Ok(request);
        };
        // The root complex passes it on.
        let host = Some((HOST, None));
        tap.record(sender, host, self.mode, &tlp(request))?;
        let moved = readdressed(&request, addr)?;
        tap.record(HOST, receiver, self.mode, &tlp(moved))?;
        Ok(moved)
    }

    /// Fills `dws` with what a read is for, and records its completions; returns their status.
    fn answer(
        self,
        ports: &[PortState],
        tap: &mut Tap,
        request: &MemRequest,
        dws: &mut [u8],
    ) -> Result<CompletionStatus, Error> {
        let answered = match self.target {
            Target::Bar {
                port, bar, offset, ..
            } => ports[port].completer.as_ref().is_some_and(|completer| {
                dws.fill(0);
                completer.read(bar.into(), offset, request, dws);
                true
            }),
            Target::Memory => ports[self.from].memory.read(request.addr(), dws),
            Target::Nobody => false,
        };
        if !answered {
            let status = CompletionStatus::UnsupportedRequest;
            let header = CompletionHeader::answering(request, HOST_ID, status);
            self.complete(tap, header, &[])?;
            return Ok(status);
        }
        let (id, rcb, limits) = match self.target {
            Target::Bar { port, .. } => (ports[port].id, RCB_ENDPOINT, ports[port].limits),
            // A root port's payload size is that of the endpoint below it.
            Target::Memory | Target::Nobody => (HOST_ID, RCB_HOST, ports[self.from].limits),
        };
        let status = CompletionStatus::Success;
        let mut header = CompletionHeader::answering(request, id, status);
        let addr = request.addr() + u64::from(header.lower_address() & 0b11);
        let bytes = header.byte_count().into();
        // The next byte to return, as an offset into `dws`.
        let mut at = in_dw(addr);
        for len in split::completion_lens(addr, bytes, limits.max_payload, rcb) {
            let payload = &dws[at / 4 * 4..(at + len).next_multiple_of(4)];
            self.complete(tap, header, payload)?;
            at += len;
            if len < usize::from(header.byte_count()) {
                header = rest_of(&header, len)?;
            }
        }
        Ok(status)
    }

    fn complete(
        self,
        tap: &mut Tap,
        header: CompletionHeader,
        payload: &[u8],
    ) -> Result<(), Error> {
        let (sender, receiver) = (self.target.completer(), Some((self.from + 1, None)));
        let completion = Tlp::Completion(header, payload);
        tap.record(sender, receiver, self.mode, &completion)
    }
}

/// Puts `data` for `addr` into its place in whole DWs.
fn pad<'a>(dws: &'a mut [u8], addr: u64, data: &[u8]) -> &'a [u8] {
    let (first, last) = (in_dw(addr), dws.len() - 4);
    dws[..4].fill(0);
    dws[last..].fill(0);
    dws[first..first + data.len()].copy_from_slice(data);
    dws
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
