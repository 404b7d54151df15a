// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the constructors let through, and what they refuse.

use tlp::{Bdf, CompletionHeader, CompletionStatus, FieldError, Hint, MemRequest, Ph, SteeringTag};

const ID: Bdf = Bdf::new(0, 0x10, 0);

#[test]
fn lengths() {
    for len_dw in [0, 1025, u16::MAX] {
        assert_eq!(
            MemRequest::new(ID, 0, len_dw),
            Err(FieldError::Length(len_dw))
        );
    }
    assert_eq!(MemRequest::new(ID, 0, 1024).unwrap().len_bytes(), 4096);
}

#[test]
fn alignment() {
    for addr in [1, 2, 3, u64::MAX] {
        assert_eq!(
            MemRequest::new(ID, addr, 1),
            Err(FieldError::Unaligned(addr))
        );
    }
}

#[test]
fn page_crossing() {
    assert!(MemRequest::new(ID, 0x1ffc, 1).is_ok());
    assert_eq!(
        MemRequest::new(ID, 0x1ffc, 2),
        Err(FieldError::Crosses4K {
            addr: 0x1ffc,
            len_dw: 2
        })
    );
    assert!(MemRequest::new(ID, !0xfff, 1024).is_ok());
    assert_eq!(
        MemRequest::new(ID, !0b11, 2),
        Err(FieldError::Crosses4K {
            addr: !0b11,
            len_dw: 2
        })
    );
}

#[test]
fn field_widths() {
    let request = MemRequest::new(ID, 0, 1).unwrap();
    assert_eq!(request.with_tag(0x4000), Err(FieldError::Tag(0x4000)));
    assert_eq!(request.with_tag(0x3fff).unwrap().tag(), 0x3fff);
    assert_eq!(request.with_tc(8), Err(FieldError::TrafficClass(8)));
    assert_eq!(request.with_tc(7).unwrap().tc(), 7);
    assert_eq!(request.with_attr(8), Err(FieldError::Attributes(8)));
    assert_eq!(request.with_attr(7).unwrap().attr(), 7);
}

#[test]
fn completion_field_widths() {
    let new = |tag, byte_count, lower| {
        CompletionHeader::new(ID, ID, tag, CompletionStatus::Success, byte_count, lower)
    };
    assert_eq!(new(0x4000, 1, 0), Err(FieldError::Tag(0x4000)));
    assert_eq!(new(0, 0, 0), Err(FieldError::ByteCount(0)));
    assert_eq!(new(0, 4097, 0), Err(FieldError::ByteCount(4097)));
    assert_eq!(new(0, 1, 0x80), Err(FieldError::LowerAddress(0x80)));
    let header = new(0x3fff, 4096, 0x7f).unwrap();
    assert_eq!(header.with_tc(8), Err(FieldError::TrafficClass(8)));
    assert_eq!(header.with_attr(8), Err(FieldError::Attributes(8)));
}

/// Every combination, against the rules written a second time.
#[test]
fn byte_enables() {
    for (addr, len_dw) in [
        (0x1000, 1),
        (0x1000, 2),
        (0x1004, 2),
        (0x1000, 3),
        (0x1000, 1024),
    ] {
        let request = MemRequest::new(ID, addr, len_dw).unwrap();
        for first in 0..=0x1f {
            for last in 0..=0x1f {
                let contiguous = ["1111", "1110", "1100", "1000"]
                    .contains(&format!("{first:04b}").as_str())
                    && ["1111", "0111", "0011", "0001"].contains(&format!("{last:04b}").as_str());
                let nibbles = first < 16 && last < 16;
                let legal = nibbles
                    && match (len_dw, addr) {
                        (1, _) => last == 0,
                        (2, 0x1000) => first != 0 && last != 0,
                        _ => contiguous,
                    };
                let result = request.with_byte_enables(first, last);
                if legal {
                    let enabled = result.unwrap();
                    assert_eq!((enabled.first_be(), enabled.last_be()), (first, last));
                } else {
                    assert_eq!(
                        result,
                        Err(FieldError::ByteEnables {
                            first,
                            last,
                            len_dw
                        })
                    );
                }
            }
        }
    }
}

