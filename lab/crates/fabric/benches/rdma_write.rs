// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a TLP costs, and how fast an RDMA WRITE is, compared with memcpy of the same bytes.
//!
//! `cargo bench -p fabric` prints a table; a word behind `--` selects lines. An RDMA WRITE is, for
//! each 4 KiB, a read of the source with its completions, and writes of the target. Every number is
//! the best of several rounds, in which memcpy, the fabric without trace, with trace, and with a
//! trace of headers alone take turns. What counts is CPU time, so that other processes do not.

use fabric::{
    End, Fabric, Limits, Port, Requester, RequesterEnable, Tph, Want,
    trace::{Options, Snaplen, Tap},
};
use rustix::time::{ClockId, clock_gettime};
use std::{env, fs::File, hint::black_box, os::unix::fs::FileExt, time::Duration};
use tlp::{Bdf, Hint, Mode, Ph, SteeringTag};

const ID: Bdf = Bdf::new(0, 0x13, 0);
const RAM: u64 = 0x1_0000_0000;
/// Bytes that are moved in a round.
const VOLUME: usize = 64 << 20;
const MESSAGE: usize = 1 << 20;
const CHUNK: usize = 4096;
/// Largest payload and read request: as Linux leaves them, and the largest payload that the
/// ConnectX has.
const SIZES: [(usize, usize); 2] = [(128, 512), (512, CHUNK)];
const ROUNDS: usize = 7;
const HINT: Option<Want> = Some(Want::exactly(Hint {
    ph: Ph::Target,
    tag: SteeringTag::St(0xf0),
}));

/// A function with guest memory: the source in its first half, the target in the second.
struct Bench {
    requester: Requester,
    _port: Port,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(trace: Option<Options>, (max_payload, max_read_request): (usize, usize)) -> Self {
        // A trace lies on a disk, guest memory does not.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let tap = trace.map_or_else(Tap::discard, |options| {
            Tap::with(dir.path(), options).unwrap()
        });
        let port = Fabric::new(Mode::Flit, tap)
            .attach("connectx", ID, None)
            .unwrap();
        port.map_memory(RAM, 2 * VOLUME as u64, guest_memory(), 0, true)
            .unwrap();
        port.set_command(true, true);
        port.set_limits(Limits {
            max_payload,
            max_read_request,
            extended_tag: true,
        });
        port.set_tph(Some(Tph::own_tags(RequesterEnable::Tph)));
        let requester = port.requester(ID);
        // No page of guest memory is touched for the first time while it counts.
        for at in (RAM..RAM + 2 * VOLUME as u64).step_by(CHUNK) {
            requester.write(at, &[0xa5], None).unwrap();
        }
        Self {
            requester,
            _port: port,
            _dir: dir,
        }
    }

    fn write(&self, addr: u64, data: &[u8], want: Option<Want>) {
        let mut done = 0;
        while done < data.len() {
            let at = addr + done as u64;
            done += self.requester.write(at, &data[done..], want).unwrap();
        }
    }

    fn read(&self, addr: u64, data: &mut [u8], want: Option<Want>) {
        let mut done = 0;
        while done < data.len() {
            let at = addr + done as u64;
            let read = self.requester.read_with(at, &mut data[done..], want);
            done += read.unwrap();
        }
    }

    /// Copies messages from memory that repeats after `span` bytes to such memory.
    fn rdma_write(&self, span: usize, want: Option<Want>) {
        let mut chunk = [0; CHUNK];
        for at in (0..VOLUME).step_by(CHUNK) {
            let at = RAM + (at % span) as u64;
            self.read(at, &mut chunk, want);
            self.write(at + VOLUME as u64, &chunk, want);
        }
    }

    /// The same, with one call for the writes of a chunk.
    fn rdma_write_all(&self, span: usize, want: Option<Want>) {
        let mut chunk = [0; CHUNK];
        for at in (0..VOLUME).step_by(CHUNK) {
            let at = RAM + (at % span) as u64;
            self.requester.read_all(at, &mut chunk, want, None).unwrap();
            let to = at + VOLUME as u64;
            self.requester.write_all(to, &chunk, want, None).unwrap();
        }
    }

    /// The same, message by message.
    fn copy(&self, span: usize) {
        for at in (0..VOLUME).step_by(MESSAGE) {
            let end = |addr| End {
                addr,
                want: None,
                object: None,
            };
            let from = RAM + (at % span) as u64;
            let to = end(from + VOLUME as u64);
            self.requester.copy(end(from), to, MESSAGE as u64).unwrap();
        }
    }

    fn writes(&self, span: usize) {
        let chunk = [0x5a; CHUNK];
        for at in (0..VOLUME).step_by(CHUNK) {
            self.write(RAM + (at % span) as u64, &chunk, None);
        }
    }

    fn reads(&self, span: usize) {
        let mut chunk = [0; CHUNK];
        for at in (0..VOLUME).step_by(CHUNK) {
            self.read(RAM + (at % span) as u64, &mut chunk, None);
        }
        black_box(&chunk);
    }
}

