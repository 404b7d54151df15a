// SPDX-License-Identifier: MIT OR Apache-2.0
//! The trace: what is in it, where it ends, and what is left of it when a process dies.

mod common;

use common::{BAR, BAR_SIZE, Bench, RAM, limited, records, write_all};
use fabric::{
    Error, Want,
    trace::{
        BINARY_FILE, HEADER_LEN, Object, ObjectKind, Options, ReadError, Reader, Record, Sender,
        Snaplen, Tap, extract, finish,
    },
};
use proptest::{collection::vec, prelude::*};
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    process::{Signal, getpid, kill_process},
};
use std::{
    env, fs,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{FileExt, symlink},
            process::ExitStatusExt,
        },
    },
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    time::SystemTime,
};
use tlp::{Bdf, Hint, Mode, Ph, SteeringTag, Tlp};

fn traffic(bench: &Bench) {
    let hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(0xf0),
    };
    let requester = bench.requester();
    requester
        .write(BAR + 0x800, &[1; 32], Some(Want::exactly(hint)))
        .unwrap();
    requester.read(RAM, &mut [0; 8]).unwrap();
    requester.write(8, &[1; 4], None).unwrap();
}

fn bench_with_traffic(mode: Mode) -> Bench {
    let bench = Bench::new(mode);
    traffic(&bench);
    bench
}

/// What two runs have in common.
fn untimed(records: &[Record]) -> Vec<Record> {
    let untimed = |record: &Record| Record {
        time: 0,
        ..record.clone()
    };
    records.iter().map(untimed).collect()
}

#[test]
fn a_record_tells_when_and_what_for() {
    let key = Object {
        kind: ObjectKind::Mkey,
        number: 0xab_cdef,
    };
    let since_1970 = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let bench = Bench::new(Mode::Flit);
    let begin = since_1970();
    let requester = bench.requester();
    requester
        .write_all(BAR, &[0; 200], None, Some(key))
        .unwrap();
    requester.write(BAR, &[0; 4], None).unwrap();
    requester
        .read_all(BAR, &mut [0; 4], None, Some(key))
        .unwrap();
    let (records, end) = (bench.trace(), since_1970());
    let objects: Vec<_> = records.iter().map(|record| record.object).collect();
    assert_eq!(objects, [Some(key), Some(key), None, Some(key), Some(key)]);
    let times: Vec<_> = records
        .iter()
        .map(|record| u128::from(record.time))
        .collect();
    assert_eq!(times[0], times[1]);
    assert!(times.is_sorted() && begin <= times[0] && times[4] <= end);
}

#[test]
fn a_trace_tells_where_its_senders_are() {
    let path = "pcie.0/root-port/01:00.0";
    let bench = Bench::tapped(Mode::Flit, None, |dir| {
        let tap = Tap::create(dir).unwrap();
        tap.placed([("target".into(), path.into())])
    });
    let mut reader = Reader::open(&bench.path()).unwrap();
    assert_eq!(reader.by_ref().count(), 0);
    let sender = |name: &str, path: Option<&str>| Sender {
        name: name.into(),
        path: path.map(Into::into),
    };
    assert_eq!(
        reader.senders(),
        [
            sender("host", None),
            sender("initiator", None),
            sender("target", Some(path)),
        ]
    );
}

#[test]
fn another_link_type_is_refused() {
    let bench = bench_with_traffic(Mode::Flit);
    let path = bench.path();
    let _dir = bench.end();
    let mut bytes = fs::read(&path).unwrap();
    // The first interface follows the section header of 28 bytes; USER0 is 147.
    let at = 28 + 8;
    assert_eq!(bytes[at], 147);
    bytes[at] = 1;
    fs::write(&path, bytes).unwrap();
    let error = Reader::open(&path).unwrap().find_map(Result::err).unwrap();
    assert!(
        error
            .to_string()
            .contains("ETHERNET, those of the lab have USER0 (147)"),
        "{error}"
    );
}

