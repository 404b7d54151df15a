// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accelerator: a completer whose memory acts on the arriving steering tag.
//!
//! # Steering tags
//!
//! A tag on a write selects an in-flight operation, done to each 32-bit little-endian lane of the
//! payload (the result's bytes are stored where the write's byte enables allow it), and the cache
//! partition that accounts for the data:
//!
//! | tag | operation | partition | stream id |
//! |-|-|-|-|
//! | 8-bit ST | ST\[7:4\] | ST\[3:0\] | |
//! | 16-bit ST | ST\[15:12\] | ST\[11:8\] | ST\[7:0\] |
//!
//! | code | operation |
//! |-|-|
//! | f | add, modulo 2^32 |
//! | e | exclusive or |
//! | d | minimum, unsigned |
//! | c | maximum, unsigned |
//! | b | and |
//! | a | or |
//! | 0 to 9 | store: the tag only steers |
//!
//! A write without a hint is stored and belongs to no partition. So is a write with a hint that the
//! completer type does not cover (any hint for none and reserved, a 16-bit tag for TPH only); such
//! hints are counted.
//!
//! # BAR 0: registers, 8 KiB
//!
//! Read-only, 32 bits wide unless said otherwise; what is not listed reads as 0, writes are
//! ignored. The second page holds MSI-X, which the client keeps.
//!
//! | offset | register |
//! |-|-|
//! | 0x00 | ID: 0x54504841, "TPHA" |
//! | 0x04 | VERSION: 1 |
//! | 0x08 | COMPLETER: the type code of Device Capabilities 2, 0..=3 |
//! | 0x0c | PARTITIONS: 16 |
//! | 0x10 | UNHINTED: writes without a hint |
//! | 0x14 | IGNORED: writes whose hint the completer type does not cover |
//! | 0x100 + 0x20 p | partition p: WRITES |
//! | 0x108 + 0x20 p | BYTES, 64 bits: bytes written |
//! | 0x110 + 0x20 p | LAST_TAG: \[15:0\] tag of the last write, \[16\] it was a 16-bit one |
//! | 0x114 + 0x20 p | LAST_PH: \[1:0\] processing hint of the last write |
//!
//! Counters count TLPs from the fabric, not accesses of the CPU; a reset clears them.
//!
//! # BAR 2: payload memory
//!
//! 64-bit, prefetchable, mapped by the client. A reset keeps its content.

mod steering;

pub use steering::{Operation, PARTITIONS, Steering};

use crate::{
    config::{BarKind, CompleterType, ConfigBuilder, ConfigSpace, Identity, MsiX, Pcie},
    device::{Device, Parts, Slot},
    function::{Context, Model},
    ids,
    interrupt::Interrupt,
    mmio,
    shared_memory::SharedMemory,
};
use fabric::Completer;
use std::{
    error, io,
    os::fd::RawFd,
    sync::{Arc, Mutex, MutexGuard},
};
use thiserror::Error;
use tlp::{Hint, MemRequest, Mode};

/// BAR with the registers, and its size in bytes.
const REGISTERS: usize = 0;
pub(crate) const REGISTERS_SIZE: u64 = 0x2000;
/// BAR with the payload memory.
const PAYLOAD: usize = 2;

/// ASCII "TPHA".
const ID: u32 = 0x5450_4841;
const VERSION: u32 = 1;
/// Offset of the first partition's registers, and of one to the next.
const PARTITION_BASE: usize = 0x100;
const PARTITION_STRIDE: usize = 0x20;

/// What can be chosen of an accelerator.
#[derive(Clone, Copy, Debug)]
pub struct AcceleratorConfig {
    /// Its TPH completer type.
    pub completer: CompleterType,
    /// Bytes of payload memory: a power of two, 4 KiB at least.
    pub memory: u64,
}

/// TPH and Extended, 1 MiB.
impl Default for AcceleratorConfig {
    fn default() -> Self {
        Self {
            completer: CompleterType::TphAndExtended,
            memory: 1 << 20,
        }
    }
}

impl AcceleratorConfig {
    pub(crate) fn config_space(self, mode: Mode, serial: u64) -> ConfigSpace {
        let identity = Identity {
            vendor: ids::VENDOR,
            device: ids::ACCELERATOR,
            class: 0x12_0000, // processing accelerator
            revision: 1,
        };
        ConfigBuilder::new(
            identity,
            Pcie {
                completer: self.completer,
                mode,
            },
        )
        .bar(
            REGISTERS,
            REGISTERS_SIZE,
            BarKind::Memory64 {
                prefetchable: false,
            },
        )
        .bar(
            PAYLOAD,
            self.memory,
            BarKind::Memory64 { prefetchable: true },
        )
        .power_management()
        .msix(MsiX {
            vectors: 1,
            bar: 0,
            table: 0x1000,
            pending: 0x1800,
        })
        .serial_number(serial)
        .build()
    }
}

/// The payload memory is not a power of two of 4 KiB at least.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("memory of {0:#x} bytes, it must be a power of two from 0x1000 on")]
pub struct MemorySize(
    /// Bytes asked for.
    pub u64,
);

