// SPDX-License-Identifier: MIT OR Apache-2.0
//! Headers of flit mode. What is not in the public capture comes from [`crate::assumptions`].

use crate::assumptions as a;
use crate::wire::{self, Dw, Extent, Form, Headers, reserved, unsupported};
use crate::{
    Bdf, CompletionHeader, CompletionStatus, DecodeError, Hint, MemRequest, Mode, Ph, SteeringTag,
    Tlp,
};

/// Type code of a 64-bit memory write, shown by the capture.
const TYPE_MWR64: u8 = 0x60;

/// OHC bits of DW0.
pub(crate) const OHC_A: u8 = 1 << 0;
pub(crate) const OHC_B: u8 = 1 << 1;
pub(crate) const OHC_C: u8 = 1 << 2;

const fn form(code: u8) -> Option<Form> {
    match code {
        a::TYPE_MRD32 => Some(Form::MemRead32),
        a::TYPE_MRD64 => Some(Form::MemRead64),
        a::TYPE_MWR32 => Some(Form::MemWrite32),
        TYPE_MWR64 => Some(Form::MemWrite64),
        a::TYPE_CPL => Some(Form::Cpl),
        a::TYPE_CPLD => Some(Form::CplD),
        _ => None,
    }
}

const fn type_code(form: Form) -> u8 {
    match form {
        Form::MemRead32 => a::TYPE_MRD32,
        Form::MemRead64 => a::TYPE_MRD64,
        Form::MemWrite32 => a::TYPE_MWR32,
        Form::MemWrite64 => TYPE_MWR64,
        Form::Cpl => a::TYPE_CPL,
        Form::CplD => a::TYPE_CPLD,
    }
}

/// First DW of a header.
#[derive(Clone, Copy)]
pub(crate) struct Dw0(pub(crate) Dw);

impl Dw0 {
    pub(crate) const fn form(self) -> Option<Form> {
        form(self.0[0])
    }

    pub(crate) const fn tc(self) -> u8 {
        self.0[1] >> 5
    }

    /// Which OHCs follow the header.
    pub(crate) const fn ohc(self) -> u8 {
        self.0[1] & 0x1f
    }

    /// DWs of OHC-E: 0, 1, 2 or 4.
    pub(crate) const fn ohc_e_dw(self) -> usize {
        match self.ohc() >> 3 {
            3 => 4,
            size => size as usize,
        }
    }

    /// Code of the trailer's size.
    pub(crate) const fn ts(self) -> u8 {
        self.0[2] >> 5
    }

    pub(crate) const fn attr(self) -> u8 {
        self.0[2] >> 2 & 0b111
    }

    pub(crate) const fn length(self) -> u16 {
        wire::length(self.0)
    }
}

/// Second DW of a header: who, and tag.
#[derive(Clone, Copy)]
pub(crate) struct Dw1(pub(crate) Dw);

impl Dw1 {
    /// Requester, or completer of a completion.
    pub(crate) const fn id(self) -> Bdf {
        Bdf(wire::high(self.0))
    }

    pub(crate) const fn ep(self) -> bool {
        self.0[2] & 0x80 != 0
    }

    pub(crate) const fn tag(self) -> u16 {
        wire::low(self.0) & 0x3fff
    }

    /// Bit 6 of byte 2: reserved in a request, LowerAddress\[6\] in a completion.
    pub(crate) const fn lower_address_6(self) -> u8 {
        self.0[2] & a::CPL_LOWER_ADDRESS_6
    }
}

/// Third DW of a completion's header.
#[derive(Clone, Copy)]
pub(crate) struct CplDw2(pub(crate) Dw);

impl CplDw2 {
    pub(crate) const fn requester(self) -> Bdf {
        Bdf(wire::high(self.0))
    }

    /// LowerAddress\[5:2\], in its place.
    pub(crate) const fn lower_address_5_2(self) -> u8 {
        (self.0[2] >> a::CPL_LOWER_ADDRESS_5_2_SHIFT) << 2
    }

    pub(crate) const fn byte_count(self) -> u16 {
        wire::byte_count(wire::low(self.0))
    }
}

