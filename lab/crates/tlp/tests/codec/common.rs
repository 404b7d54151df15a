// SPDX-License-Identifier: MIT OR Apache-2.0
//! Strategies that draw every legal packet, and an encoder into a vector.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tlp::{Bdf, CompletionHeader, CompletionStatus, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};

/// A packet that owns its payload.
#[derive(Clone, Debug)]
pub enum Packet {
    Read(MemRequest),
    Write(MemRequest, Vec<u8>),
    Completion(CompletionHeader, Vec<u8>),
}

impl Packet {
    pub fn tlp(&self) -> Tlp<'_> {
        match self {
            Self::Read(request) => Tlp::MemRead(*request),
            Self::Write(request, payload) => Tlp::MemWrite(*request, payload),
            Self::Completion(header, payload) => Tlp::Completion(*header, payload),
        }
    }
}

pub fn encode(tlp: &Tlp<'_>, mode: Mode) -> Vec<u8> {
    let mut wire = vec![0; tlp.encoded_len(mode)];
    assert_eq!(tlp.encode(mode, &mut wire), Ok(wire.len()));
    wire
}

pub fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::NonFlit), Just(Mode::Flit)]
}

pub fn hint() -> impl Strategy<Value = Hint> {
    let tag = prop_oneof![
        any::<u8>().prop_map(SteeringTag::St),
        any::<u16>().prop_map(SteeringTag::Ext)
    ];
    (0..4u8, tag).prop_map(|(ph, tag)| Hint {
        ph: Ph::from_bits(ph),
        tag,
    })
}

/// Pages below 4 GiB, above it, and at both ends of the address space.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..0x10_0000u64,
        0x10_0000..=0xf_ffff_ffff_ffffu64,
        Just(0xf_ffff),
        Just(0x10_0000),
        Just(0xf_ffff_ffff_ffff)
    ]
    .prop_map(|page| page << 12)
}

/// Byte enables that the rules allow for this address and length.
fn byte_enables(addr: u64, len_dw: u16) -> impl Strategy<Value = (u8, u8)> {
    let any_but_none = (1..=0xfu8).boxed();
    match len_dw {
        1 => ((0..=0xfu8).boxed(), Just(0).boxed()),
        2 if addr.is_multiple_of(8) => (any_but_none.clone(), any_but_none),
        _ => (
            prop::sample::select(vec![0xf, 0xe, 0xc, 0x8]).boxed(),
            prop::sample::select(vec![0xf, 0x7, 0x3, 0x1]).boxed(),
        ),
    }
}

pub fn request() -> impl Strategy<Value = MemRequest> {
    let place = (page(), prop_oneof![Just(0), 0..1024u16]).prop_flat_map(|(page, dw)| {
        let addr = page + u64::from(dw) * 4;
        let few = 3.min(1024 - dw);
        (
            Just(addr),
            prop_oneof![1..=few, 1..=1024 - dw, Just(1024 - dw)],
        )
    });
    let place = place.prop_flat_map(|(addr, len_dw)| {
        (
            Just(addr),
            Just(len_dw),
            prop_oneof![Just(None), byte_enables(addr, len_dw).prop_map(Some)],
        )
    });
    let rest = (
        any::<u16>(),
        0..=0x3fffu16,
        0..8u8,
        0..8u8,
        option::of(hint()),
    );
    (place, rest).prop_map(
        |((addr, len_dw, enables), (requester, tag, tc, attr, hint))| {
            let mut request = MemRequest::new(Bdf(requester), addr, len_dw)
                .and_then(|request| request.with_tag(tag))
                .and_then(|request| request.with_tc(tc))
                .and_then(|request| request.with_attr(attr))
                .unwrap();
            if let Some((first, last)) = enables {
                request = request.with_byte_enables(first, last).unwrap();
            }
            hint.map_or(request, |hint| request.with_hint(hint))
        },
    )
}

pub fn completion() -> impl Strategy<Value = (CompletionHeader, Vec<u8>)> {
    let status = prop::sample::select(vec![
        CompletionStatus::Success,
        CompletionStatus::UnsupportedRequest,
        CompletionStatus::RequestRetry,
        CompletionStatus::CompleterAbort,
    ]);
    let ids = (any::<u16>(), any::<u16>(), 0..=0x3fffu16);
    let rest = (1..=4096u16, 0..0x80u8, 0..8u8, 0..8u8);
    (ids, status, rest).prop_flat_map(|((cid, rid, tag), status, (count, lower, tc, attr))| {
        let header = CompletionHeader::new(Bdf(cid), Bdf(rid), tag, status, count, lower)
            .and_then(|header| header.with_tc(tc))
            .and_then(|header| header.with_attr(attr))
            .unwrap();
        let remaining_dw = (usize::from(lower % 4) + usize::from(count))
            .div_ceil(4)
            .min(1024);
        let most = if status == CompletionStatus::Success {
            remaining_dw
        } else {
            0
        };
        let payload = (0..=most).prop_flat_map(|dws| vec(any::<u8>(), dws * 4));
        (Just(header), payload)
    })
}

/// Every packet.
pub fn packet() -> impl Strategy<Value = Packet> {
    let write =
        request().prop_flat_map(|request| (Just(request), vec(any::<u8>(), request.len_bytes())));
    prop_oneof![
        request().prop_map(Packet::Read),
        write.prop_map(|(request, payload)| Packet::Write(request, payload)),
        completion().prop_map(|(header, payload)| Packet::Completion(header, payload)),
    ]
}

/// Brings a packet within what non-flit mode can carry: 10-bit tags, no tag on a hinted write, all
/// byte enables on a hinted read.
pub fn nonflit(packet: Packet) -> Packet {
    let tag = |request: MemRequest, mask| request.with_tag(request.tag() & mask).unwrap();
    match packet {
        Packet::Read(request) => {
            let last = if request.len_dw() == 1 { 0 } else { 0xf };
            let request = match request.hint() {
                Some(_) => request.with_byte_enables(0xf, last).unwrap(),
                None => request,
            };
            Packet::Read(tag(request, 0x3ff))
        }
        Packet::Write(request, payload) => {
            let mask = if request.hint().is_some() { 0 } else { 0x3ff };
            Packet::Write(tag(request, mask), payload)
        }
        Packet::Completion(header, payload) => {
            let narrow = CompletionHeader::new(
                header.completer(),
                header.requester(),
                header.tag() & 0x3ff,
                header.status(),
                header.byte_count(),
                header.lower_address(),
            )
            .and_then(|narrow| narrow.with_tc(header.tc()))
            .and_then(|narrow| narrow.with_attr(header.attr()));
            Packet::Completion(narrow.unwrap(), payload)
        }
    }
}
