// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions.

use crate::{Bdf, CompletionError, FieldError, MemRequest, request::TAG_MAX};

/// Completion status. The codes not listed are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CompletionStatus {
    /// SC: successful completion.
    Success = 0,
    /// UR: unsupported request.
    UnsupportedRequest = 1,
    /// CRS: request retry.
    RequestRetry = 2,
    /// CA: completer abort.
    CompleterAbort = 4,
}

impl CompletionStatus {
    /// The three-bit code on the wire.
    #[inline]
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The status with this code, if it is not reserved.
    #[inline]
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Success),
            1 => Some(Self::UnsupportedRequest),
            2 => Some(Self::RequestRetry),
            4 => Some(Self::CompleterAbort),
            _ => None,
        }
    }

    /// The usual abbreviation: SC, UR, CRS or CA.
    #[inline]
    #[must_use]
    pub const fn abbreviation(self) -> &'static str {
        match self {
            Self::Success => "SC",
            Self::UnsupportedRequest => "UR",
            Self::RequestRetry => "CRS",
            Self::CompleterAbort => "CA",
        }
    }
}

/// Header of a completion, with or without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CompletionHeader {
    completer: Bdf,
    requester: Bdf,
    tag: u16,
    tc: u8,
    attr: u8,
    status: CompletionStatus,
    byte_count: u16,
    lower_address: u8,
}

impl CompletionHeader {
    /// A completion of the request that `requester` marked with `tag` (14 bits at most).
    ///
    /// `byte_count` (1..=4096) is what remains of the request, this completion's data included;
    /// `lower_address` (7 bits) is the byte address of the first byte that it returns.
    #[inline]
    pub const fn new(
        completer: Bdf,
        requester: Bdf,
        tag: u16,
        status: CompletionStatus,
        byte_count: u16,
        lower_address: u8,
    ) -> Result<Self, FieldError> {
        if tag > TAG_MAX {
            return Err(FieldError::Tag(tag));
        }
        if byte_count == 0 || byte_count > 4096 {
            return Err(FieldError::ByteCount(byte_count));
        }
        if lower_address > 0x7f {
            return Err(FieldError::LowerAddress(lower_address));
        }
        Ok(Self {
            completer,
            requester,
            tag,
            tc: 0,
            attr: 0,
            status,
            byte_count,
            lower_address,
        })
    }

    /// The first (or only) completion of `read`: requester, tag, traffic class and attributes are
    /// the read's, byte count and lower address follow from its byte enables.
    ///
    /// Without success no bytes are returned: byte count 4, lower address 0.
    #[inline]
    #[must_use]
    pub const fn answering(read: &MemRequest, completer: Bdf, status: CompletionStatus) -> Self {
        let (byte_count, lower_address) = match status {
            CompletionStatus::Success => span(read),
            _ => (4, 0),
        };
        Self {
            completer,
            requester: read.requester(),
            tag: read.tag(),
            tc: read.tc(),
            attr: read.attr(),
            status,
            byte_count,
            lower_address,
        }
    }

    /// Sets the traffic class, 0..=7.
    #[inline]
    pub const fn with_tc(mut self, tc: u8) -> Result<Self, FieldError> {
        if tc > 7 {
            return Err(FieldError::TrafficClass(tc));
        }
        self.tc = tc;
        Ok(self)
    }

    /// Sets the attributes, 0..=7; a completion repeats those of its request.
    #[inline]
    pub const fn with_attr(mut self, attr: u8) -> Result<Self, FieldError> {
        if attr > 7 {
            return Err(FieldError::Attributes(attr));
        }
        self.attr = attr;
        Ok(self)
    }

    /// Who answers.
    #[inline]
    #[must_use]
    pub const fn completer(&self) -> Bdf {
        self.completer
    }

    /// Who is answered.
    #[inline]
    #[must_use]
    pub const fn requester(&self) -> Bdf {
        self.requester
    }

    /// Tag of the request, 0..=0x3fff.
    #[inline]
    #[must_use]
    pub const fn tag(&self) -> u16 {
        self.tag
    }

    /// Traffic class, 0..=7.
    #[inline]
    #[must_use]
    pub const fn tc(&self) -> u8 {
        self.tc
    }

    /// Attributes, 0..=7.
    #[inline]
    #[must_use]
    pub const fn attr(&self) -> u8 {
        self.attr
    }

    /// How it went.
    #[inline]
    #[must_use]
    pub const fn status(&self) -> CompletionStatus {
        self.status
    }

    /// Bytes of the request that remain, this completion's included: 1..=4096.
    #[inline]
    #[must_use]
    pub const fn byte_count(&self) -> u16 {
        self.byte_count
    }

    /// Bits 6:0 of the address of the first byte returned.
    #[inline]
    #[must_use]
    pub const fn lower_address(&self) -> u8 {
        self.lower_address
    }
}

/// Bytes from the first to the last enabled one, and bits 6:0 of the first one's address. A
/// zero-length read counts as one byte.
const fn span(read: &MemRequest) -> (u16, u8) {
    let (first, last) = (read.first_be(), read.last_be());
    let low = (read.addr() & 0x7f) as u8;
    if first == 0 {
        return (1, low);
    }
    let skipped = first.trailing_zeros() as u16;
    let end = if read.len_dw() == 1 { first } else { last };
    let unused = end.leading_zeros() as u16 - 4;
    (read.len_dw() * 4 - skipped - unused, low | skipped as u8)
}

impl CompletionHeader {
    /// Checks a payload of `len` bytes against the header.
    #[inline]
    pub(crate) const fn check_payload(&self, len: usize) -> Result<(), CompletionError> {
        if !len.is_multiple_of(4) || len > 4096 {
            return Err(CompletionError::Payload(len));
        }
        if len > 0 && !matches!(self.status, CompletionStatus::Success) {
            return Err(CompletionError::DataWithError(self.status));
        }
        let offset = self.lower_address as usize & 0b11;
        let remaining = (offset + self.byte_count as usize).next_multiple_of(4);
        if len > remaining {
            return Err(CompletionError::BeyondByteCount {
                remaining,
                have: len,
            });
        }
        Ok(())
    }
}