/// OHC-A of a request.
#[derive(Clone, Copy)]
pub(crate) struct RequestOhcA(pub(crate) Dw);

impl RequestOhcA {
    const fn new(first_be: u8, last_be: u8) -> Self {
        let mut dw = [0; 4];
        dw[a::OHC_A_BYTE_ENABLES] = last_be << 4 | first_be;
        Self(dw)
    }

    pub(crate) const fn first_be(self) -> u8 {
        self.0[a::OHC_A_BYTE_ENABLES] & 0xf
    }

    pub(crate) const fn last_be(self) -> u8 {
        self.0[a::OHC_A_BYTE_ENABLES] >> 4
    }

    /// What is not byte enables: PASID and flags.
    const fn rest(self) -> u32 {
        let mut dw = self.0;
        dw[a::OHC_A_BYTE_ENABLES] = 0;
        u32::from_be_bytes(dw)
    }
}

/// OHC-A of a completion.
#[derive(Clone, Copy)]
pub(crate) struct CplOhcA(pub(crate) Dw);

impl CplOhcA {
    /// The DW for this completion; none is needed for success from a DW-aligned address.
    const fn of(header: &CompletionHeader) -> Option<Self> {
        let lower = header.lower_address() & 0b11;
        if matches!(header.status(), CompletionStatus::Success) && lower == 0 {
            return None;
        }
        let mut dw = [0; 4];
        dw[a::OHC_A_CPL_STATUS] =
            lower << a::OHC_A_CPL_LOWER_ADDRESS_SHIFT | header.status().code();
        Some(Self(dw))
    }

    pub(crate) const fn status_code(self) -> u8 {
        self.0[a::OHC_A_CPL_STATUS] & 0b111
    }

    pub(crate) const fn lower_address_1_0(self) -> u8 {
        self.0[a::OHC_A_CPL_STATUS] >> a::OHC_A_CPL_LOWER_ADDRESS_SHIFT & 0b11
    }

    /// What is neither status nor lower address: segments and bits that nothing is known of.
    const fn rest(self) -> u32 {
        let mut dw = self.0;
        dw[a::OHC_A_CPL_STATUS] &= !(0b111 | 0b11 << a::OHC_A_CPL_LOWER_ADDRESS_SHIFT);
        u32::from_be_bytes(dw)
    }
}

/// OHC-B: the hint.
#[derive(Clone, Copy)]
pub(crate) struct OhcB(pub(crate) Dw);

impl OhcB {
    const fn new(hint: Hint) -> Self {
        let [st_high, st_low] = hint.tag.value().to_be_bytes();
        let hv = if hint.tag.is_extended() {
            a::HV_EXTENDED
        } else {
            a::HV_ST
        };
        let mut dw = [0; 4];
        dw[a::OHC_B_ST_HIGH] = st_high;
        dw[a::OHC_B_ST_LOW] = st_low;
        dw[a::OHC_B_FLAGS] = hint.ph.code() << 6 | hv << 4;
        Self(dw)
    }

    /// The tag, 16 bits wide if HV says so.
    pub(crate) const fn st(self) -> u16 {
        let high = if self.hv() == a::HV_EXTENDED {
            self.0[a::OHC_B_ST_HIGH]
        } else {
            0
        };
        u16::from_be_bytes([high, self.0[a::OHC_B_ST_LOW]])
    }

    pub(crate) const fn ph(self) -> u8 {
        self.0[a::OHC_B_FLAGS] >> 6
    }

    pub(crate) const fn hv(self) -> u8 {
        self.0[a::OHC_B_FLAGS] >> 4 & 0b11
    }

    pub(crate) const fn ama(self) -> u8 {
        self.0[a::OHC_B_FLAGS] >> 1 & 0b111
    }

    pub(crate) const fn av(self) -> bool {
        self.0[a::OHC_B_FLAGS] & 1 != 0
    }

