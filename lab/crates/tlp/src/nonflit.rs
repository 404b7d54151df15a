// SPDX-License-Identifier: MIT OR Apache-2.0
//! Headers of non-flit mode.

use crate::wire::{self, Dw, Extent, Form, Headers, reserved, unsupported};
use crate::{
    Bdf, CompletionHeader, CompletionStatus, DecodeError, EncodeError, Hint, MemRequest, Mode, Ph,
    SteeringTag, Tlp,
};

/// First byte of the TPH prefix.
const TPH_PREFIX: u8 = 0x90;
/// Bit 0 of byte 1: the packet carries a hint.
const TH: u8 = 1;

/// Form named by the first byte of DW0 (Fmt and Type).
const fn form(code: u8) -> Option<Form> {
    match code {
        0x00 => Some(Form::MemRead32),
        0x20 => Some(Form::MemRead64),
        0x40 => Some(Form::MemWrite32),
        0x60 => Some(Form::MemWrite64),
        0x0a => Some(Form::Cpl),
        0x4a => Some(Form::CplD),
        _ => None,
    }
}

const fn type_code(form: Form) -> u8 {
    match form {
        Form::MemRead32 => 0x00,
        Form::MemRead64 => 0x20,
        Form::MemWrite32 => 0x40,
        Form::MemWrite64 => 0x60,
        Form::Cpl => 0x0a,
        Form::CplD => 0x4a,
    }
}

/// TPH prefix.
#[derive(Clone, Copy)]
pub(crate) struct Prefix(pub(crate) Dw);

impl Prefix {
    pub(crate) const fn is_at(dw: Dw) -> bool {
        dw[0] == TPH_PREFIX
    }

    pub(crate) const fn st_high(self) -> u8 {
        self.0[1]
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
        self.0[1] >> 4 & 0b111
    }

    /// T9 and T8, in their places of the tag.
    pub(crate) const fn tag_high(self) -> u16 {
        (self.0[1] as u16 >> 7) << 9 | (self.0[1] as u16 >> 3 & 1) << 8
    }

    pub(crate) const fn attr(self) -> u8 {
        self.0[1] & 0b100 | self.0[2] >> 4 & 0b11
    }

    pub(crate) const fn th(self) -> bool {
        self.0[1] & TH != 0
    }

    pub(crate) const fn td(self) -> bool {
        self.0[2] & 0x80 != 0
    }

    pub(crate) const fn ep(self) -> bool {
        self.0[2] & 0x40 != 0
    }

    pub(crate) const fn at(self) -> u8 {
        self.0[2] >> 2 & 0b11
    }

    pub(crate) const fn length(self) -> u16 {
        wire::length(self.0)
    }
}

/// Second DW of a completion's header.
#[derive(Clone, Copy)]
pub(crate) struct CplDw1(pub(crate) Dw);

impl CplDw1 {
    pub(crate) const fn completer(self) -> Bdf {
        Bdf(wire::high(self.0))
    }

    pub(crate) const fn status_code(self) -> u8 {
        self.0[2] >> 5
    }

    pub(crate) const fn bcm(self) -> bool {
        self.0[2] & 0x10 != 0
    }

    pub(crate) const fn byte_count(self) -> u16 {
        wire::byte_count(wire::low(self.0))
    }
}

fn emit_dw0(form: Form, tc: u8, attr: u8, tag: u16, len_dw: usize) -> Dw {
    let [len_high, len_low] = wire::length_code(len_dw);
    let t9_t8 = ((tag >> 9 & 1) << 7 | (tag >> 8 & 1) << 3) as u8;
    [
        type_code(form),
        t9_t8 | tc << 4 | attr & 0b100,
        (attr & 0b11) << 4 | len_high,
        len_low,
    ]
}

/// Tag that a request's header has room for: ST replaces that of a hinted write.
const fn carried_tag(form: Form, request: &MemRequest) -> u16 {
    if form.is_write() && request.hint().is_some() {
        0
    } else {
        request.tag()
    }
}

const fn check_tag(tag: u16) -> Result<(), EncodeError> {
    if tag > 0x3ff {
        return Err(EncodeError::TagTooWide {
            tag,
            mode: Mode::NonFlit,
        });
    }
    Ok(())
}

/// Headers of a request, prefix included.
pub(crate) fn emit_request(
    form: Form,
    request: &MemRequest,
    headers: &mut Headers<'_>,
) -> Result<(), EncodeError> {
    let tag = carried_tag(form, request);
    check_tag(tag)?;
    if form.is_read() && request.hint().is_some() && !request.is_full() {
        return Err(EncodeError::HintedPartialRead);
    }

    let mut dw0 = emit_dw0(
        form,
        request.tc(),
        request.attr(),
        tag,
        request.len_dw().into(),
    );
    let enables = request.last_be() << 4 | request.first_be();
    let mut low = [(tag & 0xff) as u8, enables];
    let mut ph = 0;
    if let Some(hint) = request.hint() {
        let [st_high, st_low] = hint.tag.value().to_be_bytes();
        if hint.tag.is_extended() {
            headers.push([TPH_PREFIX, st_high, 0, 0]);
        }
        dw0[1] |= TH;
        low[usize::from(form.is_read())] = st_low;
        ph = hint.ph.code();
    }
    headers.push(dw0);
    headers.push(wire::dw(request.requester().0, u16::from_be_bytes(low)));
    let addr = request.addr() | u64::from(ph);
    if form.is_64bit() {
        headers.push(((addr >> 32) as u32).to_be_bytes());
    }
    headers.push(((addr & 0xffff_ffff) as u32).to_be_bytes());
    Ok(())
}

