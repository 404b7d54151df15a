// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests to guest memory that nobody records.
//!
//! Their bytes, and those of their completions, would be made only to be thrown away. So the data is
//! moved at once, and what else such requests leave behind is made up for: they use up transaction
//! tags, and they are counted if a trace has reached its limit. Requests to peers are sent one by one,
//! since each is an event for the completer.

use crate::{
    DmaError, Want,
    split::{self, RCB_HOST},
    state::{State, in_dw},
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
) -> Result<bool, DmaError> {
    let memory = memory(state, port, addr, data.len(), true);
    if memory.is_none_or(|memory| memory.write_slice(data, 0).is_err()) {
        return Ok(false);
    }
    let max = state.ports[port].limits.max_payload;
    let mut tlps = 0;
    for_each_request(state, port, addr, data.len(), max, want, |_, _| tlps += 1);
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
) -> Result<bool, DmaError> {
    let memory = memory(state, port, addr, data.len(), false);
    if memory.is_none_or(|memory| memory.read_slice(data, 0).is_err()) {
        return Ok(false);
    }
    let limits = state.ports[port].limits;
    let (counting, max) = (state.tap.is_counting(), limits.max_read_request);
    let mut tlps = 0;
    for_each_request(state, port, addr, data.len(), max, want, |at, len| {
        if counting {
            // If the read is for whole DWs, these are cut at the same places.
            let answers = split::completion_lens(at, len, limits.max_payload, RCB_HOST);
            tlps += 1 + answers.count() as u64;
        }
    });
    state.tap.skip(tlps)?;
    Ok(true)
}

/// The guest memory at `addr`, if all requests for the `len` bytes there go to it and are not recorded.
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

/// Uses up the tags of the requests for `len` bytes at `addr`, and tells which bytes each is for.
fn for_each_request(
    state: &mut State,
    port: usize,
    addr: u64,
    len: usize,
    max: usize,
    want: Option<Want>,
    mut each: impl FnMut(u64, usize),
) {
    let tag = state.hint(port, want).map(|hint| hint.tag.value());
    let port = &mut state.ports[port];
    let mut done = 0;
    while done < len {
        let at = addr + done as u64;
        let bytes = split::request_len(at, len - done, max);
        port.take_tag(tag);
        each(at, bytes);
        done += bytes;
    }
}
