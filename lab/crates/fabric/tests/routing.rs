// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where TLPs go, and which gates hold them back.

mod common;

use common::{BAR, BAR_SIZE, Bench, INITIATOR, RAM, RAM_SIZE, TARGET, write_all};
use fabric::{
    Completer, CopyError, End, Error, Limits, NoHint, RequesterEnable, StEntries, TagSource, Tph,
    Want, Width,
    trace::{Destination, Tap},
};
use std::{
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};
use tlp::{Bdf, CompletionStatus, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};

const HINT: Hint = Hint {
    ph: Ph::Target,
    tag: SteeringTag::St(0xf0),
};

const WANT: Option<Want> = Some(Want::exactly(HINT));

#[test]
fn a_hint_reaches_the_peer_and_the_trace() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        for hint in [
            None,
            Some(HINT),
            Some(Hint {
                ph: Ph::TargetPriority,
                tag: SteeringTag::Ext(0xbef0),
            }),
        ] {
            let bench = Bench::new(mode);
            assert_eq!(
                write_all(&bench.requester(), BAR + 0x800, &[7; 32], hint),
                1
            );
            let writes = bench.completer.take();
            assert_eq!(writes.len(), 1);
            assert_eq!(
                (writes[0].bar, writes[0].offset, writes[0].hint),
                (2, 0x800, hint)
            );
            assert_eq!(writes[0].bytes, [Some(7); 32]);

            let [record] = &bench.trace()[..] else {
                panic!("one TLP")
            };
            assert_eq!(
                record.to,
                Destination::To {
                    name: "target".into(),
                    bar: Some(2)
                }
            );
            let Tlp::MemWrite(request, payload) = record.tlp().unwrap() else {
                panic!("a write")
            };
            assert_eq!((request.hint(), request.requester()), (hint, INITIATOR));
            assert_eq!((request.addr(), payload), (BAR + 0x800, &[7; 32][..]));
        }
    }
}

#[test]
fn the_transaction_tag_is_never_the_steering_tag() {
    let bench = Bench::new(Mode::Flit);
    bench.initiator.set_limits(Limits {
        extended_tag: true,
        ..Limits::default()
    });
    let requester = bench.requester();
    for tag in [SteeringTag::St(0), SteeringTag::Ext(0xbe03)] {
        write_all(
            &requester,
            BAR,
            &vec![0; 0xff00],
            Some(Hint { tag, ..HINT }),
        );
    }
    let tags: Vec<u16> = bench
        .trace()
        .iter()
        .map(|record| {
            let Tlp::MemWrite(request, _) = record.tlp().unwrap() else {
                panic!("a write")
            };
            assert_ne!(request.tag(), request.hint().unwrap().tag.value() & 0xff);
            request.tag()
        })
        .collect();
    assert!(
        tags.windows(2).all(|pair| pair[0] != pair[1]),
        "the tag runs on"
    );
    assert!(tags.iter().any(|&tag| tag > 0x1f));
}

#[test]
fn writes_are_cut_at_payload_size_and_4k() {
    let bench = Bench::new(Mode::Flit);
    let data: Vec<u8> = (0..600).map(|n: u16| n.to_le_bytes()[0]).collect();
    // 0x0f01..0x1159: 127 + 127... the 4 KiB boundary is 255 bytes in.
    let tlps = write_all(&bench.requester(), BAR + 0xf01, &data, None);
    let writes = bench.completer.take();
    assert_eq!(tlps, writes.len());
    let spans: Vec<(u64, usize)> = writes.iter().map(|w| (w.offset, w.bytes.len())).collect();
    assert_eq!(
        spans,
        [
            (0xf00, 128),
            (0xf80, 128),
            (0x1000, 128),
            (0x1080, 128),
            (0x1100, 92)
        ]
    );
    let got: Vec<u8> = writes
        .iter()
        .flat_map(|w| w.bytes.iter().flatten().copied())
        .collect();
    assert_eq!(got, data);

    bench.initiator.set_limits(Limits {
        max_payload: 512,
        ..Limits::default()
    });
    assert_eq!(write_all(&bench.requester(), BAR, &data, None), 2);
}

#[test]
fn only_enabled_bytes_reach_guest_memory() {
    let bench = Bench::new(Mode::NonFlit);
    bench.ram.write_all_at(&[0xee; 0x100], 0).unwrap();
    write_all(
        &bench.requester(),
        RAM + 5,
        &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        Some(HINT),
    );
    let mut got = [0; 16];
    bench.ram.read_exact_at(&mut got, 0).unwrap();
    assert_eq!(
        got,
        [
            0xee, 0xee, 0xee, 0xee, 0xee, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xee, 0xee
        ]
    );
}

