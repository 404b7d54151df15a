// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest can and cannot do to a configuration space.

use super::{ConfigSpace, Event, SIZE, StTable};
use crate::{AcceleratorConfig, CompleterType, InitiatorConfig, initiator};
use fabric::{Limits, RequesterEnable, StEntries, StMode, Tph};
use proptest::prelude::*;
use tlp::Mode;

/// Entries of an ST table in the capability.
const ST_ENTRIES: usize = initiator::ST_ENTRIES as usize;

fn initiator(extended: bool) -> ConfigSpace {
    initiator_of(if extended {
        InitiatorConfig::Extended
    } else {
        InitiatorConfig::Tph
    })
}

fn initiator_of(config: InitiatorConfig) -> ConfigSpace {
    config.config_space(Mode::Flit, 0x1122_3344_5566_7788)
}

fn accelerator(completer: CompleterType) -> ConfigSpace {
    AcceleratorConfig {
        completer,
        memory: 1 << 20,
    }
    .config_space(Mode::Flit, 1)
}

fn read16(config: &ConfigSpace, at: usize) -> u16 {
    let mut data = [0; 2];
    config.read(at, &mut data);
    u16::from_le_bytes(data)
}

fn read32(config: &ConfigSpace, at: usize) -> u32 {
    let mut data = [0; 4];
    config.read(at, &mut data);
    u32::from_le_bytes(data)
}

/// Offsets of the capabilities, by id, found as a guest finds them.
fn capabilities(config: &ConfigSpace) -> Vec<(u8, usize)> {
    let mut found = vec![];
    let mut at = usize::from(read16(config, 0x34) & 0xff);
    while at != 0 {
        assert!(at % 4 == 0 && found.len() < 48);
        let [id, next] = read16(config, at).to_le_bytes();
        found.push((id, at));
        at = next.into();
    }
    found
}

fn extended_capabilities(config: &ConfigSpace) -> Vec<(u16, usize)> {
    let mut found = vec![];
    let mut at = 0x100;
    while at != 0 {
        assert!(at % 4 == 0 && found.len() < 48);
        let [a, b, c, d] = read32(config, at).to_le_bytes();
        assert_eq!(c & 0xf, 1, "version");
        found.push((u16::from_le_bytes([a, b]), at));
        at = usize::from(u16::from_le_bytes([c, d]) >> 4);
    }
    found
}

fn pcie(config: &ConfigSpace) -> usize {
    capabilities(config)
        .into_iter()
        .find(|&(id, _)| id == 0x10)
        .unwrap()
        .1
}

fn tph(config: &ConfigSpace) -> usize {
    extended_capabilities(config)
        .into_iter()
        .find(|&(id, _)| id == 0x17)
        .unwrap()
        .1
}

#[test]
fn capabilities_are_chained() {
    let ids = |config: &ConfigSpace| {
        let ids: Vec<u8> = capabilities(config).into_iter().map(|(id, _)| id).collect();
        let extended: Vec<u16> = extended_capabilities(config)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        (ids, extended)
    };
    assert_eq!(
        ids(&initiator(true)),
        (vec![0x10, 0x01, 0x11], vec![0x03, 0x17])
    );
    assert_eq!(
        ids(&accelerator(CompleterType::Tph)),
        (vec![0x10, 0x01, 0x11], vec![0x03])
    );
    for (config, extended) in [
        (InitiatorConfig::InterruptVector, vec![0x17, 0x03]),
        (InitiatorConfig::MsixTable, vec![0x03, 0x17]),
        (InitiatorConfig::NoTable, vec![0x03, 0x17]),
        (InitiatorConfig::NoTph, vec![0x03]),
    ] {
        let expected = (vec![0x10, 0x01, 0x11], extended);
        assert_eq!(ids(&initiator_of(config)), expected, "{config:?}");
    }
}

#[test]
fn identity_is_read_only() {
    let mut config = initiator(true);
    assert_eq!(read32(&config, 0), 0x10f1_1af4);
    assert_eq!(read32(&config, 0x2c), 0x10f1_1af4);
    assert_eq!(read32(&config, 0x08), 0x0880_0001);
    assert_eq!(config.write(0, &[0xff; 4]), []);
    assert_eq!(config.write(0x2c, &[0xff; 4]), []);
    assert_eq!(read32(&config, 0), 0x10f1_1af4);
    for (config, id) in [
        (InitiatorConfig::Tph, 0x10f0_1af4),
        (InitiatorConfig::InterruptVector, 0x10f3_1af4),
        (InitiatorConfig::MsixTable, 0x10f4_1af4),
        (InitiatorConfig::NoTable, 0x10f5_1af4),
        (InitiatorConfig::NoTph, 0x10f6_1af4),
    ] {
        assert_eq!(read32(&initiator_of(config), 0), id, "{config:?}");
    }
    assert_eq!(read32(&accelerator(CompleterType::None), 0), 0x10f2_1af4);
}

