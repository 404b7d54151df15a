// SPDX-License-Identifier: MIT OR Apache-2.0
//! DMA that a live object justifies.
//!
//! There is no way to address memory but through a [`Buffer`] or the [`Span`] of a memory key, and
//! they belong to the object that the driver gave the memory to: a buffer ends with it. A device that writes into memory that was
//! given back would make the guest crash far from the cause.

use crate::error::{CopyError, Error};
use crate::owner::Owner;
use devices::Complaints;
use fabric::{End, Requester, TagSource, Want, Width};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tlp::Ph;

/// Bytes of a page, which no TLP exceeds.
pub const PAGE: usize = 0x1000;

/// Memory that the driver gave an object: equal pages at any addresses.
#[derive(Clone, Debug)]
pub struct Buffer {
    owner: Owner,
    pages: Vec<u64>,
    page_shift: u32,
    /// Where the buffer begins in its first page.
    offset: u64,
    len: u64,
}

impl Buffer {
    /// `len` bytes in one piece.
    pub fn contiguous(owner: Owner, addr: u64, len: u64) -> Self {
        Self {
            owner,
            pages: vec![addr],
            page_shift: 63,
            offset: 0,
            len,
        }
    }

    /// `len` bytes as the context of a queue describes them, with the addresses of its pages: these have
    /// 2^(12 + `log_page_size`) bytes, and `page_offset` counts 64th of one. None if there are too few
    /// of them.
    pub fn paged(
        owner: Owner,
        pages: &[u64],
        log_page_size: u32,
        page_offset: u64,
        len: u64,
    ) -> Option<Self> {
        let page_shift = 12 + log_page_size;
        if page_shift >= 63 {
            return None;
        }
        let offset = page_offset.checked_mul(1 << (page_shift - 6))?;
        let needed = offset.checked_add(len)?.div_ceil(1 << page_shift);
        let needed = usize::try_from(needed).ok()?;
        Some(Self {
            owner,
            pages: pages.get(..needed)?.to_vec(),
            page_shift,
            offset,
            len,
        })
    }

    /// The front of `len` bytes at `offset` that lies in one page.
    fn span(&self, offset: u64, len: usize) -> Result<Span, Error> {
        let outside = || Error::Outside {
            owner: self.owner,
            offset,
            len,
        };
        let end = offset.checked_add(len as u64).ok_or_else(outside)?;
        if end > self.len {
            return Err(outside());
        }
        let at = self.offset + offset;
        let page = usize::try_from(at >> self.page_shift).map_err(|_| outside())?;
        let within = at & ((1 << self.page_shift) - 1);
        let addr = self.pages.get(page).ok_or_else(outside)?;
        let room = usize::try_from((1 << self.page_shift) - within).unwrap_or(usize::MAX);
        let addr = addr.wrapping_add(within);
        Ok(Span::new(self.owner, addr, len.min(room)))
    }
}

/// Memory in one piece that an object justifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    owner: Owner,
    addr: u64,
    len: usize,
}

impl Span {
    fn error(self, source: fabric::Error) -> Error {
        Error::Dma {
            owner: self.owner,
            source,
        }
    }

    /// `len` bytes at `addr` for `owner`.
    pub fn new(owner: Owner, addr: u64, len: usize) -> Self {
        Self { owner, addr, len }
    }

    /// Its address on the bus.
    #[cfg(test)]
    pub fn addr(self) -> u64 {
        self.addr
    }

    /// Its bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Bytes up to the end of the page in which it begins.
    pub fn in_page(self) -> usize {
        let within = self.addr.to_le_bytes();
        PAGE - usize::from(u16::from_le_bytes([within[0], within[1]])) % PAGE
    }

    /// Its first `len` bytes, of which it has as many.
    pub fn front(self, len: usize) -> Self {
        Self {
            len: len.min(self.len),
            ..self
        }
    }

    fn end(self, want: Option<Want>) -> End {
        End {
            addr: self.addr,
            want,
            object: Some(self.owner.into()),
        }
    }
}

/// The hint of a memory key, as its context has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHint {
    /// How the data is about to be used.
    pub ph: Ph,
    /// Index of an entry of the ST table, of which 0 stands for none and so for tag 0. An adapter
    /// without a table takes it for the tag.
    pub index: u8,
}

/// Sends the device's requests.
pub struct Dma {
    requester: Requester,
    /// The device has an ST table.
    table: bool,
    /// Counts its calls, each of which sends one or more.
    sent: Arc<AtomicU64>,
    /// Takes what was refused since no object justifies it.
    pub complaints: Complaints,
}

impl Dma {
    pub fn new(
        requester: Requester,
        table: bool,
        sent: Arc<AtomicU64>,
        complaints: Complaints,
    ) -> Self {
        Self {
            requester,
            table,
            sent,
            complaints,
        }
    }

    /// The front of `len` bytes at `offset` of `buffer` that lies in one page.
    fn span(&self, buffer: &Buffer, offset: u64, len: usize) -> Result<Span, Error> {
        buffer
            .span(offset, len)
            .inspect_err(|error| self.complaints.add(error.to_string()))
    }