#[test]
fn a_record_tells_who_sent_what_to_whom() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        let records = bench_with_traffic(mode).trace();
        assert!(records.iter().all(|record| record.mode == mode));
        let texts: Vec<String> = records.iter().map(ToString::to_string).collect();
        let headers: Vec<&str> = texts
            .iter()
            .filter_map(|text| text.lines().next())
            .collect();
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
    let text = bench_with_traffic(Mode::Flit).trace()[0].to_string();
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
fn a_trace_that_has_ended_is_a_file_as_long_as_its_blocks() {
    let bench = bench_with_traffic(Mode::Flit);
    let (path, whole) = (bench.path(), bench.trace());
    let copy = bench.dir.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    finish(&copy).unwrap();
    let dir = bench.end();
    assert_eq!(records(&path), whole);
    assert!(fs::metadata(&path).unwrap().len() < 1000);
    assert_eq!(fs::read(&path).unwrap(), fs::read(&copy).unwrap());
    drop(dir);
    assert!(matches!(finish(&path), Err(ReadError::File { .. })));
}

#[test]
fn a_cut_trace_is_good_up_to_the_cut() {
    let bench = bench_with_traffic(Mode::Flit);
    let (path, whole) = (bench.path(), bench.trace());
    let _dir = bench.end();
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

/// Whatever is in a file: an error or records, and no panic; and [`finish`] leaves something to
/// read.
fn survives(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(BINARY_FILE);
    fs::write(&path, bytes).unwrap();
    let read = || {
        let records = Reader::open(&path).into_iter().flatten();
        let texts = records
            .map_while(Result::ok)
            .map(|record| record.to_string());
        texts.filter(|text| !text.is_empty()).count()
    };
    let before = read();
    finish(&path).unwrap();
    assert!(read() >= before);
}

static TRACE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let bench = bench_with_traffic(Mode::Flit);
    let path = bench.path();
    let _dir = bench.end();
    fs::read(&path).unwrap()
});

proptest! {
    #[test]
    fn a_damaged_trace_is_no_danger(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = TRACE.clone();
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        survives(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        survives(&bytes);
    }
}

#[test]
fn a_part_of_a_trace_is_a_trace() {
    let bench = bench_with_traffic(Mode::Flit);
    let (path, whole) = (bench.path(), bench.trace());
    let _dir = bench.end();
    let part = path.with_extension("part");
    let kept = extract(&path, &part, |record| record.number != 2).unwrap();
    assert_eq!(kept, 3);
    let mut expected = [&whole[..1], &whole[2..]].concat();
    for (record, number) in expected.iter_mut().zip(1..) {
        record.number = number;
    }
    assert_eq!(records(&part), expected);
    // It replaces nothing.
    let error = extract(&path, &part, |_| false).unwrap_err();
    assert!(
        matches!(&error, ReadError::Write { path, .. } if *path == part),
        "{error}"
    );
    assert_eq!(records(&part), expected);
}

#[test]
fn a_part_says_what_the_trace_lacks() {
    let bench = Bench::tapped(Mode::Flit, None, |dir| limited(dir, 4096));
    for _ in 0..100 {
        bench.requester().write(BAR, &[0; 8], None).unwrap();
    }
    let path = bench.path();
    let _dir = bench.end();
    let part = path.with_extension("part");
    extract(&path, &part, |record| record.number < 3).unwrap();
    let unrecorded = |path: &Path| {
        let mut reader = Reader::open(path).unwrap();
        (reader.by_ref().count(), reader.unrecorded())
    };
    let (all, lacking) = unrecorded(&path);
    assert_eq!(all as u64 + lacking, 100);
    assert_eq!(unrecorded(&part), (2, lacking));
}

#[test]
fn what_is_no_trace_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    assert!(matches!(Reader::open(&path), Err(ReadError::File { .. })));
    let text = "# a text, in which no block ends".repeat(9);
    for other in [&[0x55; 64][..], text.as_bytes(), b"\x7fELF"] {
        fs::write(&path, other).unwrap();
        let Err(error) = Reader::open(&path) else {
            panic!("{other:?}");
        };
        assert!(
            error.to_string().ends_with("it is no pcapng file"),
            "{error}"
        );
    }

    // A packet of a later version of the format.
    let bench = bench_with_traffic(Mode::Flit);
    let path = bench.path();
    let first = bench.trace()[0].bytes.clone();
    let _dir = bench.end();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes
        .windows(first.len())
        .position(|window| window == first)
        .unwrap();
    bytes[at - HEADER_LEN] = 9;
    fs::write(&path, bytes).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    let error = reader.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("version 9"), "{error}");
    assert!(reader.next().is_none());
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let Err(Error::Trace { path, .. }) = Tap::create(Path::new("/no/such/directory")) else {
        panic!("no such directory")
    };
    assert_eq!(path, Path::new("/no/such/directory/trace.pcapng"));
}

