// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate that every hint passes: TPH Requester Control.

use crate::config::{RequesterEnable, StMode, StTable, TphRequester};
use tlp::{Hint, Ph, SteeringTag};

/// A hint as the HINT register asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    None,
    /// With this steering tag.
    Tag {
        /// Processing hint.
        ph: Ph,
        /// The tag, in the width that was asked for.
        tag: SteeringTag,
    },
    /// With the tag of an ST table entry.
    TableEntry {
        /// Processing hint.
        ph: Ph,
        /// Number of the entry.
        entry: usize,
        /// Take all 16 bits of the entry, not the low 8.
        extended: bool,
    },
}

impl Wanted {
    /// HINT: \[15:0\] ST, \[17:16\] PH, \[21:20\] WIDTH, \[24\] TABLE.
    pub fn from_register(value: u32) -> Self {
        let [st_low, st_high, ph, table] = value.to_le_bytes();
        let st = u16::from_le_bytes([st_low, st_high]);
        let extended = match ph >> 4 & 0b11 {
            1 => false,
            3 => true,
            _ => return Self::None,
        };
        let ph = Ph::from_bits(ph);
        if table & 1 != 0 {
            Self::TableEntry {
                ph,
                entry: st.into(),
                extended,
            }
        } else {
            Self::Tag {
                ph,
                tag: tag(st, extended),
            }
        }
    }
}

/// A hint that makes no sense, whatever TPH Requester Control says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHint {
    /// An entry that the ST table does not have.
    NoEntry,
    /// An entry of the MSI-X table, which the function does not see.
    OutOfReach,
}

/// What leaves the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gated {
    /// What goes onto the TLPs.
    pub hint: Option<Hint>,
    /// A hint was asked for and is not allowed.
    pub dropped: bool,
}

/// Lets a hint pass if the capability allows it:
///
/// - the requester must be enabled, for Extended if the tag has 16 bits;
/// - in No-ST mode the tag must be 0 and the ST table is not used;
/// - in device-specific mode any tag passes, given or from the table;
/// - in interrupt vector mode the tag must be that of the table's entry for `vector`, which ends the copy;
/// - no hint passes in a mode that is reserved or that the function does not have.
pub fn gate(wanted: Wanted, vector: u16, tph: TphRequester<'_>) -> Result<Gated, BadHint> {
    let (ph, tag, entry) = match wanted {
        Wanted::None => {
            return Ok(Gated {
                hint: None,
                dropped: false,
            });
        }
        Wanted::Tag { ph, tag } => (ph, tag, None),
        Wanted::TableEntry {
            ph,
            entry,
            extended,
        } => {
            let st = tph.entry(entry).ok_or(match tph.table() {
                StTable::MsiX => BadHint::OutOfReach,
                StTable::None | StTable::Capability(_) => BadHint::NoEntry,
            })?;
            (ph, tag(st, extended), Some(entry))
        }
    };
    let enabled = match tph.enable() {
        RequesterEnable::Off | RequesterEnable::Reserved => false,
        RequesterEnable::Tph => !tag.is_extended(),
        RequesterEnable::TphAndExtended => true,
    };
    let mode_allows = match tph.mode() {
        StMode::NoSt => tag.value() == 0 && entry.is_none(),
        StMode::DeviceSpecific => true,
        StMode::InterruptVector => tph.has_interrupt_vector() && entry == Some(vector.into()),
        StMode::Reserved(_) => false,
    };
    let hint = (enabled && mode_allows).then_some(Hint { ph, tag });
    Ok(Gated {
        hint,
        dropped: hint.is_none(),
    })
}

/// A tag of the width asked for; an 8-bit one is the low byte.
fn tag(st: u16, extended: bool) -> SteeringTag {
    if extended {
        SteeringTag::Ext(st)
    } else {
        SteeringTag::St(st.to_le_bytes()[0])
    }
}
