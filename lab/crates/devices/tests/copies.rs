// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies from guest memory to the accelerator, driven over the sockets.

mod common;

use common::{HINT_8, HINT_16, Lab, PAYLOAD, RAM, RAM_SIZE, TABLE, TPH, TPH_FIRST};
use devices::{CompleterType, InitiatorConfig};
use fabric::trace::Record;
use std::os::unix::fs::FileExt;
use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};

/// Power Management Control/Status.
const PMCSR: u64 = 0x80;
const DONE: u32 = 0b010;
const DROPPED: u32 = 0b100;

fn requests(trace: &[Record]) -> Vec<MemRequest> {
    trace
        .iter()
        .filter_map(|record| match record.tlp().unwrap() {
            Tlp::MemWrite(request, _) => Some(request),
            _ => None,
        })
        .collect()
}

fn lanes<const N: usize>(values: [u32; N]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[test]
fn the_tag_selects_the_operation() {
    let before = [0xffff_ffff_u32, 5, 0x8000_0000, 0];
    let written = [2_u32, 7, 0x7fff_ffff, 0x1234_5678];
    let plain = written;
    let sum = [1, 12, 0xffff_ffff, 0x1234_5678];
    let xor = [0xffff_fffd, 2, 0xffff_ffff, 0x1234_5678];
    let min = [2, 5, 0x7fff_ffff, 0];
    for mode in [Mode::Flit, Mode::NonFlit] {
        let mut lab = Lab::new(mode, CompleterType::TphAndExtended);
        lab.initiator.config_write16(TPH + 8, 0x0302);
        for (hint, result) in [
            (0, plain),
            (HINT_8 | 0xf0, sum),
            (HINT_8 | 0xe5, xor),
            (HINT_8 | 0x9f, plain),
            (HINT_16 | 0xf3aa, sum),
            (HINT_16 | 0xd001, min),
            (HINT_16 | 0x00f0, plain),
        ] {
            lab.payload().write_all_at(&lanes(before), 0x800).unwrap();
            assert_eq!(lab.copy(&lanes(written), 0x800, hint), DONE, "{hint:#x}");
            assert_eq!(lab.payload_at::<16>(0x800)[..], lanes(result), "{hint:#x}");
        }
    }
}

#[test]
fn registers_tell_what_arrived() {
    let mut lab = Lab::ready();
    let data = vec![1; 1000];
    lab.copy(&data, 0, 0);
    lab.copy(&data, 0x1001, HINT_8 | 0xf3);
    lab.copy(&[1; 8], 0, HINT_16 | 0x0300);
    assert_eq!(lab.initiator.register(0x38), 8 + 8 + 1, "128 bytes each");
    let accelerator = &mut lab.accelerator;
    assert_eq!(accelerator.register(0x00), 0x5450_4841);
    assert_eq!(accelerator.register(0x08), 3);
    assert_eq!(accelerator.register(0x10), 8, "unhinted");
    assert_eq!(accelerator.register(0x14), 0, "ignored");
    let partition = 0x100 + 3 * 0x20;
    assert_eq!(accelerator.register(partition), 9);
    assert_eq!(accelerator.register(partition + 8), 1008);
    assert_eq!(accelerator.register(partition + 0x10), 0x0001_0300);
    assert_eq!(accelerator.register(partition + 0x14), 2);
    accelerator.set_register(partition, 0);
    assert_eq!(accelerator.register(partition), 9, "read-only");
    accelerator.client.reset().unwrap();
    assert_eq!(accelerator.register(partition), 0);
}

#[test]
fn byte_enables_mask_the_result() {
    let mut lab = Lab::ready();
    // Bytes 1..=10: the lanes at the ends are partly enabled.
    for (hint, result) in [(0, 0x0f), (HINT_8 | 0xb0, 0x0f), (HINT_8 | 0xe0, 0xf0)] {
        lab.payload().write_all_at(&[0xff; 12], 0).unwrap();
        lab.copy(&[0x0f; 10], 1, hint);
        let mut expected = [result; 12];
        (expected[0], expected[11]) = (0xff, 0xff);
        assert_eq!(lab.payload_at::<12>(0), expected, "{hint:#x}");
    }
}

#[test]
fn device_control_sizes_the_packets() {
    let mut lab = Lab::ready();
    for (control, writes) in [(0x2810, 8), (0x2830, 4), (0x2850, 2)] {
        lab.initiator.config_write16(0x48, control);
        let before = lab.initiator.register(0x38);
        assert_eq!(lab.copy(&[1; 1000], 0, 0), DONE);
        assert_eq!(lab.initiator.register(0x38) - before, writes);
    }
}

#[test]
fn the_completer_type_decides_what_is_honoured() {
    for (completer, short, long) in [
        (CompleterType::None, false, false),
        (CompleterType::Tph, true, false),
        (CompleterType::Reserved, false, false),
        (CompleterType::TphAndExtended, true, true),
    ] {
        let mut lab = Lab::new(Mode::Flit, completer);
        lab.initiator.config_write16(TPH + 8, 0x0302);
        let mut ignored = 0;
        for (hint, honoured) in [(HINT_8 | 0xf0, short), (HINT_16 | 0xf000, long)] {
            lab.payload().write_all_at(&lanes([40]), 0).unwrap();
            assert_eq!(lab.copy(&lanes([2]), 0, hint), DONE);
            let expected = if honoured { 42 } else { 2 };
            assert_eq!(
                lab.payload_at::<4>(0)[..],
                lanes([expected]),
                "{completer:?} {hint:#x}"
            );
            ignored += u32::from(!honoured);
        }
        assert_eq!(lab.accelerator.register(0x14), ignored);
        let devcap2 = lab.accelerator.config32(0x40 + 0x24);
        assert_eq!(devcap2 >> 12 & 0b11, u32::from(completer.code()));
    }
}

#[test]
fn hints_are_gated_by_the_control_register() {
    let mut lab = Lab::ready();
    for (control, hint, tag) in [
        (0x0000, HINT_8 | 0xf0, None),
        (0x0102, HINT_8 | 0xf0, Some(SteeringTag::St(0xf0))),
        (0x0102, HINT_16 | 0xf0, None),
        (0x0202, HINT_8 | 0xf0, None),
        (0x0302, HINT_16 | 0xbef0, Some(SteeringTag::Ext(0xbef0))),
        (0x0100, HINT_8 | 0xf0, None),
        (0x0100, HINT_8, Some(SteeringTag::St(0))),
    ] {
        lab.initiator.config_write16(TPH + 8, control);
        let seen = lab.trace().len();
        let dropped = if tag.is_none() { DROPPED } else { 0 };
        assert_eq!(
            lab.copy(&[1; 4], 0, hint),
            DONE | dropped,
            "{control:#x} {hint:#x}"
        );
        let [request] = requests(&lab.trace()[seen..])[..] else {
            panic!("one write")
        };
        assert_eq!(
            request.hint(),
            tag.map(|tag| Hint {
                ph: Ph::Target,
                tag
            })
        );
    }
}

#[test]
fn tags_come_from_the_st_table() {
    let mut lab = Lab::ready();
    lab.initiator.config_write16(TPH + 12 + 2 * 5, 0xbef0);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_16 | TABLE | 5), DONE);
    let [request] = requests(&lab.trace())[..] else {
        panic!("one write")
    };
    assert_eq!(request.hint().unwrap().tag, SteeringTag::Ext(0xbef0));
    assert_eq!(
        lab.copy(&[1; 4], 0, HINT_16 | TABLE | 64),
        DONE | 0x300,
        "no such entry"
    );
    assert_eq!(requests(&lab.trace()).len(), 1);
}