#[test]
fn byte_ranges() {
    let none = MemRequest::for_bytes(ID, 0x1000, 0);
    assert_eq!(
        none,
        Err(FieldError::ByteRange {
            addr: 0x1000,
            len: 0
        })
    );
    let long = MemRequest::for_bytes(ID, 0x1000, 4097);
    assert_eq!(
        long,
        Err(FieldError::ByteRange {
            addr: 0x1000,
            len: 4097
        })
    );
    let crossing = MemRequest::for_bytes(ID, 0x1fff, 2);
    assert_eq!(
        crossing,
        Err(FieldError::Crosses4K {
            addr: 0x1ffc,
            len_dw: 2
        })
    );

    let one = MemRequest::for_bytes(ID, 0x1003, 1).unwrap();
    assert_eq!((one.addr(), one.len_dw()), (0x1000, 1));
    assert_eq!((one.first_be(), one.last_be()), (0b1000, 0));
    let odd = MemRequest::for_bytes(ID, 0x1003, 6).unwrap();
    assert_eq!((odd.addr(), odd.len_dw()), (0x1000, 3));
    assert_eq!((odd.first_be(), odd.last_be()), (0b1000, 0b0001));
    assert!(MemRequest::for_bytes(ID, 0x1000, 4096).unwrap().is_full());
    assert!(MemRequest::for_bytes(ID, u64::MAX, 1).is_ok());
}

#[test]
fn zero_length_read() {
    let flush = MemRequest::new(ID, 0x1040, 1)
        .unwrap()
        .with_byte_enables(0, 0)
        .unwrap();
    assert!(!flush.is_full());
    assert!(!flush.is_enabled(0));
    let answer = CompletionHeader::answering(&flush, ID, CompletionStatus::Success);
    assert_eq!((answer.byte_count(), answer.lower_address()), (1, 0x40));
}

#[test]
fn refusals_return_no_bytes() {
    let read = MemRequest::for_bytes(ID, 0x1041, 7).unwrap();
    for status in [
        CompletionStatus::UnsupportedRequest,
        CompletionStatus::RequestRetry,
        CompletionStatus::CompleterAbort,
    ] {
        let answer = CompletionHeader::answering(&read, ID, status);
        assert_eq!(answer.status(), status);
        assert_eq!((answer.byte_count(), answer.lower_address()), (4, 0));
    }
}

#[test]
fn hints_come_and_go() {
    let hint = Hint {
        ph: Ph::Bidirectional,
        tag: SteeringTag::St(0),
    };
    let request = MemRequest::new(ID, 0, 1).unwrap();
    assert_eq!(request.hint(), None);
    assert_eq!(request.with_hint(hint).hint(), Some(hint));
    assert_eq!(request.with_hint(hint).without_hint(), request);
}

#[test]
fn namespaces_differ() {
    assert_ne!(SteeringTag::St(5), SteeringTag::Ext(5));
    assert_eq!(SteeringTag::St(5).value(), SteeringTag::Ext(5).value());
    assert!(SteeringTag::Ext(5).is_extended() && !SteeringTag::St(5).is_extended());
}

#[test]
fn codes() {
    for code in 0..=u8::MAX {
        assert_eq!(Ph::from_bits(code).code(), code & 0b11);
        let status = CompletionStatus::from_code(code);
        assert_eq!(
            status.map(CompletionStatus::code),
            [0, 1, 2, 4].contains(&code).then_some(code)
        );
    }
}

#[test]
fn routing_ids() {
    let id = Bdf::new(0xab, 0x1f, 7);
    assert_eq!(id, Bdf(0xabff));
    assert_eq!((id.bus(), id.device(), id.function()), (0xab, 0x1f, 7));
    assert_eq!(id.to_string(), "ABh:1Fh.7h");
    assert_eq!(Bdf(0x0400).to_string(), "4h:0h.0h");
}

#[test]
#[should_panic(expected = "PCI device number above 31")]
fn device_out_of_range() {
    let _ = Bdf::new(0, 32, 0);
}

#[test]
#[should_panic(expected = "PCI function number above 7")]
fn function_out_of_range() {
    let _ = Bdf::new(0, 0, 8);
}

#[test]
fn header_form_follows_from_the_address() {
    assert!(!MemRequest::new(ID, 0xffff_fffc, 1).unwrap().is_64bit());
    assert!(MemRequest::new(ID, 0x1_0000_0000, 1).unwrap().is_64bit());
}
