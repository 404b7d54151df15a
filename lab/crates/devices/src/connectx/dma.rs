// SPDX-License-Identifier: MIT OR Apache-2.0
//! DMA that a live object justifies.
//!
//! There is no way to address memory but through a [`Buffer`], and a buffer belongs to the object
//! that the driver gave it to: it ends with the object. A device that writes into memory that was
//! given back would make the guest crash far from the cause.

use fabric::{DmaError, Requester};
use std::fmt::{self, Display, Formatter};
use thiserror::Error;
use tlp::Hint;

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The command queue.
    CommandQueue,
    /// A command, by its entry.
    Command(usize),
    /// An event queue.
    Eq(u32),
    /// A completion queue.
    Cq(u32),
    /// A shared receive queue.
    Srq(u32),
    /// A queue pair.
    Qp(u32),
    /// A memory key.
    Mkey(u32),
}

impl Display for Owner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandQueue => f.write_str("command queue"),
            Self::Command(entry) => write!(f, "command in entry {entry}"),
            Self::Eq(number) => write!(f, "EQ {number}"),
            Self::Cq(number) => write!(f, "CQ {number}"),
            Self::Srq(number) => write!(f, "SRQ {number}"),
            Self::Qp(number) => write!(f, "QP {number}"),
            Self::Mkey(index) => write!(f, "mkey {index:#x}"),
        }
    }
}

/// Why memory was not accessed.
#[derive(Debug, Error)]
pub enum Fault {
    /// The object has no such bytes.
    #[error("{owner} has no {len} bytes at {offset:#x}")]
    Outside {
        /// The object.
        owner: Owner,
        /// Where in its buffer.
        offset: u64,
        /// How many.
        len: usize,
    },
    /// The fabric did not carry it.
    #[error("{owner}: {source}")]
    Fabric {
        /// The object.
        owner: Owner,
        /// Why.
        source: DmaError,
    },
}

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

    /// `len` bytes from `offset` on in `pages`, which have 2^`page_shift` bytes each; none if there are
    /// too few of them, or what is said of them makes no sense.
    pub fn paged(
        owner: Owner,
        pages: &[u64],
        page_shift: u32,
        offset: u64,
        len: u64,
    ) -> Option<Self> {
        if page_shift >= 63 {
            return None;
        }
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

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The piece at `offset` of up to `len` bytes that lies in one page: address and length.
    fn piece(&self, offset: u64, len: usize) -> Result<(u64, usize), Fault> {
        let outside = || Fault::Outside {
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
        Ok((addr.wrapping_add(within), len.min(room)))
    }
}

/// Sends the device's requests.
pub struct Dma(Requester);

impl Dma {
    pub fn new(requester: Requester) -> Self {
        Self(requester)
    }

    /// Fills `data` from `offset` of `buffer` on.
    pub fn read(&self, buffer: &Buffer, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0;
        while done < data.len() {
            let (addr, len) = buffer.piece(offset + done as u64, data.len() - done)?;
            let part = &mut data[done..done + len];
            done += self.0.read(addr, part).map_err(|source| Fault::Fabric {
                owner: buffer.owner,
                source,
            })?;
        }
        Ok(())
    }

    /// Writes `data` to `offset` of `buffer`.
    pub fn write(
        &self,
        buffer: &Buffer,
        offset: u64,
        data: &[u8],
        hint: Option<Hint>,
    ) -> Result<(), Fault> {
        let mut done = 0;
        while done < data.len() {
            let (addr, len) = buffer.piece(offset + done as u64, data.len() - done)?;
            let part = &data[done..done + len];
            done += self
                .0
                .write(addr, part, hint)
                .map_err(|source| Fault::Fabric {
                    owner: buffer.owner,
                    source,
                })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner::Cq(5);

    #[test]
    fn a_buffer_is_where_its_pages_are() {
        let buffer = Buffer::paged(OWNER, &[0x7000, 0x3000, 0x9000], 12, 0x40, 0x2000).unwrap();
        assert_eq!(buffer.piece(0, 8).unwrap(), (0x7040, 8));
        assert_eq!(buffer.piece(0xfc0, 8).unwrap(), (0x3000, 8));
        assert_eq!(buffer.piece(0xfb8, 16).unwrap(), (0x7ff8, 8));
        assert_eq!(buffer.piece(0x1ff8, 8).unwrap(), (0x9038, 8));
        for (offset, len) in [(0x1ff8, 9), (0x2000, 1), (u64::MAX, 2)] {
            assert!(matches!(
                buffer.piece(offset, len),
                Err(Fault::Outside { owner: OWNER, .. })
            ));
        }
        let one = Buffer::contiguous(OWNER, 0xffff_f000, 16);
        assert_eq!(one.piece(8, 8).unwrap(), (0xffff_f008, 8));
        assert!(one.piece(8, 9).is_err());
    }

    #[test]
    fn a_buffer_has_its_pages() {
        assert!(Buffer::paged(OWNER, &[0; 2], 12, 0, 0x2000).is_some());
        assert!(Buffer::paged(OWNER, &[0; 2], 12, 1, 0x2000).is_none());
        assert!(Buffer::paged(OWNER, &[], 12, 0, 1).is_none());
        assert!(Buffer::paged(OWNER, &[0; 2], 12, u64::MAX, 1).is_none());
        assert!(Buffer::paged(OWNER, &[0; 2], 63, 0, 1).is_none());
    }
}
