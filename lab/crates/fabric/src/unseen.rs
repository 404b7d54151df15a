// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests at whose bytes nobody looks.
//!
//! While nothing is recorded, the bytes of a request to guest memory, and those of its completions,
//! are made only to be taken apart again. Such requests do what they would have done: they move data
//! and use up transaction tags. Requests to peers always become bytes.

use crate::{
    DmaError, Want, split,
    state::{RCB_HOST, State, in_dw},
};
use vm_memory::{Bytes, VolatileSlice};

impl State {
    /// Does what memory writes of `data` from `port` do; false, and nothing is done, if they must be
    /// sent. What `data` goes to lies within a page.
    pub fn write_unseen(
        &mut self,
        port: usize,
        addr: u64,
        data: &[u8],
        want: Want,
    ) -> Result<bool, DmaError> {
        let memory = self.unseen(port, addr, data.len(), true);
        if memory.is_none_or(|memory| memory.write_slice(data, 0).is_err()) {
            return Ok(false);
        }
        let max = self.ports[port].limits.max_payload;
        let mut tlps = 0;
        self.for_each_request(port, addr, data.len(), max, want, |_, _| tlps += 1);
        self.tap.skip(tlps)?;
        Ok(true)
    }

    /// Does what memory reads into `data` do, as [`State::write_unseen`].
    pub fn read_unseen(
        &mut self,
        port: usize,
        addr: u64,
        data: &mut [u8],
        want: Want,
    ) -> Result<bool, DmaError> {
        let memory = self.unseen(port, addr, data.len(), false);
        if memory.is_none_or(|memory| memory.read_slice(data, 0).is_err()) {
            return Ok(false);
        }
        let limits = self.ports[port].limits;
        let (counting, max) = (self.tap.is_counting(), limits.max_read_request);
        let mut tlps = 0;
        self.for_each_request(port, addr, data.len(), max, want, |at, len| {
            if counting {
                // If the read is for whole DWs, these are cut at the same places.
                let answers = split::completion_lens(at, len, limits.max_payload, RCB_HOST);
                tlps += 1 + answers.count() as u64;
            }
        });
        self.tap.skip(tlps)?;
        Ok(true)
    }

    /// The guest memory at `addr`, if all requests for the `len` bytes there go to it unseen.
    fn unseen(&self, port: usize, addr: u64, len: usize, write: bool) -> Option<VolatileSlice<'_>> {
        if len == 0 || self.tap.is_recording() || self.may_hit_bar(port, addr, len) {
            return None;
        }
        // A request is for whole DWs.
        let lead = in_dw(addr);
        let dws = (lead + len).next_multiple_of(4);
        let memory = self.ports[port]
            .memory
            .slice(addr - lead as u64, dws, write)?;
        memory.subslice(lead, len).ok()
    }

    /// Uses up the tags of the requests for `len` bytes at `addr`, and tells which bytes each is for.
    fn for_each_request(
        &mut self,
        port: usize,
        addr: u64,
        len: usize,
        max: usize,
        want: Want,
        mut each: impl FnMut(u64, usize),
    ) {
        let port = &mut self.ports[port];
        let tag = want.on(&port.steering).map(|hint| hint.tag.value());
        let mut done = 0;
        while done < len {
            let at = addr + done as u64;
            let bytes = split::request_len(at, len - done, max);
            port.take_tag(tag);
            each(at, bytes);
            done += bytes;
        }
    }
}