#[test]
fn command_and_status() {
    let mut config = initiator(true);
    assert_eq!(read32(&config, 4), 0x0010_0000);
    let events = config.write(4, &[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(
        events,
        [Event::Command {
            bus_master: true,
            memory: true
        }]
    );
    assert_eq!(read32(&config, 4), 0x0010_0546);
    assert_eq!(
        config.write(4, &2u16.to_le_bytes()),
        [Event::Command {
            bus_master: false,
            memory: true
        }]
    );
    assert_eq!(config.write(4, &2u16.to_le_bytes()), [], "nothing changed");
}

#[test]
fn a_function_in_d3hot_is_off() {
    let mut config = initiator(true);
    let capabilities = capabilities(&config);
    let &(_, at) = capabilities.iter().find(|&&(id, _)| id == 0x01).unwrap();
    let control = at + 4;
    let all = |on| Event::Command {
        bus_master: on,
        memory: on,
    };
    config.write(4, &[6, 0]);
    for state in [1, 2] {
        assert_eq!(config.write(control, &[state]), [], "there is no D{state}");
        assert_eq!(read16(&config, control), 1 << 3);
    }
    assert_eq!(config.write(control, &[3, 0]), [all(false)]);
    assert_eq!(read16(&config, control), 1 << 3 | 3);
    assert_eq!(config.write(control, &[1]), []);
    assert_eq!(read16(&config, control), 1 << 3 | 3);
    // COMMAND keeps what is written, but enables nothing.
    assert_eq!(config.write(4, &[2, 0]), [all(false)]);
    assert_eq!(config.write(4, &[6, 0]), [all(false)]);
    assert_eq!(read16(&config, 4), 6);
    assert_eq!(config.write(control, &[0, 0]), [all(true)]);
    config.write(control, &[3, 0]);
    config.reset();
    config.write(4, &[6, 0]);
    assert_eq!(config.command(), all(true), "a reset ends in D0");
}

#[test]
fn errors_are_cleared_by_writing_one() {
    let mut config = initiator(true);
    let status = pcie(&config) + 0x0a;
    for (at, bits) in [(super::image::STATUS, 0xf910), (status, 0x000f)] {
        config.bytes[at..at + 2].copy_from_slice(&u16::to_le_bytes(bits));
        config.write(at, &[0, 0]);
        assert_eq!(read16(&config, at), bits, "0 keeps");
        let lowest = bits & bits.wrapping_neg();
        config.write(at, &(lowest | 0x8000 & bits).to_le_bytes());
        let read_only = if at == super::image::STATUS { 0x10 } else { 0 };
        assert_eq!(
            read16(&config, at),
            bits & !(lowest | 0x8000) | read_only & bits
        );
    }
}

#[test]
fn bars_are_sized_and_placed() {
    let mut config = accelerator(CompleterType::TphAndExtended);
    for (bar, low) in [(0, 0xffff_e004), (2, 0xfff0_000c)] {
        let at = 0x10 + 4 * bar;
        config.write(at, &[0xff; 4]);
        config.write(at + 4, &[0xff; 4]);
        assert_eq!(
            (read32(&config, at), read32(&config, at + 4)),
            (low, 0xffff_ffff)
        );
        config.write(at + 4, &0x38u32.to_le_bytes());
        let events = config.write(at, &0x0010_0000u32.to_le_bytes());
        assert_eq!(
            events,
            [Event::BarMoved {
                bar,
                address: 0x38_0010_0000
            }]
        );
        assert_eq!(read32(&config, at), 0x0010_0000 | low & 0xf);
    }
    for at in [0x20, 0x24, 0x30] {
        config.write(at, &[0xff; 4]);
        assert_eq!(read32(&config, at), 0, "no BAR, no ROM at {at:#x}");
    }
}

#[test]
fn device_capabilities() {
    for (completer, code) in [
        (CompleterType::None, 0b00),
        (CompleterType::Tph, 0b01),
        (CompleterType::Reserved, 0b10),
        (CompleterType::TphAndExtended, 0b11),
    ] {
        let mut config = accelerator(completer);
        let at = pcie(&config) + 0x24;
        let devcap2 = read32(&config, at);
        assert_eq!(devcap2 >> 12 & 0b11, code);
        assert_eq!(devcap2 >> 21 & 0b111, 0b011, "end-end prefixes, one");
        config.write(at, &[0xff; 4]);
        assert_eq!(read32(&config, at), devcap2);
    }
    let config = initiator(true);
    let at = pcie(&config);
    assert_eq!(read16(&config, at + 2), 0x8002, "version 2, endpoint");
    assert_ne!(read32(&config, at + 4) & 1 << 28, 0, "FLR");
    assert_eq!(read16(&config, at + 0x12), 0x1106, "64 GT/s, x16");
    assert_eq!(read16(&config, at + 0x32), 1 << 10, "flit mode");
    let slow = InitiatorConfig::default().config_space(Mode::NonFlit, 0);
    assert_eq!(read16(&slow, at + 0x12), 0x1105, "32 GT/s, x16");
    assert_eq!(read16(&slow, at + 0x32), 0);
}

#[test]
fn device_control_limits_packets() {
    let mut config = initiator(true);
    let at = pcie(&config) + 8;
    assert_eq!(config.limits(), Limits::default());
    let expected = Limits {
        max_payload: 256,
        max_read_request: 4096,
        extended_tag: true,
    };
    assert_eq!(
        config.write(at, &0x5930u16.to_le_bytes()),
        [Event::DeviceControl(expected)]
    );
    // More than the function supports, and reserved codes.
    config.write(at, &0x78e0u16.to_le_bytes());
    assert_eq!(
        config.limits(),
        Limits {
            max_payload: 512,
            max_read_request: 4096,
            extended_tag: false
        }
    );
}

#[test]
fn function_level_reset_spares_the_bars() {
    let mut config = initiator(true);
    let (devctl, tph) = (pcie(&config) + 8, tph(&config));
    config.write(4, &6u16.to_le_bytes());
    config.write(0x10, &0xfebd_4000u32.to_le_bytes());
    config.write(tph + 8, &0x0302u32.to_le_bytes());
    config.write(tph + 12, &0xbef0u16.to_le_bytes());
    config.write(0x3c, &[11]);
    assert_eq!(
        config.write(devctl, &0xa810u16.to_le_bytes()),
        [Event::FunctionLevelReset]
    );
    let mut expected = initiator(true);
    expected.write(0x10, &0xfebd_4000u32.to_le_bytes());
    assert_eq!(config.bytes, expected.bytes);
    assert_eq!(read16(&config, devctl) & 0x8000, 0, "reads as 0");
    config.write(devctl + 1, &[0x28]);
    assert_eq!(
        config.write(devctl + 1, &[0xa8]),
        [Event::FunctionLevelReset],
        "byte access"
    );

    config.reset();
    assert_eq!(config.bytes, initiator(true).bytes);
}

#[test]
fn tph_registers_with_extended() {
    let mut config = initiator(true);
    let at = tph(&config);
    let size = u32::try_from(ST_ENTRIES - 1).unwrap() << 16;
    assert_eq!(read32(&config, at + 4), size | 0x305);
    config.write(at + 4, &[0xff; 4]);
    assert_eq!(read32(&config, at + 4), size | 0x305);

    assert_eq!(
        config.write(at + 8, &[0xff; 4]),
        [Event::TphControl {
            mode: StMode::Reserved(7),
            enable: RequesterEnable::TphAndExtended
        }]
    );
    assert_eq!(read32(&config, at + 8), 0x0307);
    assert_eq!(
        config.write(at + 8, &0x0102u32.to_le_bytes()),
        [Event::TphControl {
            mode: StMode::DeviceSpecific,
            enable: RequesterEnable::Tph
        }]
    );

    let events = config.write(at + 12 + 2 * 3, &0xbef0u16.to_le_bytes());
    assert_eq!(
        events,
        [Event::SteeringTag {
            entry: 3,
            value: 0xbef0
        }]
    );
    let two = config.write(at + 12, &[1, 2, 3, 4]);
    assert_eq!(
        two,
        [
            Event::SteeringTag {
                entry: 0,
                value: 0x0201
            },
            Event::SteeringTag {
                entry: 1,
                value: 0x0403
            }
        ]
    );
    let tph = config.tph().unwrap();
    assert_eq!(tph.entry(3), Some(0xbef0));
    assert_eq!(
        (tph.entry(ST_ENTRIES - 1), tph.entry(ST_ENTRIES)),
        (Some(0), None)
    );
    assert_eq!(tph.entry(usize::MAX / 2), None);
    config.write(at + 12 + 2 * ST_ENTRIES, &[0xff; 4]);
    assert_eq!(
        read32(&config, at + 12 + 2 * ST_ENTRIES),
        0,
        "behind the table"
    );
}

#[test]
fn tph_registers_without_extended() {
    let mut config = initiator(false);
    let at = tph(&config);
    assert_eq!(read32(&config, at + 4) & 1 << 8, 0);
    config.write(at + 8, &[0xff; 4]);
    assert_eq!(read32(&config, at + 8), 0x0107);
    let events = config.write(at + 12, &0xbef0u16.to_le_bytes());
    assert_eq!(
        events,
        [Event::SteeringTag {
            entry: 0,
            value: 0x00f0
        }]
    );
}

#[test]
fn the_st_table_has_a_location() {
    for (config, capability, table) in [
        (InitiatorConfig::Tph, 0x003f_0205, StTable::Capability(64)),
        (
            InitiatorConfig::InterruptVector,
            0x003f_0307,
            StTable::Capability(64),
        ),
        (InitiatorConfig::MsixTable, 0x0507, StTable::MsiX),
        (InitiatorConfig::NoTable, 0x0105, StTable::None),
    ] {
        let mut space = initiator_of(config);
        let at = tph(&space);
        assert_eq!(read32(&space, at + 4), capability, "{config:?}");
        // What is behind the registers is the table, or nothing.
        let in_capability = matches!(table, StTable::Capability(_));
        let events = space.write(at + 12, &0x00f0_u16.to_le_bytes());
        assert_eq!(events.len(), usize::from(in_capability), "{config:?}");
        let entry = space.tph().unwrap().entry(0);
        assert_eq!(entry, in_capability.then_some(0xf0));
        // The gate goes by the same.
        space.write(at + 8, &[2, 1]);
        let mut tags = vec![0; 64];
        tags[0] = 0xf0;
        let expected = Tph {
            interrupt_vector: capability & 0b010 != 0,
            device_specific: true,
            table: match table {
                StTable::None => StEntries::None,
                StTable::Capability(_) => StEntries::Capability(tags),
                StTable::MsiX => StEntries::MsiX,
            },
            mode: StMode::DeviceSpecific,
            enable: RequesterEnable::Tph,
        };
        assert_eq!(space.tph().unwrap().state(), expected, "{config:?}");
    }
    assert!(initiator_of(InitiatorConfig::NoTph).tph().is_none());
}

#[test]
fn interrupts_have_vectors() {
    for (config, vectors) in [
        (InitiatorConfig::Extended, 1),
        (InitiatorConfig::InterruptVector, 4),
        (InitiatorConfig::MsixTable, 4),
    ] {
        let space = initiator_of(config);
        let capabilities = capabilities(&space);
        let &(_, at) = capabilities.iter().find(|&&(id, _)| id == 0x11).unwrap();
        assert_eq!(read16(&space, at + 2) & 0x7ff, vectors - 1, "{config:?}");
        assert_eq!(space.vectors(), vectors);
    }
}

#[test]
fn nothing_lies_beyond_the_end() {
    let mut config = initiator(true);
    let mut data = [0; 8];
    config.read(SIZE - 4, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    config.read(usize::MAX, &mut data);
    assert_eq!(data, [0xff; 8]);
    assert_eq!(config.write(SIZE - 4, &[0xff; 8]), []);
    assert_eq!(config.write(usize::MAX, &[0xff; 8]), []);
}

proptest! {
    /// No sequence of writes changes a read-only bit, and reads agree with the masks.
    #[test]
    fn writes_change_writable_bits_only(
        writes in prop::collection::vec((0..SIZE, prop::collection::vec(any::<u8>(), 1..9)), 0..64),
    ) {
        let mut config = initiator(true);
        let reset = config.bytes.clone();
        for (at, data) in writes {
            config.write(at, &data);
        }
        for at in 0..SIZE {
            let fixed = !config.writable[at];
            prop_assert_eq!(config.bytes[at] & fixed, reset[at] & fixed, "byte {:#x}", at);
        }
    }
}