#[test]
fn reads_of_guest_memory_come_back_in_completions() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        let bench = Bench::new(mode);
        let data: Vec<u8> = (0..0x1000)
            .map(|n: u16| (n % 251).to_le_bytes()[0])
            .collect();
        bench.ram.write_all_at(&data, 0).unwrap();
        let mut got = vec![0; 1001];
        let requester = bench.requester();
        let first = requester.read(RAM + 0x43, &mut got).unwrap();
        assert_eq!(first, 512 - 3, "Max_Read_Request_Size counts whole DWs");
        let rest = requester
            .read(RAM + 0x43 + first as u64, &mut got[first..])
            .unwrap();
        assert_eq!(first + rest, 1001);
        assert_eq!(got, data[0x43..0x43 + 1001]);

        let trace = bench.trace();
        let completions: Vec<_> = trace
            .iter()
            .filter_map(|record| match record.tlp().unwrap() {
                Tlp::Completion(header, payload) => Some((header, payload, record)),
                _ => None,
            })
            .collect();
        // 0x40..0x240 in at most 128 bytes, cut at multiples of 64.
        let sizes: Vec<usize> = completions[..4].iter().map(|(_, p, _)| p.len()).collect();
        assert_eq!(sizes, [128, 128, 128, 128]);
        assert_eq!(completions[0].0.byte_count(), 509);
        assert_eq!(completions[1].0.lower_address(), 0x40);
        assert!(
            completions
                .iter()
                .all(|(h, _, r)| h.requester() == INITIATOR && r.from == "host")
        );
    }
}

#[test]
fn reads_of_a_peer_break_at_128_bytes() {
    let bench = Bench::new(Mode::Flit);
    let mut got = [0; 300];
    assert_eq!(bench.requester().read(BAR + 0x40, &mut got).unwrap(), 300);
    let expected: Vec<u8> = (0x40..0x40 + 300u16).map(|n| n.to_le_bytes()[0]).collect();
    assert_eq!(got, expected[..]);
    let trace = bench.trace();
    assert_eq!(
        trace[0].to,
        Destination::To {
            name: "target".into(),
            bar: Some(2)
        }
    );
    let ends: Vec<u16> = trace[1..]
        .iter()
        .map(|record| {
            assert_eq!(record.from, "target");
            let Tlp::Completion(header, _) = record.tlp().unwrap() else {
                panic!("completion")
            };
            assert_eq!(header.completer(), TARGET);
            header.byte_count()
        })
        .collect();
    assert_eq!(ends, [300, 300 - 64, 300 - 64 - 128]);
}

#[test]
fn nobody_answers_with_unsupported_request() {
    let bench = Bench::new(Mode::Flit);
    let requester = bench.requester();
    for addr in [0, BAR + BAR_SIZE, BAR - 4, RAM + RAM_SIZE, u64::MAX - 3] {
        let mut data = [0x55; 4];
        let error = requester.read(addr, &mut data).unwrap_err();
        assert!(matches!(
            error,
            Error::Completion {
                status: CompletionStatus::UnsupportedRequest,
                ..
            }
        ));
        assert_eq!(data, [0x55; 4]);
        assert!(bench.initiator.take_master_abort() && !bench.initiator.take_master_abort());
        requester.write(addr, &data, None).unwrap();
    }
    assert!(bench.completer.take().is_empty());
    let trace = bench.trace();
    assert_eq!(
        trace
            .iter()
            .filter(|record| record.is_unsupported())
            .count(),
        10
    );
    assert_eq!(
        trace.iter().filter(|record| record.from == "host").count(),
        5
    );
}

#[test]
fn a_request_must_fit_what_it_hits() {
    let bench = Bench::new(Mode::Flit);
    bench.target.set_bar(2, BAR, 0x40);
    let ram = tempfile::tempfile().unwrap();
    ram.set_len(0x40).unwrap();
    bench
        .initiator
        .map_memory(0x8000, 0x40, ram, 0, true)
        .unwrap();
    let requester = bench.requester();
    for base in [BAR, 0x8000] {
        for (offset, fits) in [(0x20, true), (0x24, false)] {
            let seen = bench.trace().len();
            requester.write(base + offset, &[1; 0x20], None).unwrap();
            assert_eq!(requester.read(base + offset, &mut [0; 0x20]).is_ok(), fits);
            let trace = bench.trace();
            assert_eq!(
                trace[seen].is_unsupported(),
                !fits,
                "write at {base:#x}+{offset:#x}"
            );
            assert_eq!(
                trace[seen + 1].is_unsupported(),
                !fits,
                "read at {base:#x}+{offset:#x}"
            );
        }
    }
    assert_eq!(bench.completer.take().len(), 1);
}

