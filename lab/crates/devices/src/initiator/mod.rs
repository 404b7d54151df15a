// SPDX-License-Identifier: MIT OR Apache-2.0
//! The initiator: a requester that copies memory and hints its writes.
//!
//! # BAR 0: registers, 8 KiB
//!
//! 32 bits wide, little-endian; the 64-bit ones may be accessed in halves. Everything is 0 after
//! reset unless said otherwise; reserved bits and what is not listed read as 0, writes there are
//! ignored, and so are writes that are not one or two whole aligned registers. The second page
//! holds MSI-X, which the client keeps.
//!
//! | offset | register | | |
//! |-|-|-|-|
//! | 0x00 | ID | RO | 0x54504849, "TPHI" |
//! | 0x04 | VERSION | RO | 1 |
//! | 0x08 | RID | RW | \[15:0\] requester id of the TLPs |
//! | 0x10 | ADDR | RW | 64 bits: bus address to write to |
//! | 0x18 | SRC | RW | 64 bits: bus address to read from |
//! | 0x20 | LEN | RW | bytes, 1..=1 MiB |
//! | 0x24 | HINT | RW | \[15:0\] ST, \[17:16\] PH, \[21:20\] WIDTH, \[24\] TABLE |
//! | 0x28 | DOORBELL | WO | 1: copy LEN bytes from SRC to ADDR |
//! | 0x2c | STATUS | RO | \[0\] BUSY, \[1\] DONE, \[2\] HINT_DROPPED, \[15:8\] ERROR |
//! | 0x30 | IRQ_EN | RW | \[0\] raise a vector when a copy ends, or at once if one is pending |
//! | 0x34 | IRQ_STAT | RW1C | \[0\] a copy has ended |
//! | 0x38 | EMITTED | RO | memory writes emitted since reset |
//! | 0x3c | VECTOR | RW | \[15:0\] which vector |
//!
//! RID is bus, device and function, which an emulated device does not know.
//!
//! WIDTH: 0 and 2 no hint, 1 8-bit tag, 3 16-bit tag. With TABLE, ST is the number of an entry of
//! the ST table.
//!
//! ERROR: 0 none, 1 bus mastering is off, 2 the source cannot be read (unsupported request), 3 bad
//! LEN, address range, VECTOR or ST table entry, 4 doorbell while busy (the copy goes on), 5 the
//! lab itself failed (its log says how), 6 the ST table is in the MSI-X table: whoever writes a tag
//! there writes it into the client's copy, and the function never sees it. A copy that fails ends
//! too: DONE is set, the interrupt comes.
//!
//! The whole source is read before the first write. Writes are posted: whether anybody took them
//! shows in the trace only.
//!
//! Each write has the hint that is asked for, if TPH Requester Control allows it when that write
//! is sent, and else none; HINT_DROPPED says that one had none. In interrupt vector mode it is
//! allowed to have the tag of the ST table's entry VECTOR; in No ST mode, tag 0, if that is the ST
//! that is asked for.
//!
//! Peers do not reach BAR 0: to them it is an unsupported request.
//!
//! A Function Level Reset or a device reset aborts the copy; not one TLP is emitted after it.

mod engine;
mod registers;
#[cfg(test)]
mod tests;

pub use registers::MAX_LEN;

use crate::{
    config::{
        BarKind, CompleterType, ConfigBuilder, ConfigSpace, Identity, MsiX, Pcie, StTable,
        TphCapability,
    },
    crash,
    device::{Device, Parts, Slot},
    function::{Context, Model},
    ids,
    interrupt::Interrupt,
    mmio,
};
use engine::{Engine, Job, Shared, lock};
use fabric::NoHint;
use registers::{Action, Copy, Fault, Registers};
use serde::{Deserialize, Serialize};
use std::{
    error, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tlp::Mode;

/// Entries of an ST table in the capability.
pub const ST_ENTRIES: u8 = 64;

/// What kind of requester an initiator is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitiatorConfig {
    /// It sends 8-bit tags.
    Tph,
    /// It sends 8- and 16-bit tags.
    #[default]
    Extended,
    /// It sends both, and has interrupt vector mode and four vectors. Its TPH capability is the
    /// first extended one.
    InterruptVector,
    /// As that, but its ST table is in the MSI-X table, and so out of its reach.
    MsixTable,
    /// It sends both, and has no ST table: its driver puts the tags into HINT.
    NoTable,
    /// It sends no hints.
    NoTph,
}

impl InitiatorConfig {
    fn device(self) -> u16 {
        match self {
            Self::Tph => ids::INITIATOR,
            Self::Extended => ids::INITIATOR_EXT,
            Self::InterruptVector => ids::INITIATOR_IV,
            Self::MsixTable => ids::INITIATOR_MSIX,
            Self::NoTable => ids::INITIATOR_NO_TABLE,
            Self::NoTph => ids::INITIATOR_NO_TPH,
        }
    }

