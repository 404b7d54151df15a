// SPDX-License-Identifier: MIT OR Apache-2.0
//! Work queue elements: work requests, as they lie in send and receive queues.

use crate::ifc::mkc;
use crate::wire::{address, atomic, control, data, remote, umr, xrc};

/// Bytes of a basic block, in which send queues count.
pub const BLOCK: usize = 64;
/// Bytes of a segment, in which work requests count.
const SEGMENT: usize = 16;
/// The key that ends the list of a receive request before its memory does.
const END_OF_LIST: u32 = 0x100;

/// A data segment of a work request: a part of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSegment {
    /// A scatter-gather entry.
    Sge(Sge),
    /// Bytes in the work request itself.
    Inline(Vec<u8>),
}

impl DataSegment {
    /// Its bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Sge(sge) => sge.len,
            Self::Inline(bytes) => bytes.len() as u64,
        }
    }
}

/// A scatter-gather entry: memory of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sge {
    /// The key.
    pub key: u32,
    /// The address, in the key's address space.
    pub addr: u64,
    /// Bytes.
    pub len: u64,
}

/// The target of an RDMA request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The key.
    pub key: u32,
    /// The address, in the key's address space.
    pub addr: u64,
}

/// Where a datagram goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its Q_Key; the sender's own if the upper bit is set.
    pub qkey: u32,
    /// The queue pair.
    pub qpn: u32,
    /// The port.
    pub lid: u16,
    /// Service level.
    pub sl: u8,
    /// The global route header, if it has one, but for the length.
    pub route: Option<Route>,
}

/// What a global route header takes from the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Traffic class.
    pub class: u8,
    /// Flow label.
    pub flow: u32,
    /// Hop limit.
    pub hops: u8,
    /// The port's GID.
    pub gid: [u8; 16],
}

/// What an atomic does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    /// Adds.
    FetchAdd { add: u64 },
    /// Swaps if what is there is what was expected.
    CompareSwap { compare: u64, swap: u64 },
}

impl Atomic {
    /// What is there afterwards, if `old` was.
    pub fn apply(self, old: u64) -> u64 {
        match self {
            Self::FetchAdd { add } => old.wrapping_add(add),
            Self::CompareSwap { compare, swap } if old == compare => swap,
            Self::CompareSwap { .. } => old,
        }
    }
}

/// What the state of the memory key must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Anything.
    Nothing,
    /// It must be free.
    Free,
    /// It must not be free.
    InUse,
}

/// A change of a memory key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Umr {
    /// The key.
    pub key: u32,
    /// What it must be.
    pub check: Check,
    /// Which fields of `context` are written.
    pub mask: u64,
    /// New values of them.
    pub context: Vec<u8>,
    /// Octowords of translations, in the data of the request.
    pub octowords: u64,
    /// The first octoword that is replaced.
    pub offset: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing.
    Nop,
    /// A message, with immediate data perhaps.
    Send(Option<u32>),
    /// Write remote memory, with immediate data perhaps.
    Write(Remote, Option<u32>),
    /// Read remote memory.
    Read(Remote),
    /// Change remote memory.
    Atomic(Remote, Atomic),
    /// Change a memory key.
    Umr(Umr),
}

/// What requests of a queue pair have in front of what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: all go to the peer.
    Connected,
    /// An address.
    Datagram,
    /// The peer's shared receive queue.
    Extended,
}

/// A work request of a send queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkRequest {
    /// What is to be done.
    pub operation: Operation,
    /// Where to, if the queue pair has no peer.
    pub address: Option<Address>,
    /// The peer's shared receive queue, if it has several.
    pub srqn: Option<u32>,
    /// The message, or where what is read goes.
    pub segments: Vec<DataSegment>,
    /// A completion is wanted also if it ends well.
    pub signalled: bool,
    /// The receiver's completion is to be solicited.
    pub solicited: bool,
}

/// The control segment of a work request, which says how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlSegment {
    /// What is to be done, by number.
    pub opcode: u8,
    /// Bytes.
    pub len: usize,
}

