// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queue pairs.

use crate::guest_memory::Area;
use crate::key::access;
use crate::request::{BLOCK, Request, Sge};
use crate::srq::END_OF_LIST;

/// States of a queue pair.
pub mod state {
    /// As made.
    pub const RESET: u32 = 0;
    /// Requests may be posted.
    pub const INIT: u32 = 1;
    /// Ready to receive.
    pub const RTR: u32 = 2;
    /// Ready to send.
    pub const RTS: u32 = 3;
    /// All that is posted is flushed.
    pub const ERROR: u32 = 6;
}

/// Where messages arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// In a queue of its own.
    Own,
    /// In a shared one.
    Shared(u32),
    /// Nowhere.
    Nowhere,
}

/// What a queue pair is to be.
#[derive(Clone, Copy, Debug)]
pub struct QpOptions {
    /// What it is for: see the constants.
    pub service: u8,
    /// Its protection domain.
    pub pd: u32,
    /// Where completions of its send queue go.
    pub send_cq: u32,
    /// Where completions of what it receives go.
    pub receive_cq: u32,
    /// Blocks of its send queue: 2^this.
    pub log_send: u32,
    /// Requests of its receive queue: 2^this.
    pub log_receive: u32,
    /// Where messages arrive.
    pub receive: Receive,
    /// The domain of shared receive queues that its peer may name.
    pub xrcd: u32,
}

impl QpOptions {
    /// Reliable connection.
    pub const RC: u8 = 0;
    /// Unreliable connection.
    pub const UC: u8 = 1;
    /// Unreliable datagram.
    pub const UD: u8 = 2;
    /// Extended reliable connection.
    pub const XRC: u8 = 3;
    /// The driver's own, to change memory keys.
    pub const UMR: u8 = 0xc;

    /// One of `service` in `pd` with one completion queue.
    #[must_use]
    pub fn new(service: u8, pd: u32, cq: u32) -> Self {
        Self {
            service,
            pd,
            send_cq: cq,
            receive_cq: cq,
            log_send: 6,
            log_receive: 5,
            receive: Receive::Own,
            xrcd: 0,
        }
    }
}

/// How a queue pair is connected: what the transitions to RTR and RTS bring.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// What its peer may do, of [`access`].
    pub access: u32,
    /// The peer.
    pub remote_qpn: u32,
    /// Its port.
    pub lid: u16,
    /// GID of its port.
    pub gid: Option<[u8; 16]>,
    /// Key of datagrams that it takes.
    pub qkey: u32,
    /// How often it tries again when the peer is not ready; 7 is without end.
    pub rnr_retry: u8,
    /// How long it wants to be left alone when it is not ready: a code, 1 is 10 us.
    pub min_rnr_nak: u8,
}

impl Connection {
    /// LID of the adapter's port.
    pub const LID: u16 = 1;

    /// To `remote_qpn` on the same port, with all rights.
    #[must_use]
    pub fn to(remote_qpn: u32) -> Self {
        Self {
            access: access::ALL,
            remote_qpn,
            lid: Self::LID,
            gid: None,
            qkey: 0x1111_1111,
            rnr_retry: 7,
            min_rnr_nak: 1,
        }
    }
}

/// A queue pair.
pub struct Qp {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub options: QpOptions,
    pub(crate) ring: Area,
    pub(crate) doorbell: Area,
    /// The send doorbell that is rung.
    pub(crate) register: u64,
    /// The next block, and the next receive request, counted without end.
    pub(crate) send_next: u16,
    pub(crate) receive_next: u16,
}

impl Qp {
    pub(crate) const LOG_STRIDE: u32 = 2; // in units of 16 bytes: four segments

    const STRIDE: u64 = 16 << Self::LOG_STRIDE;

    pub(crate) fn receive_len(options: &QpOptions) -> u64 {
        match options.receive {
            Receive::Own => Self::STRIDE << options.log_receive,
            _ => 0,
        }
    }

    pub(crate) fn len(options: &QpOptions) -> u64 {
        Self::receive_len(options) + ((BLOCK as u64) << options.log_send)
    }

    /// Its memory: the receive queue, then the send queue.
    #[must_use]
    pub fn area(&self) -> &Area {
        &self.ring
    }

    /// Its doorbell record: what was posted to the receive queue, and to the send queue.
    #[must_use]
    pub fn doorbell(&self) -> &Area {
        &self.doorbell
    }

    /// Puts bytes into the send queue as the next request, of as many blocks as they fill. The
    /// device does not know of it yet.
    pub fn put(&mut self, bytes: &[u8]) {
        let base = Self::receive_len(&self.options);
        let blocks = 1u64 << self.options.log_send;
        for block in bytes.chunks(BLOCK) {
            let at = u64::from(self.send_next) % blocks * BLOCK as u64;
            self.ring.write(base + at, block);
            self.send_next = self.send_next.wrapping_add(1);
        }
    }

    /// Writes a request, and how far the queue goes now. The doorbell is still to be rung with the
    /// first eight bytes, which are returned.
    pub fn prepare(&mut self, request: &Request) -> u64 {
        let bytes = request.finish(self.number, self.send_next);
        self.put(&bytes);
        self.doorbell.store(4, self.send_next.into());
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        u64::from_be_bytes(first)
    }

    /// Posts a receive request. There is no doorbell for that but the record.
    pub fn post_receive(&mut self, list: &[Sge]) {
        let count = 1u64 << self.options.log_receive;
        let at = u64::from(self.receive_next) % count * Self::STRIDE;
        let end = Sge {
            key: END_OF_LIST,
            addr: 0,
            len: 0,
        };
        let mut bytes: Vec<u8> = list.iter().flat_map(|one| one.to_bytes()).collect();
        assert!(
            bytes.len() as u64 <= Self::STRIDE,
            "too many scatter-gather entries"
        );
        if (bytes.len() as u64) < Self::STRIDE {
            bytes.extend(end.to_bytes());
        }
        self.ring.write(at, &bytes);
        self.receive_next = self.receive_next.wrapping_add(1);
        self.doorbell.store(0, self.receive_next.into());
    }
}