/// Headers of a completion.
pub(crate) fn emit_completion(
    form: Form,
    header: &CompletionHeader,
    len_dw: usize,
    headers: &mut Headers<'_>,
) -> Result<(), EncodeError> {
    check_tag(header.tag())?;
    headers.push(emit_dw0(
        form,
        header.tc(),
        header.attr(),
        header.tag(),
        len_dw,
    ));
    let status = u16::from(header.status().code()) << 13;
    headers.push(wire::dw(
        header.completer().0,
        status | wire::byte_count_code(header.byte_count()),
    ));
    let low = [(header.tag() & 0xff) as u8, header.lower_address()];
    headers.push(wire::dw(header.requester().0, u16::from_be_bytes(low)));
    Ok(())
}

/// DWs in front of a request's payload.
pub(crate) const fn request_dw(form: Form, request: &MemRequest) -> usize {
    let prefixed = matches!(request.hint(), Some(hint) if hint.tag.is_extended());
    form.header_dw() + prefixed as usize
}

/// The packet, and how many bytes its length field announces.
pub(crate) fn parse(bytes: &[u8], extent: Extent) -> Result<(Tlp<'_>, usize), DecodeError> {
    let (dws, _) = bytes.as_chunks::<4>();
    let need = |dws_needed: usize| DecodeError::Truncated {
        need: dws_needed * 4,
        have: bytes.len(),
    };
    let first = *dws.first().ok_or(need(3))?;
    let prefix = Prefix::is_at(first).then_some(Prefix(first));
    let skip = usize::from(prefix.is_some());

    let dw0 = Dw0(*dws.get(skip).ok_or(need(skip + 3))?);
    let form = dw0.form().ok_or(DecodeError::UnknownType {
        code: dw0.0[0],
        mode: Mode::NonFlit,
    })?;
    let headers = skip + form.header_dw();
    let header = dws.get(skip..headers).ok_or(need(headers))?;
    check_dw0(form, dw0)?;
    if let Some(Prefix(dw)) = prefix {
        reserved("TPH prefix bytes 2-3", wire::low(dw).into())?;
        if !dw0.th() {
            return Err(DecodeError::PrefixWithoutHint);
        }
    }
    let payload = wire::payload(bytes, headers, form, dw0.length(), extent)?;
    let (payload, announced) = (payload.bytes, payload.announced);

    if form.is_completion() {
        let header = parse_completion(dw0, header, announced)?;
        return Ok((Tlp::Completion(header, payload), announced));
    }
    let request = parse_request(form, dw0, header, prefix)?;
    let tlp = if form.is_read() {
        Tlp::MemRead(request)
    } else {
        Tlp::MemWrite(request, payload)
    };
    Ok((tlp, announced))
}

/// Refuses what this crate does not carry: digest, poison, address type, reserved bits.
fn check_dw0(form: Form, dw0: Dw0) -> Result<(), DecodeError> {
    unsupported("TD", dw0.td().into())?;
    unsupported("EP", dw0.ep().into())?;
    reserved("byte 1 bit 1", u32::from(dw0.0[1] & 0b10))?;
    if form.is_completion() {
        reserved("TH of a completion", dw0.th().into())?;
        reserved("AT of a completion", dw0.at().into())?;
    } else {
        unsupported("AT", dw0.at().into())?;
    }
    if form == Form::Cpl {
        reserved(
            "Length of a completion without data",
            u32::from(dw0.length() % 1024),
        )?;
    }
    Ok(())
}

fn parse_request(
    form: Form,
    dw0: Dw0,
    header: &[Dw],
    prefix: Option<Prefix>,
) -> Result<MemRequest, DecodeError> {
    let dw1 = header[1];
    let (addr, ph) = wire::address(form, header)?;
    let mut request = MemRequest::new(Bdf(wire::high(dw1)), addr, dw0.length())?
        .with_tc(dw0.tc())?
        .with_attr(dw0.attr())?;
    let tag = dw0.tag_high() | u16::from(dw1[2]);
    let (first_be, last_be) = (dw1[3] & 0xf, dw1[3] >> 4);
    if !dw0.th() {
        reserved("address bits 1:0", ph.into())?;
        return Ok(request
            .with_tag(tag)?
            .with_byte_enables(first_be, last_be)?);
    }
    let st_low = if form.is_read() { dw1[3] } else { dw1[2] };
    if form.is_read() {
        request = request.with_tag(tag)?;
    } else {
        request = request.with_byte_enables(first_be, last_be)?;
    }
    let tag = match prefix {
        Some(prefix) => SteeringTag::Ext(u16::from_be_bytes([prefix.st_high(), st_low])),
        None => SteeringTag::St(st_low),
    };
    Ok(request.with_hint(Hint {
        ph: Ph::from_bits(ph),
        tag,
    }))
}

fn parse_completion(
    dw0: Dw0,
    header: &[Dw],
    payload_len: usize,
) -> Result<CompletionHeader, DecodeError> {
    let (dw1, dw2) = (CplDw1(header[1]), header[2]);
    unsupported("BCM", dw1.bcm().into())?;
    let status = CompletionStatus::from_code(dw1.status_code()).ok_or(DecodeError::Reserved {
        field: "completion status",
        value: dw1.status_code().into(),
    })?;
    reserved("byte 11 bit 7", u32::from(dw2[3] & 0x80))?;
    let header = CompletionHeader::new(
        dw1.completer(),
        Bdf(wire::high(dw2)),
        dw0.tag_high() | u16::from(dw2[2]),
        status,
        dw1.byte_count(),
        dw2[3],
    )?
    .with_tc(dw0.tc())?
    .with_attr(dw0.attr())?;
    header.check_payload(payload_len)?;
    Ok(header)
}
