// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate that every hint passes, when its request is sent.
//!
//! A model says what it [`Want`]s. What leaves is decided by the function's TPH Requester
//! capability and control register at that moment ([`Tph`]), by one set of rules for all functions:
//!
//! | ST Mode Select | what a hinted request carries |
//! |-|-|
//! | 000, No ST | tag 0 with the processing hint; nothing if the model wants exactly another tag |
//! | 001, Interrupt Vector | the ST table's entry of a vector; nothing for other sources |
//! | 010, Device Specific | the tag of any source |
//! | others | nothing |
//!
//! In each mode, TPH Requester Enable must allow the width of the tag.

use thiserror::Error;
use tlp::{Hint, Ph, SteeringTag};

/// A function's TPH Requester capability and control register, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tph {
    /// Interrupt Vector Mode Supported.
    pub interrupt_vector: bool,
    /// Device Specific Mode Supported.
    pub device_specific: bool,
    /// The ST table.
    pub table: StEntries,
    /// ST Mode Select.
    pub mode: StMode,
    /// TPH Requester Enable.
    pub enable: RequesterEnable,
}

/// The ST table, as the function sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StEntries {
    /// There is none: the tags are the device's own.
    None,
    /// In the capability, with these tags.
    Capability(Vec<u16>),
    /// In the MSI-X table. A vfio-user client keeps that to itself, so no tag ever gets here.
    MsiX,
}

/// ST Mode Select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StMode {
    /// No ST: hints carry PH, the steering tag is 0.
    NoSt,
    /// Interrupt vector: the tag is that of the interrupt vector's entry in the ST table.
    InterruptVector,
    /// Device specific: the device chooses, with or without the ST table.
    DeviceSpecific,
    /// A reserved code, 3..=7.
    Reserved(u8),
}

/// TPH Requester Enable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequesterEnable {
    /// 00: no hints.
    Off,
    /// 01: hints with 8-bit tags.
    Tph,
    /// 10: reserved.
    Reserved,
    /// 11: hints with 8- and 16-bit tags.
    TphAndExtended,
}

/// The hint that a model wants on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// How the data is about to be used.
    pub ph: Ph,
    /// Where the steering tag comes from.
    pub source: TagSource,
    /// How wide it is.
    pub width: Width,
    /// Send no hint at all rather than one with another tag: for models whose tag selects what is
    /// done to the data. In No ST mode the tag is always 0, so only a wanted tag of 0 passes, and
    /// that only as a [`TagSource::Literal`], since the mode has no ST table.
    pub exact: bool,
}

/// Where a steering tag comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagSource {
    /// The model has it.
    Literal(u16),
    /// An entry of the ST table, by its number.
    Entry(u16),
    /// The entry of the ST table that belongs to an interrupt vector.
    Vector(u16),
}

/// How wide a steering tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits: the low byte of what the source has.
    Bits8,
    /// 16 bits: Extended TPH.
    Bits16,
    /// As wide as TPH Requester Enable allows.
    Enabled,
}

/// Why a request has no hint although the model wants one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoHint {
    /// The capability, the mode or the enable bits do not allow it.
    #[error("TPH Requester Control does not allow it")]
    NotAllowed,
    /// The ST table has no such entry, or there is no table.
    #[error("there is no such entry of the ST table")]
    NoEntry,
    /// The ST table is in the MSI-X table: see [`StEntries::MsiX`].
    #[error("the ST table is in the MSI-X table, where the client keeps all tags to itself")]
    OutOfReach,
}

impl Want {
    /// Exactly `hint`, or none.
    #[must_use]
    pub const fn exactly(hint: Hint) -> Self {
        Self {
            ph: hint.ph,
            source: TagSource::Literal(hint.tag.value()),
            width: if hint.tag.is_extended() {
                Width::Bits16
            } else {
                Width::Bits8
            },
            exact: true,
        }
    }
}

impl Tph {
    /// Without an ST table and in device-specific mode: a model's own tags pass as far as `enable`
    /// allows them.
    #[must_use]
    pub const fn own_tags(enable: RequesterEnable) -> Self {
        Self {
            interrupt_vector: false,
            device_specific: true,
            table: StEntries::None,
            mode: StMode::DeviceSpecific,
            enable,
        }
    }

