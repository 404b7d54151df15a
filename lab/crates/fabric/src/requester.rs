// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending requests.

use crate::{DmaError, Fabric, state::State};
use std::sync::MutexGuard;
use tlp::{Bdf, Hint};

/// Sends one function's requests.
///
/// One call sends one request TLP, so that the caller can count them and stop between two of them.
/// Both calls check the gates (reset, Bus Master Enable) with the fabric's lock held.
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
    pub fn write(&self, addr: u64, data: &[u8], hint: Option<Hint>) -> Result<usize, DmaError> {
        self.egress()?.write(self.port, self.id, addr, data, hint)
    }

    /// Emits one memory read at `addr` for the front of `data`; returns how many bytes came back.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> Result<usize, DmaError> {
        self.egress()?.read(self.port, self.id, addr, data)
    }

    fn egress(&self) -> Result<MutexGuard<'_, State>, DmaError> {
        let state = self.fabric.lock();
        let port = &state.ports[self.port];
        if port.epoch != self.epoch {
            return Err(DmaError::Reset);
        }
        if !port.bus_master {
            return Err(DmaError::BusMasterOff);
        }
        Ok(state)
    }
}
