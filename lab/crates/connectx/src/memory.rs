// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages in the memory of keys.

use crate::dma::Dma;
use crate::error::{CopyError, Error, ProtectionError};
use crate::mkey::{Access, Mkey};
use crate::table::Table;
use crate::wqe::{Piece, Range};

/// Bytes that are on their way at a time, at most: what no TLP exceeds.
const CHUNK: usize = 0x1000;

/// What can be reached by keys.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    pub dma: &'a Dma,
    pub mkeys: &'a Table<Mkey>,
}

impl Memory<'_> {
    fn mkey(&self, key: u32) -> Result<&Mkey, ProtectionError> {
        self.mkeys.get(key >> 8).ok_or(ProtectionError::Key)
    }

    /// Whether all of `pieces` may be accessed so by domain `pd`; their bytes.
    pub fn permit(
        &self,
        pieces: &[Piece],
        pd: u32,
        access: Access,
    ) -> Result<u64, ProtectionError> {
        let mut total = 0u64;
        for piece in pieces {
            // Nothing is accessed by an empty piece, whatever its key.
            if let Piece::Memory(range @ Range { len: 1.., .. }) = piece {
                self.mkey(range.key)?
                    .permit(range.key, pd, range.addr, range.len, access)?;
            }
            total = total
                .checked_add(piece.len())
                .ok_or(ProtectionError::Bounds)?;
        }
        Ok(total)
    }

    /// Fills `data` from byte `at` of `pieces` on, which are permitted and long enough.
    pub fn read(&self, pieces: &[Piece], at: u64, data: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let len = match place(pieces, at + done as u64)? {
                Place::Inline(bytes) => {
                    let len = bytes.len().min(data.len() - done);
                    data[done..done + len].copy_from_slice(&bytes[..len]);
                    len
                }
                Place::Memory(range) => {
                    let mkey = self.mkey(range.key)?;
                    let len = piece_of(range.len, data.len() - done);
                    let span = mkey.span(range.addr, len, false)?;
                    let end = done + span.len();
                    self.dma
                        .read_span(span, &mut data[done..end], mkey.want())?;
                    span.len()
                }
            };
            done += len;
        }
        Ok(())
    }

    /// Writes `data` to byte `at` of `pieces`, which are permitted and long enough.
    pub fn write(&self, pieces: &[Piece], at: u64, data: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let Place::Memory(range) = place(pieces, at + done as u64)? else {
                return Err(ProtectionError::Right.into());
            };
            let mkey = self.mkey(range.key)?;
            let len = piece_of(range.len, data.len() - done);
            let span = mkey.span(range.addr, len, true)?;
            let end = done + span.len();
            self.dma.write_span(span, &data[done..end], mkey.want())?;
            done = end;
        }
        Ok(())
    }

    /// Copies the first `len` bytes of `source` to byte `at` of `target`; both are permitted and long
    /// enough. If it fails, part of it may have been copied.
    pub fn copy(
        &self,
        source: &[Piece],
        target: &[Piece],
        at: u64,
        len: u64,
    ) -> Result<(), CopyError> {
        let mut bytes = [0; CHUNK];
        let mut done = 0;
        while done < len {
            // Cut where a TLP of the target is cut anyway.
            let room = match place(target, at + done) {
                Ok(Place::Memory(range)) => CHUNK - in_page(range.addr),
                Ok(Place::Inline(_)) => CHUNK,
                Err(error) => return Err(CopyError::Target(error.into())),
            };
            let chunk = &mut bytes[..piece_of(len - done, room)];
            self.read(source, done, chunk).map_err(CopyError::Source)?;
            self.write(target, at + done, chunk)
                .map_err(CopyError::Target)?;
            done += chunk.len() as u64;
        }
        Ok(())
    }
}

fn in_page(addr: u64) -> usize {
    // Less than a page.
    #[allow(clippy::cast_possible_truncation)]
    let within = (addr % CHUNK as u64) as usize;
    within
}

fn piece_of(available: u64, wanted: usize) -> usize {
    usize::try_from(available).unwrap_or(usize::MAX).min(wanted)
}

/// Where a byte of a message is, with all that follows it in its piece.
enum Place<'a> {
    Inline(&'a [u8]),
    Memory(Range),
}

fn place(pieces: &[Piece], mut at: u64) -> Result<Place<'_>, ProtectionError> {
    for piece in pieces {
        if at >= piece.len() {
            at -= piece.len();
            continue;
        }
        return Ok(match piece {
            Piece::Inline(bytes) => {
                Place::Inline(&bytes[usize::try_from(at).map_err(|_| ProtectionError::Bounds)?..])
            }
            Piece::Memory(range) => Place::Memory(Range {
                key: range.key,
                addr: range.addr.wrapping_add(at),
                len: range.len - at,
            }),
        });
    }
    Err(ProtectionError::Bounds)
}
