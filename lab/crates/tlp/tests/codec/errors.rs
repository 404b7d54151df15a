// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way in which a packet is refused, to send and to receive.

use crate::common::encode;
use tlp::{
    Bdf, CompletionError, CompletionHeader, CompletionStatus, DecodeError, EncodeError, FieldError,
    Hint, MAX_ENCODED_LEN, MemRequest, Mode, Ph, SteeringTag, Tlp,
};

const ID: Bdf = Bdf::new(4, 0, 0);
const MODES: [Mode; 2] = [Mode::NonFlit, Mode::Flit];

fn hinted(tag: SteeringTag) -> MemRequest {
    let hint = Hint {
        ph: Ph::Target,
        tag,
    };
    MemRequest::new(ID, 0x20e0_0600_0800, 2)
        .unwrap()
        .with_hint(hint)
}

fn plain() -> MemRequest {
    hinted(SteeringTag::St(0)).without_hint()
}

fn completion(status: CompletionStatus) -> CompletionHeader {
    CompletionHeader::new(ID, ID, 0x12, status, 8, 0).unwrap()
}

/// Encodes `tlp`, sets the given bytes, and returns the error that decoding gives.
fn damaged(tlp: &Tlp<'_>, mode: Mode, changes: &[(usize, u8)]) -> DecodeError {
    let mut wire = encode(tlp, mode);
    assert!(Tlp::decode(&wire, mode).is_ok());
    for &(at, value) in changes {
        assert_ne!(wire[at], value, "no damage at byte {at}");
        wire[at] = value;
    }
    Tlp::decode(&wire, mode).unwrap_err()
}

fn write() -> Tlp<'static> {
    Tlp::MemWrite(plain(), &[0; 8])
}

fn cpl_d() -> Tlp<'static> {
    Tlp::Completion(completion(CompletionStatus::Success), &[0; 8])
}

fn cpl() -> Tlp<'static> {
    Tlp::Completion(completion(CompletionStatus::UnsupportedRequest), &[])
}

/// Encoding fails with this error and leaves the buffer alone.
#[track_caller]
fn refused(tlp: &Tlp<'_>, mode: Mode, error: EncodeError) {
    let mut buf = [0x55; MAX_ENCODED_LEN];
    assert_eq!(tlp.encode(mode, &mut buf), Err(error));
    assert!(buf.iter().all(|&byte| byte == 0x55));
}

#[test]
fn payload_must_match_the_length() {
    for mode in MODES {
        for have in [0, 4, 7, 9, 12] {
            let payload = vec![0; have];
            let error = EncodeError::PayloadLength { need: 8, have };
            refused(&Tlp::MemWrite(plain(), &payload), mode, error);
        }
    }
}

#[test]
fn completion_payload() {
    let success = completion(CompletionStatus::Success);
    let far = CompletionHeader::new(ID, ID, 0, CompletionStatus::Success, 4096, 3).unwrap();
    let cases: [(CompletionHeader, usize, CompletionError); 5] = [
        (success, 7, CompletionError::Payload(7)),
        (far, 4100, CompletionError::Payload(4100)),
        (
            success,
            12,
            CompletionError::BeyondByteCount {
                remaining: 8,
                have: 12,
            },
        ),
        (
            completion(CompletionStatus::UnsupportedRequest),
            8,
            CompletionError::DataWithError(CompletionStatus::UnsupportedRequest),
        ),
        (
            completion(CompletionStatus::CompleterAbort),
            4,
            CompletionError::DataWithError(CompletionStatus::CompleterAbort),
        ),
    ];
    for mode in MODES {
        for (header, len, error) in cases {
            let payload = vec![0; len];
            refused(&Tlp::Completion(header, &payload), mode, error.into());
        }
    }
}

#[test]
fn nonflit_tag_has_ten_bits() {
    let wide = plain().with_tag(0x400).unwrap();
    let error = EncodeError::TagTooWide {
        tag: 0x400,
        mode: Mode::NonFlit,
    };
    refused(&Tlp::MemRead(wide), Mode::NonFlit, error);
    refused(&Tlp::MemWrite(wide, &[0; 8]), Mode::NonFlit, error);
    let header = CompletionHeader::new(ID, ID, 0x400, CompletionStatus::Success, 4, 0).unwrap();
    refused(&Tlp::Completion(header, &[]), Mode::NonFlit, error);
    refused(
        &Tlp::MemRead(wide.with_hint(Hint {
            ph: Ph::Target,
            tag: SteeringTag::St(1),
        })),
        Mode::NonFlit,
        error,
    );
}

