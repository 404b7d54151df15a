// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two traces: what is in them, and what is left of them when a process dies.

mod common;

use common::{BAR, Bench, RAM};
use fabric::{
    Fabric,
    trace::{BINARY_FILE, ReadError, Reader, TEXT_FILE, Tap, TapError},
};
use std::{fs, path::Path};
use tlp::{Bdf, Hint, Mode, Ph, SteeringTag};

fn bench_with_traffic(mode: Mode) -> Bench {
    let bench = Bench::new(mode);
    let hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(0xf0),
    };
    bench
        .requester()
        .write(BAR + 0x800, &[1; 32], Some(hint))
        .unwrap();
    bench.requester().read(RAM, &mut [0; 8]).unwrap();
    bench.requester().write(8, &[1; 4], None).unwrap();
    bench
}

#[test]
fn both_traces_say_the_same() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        let bench = bench_with_traffic(mode);
        let text = fs::read_to_string(bench.dir.path().join(TEXT_FILE)).unwrap();
        let records = bench.trace();
        let again: Vec<String> = records.iter().map(ToString::to_string).collect();
        assert_eq!(text, again.join("\n\n") + "\n\n");
        assert!(records.iter().all(|record| record.mode == mode));

        let headers: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(
            headers,
            [
                "# 1: initiator -> target BAR2",
                "# 2: initiator -> host",
                "# 3: host -> initiator",
                "# 4: initiator -> nobody: unsupported request",
            ]
        );
    }
}

#[test]
fn the_analyzer_lines_are_in_the_text() {
    let bench = bench_with_traffic(Mode::Flit);
    let text = fs::read_to_string(bench.dir.path().join(TEXT_FILE)).unwrap();
    assert!(
        text.contains(" -> OHC-B ST=F0h PH=2 HV=1 AMA=0 AV-"),
        "{text}"
    );
    assert!(
        text.contains("08000260 -> STP MWr64 TC=0 OHC=2 TS=0 Attr=0 L=8"),
        "{text}"
    );
}

#[test]
fn a_cut_trace_is_good_up_to_the_cut() {
    let bench = bench_with_traffic(Mode::Flit);
    let path = bench.dir.path().join(BINARY_FILE);
    let whole = bench.trace();
    let bytes = fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let reader = match Reader::open(&path) {
            Ok(reader) => reader,
            Err(ReadError::Truncated { number: 1, .. }) => continue,
            Err(other) => panic!("{other}"),
        };
        let mut read = 0;
        for record in reader {
            match record {
                Ok(record) => assert_eq!(record, whole[read]),
                Err(ReadError::Truncated { number, .. }) => {
                    assert_eq!(number, read as u64 + 1);
                    break;
                }
                Err(other) => panic!("{other}"),
            }
            read += 1;
        }
        assert!(read < whole.len());
    }
}

#[test]
fn what_is_no_trace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    assert!(matches!(Reader::open(&path), Err(ReadError::File { .. })));
    fs::write(&path, [0x55; 64]).unwrap();
    assert!(matches!(Reader::open(&path), Err(ReadError::Format { .. })));

    // A packet of a later version of the format.
    let bench = bench_with_traffic(Mode::Flit);
    let path = bench.dir.path().join(BINARY_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let first = bench.trace()[0].bytes.clone();
    let at = bytes
        .windows(first.len())
        .position(|window| window == first)
        .unwrap();
    bytes[at - 4] = 9;
    fs::write(&path, bytes).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let error = reader.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("version 9"), "{error}");
    assert!(reader.next().is_none());
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let Err(TapError::File { path, .. }) = Tap::create(Path::new("/no/such/directory")) else {
        panic!("no such directory")
    };
    assert_eq!(path, Path::new("/no/such/directory/trace.txt"));
}

#[test]
fn a_tlp_that_cannot_be_recorded_is_not_sent() {
    // Every write to /dev/full fails with ENOSPC.
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join(TEXT_FILE)).unwrap();
    let fabric = Fabric::new(Mode::Flit, Tap::create(dir.path()).unwrap());
    let port = fabric.attach("initiator", Bdf::new(0, 1, 0), None).unwrap();
    let ram = tempfile::tempfile().unwrap();
    ram.set_len(0x1000).unwrap();
    port.map_memory(0, 0x1000, ram.try_clone().unwrap(), 0, true)
        .unwrap();
    port.set_command(true, true);
    let requester = port.requester(Bdf::new(0, 1, 0));
    assert!(matches!(
        requester.write(0, &[1; 4], None),
        Err(fabric::DmaError::Trace(error)) if error.kind() == std::io::ErrorKind::StorageFull
    ));
    let mut got = [9; 4];
    std::os::unix::fs::FileExt::read_exact_at(&ram, &mut got, 0).unwrap();
    assert_eq!(got, [0; 4]);
}
