// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scatter and gather: messages in memory that data segments name by its keys.

use crate::dma::{Dma, PAGE, Span};
use crate::error::{CopyError, Error, ProtectionError};
use crate::mkey::{Access, Mkey};
use crate::table::Table;
use crate::wqe::{DataSegment, Sge};
use fabric::{MAX_RUN, Want};

/// What reads and writes the memory of keys.
#[derive(Clone, Copy)]
pub struct ScatterGather<'a> {
    pub dma: &'a Dma,
    pub mkeys: &'a Table<Mkey>,
}

impl ScatterGather<'_> {
    fn mkey(&self, key: u32) -> Result<&Mkey, ProtectionError> {
        self.mkeys.get(key >> 8).ok_or(ProtectionError::Key)
    }

    /// Whether all of `segments` may be accessed so by domain `pd`; their bytes.
    pub fn permit(
        &self,
        segments: &[DataSegment],
        pd: u32,
        access: Access,
    ) -> Result<u64, ProtectionError> {
        let mut total = 0u64;
        for segment in segments {
            // Nothing is accessed by an empty segment, whatever its key.
            if let DataSegment::Sge(sge @ Sge { len: 1.., .. }) = segment {
                self.mkey(sge.key)?
                    .permit(sge.key, pd, sge.addr, sge.len, access)?;
            }
            total = total
                .checked_add(segment.len())
                .ok_or(ProtectionError::Bounds)?;
        }
        Ok(total)
    }

    /// Fills `data` from byte `at` of `segments` on, which are permitted and long enough.
    pub fn read(&self, segments: &[DataSegment], at: u64, data: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let len = match place(segments, at + done as u64)? {
                Place::Inline(bytes) => {
                    let len = bytes.len().min(data.len() - done);
                    data[done..done + len].copy_from_slice(&bytes[..len]);
                    len
                }
                Place::Sge(sge) => {
                    let mkey = self.mkey(sge.key)?;
                    let len = at_most(sge.len, data.len() - done);
                    let span = mkey.span(sge.addr, len, false)?;
                    let end = done + span.len();
                    self.dma
                        .read_span(span, &mut data[done..end], self.dma.want(mkey.hint()))?;
                    span.len()
                }
            };
            done += len;
        }
        Ok(())
    }

    /// Writes `data` to byte `at` of `segments`, which are permitted and long enough.
    pub fn write(&self, segments: &[DataSegment], at: u64, data: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let Place::Sge(sge) = place(segments, at + done as u64)? else {
                return Err(ProtectionError::Right.into());
            };
            let mkey = self.mkey(sge.key)?;
            let len = at_most(sge.len, data.len() - done);
            let span = mkey.span(sge.addr, len, true)?;
            let end = done + span.len();
            self.dma
                .write_span(span, &data[done..end], self.dma.want(mkey.hint()))?;
            done = end;
        }
        Ok(())
    }

    /// Copies the first `len` bytes of `source` to byte `at` of `target`; both are permitted and long
    /// enough. If it fails, part of it may have been copied.
    pub fn copy(
        &self,
        source: &[DataSegment],
        target: &[DataSegment],
        at: u64,
        len: u64,
    ) -> Result<(), CopyError> {
        let mut bytes = [0; PAGE];
        let mut done = 0;
        while done < len {
            let left = len - done;
            if let Some((from, to)) = self.runs((source, done), (target, at + done), left) {
                self.dma.copy(from, to)?;
                done += from.0.len() as u64;
                continue;
            }
            // Piece by piece, and cut where a TLP of the target is cut anyway.
            let room = match place(target, at + done) {
                Ok(Place::Sge(sge)) => PAGE - in_page(sge.addr),
                Ok(Place::Inline(_)) => PAGE,
                Err(error) => return Err(CopyError::Target(error.into())),
            };
            let bytes = &mut bytes[..at_most(left, room)];
            self.read(source, done, bytes).map_err(CopyError::Source)?;
            self.write(target, at + done, bytes)
                .map_err(CopyError::Target)?;
            done += bytes.len() as u64;
        }
        Ok(())
    }

    /// Memory in one piece at both places, as much of `left` bytes as there is up to the end of a
    /// page of the target; none if that is less than a page.
    fn runs(&self, source: At<'_>, target: At<'_>, left: u64) -> Option<(Run, Run)> {
        let most = at_most(left, MAX_RUN);
        let ((from, read), (to, write)) = (
            self.run(source, most, false)?,
            self.run(target, most, true)?,
        );
        let len = from.len().min(to.len());
        let first = to.in_page().min(most);
        // What is left of the last page.
        let rest = if len as u64 == left {
            0
        } else {
            len.checked_sub(first)? % PAGE
        };
        let len = len - rest;
        (len >= first).then(|| ((from.front(len), read), (to.front(len), write)))
    }

    /// The memory in one piece at a place, and the hint of requests for it; none if something is
    /// inline, or not there.
    fn run(&self, (segments, at): At<'_>, left: usize, write: bool) -> Option<Run> {
        let Ok(Place::Sge(sge)) = place(segments, at) else {
            return None;
        };
        let mkey = self.mkey(sge.key).ok()?;
        let span = mkey.span(sge.addr, at_most(sge.len, left), write).ok()?;
        Some((span, self.dma.want(mkey.hint())))
    }
}

/// A byte of a message.
type At<'a> = (&'a [DataSegment], u64);

/// Memory in one piece, and the hint of requests for it.
type Run = (Span, Option<Want>);

fn in_page(addr: u64) -> usize {
    // Less than a page.
    #[allow(clippy::cast_possible_truncation)]
    let within = (addr % PAGE as u64) as usize;
    within
}

fn at_most(available: u64, wanted: usize) -> usize {
    usize::try_from(available).unwrap_or(usize::MAX).min(wanted)
}

/// Where a byte of a message is, with all that follows it in its segment.
enum Place<'a> {
    Inline(&'a [u8]),
    Sge(Sge),
}

fn place(segments: &[DataSegment], mut at: u64) -> Result<Place<'_>, ProtectionError> {
    for segment in segments {
        if at >= segment.len() {
            at -= segment.len();
            continue;
        }
        return Ok(match segment {
            DataSegment::Inline(bytes) => {
                Place::Inline(&bytes[usize::try_from(at).map_err(|_| ProtectionError::Bounds)?..])
            }
            DataSegment::Sge(sge) => Place::Sge(Sge {
                key: sge.key,
                addr: sge.addr.wrapping_add(at),
                len: sge.len - at,
            }),
        });
    }
    Err(ProtectionError::Bounds)
}