/// In flit mode the byte enables have a place of their own, and the same read goes.
#[test]
fn nonflit_hinted_read_is_full() {
    for (first, last) in [(0b1110, 0b1111), (0b1111, 0b0111)] {
        let partial = hinted(SteeringTag::St(1))
            .with_byte_enables(first, last)
            .unwrap();
        refused(
            &Tlp::MemRead(partial),
            Mode::NonFlit,
            EncodeError::HintedPartialRead,
        );
        let wire = encode(&Tlp::MemRead(partial), Mode::Flit);
        assert_eq!(Tlp::decode(&wire, Mode::Flit), Ok(Tlp::MemRead(partial)));
        let wire = encode(&Tlp::MemWrite(partial, &[0; 8]), Mode::NonFlit);
        assert_eq!(
            Tlp::decode(&wire, Mode::NonFlit),
            Ok(Tlp::MemWrite(partial, &[0; 8]))
        );
    }
}

#[test]
fn truncated() {
    for mode in MODES {
        assert_eq!(
            Tlp::decode(&[], mode),
            Err(DecodeError::Truncated { need: 12, have: 0 })
        );
        for tag in [SteeringTag::St(7), SteeringTag::Ext(7)] {
            let wire = encode(&Tlp::MemWrite(hinted(tag), &[0; 8]), mode);
            for have in 0..wire.len() {
                let Err(DecodeError::Truncated { need, have: told }) =
                    Tlp::decode(&wire[..have], mode)
                else {
                    panic!("{have} of {} bytes of a {mode} TLP decode", wire.len());
                };
                assert!(need > have && need <= wire.len() && told == have);
            }
        }
    }
}

#[test]
fn trailing_bytes() {
    for mode in MODES {
        for tlp in [write(), cpl(), cpl_d(), Tlp::MemRead(plain())] {
            let mut wire = encode(&tlp, mode);
            let len = wire.len();
            for extra in 1..6 {
                wire.push(0);
                let error = DecodeError::TrailingBytes { len, extra };
                assert_eq!(Tlp::decode(&wire, mode), Err(error));
            }
        }
    }
}

/// The length field says more, or less, than there is.
#[test]
fn length_mismatch() {
    for (mode, headers) in [(Mode::NonFlit, 16), (Mode::Flit, 16)] {
        assert_eq!(
            damaged(&write(), mode, &[(3, 3)]),
            DecodeError::Truncated {
                need: headers + 12,
                have: headers + 8
            }
        );
        assert_eq!(
            damaged(&write(), mode, &[(3, 1)]),
            DecodeError::TrailingBytes {
                len: headers + 4,
                extra: 4
            }
        );
        assert_eq!(
            damaged(&write(), mode, &[(3, 0)]),
            DecodeError::Truncated {
                need: headers + 4096,
                have: headers + 8
            }
        );
    }
}

#[test]
fn unknown_types() {
    for code in 0..=u8::MAX {
        let mut wire = [0; 16];
        wire[0] = code;
        wire[3] = 1;
        wire[7] = 0x0f;
        let nonflit = [0x00, 0x20, 0x40, 0x60, 0x0a, 0x4a, 0x90].contains(&code);
        let flit = [0x03, 0x20, 0x40, 0x60, 0x0a, 0x4a].contains(&code);
        for (mode, known) in [(Mode::NonFlit, nonflit), (Mode::Flit, flit)] {
            let unknown = Err(DecodeError::UnknownType { code, mode });
            assert_eq!(
                Tlp::decode(&wire, mode) == unknown,
                !known,
                "{mode} {code:#x}"
            );
        }
    }
    // Behind a prefix the type is looked at again, and a second prefix is none.
    let error = DecodeError::UnknownType {
        code: 0x90,
        mode: Mode::NonFlit,
    };
    let wire = [0x90, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Tlp::decode(&wire, Mode::NonFlit), Err(error));
}

