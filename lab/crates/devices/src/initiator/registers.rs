// SPDX-License-Identifier: MIT OR Apache-2.0
//! The initiator's registers.

use crate::mmio::{high, low};
use fabric::{TagSource, Want, Width};
use tlp::{Bdf, Ph};

/// ASCII "TPHI".
const ID: u32 = 0x5450_4849;
const VERSION: u32 = 1;

/// Longest copy, bytes.
pub const MAX_LEN: u32 = 1 << 20;

const BUSY: u32 = 1 << 0;
const DONE: u32 = 1 << 1;
const HINT_DROPPED: u32 = 1 << 2;

/// Bits of HINT that are not reserved.
const HINT_MASK: u32 = 0x0133_ffff;

/// STATUS.ERROR: how the last copy ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// Well.
    #[default]
    None = 0,
    /// COMMAND.Bus Master Enable was off.
    BusMasterOff = 1,
    /// A read of the source was not completed with success.
    SourceRead = 2,
    /// LEN, the address ranges, VECTOR or HINT make no sense.
    BadRequest = 3,
    /// DOORBELL was written while a copy was running, which went on.
    DoorbellWhileBusy = 4,
    /// The lab itself failed, its log says how.
    Internal = 5,
    /// HINT asks for an entry of an ST table that the client keeps: no tag ever reaches the
    /// function.
    TableOutOfReach = 6,
}

/// What the engine is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Idle,
    Busy,
    Done,
}

/// What a write to a register starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// A copy: the doorbell was rung.
    Copy,
    /// An interrupt: one that was pending has been enabled.
    Interrupt,
}

/// A copy as the registers ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    pub requester: Bdf,
    pub source: u64,
    pub destination: u64,
    pub len: u32,
    pub vector: u16,
    /// The hint of its writes.
    pub want: Option<Want>,
}

/// The registers of BAR 0, as the module documentation of [`crate::initiator`] lists them.
#[derive(Debug, Default)]
pub struct Registers {
    rid: u16,
    addr: u64,
    src: u64,
    len: u32,
    hint: u32,
    progress: Progress,
    dropped: bool,
    fault: Fault,
    irq_enable: bool,
    irq_pending: bool,
    vector: u16,
    emitted: u32,
}

impl Registers {
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The 32-bit register at `offset`; 0 if there is none.
    pub fn read(&self, offset: usize) -> u32 {
        match offset {
            0x00 => ID,
            0x04 => VERSION,
            0x08 => self.rid.into(),
            0x10 => low(self.addr),
            0x14 => high(self.addr),
            0x18 => low(self.src),
            0x1c => high(self.src),
            0x20 => self.len,
            0x24 => self.hint,
            0x2c => self.status(),
            0x30 => self.irq_enable.into(),
            0x34 => self.irq_pending.into(),
            0x38 => self.emitted,
            0x3c => self.vector.into(),
            _ => 0,
        }
    }

    /// Writes the 32-bit register at `offset`, if there is a writable one.
    pub fn write(&mut self, offset: usize, value: u32) -> Action {
        match offset {
            0x08 => self.rid = low16(value),
            0x10 => self.addr = with_low(self.addr, value),
            0x14 => self.addr = with_high(self.addr, value),
            0x18 => self.src = with_low(self.src, value),
            0x1c => self.src = with_high(self.src, value),
            0x20 => self.len = value,
            0x24 => self.hint = value & HINT_MASK,
            0x28 if value == 1 => {
                if !self.is_busy() {
                    return Action::Copy;
                }
                self.fault = Fault::DoorbellWhileBusy;
            }
            0x30 => {
                let enabled = !self.irq_enable && value & 1 != 0;
                self.irq_enable = value & 1 != 0;
                if enabled && self.irq_pending {
                    return Action::Interrupt;
                }
            }
            0x34 => self.irq_pending &= value & 1 == 0,
            0x3c => self.vector = low16(value),
            _ => {}
        }
        Action::None
    }

    /// The copy that the registers ask for; none if they make no sense.
    pub fn copy(&self) -> Option<Copy> {
        let span = u64::from(self.len).checked_sub(1)?;
        self.src.checked_add(span)?;
        self.addr.checked_add(span)?;
        (self.len <= MAX_LEN).then_some(Copy {
            requester: Bdf(self.rid),
            source: self.src,
            destination: self.addr,
            len: self.len,
            vector: self.vector,
            want: want(self.hint, self.vector),
        })
    }

    /// A copy begins.
    pub fn begin(&mut self) {
        self.progress = Progress::Busy;
        self.dropped = false;
        self.fault = Fault::None;
    }

    /// One more memory write was emitted, perhaps without the hint that is asked for.
    pub fn count_write(&mut self, hint_dropped: bool) {
        self.dropped |= hint_dropped;
        self.emitted = self.emitted.wrapping_add(1);
    }

    /// The copy ended; true if the interrupt is to be raised.
    ///
    /// A doorbell that came while it was running stays in STATUS, unless the copy failed.
    pub fn end(&mut self, fault: Fault) -> bool {
        self.progress = Progress::Done;
        if fault != Fault::None {
            self.fault = fault;
        }
        self.irq_pending = true;
        self.irq_enable
    }

    /// The vector that a copy raises when it ends.
    pub fn vector(&self) -> u16 {
        self.vector
    }

    /// Whether a copy is on its way.
    pub fn is_busy(&self) -> bool {
        self.progress == Progress::Busy
    }

    fn status(&self) -> u32 {
        let progress = match self.progress {
            Progress::Idle => 0,
            Progress::Busy => BUSY,
            Progress::Done => DONE,
        };
        let dropped = if self.dropped { HINT_DROPPED } else { 0 };
        progress | dropped | u32::from(self.fault as u8) << 8
    }
}

/// HINT: \[15:0\] ST, \[17:16\] PH, \[21:20\] WIDTH, \[24\] TABLE.
fn want(hint: u32, vector: u16) -> Option<Want> {
    let [_, _, ph, table] = hint.to_le_bytes();
    let st = low16(hint);
    let width = match ph >> 4 & 0b11 {
        1 => Width::Bits8,
        3 => Width::Bits16,
        _ => return None,
    };
    let source = match table & 1 != 0 {
        false => TagSource::Literal(st),
        // VECTOR ends the copy that the hint is for.
        true if st == vector => TagSource::Vector(st),
        true => TagSource::Entry(st),
    };
    Some(Want {
        ph: Ph::from_bits(ph),
        source,
        width,
        // The accelerator does what the tag says.
        exact: true,
    })
}

fn low16(value: u32) -> u16 {
    let [low, high, ..] = value.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn with_low(value: u64, low: u32) -> u64 {
    value & !0xffff_ffff | u64::from(low)
}

fn with_high(value: u64, high: u32) -> u64 {
    value & 0xffff_ffff | u64::from(high) << 32
}
