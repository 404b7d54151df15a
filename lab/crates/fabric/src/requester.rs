// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending requests.

use crate::{Error, Fabric, Want, send::Egress, split, state::State, trace::Object};
use std::sync::MutexGuard;
use tlp::Bdf;

/// Bytes that one call of [`Requester::copy`] moves at most before it lets others send.
pub const MAX_RUN: usize = 256 << 10;

const PAGE: usize = 4096;

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Byte address of its first byte.
    pub addr: u64,
    /// The hint that its requests are to carry.
    pub want: Option<Want>,
    /// What the trace says that they are for.
    pub object: Option<Object>,
}

impl End {
    fn behind(self, bytes: u64) -> Self {
        let addr = self.addr.wrapping_add(bytes);
        Self { addr, ..self }
    }
}

/// At which end a copy failed, and why.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It could not be read.
    #[error("at its source: {0}")]
    Source(#[source] Error),
    /// It could not be written.
    #[error("at its target: {0}")]
    Target(#[source] Error),
}

/// Sends one function's requests.
///
/// [`Requester::write`] and the reads send one request TLP, so that the caller can count them and
/// stop between two of them. All calls check the gates (reset, Bus Master Enable) with the fabric's
/// lock held. Behind an IOMMU they may wait for a translation, so they must not be made from a
/// region callback.
pub struct Requester {
    fabric: Fabric,
    port: usize,
    epoch: u64,
    id: Bdf,
}

impl Requester {
    pub(crate) const fn new(fabric: Fabric, port: usize, epoch: u64, id: Bdf) -> Self {
        Self {
            fabric,
            port,
            epoch,
            id,
        }
    }

    /// Emits one memory write for the front of `data` at `addr`; returns how many bytes it took.
    ///
    /// `Ok` means that the TLP was sent. Writes are posted: that nobody took it shows in the trace
    /// only.
    pub fn write(&self, addr: u64, data: &[u8], want: Option<Want>) -> Result<usize, Error> {
        self.egress(addr, None)?.write(addr, data, want)
    }

    /// As [`Requester::write`], for a model that tells its driver what became of the hint: says also
    /// whether the write has one.
    pub fn write_hinted(&self, addr: u64, data: &[u8], want: Want) -> Result<(usize, bool), Error> {
        let mut egress = self.egress(addr, None)?;
        let has_hint = egress.hint(Some(want)).is_some();
        Ok((egress.write(addr, data, Some(want))?, has_hint))
    }

    /// Emits one memory read at `addr` for the front of `data`; returns how many bytes came back.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> Result<usize, Error> {
        self.read_with(addr, data, None)
    }

    /// As [`Requester::read`], with a hint. In non-flit mode a hinted read asks for whole DWs.
    pub fn read_with(
        &self,
        addr: u64,
        data: &mut [u8],
        want: Option<Want>,
    ) -> Result<usize, Error> {
        self.egress(addr, None)?.read(addr, data, want)
    }

    /// Emits memory writes for all of `data`, as [`Requester::write`] emits one.
    ///
    /// It stops at the first that cannot be sent. Others send, and gates close, between two pages.
    /// The trace says that they are for `object`.
    pub fn write_all(
        &self,
        addr: u64,
        data: &[u8],
        want: Option<Want>,
        object: Option<Object>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let at = addr.wrapping_add(done as u64);
            let mut egress = self.egress(at, object)?;
            done += egress.write_page(at, &data[done..], want)?;
        }
        Ok(())
    }

    /// Emits memory reads for all of `data`, as [`Requester::read_with`] emits one.
    ///
    /// It stops at the first that fails; what `data` holds then is not said. The trace says that
    /// they are for `object`.
    pub fn read_all(
        &self,
        addr: u64,
        data: &mut [u8],
        want: Option<Want>,
        object: Option<Object>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < data.len() {
            let at = addr.wrapping_add(done as u64);
            let mut egress = self.egress(at, object)?;
            done += egress.read_page(at, &mut data[done..], want)?;
        }
        Ok(())
    }

    /// Copies `len` bytes at `from` to `to`: emits memory reads for what goes to one page of `to`,
    /// and then writes for it, page by page.
    ///
    /// It stops at the first request that cannot be sent or fails; some of the target may have been
    /// written then. Where nothing is recorded, and both are guest memory, the data is moved once,
    /// and others send, and gates close, after each [`MAX_RUN`] bytes.
    pub fn copy(&self, from: End, to: End, len: u64) -> Result<(), CopyError> {
        // What is read must not have been written yet, or by the page before, as it is recorded.
        let overlap = from.addr.abs_diff(to.addr) < len;
        let mut bytes = [0; PAGE];
        let mut done = 0;
        while done < len {
            let (from, to) = (from.behind(done), to.behind(done));
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            let page = split::request_len(to.addr, left, PAGE);
            let run = if overlap {
                page
            } else {
                split::run_len(to.addr, left, MAX_RUN)
            };
            if self.copy_memory(from, to, run).map_err(CopyError::Source)? {
                done += run as u64;
                continue;
            }
            let bytes = &mut bytes[..page];
            self.read_all(from.addr, bytes, from.want, from.object)
                .map_err(CopyError::Source)?;
            self.write_all(to.addr, bytes, to.want, to.object)
                .map_err(CopyError::Target)?;
            done += page as u64;
        }
        Ok(())
    }

    /// Copies `len` bytes if they are not recorded, and come from guest memory and go there.
    fn copy_memory(&self, from: End, to: End, len: usize) -> Result<bool, Error> {
        let state = self.translated(from.addr)?;
        let mut egress = Egress::new(state, self.port, self.id);
        egress.copy((from.addr, from.want), (to.addr, to.want), len)
    }

    /// The fabric, ready to take a request to `addr` for `object`.
    fn egress(&self, addr: u64, object: Option<Object>) -> Result<Egress<'_>, Error> {
        let mut state = self.translated(addr)?;
        state.tap.tick(object)?;
        Ok(Egress::new(state, self.port, self.id))
    }

    /// The fabric, locked and with the gates open, and the translation for `addr` known.
    fn translated(&self, addr: u64) -> Result<MutexGuard<'_, State>, Error> {
        loop {
            let state = self.fabric.lock();
            let port = &state.ports[self.port];
            if port.epoch != self.epoch {
                return Err(Error::Reset);
            }
            if !port.bus_master {
                return Err(Error::BusMasterOff);
            }
            let Some(iommu) = &state.iommu else {
                return Ok(state);
            };
            let Some(page) = port.memory.unknown(self.id, addr) else {
                return Ok(state);
            };
            let iommu = iommu.clone();
            // The client may need the fabric before it can answer.
            drop(state);
            let translation = iommu
                .translate(self.id, page.addr)
                .map_err(|source| Error::Translate { addr, source })?;
            self.fabric.lock().ports[self.port]
                .memory
                .learn(page, translation);
        }
    }
}