#[test]
fn a_request_is_for_whole_dws_whether_it_is_recorded_or_not() {
    let unrecorded = Bench::tapped(Mode::Flit, None, |_| Tap::discard());
    for bench in [Bench::new(Mode::Flit), unrecorded] {
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(6).unwrap();
        let initiator = &bench.initiator;
        initiator
            .map_memory(0x8000, 6, ram.try_clone().unwrap(), 0, true)
            .unwrap();
        let requester = bench.requester();
        requester.write(0x8002, &[1; 2], None).unwrap();
        requester.write(0x8004, &[2; 2], None).unwrap();
        requester.read(0x8002, &mut [0; 2]).unwrap();
        requester.read(0x8004, &mut [0; 2]).unwrap_err();
        let mut got = [0; 6];
        ram.read_exact_at(&mut got, 0).unwrap();
        assert_eq!(got, [0, 0, 1, 1, 0, 0]);
    }
}

#[test]
fn all_of_it_is_sent_page_by_page() {
    let bench = Bench::new(Mode::Flit);
    let requester = bench.requester();
    let data: Vec<u8> = (0..600).map(|n: u16| n.to_le_bytes()[0]).collect();
    requester.write_all(BAR + 0xf01, &data, WANT, None).unwrap();
    assert_eq!(bench.completer.take().len(), 5, "as they are cut otherwise");
    requester.write_all(RAM + 0xf01, &data, WANT, None).unwrap();
    let mut got = [0; 600];
    requester
        .read_all(RAM + 0xf01, &mut got, WANT, None)
        .unwrap();
    assert_eq!(got, data[..]);
    let past = RAM + RAM_SIZE - 4;
    assert!(requester.read_all(past, &mut [0; 8], WANT, None).is_err());
    bench.initiator.set_command(false, false);
    assert!(matches!(
        requester.write_all(RAM, &data, None, None),
        Err(Error::BusMasterOff)
    ));
}

#[test]
fn a_copy_says_which_end_failed() {
    for tap in [
        |dir: &Path| Tap::create(dir).unwrap(),
        |_: &Path| Tap::discard(),
    ] {
        let bench = Bench::tapped(Mode::Flit, None, tap);
        let end = |addr| End {
            addr,
            want: None,
            object: None,
        };
        let requester = bench.requester();
        let data: Vec<u8> = (0..0x9000)
            .map(|at: u16| (at % 251).to_le_bytes()[0])
            .collect();
        bench.ram.write_all_at(&data, 3).unwrap();
        let (from, to) = (end(RAM + 3), end(RAM + 0x9004));
        requester.copy(from, to, 0x6000).unwrap();
        let mut got = vec![0; 0x6000];
        bench.ram.read_exact_at(&mut got, 0x9004).unwrap();
        assert!(got[..] == data[..0x6000]);

        requester.copy(from, end(BAR + 1), 10).unwrap();
        let written = bench.completer.take();
        let written = written[0].bytes.iter().flatten().copied();
        assert!(written.eq(data[..10].iter().copied()));
        let nobody = requester.copy(end(0x10), to, 8).unwrap_err();
        assert!(matches!(
            nobody,
            CopyError::Source(Error::Completion { addr: 0x10, .. })
        ));
        // Posted.
        requester.copy(from, end(0x10), 8).unwrap();
        let none = requester.copy(from, to, 0);
        assert!(none.is_ok());
        bench.initiator.set_command(false, true);
        let off = requester.copy(from, to, 8).unwrap_err();
        assert!(matches!(off, CopyError::Source(Error::BusMasterOff)));
    }
}

#[test]
fn memory_enable_of_the_peer_is_honoured() {
    let bench = Bench::new(Mode::Flit);
    bench.target.set_command(true, false);
    bench.requester().write(BAR, &[1; 4], WANT).unwrap();
    assert!(bench.completer.take().is_empty());
    assert!(bench.trace()[0].is_unsupported());
    bench.target.set_command(false, true);
    bench.requester().write(BAR, &[1; 4], WANT).unwrap();
    assert_eq!(bench.completer.take().len(), 1);
}