#[test]
fn reserved_hint_codes() {
    let write = Tlp::MemWrite(hinted(SteeringTag::St(0xf0)), &[0; 8]);
    let at = |byte: usize| 16 + byte;
    let cases = [
        // HV = 2, with the PH that was there.
        (vec![(at(3), 0xa0)], "HV", 2),
        // HV = 1 but bits above the 8-bit tag.
        (vec![(at(1), 0x01)], "OHC-B ST[15:8] of an 8-bit tag", 1),
        (vec![(at(0), 0x01)], "OHC-B reserved byte", 1),
        // HV = 0: then PH and ST mean nothing.
        (vec![(at(3), 0x80)], "OHC-B without a hint", 0xf080),
    ];
    for (changes, field, value) in cases {
        assert_eq!(
            damaged(&write, Mode::Flit, &changes),
            DecodeError::Reserved { field, value }
        );
    }
}

/// All four PH codes are defined: none is refused in either mode.
#[test]
fn no_ph_is_reserved() {
    for mode in MODES {
        for ph in [
            Ph::Bidirectional,
            Ph::Requester,
            Ph::Target,
            Ph::TargetPriority,
        ] {
            let tlp = Tlp::MemRead(plain().with_hint(Hint {
                ph,
                tag: SteeringTag::St(9),
            }));
            let wire = encode(&tlp, mode);
            assert_eq!(Tlp::decode(&wire, mode), Ok(tlp));
        }
    }
}

#[test]
fn an_empty_ohc_b_is_no_hint() {
    let mut wire = encode(&Tlp::MemRead(hinted(SteeringTag::St(0xf0))), Mode::Flit);
    wire[16..20].fill(0);
    assert_eq!(Tlp::decode(&wire, Mode::Flit), Ok(Tlp::MemRead(plain())));
}

#[test]
fn nonflit_reserved() {
    let prefixed = Tlp::MemWrite(hinted(SteeringTag::Ext(0xbef0)), &[0; 8]);
    let cases = [
        (write(), vec![(1, 0x02)], "byte 1 bit 1", 2),
        (write(), vec![(15, 0x02)], "address bits 1:0", 2),
        (
            prefixed,
            vec![(2, 0x12), (3, 0x34)],
            "TPH prefix bytes 2-3",
            0x1234,
        ),
        (cpl_d(), vec![(1, 0x01)], "TH of a completion", 1),
        (cpl_d(), vec![(2, 0x08)], "AT of a completion", 2),
        (cpl_d(), vec![(11, 0x80)], "byte 11 bit 7", 0x80),
        (
            cpl(),
            vec![(3, 0x05)],
            "Length of a completion without data",
            5,
        ),
        (cpl(), vec![(6, 0x60)], "completion status", 3),
        (cpl(), vec![(6, 0xe0)], "completion status", 7),
    ];
    for (tlp, changes, field, value) in cases {
        let error = DecodeError::Reserved { field, value };
        assert_eq!(damaged(&tlp, Mode::NonFlit, &changes), error);
    }
}

#[test]
fn nonflit_unsupported() {
    let cases = [
        (write(), vec![(2, 0x80)], "TD", 1),
        (write(), vec![(2, 0x40)], "EP", 1),
        (write(), vec![(2, 0x08)], "AT", 2),
        (cpl_d(), vec![(6, 0x10)], "BCM", 1),
    ];
    for (tlp, changes, field, value) in cases {
        let error = DecodeError::Unsupported { field, value };
        assert_eq!(damaged(&tlp, Mode::NonFlit, &changes), error);
    }
}

#[test]
fn prefix_needs_th() {
    let prefixed = Tlp::MemWrite(hinted(SteeringTag::Ext(0xbef0)), &[0; 8]);
    assert_eq!(
        damaged(&prefixed, Mode::NonFlit, &[(5, 0)]),
        DecodeError::PrefixWithoutHint
    );
    let mut wire = vec![0x90, 0xbe, 0, 0];
    wire.extend(encode(&cpl(), Mode::NonFlit));
    assert_eq!(
        Tlp::decode(&wire, Mode::NonFlit),
        Err(DecodeError::PrefixWithoutHint)
    );
}

