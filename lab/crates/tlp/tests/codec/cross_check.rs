// SPDX-License-Identifier: MIT OR Apache-2.0
//! An independent decoder reads the same fields out of plain headers. It knows no hints, no prefix,
//! no 64-bit flit packets and no completions in flit mode.

use crate::common::{completion, encode, request};
use proptest::prelude::*;
use rtlp_lib::{FlitDW0, FlitOhcA, FlitTlpType, TlpMode, TlpPacket, TlpType};
use tlp::{CompletionHeader, MemRequest, Mode, Tlp};

fn theirs(wire: &[u8]) -> TlpPacket {
    TlpPacket::new(wire.to_vec(), TlpMode::NonFlit).unwrap()
}

proptest! {
    #[test]
    fn non_flit_request(request in request(), write in any::<bool>()) {
        let request = request.without_hint().with_tag(request.tag() & 0x3ff).unwrap();
        let payload = vec![0xa5; request.len_bytes()];
        let tlp = if write { Tlp::MemWrite(request, &payload) } else { Tlp::MemRead(request) };
        let packet = theirs(&encode(&tlp, Mode::NonFlit));

        let expected = if write { TlpType::MemWriteReq } else { TlpType::MemReadReq };
        prop_assert_eq!(packet.tlp_type().unwrap(), expected);
        prop_assert_eq!(packet.header().get_tc(), u32::from(request.tc()));
        let format = packet.tlp_format().unwrap();
        let fields = rtlp_lib::new_mem_req(packet.data(), &format).unwrap();
        prop_assert_eq!(fields.address(), request.addr());
        prop_assert_eq!(fields.req_id(), request.requester().0);
        prop_assert_eq!(u16::from(fields.tag()), request.tag() & 0xff);
        prop_assert_eq!((fields.fdwbe(), fields.ldwbe()), (request.first_be(), request.last_be()));
        let header_dw = if request.is_64bit() { 4 } else { 3 };
        prop_assert_eq!(packet.data().len(), header_dw * 4 - 4 + tlp.payload().len());
    }

    #[test]
    fn non_flit_completion((header, payload) in completion()) {
        let header = CompletionHeader::new(
            header.completer(), header.requester(), header.tag() & 0x3ff, header.status(),
            header.byte_count(), header.lower_address(),
        ).unwrap();
        let packet = theirs(&encode(&Tlp::Completion(header, &payload), Mode::NonFlit));

        let expected = if payload.is_empty() { TlpType::Cpl } else { TlpType::CplData };
        prop_assert_eq!(packet.tlp_type().unwrap(), expected);
        let fields = rtlp_lib::new_cmpl_req(packet.data()).unwrap();
        prop_assert_eq!(fields.cmpl_id(), header.completer().0);
        prop_assert_eq!(fields.req_id(), header.requester().0);
        prop_assert_eq!(fields.cmpl_stat(), header.status().code());
        prop_assert_eq!(fields.bcm(), 0);
        prop_assert_eq!(fields.byte_cnt(), header.byte_count() % 4096);
        prop_assert_eq!(u16::from(fields.tag()), header.tag() & 0xff);
        prop_assert_eq!(fields.laddr(), header.lower_address());
    }

    #[test]
    fn flit_request(request in request(), write in any::<bool>()) {
        let request = below_4g(&request);
        let payload = vec![0xa5; request.len_bytes()];
        let tlp = if write { Tlp::MemWrite(request, &payload) } else { Tlp::MemRead(request) };
        let wire = encode(&tlp, Mode::Flit);

        let dw0 = FlitDW0::from_dw0(&wire).unwrap();
        let expected = if write { FlitTlpType::MemWrite32 } else { FlitTlpType::MemRead32 };
        prop_assert_eq!(dw0.tlp_type, expected);
        prop_assert_eq!((dw0.tc, dw0.attr, dw0.ts), (request.tc(), request.attr(), 0));
        prop_assert_eq!(dw0.length, request.len_dw() % 1024);
        prop_assert_eq!(dw0.ohc & 1 != 0, !request.is_full());
        prop_assert_eq!(dw0.ohc & 2 != 0, request.hint().is_some());
        prop_assert_eq!(dw0.total_bytes(), wire.len());
        if !request.is_full() {
            let ohc_a = FlitOhcA::from_bytes(&wire[12..]).unwrap();
            prop_assert_eq!(ohc_a.pasid, 0);
            prop_assert_eq!((ohc_a.fdwbe, ohc_a.ldwbe), (request.first_be(), request.last_be()));
        }
    }
}

/// The same request at the same offset of the page, where the 32-bit form is used.
fn below_4g(request: &MemRequest) -> MemRequest {
    let addr = request.addr() & 0xffff_ffff;
    let low = MemRequest::new(request.requester(), addr, request.len_dw())
        .and_then(|low| low.with_byte_enables(request.first_be(), request.last_be()))
        .and_then(|low| low.with_tag(request.tag()))
        .and_then(|low| low.with_tc(request.tc()))
        .and_then(|low| low.with_attr(request.attr()))
        .unwrap();
    request.hint().map_or(low, |hint| low.with_hint(hint))
}
