// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to guest memory that nobody records.
//!
//! Their bytes, and those of their completions, would be made only to be thrown away. So the data
//! is moved at once, and what else such requests leave behind is made up for: they use up
//! transaction tags, and they are counted if a trace has reached its limit. Requests to peers are
//! sent one by one, since each is an event for the completer.

use crate::{
    Error, Want,
    split::{self, RCB_HOST},
    state::{MAX_PAYLOAD, State, in_dw},
};
use vm_memory::{Bytes, VolatileSlice};

/// Does what memory writes of `data` from `port` do; false, and nothing is done, if they must be
/// sent. What `data` goes to lies within a page.
pub fn write(
    state: &mut State,
    port: usize,
    addr: u64,
    data: &[u8],
    want: Option<Want>,
) -> Result<bool, Error> {
    let memory = memory(state, port, addr, data.len(), true);
    if memory.is_none_or(|memory| memory.write_slice(data, 0).is_err()) {
        return Ok(false);
    }
    let mut requests = Requests::new(state, port);
    requests.write(addr, data.len(), want);
    let tlps = requests.tlps;
    state.tap.skip(tlps)?;
    Ok(true)
}

/// Does what memory reads into `data` do, as [`write`].
pub fn read(
    state: &mut State,
    port: usize,
    addr: u64,
    data: &mut [u8],
    want: Option<Want>,
) -> Result<bool, Error> {
    let memory = memory(state, port, addr, data.len(), false);
    if memory.is_none_or(|memory| memory.read_slice(data, 0).is_err()) {
        return Ok(false);
    }
    let mut requests = Requests::new(state, port);
    requests.read(addr, data.len(), want);
    let tlps = requests.tlps;
    state.tap.skip(tlps)?;
    Ok(true)
}

/// Does what reads of `len` bytes at `from` and writes of them to `to` do, a page of the target at
/// a time; false, and nothing is done, if they must be sent.
pub fn copy(
    state: &mut State,
    port: usize,
    (from, read): (u64, Option<Want>),
    (to, write): (u64, Option<Want>),
    len: usize,
) -> Result<bool, Error> {
    let Some(source) = memory(state, port, from, len, false) else {
        return Ok(false);
    };
    let Some(target) = memory(state, port, to, len, true) else {
        return Ok(false);
    };
    source.copy_to_volatile_slice(target);
    let mut requests = Requests::new(state, port);
    let mut done = 0;
    while done < len {
        let at = to + done as u64;
        let bytes = split::request_len(at, len - done, MAX_PAYLOAD);
        let source = from + done as u64;
        let front = split::request_len(source, bytes, MAX_PAYLOAD);
        requests.read(source, front, read);
        // What is at the end of the address space has nothing behind it.
        requests.read(source.wrapping_add(front as u64), bytes - front, read);
        requests.write(at, bytes, write);
        done += bytes;
    }
    let tlps = requests.tlps;
    state.tap.skip(tlps)?;
    Ok(true)
}

/// The guest memory at `addr`, if all requests for the `len` bytes there go to it and are not
/// recorded.
fn memory(
    state: &State,
    port: usize,
    addr: u64,
    len: usize,
    write: bool,
) -> Option<VolatileSlice<'_>> {
    if len == 0 || state.tap.is_recording() || state.may_hit_bar(port, addr, len) {
        return None;
    }
    // A request is for whole DWs.
    let lead = in_dw(addr);
    let dws = (lead + len).next_multiple_of(4);
    let memory = state.ports[port]
        .memory
        .slice(addr - lead as u64, dws, write)?;
    memory.subslice(lead, len).ok()
}

/// What the requests that were not sent leave behind: they have used up tags, and are counted if
/// the trace has reached its limit. Each call is for bytes within a page.
struct Requests<'a> {
    state: &'a mut State,
    port: usize,
    counting: bool,
    tlps: u64,
}

impl<'a> Requests<'a> {
    fn new(state: &'a mut State, port: usize) -> Self {
        let counting = state.tap.is_counting();
        Self {
            state,
            port,
            counting,
            tlps: 0,
        }
    }

    fn write(&mut self, addr: u64, len: usize, want: Option<Want>) {
        let max = self.state.ports[self.port].limits.max_payload;
        self.take(split::requests(addr, len, max), want);
    }

    fn read(&mut self, addr: u64, len: usize, want: Option<Want>) {
        let limits = self.state.ports[self.port].limits;
        self.take(split::requests(addr, len, limits.max_read_request), want);
        let mut done = 0;
        while self.counting && done < len {
            let at = addr + done as u64;
            let bytes = split::request_len(at, len - done, limits.max_read_request);
            // If the read is for whole DWs, these are cut at the same places.
            let answers = split::completion_lens(at, bytes, limits.max_payload, RCB_HOST);
            self.tlps += answers.count() as u64;
            done += bytes;
        }
    }

    fn take(&mut self, requests: usize, want: Option<Want>) {
        let hint = self.state.hint(self.port, want);
        let steering_tag = hint.map(|hint| hint.tag.value());
        self.state.ports[self.port].take_tags(requests, steering_tag);
        self.tlps += requests as u64;
    }
}