#[test]
fn flit_unsupported() {
    let partial = plain().with_byte_enables(0xe, 0x7).unwrap();
    let partial = Tlp::MemWrite(partial, &[0; 8]);
    let hinted = Tlp::MemWrite(hinted(SteeringTag::St(1)), &[0; 8]);
    let cases = [
        (write(), vec![(2, 0x20)], "TS", 1),
        (write(), vec![(1, 0x04)], "OHC-C and OHC-E", 0x04),
        (write(), vec![(1, 0x08)], "OHC-C and OHC-E", 0x08),
        (write(), vec![(1, 0x10)], "OHC-C and OHC-E", 0x10),
        (write(), vec![(6, 0x80)], "EP", 1),
        (write(), vec![(15, 0x01)], "AT", 1),
        (partial, vec![(18, 0x07)], "PASID of OHC-A", 0x700),
        (hinted, vec![(19, 0x92)], "AMA", 1),
        (hinted, vec![(19, 0x91)], "AV", 1),
        (
            cpl(),
            vec![(12, 0x01)],
            "OHC-A of a completion",
            0x0100_0000,
        ),
        (cpl(), vec![(15, 0x81)], "OHC-A of a completion", 0x80),
    ];
    for (tlp, changes, field, value) in cases {
        let error = DecodeError::Unsupported { field, value };
        assert_eq!(damaged(&tlp, Mode::Flit, &changes), error);
    }
    let mut wire = encode(&cpl(), Mode::Flit);
    wire[1] = 0x02;
    let error = DecodeError::Unsupported {
        field: "OHC-B of a completion",
        value: 1,
    };
    assert_eq!(Tlp::decode(&wire, Mode::Flit), Err(error));
}

#[test]
fn flit_reserved() {
    let cases = [
        (write(), vec![(6, 0x40)], "byte 6 bit 6", 0x40),
        (
            cpl(),
            vec![(3, 0x05)],
            "Length of a completion without data",
            5,
        ),
        (cpl(), vec![(15, 0x03)], "completion status", 3),
    ];
    for (tlp, changes, field, value) in cases {
        let error = DecodeError::Reserved { field, value };
        assert_eq!(damaged(&tlp, Mode::Flit, &changes), error);
    }
}

#[test]
fn malformed_requests() {
    for mode in MODES {
        assert_eq!(
            damaged(&Tlp::MemRead(plain()), mode, &[(14, 0x0f), (15, 0xfc)]),
            FieldError::Crosses4K {
                addr: 0x20e0_0600_0ffc,
                len_dw: 2
            }
            .into()
        );
        assert_eq!(
            damaged(&write(), mode, &[(10, 0), (11, 0)]),
            DecodeError::NeedlessLongAddress(0x0600_0800)
        );
    }
    let error = FieldError::ByteEnables {
        first: 0xf,
        last: 0,
        len_dw: 2,
    };
    assert_eq!(damaged(&write(), Mode::NonFlit, &[(7, 0x0f)]), error.into());
    let partial = Tlp::MemRead(plain().with_byte_enables(0xe, 0x7).unwrap());
    assert_eq!(damaged(&partial, Mode::Flit, &[(19, 0x0f)]), error.into());
}

#[test]
fn malformed_completions() {
    // Non-flit: status in byte 6, byte count in byte 7. Flit: byte count in byte 11.
    let error = CompletionError::DataWithError(CompletionStatus::UnsupportedRequest);
    assert_eq!(damaged(&cpl_d(), Mode::NonFlit, &[(6, 0x20)]), error.into());
    let error = CompletionError::BeyondByteCount {
        remaining: 4,
        have: 8,
    };
    assert_eq!(damaged(&cpl_d(), Mode::NonFlit, &[(7, 4)]), error.into());
    assert_eq!(damaged(&cpl_d(), Mode::Flit, &[(11, 4)]), error.into());
    let mut wire = encode(&cpl_d(), Mode::Flit);
    wire[1] |= 1;
    wire.splice(12..12, [0, 0, 0, 4]);
    let error = CompletionError::DataWithError(CompletionStatus::CompleterAbort);
    assert_eq!(Tlp::decode(&wire, Mode::Flit), Err(error.into()));
}

/// The messages name the thing and its value.
#[test]
fn messages() {
    let error = damaged(&write(), Mode::NonFlit, &[(2, 0x08)]);
    assert_eq!(error.to_string(), "field AT = 0x2 is not supported");
    let error = Tlp::decode(&[0xff, 0, 0, 0], Mode::Flit).unwrap_err();
    assert_eq!(error.to_string(), "unknown flit TLP type 0xff");
    let error = MemRequest::new(ID, 0xffc, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request of 2 DW at 0xffc crosses a 4 KiB boundary"
    );
    let error = CompletionError::DataWithError(CompletionStatus::UnsupportedRequest);
    assert_eq!(
        EncodeError::from(error).to_string(),
        "completion with status UR carries data"
    );
}