#[test]
fn in_interrupt_vector_mode_the_vector_selects_the_tag() {
    const INTERRUPT_VECTOR: u16 = 0x0301;
    let mut lab = Lab::of(
        InitiatorConfig::InterruptVector,
        TPH_FIRST,
        INTERRUPT_VECTOR,
    );
    for entry in 0..4u8 {
        let tag = 0xbe00 + u16::from(entry);
        lab.initiator
            .config_write16(TPH_FIRST + 12 + 2 * u64::from(entry), tag);
    }
    lab.initiator.set_irq(0, &[]);
    let eventfd = lab.eventfd.try_clone().unwrap();
    lab.initiator.set_irq(2, &[&eventfd]);
    lab.initiator.set_register(0x3c, 2);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_16 | TABLE | 2), DONE);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_16 | TABLE | 1), DONE | DROPPED);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_16 | 0xbe02), DONE | DROPPED);
    let tags: Vec<_> = requests(&lab.trace())
        .iter()
        .map(|request| request.hint().map(|hint| hint.tag))
        .collect();
    assert_eq!(tags, [Some(SteeringTag::Ext(0xbe02)), None, None]);
}

#[test]
fn a_vector_must_be_there() {
    let mut lab = Lab::of(InitiatorConfig::InterruptVector, TPH_FIRST, 0);
    for vector in [4, 0xffff] {
        lab.initiator.set_register(0x3c, vector);
        lab.start(RAM, PAYLOAD, 4, 0);
        assert_eq!(lab.initiator.register(0x2c), DONE | 0x300);
        lab.no_interrupt();
    }
    assert!(lab.trace().is_empty());
    lab.initiator.set_register(0x3c, 0);
    assert_eq!(lab.copy(&[1; 4], 0, 0), DONE, "it still works");
}

