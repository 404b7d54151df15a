// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings of work requests in the memory of a queue.

use crate::dma::{Buffer, Dma};
use crate::error::Error;

/// A wq: entries of one size, in a part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wq {
    offset: u64,
    log_entries: u32,
    log_stride: u32,
}

impl Wq {
    /// 2^`log_entries` entries of 2^`log_stride` bytes from `offset` on; both are below 32.
    pub fn new(offset: u64, log_entries: u32, log_stride: u32) -> Self {
        Self {
            offset,
            log_entries,
            log_stride,
        }
    }

    /// Its bytes.
    pub fn len(self) -> u64 {
        1 << (self.log_entries + self.log_stride)
    }

    /// Bytes of an entry.
    pub fn stride(self) -> usize {
        1 << self.log_stride
    }

    /// Fills `data` from entry `index` on; the wq goes on at its beginning.
    pub fn read(
        self,
        dma: &Dma,
        buffer: &Buffer,
        index: u16,
        data: &mut [u8],
    ) -> Result<(), Error> {
        let at = (u64::from(index) << self.log_stride) % self.len();
        let room = usize::try_from(self.len() - at).unwrap_or(usize::MAX);
        let (front, back) = data.split_at_mut(room.min(data.len()));
        dma.read(buffer, self.offset + at, front)?;
        // What is longer than the wq is no request; its end repeats the wq.
        for part in back.chunks_mut(usize::try_from(self.len()).unwrap_or(usize::MAX)) {
            dma.read(buffer, self.offset, part)?;
        }
        Ok(())
    }
}
