// SPDX-License-Identifier: MIT OR Apache-2.0
//! A configuration space as the bus reads and writes it.

use super::build::ConfigBuilder;
use super::capabilities::MAX_PAYLOAD;
use super::image::{BAR0, COMMAND, DEVCTL, PMCSR, POWER_STATE, SIZE, STATUS};
use super::tph::{CONTROL, TABLE, TphRequester};
use fabric::{Limits, RequesterEnable, StMode};

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
/// Received Master Abort, in the upper byte of STATUS.
const STATUS_MASTER_ABORT: u8 = 1 << 5;
const DEVCTL_FLR: u8 = 1 << 7; // of the upper byte

/// What a write to configuration space changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// COMMAND, or the power state.
    Command {
        /// Bus Master Enable, in D0.
        bus_master: bool,
        /// Memory Space Enable, in D0.
        memory: bool,
    },
    /// A BAR was placed elsewhere.
    BarMoved {
        /// BAR number, 0..=5; the lower one of a 64-bit pair.
        bar: usize,
        /// Its new base address.
        address: u64,
    },
    /// Device Control: sizes of packets.
    DeviceControl(Limits),
    /// Initiate Function Level Reset was written; the configuration space has reset itself.
    FunctionLevelReset,
    /// TPH Requester Control.
    TphControl {
        /// ST Mode Select.
        mode: StMode,
        /// TPH Requester Enable.
        enable: RequesterEnable,
    },
    /// An entry of the ST table.
    SteeringTag {
        /// Number of the entry.
        entry: usize,
        /// Its new value.
        value: u16,
    },
}

/// A base address register (pair).
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    pub number: usize,
    pub size: u64,
    pub wide: bool,
}

/// Configuration space of one function.
pub struct ConfigSpace {
    pub(super) bytes: Box<[u8; SIZE]>,
    reset: Box<[u8; SIZE]>,
    pub(super) writable: Box<[u8; SIZE]>,
    clearable: Box<[u8; SIZE]>,
    bars: Vec<Bar>,
    /// Offset of the PCI Express capability.
    pcie: usize,
    /// Offset of the Power Management capability.
    power: Option<usize>,
    /// Number of MSI-X vectors.
    vectors: u16,
    /// Offset and number of entries of the TPH requester capability.
    tph: Option<(usize, usize)>,
}

impl ConfigSpace {
    /// The space that was put together, in its state after power-on.
    pub(super) fn new(built: ConfigBuilder) -> Self {
        let image = built.image;
        Self {
            reset: image.bytes.clone(),
            bytes: image.bytes,
            writable: image.writable,
            clearable: image.clearable,
            bars: built.bars,
            pcie: built.pcie,
            power: built.power,
            vectors: built.vectors,
            tph: built.tph,
        }
    }

