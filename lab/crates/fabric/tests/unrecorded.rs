// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether TLPs are recorded makes no difference to anybody but the reader of the trace, and what
//! is recorded is what arrives.

mod common;

use common::{BAR, INITIATOR, RAM, RAM_SIZE, TARGET};
use fabric::{
    Completer, End, Fabric, Iommu, Limits, PAGE_SIZE, Port, Requester, RequesterEnable, StEntries,
    StMode, TagSource, Tph, Want, Width,
    trace::{BINARY_FILE, Destination, Reader, Tap},
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    fmt::Debug,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tlp::{Bdf, MemRequest, Mode, Ph, Tlp};

/// A BAR of the peer that lies where guest memory is, too.
const SHADOW: u64 = RAM + 0x3000;
const SHADOW_SIZE: u64 = 0x800;
/// What only an IOMMU translates.
const DEVICE: u64 = RAM + RAM_SIZE;
/// The last page that there is, which is guest memory, too; and bytes of all of that.
const LAST: u64 = u64::MAX - (PAGE_SIZE - 1);
const ALL_SIZE: u64 = RAM_SIZE + PAGE_SIZE;

#[derive(Clone, Debug)]
enum Step {
    Write {
        addr: u64,
        data: Vec<u8>,
        want: Option<Want>,
        all: bool,
    },
    Read {
        addr: u64,
        len: usize,
        want: Option<Want>,
        all: bool,
    },
    Copy {
        from: End,
        to: End,
        len: u64,
    },
    Limits(Limits),
    BusMaster(bool),
    MemoryEnable(bool),
    Tph(Option<Tph>),
    Shadow(u64),
    Map {
        writable: bool,
    },
    Unmap,
    Reset,
    Renew,
}

/// Writes down whatever reaches it.
#[derive(Default)]
struct Witness(Mutex<Vec<String>>);

impl Completer for Witness {
    fn write(&self, bar: usize, offset: u64, request: &MemRequest, data: &[u8]) {
        let seen = format!("{} at {offset:#x}", arrival(bar, request, data));
        self.0.lock().unwrap().push(seen);
    }

    fn read(&self, bar: usize, offset: u64, request: &MemRequest, data: &mut [u8]) {
        let seen = format!("{} at {offset:#x}", arrival(bar, request, &[]));
        self.0.lock().unwrap().push(seen);
        for (byte, at) in data.iter_mut().zip(offset..) {
            *byte = at.to_le_bytes()[0];
        }
    }
}

/// What a peer gets, in words.
fn arrival(bar: usize, request: &MemRequest, payload: &[u8]) -> String {
    format!("BAR{bar}: {request:?} {payload:?}")
}

/// Blocks every other page.
struct Table;

impl Iommu for Table {
    fn translate(&self, _: Bdf, page: u64) -> io::Result<Option<u64>> {
        let blocked = page / PAGE_SIZE % 2 == 1;
        Ok((!blocked).then_some(BAR + (page - DEVICE)))
    }
}

/// What happened in a step: what the requester and the peer saw, and the master abort.
type Seen = (String, Vec<String>, bool);

struct Run {
    dir: TempDir,
    initiator: Port,
    target: Port,
    requester: Requester,
    witness: Arc<Witness>,
    ram: File,
    /// All that the peer saw, and all that reads brought.
    witnessed: Vec<String>,
    brought: Vec<Vec<u8>>,
}

impl Run {
    fn new(mode: Mode, translating: bool, tap: Tap, dir: TempDir) -> Self {
        let fabric = if translating {
            Fabric::with_iommu(mode, tap, Arc::new(Table))
        } else {
            Fabric::new(mode, tap)
        };
        let witness = Arc::new(Witness::default());
        let initiator = fabric.attach("initiator", INITIATOR, None).unwrap();
        let completer: Arc<dyn Completer> = witness.clone();
        let target = fabric.attach("target", TARGET, Some(completer)).unwrap();
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(ALL_SIZE).unwrap();
        let bytes: Vec<u8> = (0..ALL_SIZE)
            .map(|at| (at % 251).to_le_bytes()[0])
            .collect();
        ram.write_all_at(&bytes, 0).unwrap();
        let requester = initiator.requester(INITIATOR);
        let run = Self {
            dir,
            initiator,
            target,
            requester,
            witness,
            ram,
            witnessed: vec![],
            brought: vec![],
        };
        let hints = Tph::own_tags(RequesterEnable::TphAndExtended);
        run.initiator.set_tph(Some(hints));
        run.map(true);
        run.initiator
            .map_device(DEVICE, 4 * PAGE_SIZE, true)
            .unwrap();
        run.initiator.set_command(true, true);
        run.target.set_command(false, true);
        run.target.set_bar(2, BAR, 0x1_0000);
        run.target.set_bar(4, SHADOW, SHADOW_SIZE);
        run
    }

    /// Maps guest memory. Its last DW is not whole.
    fn map(&self, writable: bool) {
        self.initiator.unmap_memory(RAM, RAM_SIZE).unwrap();
        let ram = self.ram.try_clone().unwrap();
        self.initiator
            .map_memory(RAM, RAM_SIZE - 2, ram, 0, writable)
            .unwrap();
        self.initiator.unmap_memory(LAST, PAGE_SIZE).unwrap();
        let ram = self.ram.try_clone().unwrap();
        self.initiator
            .map_memory(LAST, PAGE_SIZE, ram, RAM_SIZE, writable)
            .unwrap();
    }

    fn step(&mut self, step: &Step) -> Seen {
        let result: Box<dyn Debug> = match step {
            Step::Write {
                addr,
                data,
                want,
                all: true,
            } => Box::new(self.requester.write_all(*addr, data, *want, None)),
            Step::Write {
                addr, data, want, ..
            } => Box::new(self.requester.write(*addr, data, *want)),
            Step::Read {
                addr,
                len,
                want,
                all,
            } => {
                let mut data = vec![0x55; *len];
                let read = if *all {
                    let read = self.requester.read_all(*addr, &mut data, *want, None);
                    read.map(|()| *len)
                } else {
                    self.requester.read_with(*addr, &mut data, *want)
                };
                if let Ok(len) = read {
                    self.brought.push(data[..len].to_vec());
                }
                Box::new((read, data))
            }
            Step::Copy { from, to, len } => Box::new(self.requester.copy(*from, *to, *len)),
            other => {
                self.change(other);
                Box::new(())
            }
        };
        let witnessed = std::mem::take(&mut *self.witness.0.lock().unwrap());
        self.witnessed.extend_from_slice(&witnessed);
        let aborted = self.initiator.take_master_abort();
        (format!("{result:?}"), witnessed, aborted)
    }

    fn change(&mut self, step: &Step) {
        match step {
            Step::Limits(limits) => self.initiator.set_limits(*limits),
            Step::BusMaster(on) => self.initiator.set_command(*on, true),
            Step::MemoryEnable(on) => self.target.set_command(false, *on),
            Step::Tph(tph) => self.initiator.set_tph(tph.clone()),
            Step::Shadow(addr) => self.target.set_bar(4, *addr, SHADOW_SIZE),
            Step::Map { writable } => self.map(*writable),
            Step::Unmap => self.initiator.unmap_memory(RAM, RAM_SIZE).unwrap(),
            Step::Reset => self.initiator.reset(),
            Step::Renew => self.requester = self.initiator.requester(INITIATOR),
            Step::Write { .. } | Step::Read { .. } | Step::Copy { .. } => unreachable!(),
        }
    }

    fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(ALL_SIZE).unwrap()];
        self.ram.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// What the recorded bytes decode to is what the peer and the requester got.
    fn assert_delivered_as_recorded(&self) {
        let reader = Reader::open(&self.dir.path().join(BINARY_FILE)).unwrap();
        let (mut arrivals, mut returned) = (vec![], vec![]);
        for record in reader.map(Result::unwrap) {
            let Destination::To { name, bar } = &record.to else {
                continue;
            };
            match (record.tlp().unwrap(), bar) {
                (Tlp::MemRead(request), Some(bar)) => {
                    arrivals.push(arrival((*bar).into(), &request, &[]));
                }
                (Tlp::MemWrite(request, payload), Some(bar)) => {
                    arrivals.push(arrival((*bar).into(), &request, payload));
                }
                (Tlp::Completion(header, payload), None) if name == "initiator" => {
                    let lead = usize::from(header.lower_address() & 0b11);
                    let len = payload.len() - lead;
                    let len = len.min(header.byte_count().into());
                    returned.extend_from_slice(&payload[lead..lead + len]);
                }
                (_, None) => {}
                (other, Some(_)) => panic!("{other:?} for a BAR"),
            }
        }
        assert_eq!(arrivals.len(), self.witnessed.len());
        for (arrival, witnessed) in arrivals.iter().zip(&self.witnessed) {
            assert!(witnessed.starts_with(arrival), "{arrival}: {witnessed}");
        }
        let mut returned = &returned[..];
        for brought in &self.brought {
            // A hinted read of non-flit mode returns whole DWs, and a read of which a part failed
            // something in between.
            let mut places = (0..=returned.len()).map(|at| &returned[at..]);
            returned = places
                .find_map(|rest| rest.strip_prefix(&brought[..]))
                .expect("what a read brought was in its completions");
        }
    }

    /// Bytes of the TLPs that were recorded, and how many were not.
    fn trace(&self) -> (Vec<Vec<u8>>, u64) {
        let mut reader = Reader::open(&self.dir.path().join(BINARY_FILE)).unwrap();
        let bytes = reader
            .by_ref()
            .map(|record| record.unwrap().bytes)
            .collect();
        (bytes, reader.unrecorded())
    }
}