    /// The hint of a request that leaves now.
    fn gate(&self, want: Want) -> Result<Hint, NoHint> {
        let untagged = self.mode == StMode::NoSt && !want.exact;
        // An entry that is not there is wrong whatever the control register says.
        let tag = if untagged { 0 } else { self.tag(want.source)? };
        let tag = self.widen(tag, want.width).ok_or(NoHint::NotAllowed)?;
        let allowed = match self.mode {
            StMode::NoSt => {
                untagged || matches!(want.source, TagSource::Literal(_)) && tag.value() == 0
            }
            StMode::InterruptVector => {
                self.interrupt_vector && matches!(want.source, TagSource::Vector(_))
            }
            StMode::DeviceSpecific => self.device_specific,
            StMode::Reserved(_) => false,
        };
        let hint = Hint { ph: want.ph, tag };
        allowed.then_some(hint).ok_or(NoHint::NotAllowed)
    }

    fn tag(&self, source: TagSource) -> Result<u16, NoHint> {
        match (source, &self.table) {
            (TagSource::Literal(tag), _) => Ok(tag),
            (TagSource::Entry(number) | TagSource::Vector(number), StEntries::Capability(tags)) => {
                let tag = tags.get(usize::from(number)).copied();
                tag.ok_or(NoHint::NoEntry)
            }
            (_, StEntries::None) => Err(NoHint::NoEntry),
            (_, StEntries::MsiX) => Err(NoHint::OutOfReach),
        }
    }

    fn widen(&self, tag: u16, width: Width) -> Option<SteeringTag> {
        let short = SteeringTag::St(tag.to_le_bytes()[0]);
        match (self.enable, width) {
            (RequesterEnable::Tph, Width::Bits8 | Width::Enabled)
            | (RequesterEnable::TphAndExtended, Width::Bits8) => Some(short),
            (RequesterEnable::TphAndExtended, Width::Bits16 | Width::Enabled) => {
                Some(SteeringTag::Ext(tag))
            }
            (RequesterEnable::Tph, Width::Bits16)
            | (RequesterEnable::Off | RequesterEnable::Reserved, _) => None,
        }
    }
}

/// A port's gate.
#[derive(Debug, Default)]
pub struct Gate {
    /// None if the function has no TPH Requester capability.
    tph: Option<Tph>,
    /// That tags are out of reach was said.
    warned: bool,
}

impl Gate {
    pub fn new(tph: Option<Tph>) -> Self {
        let warned = false;
        Self { tph, warned }
    }

    /// What leaves now.
    pub fn hint(&self, want: Want) -> Result<Hint, NoHint> {
        let tph = self.tph.as_ref().ok_or(NoHint::NotAllowed)?;
        tph.gate(want)
    }