#[test]
fn without_bus_master_nothing_is_emitted() {
    let bench = Bench::new(Mode::Flit);
    bench.initiator.set_command(false, true);
    let requester = bench.requester();
    let mut data = [0; 4];
    assert!(matches!(
        requester.write(BAR, &data, None),
        Err(Error::BusMasterOff)
    ));
    assert!(matches!(
        requester.read(RAM, &mut data),
        Err(Error::BusMasterOff)
    ));
    assert!(bench.trace().is_empty());
    bench.initiator.set_command(true, false);
    requester.write(BAR, &data, None).unwrap();
}

#[test]
fn a_reset_voids_requesters() {
    let bench = Bench::new(Mode::Flit);
    let old = bench.requester();
    old.read(0, &mut [0; 4]).unwrap_err();
    let before = bench.trace().len();
    bench.initiator.reset();
    assert!(!bench.initiator.take_master_abort());
    assert!(matches!(old.write(BAR, &[0; 4], None), Err(Error::Reset)));
    assert_eq!(bench.trace().len(), before);
    bench.requester().write(BAR, &[0; 4], None).unwrap();
}

#[test]
fn a_bar_follows_its_register() {
    let bench = Bench::new(Mode::Flit);
    let requester = bench.requester();
    bench.target.set_bar(2, 0x1000_0000, BAR_SIZE);
    requester.write(BAR, &[1; 4], None).unwrap();
    assert!(bench.trace()[0].is_unsupported());
    requester.write(0x1000_0000, &[1; 4], None).unwrap();
    assert_eq!(bench.completer.take().len(), 1);
    // While a BAR is sized its register holds all ones.
    bench.target.set_bar(2, !(BAR_SIZE - 1), BAR_SIZE);
    requester.write(0x1000_0000, &[1; 4], None).unwrap();
    assert!(bench.completer.take().is_empty());
}

#[test]
fn a_function_does_not_reach_its_own_bar() {
    let bench = Bench::new(Mode::Flit);
    bench.target.set_command(true, true);
    bench
        .target
        .requester(TARGET)
        .write(BAR, &[1; 4], None)
        .unwrap();
    assert!(bench.completer.take().is_empty());
    assert!(bench.trace()[0].is_unsupported());
}

#[test]
fn a_function_without_completer_takes_nothing() {
    let bench = Bench::new(Mode::Flit);
    bench.initiator.set_bar(0, 0xfebd_4000, 0x2000);
    bench.target.set_command(true, true);
    let requester = bench.target.requester(TARGET);
    requester.write(0xfebd_4000, &[1; 4], None).unwrap();
    requester.read(0xfebd_4000, &mut [0; 4]).unwrap_err();
    let trace = bench.trace();
    assert!(trace[0].is_unsupported() && trace[1].is_unsupported());
}

#[test]
fn an_empty_request_is_refused_and_leaves_no_trace() {
    let bench = Bench::new(Mode::Flit);
    assert!(matches!(
        bench.requester().write(BAR, &[], None),
        Err(Error::Request(_))
    ));
    assert!(matches!(
        bench.requester().read(BAR, &mut []),
        Err(Error::Request(_))
    ));
    assert!(bench.trace().is_empty());
}

#[test]
fn names_are_unique() {
    let bench = Bench::new(Mode::Flit);
    for name in ["initiator", "host"] {
        assert!(matches!(
            bench.fabric.attach(name, TARGET, None),
            Err(Error::NameTaken(_))
        ));
    }
    bench.fabric.attach("third", TARGET, None).unwrap();
}

#[test]
fn hinted_reads_return_the_bytes_that_were_asked_for() {
    for mode in [Mode::NonFlit, Mode::Flit] {
        let bench = Bench::new(mode);
        let data: Vec<u8> = (0..=255).collect();
        bench.ram.write_all_at(&data, 0x40).unwrap();
        let requester = bench.requester();
        for (offset, len) in [(0usize, 256usize), (1, 6), (3, 1), (2, 200), (5, 3)] {
            let mut got = vec![0; len];
            let mut done = 0;
            while done < len {
                let at = RAM + 0x40 + (offset + done) as u64;
                done += requester.read_with(at, &mut got[done..], WANT).unwrap();
            }
            assert_eq!(
                got,
                data[offset..offset + len],
                "{len} at {offset} in {mode}"
            );
        }
        let mut hints = bench.trace().into_iter().filter_map(|record| {
            match Tlp::decode(&record.bytes, mode).unwrap() {
                Tlp::MemRead(request) => Some(request.hint()),
                _ => None,
            }
        });
        assert!(hints.all(|hint| hint == Some(HINT)));
    }
}