impl ControlSegment {
    /// Reads the first segment.
    pub fn parse(bytes: &[u8]) -> Self {
        let len = usize::try_from(control::ds.get32(bytes)).unwrap_or(0) * SEGMENT;
        Self {
            opcode: control::opcode.get32(bytes).to_le_bytes()[0],
            // One that is shorter than its first segment takes a block all the same.
            len: len.max(SEGMENT),
        }
    }

    /// Blocks of the queue that it takes.
    pub fn blocks(self) -> u16 {
        u16::try_from(self.len.div_ceil(BLOCK)).expect("16 at most")
    }
}

/// A request that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes the next `len` bytes.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (front, back) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = back;
    Ok(front)
}

impl WorkRequest {
    /// Reads a whole request.
    pub fn parse(bytes: &[u8], form: Form) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let front = take(&mut rest, control::LAYOUT.len)?;
        let general = control::general.get32(front);
        let opcode = control::opcode.get(front);
        let (mut address, mut srqn) = (None, None);
        match (form, opcode) {
            (_, 0x00) | (Form::Connected, _) => {}
            (Form::Datagram, 0x0a | 0x0b) => {
                address = Some(parse_address(take(&mut rest, address::LAYOUT.len)?));
            }
            (Form::Datagram, _) => return Err(Malformed),
            (Form::Extended, _) => {
                srqn = Some(xrc::xrc_srqn.get32(take(&mut rest, xrc::LAYOUT.len)?));
            }
        }
        let operation = match opcode {
            0x00 => Operation::Nop,
            0x08 => Operation::Write(parse_remote(&mut rest)?, None),
            0x09 => Operation::Write(parse_remote(&mut rest)?, Some(general)),
            0x0a => Operation::Send(None),
            0x0b => Operation::Send(Some(general)),
            0x10 => Operation::Read(parse_remote(&mut rest)?),
            0x11 | 0x12 => {
                let target = parse_remote(&mut rest)?;
                let operands = take(&mut rest, atomic::LAYOUT.len)?;
                let value = atomic::swap_add.get(operands);
                let change = if opcode == 0x11 {
                    Atomic::CompareSwap {
                        compare: atomic::compare.get(operands),
                        swap: value,
                    }
                } else {
                    Atomic::FetchAdd { add: value }
                };
                Operation::Atomic(target, change)
            }
            0x25 => Operation::Umr(parse_umr(general, &mut rest)?),
            _ => return Err(Malformed),
        };
        let segments = match operation {
            Operation::Nop => vec![],
            _ => parse_segments(rest)?,
        };
        Ok(Self {
            operation,
            address,
            srqn,
            segments,
            signalled: control::signalled.is_set(front),
            solicited: control::solicited.is_set(front),
        })
    }
}

fn parse_remote(rest: &mut &[u8]) -> Result<Remote, Malformed> {
    let segment = take(rest, remote::LAYOUT.len)?;
    Ok(Remote {
        key: remote::rkey.get32(segment),
        addr: remote::raddr.get(segment),
    })
}

fn parse_address(segment: &[u8]) -> Address {
    let byte = |value: u32| value.to_le_bytes()[0];
    let route = address::grh.is_set(segment).then(|| {
        let mut gid = [0; 16];
        gid.copy_from_slice(address::rgid.bytes(segment));
        Route {
            class: byte(address::tclass.get32(segment)),
            flow: address::flow_label.get32(segment),
            hops: byte(address::hop_limit.get32(segment)),
            gid,
        }
    });
    Address {
        qkey: address::qkey.get32(segment),
        qpn: address::dqpn.get32(segment),
        lid: u16::try_from(address::rlid.get(segment)).expect("16 bits"),
        sl: byte(address::sl.get32(segment)),
        route,
    }
}