    /// What requests through a key with this `hint` are to carry. Without tags they carry PH alone:
    /// where they go is advice.
    pub fn want(&self, hint: Option<KeyHint>) -> Option<Want> {
        let KeyHint { ph, index } = hint?;
        let source = match index {
            1.. if self.table => TagSource::Entry(index.into()),
            _ => TagSource::Literal(index.into()),
        };
        Some(Want {
            ph,
            source,
            width: Width::Enabled,
            exact: false,
        })
    }

    /// Fills `data` from the front of `span`.
    pub fn read_span(&self, span: Span, data: &mut [u8], want: Option<Want>) -> Result<(), Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let read = self
            .requester
            .read_all(span.addr, data, want, Some(span.owner.into()));
        read.map_err(|source| span.error(source))
    }

    /// Writes `data` to the front of `span`.
    pub fn write_span(&self, span: Span, data: &[u8], want: Option<Want>) -> Result<(), Error> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let written = self
            .requester
            .write_all(span.addr, data, want, Some(span.owner.into()));
        written.map_err(|source| span.error(source))
    }

    /// Copies all of `from`, and as many bytes go to the front of `to`.
    pub fn copy(
        &self,
        (from, read): (Span, Option<Want>),
        (to, write): (Span, Option<Want>),
    ) -> Result<(), CopyError> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let len = from.len as u64;
        let copied = self.requester.copy(from.end(read), to.end(write), len);
        copied.map_err(|error| match error {
            fabric::CopyError::Source(source) => CopyError::Source(from.error(source)),
            fabric::CopyError::Target(source) => CopyError::Target(to.error(source)),
        })
    }

    /// Fills `data` from `offset` of `buffer` on.
    pub fn read(&self, buffer: &Buffer, offset: u64, data: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let span = self.span(buffer, offset + done as u64, data.len() - done)?;
            let end = done + span.len;
            self.read_span(span, &mut data[done..end], None)?;
            done = end;
        }
        Ok(())
    }

    /// Writes `data` to `offset` of `buffer`.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let span = self.span(buffer, offset + done as u64, data.len() - done)?;
            let end = done + span.len;
            self.write_span(span, &data[done..end], None)?;
            done = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner::Cq(5);

    #[test]
    fn an_index_is_an_entry_or_the_tag() {
        let fabric = fabric::Fabric::new(tlp::Mode::Flit, fabric::trace::Tap::discard());
        let id = tlp::Bdf::new(0, 1, 0);
        let port = fabric.attach("adapter", id, None).unwrap();
        let dma = |table| {
            let (sent, complaints) = (Arc::default(), Complaints::default());
            Dma::new(port.requester(id), table, sent, complaints)
        };
        let source = |table, index| {
            let ph = Ph::Target;
            let want = dma(table).want(Some(KeyHint { ph, index })).unwrap();
            assert_eq!(
                (want.ph, want.width, want.exact),
                (ph, Width::Enabled, false)
            );
            want.source
        };
        assert_eq!(source(true, 5), TagSource::Entry(5));
        assert_eq!(source(true, 0), TagSource::Literal(0), "no entry");
        assert_eq!(source(false, 5), TagSource::Literal(5));
        assert_eq!(source(false, 0), TagSource::Literal(0));
        assert_eq!(dma(true).want(None), None);
    }

    #[test]
    fn a_buffer_is_where_its_pages_are() {
        let buffer = Buffer::paged(OWNER, &[0x7000, 0x3000, 0x9000], 0, 1, 0x2000).unwrap();
        let span = |buffer: &Buffer, offset, len| {
            let span = buffer.span(offset, len).unwrap();
            (span.addr, span.len)
        };
        assert_eq!(span(&buffer, 0, 8), (0x7040, 8));
        assert_eq!(span(&buffer, 0xfc0, 8), (0x3000, 8));
        assert_eq!(span(&buffer, 0xfb8, 16), (0x7ff8, 8));
        assert_eq!(span(&buffer, 0x1ff8, 8), (0x9038, 8));
        for (offset, len) in [(0x1ff8, 9), (0x2000, 1), (u64::MAX, 2)] {
            assert!(matches!(
                buffer.span(offset, len),
                Err(Error::Outside { owner: OWNER, .. })
            ));
        }
        let one = Buffer::contiguous(OWNER, 0xffff_f000, 16);
        assert_eq!(span(&one, 8, 8), (0xffff_f008, 8));
        assert!(one.span(8, 9).is_err());
    }

    #[test]
    fn a_buffer_has_its_pages() {
        assert!(Buffer::paged(OWNER, &[0; 2], 0, 0, 0x2000).is_some());
        assert!(Buffer::paged(OWNER, &[0; 2], 0, 1, 0x2000).is_none());
        assert!(Buffer::paged(OWNER, &[], 0, 0, 1).is_none());
        assert!(Buffer::paged(OWNER, &[0; 2], 0, u64::MAX, 1).is_none());
        assert!(Buffer::paged(OWNER, &[0; 2], 51, 0, 1).is_none());
    }

    #[test]
    fn the_offset_is_a_part_of_the_page() {
        let buffer = Buffer::paged(OWNER, &[0x10_0000], 3, 0x18, 0x1000).unwrap();
        assert_eq!(buffer.span(0, 8).unwrap().addr, 0x10_3000);
    }
}
