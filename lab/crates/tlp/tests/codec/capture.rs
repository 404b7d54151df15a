// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one public analyzer capture of a hinted write: byte for byte and line for line.
//!
//! Origin: cover letter of version 7 of the dma-buf TPH patch series, 11 June 2026, netdev mailing
//! list. The analyzer prints the header only. HV = 1 in it, and the Tag field equals ST, so it
//! says nothing of the place of ST\[15:8\] and cannot tell Tag from ST; the other vectors here are
//! the model's own, built by hand from the same layout to close that gap.

use crate::common::encode;
use tlp::text::Analyzer;
use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};

const CAPTURE_WIRE: [u8; 20] = [
    0x60, 0x02, 0x00, 0x08, 0x04, 0x00, 0x00, 0xf0, 0x00, 0x00, 0x20, 0xe0, 0x06, 0x00, 0x08, 0x00,
    0x00, 0x00, 0xf0, 0x90,
];

const CAPTURE_TEXT: &str = "\
08000260 -> STP MWr64 TC=0 OHC=2 TS=0 Attr=0 L=8
F0000004 -> RID=4h:0h.0h EP- Tag=F0h
E0200000 -> AddrH=000020E0h
00080006 -> AddrL=06000800h
90F00000 -> OHC-B ST=F0h PH=2 HV=1 AMA=0 AV-";

const PAYLOAD: [u8; 32] = [0xa5; 32];

fn request(tag: SteeringTag) -> MemRequest {
    MemRequest::new(Bdf::new(4, 0, 0), 0x20e0_0600_0800, 8)
        .unwrap()
        .with_hint(Hint {
            ph: Ph::Target,
            tag,
        })
}

fn with_payload(headers: &[u8]) -> Vec<u8> {
    [headers, &PAYLOAD].concat()
}

#[test]
fn capture_encodes() {
    let request = request(SteeringTag::St(0xf0)).with_tag(0xf0).unwrap();
    let write = Tlp::MemWrite(request, &PAYLOAD);
    assert_eq!(encode(&write, Mode::Flit), with_payload(&CAPTURE_WIRE));
}

#[test]
fn capture_decodes() {
    let wire = with_payload(&CAPTURE_WIRE);
    let expected = request(SteeringTag::St(0xf0)).with_tag(0xf0).unwrap();
    assert_eq!(
        Tlp::decode(&wire, Mode::Flit),
        Ok(Tlp::MemWrite(expected, &PAYLOAD))
    );
}

#[test]
fn capture_prints() {
    let wire = with_payload(&CAPTURE_WIRE);
    assert_eq!(Analyzer::new(&wire, Mode::Flit).to_string(), CAPTURE_TEXT);
}

#[test]
fn flit_tag_is_not_the_steering_tag() {
    let request = request(SteeringTag::St(0xf0)).with_tag(0x1234).unwrap();
    let wire = encode(&Tlp::MemWrite(request, &PAYLOAD), Mode::Flit);
    assert_eq!(wire[6..8], [0x12, 0x34]);
    assert_eq!(wire[16..20], [0x00, 0x00, 0xf0, 0x90]);
    assert_eq!(
        Analyzer::new(&wire, Mode::Flit).to_string().lines().nth(1),
        Some("34120004 -> RID=4h:0h.0h EP- Tag=1234h")
    );
}

#[test]
fn flit_extended_tag() {
    let request = request(SteeringTag::Ext(0xbef0)).with_tag(0x5).unwrap();
    let wire = encode(&Tlp::MemWrite(request, &PAYLOAD), Mode::Flit);
    assert_eq!(wire[16..20], [0x00, 0xbe, 0xf0, 0xb0]);
    assert_eq!(
        Analyzer::new(&wire, Mode::Flit).to_string().lines().nth(4),
        Some("B0F0BE00 -> OHC-B ST=BEF0h PH=2 HV=3 AMA=0 AV-")
    );
}

