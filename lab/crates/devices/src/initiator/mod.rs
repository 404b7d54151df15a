// SPDX-License-Identifier: MIT OR Apache-2.0
//! The initiator: a requester that copies memory and hints its writes.
//!
//! # BAR 0: registers, 8 KiB
//!
//! 32 bits wide, little-endian; the 64-bit ones may be accessed in halves. Everything is 0 after
//! reset unless said otherwise; reserved bits and what is not listed read as 0, writes there are
//! ignored, and so are writes that are not one or two whole aligned registers. The second page
//! holds MSI-X (one vector), which the client keeps.
//!
//! | offset | register | | |
//! |-|-|-|-|
//! | 0x00 | ID | RO | 0x54504849, "TPHI" |
//! | 0x04 | VERSION | RO | 1 |
//! | 0x08 | RID | RW | \[15:0\] requester id of the TLPs: bus, device, function, which an emulated device does not know |
//! | 0x10 | ADDR | RW | 64 bits: bus address to write to |
//! | 0x18 | SRC | RW | 64 bits: bus address to read from |
//! | 0x20 | LEN | RW | bytes, 1..=1 MiB |
//! | 0x24 | HINT | RW | \[15:0\] ST, \[17:16\] PH, \[21:20\] WIDTH: 0 and 2 no hint, 1 8-bit, 3 16-bit tag; \[24\] TABLE: ST is the number of an ST table entry |
//! | 0x28 | DOORBELL | WO | 1: copy LEN bytes from SRC to ADDR |
//! | 0x2c | STATUS | RO | \[0\] BUSY, \[1\] DONE, \[2\] HINT_DROPPED, \[15:8\] ERROR |
//! | 0x30 | IRQ_EN | RW | \[0\] raise vector 0 when a copy ends, or at once if one is pending |
//! | 0x34 | IRQ_STAT | RW1C | \[0\] a copy has ended |
//! | 0x38 | EMITTED | RO | memory writes emitted since reset |
//!
//! ERROR: 0 none, 1 bus mastering is off, 2 the source cannot be read (unsupported request), 3 bad
//! LEN, address range or ST table entry, 4 doorbell while busy (the copy goes on), 5 the lab itself
//! failed (its log says how). A copy that fails ends too: DONE is set, the interrupt comes.
//!
//! The whole source is read before the first write. Writes are posted: whether anybody took them
//! shows in the trace only.
//!
//! HINT_DROPPED says that a hint was asked for which TPH Requester Control does not allow; the
//! TLPs then go without. What is allowed is decided when the doorbell is rung.
//!
//! Peers do not reach BAR 0: to them it is an unsupported request.
//!
//! A Function Level Reset or a device reset aborts the copy; not one TLP is emitted after it.

mod engine;
mod hint;
mod registers;
#[cfg(test)]
mod tests;

pub use registers::MAX_LEN;

use crate::{
    CompleterType,
    config::{BarKind, ConfigBuilder, ConfigSpace, Identity, MsiX, Pcie, TphCapability},
    die,
    function::{Context, Model},
    ids,
    interrupt::Interrupt,
    registers as words,
};
use engine::{Engine, Job, Shared, lock};
use hint::{Gated, Wanted, gate};
use registers::{Action, Fault, Registers};

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tlp::Mode;

/// Entries of the ST table.
pub const ST_ENTRIES: usize = 64;

/// What can be chosen of an initiator.
#[derive(Clone, Copy, Debug)]
pub struct InitiatorConfig {
    /// Extended TPH Requester Supported: it can send 16-bit tags.
    pub extended: bool,
}

/// With 16-bit tags.
impl Default for InitiatorConfig {
    fn default() -> Self {
        Self { extended: true }
    }
}

impl InitiatorConfig {
    pub(crate) fn config_space(self, mode: Mode, serial: u64) -> ConfigSpace {
        let identity = Identity {
            vendor: ids::VENDOR,
            device: if self.extended {
                ids::INITIATOR_EXT
            } else {
                ids::INITIATOR
            },
            class: 0x08_8000, // system peripheral, other
            revision: 1,
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
            0x2000,
            BarKind::Memory64 {
                prefetchable: false,
            },
        )
        .power_management()
        .msix(MsiX {
            vectors: 1,
            bar: 0,
            table: 0x1000,
            pending: 0x1800,
        })
        .serial_number(serial)
        .tph(TphCapability {
            extended: self.extended,
            entries: ST_ENTRIES,
        })
        .build()
    }
}

/// The initiator's model.
pub struct Initiator {
    shared: Arc<Mutex<Shared>>,
    interrupt: Arc<Interrupt>,
    engine: Engine,
    /// See [`crate::Topology::dying`].
    dying: Arc<AtomicBool>,
}

impl Initiator {
    /// An initiator as after reset.
    pub fn new(name: &str, interrupt: Arc<Interrupt>, dying: Arc<AtomicBool>) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            registers: Registers::default(),
            resets: 0,
        }));
        let engine = Engine::start(name, shared.clone(), interrupt.clone())?;
        Ok(Self {
            shared,
            interrupt,
            engine,
            dying,
        })
    }

    /// The doorbell was rung.
    fn start(&self, context: &Context<'_>) {
        let mut shared = lock(&self.shared);
        let copy = shared.registers.copy();
        let gated = copy.map(|copy| match context.config.tph() {
            Some(tph) => gate(copy.hint, tph),
            None => Ok(Gated {
                hint: None,
                dropped: copy.hint != Wanted::None,
            }),
        });
        let (Some(copy), Some(Ok(gated))) = (copy, gated) else {
            shared.registers.begin(false);
            let raise = shared.registers.end(Fault::BadRequest);
            drop(shared);
            if raise {
                self.interrupt.raise(0);
            }
            return;
        };
        shared.registers.begin(gated.dropped);
        let epoch = shared.resets;
        drop(shared);
        let requester = context.port.requester(copy.requester);
        self.engine.submit(Job {
            copy,
            hint: gated.hint,
            requester,
            epoch,
        });
    }
}

impl Model for Initiator {
    fn bar_read(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        let shared = lock(&self.shared);
        if shared.registers.is_busy() && self.dying.load(Ordering::Relaxed) {
            die::now();
        }
        words::read(offset, data, |at| shared.registers.read(at));
    }

    fn bar_write(&mut self, context: &Context<'_>, _bar: usize, offset: u64, data: &[u8]) {
        words::write(offset, data, |at, value| {
            let action = lock(&self.shared).registers.write(at, value);
            match action {
                Action::None => {}
                Action::Copy => self.start(context),
                Action::Interrupt => self.interrupt.raise(0),
            }
        });
    }

    fn reset(&mut self) {
        let mut shared = lock(&self.shared);
        shared.registers.reset();
        shared.resets += 1;
    }
}