    fn vectors(self) -> u16 {
        match self {
            Self::InterruptVector | Self::MsixTable => 4,
            Self::Tph | Self::Extended | Self::NoTable | Self::NoTph => 1,
        }
    }

    fn tph(self) -> Option<TphCapability> {
        let table = match self {
            Self::Tph | Self::Extended | Self::InterruptVector => StTable::Capability(ST_ENTRIES),
            Self::MsixTable => StTable::MsiX,
            Self::NoTable => StTable::None,
            Self::NoTph => return None,
        };
        Some(TphCapability {
            extended: self != Self::Tph,
            interrupt_vector: matches!(self, Self::InterruptVector | Self::MsixTable),
            table,
        })
    }

    pub(crate) fn config_space(self, mode: Mode, serial: u64) -> ConfigSpace {
        let identity = Identity {
            vendor: ids::VENDOR,
            device: self.device(),
            class: 0x08_8000, // system peripheral, other
            revision: 1,
        };
        let builder = ConfigBuilder::new(
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
            vectors: self.vectors(),
            bar: 0,
            table: 0x1000,
            pending: 0x1800,
        });
        match self.tph() {
            None => builder.serial_number(serial),
            Some(tph) if self == Self::InterruptVector => builder.tph(tph).serial_number(serial),
            Some(tph) => builder.serial_number(serial).tph(tph),
        }
        .build()
    }
}

impl Device for InitiatorConfig {
    fn build(&self, slot: &Slot<'_>) -> Result<Parts, Box<dyn error::Error + Send + Sync>> {
        let config = self.config_space(slot.mode, slot.serial_number());
        let interrupt = Arc::new(Interrupt::new(&config));
        let model = Initiator::new(slot.name, interrupt.clone(), slot.crash.clone())?;
        Ok(Parts {
            config,
            interrupt,
            model: Box::new(model),
            completer: None,
        })
    }
}

/// The initiator's model.
pub struct Initiator {
    name: String,
    shared: Arc<Mutex<Shared>>,
    interrupt: Arc<Interrupt>,
    engine: Engine,
    /// See [`crate::Hierarchy::crash`].
    crash: Arc<AtomicBool>,
}

impl Initiator {
    /// An initiator as after reset.
    pub fn new(name: &str, interrupt: Arc<Interrupt>, crash: Arc<AtomicBool>) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            registers: Registers::default(),
            resets: 0,
        }));
        let engine = Engine::start(name, shared.clone(), interrupt.clone())?;
        Ok(Self {
            name: name.to_owned(),
            shared,
            interrupt,
            engine,
            crash,
        })
    }

    /// The doorbell was rung.
    fn start(&self, context: &Context<'_>) {
        let mut shared = lock(&self.shared);
        let copy = match self.accept(&shared.registers, context) {
            Ok(copy) => copy,
            Err(fault) => {
                shared.registers.begin();
                let raise = shared.registers.end(fault);
                let vector = shared.registers.vector();
                drop(shared);
                if raise {
                    self.interrupt.raise(vector.into());
                }
                return;
            }
        };
        shared.registers.begin();
        let epoch = shared.resets;
        drop(shared);
        let requester = context.port.requester(copy.requester);
        self.engine.submit(Job {
            copy,
            requester,
            epoch,
        });
    }

    /// The copy that the registers ask for, or what is wrong with it.
    fn accept(&self, registers: &Registers, context: &Context<'_>) -> Result<Copy, Fault> {
        let copy = registers.copy().ok_or(Fault::BadRequest)?;
        if u32::from(copy.vector) >= self.interrupt.vectors() {
            return Err(Fault::BadRequest);
        }
        match copy.want.map(|want| context.port.hint(want)) {
            // What is allowed is decided when each write is sent.
            None | Some(Ok(_) | Err(NoHint::NotAllowed)) => Ok(copy),
            Some(Err(NoHint::NoEntry)) => Err(Fault::BadRequest),
            Some(Err(why @ NoHint::OutOfReach)) => {
                log::warn!("{}: {why}", self.name);
                Err(Fault::TableOutOfReach)
            }
        }
    }
}

impl Model for Initiator {
    fn bar_read(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        let shared = lock(&self.shared);
        if shared.registers.is_busy() && self.crash.load(Ordering::Relaxed) {
            crash::now();
        }
        mmio::read(offset, data, |at| shared.registers.read(at));
    }

    fn bar_write(&mut self, context: &Context<'_>, _bar: usize, offset: u64, data: &[u8]) {
        mmio::write(offset, data, |at, value| {
            let action = lock(&self.shared).registers.write(at, value);
            match action {
                Action::None => {}
                Action::Copy => self.start(context),
                Action::Interrupt => {
                    let vector = lock(&self.shared).registers.vector();
                    self.interrupt.raise(vector.into());
                }
            }
        });
    }

    fn reset(&mut self) {
        let mut shared = lock(&self.shared);
        shared.registers.reset();
        shared.resets += 1;
    }
}