impl Device for AcceleratorConfig {
    fn build(&self, slot: &Slot<'_>) -> Result<Parts, Box<dyn error::Error + Send + Sync>> {
        if !self.memory.is_power_of_two() || self.memory < 0x1000 {
            return Err(MemorySize(self.memory).into());
        }
        let config = self.config_space(slot.mode, slot.serial_number());
        let model = Arc::new(Accelerator::new(*self)?);
        Ok(Parts {
            interrupt: Arc::new(Interrupt::new(&config)),
            config,
            completer: Some(model.clone()),
            model: Box::new(model),
        })
    }
}

/// The accelerator's model, reached by its client's accesses and by the fabric.
pub struct Accelerator {
    completer: CompleterType,
    memory: SharedMemory,
    counters: Mutex<Counters>,
}

#[derive(Default)]
struct Counters {
    unhinted: u32,
    ignored: u32,
    partitions: [Partition; PARTITIONS as usize],
}

#[derive(Clone, Copy, Default)]
struct Partition {
    writes: u32,
    bytes: u64,
    last: Option<Hint>,
}

impl Accelerator {
    /// An accelerator whose memory holds zeroes.
    pub fn new(config: AcceleratorConfig) -> io::Result<Self> {
        Ok(Self {
            completer: config.completer,
            memory: SharedMemory::new("accelerator", config.memory)?,
            counters: Mutex::default(),
        })
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters
            .lock()
            .expect("a reader of the counters panicked")
    }

    /// Accounts for a write and says what to do with its lanes.
    fn steer(&self, request: &MemRequest) -> Operation {
        let mut counters = self.counters();
        let Some(hint) = request.hint() else {
            counters.unhinted = counters.unhinted.wrapping_add(1);
            return Operation::Store;
        };
        if !self.completer.covers(hint.tag) {
            counters.ignored = counters.ignored.wrapping_add(1);
            return Operation::Store;
        }
        let steering = Steering::from(hint.tag);
        let bytes = (0..request.len_bytes())
            .filter(|&at| request.is_enabled(at))
            .count();
        let partition = &mut counters.partitions[steering.partition];
        partition.writes = partition.writes.wrapping_add(1);
        partition.bytes += bytes as u64;
        partition.last = Some(hint);
        steering.operation
    }

    fn write_payload(&self, offset: u64, request: &MemRequest, data: &[u8]) {
        let operation = self.steer(request);
        for (lane, bytes) in data.chunks_exact(4).enumerate() {
            let at = offset + 4 * lane as u64;
            let Some(memory) = self.memory.lane(at) else {
                return;
            };
            let written = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let result = operation.apply(memory, written);
            let enabled: [bool; 4] = std::array::from_fn(|b| request.is_enabled(4 * lane + b));
            if enabled == [true; 4] {
                self.memory.set_lane(at, result);
                continue;
            }
            for (byte, value) in result.to_le_bytes().into_iter().enumerate() {
                if enabled[byte] {
                    self.memory.write(at + byte as u64, &[value]);
                }
            }
        }
    }

    fn register(&self, offset: usize) -> u32 {
        match offset {
            0x00 => ID,
            0x04 => VERSION,
            0x08 => self.completer.code().into(),
            0x0c => PARTITIONS.into(),
            0x10 => self.counters().unhinted,
            0x14 => self.counters().ignored,
            PARTITION_BASE.. => {
                let number = (offset - PARTITION_BASE) / PARTITION_STRIDE;
                let register = (offset - PARTITION_BASE) % PARTITION_STRIDE;
                self.counters()
                    .partitions
                    .get(number)
                    .map_or(0, |p| p.register(register))
            }
            _ => 0,
        }
    }

    fn read_bar(&self, bar: usize, offset: u64, data: &mut [u8]) {
        match bar {
            PAYLOAD => self.memory.read(offset, data),
            _ => mmio::read(offset, data, |at| self.register(at)),
        }
    }
}

impl Partition {
    fn register(self, offset: usize) -> u32 {
        match offset {
            0x00 => self.writes,
            0x08 => mmio::low(self.bytes),
            0x0c => mmio::high(self.bytes),
            0x10 => self.last.map_or(0, |hint| {
                u32::from(hint.tag.value()) | u32::from(hint.tag.is_extended()) << 16
            }),
            0x14 => self.last.map_or(0, |hint| hint.ph.code().into()),
            _ => 0,
        }
    }
}

impl Completer for Accelerator {
    fn write(&self, bar: usize, offset: u64, request: &MemRequest, data: &[u8]) {
        // The registers are read-only.
        if bar == PAYLOAD {
            self.write_payload(offset, request, data);
        }
    }

    fn read(&self, bar: usize, offset: u64, _request: &MemRequest, data: &mut [u8]) {
        self.read_bar(bar, offset, data);
    }
}

impl Model for Arc<Accelerator> {
    fn bar_read(&mut self, bar: usize, offset: u64, data: &mut [u8]) {
        self.read_bar(bar, offset, data);
    }

    fn bar_write(&mut self, _context: &Context<'_>, bar: usize, offset: u64, data: &[u8]) {
        if bar == PAYLOAD {
            self.memory.write(offset, data);
        }
    }

    fn reset(&mut self) {
        *self.counters() = Counters::default();
    }

    fn mappable(&self, bar: usize) -> Option<RawFd> {
        (bar == PAYLOAD).then(|| self.memory.fd())
    }
}
