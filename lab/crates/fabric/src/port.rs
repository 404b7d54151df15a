// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fabric, and what a function tells it.

use crate::{
    Completer, Error, Iommu, NoHint, Requester, Tph, Want,
    hint::Gate,
    state::{PortState, State},
    trace::Tap,
};
use std::{
    fs::File,
    sync::{Arc, Mutex, MutexGuard},
};
use tlp::{Bdf, Hint, Mode};

/// Senders that the trace format can number, the host not counted.
const MAX_PORTS: usize = 0xfe;

/// A fabric; clones are handles of the same one.
#[derive(Clone)]
pub struct Fabric(Arc<Mutex<State>>);

impl Fabric {
    /// A fabric without endpoints, whose links all run in `mode`.
    #[must_use]
    pub fn new(mode: Mode, tap: Tap) -> Self {
        Self(Arc::new(Mutex::new(State::new(mode, tap, None))))
    }

    /// A fabric without endpoints whose root complex has an IOMMU.
    #[must_use]
    pub fn with_iommu(mode: Mode, tap: Tap, iommu: Arc<dyn Iommu>) -> Self {
        Self(Arc::new(Mutex::new(State::new(mode, tap, Some(iommu)))))
    }

    /// Attaches a function under `name`, as traces call it.
    ///
    /// `id` is its completer id. Without a `completer` none of its BARs can be reached by peers.
    /// Everything is off until the port is told otherwise.
    pub fn attach(
        &self,
        name: &str,
        id: Bdf,
        completer: Option<Arc<dyn Completer>>,
    ) -> Result<Port, Error> {
        let mut state = self.lock();
        if state.tap.has_sender(name) {
            return Err(Error::NameTaken(name.to_owned()));
        }
        let number = state.ports.len();
        if number >= MAX_PORTS {
            return Err(Error::Full(MAX_PORTS));
        }
        state.tap.add_sender(name)?;
        state.ports.push(PortState::new(id, completer));
        Ok(Port {
            fabric: self.clone(),
            number,
        })
    }

    /// # Panics
    /// If a thread panicked while it held the lock: the state is not to be trusted then.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Which one it was, and over what, is in its own message.
        self.0
            .lock()
            .expect("the fabric's state is unusable: an earlier panic left it half changed")
    }
}

/// Sizes of packets that a function may send, from its Device Control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Max_Payload_Size, bytes: a power of two, 128..=4096.
    pub max_payload: usize,
    /// Max_Read_Request_Size, bytes: a power of two, 128..=4096.
    pub max_read_request: usize,
    /// Extended Tag Field Enable: transaction tags have 8 bits, not 5.
    pub extended_tag: bool,
}

/// The values after reset that the PCIe specification gives.
impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 128,
            max_read_request: 512,
            extended_tag: false,
        }
    }
}

/// A function's place on the fabric: through it the function's configuration space reaches the
/// fabric.
pub struct Port {
    fabric: Fabric,
    number: usize,
}

impl Port {
    /// COMMAND: Bus Master Enable and Memory Space Enable.
    pub fn set_command(&self, bus_master: bool, memory_enable: bool) {
        let mut state = self.fabric.lock();
        let port = &mut state.ports[self.number];
        port.bus_master = bus_master;
        port.memory_enable = memory_enable;
        state.place_bars();
    }

    /// Device Control: sizes of packets.
    pub fn set_limits(&self, limits: Limits) {
        self.with(|port| port.limits = limits);
    }

    /// TPH Requester capability and control register: what the gate for hints goes by. A function
    /// without the capability sends none.
    pub fn set_tph(&self, tph: Option<Tph>) {
        self.with(|port| port.gate = Gate::new(tph));
    }

    /// What the gate would make of `want` now, for a model that reports it to its driver. What is
    /// sent later has the hint that is allowed then.
    pub fn hint(&self, want: Want) -> Result<Hint, NoHint> {
        self.with(|port| port.gate.hint(want))
    }

    /// Places BAR `bar` (0..=5) at `addr`, `size` bytes long.
    ///
    /// A range that ends beyond the address space (a BAR that is being sized) is not placed.
    pub fn set_bar(&self, bar: usize, addr: u64, size: u64) {
        let mut state = self.fabric.lock();
        state.ports[self.number].bars[bar] = addr.checked_add(size).map(|end| addr..end);
        state.place_bars();
    }

    /// Maps guest memory for this function's DMA: `size` bytes of `file` from `offset` on, which
    /// it addresses at `addr`.
    pub fn map_memory(
        &self,
        addr: u64,
        size: u64,
        file: File,
        offset: u64,
        writable: bool,
    ) -> Result<(), Error> {
        self.with(|port| port.memory.insert(addr, size, file, offset, writable))
    }

    /// Maps something for this function's DMA that is no shared memory: a ROM or somebody's BAR.
    ///
    /// It matters behind an IOMMU only, which says what it is; else BARs are where they are placed.
    pub fn map_device(&self, addr: u64, size: u64, writable: bool) -> Result<(), Error> {
        let mut state = self.fabric.lock();
        if state.iommu.is_none() {
            return Ok(());
        }
        state.ports[self.number]
            .memory
            .insert_device(addr, size, writable)
    }

    /// Unmaps what is mapped within a range; there need not be anything.
    pub fn unmap_memory(&self, addr: u64, size: u64) -> Result<(), Error> {
        self.with(|port| port.memory.remove(addr, size))
    }

    /// Unmaps everything.
    pub fn unmap_all_memory(&self) {
        self.with(|port| port.memory.clear());
    }

    /// Voids every [`Requester`] made so far: they emit nothing more. Forgets a master abort, and
    /// what the IOMMU has answered.
    pub fn reset(&self) {
        self.with(|port| {
            port.epoch += 1;
            port.master_abort = false;
            port.memory.forget_translations();
        });
    }

    /// True if a read was completed with Unsupported Request since the last call or reset: what
    /// STATUS.Received Master Abort reports.
    #[must_use]
    pub fn take_master_abort(&self) -> bool {
        self.with(|port| std::mem::take(&mut port.master_abort))
    }

    /// A handle to send requests that carry requester id `id`, good until the next reset.
    #[must_use]
    pub fn requester(&self, id: Bdf) -> Requester {
        let epoch = self.with(|port| port.epoch);
        Requester::new(self.fabric.clone(), self.number, epoch, id)
    }

    fn with<T>(&self, change: impl FnOnce(&mut PortState) -> T) -> T {
        change(&mut self.fabric.lock().ports[self.number])
    }
}