fn parse_umr(key: u32, rest: &mut &[u8]) -> Result<Umr, Malformed> {
    let segment = take(rest, umr::LAYOUT.len)?;
    let context = take(rest, mkc::LAYOUT.len)?.to_vec();
    let check = match umr::check.get(segment) {
        0 => Check::Nothing,
        // The names in the kernel's headers contradict each other; its comments do not.
        1 => Check::Free,
        2 => Check::InUse,
        _ => return Err(Malformed),
    };
    // Without data there are no translations, whatever their number.
    let octowords = if umr::inline_list.is_set(segment) {
        0
    } else {
        umr::xlt_octowords.get(segment)
    };
    let offset = if umr::has_offset.is_set(segment) {
        umr::xlt_offset_47_16.get(segment) << 16 | umr::xlt_offset.get(segment)
    } else {
        0
    };
    Ok(Umr {
        key,
        check,
        mask: umr::mkey_mask.get(segment),
        context,
        octowords,
        offset,
    })
}

fn parse_segments(mut rest: &[u8]) -> Result<Vec<DataSegment>, Malformed> {
    let mut segments = vec![];
    while !rest.is_empty() {
        // The front of inline data is shorter than a segment.
        if data::is_inline.is_set(rest) {
            let header = take(&mut rest, 4)?;
            let len =
                usize::try_from(data::byte_count.get(header) & 0x3ff).map_err(|_| Malformed)?;
            segments.push(DataSegment::Inline(take(&mut rest, len)?.to_vec()));
            let padding = (4 + len).next_multiple_of(SEGMENT) - (4 + len);
            rest = rest.get(padding..).unwrap_or_default();
        } else {
            segments.push(DataSegment::Sge(parse_sge(take(&mut rest, SEGMENT)?)));
        }
    }
    Ok(segments)
}

fn parse_sge(segment: &[u8]) -> Sge {
    Sge {
        key: data::lkey.get32(segment),
        addr: data::addr.get(segment),
        len: data::byte_count.get(segment),
    }
}

