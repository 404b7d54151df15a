// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter as its client sees it: BAR 0, in front of the engine.

use crate::config::ConnectXConfig;
use crate::engine::Engine;
use crate::gateway::Gateways;
use crate::registers::Registers;
use devices::{Context, Device, Interrupt, Model, Parts, Slot, crash};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tlp::Bdf;

/// The adapter's model.
struct Adapter {
    registers: Registers,
    gateways: Gateways,
    engine: Engine,
    /// What its requests say that it is.
    id: Bdf,
    /// See [`devices::Hierarchy::crash`].
    crash: Arc<AtomicBool>,
}

impl Adapter {
    /// An adapter as after reset. What is written to its gateways is recorded beside the trace.
    fn new(slot: &Slot<'_>, config: ConnectXConfig, interrupt: Arc<Interrupt>) -> io::Result<Self> {
        Ok(Self {
            registers: Registers::new(),
            gateways: Gateways::new(slot.name, slot.trace_dir)?,
            engine: Engine::start(slot.name, config, interrupt, slot.complaints.clone())?,
            id: slot.bdf,
            crash: slot.crash.clone(),
        })
    }
}

impl Device for ConnectXConfig {
    fn build(&self, slot: &Slot<'_>) -> Result<Parts, Box<dyn Error + Send + Sync>> {
        let config = self.config_space(slot.mode, slot.serial_number());
        let interrupt = Arc::new(Interrupt::new(&config));
        let model = Adapter::new(slot, *self, interrupt.clone())?;
        Ok(Parts {
            config,
            interrupt,
            model: Box::new(model),
            completer: None,
        })
    }
}

impl Model for Adapter {
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

    fn reset(&mut self) {
        self.registers.reset();
        self.engine.reset();
    }
}
