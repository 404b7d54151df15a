// SPDX-License-Identifier: MIT OR Apache-2.0
//! A root complex that translates addresses.

mod common;

use common::{BAR, BAR_SIZE, Bench, INITIATOR, RAM};
use fabric::{Error, Iommu, PAGE_SIZE, Want, trace::Destination};
use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};
use tlp::{Bdf, CompletionStatus, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};

/// Where the initiator addresses the page of the BAR at offset 0x3000.
const IOVA: u64 = 0xffff_f000;
const OFFSET: u64 = 0x3000;
const HINT: Hint = Hint {
    ph: Ph::Target,
    tag: SteeringTag::Ext(0xbef0),
};

const WANT: Want = Want::exactly(HINT);

/// Translates the pages that it knows, for the initiator, and counts how often it is asked.
#[derive(Default)]
struct Table(Mutex<State>);

#[derive(Default)]
struct State {
    pages: BTreeMap<u64, u64>,
    asked: usize,
    broken: bool,
}

impl Iommu for Table {
    fn translate(&self, requester: Bdf, page: u64) -> io::Result<Option<u64>> {
        let mut state = self.0.lock().unwrap();
        state.asked += 1;
        assert_eq!(page % PAGE_SIZE, 0);
        if state.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let page = state.pages.get(&page).copied();
        Ok(page.filter(|_| requester == INITIATOR))
    }
}

fn bench(mode: Mode) -> (Bench, Arc<Table>) {
    let table = Arc::new(Table::default());
    table.0.lock().unwrap().pages.insert(IOVA, BAR + OFFSET);
    let bench = Bench::behind(mode, Some(table.clone()));
    bench.initiator.map_device(IOVA, PAGE_SIZE, true).unwrap();
    (bench, table)
}

fn unsupported(bench: &Bench, addr: u64) {
    let seen = bench.trace().len();
    bench.requester().write(addr, &[1; 4], Some(WANT)).unwrap();
    assert!(bench.completer.take().is_empty());
    let trace = bench.trace();
    assert_eq!(trace.len(), seen + 1);
    assert!(trace[seen].is_unsupported());
}

#[test]
fn a_write_is_passed_on_with_the_translated_address() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        let (bench, _) = bench(mode);
        let requester = bench.requester();
        requester
            .write(IOVA + 0x801, &[1, 2, 3, 4, 5], Some(WANT))
            .unwrap();

        let writes = bench.completer.take();
        assert_eq!(writes.len(), 1);
        assert_eq!((writes[0].bar, writes[0].offset), (2, OFFSET + 0x800));
        assert_eq!(writes[0].hint, Some(HINT));
        let bytes: Vec<u8> = writes[0].bytes.iter().flatten().copied().collect();
        assert_eq!(bytes, [1, 2, 3, 4, 5]);

        let trace = bench.trace();
        let ways: Vec<String> = trace
            .iter()
            .map(|record| format!("{} -> {}", record.from, record.to))
            .collect();
        assert_eq!(ways, ["initiator -> host", "host -> target BAR2"]);
        let requests: Vec<(MemRequest, Vec<u8>)> = trace
            .iter()
            .map(|record| match record.tlp().unwrap() {
                Tlp::MemWrite(request, payload) => (request, payload.to_vec()),
                other => panic!("{other:?}"),
            })
            .collect();
        let [(before, sent), (after, arrived)] = &requests[..] else {
            panic!("two")
        };
        assert_eq!((before.addr(), after.addr()), (IOVA + 0x800, BAR + 0x3800));
        assert_eq!((before.hint(), sent), (after.hint(), arrived));
        assert_eq!(before.requester(), after.requester());
        assert_eq!(before.tag(), after.tag());
        assert_eq!((before.first_be(), before.last_be()), (0xe, 0x3));
        assert_eq!((after.first_be(), after.last_be()), (0xe, 0x3));
    }
}

#[test]
fn a_read_is_passed_on_too() {
    let (bench, _) = bench(Mode::Flit);
    let mut got = [0; 8];
    bench.requester().read(IOVA + 0x40, &mut got).unwrap();
    assert_eq!(got, [0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47]);
    let trace = bench.trace();
    let ways: Vec<String> = trace
        .iter()
        .map(|record| format!("{} -> {}", record.from, record.to))
        .collect();
    let expected = [
        "initiator -> host",
        "host -> target BAR2",
        "target -> initiator",
    ];
    assert_eq!(ways, expected);
}

