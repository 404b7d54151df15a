// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is encoded decodes to the same, in both modes; and no bytes make the codec panic.

use crate::common::{encode, hint, mode, nonflit, packet, request};
use proptest::collection::vec;
use proptest::prelude::*;
use tlp::text::Analyzer;
use tlp::{
    Bdf, CompletionHeader, CompletionStatus, EncodeError, Hint, MAX_ENCODED_LEN, MAX_HEADERS_DW,
    MemRequest, Mode, SteeringTag, Tlp,
};

/// Lines that stand for a DW.
fn dword_lines(text: &str) -> usize {
    text.lines().filter(|line| line.contains(" -> ")).count()
}

proptest! {
    #[test]
    fn flit(packet in packet()) {
        let wire = encode(&packet.tlp(), Mode::Flit);
        prop_assert!(wire.len() <= MAX_ENCODED_LEN);
        prop_assert_eq!(Tlp::decode(&wire, Mode::Flit), Ok(packet.tlp()));
    }

    #[test]
    fn non_flit(packet in packet().prop_map(nonflit)) {
        let wire = encode(&packet.tlp(), Mode::NonFlit);
        prop_assert!(wire.len() <= MAX_ENCODED_LEN);
        prop_assert_eq!(Tlp::decode(&wire, Mode::NonFlit), Ok(packet.tlp()));
    }

    /// Headers and payload, wherever they are put, are what [`Tlp::encode`] writes.
    #[test]
    fn headers_stand_in_front_of_the_payload(packet in packet().prop_map(nonflit), mode in mode()) {
        let tlp = packet.tlp();
        let mut dws = [[0x55; 4]; MAX_HEADERS_DW];
        let len = tlp.encode_headers(mode, &mut dws).unwrap();
        let parts = [dws[..len].as_flattened(), tlp.payload()].concat();
        prop_assert_eq!(parts, encode(&tlp, mode));
    }

    /// Wherever in its payload a packet is cut, its headers say what they said, and what is missing
    /// is known; nothing is made of less than the headers.
    #[test]
    fn a_cut_packet_is_known_by_its_headers(
        packet in packet().prop_map(nonflit),
        mode in mode(),
        at in any::<prop::sample::Index>(),
    ) {
        let tlp = packet.tlp();
        let wire = encode(&tlp, mode);
        let headers = wire.len() - tlp.payload().len();
        let there = at.index(wire.len() + 1);
        let decoded = Tlp::decode_cut(&wire[..there], mode);
        if there < headers {
            prop_assert!(decoded.is_err());
            return Ok(());
        }
        let front = &wire[headers..there];
        let expected = match tlp {
            Tlp::MemRead(request) => Tlp::MemRead(request),
            Tlp::MemWrite(request, _) => Tlp::MemWrite(request, front),
            Tlp::Completion(header, _) => Tlp::Completion(header, front),
        };
        prop_assert_eq!(decoded, Ok((expected, wire.len() - there)));
        let longer = [&wire[..], &[0; 4]].concat();
        prop_assert!(Tlp::decode_cut(&longer, mode).is_err());
    }

    /// Hints alone, so that the tag's 16 bits and its namespace are drawn densely.
    #[test]
    fn hints(hint in hint(), mode in mode(), len_dw in 1..9u16) {
        let request = MemRequest::new(Bdf::new(1, 2, 3), 0x1_0000_0000, len_dw)
            .unwrap()
            .with_hint(hint);
        let payload = vec![0; request.len_bytes()];
        for tlp in [Tlp::MemRead(request), Tlp::MemWrite(request, &payload)] {
            let wire = encode(&tlp, mode);
            prop_assert_eq!(Tlp::decode(&wire, mode), Ok(tlp));
        }
    }

    /// The text has a line for each DW of the headers, and names the hint.
    #[test]
    fn text_shows_each_dword(packet in packet().prop_map(nonflit), mode in mode()) {
        let tlp = packet.tlp();
        let wire = encode(&tlp, mode);
        let headers = (wire.len() - tlp.payload().len()) / 4;
        let analyzer = Analyzer::new(&wire, mode);
        prop_assert_eq!(dword_lines(&analyzer.to_string()), headers);
        prop_assert_eq!(analyzer.to_string().lines().count(), headers);
        let all = analyzer.with_payload(1024).to_string();
        prop_assert_eq!(dword_lines(&all), wire.len() / 4);
        for (line, dw) in all.lines().zip(wire.as_chunks::<4>().0) {
            let printed = u32::from_str_radix(&line[..8], 16).unwrap();
            prop_assert_eq!(printed.to_le_bytes(), *dw);
        }
    }

    #[test]
    fn text_names_the_hint(request in request(), hint in hint()) {
        let wire = encode(&Tlp::MemRead(request.with_hint(hint)), Mode::Flit);
        let hv = match hint.tag { SteeringTag::St(_) => 1, SteeringTag::Ext(_) => 3 };
        let last = format!(
            "OHC-B ST={:X}h PH={} HV={hv} AMA=0 AV-", hint.tag.value(), hint.ph.code()
        );
        let text = Analyzer::new(&wire, Mode::Flit).to_string();
        prop_assert!(text.ends_with(&last), "{}", text);
    }

    /// After an error the buffer is as it was.
    #[test]
    fn short_buffer(packet in packet(), cut in 1..64usize) {
        let tlp = packet.tlp();
        let need = tlp.encoded_len(Mode::Flit);
        let have = need.saturating_sub(cut);
        let mut buf = vec![0x55; have];
        prop_assert_eq!(
            tlp.encode(Mode::Flit, &mut buf), Err(EncodeError::BufferTooShort { need, have })
        );
        prop_assert!(buf.iter().all(|&byte| byte == 0x55));
    }

    /// A byte more or less is never taken for the packet.
    #[test]
    fn wrong_length(packet in packet().prop_map(nonflit), mode in mode(), cut in 1..5000usize) {
        let mut wire = encode(&packet.tlp(), mode);
        let short = wire.len().saturating_sub(cut);
        prop_assert!(Tlp::decode(&wire[..short], mode).is_err());
        wire.push(0);
        prop_assert!(Tlp::decode(&wire, mode).is_err());
    }

    /// Any bytes: no panic, and what decodes encodes to bytes that decode to the same.
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..64), mode in mode()) {
        survives(&bytes, mode);
    }

    /// Bytes that begin like a packet get further.
    #[test]
    fn damaged_packet(
        packet in packet().prop_map(nonflit),
        mode in mode(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop_oneof![Just(0), 0..40usize],
    ) {
        let mut wire = encode(&packet.tlp(), mode);
        let headers = wire.len() - packet.tlp().payload().len();
        for (index, value) in damage {
            wire[index.index(headers)] = value;
        }
        wire.truncate(wire.len().saturating_sub(cut));
        survives(&wire, mode);
        survives(&wire, if mode == Mode::Flit { Mode::NonFlit } else { Mode::Flit });
    }

    /// Byte ranges turn into requests that enable just these bytes.
    #[test]
    fn byte_ranges(addr in 0x1_0000..0x3_0000u64, len in 1..4200usize) {
        let fits = (addr & 0xfff) as usize + len <= 4096;
        match MemRequest::for_bytes(Bdf(0), addr, len) {
            Ok(request) => {
                prop_assert!(fits);
                for offset in 0..request.len_bytes() + 4 {
                    let at = request.addr() + offset as u64;
                    let inside = (addr..addr + len as u64).contains(&at);
                    prop_assert_eq!(request.is_enabled(offset), inside);
                }
            }
            Err(_) => prop_assert!(!fits),
        }
    }

    /// A completion counts from the first enabled byte to the last.
    #[test]
    fn answers(read in request(), completer in any::<u16>()) {
        let header = CompletionHeader::answering(&read, Bdf(completer), CompletionStatus::Success);
        let enabled: Vec<_> = (0..read.len_bytes()).filter(|&at| read.is_enabled(at)).collect();
        let first = enabled.first().copied().unwrap_or(0);
        let last = enabled.last().copied().unwrap_or(first);
        prop_assert_eq!(usize::from(header.byte_count()), last - first + 1);
        prop_assert_eq!(u64::from(header.lower_address()), (read.addr() + first as u64) & 0x7f);
        prop_assert_eq!(
            (header.requester(), header.tag(), header.tc(), header.attr(), header.completer()),
            (read.requester(), read.tag(), read.tc(), read.attr(), Bdf(completer))
        );
        let payload = vec![0; read.len_bytes()];
        let wire = encode(&Tlp::Completion(header, &payload), Mode::Flit);
        prop_assert_eq!(Tlp::decode(&wire, Mode::Flit), Ok(Tlp::Completion(header, &payload)));
    }
}

fn survives(bytes: &[u8], mode: Mode) {
    assert!(
        !Analyzer::new(bytes, mode)
            .with_payload(8)
            .to_string()
            .is_empty()
    );
    if let Ok(tlp) = Tlp::decode(bytes, mode) {
        let again = encode(&tlp, mode);
        assert_eq!(Tlp::decode(&again, mode), Ok(tlp));
    }
}

/// All 65536 tags of both namespaces, once each: no tag is special.
#[test]
fn every_tag() {
    let request = MemRequest::new(Bdf(0x88), 0x2000, 1).unwrap();
    for st in 0..=u16::MAX {
        let ext = SteeringTag::Ext(st);
        let short = u8::try_from(st).ok().map(SteeringTag::St);
        for tag in [Some(ext), short].into_iter().flatten() {
            let hinted = request.with_hint(Hint {
                ph: tlp::Ph::Requester,
                tag,
            });
            let tlp = Tlp::MemWrite(hinted, &[0; 4]);
            for mode in [Mode::NonFlit, Mode::Flit] {
                let mut wire = [0; 32];
                let len = tlp.encode(mode, &mut wire).unwrap();
                assert_eq!(Tlp::decode(&wire[..len], mode), Ok(tlp));
            }
        }
    }
}