fn want() -> impl Strategy<Value = Option<Want>> {
    let ph = Ph::Target;
    let source = prop_oneof![
        any::<u16>().prop_map(TagSource::Literal),
        (0u16..3).prop_map(TagSource::Entry),
        (0u16..3).prop_map(TagSource::Vector),
    ];
    let width = select(vec![Width::Bits8, Width::Bits16, Width::Enabled]);
    let want = (source, width, any::<bool>()).prop_map(move |(source, width, exact)| Want {
        ph,
        source,
        width,
        exact,
    });
    prop_oneof![1 => Just(None), 3 => want.prop_map(Some)]
}

fn addr() -> impl Strategy<Value = u64> {
    let near = select(vec![
        RAM,
        RAM + 0x1000,
        SHADOW,
        SHADOW + SHADOW_SIZE,
        RAM + RAM_SIZE,
        DEVICE + PAGE_SIZE,
        DEVICE + 4 * PAGE_SIZE,
        BAR,
        BAR + 0x1_0000,
    ]);
    let around =
        (near, 0u64..0x600, any::<bool>()).prop_map(
            |(near, off, below)| {
                if below { near - off } else { near + off }
            },
        );
    let end = (1u64..20).prop_map(|off| 0u64.wrapping_sub(off));
    prop_oneof![8 => around, 8 => RAM..RAM + RAM_SIZE, 2 => end]
}

