// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions.

use crate::wire::{cqe, err_cqe};

/// How a work request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A request of a send queue ended well.
    Requester = 0,
    /// An RDMA write with immediate data arrived.
    ResponderWriteImm = 1,
    /// A message arrived.
    ResponderSend = 2,
    /// A message with immediate data arrived.
    ResponderSendImm = 3,
    /// Go on in the new buffer.
    Resize = 5,
    /// A request of a send queue failed.
    RequesterError = 13,
    /// A receive failed.
    ResponderError = 14,
}

/// Why a work request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Syndrome {
    /// The message is longer than the receive request.
    LocalLength = 0x01,
    /// The request makes no sense.
    LocalQpOperation = 0x02,
    /// A local key does not allow it.
    LocalProtection = 0x04,
    /// The queue pair was in error already.
    Flushed = 0x05,
    /// A memory key cannot be changed like that.
    MemoryWindowBind = 0x06,
    /// The peer cannot do such a request.
    RemoteInvalidRequest = 0x12,
    /// The remote key, or the peer, does not allow it.
    RemoteAccess = 0x13,
    /// The peer failed.
    RemoteOperation = 0x14,
    /// There is no peer.
    RetryExceeded = 0x15,
    /// The peer had no receive request for too long.
    RnrRetryExceeded = 0x16,
}

/// A completion, but for the owner, which is the queue's.
pub type Bytes = [u8; cqe::LAYOUT.len];

/// A request of a send queue ended well: its opcode, its first block, and the bytes that it moved.
pub fn requester(qpn: u32, opcode: u8, wqe_counter: u16, bytes: u32) -> Bytes {
    let mut entry = [0; cqe::LAYOUT.len];
    cqe::opcode.set(&mut entry, Opcode::Requester as u64);
    cqe::sop_drop_qpn.set(&mut entry, (u32::from(opcode) << 24 | qpn).into());
    cqe::wqe_counter.set(&mut entry, wqe_counter.into());
    cqe::byte_cnt.set(&mut entry, bytes.into());
    entry
}

/// A request failed.
pub fn error(side: Opcode, qpn: u32, opcode: u8, wqe_counter: u16, why: Syndrome) -> Bytes {
    let mut entry = [0; err_cqe::LAYOUT.len];
    err_cqe::opcode.set(&mut entry, side as u64);
    err_cqe::sop_drop_qpn.set(&mut entry, (u32::from(opcode) << 24 | qpn).into());
    err_cqe::wqe_counter.set(&mut entry, wqe_counter.into());
    err_cqe::syndrome.set(&mut entry, why as u64);
    entry
}

/// What arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Message or write.
    pub opcode: Opcode,
    /// Bytes, with those of the route header of a datagram.
    pub bytes: u32,
    /// Immediate data.
    pub immediate: Option<u32>,
    /// Of a datagram: its sender, and whether it has a route header.
    pub datagram: Option<(Sender, bool)>,
}

/// Who sent a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Its queue pair.
    pub qpn: u32,
    /// Its port.
    pub lid: u16,
    /// Service level of the datagram.
    pub sl: u8,
}

/// A receive request ended well; `srqn` is that of the shared queue that it is from, or 0.
pub fn responder(qpn: u32, wqe_counter: u16, srqn: u32, arrival: &Arrival) -> Bytes {
    let mut entry = [0; cqe::LAYOUT.len];
    cqe::opcode.set(&mut entry, arrival.opcode as u64);
    cqe::sop_drop_qpn.set(&mut entry, qpn.into());
    cqe::wqe_counter.set(&mut entry, wqe_counter.into());
    cqe::srqn.set(&mut entry, srqn.into());
    cqe::byte_cnt.set(&mut entry, arrival.bytes.into());
    cqe::immediate.set(&mut entry, arrival.immediate.unwrap_or(0).into());
    if let Some((sender, routed)) = arrival.datagram {
        let flags = u32::from(routed) << 28 | u32::from(sender.sl & 0xf) << 24;
        cqe::flags_rqpn.set(&mut entry, (flags | sender.qpn).into());
        cqe::slid.set(&mut entry, sender.lid.into());
    }
    entry
}