    fn hint(self) -> Result<Option<Hint>, DecodeError> {
        unsupported("AMA", self.ama().into())?;
        unsupported("AV", self.av().into())?;
        reserved("OHC-B reserved byte", self.0[a::OHC_B_RESERVED].into())?;
        let [st_high, st_low] = [self.0[a::OHC_B_ST_HIGH], self.0[a::OHC_B_ST_LOW]];
        let tag = match self.hv() {
            a::HV_EXTENDED => SteeringTag::Ext(u16::from_be_bytes([st_high, st_low])),
            a::HV_ST => {
                reserved("OHC-B ST[15:8] of an 8-bit tag", st_high.into())?;
                SteeringTag::St(st_low)
            }
            a::HV_NONE => {
                reserved("OHC-B without a hint", u32::from_be_bytes(self.0))?;
                return Ok(None);
            }
            hv => {
                return Err(DecodeError::Reserved {
                    field: "HV",
                    value: hv.into(),
                });
            }
        };
        Ok(Some(Hint {
            ph: Ph::from_bits(self.ph()),
            tag,
        }))
    }
}

fn emit_dw0(form: Form, tc: u8, attr: u8, ohc: u8, len_dw: usize) -> Dw {
    let [len_high, len_low] = wire::length_code(len_dw);
    [
        type_code(form),
        tc << 5 | ohc,
        attr << 2 | len_high,
        len_low,
    ]
}

/// Headers of a request, OHCs included.
pub(crate) fn emit_request(form: Form, request: &MemRequest, headers: &mut Headers<'_>) {
    let ohc_a =
        (!request.is_full()).then(|| RequestOhcA::new(request.first_be(), request.last_be()));
    let ohc_b = request.hint().map(OhcB::new);
    let ohc = (u8::from(ohc_a.is_some()) * OHC_A) | (u8::from(ohc_b.is_some()) * OHC_B);

    headers.push(emit_dw0(
        form,
        request.tc(),
        request.attr(),
        ohc,
        request.len_dw().into(),
    ));
    headers.push(wire::dw(request.requester().0, request.tag()));
    if form.is_64bit() {
        headers.push(((request.addr() >> 32) as u32).to_be_bytes());
    }
    headers.push(((request.addr() & 0xffff_ffff) as u32).to_be_bytes());
    if let Some(RequestOhcA(dw)) = ohc_a {
        headers.push(dw);
    }
    if let Some(OhcB(dw)) = ohc_b {
        headers.push(dw);
    }
}

/// Headers of a completion, OHC included.
pub(crate) fn emit_completion(
    form: Form,
    header: &CompletionHeader,
    len_dw: usize,
    headers: &mut Headers<'_>,
) {
    let ohc_a = CplOhcA::of(header);
    let ohc = u8::from(ohc_a.is_some()) * OHC_A;
    let lower = header.lower_address();

    headers.push(emit_dw0(form, header.tc(), header.attr(), ohc, len_dw));
    let mut dw1 = wire::dw(header.completer().0, header.tag());
    dw1[2] |= lower & a::CPL_LOWER_ADDRESS_6;
    headers.push(dw1);
    let mut dw2 = wire::dw(
        header.requester().0,
        wire::byte_count_code(header.byte_count()),
    );
    dw2[2] |= (lower >> 2 & 0xf) << a::CPL_LOWER_ADDRESS_5_2_SHIFT;
    headers.push(dw2);
    if let Some(CplOhcA(dw)) = ohc_a {
        headers.push(dw);
    }
}

/// DWs in front of a request's payload.
pub(crate) const fn request_dw(form: Form, request: &MemRequest) -> usize {
    form.header_dw() + !request.is_full() as usize + request.hint().is_some() as usize
}

/// DWs in front of a completion's payload.
pub(crate) const fn completion_dw(form: Form, header: &CompletionHeader) -> usize {
    form.header_dw() + CplOhcA::of(header).is_some() as usize
}

