// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gate for hints, and the registers by themselves.

use super::{
    InitiatorConfig,
    hint::{BadHint, Gated, Wanted, gate},
    registers::{Action, Copy, Fault, MAX_LEN, Registers},
};
use crate::config::ConfigSpace;
use tlp::{Bdf, Hint, Mode, Ph, SteeringTag};

const ID: Bdf = Bdf::new(0, 0x10, 0);
/// Offset of the TPH capability: behind the serial number, or the first.
const TPH: usize = 0x110;
const FIRST: usize = 0x100;
const ST_ENTRIES: usize = super::ST_ENTRIES as usize;

/// A configuration space with this TPH Requester Control, and 0xbef0 in entry 3.
fn config(of: InitiatorConfig, mode: u8, enable: u8) -> ConfigSpace {
    let mut config = of.config_space(Mode::Flit, 0);
    let at = match of {
        InitiatorConfig::InterruptVector => FIRST,
        _ => TPH,
    };
    config.write(at + 8, &[mode, enable]);
    config.write(at + 12 + 2 * 3, &0xbef0u16.to_le_bytes());
    config
}

fn gated(mode: u8, enable: u8, wanted: Wanted) -> Result<Gated, BadHint> {
    let config = config(InitiatorConfig::Extended, mode, enable);
    gate(wanted, 0, config.tph().unwrap())
}

#[test]
fn the_gate_for_tags() {
    const OFF: u8 = 0;
    const TPH_ONLY: u8 = 1;
    const RESERVED: u8 = 2;
    const EXTENDED: u8 = 3;
    for mode in 0..8 {
        for enable in [OFF, TPH_ONLY, RESERVED, EXTENDED] {
            for tag in [
                SteeringTag::St(0),
                SteeringTag::St(9),
                SteeringTag::Ext(0),
                SteeringTag::Ext(9),
            ] {
                let width_allowed = match enable {
                    TPH_ONLY => !tag.is_extended(),
                    EXTENDED => true,
                    _ => false,
                };
                let mode_allowed = match mode {
                    0 => tag.value() == 0,
                    2 => true,
                    _ => false,
                };
                let ph = Ph::Target;
                let hint = (width_allowed && mode_allowed).then_some(Hint { ph, tag });
                assert_eq!(
                    gated(mode, enable, Wanted::Tag { ph, tag }),
                    Ok(Gated {
                        hint,
                        dropped: hint.is_none()
                    }),
                    "mode {mode}, enable {enable}, {tag:?}"
                );
                assert_eq!(
                    gated(mode, enable, Wanted::None),
                    Ok(Gated {
                        hint: None,
                        dropped: false
                    })
                );
            }
        }
    }
}

#[test]
fn the_gate_for_the_table() {
    let entry = |entry, extended| Wanted::TableEntry {
        ph: Ph::Requester,
        entry,
        extended,
    };
    let hint = |tag| {
        Ok(Gated {
            hint: Some(Hint {
                ph: Ph::Requester,
                tag,
            }),
            dropped: false,
        })
    };
    let dropped = Ok(Gated {
        hint: None,
        dropped: true,
    });
    assert_eq!(gated(2, 3, entry(3, true)), hint(SteeringTag::Ext(0xbef0)));
    assert_eq!(gated(2, 3, entry(3, false)), hint(SteeringTag::St(0xf0)));
    assert_eq!(gated(2, 3, entry(0, true)), hint(SteeringTag::Ext(0)));
    assert_eq!(gated(2, 1, entry(3, true)), dropped);
    assert_eq!(gated(2, 0, entry(3, false)), dropped);
    assert_eq!(
        gated(0, 3, entry(0, false)),
        dropped,
        "no table in No-ST mode"
    );
    let no_entry = Err(BadHint::NoEntry);
    assert_eq!(gated(2, 3, entry(ST_ENTRIES, false)), no_entry);
    assert_eq!(gated(0, 0, entry(0xffff, true)), no_entry);
}

#[test]
fn the_gate_in_interrupt_vector_mode() {
    const INTERRUPT_VECTOR: u8 = 1;
    let ph = Ph::Target;
    let tag = SteeringTag::Ext(0xbef0);
    let entry = |entry| Wanted::TableEntry {
        ph,
        entry,
        extended: true,
    };
    let gated = |of, vector, wanted| {
        let config = config(of, INTERRUPT_VECTOR, 3);
        gate(wanted, vector, config.tph().unwrap()).unwrap().hint
    };
    let has = InitiatorConfig::InterruptVector;
    assert_eq!(gated(has, 3, entry(3)), Some(Hint { ph, tag }));
    assert_eq!(gated(has, 2, entry(3)), None, "another vector's");
    assert_eq!(gated(has, 3, Wanted::Tag { ph, tag }), None, "given");
    assert_eq!(gated(InitiatorConfig::Extended, 3, entry(3)), None);
}

#[test]
fn a_table_that_is_elsewhere() {
    let entry = Wanted::TableEntry {
        ph: Ph::Target,
        entry: 0,
        extended: false,
    };
    for (of, bad) in [
        (InitiatorConfig::MsixTable, BadHint::OutOfReach),
        (InitiatorConfig::NoTable, BadHint::NoEntry),
    ] {
        for (mode, enable) in [(2, 3), (1, 1), (0, 0)] {
            let config = config(of, mode, enable);
            let gated = gate(entry, 0, config.tph().unwrap());
            assert_eq!(gated, Err(bad), "{of:?}");
        }
        let ph = Ph::Target;
        let tag = SteeringTag::Ext(0xbef0);
        let config = config(of, 2, 3);
        let gated = gate(Wanted::Tag { ph, tag }, 0, config.tph().unwrap());
        assert_eq!(gated.unwrap().hint, Some(Hint { ph, tag }), "its own");
    }
}