#[test]
fn a_disk_that_is_full_is_noticed_at_once() {
    // Every write to /dev/full fails with ENOSPC.
    let dir = tempfile::tempdir().unwrap();
    symlink("/dev/full", dir.path().join(BINARY_FILE)).unwrap();
    assert!(matches!(
        Tap::create(dir.path()),
        Err(Error::Trace { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull
    ));
}

#[test]
fn a_tlp_that_cannot_be_recorded_is_not_sent() {
    let file = memfd_create("trace", MemfdFlags::ALLOW_SEALING).unwrap();
    let bench = Bench::tapped(Mode::Flit, None, |dir| {
        let target = format!("/proc/self/fd/{}", file.as_raw_fd());
        symlink(target, dir.join(BINARY_FILE)).unwrap();
        Tap::create(dir).unwrap()
    });
    // From now on a write to the file fails.
    fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).unwrap();
    let requester = bench.requester();
    let mut sent = 0u32;
    let error = loop {
        match requester.write(RAM, &(sent + 1).to_le_bytes(), None) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Record(_)), "{error}");
    let mut got = [0; 4];
    bench.ram.read_exact_at(&mut got, 0).unwrap();
    assert_eq!(u32::from_le_bytes(got), sent);
    assert_eq!(bench.trace().len(), sent as usize);
    requester.write(RAM, &[0; 4], None).unwrap_err();
    assert_eq!(bench.trace().len(), sent as usize);
}

/// Set in a process that is to die, to the directory of its trace.
const DYING: &str = "FABRIC_TEST_DYING";
/// More than what is written to its place at once.
const LAST_WRITES: usize = 3000;

