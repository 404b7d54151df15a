// SPDX-License-Identifier: MIT OR Apache-2.0
//! The analyzer's lines for what the public capture does not show.

use crate::common::encode;
use tlp::text::Analyzer;
use tlp::{Bdf, CompletionHeader, CompletionStatus, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};

const INITIATOR: Bdf = Bdf::new(0, 0x10, 0);
const ACCELERATOR: Bdf = Bdf::new(0, 0x11, 0);

fn print(tlp: &Tlp<'_>, mode: Mode) -> String {
    Analyzer::new(&encode(tlp, mode), mode).to_string()
}

fn read() -> MemRequest {
    MemRequest::for_bytes(INITIATOR, 0xfee0_0141, 6)
        .unwrap()
        .with_tag(0x125)
        .unwrap()
}

#[test]
fn nonflit_plain_read() {
    assert_eq!(
        print(
            &Tlp::MemRead(read().with_tc(3).unwrap().with_attr(5).unwrap()),
            Mode::NonFlit
        ),
        "\
02103C00 -> STP MRd32 TC=3 TH- TD- EP- Attr=5 AT=0 L=2
7E258000 -> RID=0h:10h.0h Tag=125h LBE=7h FBE=Eh
4001E0FE -> Addr=FEE00140h"
    );
}

#[test]
fn nonflit_hinted_read_with_prefix() {
    let hint = Hint {
        ph: Ph::Bidirectional,
        tag: SteeringTag::Ext(0x0012),
    };
    let read = MemRequest::new(INITIATOR, 0x1_0000_0040, 1024 - 16)
        .unwrap()
        .with_hint(hint);
    assert_eq!(
        print(&Tlp::MemRead(read), Mode::NonFlit),
        "\
00000090 -> TPH prefix ST[15:8]=0h
F0030120 -> STP MRd64 TC=0 TH+ TD- EP- Attr=0 AT=0 L=1008
12008000 -> RID=0h:10h.0h Tag=0h ST[7:0]=12h
01000000 -> AddrH=00000001h
40000000 -> AddrL=00000040h PH=0"
    );
}

#[test]
fn nonflit_completions() {
    let done = CompletionHeader::answering(&read(), ACCELERATOR, CompletionStatus::Success);
    assert_eq!(
        print(&Tlp::Completion(done, &[0; 8]), Mode::NonFlit),
        "\
0200084A -> STP CplD TC=0 TH- TD- EP- Attr=0 AT=0 L=2
06008800 -> CID=0h:11h.0h CS=SC BCM- BC=6
41258000 -> RID=0h:10h.0h Tag=125h LA=41h"
    );
    let refused =
        CompletionHeader::answering(&read(), ACCELERATOR, CompletionStatus::UnsupportedRequest);
    assert_eq!(
        print(&Tlp::Completion(refused, &[]), Mode::NonFlit),
        "\
0000080A -> STP Cpl TC=0 TH- TD- EP- Attr=0 AT=0 L=0
04208800 -> CID=0h:11h.0h CS=UR BCM- BC=4
00258000 -> RID=0h:10h.0h Tag=125h LA=0h"
    );
}

#[test]
fn flit_read_with_both_ohcs() {
    let hint = Hint {
        ph: Ph::Requester,
        tag: SteeringTag::St(7),
    };
    assert_eq!(
        print(&Tlp::MemRead(read().with_hint(hint)), Mode::Flit),
        "\
02000303 -> STP MRd32 TC=0 OHC=3 TS=0 Attr=0 L=2
25018000 -> RID=0h:10h.0h EP- Tag=125h
4001E0FE -> Addr=FEE00140h
7E000000 -> OHC-A LBE=7h FBE=Eh
50070000 -> OHC-B ST=7h PH=1 HV=1 AMA=0 AV-"
    );
}

#[test]
fn flit_completions() {
    let done = CompletionHeader::answering(&read(), ACCELERATOR, CompletionStatus::Success);
    assert_eq!(
        print(&Tlp::Completion(done, &[0; 8]), Mode::Flit),
        "\
0200014A -> STP CplD TC=0 OHC=1 TS=0 Attr=0 L=2
25418800 -> CID=0h:11h.0h EP- Tag=125h
06008000 -> RID=0h:10h.0h LA=40h BC=6
08000000 -> OHC-A CS=SC LA[1:0]=1"
    );
    let aligned = CompletionHeader::new(
        ACCELERATOR,
        INITIATOR,
        5,
        CompletionStatus::Success,
        4096,
        0x3c,
    );
    assert_eq!(
        print(&Tlp::Completion(aligned.unwrap(), &[0; 4]), Mode::Flit),
        "\
0100004A -> STP CplD TC=0 OHC=0 TS=0 Attr=0 L=1
05008800 -> CID=0h:11h.0h EP- Tag=5h
00F08000 -> RID=0h:10h.0h LA=3Ch BC=4096"
    );
    let aborted =
        CompletionHeader::answering(&read(), ACCELERATOR, CompletionStatus::CompleterAbort);
    assert!(print(&Tlp::Completion(aborted, &[]), Mode::Flit).ends_with("OHC-A CS=CA LA[1:0]=0"));
}

