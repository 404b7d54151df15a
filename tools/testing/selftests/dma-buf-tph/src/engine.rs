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

const DONE: u32 = 1 << 1;
const HINT_DROPPED: u32 = 1 << 2;

/// A copy of a page takes microseconds; this is for a device that hangs.
pub const LIMIT: Duration = Duration::from_secs(10);

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
    /// Value of the register HINT.
    pub hint: u32,
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
        registers.write_dwords(HINT, &[self.hint])?;
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