#[test]
fn memory_needs_no_translation() {
    let (bench, table) = bench(Mode::Flit);
    bench.requester().write(RAM, &[7; 4], None).unwrap();
    let mut got = [0; 4];
    bench.ram.read_exact_at(&mut got, 0).unwrap();
    assert_eq!(got, [7; 4]);
    assert_eq!(table.0.lock().unwrap().asked, 0);
    let trace = bench.trace();
    assert!(matches!(&trace[0].to, Destination::To { name, bar: None } if name == "host"));
}

#[test]
fn the_physical_address_of_a_bar_reaches_nobody() {
    let (bench, table) = bench(Mode::Flit);
    unsupported(&bench, BAR + OFFSET);
    assert_eq!(table.0.lock().unwrap().asked, 0);
    // Mapped at its own address, it does.
    bench.initiator.map_device(BAR, BAR_SIZE, true).unwrap();
    table.0.lock().unwrap().pages.insert(BAR, BAR);
    bench.requester().write(BAR, &[1; 4], None).unwrap();
    assert_eq!(bench.completer.take().len(), 1);
}

#[test]
fn each_page_is_asked_for_once_until_it_is_unmapped() {
    let (bench, table) = bench(Mode::Flit);
    let requester = bench.requester();
    for _ in 0..3 {
        requester.write(IOVA, &[1; 4], None).unwrap();
    }
    assert_eq!(table.0.lock().unwrap().asked, 1);
    assert_eq!(bench.completer.take().len(), 3);

    bench.initiator.unmap_memory(IOVA, PAGE_SIZE).unwrap();
    unsupported(&bench, IOVA);
    let elsewhere = BAR + 0x5000;
    table.0.lock().unwrap().pages.insert(IOVA, elsewhere);
    bench.initiator.map_device(IOVA, PAGE_SIZE, true).unwrap();
    requester.write(IOVA, &[1; 4], None).unwrap();
    assert_eq!(bench.completer.take()[0].offset, 0x5000);
    assert_eq!(table.0.lock().unwrap().asked, 2);
}

#[test]
fn after_a_reset_it_is_asked_again() {
    let (bench, table) = bench(Mode::Flit);
    for asked in 1..3 {
        bench.requester().write(IOVA, &[1; 4], None).unwrap();
        assert_eq!(table.0.lock().unwrap().asked, asked);
        bench.initiator.reset();
    }
}

#[test]
fn what_the_iommu_blocks_reaches_nobody() {
    let (bench, table) = bench(Mode::Flit);
    table.0.lock().unwrap().pages.clear();
    unsupported(&bench, IOVA);
    let error = bench.requester().read(IOVA, &mut [0; 4]).unwrap_err();
    assert!(matches!(
        error,
        Error::Completion {
            status: CompletionStatus::UnsupportedRequest,
            ..
        }
    ));
}

#[test]
fn another_requester_id_is_translated_as_such() {
    let (bench, _) = bench(Mode::Flit);
    let other = bench.initiator.requester(Bdf::new(9, 9, 1));
    other.write(IOVA, &[1; 4], None).unwrap();
    assert!(bench.completer.take().is_empty());
    bench.requester().write(IOVA, &[1; 4], None).unwrap();
    assert_eq!(bench.completer.take().len(), 1);
}

#[test]
fn a_mapping_may_be_read_only() {
    let (bench, _) = bench(Mode::Flit);
    bench.initiator.unmap_memory(IOVA, PAGE_SIZE).unwrap();
    bench.initiator.map_device(IOVA, PAGE_SIZE, false).unwrap();
    unsupported(&bench, IOVA);
    bench.requester().read(IOVA, &mut [0; 4]).unwrap();
}

#[test]
fn memory_enable_of_the_peer_is_honoured() {
    let (bench, _) = bench(Mode::Flit);
    bench.target.set_command(true, false);
    unsupported(&bench, IOVA);
}

#[test]
fn an_iommu_that_cannot_be_asked_is_an_error() {
    let (bench, table) = bench(Mode::Flit);
    table.0.lock().unwrap().broken = true;
    assert!(matches!(
        bench.requester().write(IOVA, &[1; 4], None),
        Err(Error::Translate { addr: IOVA, .. })
    ));
    assert!(bench.trace().is_empty());
    table.0.lock().unwrap().broken = false;
    bench.requester().write(IOVA, &[1; 4], None).unwrap();
    assert_eq!(bench.completer.take().len(), 1);
}