#[test]
fn an_st_table_in_the_msix_table_is_refused_with_a_reason() {
    let mut lab = Lab::of(InitiatorConfig::MsixTable, TPH, 0x0302);
    for entry in [0, 3, 64] {
        let status = lab.copy(&[1; 4], 0, HINT_16 | TABLE | entry);
        assert_eq!(status, DONE | 0x600, "{entry}");
    }
    assert!(lab.trace().is_empty());
    assert_eq!(
        lab.copy(&[1; 4], 0, HINT_8 | 0xf0),
        DONE,
        "a tag of its own"
    );
    assert!(requests(&lab.trace())[0].hint().is_some());
}

#[test]
fn without_an_st_table_the_tags_are_the_drivers() {
    let mut lab = Lab::of(InitiatorConfig::NoTable, TPH, 0x0302);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_16 | TABLE), DONE | 0x300);
    assert!(lab.trace().is_empty());
    assert_eq!(lab.copy(&[1; 4], 0, HINT_16 | 0xbef0), DONE);
    let tag = requests(&lab.trace())[0].hint().map(|hint| hint.tag);
    assert_eq!(tag, Some(SteeringTag::Ext(0xbef0)));
}

#[test]
fn without_tph_there_are_no_hints() {
    let mut lab = Lab::with(
        Mode::Flit,
        CompleterType::TphAndExtended,
        InitiatorConfig::NoTph,
    );
    assert_eq!(lab.copy(&[1; 4], 0, HINT_8 | 0xf0), DONE | DROPPED);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_8 | TABLE), DONE | DROPPED);
    assert_eq!(lab.copy(&[1; 4], 0, 0), DONE);
    assert!(
        requests(&lab.trace())
            .iter()
            .all(|one| one.hint().is_none())
    );
}

#[test]
fn tlps_carry_the_requester_id_of_the_register() {
    let mut lab = Lab::ready();
    lab.copy(&[1; 4], 0, 0);
    lab.initiator.set_register(0x08, Bdf::new(3, 2, 1).0.into());
    lab.copy(&[1; 4], 0, 0);
    let ids: Vec<Bdf> = requests(&lab.trace())
        .iter()
        .map(MemRequest::requester)
        .collect();
    assert_eq!(ids, [Bdf::new(0, 0x10, 0), Bdf::new(3, 2, 1)]);
}

#[test]
fn bus_master_off_is_an_error() {
    let mut lab = Lab::ready();
    lab.initiator.config_write16(4, 0x2);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_8), DONE | 0x100);
    assert!(lab.trace().is_empty());
    lab.initiator.config_write16(4, 0x6);
    assert_eq!(lab.copy(&[1; 4], 0, HINT_8), DONE);
}

#[test]
fn without_memory_enable_nobody_takes_the_write() {
    let mut lab = Lab::ready();
    lab.accelerator.config_write16(4, 0);
    assert_eq!(lab.copy(&[1; 4], 0, 0), DONE, "writes are posted");
    assert_eq!(lab.payload_at::<4>(0), [0; 4]);
    assert!(lab.trace().last().unwrap().is_unsupported());
}

#[test]
fn in_d3hot_nothing_is_sent_and_nothing_is_taken() {
    let mut lab = Lab::ready();
    lab.initiator.config_write16(PMCSR, 3);
    assert_eq!(
        lab.copy(&[1; 4], 0, 0),
        DONE | 0x100,
        "bus mastering is off"
    );
    assert!(lab.trace().is_empty());
    lab.initiator.config_write16(PMCSR, 0);
    lab.accelerator.config_write16(PMCSR, 3);
    assert_eq!(lab.copy(&[1; 4], 0, 0), DONE, "writes are posted");
    assert!(lab.trace().last().unwrap().is_unsupported());
    lab.accelerator.config_write16(PMCSR, 0);
    assert_eq!(lab.copy(&[1; 4], 0, 0), DONE);
    assert_eq!(lab.payload_at::<4>(0), [1; 4]);
}