fn end() -> impl Strategy<Value = End> {
    (addr(), want()).prop_map(|(addr, want)| End {
        addr,
        want,
        object: None,
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let size = || (7u32..13).prop_map(|log| 1usize << log);
    (size(), size(), any::<bool>()).prop_map(|(max_payload, max_read_request, extended_tag)| {
        Limits {
            max_payload,
            max_read_request,
            extended_tag,
        }
    })
}

fn tph() -> impl Strategy<Value = Option<Tph>> {
    let table = select(vec![
        StEntries::None,
        StEntries::Capability(vec![0x1234, 0xbef0]),
        StEntries::MsiX,
    ]);
    let mode = select(vec![
        StMode::NoSt,
        StMode::InterruptVector,
        StMode::DeviceSpecific,
        StMode::DeviceSpecific,
    ]);
    let enable = select(vec![
        RequesterEnable::Off,
        RequesterEnable::Tph,
        RequesterEnable::TphAndExtended,
    ]);
    let tph = (table, mode, enable).prop_map(|(table, mode, enable)| Tph {
        interrupt_vector: true,
        device_specific: true,
        table,
        mode,
        enable,
    });
    prop_oneof![1 => Just(None), 5 => tph.prop_map(Some)]
}

fn step() -> impl Strategy<Value = Step> {
    let data = prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..6000)];
    let len = prop_oneof![0usize..20, 0usize..6000];
    prop_oneof![
        20 => (addr(), data, want(), any::<bool>())
            .prop_map(|(addr, data, want, all)| Step::Write { addr, data, want, all }),
        20 => (addr(), len, want(), any::<bool>())
            .prop_map(|(addr, len, want, all)| Step::Read { addr, len, want, all }),
        20 => (end(), end(), prop_oneof![0u64..20, 0u64..20_000])
            .prop_map(|(from, to, len)| Step::Copy { from, to, len }),
        3 => limits().prop_map(Step::Limits),
        1 => prop_oneof![1 => Just(false), 3 => Just(true)].prop_map(Step::BusMaster),
        1 => any::<bool>().prop_map(Step::MemoryEnable),
        4 => tph().prop_map(Step::Tph),
        1 => select(vec![SHADOW, SHADOW + 0x1234, RAM - 0x400]).prop_map(Step::Shadow),
        1 => any::<bool>().prop_map(|writable| Step::Map { writable }),
        1 => Just(Step::Unmap),
        1 => Just(Step::Reset),
        2 => Just(Step::Renew),
    ]
}

