// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory requests.

use crate::{Bdf, FieldError, Hint};

/// Largest tag of a flit-mode header (14 bits).
pub(crate) const TAG_MAX: u16 = 0x3fff;

/// Header of a memory read or write, free of the link's mode.
///
/// The constructors uphold what holds for every request: DW-aligned address, 1 to 1024 DW within
/// one 4 KiB page, legal byte enables, fields within their width. Whether the 32- or the 64-bit
/// header form is used follows from the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemRequest {
    requester: Bdf,
    tag: u16,
    tc: u8,
    attr: u8,
    addr: u64,
    first_be: u8,
    last_be: u8,
    len_dw: u16,
    hint: Option<Hint>,
}

impl MemRequest {
    /// A request for `len_dw` whole DWs at `addr`, with all byte enables set; tag, traffic class
    /// and attributes 0, no hint.
    #[inline]
    pub const fn new(requester: Bdf, addr: u64, len_dw: u16) -> Result<Self, FieldError> {
        if len_dw == 0 || len_dw > 1024 {
            return Err(FieldError::Length(len_dw));
        }
        if addr & 0b11 != 0 {
            return Err(FieldError::Unaligned(addr));
        }
        if (addr & 0xfff) + len_dw as u64 * 4 > 0x1000 {
            return Err(FieldError::Crosses4K { addr, len_dw });
        }
        let last_be = if len_dw == 1 { 0 } else { 0xf };
        Ok(Self {
            requester,
            tag: 0,
            tc: 0,
            attr: 0,
            addr,
            first_be: 0xf,
            last_be,
            len_dw,
            hint: None,
        })
    }

    /// A request for `len` bytes at byte address `addr`: DW address, length and byte enables are
    /// worked out.
    #[inline]
    pub const fn for_bytes(requester: Bdf, addr: u64, len: usize) -> Result<Self, FieldError> {
        if len == 0 || len > 4096 {
            return Err(FieldError::ByteRange { addr, len });
        }
        let offset = (addr & 0b11) as usize;
        let len_dw = (offset + len).div_ceil(4);
        if len_dw > 1024 {
            return Err(FieldError::ByteRange { addr, len });
        }
        let request = match Self::new(requester, addr & !0b11, len_dw as u16) {
            Ok(request) => request,
            Err(error) => return Err(error),
        };
        let from = 0xf << offset & 0xf;
        let upto = 0xf >> (len_dw * 4 - offset - len);
        if len_dw == 1 {
            request.with_byte_enables(from & upto, 0)
        } else {
            request.with_byte_enables(from, upto)
        }
    }

    /// Sets the byte enables; bit n stands for byte n of the DW.
    ///
    /// One DW: `last` is 0 and `first` is anything (0 is the zero-length request). More than one:
    /// neither is 0, and the enabled bytes are contiguous unless the request is one aligned QW.
    #[inline]
    pub const fn with_byte_enables(mut self, first: u8, last: u8) -> Result<Self, FieldError> {
        let legal = if self.len_dw == 1 {
            first <= 0xf && last == 0
        } else if self.len_dw == 2 && self.addr.is_multiple_of(8) {
            first >= 1 && first <= 0xf && last >= 1 && last <= 0xf
        } else {
            matches!(first, 0xf | 0xe | 0xc | 0x8) && matches!(last, 0xf | 0x7 | 0x3 | 0x1)
        };
        if !legal {
            return Err(FieldError::ByteEnables {
                first,
                last,
                len_dw: self.len_dw,
            });
        }
        self.first_be = first;
        self.last_be = last;
        Ok(self)
    }

    /// Sets the transaction tag, 14 bits at most (10 in non-flit mode, see
    /// [`crate::EncodeError::TagTooWide`]).
    ///
    /// It is not the steering tag. A hinted write in non-flit mode has no tag: ST takes its place.
    #[inline]
    pub const fn with_tag(mut self, tag: u16) -> Result<Self, FieldError> {
        if tag > TAG_MAX {
            return Err(FieldError::Tag(tag));
        }
        self.tag = tag;
        Ok(self)
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

    /// Sets the attributes, 0..=7: bit 0 no snoop, bit 1 relaxed ordering, bit 2 ID-based ordering.
    #[inline]
    pub const fn with_attr(mut self, attr: u8) -> Result<Self, FieldError> {
        if attr > 7 {
            return Err(FieldError::Attributes(attr));
        }
        self.attr = attr;
        Ok(self)
    }

    /// Adds a hint.
    #[inline]
    #[must_use]
    pub const fn with_hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Takes the hint away.
    #[inline]
    #[must_use]
    pub const fn without_hint(mut self) -> Self {
        self.hint = None;
        self
    }

    /// Who sent it.
    #[inline]
    #[must_use]
    pub const fn requester(&self) -> Bdf {
        self.requester
    }

    /// Transaction tag, 0..=0x3fff.
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

    /// DW-aligned byte address.
    #[inline]
    #[must_use]
    pub const fn addr(&self) -> u64 {
        self.addr
    }

    /// Byte enables of the first DW.
    #[inline]
    #[must_use]
    pub const fn first_be(&self) -> u8 {
        self.first_be
    }

    /// Byte enables of the last DW; 0 if there is one DW only.
    #[inline]
    #[must_use]
    pub const fn last_be(&self) -> u8 {
        self.last_be
    }

    /// Length in DW, 1..=1024.
    #[inline]
    #[must_use]
    pub const fn len_dw(&self) -> u16 {
        self.len_dw
    }

    /// Length in bytes, byte enables not considered: 4..=4096.
    #[inline]
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.len_dw as usize * 4
    }

    /// The hint, if there is one.
    #[inline]
    #[must_use]
    pub const fn hint(&self) -> Option<Hint> {
        self.hint
    }

    /// True if every byte of every DW is enabled.
    #[inline]
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.first_be == 0xf && (self.len_dw == 1 || self.last_be == 0xf)
    }

    /// True if the address needs the 64-bit (4 DW) header; below 4 GiB the 32-bit form is the rule.
    #[inline]
    #[must_use]
    pub const fn is_64bit(&self) -> bool {
        self.addr > u32::MAX as u64
    }

    /// True if byte `offset` (from [`MemRequest::addr`]) is enabled; false beyond the request.
    #[inline]
    #[must_use]
    pub const fn is_enabled(&self, offset: usize) -> bool {
        let (dw, byte) = (offset / 4, offset % 4);
        let last = self.len_dw as usize - 1;
        if dw > last {
            false
        } else if dw == 0 {
            self.first_be >> byte & 1 == 1
        } else if dw == last {
            self.last_be >> byte & 1 == 1
        } else {
            true
        }
    }
}
