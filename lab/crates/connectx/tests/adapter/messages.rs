// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the TLPs of messages are cut, as `messages.txt` has it: it changes on purpose only.

use crate::harness::{End, Lab};
use connectx_driver::{Key, QpOptions, Request, access};
use fabric::trace::{HOST, ObjectKind};
use std::fmt::Write;
use tlp::Tlp;

/// Each request for memory of a key since `from`: to which end, at which offset, and its length.
fn requests(lab: &Lab, from: usize, a: &End, b: &End) -> String {
    let mut text = String::new();
    for record in &lab.trace()[from..] {
        let for_key = record
            .object
            .is_some_and(|object| object.kind == ObjectKind::Mkey);
        if !for_key || record.from == HOST {
            continue;
        }
        let (kind, request) = match record.tlp().unwrap() {
            Tlp::MemRead(request) => ("read", request),
            Tlp::MemWrite(request, _) => ("write", request),
            Tlp::Completion(..) => panic!("{record}"),
        };
        let (end, area) = if a.area.contains(request.addr()) {
            ("a", &a.area)
        } else {
            ("b", &b.area)
        };
        let (offset, len) = (request.addr() - area.addr(), request.len_bytes());
        let (first, last) = (request.first_be(), request.last_be());
        writeln!(text, "{kind} {end} {offset:#x} {len} {first:x} {last:x}").unwrap();
    }
    text
}

#[test]
fn tlps_are_cut_where_they_always_were() {
    let mut lab = Lab::recording();
    lab.adapter.function.set_sizes(512, 4096);
    let (mut a, b) = lab.pair(QpOptions::RC);
    let pages = b.area.page_list();
    let scattered = [pages[4], pages[5], pages[9], pages[8], pages[10]];
    let scattered = Key::translated(b.pd, access::ALL, 0x7000, 0x5000, 12, &scattered);
    let scattered = lab.adapter.create_key(&scattered).unwrap();
    let part = |offset: u64, len: u32| a.sge(offset, len);
    let parts: [(&str, Request); 7] = [
        (
            "short",
            Request::write(b.key, b.at(0x11)).data(part(0x23, 300)),
        ),
        (
            "long",
            Request::write(b.key, b.at(0x456)).data(part(0x123, 0x2800)),
        ),
        (
            "aligned",
            Request::write(b.key, b.at(0x1000)).data(part(0x3000, 0x3000)),
        ),
        (
            "of two parts",
            Request::write(b.key, b.at(0x678))
                .data(part(0x101, 100))
                .data(part(0x2000, 0x1800)),
        ),
        (
            "to scattered pages",
            Request::write(scattered, 0x7123).data(part(0x321, 0x4800)),
        ),
        (
            "from scattered pages",
            Request::read(scattered, 0x7ffe).data(part(0x10, 0x3000)),
        ),
        (
            "to two parts",
            Request::read(b.key, b.at(0x33))
                .data(part(0x4005, 0x1100))
                .data(part(0x800, 0x1234)),
        ),
    ];
    let mut text = String::new();
    for (what, request) in parts {
        writeln!(text, "# {what}").unwrap();
        let from = lab.trace().len();
        lab.run_well(&mut a, &request);
        text += &requests(&lab, from, &a, &b);
    }
    // The first line says the licence.
    let known = include_str!("messages.txt").lines().skip(1);
    for (number, (line, known)) in text.lines().zip(known.clone()).enumerate() {
        assert_eq!(line, known, "line {}", number + 2);
    }
    assert_eq!(text.lines().count(), known.count());
}
