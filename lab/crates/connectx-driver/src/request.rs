// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work requests, as they lie in send queues.

use crate::key::Umr;
use connectx::ifc::mkc;
use connectx::wire::{address, atomic, control, data, remote, umr, xrc};

/// Bytes of a segment, in which requests count, and of a block, in which send queues do.
const SEGMENT: usize = 16;
pub(crate) const BLOCK: usize = 64;

/// A scatter-gather entry: memory of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sge {
    /// The key.
    pub key: u32,
    /// In the key's address space.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
}

impl Sge {
    /// As it lies in a queue.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SEGMENT] {
        let mut bytes = [0; SEGMENT];
        data::byte_count.set(&mut bytes, self.len.into());
        data::lkey.set(&mut bytes, self.key.into());
        data::addr.set(&mut bytes, self.addr);
        bytes
    }
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Address {
    /// The queue pair.
    pub qpn: u32,
    /// Its key; the sender's own if the upper bit is set.
    pub qkey: u32,
    /// The port.
    pub lid: u16,
    /// GID of the port; there is a global route header then.
    pub gid: Option<[u8; 16]>,
}

/// A request of a send queue. It is signalled unless it is said to be [quiet](Self::quiet).
#[derive(Clone, Debug)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Opcodes.
    pub const NOP: u8 = 0x00;
    /// Write remote memory.
    pub const WRITE: u8 = 0x08;
    /// Write remote memory, and tell.
    pub const WRITE_IMM: u8 = 0x09;
    /// A message.
    pub const SEND: u8 = 0x0a;
    /// A message with immediate data.
    pub const SEND_IMM: u8 = 0x0b;
    /// Read remote memory.
    pub const READ: u8 = 0x10;
    /// Compare and swap.
    pub const COMPARE_SWAP: u8 = 0x11;
    /// Fetch and add.
    pub const FETCH_ADD: u8 = 0x12;
    /// Change a memory key.
    pub const UMR: u8 = 0x25;

    /// A request with nothing behind its first segment.
    #[must_use]
    pub fn new(opcode: u8) -> Self {
        let mut bytes = vec![0; control::LAYOUT.len];
        control::opcode.set(&mut bytes, opcode.into());
        control::signalled.set(&mut bytes, 1);
        Self { bytes }
    }

    /// A message.
    #[must_use]
    pub fn send() -> Self {
        Self::new(Self::SEND)
    }

    /// A message with immediate data.
    #[must_use]
    pub fn send_imm(immediate: u32) -> Self {
        Self::new(Self::SEND_IMM).general(immediate)
    }

    /// A write to `addr` of the peer's key `key`.
    #[must_use]
    pub fn write(key: u32, addr: u64) -> Self {
        Self::new(Self::WRITE).remote(key, addr)
    }

    /// A write that takes a receive request of the peer and tells it a word.
    #[must_use]
    pub fn write_imm(key: u32, addr: u64, immediate: u32) -> Self {
        let request = Self::new(Self::WRITE_IMM).general(immediate);
        request.remote(key, addr)
    }

    /// A read from `addr` of the peer's key `key`.
    #[must_use]
    pub fn read(key: u32, addr: u64) -> Self {
        Self::new(Self::READ).remote(key, addr)
    }

    /// Adds to 8 bytes; the old ones come back.
    #[must_use]
    pub fn fetch_add(key: u32, addr: u64, add: u64) -> Self {
        let request = Self::new(Self::FETCH_ADD).remote(key, addr);
        request.operands(add, 0)
    }

    /// Swaps 8 bytes if they are what is expected; the old ones come back.
    #[must_use]
    pub fn compare_swap(key: u32, addr: u64, compare: u64, swap: u64) -> Self {
        let request = Self::new(Self::COMPARE_SWAP).remote(key, addr);
        request.operands(swap, compare)
    }

    /// A change of a memory key; its translations lie in `list`.
    #[must_use]
    pub fn umr(change: &Umr, list: Option<Sge>) -> Self {
        let mut segment = vec![0; umr::LAYOUT.len];
        segment[0] = change.flags;
        let octoword = change.first / 2;
        for (field, value) in [
            (umr::xlt_octowords, change.entries.len() as u64 / 2),
            (umr::xlt_offset, octoword & 0xffff),
            (umr::xlt_offset_47_16, octoword >> 16),
            (umr::mkey_mask, change.mask),
        ] {
            field.set(&mut segment, value);
        }
        let mut context = vec![0; mkc::LAYOUT.len];
        for &(field, value) in &change.fields {
            field.set(&mut context, value);
        }
        let mut request = Self::new(Self::UMR).general(change.key);
        request.bytes.extend(segment);
        request.bytes.extend(context);
        match list {
            Some(list) => request.data(list),
            None => request,
        }
    }

    /// To this address; it comes right behind the first segment.
    #[must_use]
    pub fn to(mut self, to: &Address) -> Self {
        let mut segment = vec![0; address::LAYOUT.len];
        for (field, value) in [
            (address::qkey, u64::from(to.qkey)),
            (address::extended, 1),
            (address::dqpn, to.qpn.into()),
            (address::rlid, to.lid.into()),
        ] {
            field.set(&mut segment, value);
        }
        if let Some(gid) = to.gid {
            address::grh.set(&mut segment, 1);
            address::hop_limit.set(&mut segment, 0x3f);
            address::tclass.set(&mut segment, 0x12);
            address::flow_label.set(&mut segment, 0x3_4567);
            address::rgid.bytes_mut(&mut segment).copy_from_slice(&gid);
        }
        self.insert(segment);
        self
    }

    /// For the peer's shared receive queue; it comes right behind the first segment.
    #[must_use]
    pub fn for_srq(mut self, srqn: u32) -> Self {
        let mut segment = vec![0; xrc::LAYOUT.len];
        xrc::xrc_srqn.set(&mut segment, srqn.into());
        self.insert(segment);
        self
    }

    /// With this piece of memory, or into it.
    #[must_use]
    pub fn data(mut self, sge: Sge) -> Self {
        self.bytes.extend(sge.to_bytes());
        self
    }

    /// With these bytes, which are a part of the request.
    #[must_use]
    pub fn inline(mut self, bytes: &[u8]) -> Self {
        let mut header = [0; 4];
        data::is_inline.set(&mut header, 1);
        data::byte_count.set(&mut header, bytes.len() as u64);
        self.bytes.extend(header);
        self.bytes.extend(bytes);
        let len = self.bytes.len().next_multiple_of(SEGMENT);
        self.bytes.resize(len, 0);
        self
    }

    /// Without a completion, if it ends well.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        control::signalled.set(&mut self.bytes, 0);
        self
    }

    /// The receiver's completion is solicited.
    #[must_use]
    pub fn solicited(mut self) -> Self {
        control::solicited.set(&mut self.bytes, 1);
        self
    }

    fn general(mut self, value: u32) -> Self {
        control::general.set(&mut self.bytes, value.into());
        self
    }

    fn remote(mut self, key: u32, addr: u64) -> Self {
        let mut segment = [0; remote::LAYOUT.len];
        remote::raddr.set(&mut segment, addr);
        remote::rkey.set(&mut segment, key.into());
        self.bytes.extend(segment);
        self
    }

    fn operands(mut self, swap_add: u64, compare: u64) -> Self {
        let mut segment = [0; atomic::LAYOUT.len];
        atomic::swap_add.set(&mut segment, swap_add);
        atomic::compare.set(&mut segment, compare);
        self.bytes.extend(segment);
        self
    }

    fn insert(&mut self, segment: Vec<u8>) {
        let at = control::LAYOUT.len;
        self.bytes.splice(at..at, segment);
    }

    /// Its bytes, as the queue pair `qpn` has them at `index` of its send queue.
    pub(crate) fn finish(&self, qpn: u32, index: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        control::wqe_index.set(&mut bytes, index.into());
        control::qpn.set(&mut bytes, qpn.into());
        control::ds.set(&mut bytes, (self.bytes.len() / SEGMENT) as u64);
        bytes
    }
}