    /// The hint of a request of the function called `name`. What its driver cannot know is logged.
    pub fn pass(&mut self, want: Want, name: &str) -> Option<Hint> {
        let hint = self.hint(want);
        if hint == Err(NoHint::OutOfReach) && !self.warned {
            self.warned = true;
            log::warn!(
                "{name}: a request goes without a hint: {}",
                NoHint::OutOfReach
            );
        }
        hint.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PH: Ph = Ph::Target;
    const MODES: [StMode; 4] = [
        StMode::NoSt,
        StMode::InterruptVector,
        StMode::DeviceSpecific,
        StMode::Reserved(5),
    ];
    const ENABLES: [RequesterEnable; 4] = [
        RequesterEnable::Off,
        RequesterEnable::Tph,
        RequesterEnable::Reserved,
        RequesterEnable::TphAndExtended,
    ];

    fn tph(mode: StMode, enable: RequesterEnable) -> Tph {
        Tph {
            interrupt_vector: true,
            device_specific: true,
            table: StEntries::Capability(vec![0, 0x1234, 0xbef0]),
            mode,
            enable,
        }
    }

    fn want(source: TagSource, width: Width, exact: bool) -> Want {
        Want {
            ph: PH,
            source,
            width,
            exact,
        }
    }

    /// What leaves, with a processing hint that was asked for.
    fn gate(tph: &Tph, source: TagSource, exact: bool) -> Result<SteeringTag, NoHint> {
        let hint = tph.gate(want(source, Width::Enabled, exact))?;
        assert_eq!(hint.ph, PH);
        Ok(hint.tag)
    }

    #[test]
    fn requester_enable_allows_widths() {
        for mode in MODES {
            for enable in ENABLES {
                for (width, tag) in [
                    (Width::Bits8, SteeringTag::St(0xf0)),
                    (Width::Bits16, SteeringTag::Ext(0xbef0)),
                ] {
                    let wide = tag.is_extended();
                    let enabled = match enable {
                        RequesterEnable::Tph => !wide,
                        RequesterEnable::TphAndExtended => true,
                        _ => false,
                    };
                    let hint = Hint { ph: PH, tag };
                    let passes = enabled && mode == StMode::DeviceSpecific;
                    let expected = passes.then_some(hint).ok_or(NoHint::NotAllowed);
                    let tph = tph(mode, enable);
                    let own = want(TagSource::Literal(0xbef0), width, true);
                    assert_eq!(tph.gate(own), expected, "{mode:?} {enable:?} {width:?}");
                }
            }
        }
    }

    #[test]
    fn a_tag_may_be_as_wide_as_is_enabled() {
        let entry = TagSource::Entry(2);
        let tag = |enable| gate(&tph(StMode::DeviceSpecific, enable), entry, false);
        assert_eq!(tag(RequesterEnable::Off), Err(NoHint::NotAllowed));
        assert_eq!(tag(RequesterEnable::Reserved), Err(NoHint::NotAllowed));
        assert_eq!(tag(RequesterEnable::Tph), Ok(SteeringTag::St(0xf0)));
        let wide = Ok(SteeringTag::Ext(0xbef0));
        assert_eq!(tag(RequesterEnable::TphAndExtended), wide);
    }

    #[test]
    fn without_st_the_tag_is_0_or_there_is_no_hint() {
        let tph = tph(StMode::NoSt, RequesterEnable::TphAndExtended);
        let zero = Ok(SteeringTag::Ext(0));
        for source in [
            TagSource::Literal(7),
            TagSource::Literal(0),
            TagSource::Entry(1),
            TagSource::Vector(1),
            // The table is not used in this mode.
            TagSource::Entry(3),
        ] {
            assert_eq!(gate(&tph, source, false), zero, "{source:?}");
        }
        assert_eq!(gate(&tph, TagSource::Literal(0), true), zero);
        let low_byte = want(TagSource::Literal(0xbe00), Width::Bits8, true);
        assert_eq!(
            tph.gate(low_byte).map(|hint| hint.tag),
            Ok(SteeringTag::St(0))
        );
        for source in [
            TagSource::Literal(7),
            TagSource::Entry(0),
            TagSource::Vector(1),
        ] {
            let none = Err(NoHint::NotAllowed);
            assert_eq!(gate(&tph, source, true), none, "{source:?}");
        }
    }

    #[test]
    fn in_interrupt_vector_mode_the_vector_has_the_tag() {
        let mut tph = tph(StMode::InterruptVector, RequesterEnable::TphAndExtended);
        for exact in [false, true] {
            let tag = Ok(SteeringTag::Ext(0xbef0));
            assert_eq!(gate(&tph, TagSource::Vector(2), exact), tag);
            for source in [TagSource::Entry(2), TagSource::Literal(0)] {
                assert_eq!(gate(&tph, source, exact), Err(NoHint::NotAllowed));
            }
            let beyond = gate(&tph, TagSource::Vector(3), exact);
            assert_eq!(beyond, Err(NoHint::NoEntry));
        }
        tph.interrupt_vector = false;
        let none = Err(NoHint::NotAllowed);
        assert_eq!(gate(&tph, TagSource::Vector(2), false), none);
    }

    #[test]
    fn in_device_specific_mode_the_device_chooses() {
        let mut tph = tph(StMode::DeviceSpecific, RequesterEnable::TphAndExtended);
        for exact in [false, true] {
            for (source, tag) in [
                (TagSource::Literal(0x55), Ok(0x55)),
                (TagSource::Entry(1), Ok(0x1234)),
                (TagSource::Entry(0), Ok(0)),
                (TagSource::Vector(2), Ok(0xbef0)),
                (TagSource::Entry(3), Err(NoHint::NoEntry)),
            ] {
                assert_eq!(gate(&tph, source, exact), tag.map(SteeringTag::Ext));
            }
        }
        tph.device_specific = false;
        let none = Err(NoHint::NotAllowed);
        assert_eq!(gate(&tph, TagSource::Entry(1), false), none);
    }

    #[test]
    fn an_entry_that_is_not_there_is_told_from_one_that_is_not_allowed() {
        let sources = [TagSource::Entry(0), TagSource::Vector(0)];
        for (table, why) in [
            (StEntries::None, NoHint::NoEntry),
            (StEntries::Capability(vec![]), NoHint::NoEntry),
            (StEntries::MsiX, NoHint::OutOfReach),
        ] {
            for mode in MODES {
                for enable in ENABLES {
                    let tph = Tph {
                        table: table.clone(),
                        ..tph(mode, enable)
                    };
                    for source in sources {
                        assert_eq!(gate(&tph, source, true), Err(why), "{mode:?} {enable:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_wanted_exactly_is_that_hint() {
        for tag in [SteeringTag::St(0xf0), SteeringTag::Ext(0xf0)] {
            let hint = Hint { ph: PH, tag };
            let tph = Tph::own_tags(RequesterEnable::TphAndExtended);
            assert_eq!(tph.gate(Want::exactly(hint)), Ok(hint));
        }
    }
}