#[test]
fn a_killed_process_leaves_all_that_it_sent() {
    if let Some(dir) = env::var_os(DYING) {
        let tap = |_: &Path| Tap::create(Path::new(&dir)).unwrap();
        let bench = Bench::tapped(Mode::Flit, None, tap);
        traffic(&bench);
        for _ in 0..LAST_WRITES {
            bench.requester().write(BAR, &[2; 128], None).unwrap();
        }
        kill_process(getpid(), Signal::KILL).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_leaves_all_that_it_sent"])
        .env(DYING, dir.path())
        // What it prints are no results of this run.
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    let path = dir.path().join(BINARY_FILE);
    let left = records(&path);
    assert_eq!(left.len(), 4 + LAST_WRITES);
    assert_eq!(
        untimed(&left[..4]),
        untimed(&bench_with_traffic(Mode::Flit).trace())
    );
    finish(&path).unwrap();
    assert_eq!(records(&path), left);
    let bytes: usize = left
        .iter()
        .map(|record| record.bytes.len() + 32 + HEADER_LEN)
        .sum();
    let heads = fs::metadata(&path).unwrap().len() - bytes as u64;
    assert!(heads < 200, "{heads} bytes beside the packets");
}

#[test]
fn a_trace_has_a_limit_and_says_what_is_beyond_it() {
    const LIMIT: u64 = 20_000;
    for mode in [Mode::Flit, Mode::NonFlit] {
        let whole = Bench::new(mode);
        let limited = Bench::tapped(mode, None, |dir| limited(dir, LIMIT));
        for bench in [&whole, &limited] {
            let requester = bench.requester();
            for at in 0..BAR_SIZE / 0x1000 {
                let (ram, bar) = (RAM + at * 0x1000, BAR + at * 0x1000);
                write_all(&requester, ram + 2, &[1; 500], None);
                write_all(&requester, bar, &[1; 500], None);
                requester.read(ram + 0x21, &mut [0; 500]).unwrap();
                requester.read(bar + 0x21, &mut [0; 500]).unwrap();
                requester.read(0, &mut [0; 4]).unwrap_err();
            }
            let late = Bdf::new(0, 0x1f, 0);
            let late = bench
                .fabric
                .attach("late", late, None)
                .unwrap()
                .requester(late);
            assert!(matches!(
                late.write(0, &[0], None),
                Err(Error::BusMasterOff)
            ));
        }
        let all = whole.trace();
        let unrecorded = |limited: &Path| {
            let mut reader = Reader::open(limited).unwrap();
            let recorded: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
            assert!(recorded.len() > 100);
            assert!(untimed(&recorded) == untimed(&all[..recorded.len()]));
            assert_eq!(reader.unrecorded(), (all.len() - recorded.len()) as u64);
        };
        unrecorded(&limited.path());
        let path = limited.path();
        let _dir = limited.end();
        unrecorded(&path);
        let len = fs::metadata(&path).unwrap().len();
        assert!((LIMIT - 1000..=LIMIT).contains(&len), "{len}");
        assert_eq!(whole.completer.take().len(), 16 * 4);
    }
}

#[test]
fn a_trace_within_its_limit_lacks_nothing() {
    let bench = bench_with_traffic(Mode::Flit);
    let mut reader = Reader::open(&bench.path()).unwrap();
    assert_eq!(reader.by_ref().count(), 4);
    assert_eq!(reader.unrecorded(), 0);
}

fn snapped(dir: &Path, snaplen: Snaplen) -> Result<Tap, Error> {
    let options = Options {
        snaplen: Some(snaplen),
        ..Options::default()
    };
    Tap::with(dir, options)
}

#[test]
fn a_snaplen_leaves_payload_out_of_the_trace_and_nothing_else() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        for snaplen in [Snaplen::HEADERS, Snaplen::new(60).unwrap()] {
            let whole = Bench::new(mode);
            let cut = Bench::tapped(mode, None, |dir| snapped(dir, snaplen).unwrap());
            for bench in [&whole, &cut] {
                traffic(bench);
                let tag = SteeringTag::Ext(0xbef0);
                let hint = Hint {
                    ph: Ph::Target,
                    tag,
                };
                write_all(&bench.requester(), BAR + 3, &[7; 300], Some(hint));
                write_all(&bench.requester(), RAM + 1, &[8; 300], None);
                let mut got = [0; 200];
                bench.requester().read(RAM + 2, &mut got).unwrap();
                assert_eq!(got, [8; 200], "what travels is whole");
            }
            assert_eq!(whole.completer.take(), cut.completer.take());
            let (all, some) = (whole.trace(), cut.trace());
            assert_eq!(all.len(), some.len());
            let mut missing = 0;
            for (all, some) in all.iter().zip(&some) {
                let captured = all.bytes.len().min(snaplen.bytes() as usize - HEADER_LEN);
                assert_eq!(some.bytes, all.bytes[..captured]);
                assert_eq!(some.missing, all.bytes.len() - captured);
                let (tlp, front) = (all.tlp().unwrap(), some.tlp().unwrap());
                let there = tlp.payload().len() - some.missing;
                assert_eq!(front.payload(), &tlp.payload()[..there]);
                match (tlp, front) {
                    (Tlp::MemRead(all), Tlp::MemRead(some))
                    | (Tlp::MemWrite(all, _), Tlp::MemWrite(some, _)) => assert_eq!(all, some),
                    (Tlp::Completion(all, _), Tlp::Completion(some, _)) => assert_eq!(all, some),
                    other => panic!("{other:?}"),
                }
                let says = some.to_string();
                let dwords = format!("... payload not captured: {} dwords", some.missing / 4);
                assert_eq!(says.contains(&dwords), some.missing > 0, "{says}");
                assert!(!says.contains("truncated"), "{says}");
                missing += some.missing;
            }
            assert!(missing > 300);

            let (path, part) = (cut.path(), cut.dir.path().join("part"));
            extract(&path, &part, |_| true).unwrap();
            assert_eq!(records(&part), some, "a part of it lacks the same");
        }
    }
}

#[test]
fn a_packet_that_lacks_something_else_is_no_tlp() {
    let bench = Bench::tapped(Mode::Flit, None, |dir| {
        snapped(dir, Snaplen::HEADERS).unwrap()
    });
    bench.requester().write(BAR, &[7; 64], None).unwrap();
    let [record] = &bench.trace()[..] else {
        panic!("one TLP")
    };
    assert!(record.tlp().is_ok());
    for missing in [0, record.missing - 4, record.missing + 4] {
        let record = Record {
            missing,
            ..record.clone()
        };
        assert!(record.tlp().is_err(), "{missing}");
    }
}