#[test]
fn the_byte_enables_of_a_hinted_read_give_way_in_non_flit_mode_only() {
    for (mode, expected) in [(Mode::Flit, (0xe, 0x7)), (Mode::NonFlit, (0xf, 0xf))] {
        let bench = Bench::new(mode);
        bench
            .requester()
            .read_with(RAM + 1, &mut [0; 6], WANT)
            .unwrap();
        let Tlp::MemRead(request) = bench.trace()[0].tlp().unwrap() else {
            panic!("a read")
        };
        assert_eq!(request.hint(), Some(HINT));
        assert_eq!((request.first_be(), request.last_be()), expected, "{mode}");
    }
}

#[test]
fn a_hint_is_that_of_the_moment() {
    let bench = Bench::new(Mode::Flit);
    let requester = bench.requester();
    let want = Want {
        ph: Ph::Target,
        source: TagSource::Entry(1),
        width: Width::Enabled,
        exact: true,
    };
    let of = |enable, tag| Tph {
        table: StEntries::Capability(vec![0, tag]),
        ..Tph::own_tags(enable)
    };
    let enabled = RequesterEnable::TphAndExtended;
    for tph in [
        Some(of(RequesterEnable::Off, 0xbef0)),
        Some(of(enabled, 0xbef0)),
        Some(of(enabled, 0xbef1)),
        None,
    ] {
        bench.initiator.set_tph(tph);
        let told = bench.initiator.hint(want);
        requester.write(BAR, &[1; 4], Some(want)).unwrap();
        let sent = bench.completer.take().remove(0).hint;
        assert_eq!(told.ok(), sent, "what the model is told is what leaves");
        requester.read(BAR, &mut [0; 4]).unwrap();
    }
    let hints = bench.trace().into_iter().filter_map(|record| {
        let Tlp::MemWrite(request, _) = record.tlp().unwrap() else {
            return None;
        };
        Some(request.hint().map(|hint| hint.tag.value()))
    });
    assert!(hints.eq([None, Some(0xbef0), Some(0xbef1), None]));
}

#[test]
fn a_tag_that_is_out_of_reach_is_no_tag() {
    let bench = Bench::new(Mode::Flit);
    bench.initiator.set_tph(Some(Tph {
        table: StEntries::MsiX,
        ..Tph::own_tags(RequesterEnable::TphAndExtended)
    }));
    let want = |source| Want {
        ph: Ph::Target,
        source,
        width: Width::Enabled,
        exact: false,
    };
    for source in [TagSource::Entry(0xf0), TagSource::Vector(0)] {
        assert_eq!(bench.initiator.hint(want(source)), Err(NoHint::OutOfReach));
        let requester = bench.requester();
        requester.write(BAR, &[1; 4], Some(want(source))).unwrap();
        assert_eq!(bench.completer.take()[0].hint, None);
    }
}

/// Panics over whatever reaches it.
struct Broken;

impl Completer for Broken {
    fn write(&self, _bar: usize, _offset: u64, _request: &MemRequest, _data: &[u8]) {
        panic!("broken");
    }

    fn read(&self, _bar: usize, _offset: u64, _request: &MemRequest, _data: &mut [u8]) {}
}

#[test]
fn after_a_panic_the_fabric_is_of_no_use_and_blames_nobody() {
    let bench = Bench::new(Mode::Flit);
    let id = Bdf::new(0, 0x12, 0);
    let broken = bench
        .fabric
        .attach("broken", id, Some(Arc::new(Broken)))
        .unwrap();
    broken.set_bar(0, 0x1000_0000, 0x1000);
    broken.set_command(false, true);
    let requester = bench.requester();
    let panics = |addr| {
        let write = AssertUnwindSafe(|| requester.write(addr, &[1; 4], None));
        let panic = catch_unwind(write).unwrap_err();
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref().cloned()).unwrap()
    };
    assert_eq!(panics(0x1000_0000), "broken");
    let later = panics(BAR);
    assert!(
        later.contains("an earlier panic left it half changed"),
        "{later}"
    );
}
