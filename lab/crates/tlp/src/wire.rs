// SPDX-License-Identifier: MIT OR Apache-2.0
//! What both header formats share: DWs, packet forms, the length field.

use crate::DecodeError;

/// One DW as it is on the wire.
pub(crate) type Dw = [u8; 4];

/// DWs in front of a payload, at most: four of a header and two of OHC, or one of prefix.
pub const MAX_HEADERS_DW: usize = 4 + 2;

/// The DWs in front of the payload, as they are put together in their place.
pub(crate) struct Headers<'a> {
    dws: &'a mut [Dw; MAX_HEADERS_DW],
    len: usize,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(dws: &'a mut [Dw; MAX_HEADERS_DW]) -> Self {
        Self { dws, len: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, dw: Dw) {
        self.dws[self.len] = dw;
        self.len += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Which packet, and how long its address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    MemRead32,
    MemRead64,
    MemWrite32,
    MemWrite64,
    Cpl,
    CplD,
}

impl Form {
    pub(crate) const fn mnemonic(self) -> &'static str {
        match self {
            Self::MemRead32 => "MRd32",
            Self::MemRead64 => "MRd64",
            Self::MemWrite32 => "MWr32",
            Self::MemWrite64 => "MWr64",
            Self::Cpl => "Cpl",
            Self::CplD => "CplD",
        }
    }

    pub(crate) const fn is_read(self) -> bool {
        matches!(self, Self::MemRead32 | Self::MemRead64)
    }

    pub(crate) const fn is_write(self) -> bool {
        matches!(self, Self::MemWrite32 | Self::MemWrite64)
    }

    pub(crate) const fn is_64bit(self) -> bool {
        matches!(self, Self::MemRead64 | Self::MemWrite64)
    }

    pub(crate) const fn is_completion(self) -> bool {
        matches!(self, Self::Cpl | Self::CplD)
    }

    /// DWs of the header, without prefix or OHC.
    pub(crate) const fn header_dw(self) -> usize {
        if self.is_64bit() { 4 } else { 3 }
    }

    /// Whether the length field counts a payload.
    pub(crate) const fn has_payload(self) -> bool {
        self.is_write() || matches!(self, Self::CplD)
    }
}

/// Ten-bit length code of 0..=1024 DW. 1024 is coded 0; so is the length of a packet without data.
pub(crate) const fn length_code(len_dw: usize) -> [u8; 2] {
    [(len_dw >> 8) as u8 & 0b11, (len_dw & 0xff) as u8]
}

/// DWs (1..=1024) that bytes 2 and 3 of a DW0 announce, in either mode.
pub(crate) const fn length(dw0: Dw) -> u16 {
    match (dw0[2] as u16 & 0b11) << 8 | dw0[3] as u16 {
        0 => 1024,
        code => code,
    }
}

/// Twelve-bit byte count field, in the low bits; 4096 is coded 0.
pub(crate) const fn byte_count_code(byte_count: u16) -> u16 {
    byte_count & 0xfff
}

/// Byte count (1..=4096) from bits 11:0 of a half DW.
pub(crate) const fn byte_count(half: u16) -> u16 {
    match half & 0xfff {
        0 => 4096,
        code => code,
    }
}

/// Upper half of a DW: bytes 0 and 1.
pub(crate) const fn high(dw: Dw) -> u16 {
    u16::from_be_bytes([dw[0], dw[1]])
}

/// Lower half of a DW: bytes 2 and 3.
pub(crate) const fn low(dw: Dw) -> u16 {
    u16::from_be_bytes([dw[2], dw[3]])
}

/// A DW from its halves.
pub(crate) const fn dw(high: u16, low: u16) -> Dw {
    ((high as u32) << 16 | low as u32).to_be_bytes()
}

/// Refuses a reserved field that is not 0.
pub(crate) const fn reserved(field: &'static str, value: u32) -> Result<(), DecodeError> {
    if value == 0 {
        Ok(())
    } else {
        Err(DecodeError::Reserved { field, value })
    }
}

/// Refuses a field that this crate does not model, if it is not 0.
pub(crate) const fn unsupported(field: &'static str, value: u32) -> Result<(), DecodeError> {
    if value == 0 {
        Ok(())
    } else {
        Err(DecodeError::Unsupported { field, value })
    }
}

/// DW-aligned address in the last one or two DWs of a request's header, and the two bits below it.
pub(crate) fn address(form: Form, header: &[Dw]) -> Result<(u64, u8), DecodeError> {
    let low = u32::from_be_bytes(header[form.header_dw() - 1]);
    let mut addr = u64::from(low & !0b11);
    if form.is_64bit() {
        addr |= u64::from(u32::from_be_bytes(header[2])) << 32;
        if addr >> 32 == 0 {
            return Err(DecodeError::NeedlessLongAddress(addr));
        }
    }
    Ok((addr, (low & 0b11) as u8))
}

/// Whether all bytes of a packet are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// The payload may end early.
    Cut,
}

/// What follows the headers.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    /// How many bytes the length field announces.
    pub(crate) announced: usize,
}

/// What follows the `headers` DWs: as many bytes as the length field announces, no more, and no
/// less unless the packet may be cut.
pub(crate) fn payload(
    bytes: &[u8],
    headers: usize,
    form: Form,
    len_dw: u16,
    extent: Extent,
) -> Result<Payload<'_>, DecodeError> {
    let start = headers * 4;
    let announced = if form.has_payload() {
        usize::from(len_dw) * 4
    } else {
        0
    };
    let len = start + announced;
    if bytes.len() > len {
        return Err(DecodeError::TrailingBytes {
            len,
            extra: bytes.len() - len,
        });
    }
    let end = match extent {
        Extent::Whole => len,
        Extent::Cut => bytes.len(),
    };
    let bytes = bytes.get(start..end).ok_or(DecodeError::Truncated {
        need: len,
        have: bytes.len(),
    })?;
    Ok(Payload { bytes, announced })
}
