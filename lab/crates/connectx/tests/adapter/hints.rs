// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hints: a key's processing hint and index become what the control register says at that moment.

use crate::harness::Lab;
use connectx_driver::{Area, Completion, Key, QpOptions, Request, Sge, Umr, access};
use fabric::trace::{HOST, Object, ObjectKind};
use tlp::{Hint, Ph, SteeringTag, Tlp};

/// Requester Enable.
const OFF: u16 = 0;
const TAGS_8: u16 = 1;
const TAGS_16: u16 = 3;

/// A key for all of `area` with this hint.
fn hinted(lab: &mut Lab, pd: u32, area: &Area, ph: u8, index: u8) -> u32 {
    let pages = area.page_list();
    let key = Key::translated(pd, access::ALL, area.addr(), area.len(), 12, &pages);
    lab.adapter.create_key(&key.hint(ph, index)).unwrap()
}

/// The hints of the reads or writes of an area, since `from`.
fn hints(lab: &Lab, from: usize, area: &Area, writes: bool) -> Vec<Option<Hint>> {
    let requests = lab.requests();
    let of_area = requests[from..]
        .iter()
        .filter(|(request, is_write)| *is_write == writes && area.contains(request.addr()));
    of_area.map(|(request, _)| request.hint()).collect()
}

const fn hint(ph: Ph, tag: SteeringTag) -> Hint {
    Hint { ph, tag }
}

#[test]
fn the_control_register_decides_what_a_key_s_hint_becomes() {
    let mut lab = Lab::recording();
    let (mut a, b) = lab.pair(QpOptions::RC);
    lab.adapter.function.set_steering_tag(5, 0xbef0);
    lab.adapter.function.set_steering_tag(6, 0);
    for (requester, ph, index, expected) in [
        (OFF, 2, 5, None),
        (TAGS_8, 2, 5, Some(hint(Ph::Target, SteeringTag::St(0xf0)))),
        (
            TAGS_16,
            2,
            5,
            Some(hint(Ph::Target, SteeringTag::Ext(0xbef0))),
        ),
        (
            TAGS_16,
            0,
            5,
            Some(hint(Ph::Bidirectional, SteeringTag::Ext(0xbef0))),
        ),
        (
            TAGS_16,
            1,
            5,
            Some(hint(Ph::Requester, SteeringTag::Ext(0xbef0))),
        ),
        (
            TAGS_16,
            3,
            5,
            Some(hint(Ph::TargetPriority, SteeringTag::Ext(0xbef0))),
        ),
        (
            TAGS_16,
            3,
            6,
            Some(hint(Ph::TargetPriority, SteeringTag::Ext(0))),
        ),
        // Index 0 is no entry.
        (TAGS_8, 2, 0, Some(hint(Ph::Target, SteeringTag::St(0)))),
        (TAGS_16, 2, 0, Some(hint(Ph::Target, SteeringTag::Ext(0)))),
        // Beyond the table.
        (TAGS_16, 2, 64, None),
    ] {
        lab.adapter.function.set_tph(requester);
        let target = hinted(&mut lab, b.pd, &b.area, ph, index);
        let source = hinted(&mut lab, a.pd, &a.area, ph, index);
        let from = lab.requests().len();
        let sge = Sge {
            key: source,
            ..a.sge(0, 300)
        };
        let write = Request::write(target, b.at(0)).data(sge);
        lab.run_well(&mut a, &write);
        for (area, writes) in [(&a.area, false), (&b.area, true)] {
            let seen = hints(&lab, from, area, writes);
            assert!(!seen.is_empty());
            let as_expected = seen.iter().all(|hint| *hint == expected);
            assert!(as_expected, "{requester} {ph} {index} {writes}: {seen:x?}");
        }
    }
}

#[test]
fn in_no_st_mode_a_key_has_its_processing_hint_alone() {
    let mut lab = Lab::recording();
    let (mut a, b) = lab.pair(QpOptions::RC);
    lab.adapter.function.set_steering_tag(5, 0xbef0);
    // The last entry is beyond the table, which this mode does not use.
    for (requester, index, expected) in [
        (OFF, 5, None),
        (TAGS_8, 5, Some(SteeringTag::St(0))),
        (TAGS_16, 5, Some(SteeringTag::Ext(0))),
        (TAGS_16, 0, Some(SteeringTag::Ext(0))),
        (TAGS_16, 64, Some(SteeringTag::Ext(0))),
    ] {
        lab.adapter.function.set_tph_without_tags(requester);
        let target = hinted(&mut lab, b.pd, &b.area, 1, index);
        let from = lab.requests().len();
        let write = Request::write(target, b.at(0)).inline(&[1]);
        lab.run_well(&mut a, &write);
        let expected = expected.map(|tag| hint(Ph::Requester, tag));
        assert_eq!(hints(&lab, from, &b.area, true), [expected]);
    }
}

#[test]
fn only_the_memory_of_the_key_is_hinted() {
    let mut lab = Lab::recording();
    lab.adapter.function.set_tph(TAGS_16);
    lab.adapter.function.set_steering_tag(1, 0x1234);
    let (mut a, b) = lab.pair(QpOptions::RC);
    let target = hinted(&mut lab, b.pd, &b.area, 2, 1);
    let write = Request::write(target, b.at(0)).data(a.sge(0, 300));
    lab.run_well(&mut a, &write);
    for (request, is_write) in lab.requests() {
        let is_target = is_write && b.area.contains(request.addr());
        assert_eq!(request.hint().is_some(), is_target, "{request:x?}");
    }
}