#[test]
fn payload_on_request() {
    let request = MemRequest::new(INITIATOR, 0x1000, 3).unwrap();
    let payload = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let wire = encode(&Tlp::MemWrite(request, &payload), Mode::Flit);
    let analyzer = Analyzer::new(&wire, Mode::Flit);
    let headers = analyzer.to_string();
    assert_eq!(headers.lines().count(), 3);
    assert_eq!(
        analyzer.with_payload(2).to_string(),
        format!("{headers}\n04030201 -> Data[0]\n08070605 -> Data[1]\n... 1 more dwords of data")
    );
    assert_eq!(
        analyzer.with_payload(9).to_string(),
        format!("{headers}\n04030201 -> Data[0]\n08070605 -> Data[1]\n0C0B0A09 -> Data[2]")
    );
}

#[test]
fn truncated() {
    let request = MemRequest::new(INITIATOR, 0x1000, 2).unwrap();
    let wire = encode(&Tlp::MemWrite(request, &[0; 8]), Mode::NonFlit);
    let last_line = |bytes, mode| {
        let text = Analyzer::new(bytes, mode).to_string();
        text.lines().last().map(str::to_owned)
    };
    for (len, line) in [
        (0, "... TLP is truncated"),
        (3, "... TLP is truncated"),
        (11, "... TLP is truncated"),
        (12, "... TLP is truncated: 2 dwords of data missing"),
        (16, "... TLP is truncated: 1 dwords of data missing"),
        (18, "... 2 more bytes"),
    ] {
        assert_eq!(
            last_line(&wire[..len], Mode::NonFlit).as_deref(),
            Some(line),
            "{len} bytes"
        );
    }
}

#[test]
fn more_than_the_packet() {
    let request = MemRequest::new(INITIATOR, 0x1000, 1).unwrap();
    let mut wire = encode(&Tlp::MemRead(request), Mode::Flit);
    wire.extend([0; 9]);
    let text = Analyzer::new(&wire, Mode::Flit).to_string();
    assert!(
        text.ends_with("\n... 2 dwords behind the TLP\n... 1 more bytes"),
        "{text}"
    );
}

#[test]
fn unknown_type() {
    let wire = [0x7f, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    for mode in [Mode::NonFlit, Mode::Flit] {
        assert_eq!(
            Analyzer::new(&wire, mode).to_string(),
            "0100007F -> STP unknown type 7Fh\n... 2 more dwords"
        );
    }
}

/// What decoding refuses still prints as what the bytes say.
#[test]
fn refused_fields_are_shown() {
    let hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(0xf0),
    };
    let request = MemRequest::new(INITIATOR, 0x1000, 1)
        .unwrap()
        .with_hint(hint);
    let mut wire = encode(&Tlp::MemRead(request), Mode::Flit);
    wire[1] |= 0b1_1100;
    wire[2] |= 0x20;
    wire[6] |= 0x80;
    wire[11] |= 0x02;
    wire[15] = 0xa5;
    wire.extend([0; 20]);
    assert!(Tlp::decode(&wire, Mode::Flit).is_err());
    assert_eq!(
        Analyzer::new(&wire, Mode::Flit).to_string(),
        "\
01201E03 -> STP MRd32 TC=0 OHC=30 TS=1 Attr=0 L=1
00808000 -> RID=0h:10h.0h EP+ Tag=0h
02100000 -> Addr=00001000h AT=2
A5F00000 -> OHC-B ST=F0h PH=2 HV=2 AMA=2 AV+
00000000 -> OHC-C
00000000 -> OHC-E
00000000 -> OHC-E
00000000 -> OHC-E
00000000 -> OHC-E"
    );

    let cpl = CompletionHeader::answering(&request, ACCELERATOR, CompletionStatus::Success);
    let mut wire = encode(&Tlp::Completion(cpl, &[]), Mode::NonFlit);
    wire[2] |= 0xc8;
    wire[6] |= 0x70;
    assert!(Tlp::decode(&wire, Mode::NonFlit).is_err());
    let text = Analyzer::new(&wire, Mode::NonFlit).to_string();
    assert!(text.contains("TH- TD+ EP+ Attr=0 AT=2 L=0"), "{text}");
    assert!(text.contains("CS=3 BCM+ BC=4"), "{text}");
}