const NONFLIT_WIRE: [u8; 16] = [
    0x60, 0x01, 0x00, 0x08, 0x04, 0x00, 0xf0, 0xff, 0x00, 0x00, 0x20, 0xe0, 0x06, 0x00, 0x08, 0x02,
];

#[test]
fn nonflit_write() {
    let write = Tlp::MemWrite(request(SteeringTag::St(0xf0)), &PAYLOAD);
    let wire = with_payload(&NONFLIT_WIRE);
    assert_eq!(encode(&write, Mode::NonFlit), wire);
    assert_eq!(Tlp::decode(&wire, Mode::NonFlit), Ok(write));
    assert_eq!(
        Analyzer::new(&wire, Mode::NonFlit).to_string(),
        "\
08000160 -> STP MWr64 TC=0 TH+ TD- EP- Attr=0 AT=0 L=8
FFF00004 -> RID=4h:0h.0h ST=F0h LBE=Fh FBE=Fh
E0200000 -> AddrH=000020E0h
02080006 -> AddrL=06000800h PH=2"
    );
}

#[test]
fn nonflit_write_with_prefix() {
    let write = Tlp::MemWrite(request(SteeringTag::Ext(0xbef0)), &PAYLOAD);
    let wire = [&[0x90, 0xbe, 0x00, 0x00][..], &NONFLIT_WIRE, &PAYLOAD].concat();
    assert_eq!(encode(&write, Mode::NonFlit), wire);
    assert_eq!(Tlp::decode(&wire, Mode::NonFlit), Ok(write));
    assert_eq!(
        Analyzer::new(&wire, Mode::NonFlit).to_string(),
        "\
0000BE90 -> TPH prefix ST[15:8]=BEh
08000160 -> STP MWr64 TC=0 TH+ TD- EP- Attr=0 AT=0 L=8
FFF00004 -> RID=4h:0h.0h ST[7:0]=F0h LBE=Fh FBE=Fh
E0200000 -> AddrH=000020E0h
02080006 -> AddrL=06000800h PH=2"
    );
}

/// A posted request needs no tag: ST has its place, so whatever the caller chose is not on the
/// wire.
#[test]
fn nonflit_hinted_write_has_no_tag() {
    for tag in [0x00, 0x7f, 0x3ff, 0x3fff] {
        let request = request(SteeringTag::St(0xf0)).with_tag(tag).unwrap();
        let wire = encode(&Tlp::MemWrite(request, &PAYLOAD), Mode::NonFlit);
        assert_eq!(wire, with_payload(&NONFLIT_WIRE), "tag {tag:#x}");
        let Ok(Tlp::MemWrite(decoded, _)) = Tlp::decode(&wire, Mode::NonFlit) else {
            panic!("not a write");
        };
        assert_eq!(decoded.tag(), 0);
    }
}

/// A hinted read has a tag, which its completion repeats; ST takes the place of the byte enables.
#[test]
fn nonflit_hinted_read() {
    let read = Tlp::MemRead(
        MemRequest::new(Bdf::new(0, 0x10, 0), 0xfee0_0100, 1)
            .unwrap()
            .with_tag(0x2a5)
            .unwrap()
            .with_hint(Hint {
                ph: Ph::TargetPriority,
                tag: SteeringTag::St(0x3c),
            }),
    );
    let wire = encode(&read, Mode::NonFlit);
    assert_eq!(
        wire,
        [
            0x00, 0x81, 0x00, 0x01, 0x00, 0x80, 0xa5, 0x3c, 0xfe, 0xe0, 0x01, 0x03
        ]
    );
    assert_eq!(Tlp::decode(&wire, Mode::NonFlit), Ok(read));
    assert_eq!(
        Analyzer::new(&wire, Mode::NonFlit).to_string(),
        "\
01008100 -> STP MRd32 TC=0 TH+ TD- EP- Attr=0 AT=0 L=1
3CA58000 -> RID=0h:10h.0h Tag=2A5h ST=3Ch
0301E0FE -> Addr=FEE00100h PH=3"
    );
}