    /// Copies `data.len()` bytes out from `offset` on; bytes beyond the end read as 0xff.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        data.fill(0xff);
        let there = self.bytes.get(offset..).unwrap_or_default();
        for (byte, value) in data.iter_mut().zip(there) {
            *byte = *value;
        }
    }

    /// Writes as a configuration write of the bus would; bytes beyond the end are ignored.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Vec<Event> {
        let before = self.bytes.clone();
        let mut reset = false;
        for (at, &value) in (offset..SIZE).zip(data) {
            let (writable, clearable) = (self.writable[at], self.clearable[at]);
            let byte = &mut self.bytes[at];
            *byte = (*byte & !writable | value & writable) & !(value & clearable);
            reset |= at == self.pcie + DEVCTL + 1 && value & DEVCTL_FLR != 0;
        }
        if let Some(at) = self.power
            && matches!(self.power_state(), 1 | 2)
        {
            // There is no D1 and no D2: a write of them is discarded.
            self.bytes[at + PMCSR] = before[at + PMCSR];
        }
        if reset {
            self.function_level_reset();
            return vec![Event::FunctionLevelReset];
        }
        self.changes(&before)
    }

    /// Back to the state after power-on, BARs included.
    pub fn reset(&mut self) {
        self.bytes.copy_from_slice(&*self.reset);
    }

    /// Resets all but the BARs.
    ///
    /// A vfio-user client answers reads of BARs itself and is not told of a Function Level Reset:
    /// it goes on decoding the old addresses, and a guest that restores the BARs finds them as they
    /// were and writes nothing. So the server stands where a host's vfio driver would, which
    /// restores the BARs of the physical function.
    fn function_level_reset(&mut self) {
        let bars: [u8; 24] = std::array::from_fn(|at| self.bytes[BAR0 + at]);
        self.reset();
        self.bytes[BAR0..BAR0 + 24].copy_from_slice(&bars);
    }

    /// Sets STATUS.Received Master Abort: a read was completed with Unsupported Request.
    pub fn set_master_abort(&mut self) {
        self.bytes[STATUS + 1] |= STATUS_MASTER_ABORT;
    }

    /// What COMMAND enables, as an event: nothing in a power state other than D0.
    #[must_use]
    pub fn command(&self) -> Event {
        let command = match self.power_state() {
            0 => self.word(COMMAND),
            _ => 0,
        };
        Event::Command {
            bus_master: command & COMMAND_MASTER != 0,
            memory: command & COMMAND_MEMORY != 0,
        }
    }

    /// `PowerState`; a function without the capability is always in D0.
    fn power_state(&self) -> u16 {
        self.power
            .map_or(0, |at| self.word(at + PMCSR) & POWER_STATE)
    }

    /// Sizes of packets that Device Control allows.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let control = self.word(self.pcie + DEVCTL);
        // Codes 6 and 7 are reserved; nothing is larger than 4096.
        let size = |code: u16| 128 << (code & 0b111).min(5);
        Limits {
            max_payload: size(control >> 5).min(MAX_PAYLOAD),
            max_read_request: size(control >> 12),
            extended_tag: control & 1 << 8 != 0,
        }
    }

    /// The function's TPH requester capability, if it has one.
    #[must_use]
    pub fn tph(&self) -> Option<TphRequester<'_>> {
        let (offset, entries) = self.tph?;
        let end = offset + TABLE + 2 * entries;
        Some(TphRequester::new(&self.bytes[offset..end]))
    }

    /// Number of MSI-X vectors, 0 without that capability.
    #[must_use]
    pub fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Number and size in bytes of each BAR.
    pub(crate) fn bars(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.bars.iter().map(|bar| (bar.number, bar.size))
    }

    /// Base address of BAR `number`.
    #[must_use]
    pub fn bar_address(&self, number: usize) -> Option<u64> {
        let bar = self.bars.iter().find(|bar| bar.number == number)?;
        Some(bar_address(&self.bytes, *bar))
    }

    fn changes(&self, before: &[u8; SIZE]) -> Vec<Event> {
        let changed = |offset: usize, len: usize| {
            before[offset..offset + len] != self.bytes[offset..offset + len]
        };
        let mut events = vec![];
        if changed(COMMAND, 2) || self.power.is_some_and(|at| changed(at + PMCSR, 2)) {
            events.push(self.command());
        }
        for &bar in &self.bars {
            if changed(BAR0 + 4 * bar.number, if bar.wide { 8 } else { 4 }) {
                let address = bar_address(&self.bytes, bar);
                events.push(Event::BarMoved {
                    bar: bar.number,
                    address,
                });
            }
        }
        if changed(self.pcie + DEVCTL, 2) {
            events.push(Event::DeviceControl(self.limits()));
        }
        if let (Some((offset, entries)), Some(tph)) = (self.tph, self.tph()) {
            if changed(offset + CONTROL, 4) {
                events.push(Event::TphControl {
                    mode: tph.mode(),
                    enable: tph.enable(),
                });
            }
            for entry in 0..entries {
                if changed(offset + TABLE + 2 * entry, 2) {
                    let value = tph.entry(entry).unwrap_or(0);
                    events.push(Event::SteeringTag { entry, value });
                }
            }
        }
        events
    }

    fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.bytes[offset], self.bytes[offset + 1]])
    }
}

fn bar_address(bytes: &[u8; SIZE], bar: Bar) -> u64 {
    let register = |number: usize| {
        let at = BAR0 + 4 * number;
        u64::from(u32::from_le_bytes([
            bytes[at],
            bytes[at + 1],
            bytes[at + 2],
            bytes[at + 3],
        ]))
    };
    let low = register(bar.number) & !0xf;
    if bar.wide {
        register(bar.number + 1) << 32 | low
    } else {
        low
    }
}
