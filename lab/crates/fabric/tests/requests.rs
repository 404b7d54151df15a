// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bytes of fixed requests, as `requests.txt` has them: what a trace holds changes on purpose
//! only.

mod common;

use common::{BAR, Bench, INITIATOR, RAM};
use fabric::{
    Iommu, Limits, PAGE_SIZE, Want,
    trace::{Object, ObjectKind, Record},
};
use std::{fmt::Write, io, os::unix::fs::FileExt, sync::Arc};
use tlp::{Bdf, Hint, Mode, Ph, SteeringTag};

/// Where the initiator addresses the BAR behind an IOMMU.
const IOVA: u64 = 0xffff_0000;

struct Table;

impl Iommu for Table {
    fn translate(&self, requester: Bdf, page: u64) -> io::Result<Option<u64>> {
        let mapped = requester == INITIATOR && page < IOVA + 2 * PAGE_SIZE;
        Ok(mapped.then(|| BAR + (page - IOVA)))
    }
}

fn hint(tag: SteeringTag) -> Want {
    Want::exactly(Hint {
        ph: Ph::Target,
        tag,
    })
}

/// Aligned and not, hinted and not, of one TLP and of many, to memory, to `bar` and to nobody.
fn traffic(bench: &Bench, bar: u64, wants: &[Option<Want>]) {
    let data: Vec<u8> = (0..300u16).map(|at| (at % 251).to_le_bytes()[0]).collect();
    bench.ram.write_all_at(&data, 0xfc0).unwrap();
    let requester = bench.requester();
    let key = Object {
        kind: ObjectKind::Mkey,
        number: 0x12_3456,
    };
    for base in [RAM, bar, 0x10] {
        for &want in wants {
            for (at, len) in [(0x40, 8), (0x81, 2), (0xffd, 6), (0xfc1, 150)] {
                requester
                    .write_all(base + at, &data[..len], want, Some(key))
                    .unwrap();
                let mut got = vec![0; len];
                let read = requester.read_all(base + at, &mut got, want, None);
                assert_eq!(read.is_ok(), base != 0x10);
            }
        }
    }
    bench.initiator.set_limits(Limits {
        max_payload: 256,
        max_read_request: 4096,
        extended_tag: true,
    });
    requester.write(bar + 4, &data, None).unwrap();
    requester.read(RAM + 0xfc4, &mut [0; 280]).unwrap();
}

fn lines(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        let object = record.object.map(|object| format!(" for {object}"));
        let object = object.unwrap_or_default();
        write!(text, "{} -> {}{object}: ", record.from, record.to).unwrap();
        for byte in &record.bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_bytes_of_these_requests_are_known() {
    let mut text = String::new();
    let wants = [
        None,
        Some(hint(SteeringTag::St(0xf0))),
        Some(hint(SteeringTag::Ext(0xbef1))),
    ];
    for mode in [Mode::Flit, Mode::NonFlit] {
        let direct = Bench::new(mode);
        traffic(&direct, BAR, &wants);
        let translated = Bench::behind(mode, Some(Arc::new(Table)));
        let mapped = 4 * PAGE_SIZE;
        translated.initiator.map_device(IOVA, mapped, true).unwrap();
        traffic(&translated, IOVA, &wants[2..]);
        for bench in [direct, translated] {
            text += &lines(&bench.trace());
        }
    }
    // The first line says the licence.
    let known = include_str!("requests.txt").lines().skip(1);
    for (number, (line, known)) in text.lines().zip(known.clone()).enumerate() {
        assert_eq!(line, known, "line {}", number + 2);
    }
    assert_eq!(text.lines().count(), known.count());
}