#[test]
fn a_copy_may_come_from_the_end_of_the_address_space() {
    let end = |addr| End {
        addr,
        want: None,
        object: None,
    };
    for recording in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let tap = if recording {
            Tap::create(dir.path()).unwrap()
        } else {
            Tap::discard()
        };
        let run = Run::new(Mode::Flit, false, tap, dir);
        let [from, to] = [LAST + 5, RAM + 1].map(end);
        run.requester.copy(from, to, PAGE_SIZE - 5).unwrap();
        let memory = run.memory();
        let len = usize::try_from(PAGE_SIZE - 5).unwrap();
        assert!(memory[1..=len] == memory[memory.len() - len..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_not_recorded_has_the_same_effect(
        steps in vec(step(), 1..40),
        mode in select(vec![Mode::Flit, Mode::NonFlit]),
        translating in any::<bool>(),
        limit in 0u64..20_000,
    ) {
        let new = |tap: &dyn Fn(&TempDir) -> Tap| {
            let dir = tempfile::tempdir().unwrap();
            Run::new(mode, translating, tap(&dir), dir)
        };
        let mut recorded = new(&|dir| Tap::create(dir.path()).unwrap());
        let mut limited = new(&|dir| common::limited(dir.path(), limit));
        let mut unrecorded = new(&|_| Tap::discard());
        for step in &steps {
            let seen = recorded.step(step);
            prop_assert_eq!(&limited.step(step), &seen, "{:?}", step);
            prop_assert_eq!(&unrecorded.step(step), &seen, "{:?}", step);
            let memory = recorded.memory();
            prop_assert!(limited.memory() == memory && unrecorded.memory() == memory, "{:?}", step);
        }
        recorded.assert_delivered_as_recorded();
        let (all, none) = recorded.trace();
        let (some, lacking) = limited.trace();
        prop_assert_eq!(none, 0);
        prop_assert_eq!(some.len() as u64 + lacking, all.len() as u64);
        prop_assert!(all.starts_with(&some));
    }
}
