// SPDX-License-Identifier: GPL-2.0
//! How the lab's initiator is told to copy: its registers (`lab/crates/devices/src/initiator`).

use crate::vfio::Region;
use std::io::{self, Error};
use std::time::{Duration, Instant};

/// BAR with the registers.
pub const BAR: u32 = 0;

const RID: u64 = 0x08;
const ADDR: u64 = 0x10;
const SRC: u64 = 0x18;
const LEN: u64 = 0x20;
/// Register with the hint.
pub const HINT: u64 = 0x24;
/// Register that begins a copy.
pub const DOORBELL: u64 = 0x28;
const STATUS: u64 = 0x2c;
const IRQ_EN: u64 = 0x30;
const IRQ_STAT: u64 = 0x34;
const VECTOR: u64 = 0x3c;

const HINT_PH_SHIFT: u32 = 16;
const HINT_ST: u32 = 1 << 20;
const HINT_EXT_ST: u32 = 3 << 20;
const HINT_TABLE: u32 = 1 << 24;

const DONE: u32 = 1 << 1;
const HINT_DROPPED: u32 = 1 << 2;

/// A copy of a page takes microseconds; this is for a device that hangs.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Namespaces of steering tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// 8-bit tags.
    St,
    /// 16-bit Extended tags.
    Ext,
}

impl Namespace {
    fn width(self) -> u32 {
        match self {
            Self::St => HINT_ST,
            Self::Ext => HINT_EXT_ST,
        }
    }
}

/// How writes are hinted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// With the tag in an entry of the ST table.
    Entry {
        /// Its number.
        index: u16,
        /// What is taken of it.
        namespace: Namespace,
        /// The processing hint.
        ph: u8,
    },
    /// With this tag: for a device without an ST table.
    Tag {
        /// The tag.
        tag: u16,
        /// Its width.
        namespace: Namespace,
        /// The processing hint.
        ph: u8,
    },
}

impl Hint {
    /// Value of the register HINT.
    fn register(self) -> u32 {
        let (from, st, namespace, ph) = match self {
            Self::Entry {
                index,
                namespace,
                ph,
            } => (HINT_TABLE, index, namespace, ph),
            Self::Tag { tag, namespace, ph } => (0, tag, namespace, ph),
        };
        from | namespace.width() | u32::from(ph) << HINT_PH_SHIFT | u32::from(st)
    }
}

/// What is to be copied, and how.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// The device's requester id.
    pub rid: u16,
    /// Address to copy from.
    pub from: u64,
    /// Address to copy to.
    pub to: u64,
    /// Bytes.
    pub len: u32,
    /// How its writes are hinted, if they are.
    pub hint: Option<Hint>,
    /// The interrupt vector that says that the copy has ended, if one does.
    pub vector: Option<u16>,
}

impl Copy {
    /// Begins it.
    pub fn begin(self, registers: &Region<'_>) -> io::Result<()> {
        let halves = |address: u64| [address as u32, (address >> 32) as u32];
        registers.write_dwords(RID, &[self.rid.into()])?;
        registers.write_dwords(ADDR, &halves(self.to))?;
        registers.write_dwords(SRC, &halves(self.from))?;
        registers.write_dwords(LEN, &[self.len])?;
        registers.write_dwords(HINT, &[self.hint.map_or(0, Hint::register)])?;
        registers.write_dwords(VECTOR, &[self.vector.unwrap_or_default().into()])?;
        registers.write_dwords(IRQ_STAT, &[1])?;
        registers.write_dwords(IRQ_EN, &[self.vector.is_some().into()])?;
        registers.write_dwords(DOORBELL, &[1])
    }
}

/// Waits for the end of a copy; returns whether its hint was dropped.
pub fn end(registers: &Region<'_>) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        let [status] = registers.read_dwords(STATUS)?;
        let error = status >> 8 & 0xff;
        if error != 0 {
            return Err(Error::other(format!("the copy failed with error {error}")));
        }
        if status & DONE != 0 {
            return Ok(status & HINT_DROPPED != 0);
        }
        if begun.elapsed() > LIMIT {
            return Err(Error::other("the copy does not end"));
        }
    }
}