#[test]
fn bad_requests_end_with_an_error() {
    let mut lab = Lab::ready();
    for (source, destination, len, error) in [
        (RAM, PAYLOAD, 0, 0x300),
        (RAM, PAYLOAD, (1 << 20) + 1, 0x300),
        (u64::MAX, PAYLOAD, 2, 0x300),
        (RAM, u64::MAX, 2, 0x300),
        (RAM + RAM_SIZE, PAYLOAD, 4, 0x200),
        (RAM + RAM_SIZE - 2, PAYLOAD, 4, 0x200),
        (0x8000_0000, PAYLOAD, 4, 0x200),
    ] {
        lab.start(source, destination, len, 0);
        lab.wait_for_interrupt();
        assert_eq!(
            lab.initiator.register(0x2c),
            DONE | error,
            "{source:#x} {len:#x}"
        );
        assert_eq!(lab.initiator.register(0x38), 0, "nothing was written");
    }
    assert_eq!(lab.copy(&[1; 4], 0, 0), DONE, "it still works");
}

#[test]
fn a_refused_read_shows_in_status() {
    let mut lab = Lab::ready();
    let status = |lab: &mut Lab| lab.initiator.config32(4) >> 16;
    assert_eq!(status(&mut lab), 0x0010);
    lab.start(0x8000_0000, PAYLOAD, 4, 0);
    lab.wait_for_interrupt();
    assert_eq!(status(&mut lab), 0x2010, "Received Master Abort");
    lab.initiator.config_write16(6, 0x2000);
    assert_eq!(status(&mut lab), 0x0010);
    lab.start(0x8000_0000, PAYLOAD, 4, 0);
    lab.wait_for_interrupt();
    lab.initiator.config_write16(6, 0x2000);
    assert_eq!(status(&mut lab), 0x0010, "cleared without having been read");
}

#[test]
fn guest_memory_can_be_the_destination() {
    let mut lab = Lab::ready();
    lab.ram.write_all_at(b"steering", 0).unwrap();
    lab.start(RAM, RAM + 0x1003, 8, HINT_8 | 0xf0);
    lab.wait_for_interrupt();
    let mut data = [0; 8];
    lab.ram.read_exact_at(&mut data, 0x1003).unwrap();
    assert_eq!(&data, b"steering");
}

#[test]
fn the_payload_can_be_the_source() {
    let mut lab = Lab::ready();
    lab.payload().write_all_at(b"steering", 0x40).unwrap();
    lab.start(PAYLOAD + 0x40, RAM, 8, 0);
    lab.wait_for_interrupt();
    let mut data = [0; 8];
    lab.ram.read_exact_at(&mut data, 0).unwrap();
    assert_eq!(&data, b"steering");
    assert_eq!(lab.trace()[1].from, "accelerator");
}

#[test]
fn interrupts_can_wait() {
    let mut lab = Lab::ready();
    lab.start(RAM, PAYLOAD, 4, 0);
    lab.wait_for_interrupt();
    assert_eq!(lab.initiator.register(0x34), 1);

    // Not enabled: it stays pending until it is.
    lab.initiator.set_register(0x34, 1);
    assert_eq!(lab.initiator.register(0x34), 0);
    lab.initiator.set_register(0x30, 0);
    lab.initiator.set_register(0x28, 1);
    while lab.initiator.register(0x34) == 0 {
        std::thread::yield_now();
    }
    lab.no_interrupt();
    lab.initiator.set_register(0x30, 1);
    lab.wait_for_interrupt();

    // Disconnected: nothing comes, nothing fails.
    lab.initiator.set_irq(0, &[]);
    lab.start(RAM, PAYLOAD, 4, 0);
    while lab.initiator.register(0x34) == 0 {
        std::thread::yield_now();
    }
    lab.no_interrupt();
}

#[test]
fn a_reset_ends_a_copy() {
    for flr in [false, true] {
        let mut lab = Lab::ready();
        lab.initiator.config_write16(TPH + 12 + 2 * 63, 0xbef0);
        lab.start(RAM, PAYLOAD, 1 << 20, 0);
        if flr {
            lab.initiator.config_write16(0x48, 0xa810);
        } else {
            lab.initiator.client.reset().unwrap();
        }
        let after = lab.trace().len();
        for (register, value) in [
            (0x10, 0),
            (0x20, 0),
            (0x2c, 0),
            (0x30, 0),
            (0x34, 0),
            (0x38, 0),
        ] {
            assert_eq!(
                lab.initiator.register(register),
                value,
                "register {register:#x}"
            );
        }
        assert_eq!(lab.initiator.config32(4) & 0xffff, 0);
        assert_eq!(lab.initiator.config32(TPH + 8), 0);
        assert_eq!(lab.initiator.config32(TPH + 12 + 4 * 31), 0, "entry 63");
        lab.initiator.config_write16(4, 0x6);
        assert_eq!(lab.copy(&[1; 4], 0, 0), DONE, "read, completion, write");
        assert_eq!(
            lab.trace().len(),
            after + 3,
            "nothing of the old copy came after the reset"
        );
        assert_eq!(lab.initiator.register(0x38), 1);
    }
}
