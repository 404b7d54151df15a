// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared receive queues.

use crate::guest_memory::Area;
use crate::request::Sge;
use connectx::wire::srq_next;

/// The key that ends the list of a receive request.
pub(crate) const END_OF_LIST: u32 = 0x100;
/// Bytes of a request: what names the next one, and one scatter-gather entry.
const STRIDE: u64 = 32;

/// What a shared receive queue is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct SrqOptions {
    /// It has room for 2^this requests.
    pub log_size: u32,
    /// The protection domain of its memory.
    pub pd: u32,
    /// The domain of those who may name it.
    pub xrcd: u32,
    /// Where completions go of those who name it.
    pub cqn: u32,
}

/// A shared receive queue. Its requests are a list in any order; the first one is number 0.
pub struct Srq {
    /// Its number.
    pub number: u32,
    pub(crate) ring: Area,
    pub(crate) doorbell: Area,
    /// The next request's number, and how many were posted.
    pub(crate) next: u16,
    pub(crate) posted: u16,
}

impl Srq {
    pub(crate) const LOG_STRIDE: u64 = 1; // in units of 16 bytes

    pub(crate) fn len(log_size: u32) -> u64 {
        STRIDE << log_size
    }

    /// Its memory.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.ring
    }

    /// Posts a receive request, and says which one will be `following` it.
    pub fn post(&mut self, sge: Sge, following: u16) {
        let mut next = [0; srq_next::LAYOUT.len];
        srq_next::next_wqe_index.set(&mut next, following.into());
        let at = u64::from(self.next) * STRIDE;
        self.ring.write(at, &next);
        self.ring.write(at + 16, &sge.to_bytes());
        self.next = following;
        self.posted = self.posted.wrapping_add(1);
        self.doorbell.store(0, self.posted.into());
    }
}