#[test]
fn the_hint_register() {
    let tag = |ph, tag| Wanted::Tag { ph, tag };
    for (value, wanted) in [
        (0x0000_00f0, Wanted::None),
        (0x0022_00f0, Wanted::None), // width 2 is reserved
        (0x0012_00f0, tag(Ph::Target, SteeringTag::St(0xf0))),
        (0x0010_bef0, tag(Ph::Bidirectional, SteeringTag::St(0xf0))),
        (
            0x0033_bef0,
            tag(Ph::TargetPriority, SteeringTag::Ext(0xbef0)),
        ),
        (
            0x0131_0003,
            Wanted::TableEntry {
                ph: Ph::Requester,
                entry: 3,
                extended: true,
            },
        ),
        (
            0x0110_ffff,
            Wanted::TableEntry {
                ph: Ph::Bidirectional,
                entry: 0xffff,
                extended: false,
            },
        ),
        (0x0100_0003, Wanted::None),
    ] {
        assert_eq!(Wanted::from_register(value), wanted, "{value:#x}");
    }
}

#[test]
fn registers_after_reset() {
    let mut registers = Registers::default();
    for _ in 0..2 {
        for at in (0..0x2000).step_by(4) {
            let expected = match at {
                0x00 => 0x5450_4849,
                0x04 => 1,
                _ => 0,
            };
            assert_eq!(registers.read(at), expected, "register {at:#x}");
        }
        for at in (0..0x2000).step_by(4).filter(|&at| at != 0x28) {
            registers.write(at, 0xffff_ffff);
        }
        registers.reset();
    }
}

#[test]
fn reserved_bits_stay_zero() {
    let mut registers = Registers::default();
    for at in (0..0x2000).step_by(4) {
        assert_eq!(registers.write(at, 0xffff_ffff), Action::None);
    }
    for (at, value) in [
        (0x00, 0x5450_4849),
        (0x04, 1),
        (0x08, 0xffff),
        (0x0c, 0),
        (0x10, u32::MAX),
        (0x14, u32::MAX),
        (0x18, u32::MAX),
        (0x1c, u32::MAX),
        (0x20, u32::MAX),
        (0x24, 0x0133_ffff),
        (0x28, 0),
        (0x2c, 0),
        (0x30, 1),
        (0x34, 0),
        (0x38, 0),
        (0x3c, 0xffff),
        (0x40, 0),
    ] {
        assert_eq!(registers.read(at), value, "register {at:#x}");
    }
}

#[test]
fn a_copy_is_checked() {
    let mut registers = Registers::default();
    let set = |registers: &mut Registers, src: u64, addr: u64, len: u32| {
        for (at, value) in [(0x10, addr), (0x18, src)] {
            registers.write(at, crate::mmio::low(value));
            registers.write(at + 4, crate::mmio::high(value));
        }
        registers.write(0x20, len);
        registers.copy()
    };
    registers.write(0x08, ID.0.into());
    registers.write(0x3c, 3);
    let copy = set(&mut registers, 0x1_0000_0003, 0x38_0000_0800, MAX_LEN);
    assert_eq!(
        copy,
        Some(Copy {
            requester: ID,
            source: 0x1_0000_0003,
            destination: 0x38_0000_0800,
            len: MAX_LEN,
            vector: 3,
            hint: Wanted::None,
        })
    );
    assert_eq!(set(&mut registers, 0, 0, 0), None);
    assert_eq!(set(&mut registers, 0, 0, MAX_LEN + 1), None);
    assert_eq!(set(&mut registers, u64::MAX, 0, 2), None);
    assert_eq!(set(&mut registers, 0, u64::MAX - 2, 4), None);
    assert!(set(&mut registers, u64::MAX, u64::MAX, 1).is_some());
}

#[test]
fn status_through_a_copy() {
    let mut registers = Registers::default();
    assert_eq!(registers.write(0x28, 0), Action::None);
    assert_eq!(registers.write(0x28, 3), Action::None);
    assert_eq!(registers.write(0x28, 1), Action::Copy);
    registers.begin(true);
    assert_eq!(registers.read(0x2c), 0b101);
    assert_eq!(registers.write(0x28, 1), Action::None);
    assert_eq!(registers.read(0x2c), 0x405);
    registers.count_write();
    assert!(!registers.end(Fault::None), "the interrupt is not enabled");
    assert_eq!(registers.read(0x2c), 0x406);
    assert_eq!((registers.read(0x34), registers.read(0x38)), (1, 1));

    assert_eq!(
        registers.write(0x30, 1),
        Action::Interrupt,
        "one is pending"
    );
    assert_eq!(registers.write(0x30, 1), Action::None);
    registers.write(0x34, 0);
    assert_eq!(registers.read(0x34), 1);
    registers.write(0x34, 1);
    assert_eq!(registers.read(0x34), 0);

    registers.begin(false);
    assert_eq!(registers.read(0x2c), 1, "the last copy's bits are gone");
    assert!(registers.end(Fault::SourceRead));
    assert_eq!(registers.read(0x2c), 0x202);
}
