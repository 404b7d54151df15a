// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending requests.

use crate::{DmaError, Fabric, Want, send::Egress, state::State, trace::Object};
use std::sync::MutexGuard;
use tlp::Bdf;

/// Sends one function's requests.
///
/// [`Requester::write`] and the reads send one request TLP, so that the caller can count them and stop
/// between two of them. All calls check the gates (reset, Bus Master Enable) with the fabric's lock held. Behind an IOMMU
/// they may wait for a translation, so they must not be made from a region callback.
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
    pub fn write(&self, addr: u64, data: &[u8], want: Option<Want>) -> Result<usize, DmaError> {
        self.egress(addr, None)?.write(addr, data, want)
    }

    /// Emits one memory read at `addr` for the front of `data`; returns how many bytes came back.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> Result<usize, DmaError> {
        self.read_with(addr, data, None)
    }

    /// As [`Requester::read`], with a hint. A hinted read asks for whole DWs.
    pub fn read_with(
        &self,
        addr: u64,
        data: &mut [u8],
        want: Option<Want>,
    ) -> Result<usize, DmaError> {
        self.egress(addr, None)?.read(addr, data, want)
    }

    /// Emits memory writes for all of `data`, as [`Requester::write`] emits one.
    ///
    /// It stops at the first that cannot be sent. Others send, and gates close, between two pages. The
    /// trace says that they are for `object`.
    pub fn write_all(
        &self,
        addr: u64,
        data: &[u8],
        want: Option<Want>,
        object: Option<Object>,
    ) -> Result<(), DmaError> {
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
    /// It stops at the first that fails; what `data` holds then is not said. The trace says that they
    /// are for `object`.
    pub fn read_all(
        &self,
        addr: u64,
        data: &mut [u8],
        want: Option<Want>,
        object: Option<Object>,
    ) -> Result<(), DmaError> {
        let mut done = 0;
        while done < data.len() {
            let at = addr.wrapping_add(done as u64);
            let mut egress = self.egress(at, object)?;
            done += egress.read_page(at, &mut data[done..], want)?;
        }
        Ok(())
    }

    /// The fabric, ready to take a request to `addr` for `object`.
    fn egress(&self, addr: u64, object: Option<Object>) -> Result<Egress<'_>, DmaError> {
        let mut state = self.translated(addr)?;
        state.tap.tick(object)?;
        Ok(Egress::new(state, self.port, self.id))
    }

    /// The fabric, locked and with the gates open, and the translation for `addr` known.
    fn translated(&self, addr: u64) -> Result<MutexGuard<'_, State>, DmaError> {
        loop {
            let state = self.fabric.lock();
            let port = &state.ports[self.port];
            if port.epoch != self.epoch {
                return Err(DmaError::Reset);
            }
            if !port.bus_master {
                return Err(DmaError::BusMasterOff);
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
                .map_err(|source| DmaError::Translate { addr, source })?;
            self.fabric.lock().ports[self.port]
                .memory
                .learn(page, translation);
        }
    }
}