/// Reads the scatter list of a receive request: where a message may go.
pub fn parse_receive(bytes: &[u8]) -> Vec<DataSegment> {
    let (segments, _) = bytes.as_chunks::<SEGMENT>();
    segments
        .iter()
        .map(|segment| parse_sge(segment))
        .take_while(|sge| sge.key != END_OF_LIST)
        .map(DataSegment::Sge)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of the largest work request: `ds` has six bits.
    const MAX_LEN: usize = 63 * SEGMENT;

    fn front(opcode: u64, segments: u64) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT];
        control::opcode.set(&mut bytes, opcode);
        control::ds.set(&mut bytes, segments);
        control::signalled.set(&mut bytes, 1);
        control::general.set(&mut bytes, 0x1234_5678);
        bytes
    }

    fn memory(key: u64, addr: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT];
        data::byte_count.set(&mut bytes, len);
        data::lkey.set(&mut bytes, key);
        data::addr.set(&mut bytes, addr);
        bytes
    }

    fn target() -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT];
        remote::raddr.set(&mut bytes, 0x7000_0000_1000);
        remote::rkey.set(&mut bytes, 0x4711);
        bytes
    }

    const TARGET: Remote = Remote {
        key: 0x4711,
        addr: 0x7000_0000_1000,
    };

    #[test]
    fn a_write_has_target_and_source() {
        let bytes = [front(0x09, 3), target(), memory(0x1200, 0x5000, 64)].concat();
        assert_eq!(
            ControlSegment::parse(&bytes),
            ControlSegment { opcode: 9, len: 48 }
        );
        let request = WorkRequest::parse(&bytes, Form::Connected).unwrap();
        assert_eq!(
            request.operation,
            Operation::Write(TARGET, Some(0x1234_5678))
        );
        assert_eq!(
            request.segments,
            [DataSegment::Sge(Sge {
                key: 0x1200,
                addr: 0x5000,
                len: 64
            })]
        );
        assert!(request.signalled && !request.solicited);
        assert_eq!(
            WorkRequest::parse(&bytes, Form::Datagram),
            Err(Malformed),
            "a datagram"
        );
        assert_eq!(
            WorkRequest::parse(&bytes[..24], Form::Connected),
            Err(Malformed)
        );
    }

    #[test]
    fn an_extended_request_names_the_queue() {
        let bytes = [
            front(0x08, 4),
            vec![0, 0, 0, 9],
            vec![0; 12],
            target(),
            memory(1, 2, 3),
        ];
        let request = WorkRequest::parse(&bytes.concat(), Form::Extended).unwrap();
        assert_eq!(request.srqn, Some(9));
        assert_eq!(request.operation, Operation::Write(TARGET, None));
        assert_eq!(request.segments.len(), 1);
    }

    #[test]
    fn inline_data_is_taken_out_of_the_request() {
        let mut segment = vec![0x80, 0, 0, 13];
        segment.extend(0..13);
        segment.resize(32, 0xee);
        let bytes = [front(0x0a, 4), segment, memory(1, 2, 3)].concat();
        let request = WorkRequest::parse(&bytes, Form::Connected).unwrap();
        assert_eq!(request.segments[0], DataSegment::Inline((0..13).collect()));
        assert_eq!(request.segments[1].len(), 3);
        let cut = [front(0x0a, 2), vec![0x80, 0, 0, 13, 1, 2]].concat();
        assert_eq!(WorkRequest::parse(&cut, Form::Connected), Err(Malformed));
    }

    #[test]
    fn the_checks_of_a_memory_key_are_told_apart() {
        for (flags, check) in [
            (0x00, Check::Nothing),
            (0x20, Check::Free),
            (0x40, Check::InUse),
        ] {
            let mut segment = vec![0; umr::LAYOUT.len];
            segment[0] = flags | 0x10;
            umr::xlt_octowords.set(&mut segment, 8);
            umr::xlt_offset.set(&mut segment, 0xfff8);
            umr::xlt_offset_47_16.set(&mut segment, 2);
            let bytes = [
                front(0x25, 9),
                segment.clone(),
                vec![0; 64],
                memory(1, 2, 128),
            ]
            .concat();
            let Operation::Umr(umr) = WorkRequest::parse(&bytes, Form::Connected)
                .unwrap()
                .operation
            else {
                panic!("another operation");
            };
            assert_eq!((umr.check, umr.octowords, umr.offset), (check, 8, 0x2_fff8));
            assert_eq!(umr.key, 0x1234_5678);
        }
    }

    #[test]
    fn a_receive_request_ends_with_its_list_or_before() {
        let list = [
            memory(7, 0x1000, 16),
            memory(8, 0x2000, 0),
            memory(0x100, 0, 0),
            memory(9, 0, 1),
        ];
        assert_eq!(parse_receive(&list.concat()).len(), 2);
        assert_eq!(parse_receive(&list[..2].concat()).len(), 2);
    }

    #[test]
    fn atomics_do_what_they_are_called() {
        assert_eq!(Atomic::FetchAdd { add: 2 }.apply(u64::MAX), 1);
        let swap = Atomic::CompareSwap {
            compare: 5,
            swap: 9,
        };
        assert_eq!((swap.apply(5), swap.apply(6)), (9, 6));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_malformed(
            mut bytes in prop::collection::vec(any::<u8>(), 16..MAX_LEN),
            opcode in prop::sample::select(vec![0u8, 8, 9, 0xa, 0xb, 0x10, 0x11, 0x12, 0x25, 0x77]),
            form in prop::sample::select(vec![Form::Connected, Form::Datagram, Form::Extended]),
        ) {
            bytes[3] = opcode;
            prop_assert!(ControlSegment::parse(&bytes).blocks() <= 16);
            if let Ok(request) = WorkRequest::parse(&bytes, form) {
                let total: usize = request.segments.iter().map(|segment| match segment {
                    DataSegment::Inline(data) => data.len(),
                    DataSegment::Sge(_) => SEGMENT,
                }).sum();
                prop_assert!(total <= bytes.len());
            }
            parse_receive(&bytes);
        }
    }
}
