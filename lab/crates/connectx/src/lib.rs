// SPDX-License-Identifier: MIT OR Apache-2.0
//! An InfiniBand adapter that the unmodified mlx5 drivers of Linux use: a ConnectX-class physical
//! function.
//!
//! It has no firmware: a command stores a context and hands out a number. What is sent goes no
//! further than the adapter itself (loopback). Layouts and numbers are those of
//! include/linux/mlx5/ and of the drivers; where these do not say what a device does, the model does
//! what their authors expect, and no compatibility with firmware is claimed.
//!
//! BAR 0 is described in `registers`, what the device says that it can do in `capabilities`. The
//! structures that it shares with its driver are tables: [`layout`], [`ifc`], [`wire`].

mod capabilities;
mod complaints;
mod cq;
mod cqe;
mod dma;
mod engine;
mod eq;
pub mod fuzz;
mod gateway;
mod hca;
pub mod ifc;
pub mod layout;
mod memory;
mod mkey;
mod port;
mod qp;
mod queue;
mod registers;
mod ring;
mod srq;
mod status;
mod table;
pub mod wire;
mod wqe;

use devices::{
    CompleterType, Context, Device, Interrupt, Model, Parts, Slot,
    config::{BarKind, ConfigBuilder, ConfigSpace, Identity, MsiX, Pcie, StTable, TphCapability},
    crash,
};
use engine::Engine;
use gateway::Gateways;
use registers::Registers;
use std::{
    error, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tlp::{Bdf, Mode};

/// Vectors, if nobody chooses: one for commands and asynchronous events, the others for completions.
const VECTORS: u16 = 8;

/// Entries of the ST table: as many as fit into a capability.
const ST_ENTRIES: u8 = 64;

/// ConnectX-7, which the driver and rdma-core's tests know.
const VENDOR: u16 = 0x15b3;
const DEVICE: u16 = 0x1021;

/// What can be chosen of an adapter.
#[derive(Clone, Copy, Debug)]
pub struct ConnectXConfig {
    /// What it says that it can do.
    pub profile: Profile,
    /// Extended TPH Requester Supported: it can send 16-bit tags.
    pub extended: bool,
    /// It has an ST table, in its capability; else a memory key holds the tag itself.
    pub table: bool,
    /// MSI-X vectors, 1..=64. With one, completions share it with everything else.
    pub vectors: u16,
}

/// What an adapter says that it can do, beyond what the drivers insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Atomics of 8 bytes.
    pub atomic: bool,
    /// No doorbells of low latency: the UMR queue pair rings an ordinary one.
    pub latency_sensitive_disable: bool,
}

/// All that there is.
impl Default for ConnectXConfig {
    fn default() -> Self {
        Self {
            profile: Profile {
                atomic: true,
                latency_sensitive_disable: false,
            },
            extended: true,
            table: true,
            vectors: VECTORS,
        }
    }
}

impl ConnectXConfig {
    fn config_space(self, mode: Mode, serial: u64) -> ConfigSpace {
        let identity = Identity {
            vendor: VENDOR,
            device: DEVICE,
            class: 0x02_0700, // network, InfiniBand
            revision: 0,
        };
        ConfigBuilder::new(
            identity,
            Pcie {
                completer: CompleterType::None,
                mode,
            },
        )
        .bar(
            0,
            registers::BAR_SIZE,
            BarKind::Memory64 { prefetchable: true },
        )
        .power_management()
        .msix(MsiX {
            vectors: self.vectors,
            bar: 0,
            table: registers::MSIX_TABLE,
            pending: registers::MSIX_PENDING,
        })
        .serial_number(serial)
        .tph(TphCapability {
            extended: self.extended,
            interrupt_vector: false,
            table: if self.table {
                StTable::Capability(ST_ENTRIES)
            } else {
                StTable::None
            },
        })
        .build()
    }
}

/// The adapter's model.
struct ConnectX {
    registers: Registers,
    gateways: Gateways,
    engine: Engine,
    /// What its requests say that it is.
    id: Bdf,
    /// See [`devices::Topology::crash`].
    crash: Arc<AtomicBool>,
}

impl ConnectX {
    /// An adapter as after reset. What is written to its gateways is recorded beside the trace.
    fn new(slot: &Slot<'_>, profile: Profile, interrupt: Arc<Interrupt>) -> io::Result<Self> {
        Ok(Self {
            registers: Registers::new(),
            gateways: Gateways::new(slot.name, slot.trace_dir)?,
            engine: Engine::start(slot.name, profile, interrupt)?,
            id: slot.bdf,
            crash: slot.crash.clone(),
        })
    }
}

impl Device for ConnectXConfig {
    fn build(&self, slot: &Slot<'_>) -> Result<Parts, Box<dyn error::Error + Send + Sync>> {
        let config = self.config_space(slot.mode, slot.serial_number());
        let interrupt = Arc::new(Interrupt::new(&config));
        let model = ConnectX::new(slot, self.profile, interrupt.clone())?;
        Ok(Parts {
            config,
            interrupt,
            model: Box::new(model),
            completer: None,
        })
    }
}

impl Model for ConnectX {
    fn bar_read(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        if self.crash.load(Ordering::Relaxed) && self.engine.wait_for_accesses(crash::moment()) {
            crash::now();
        }
        self.registers.read(offset, data);
    }

    fn bar_write(&mut self, context: &Context<'_>, _bar: usize, offset: u64, data: &[u8]) {
        if self.gateways.write(offset, data) {
            return;
        }
        for action in self.registers.write(offset, data) {
            self.engine.ring(action, || context.port.requester(self.id));
        }
    }

    fn complaint(&self) -> Option<String> {
        self.engine.complaint()
    }

    fn reset(&mut self) {
        self.registers.reset();
        self.engine.reset();
    }
}

/// The addresses in the list at the end of a command.
fn pages(list: &[u8]) -> Vec<u64> {
    let (pages, _) = list.as_chunks::<8>();
    pages.iter().map(|&page| u64::from_be_bytes(page)).collect()
}