fn guest_memory() -> File {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all_at(&vec![0xa5; 2 * VOLUME], 0).unwrap();
    file
}

fn memcpy(source: &[u8], target: &mut [u8], span: usize) {
    for at in (0..VOLUME).step_by(MESSAGE) {
        let range = at % span..at % span + MESSAGE;
        target[range.clone()].copy_from_slice(black_box(&source[range]));
    }
    black_box(target);
}

fn time(run: impl FnOnce()) -> Duration {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let start = now();
    run();
    now().saturating_sub(start)
}

struct Case {
    name: &'static str,
    /// Whether each chunk is read, and whether it is written.
    does: (bool, bool),
    /// Bytes that the source and the target have.
    span: usize,
    run: fn(&Bench, usize),
}

const CASES: [Case; 9] = [
    Case {
        name: "writes",
        does: (false, true),
        span: MESSAGE,
        run: Bench::writes,
    },
    Case {
        name: "reads",
        does: (true, false),
        span: MESSAGE,
        run: Bench::reads,
    },
    Case {
        name: "RDMA WRITE of 1 MiB, again and again",
        does: (true, true),
        span: MESSAGE,
        run: |bench, span| bench.rdma_write(span, None),
    },
    Case {
        name: " with hints",
        does: (true, true),
        span: MESSAGE,
        run: |bench, span| bench.rdma_write(span, HINT),
    },
    Case {
        name: " page by page",
        does: (true, true),
        span: MESSAGE,
        run: |bench, span| bench.rdma_write_all(span, None),
    },
    Case {
        name: " copied",
        does: (true, true),
        span: MESSAGE,
        run: Bench::copy,
    },
    Case {
        name: "RDMA WRITE of 64 MiB",
        does: (true, true),
        span: VOLUME,
        run: |bench, span| bench.rdma_write(span, None),
    },
    Case {
        name: " page by page",
        does: (true, true),
        span: VOLUME,
        run: |bench, span| bench.rdma_write_all(span, None),
    },
    Case {
        name: " copied",
        does: (true, true),
        span: VOLUME,
        run: Bench::copy,
    },
];

impl Case {
    /// TLPs for all chunks.
    fn tlps(&self, (payload, request): (usize, usize)) -> u128 {
        let (reads, writes) = self.does;
        let data = CHUNK / payload;
        let read = usize::from(reads) * (CHUNK / request + data);
        let write = usize::from(writes) * data;
        (VOLUME / CHUNK * (read + write)) as u128
    }
}

fn main() {
    let wanted = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    for sizes in SIZES {
        table(sizes, wanted.as_deref().unwrap_or_default());
    }
}

fn table(sizes: (usize, usize), wanted: &str) {
    let (source, mut target) = (vec![0xa5; VOLUME], vec![0; VOLUME]);
    let untraced = Bench::new(None, sizes);
    let (whole, headers) = (
        Options {
            limit: 4 << 30,
            snaplen: None,
        },
        Options {
            limit: 4 << 30,
            snaplen: Some(Snaplen::HEADERS),
        },
    );
    println!(
        "{:36}   memcpy  without trace       with trace  of headers",
        format!("payload {} B, reads of {} B", sizes.0, sizes.1)
    );
    for case in CASES.iter().filter(|case| case.name.contains(wanted)) {
        let mut best = [Duration::MAX; 4];
        for _ in 0..ROUNDS {
            let run = |options| {
                let traced = Bench::new(Some(options), sizes);
                time(|| (case.run)(&traced, case.span))
            };
            let times = [
                time(|| memcpy(&source, &mut target, case.span)),
                time(|| (case.run)(&untraced, case.span)),
                run(whole),
                run(headers),
            ];
            for (best, time) in best.iter_mut().zip(times) {
                *best = time.min(*best);
            }
        }
        let [copied, untraced, traced, headers] = best.map(|time| time.as_nanos());
        let tlps = case.tlps(sizes);
        println!(
            "{:36} {:>3} GB/s  {:>3} ns/TLP {:>3} %  {:>4} ns/TLP  {:>3} ns/TLP",
            case.name,
            VOLUME as u128 / copied,
            untraced / tlps,
            100 * copied / untraced,
            traced / tlps,
            headers / tlps,
        );
    }
}