/// The packet, and how many bytes its length field announces.
pub(crate) fn parse(bytes: &[u8], extent: Extent) -> Result<(Tlp<'_>, usize), DecodeError> {
    let (dws, _) = bytes.as_chunks::<4>();
    let need = |dws_needed: usize| DecodeError::Truncated {
        need: dws_needed * 4,
        have: bytes.len(),
    };
    let dw0 = Dw0(*dws.first().ok_or(need(3))?);
    let form = dw0.form().ok_or(DecodeError::UnknownType {
        code: dw0.0[0],
        mode: Mode::Flit,
    })?;
    unsupported("TS", dw0.ts().into())?;
    unsupported("OHC-C and OHC-E", u32::from(dw0.ohc() & !(OHC_A | OHC_B)))?;
    let base = form.header_dw();
    let headers = base + dw0.ohc().count_ones() as usize;
    let (header, ohcs) = dws.get(..headers).ok_or(need(headers))?.split_at(base);
    let payload = wire::payload(bytes, headers, form, dw0.length(), extent)?;
    let (payload, announced) = (payload.bytes, payload.announced);

    unsupported("EP", Dw1(header[1]).ep().into())?;
    let mut ohcs = ohcs.iter().copied();
    let ohc_a = if dw0.ohc() & OHC_A != 0 {
        ohcs.next()
    } else {
        None
    };
    let ohc_b = if dw0.ohc() & OHC_B != 0 {
        ohcs.next()
    } else {
        None
    };
    if form.is_completion() {
        unsupported("OHC-B of a completion", ohc_b.is_some().into())?;
        let header = parse_completion(form, dw0, header, ohc_a.map(CplOhcA), announced)?;
        return Ok((Tlp::Completion(header, payload), announced));
    }
    let request = parse_request(form, dw0, header, ohc_a.map(RequestOhcA), ohc_b.map(OhcB))?;
    let tlp = if form.is_read() {
        Tlp::MemRead(request)
    } else {
        Tlp::MemWrite(request, payload)
    };
    Ok((tlp, announced))
}

fn parse_request(
    form: Form,
    dw0: Dw0,
    header: &[Dw],
    ohc_a: Option<RequestOhcA>,
    ohc_b: Option<OhcB>,
) -> Result<MemRequest, DecodeError> {
    let dw1 = Dw1(header[1]);
    reserved("byte 6 bit 6", dw1.lower_address_6().into())?;
    let (addr, at) = wire::address(form, header)?;
    unsupported("AT", at.into())?;
    let mut request = MemRequest::new(dw1.id(), addr, dw0.length())?
        .with_tc(dw0.tc())?
        .with_attr(dw0.attr())?
        .with_tag(dw1.tag())?;
    if let Some(ohc_a) = ohc_a {
        unsupported("PASID of OHC-A", ohc_a.rest())?;
        request = request.with_byte_enables(ohc_a.first_be(), ohc_a.last_be())?;
    }
    if let Some(hint) = ohc_b.map(OhcB::hint).transpose()?.flatten() {
        request = request.with_hint(hint);
    }
    Ok(request)
}

fn parse_completion(
    form: Form,
    dw0: Dw0,
    header: &[Dw],
    ohc_a: Option<CplOhcA>,
    payload_len: usize,
) -> Result<CompletionHeader, DecodeError> {
    if form == Form::Cpl {
        reserved(
            "Length of a completion without data",
            u32::from(dw0.length() % 1024),
        )?;
    }
    let (dw1, dw2) = (Dw1(header[1]), CplDw2(header[2]));
    let mut lower = dw1.lower_address_6() | dw2.lower_address_5_2();
    let mut status = CompletionStatus::Success;
    if let Some(ohc_a) = ohc_a {
        unsupported("OHC-A of a completion", ohc_a.rest())?;
        lower |= ohc_a.lower_address_1_0();
        status = CompletionStatus::from_code(ohc_a.status_code()).ok_or(DecodeError::Reserved {
            field: "completion status",
            value: ohc_a.status_code().into(),
        })?;
    }
    let header = CompletionHeader::new(
        dw1.id(),
        dw2.requester(),
        dw1.tag(),
        status,
        dw2.byte_count(),
        lower,
    )?
    .with_tc(dw0.tc())?
    .with_attr(dw0.attr())?;
    header.check_payload(payload_len)?;
    Ok(header)
}