#[test]
fn the_trace_says_for_which_key_a_request_is() {
    let mut lab = Lab::recording();
    let (mut a, b) = lab.pair(QpOptions::RC);
    let target = hinted(&mut lab, b.pd, &b.area, 0, 0);
    let source = hinted(&mut lab, a.pd, &a.area, 0, 0);
    let from = lab.trace().len();
    let sge = Sge {
        key: source,
        ..a.sge(0, 300)
    };
    let write = Request::write(target, b.at(0)).data(sge);
    lab.run_well(&mut a, &write);
    let mut others = 0;
    for record in &lab.trace()[from..] {
        let key = match record.tlp().unwrap() {
            Tlp::MemWrite(request, _) if b.area.contains(request.addr()) => target,
            Tlp::MemRead(request) if a.area.contains(request.addr()) => source,
            _ => {
                others += 1;
                let object = record.object.unwrap();
                // The answers of the host are for what was asked for.
                assert!(
                    record.from == HOST || object.kind != ObjectKind::Mkey,
                    "{record}"
                );
                continue;
            }
        };
        let expected = Object {
            kind: ObjectKind::Mkey,
            // The lower byte is a part of the key, not of its index.
            number: key >> 8,
        };
        assert_eq!(record.object, Some(expected), "{record}");
    }
    assert!(others > 0);
}

#[test]
fn a_change_of_a_key_leaves_its_hint_alone() {
    let mut lab = Lab::recording();
    lab.adapter.function.set_tph(TAGS_16);
    lab.adapter.function.set_steering_tag(9, 0x4321);
    let (mut umr, all) = lab.umr();
    let (mut a, b) = lab.pair(QpOptions::RC);
    let pooled = Key::pooled(umr.pd, 16).hint(1, 9);
    let key = lab.adapter.create_key(&pooled).unwrap();
    let pages = b.area.page_list();
    let (pd, rights) = (b.pd, access::ALL);
    for _ in 0..2 {
        let enable = Umr::enable(key, pd, rights, b.at(0), b.area.len(), 12, &pages);
        for change in [enable, Umr::rights(key, pd, rights)] {
            lab.adapter.post_umr(&mut umr.qp, all, &change);
            assert_eq!(umr.cq.wait().opcode, Completion::SENT);
            let from = lab.requests().len();
            let write = Request::write(key, b.at(0)).inline(&[1]);
            lab.run_well(&mut a, &write);
            let expected = Some(hint(Ph::Requester, SteeringTag::Ext(0x4321)));
            assert_eq!(hints(&lab, from, &b.area, true), [expected]);
        }
        lab.adapter
            .post_umr(&mut umr.qp, all, &Umr::revoke(key, umr.pd));
        assert_eq!(umr.cq.wait().opcode, Completion::SENT);
    }
}

/// As the kernel updates an entry: requester enable off, the entry, requester enable on again.
fn update(lab: &mut Lab, tag: u16) {
    lab.adapter.function.set_tph(OFF);
    lab.adapter.function.set_steering_tag(1, tag);
    lab.adapter.function.set_tph(TAGS_16);
}

#[test]
fn changes_during_traffic_never_give_a_hint_that_is_half_set() {
    const TAGS: [u16; 2] = [0x1122, 0xeedd];
    let allowed = TAGS.map(|tag| Some(hint(Ph::Target, SteeringTag::Ext(tag))));
    let mut lab = Lab::recording();
    update(&mut lab, TAGS[0]);
    let (mut a, b) = lab.pair(QpOptions::RC);
    let target = hinted(&mut lab, b.pd, &b.area, 2, 1);
    let write = Request::write(target, b.at(0)).data(a.sge(0, 0x8000));
    let mut tags = TAGS.into_iter().cycle();
    for _ in 0..10 {
        // An odd number of changes: however slow the device is, it sees another tag than the last time.
        for tag in tags.by_ref().take(5) {
            lab.adapter.post(&mut a.qp, &write);
            update(&mut lab, tag);
        }
        for _ in 0..5 {
            assert_eq!(a.cq.wait().opcode, Completion::SENT);
        }
    }
    let seen = hints(&lab, 0, &b.area, true);
    for hint in seen.iter().filter(|hint| hint.is_some()) {
        assert!(allowed.contains(hint), "{hint:x?}");
    }
    for hint in allowed {
        assert!(seen.contains(&hint), "never {hint:x?}");
    }
}

#[test]
fn nothing_is_hinted_after_the_requester_was_switched_off() {
    const WRITES: usize = 3;
    let mut lab = Lab::recording();
    update(&mut lab, 0x1122);
    let (mut a, b) = lab.pair(QpOptions::RC);
    let target = hinted(&mut lab, b.pd, &b.area, 2, 1);
    let write = Request::write(target, b.at(0)).data(a.sge(0, 0x1_0000));
    lab.run_well(&mut a, &write);
    let before = hints(&lab, 0, &b.area, true);
    assert!(!before.is_empty() && before.iter().all(Option::is_some));
    let mut late = 0;
    for _ in 0..10 {
        for _ in 0..WRITES {
            lab.adapter.post(&mut a.qp, &write);
        }
        lab.adapter.function.set_tph(OFF);
        let from = lab.requests().len();
        for _ in 0..WRITES {
            assert_eq!(a.cq.wait().opcode, Completion::SENT);
        }
        let hints = hints(&lab, from, &b.area, true);
        assert!(hints.iter().all(Option::is_none));
        late += hints.len();
        if late > 0 {
            break;
        }
        lab.adapter.function.set_tph(TAGS_16);
    }
    assert!(
        late > 0,
        "all was sent before the requester was switched off"
    );
}
