// SPDX-License-Identifier: MIT OR Apache-2.0
//! Made-up reports and traces: what the demo must not let pass.

use fabric::trace::{Destination, HOST, Record};
use lab::cli::Publish;
use lab::demo::steps::{Kind, Published, Requester, Step};
use lab::demo::verify::verify;
use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};
use vm::topology::{Topology, preset};

const BASE: u64 = 0xfe_0000_0000;
const IOVA: u64 = 0xffff_f000;
const RAM: u64 = 0x4567_8000;
const STANDARD: Bdf = Bdf::new(0, 0x10, 0);
const EXT: Bdf = Bdf::new(0, 0x12, 0);

/// Everything that a verdict depends on.
struct World {
    steps: Vec<Step>,
    trace: Vec<Record>,
    asked: Publish,
    topology: Topology,
}

/// A record of `write` on its way from its initiator to the accelerator.
fn record(number: u64, mode: Mode, write: &Tlp<'_>) -> Record {
    let mut bytes = vec![0; write.encoded_len(mode)];
    write.encode(mode, &mut bytes).unwrap();
    let (Tlp::MemWrite(request, _) | Tlp::MemRead(request)) = write else {
        panic!("a request");
    };
    let from = if request.requester() == EXT {
        "initiator-ext"
    } else {
        "initiator"
    };
    Record {
        number,
        time: 0,
        object: None,
        from: from.into(),
        to: Destination::To {
            name: "accelerator".into(),
            bar: Some(2),
        },
        mode,
        bytes,
        missing: 0,
    }
}

/// The ranges of the steps lie this far apart.
const STRIDE: u64 = 0x100;

fn request(address: u64, hint: Option<Hint>) -> MemRequest {
    // The last step is that of the other initiator.
    let requester = if address >= BASE + 2 * STRIDE {
        EXT
    } else {
        STANDARD
    };
    let request = MemRequest::new(requester, address, 2)
        .unwrap()
        .with_tag(7)
        .unwrap();
    hint.map_or(request, |hint| request.with_hint(hint))
}

fn bytes(dwords: &[u32]) -> Vec<u8> {
    dwords
        .iter()
        .flat_map(|dword| dword.to_le_bytes())
        .collect()
}

/// A step as a good guest reports it: 0xf0 and 0xfef0 both select add.
fn step(kind: Kind, offset: u64) -> Step {
    let (published, requester, after) = match kind {
        Kind::Hint => ((1, 0xf0, 0), Requester::Tph, vec![11, 22]),
        Kind::None => ((0, 0, 0), Requester::Tph, vec![1, 2]),
        Kind::Ext => ((2, 0, 0xfef0), Requester::Ext, vec![11, 22]),
        Kind::Cpu | Kind::Memory | Kind::CpuExt => return memory_step(kind, offset),
    };
    let (flags, steering_tag, steering_tag_ext) = published;
    Step {
        kind,
        base: BASE,
        cpu: None,
        offset,
        published: (kind != Kind::None).then_some(Published {
            flags,
            steering_tag,
            steering_tag_ext,
            ph: 2,
        }),
        requester,
        before: vec![10, 20],
        source: vec![1, 2],
        after,
    }
}

/// The same to memory, for CPU 1.
fn memory_step(kind: Kind, offset: u64) -> Step {
    Step {
        kind,
        base: RAM,
        cpu: (kind != Kind::Memory).then_some(1),
        offset,
        published: None,
        requester: if kind == Kind::CpuExt {
            Requester::Ext
        } else {
            Requester::Tph
        },
        before: vec![10, 20],
        source: vec![1, 2],
        after: vec![1, 2],
    }
}

fn memory_request(step: &Step, hint: Option<Hint>) -> MemRequest {
    let requester = match step.requester {
        Requester::Tph => STANDARD,
        Requester::Ext => EXT,
    };
    let request = MemRequest::new(requester, step.address(), 2)
        .unwrap()
        .with_tag(7)
        .unwrap();
    hint.map_or(request, |hint| request.with_hint(hint))
}

/// A write to memory, on its way to the host.
fn memory_record(number: u64, mode: Mode, request: MemRequest) -> Record {
    let payload = bytes(&[1, 2]);
    Record {
        to: Destination::To {
            name: HOST.into(),
            bar: None,
        },
        ..record(number, mode, &Tlp::MemWrite(request, &payload))
    }
}

impl World {
    /// Memory for CPU 1; the topology has no say in that.
    fn memory(mode: Mode) -> Self {
        let kinds = Kind::OF_USER_SPACE[3..].iter().copied();
        let steps: Vec<Step> = kinds
            .zip((0..).step_by(0x100))
            .map(|(kind, offset)| memory_step(kind, offset))
            .collect();
        let trace = steps
            .iter()
            .zip(1..)
            .map(|(step, number)| {
                memory_record(number, mode, memory_request(step, step.expected_hint()))
            })
            .collect();
        Self {
            steps,
            trace,
            ..Self::good(mode)
        }
    }

    fn good(mode: Mode) -> Self {
        let steps: Vec<Step> = Kind::OF_INITIATORS
            .iter()
            .copied()
            .zip([0, STRIDE, 2 * STRIDE])
            .map(|(kind, offset)| step(kind, offset))
            .collect();
        let trace = steps
            .iter()
            .zip(1..)
            .map(|(step, number)| {
                let payload = bytes(&step.source);
                let write = Tlp::MemWrite(request(step.address(), step.expected_hint()), &payload);
                record(number, mode, &write)
            })
            .collect();
        Self {
            steps,
            trace,
            asked: Publish {
                st: 0xf0,
                ph: 2,
                ext: 0xfef0,
                cpu: 1,
            },
            topology: preset::T1.clone(),
        }
    }

    /// The same behind an IOMMU: TLPs 1, 3 and 5 have I/O virtual addresses, 2, 4 and 6 are what the
    /// host makes of them.
    fn translated(mode: Mode) -> Self {
        let mut world = Self::good(mode);
        world.topology = preset::T2.clone();
        let arrive = std::mem::take(&mut world.trace);
        for (record, number) in arrive.into_iter().zip((1..).step_by(2)) {
            let Ok(Tlp::MemWrite(request, payload)) = record.tlp() else {
                panic!("a write");
            };
            let iova = MemRequest::new(request.requester(), IOVA + request.addr() % 0x1000, 2)
                .unwrap()
                .with_tag(7)
                .unwrap();
            let iova = request.hint().map_or(iova, |hint| iova.with_hint(hint));
            world.trace.push(Record {
                to: Destination::To {
                    name: HOST.into(),
                    bar: None,
                },
                ..self::record(number, mode, &Tlp::MemWrite(iova, payload))
            });
            world.trace.push(Record {
                number: number + 1,
                from: HOST.into(),
                ..record
            });
        }
        world
    }

    /// Replaces the write of step `at`.
    fn rewrite(&mut self, at: usize, request: MemRequest, payload: &[u32]) {
        let payload = bytes(payload);
        let mode = self.trace[at].mode;
        self.trace[at] = record(at as u64 + 1, mode, &Tlp::MemWrite(request, &payload));
    }

    /// The claims that do not hold: step and claim.
    fn wrong(&self) -> Vec<(Kind, &'static str)> {
        verify(&self.steps, &self.trace, self.asked, &self.topology)
            .iter()
            .flat_map(|verified| {
                assert_eq!(
                    verified.holds(),
                    verified.checks.iter().all(|c| c.wrong.is_none())
                );
                let kind = verified.step.kind;
                let wrong = verified.checks.iter().filter(|check| check.wrong.is_some());
                wrong.map(|check| (kind, check.claim)).collect::<Vec<_>>()
            })
            .collect()
    }
}

const PUBLISHED: &str = "what was asked is published";
const ONE_WRITE: &str = "one write fills the range";
const ENDPOINTS: &str = "it goes from the requester to the accelerator";
const THROUGH_HOST: &str = "it goes from the requester through the host to the accelerator";
const PHYSICAL: &str = "its address is the BAR's physical address";
const TRANSLATED: &str = "its address is an I/O virtual address";
const HINT: &str = "it carries the published hint";
const NO_HINT: &str = "it carries no hint";
const TAG_FIELD: &str = "its Tag field is not the steering tag";
const PAYLOAD: &str = "its payload is the source";
const SELECTED: &str = "memory holds what the tag selects";
const STORED: &str = "memory holds a plain store";

#[test]
fn a_good_run_passes_in_both_modes() {
    for mode in [Mode::Flit, Mode::NonFlit] {
        assert_eq!(World::good(mode).wrong(), []);
        assert_eq!(World::translated(mode).wrong(), []);
        assert_eq!(World::memory(mode).wrong(), []);
    }
}

const FIRMWARE: &str = "it carries the firmware's tag of the CPU";
const UNKNOWN: &str = "it carries no hint, as the firmware has no such tag of the CPU";
const TO_MEMORY: &str = "it goes from the requester to memory";
const MEMORY: &str = "its address is that of the memory";
const WRITTEN: &str = "memory holds the source";

#[test]
fn memory_must_be_steered_at_the_cpu() {
    let wrong = |change: fn(&mut World)| {
        let mut world = World::memory(Mode::Flit);
        change(&mut world);
        world.wrong()
    };
    let hint = |tag| {
        let ph = Ph::Bidirectional;
        Some(Hint { ph, tag })
    };
    // Another CPU's tag, none, another PH.
    for other in [
        hint(SteeringTag::St(0xc0)),
        hint(SteeringTag::Ext(0xca01)),
        None,
        Some(Hint {
            ph: Ph::Target,
            tag: SteeringTag::St(0xc1),
        }),
    ] {
        let mut world = World::memory(Mode::Flit);
        world.trace[0] = memory_record(1, Mode::Flit, memory_request(&world.steps[0], other));
        assert_eq!(world.wrong(), [(Kind::Cpu, FIRMWARE)], "{other:?}");
    }
    let mut world = World::memory(Mode::Flit);
    let hinted = memory_request(&world.steps[1], hint(SteeringTag::St(0xc1)));
    world.trace[1] = memory_record(2, Mode::Flit, hinted);
    assert_eq!(world.wrong(), [(Kind::Memory, NO_HINT)]);

    assert_eq!(
        wrong(|world| world.steps[0].cpu = Some(0)),
        [(Kind::Cpu, PUBLISHED), (Kind::Cpu, FIRMWARE)]
    );
    assert_eq!(
        wrong(|world| world.steps[1].cpu = Some(1)),
        [(Kind::Memory, PUBLISHED), (Kind::Memory, NO_HINT)]
    );
    assert_eq!(
        wrong(|world| world.steps[0].after[1] = 20),
        [(Kind::Cpu, WRITTEN)]
    );
}

#[test]
fn memory_must_be_where_the_write_goes() {
    let mut world = World::memory(Mode::Flit);
    world.trace[0].to = Destination::To {
        name: "accelerator".into(),
        bar: Some(2),
    };
    assert_eq!(world.wrong(), [(Kind::Cpu, TO_MEMORY)]);

    let mut world = World::memory(Mode::Flit);
    world.steps[0].base += 4;
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Cpu, MEMORY)), "{wrong:?}");
}

#[test]
fn a_tag_that_the_firmware_does_not_know_must_not_be_sent() {
    let mut world = World::memory(Mode::Flit);
    world.asked.cpu = 2;
    for step in &mut world.steps {
        step.cpu = step.cpu.map(|_| 2);
    }
    // That of 16 bits it knows.
    let ext = memory_request(&world.steps[2], world.steps[2].expected_hint());
    world.trace[2] = memory_record(3, Mode::Flit, ext);
    assert_eq!(world.wrong(), [(Kind::Cpu, UNKNOWN)]);
    let plain = memory_request(&world.steps[0], None);
    world.trace[0] = memory_record(1, Mode::Flit, plain);
    assert_eq!(world.wrong(), []);
}

#[test]
fn an_address_that_nobody_translates_fails_behind_an_iommu() {
    let mut world = World::good(Mode::Flit);
    world.topology = preset::T2.clone();
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Hint, THROUGH_HOST)), "{wrong:?}");

    let mut world = World::translated(Mode::Flit);
    world.trace[0].bytes = world.trace[1].bytes.clone();
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Hint, TRANSLATED)), "{wrong:?}");
}

#[test]
fn what_the_host_passes_on_must_be_what_it_got() {
    let mut world = World::translated(Mode::Flit);
    let none = request(BASE, None);
    let payload = bytes(&[1, 2]);
    let passed_on = record(2, Mode::Flit, &Tlp::MemWrite(none, &payload));
    world.trace[1].bytes = passed_on.bytes;
    assert_eq!(world.wrong(), [(Kind::Hint, HINT), (Kind::Hint, STORED)]);

    let mut world = World::translated(Mode::Flit);
    let hint = world.steps[0].expected_hint().unwrap();
    let sent = MemRequest::new(STANDARD, IOVA, 2).unwrap().with_hint(hint);
    let payload = bytes(&[1, 3]);
    world.trace[0].bytes = record(1, Mode::Flit, &Tlp::MemWrite(sent, &payload)).bytes;
    assert_eq!(world.wrong(), [(Kind::Hint, PAYLOAD)]);
}

#[test]
fn a_write_that_the_host_makes_up_fails() {
    let mut world = World::translated(Mode::Flit);
    world.trace.remove(0);
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Hint, THROUGH_HOST)), "{wrong:?}");
    let mut world = World::translated(Mode::Flit);
    world.trace[0].from = "accelerator".into();
    assert_eq!(world.wrong(), [(Kind::Hint, THROUGH_HOST)]);
    let mut world = World::translated(Mode::Flit);
    world.trace[1].from = "initiator".into();
    assert_eq!(world.wrong(), [(Kind::Hint, THROUGH_HOST)]);
}

#[test]
fn a_translated_address_fails_where_none_is_due() {
    let mut world = World::translated(Mode::Flit);
    world.topology = preset::T1.clone();
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Hint, ENDPOINTS)), "{wrong:?}");
}

#[test]
fn every_claim_is_looked_at() {
    let world = World::good(Mode::Flit);
    let verified = verify(&world.steps, &world.trace, world.asked, &world.topology);
    let claims: Vec<Vec<&str>> = verified
        .iter()
        .map(|one| one.checks.iter().map(|check| check.claim).collect())
        .collect();
    let common = [PUBLISHED, ONE_WRITE, ENDPOINTS, PHYSICAL];
    assert_eq!(
        claims[0],
        [&common[..], &[HINT, PAYLOAD, SELECTED]].concat()
    );
    assert_eq!(
        claims[1],
        [&common[..], &[NO_HINT, PAYLOAD, STORED]].concat()
    );
    assert_eq!(
        claims[2],
        [&common[..], &[HINT, TAG_FIELD, PAYLOAD, SELECTED]].concat()
    );
}

#[test]
fn a_wrong_tag_on_the_wire_fails() {
    let mut world = World::good(Mode::Flit);
    let hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(0xf1),
    };
    world.rewrite(0, request(BASE, Some(hint)), &[1, 2]);
    // 0xf1 selects add as well: only the comparison with what was published shows it.
    assert_eq!(world.wrong(), [(Kind::Hint, HINT)]);
}

#[test]
fn a_wrong_processing_hint_on_the_wire_fails() {
    let mut world = World::good(Mode::NonFlit);
    let hint = Hint {
        ph: Ph::TargetPriority,
        tag: SteeringTag::St(0xf0),
    };
    world.rewrite(0, request(BASE, Some(hint)), &[1, 2]);
    assert_eq!(world.wrong(), [(Kind::Hint, HINT)]);
}

#[test]
fn a_tag_cut_to_8_bits_fails() {
    let mut world = World::good(Mode::Flit);
    let hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(0xf0),
    };
    world.rewrite(2, request(BASE + 2 * STRIDE, Some(hint)), &[1, 2]);
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Ext, HINT)), "{wrong:?}");
}

#[test]
fn a_missing_hint_fails() {
    let mut world = World::good(Mode::Flit);
    world.rewrite(0, request(BASE, None), &[1, 2]);
    // Memory was added to, which a plain store does not do.
    assert_eq!(world.wrong(), [(Kind::Hint, HINT), (Kind::Hint, STORED)]);
}

#[test]
fn a_hint_where_nothing_was_published_fails() {
    let mut world = World::good(Mode::Flit);
    let hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(0xf0),
    };
    world.rewrite(1, request(BASE + STRIDE, Some(hint)), &[1, 2]);
    assert_eq!(
        world.wrong(),
        [(Kind::None, NO_HINT), (Kind::None, SELECTED)]
    );
}

#[test]
fn wrong_memory_fails() {
    let mut world = World::good(Mode::Flit);
    world.steps[0].after = vec![11, 2];
    assert_eq!(world.wrong(), [(Kind::Hint, SELECTED)]);
    let mut world = World::good(Mode::Flit);
    world.steps[1].after = vec![11, 22];
    assert_eq!(world.wrong(), [(Kind::None, STORED)]);
}

#[test]
fn a_missing_tlp_fails() {
    let mut world = World::good(Mode::Flit);
    world.trace.remove(1);
    assert_eq!(world.wrong(), [(Kind::None, ONE_WRITE)]);
    world.trace.clear();
    assert_eq!(
        world.wrong(),
        [
            (Kind::Hint, ONE_WRITE),
            (Kind::None, ONE_WRITE),
            (Kind::Ext, ONE_WRITE)
        ]
    );
}

#[test]
fn an_extra_tlp_fails() {
    let mut world = World::good(Mode::Flit);
    let again = world.trace[0].clone();
    world.trace.push(again);
    let wrong = world.wrong();
    assert!(wrong.contains(&(Kind::Hint, ONE_WRITE)), "{wrong:?}");
}

#[test]
fn a_write_that_only_touches_the_range_fails() {
    let mut world = World::good(Mode::Flit);
    let shifted = world.steps[0].expected_hint();
    world.rewrite(0, request(BASE + 4, shifted), &[1, 2]);
    assert_eq!(
        world.wrong(),
        [(Kind::Hint, ONE_WRITE), (Kind::Hint, PHYSICAL)]
    );
}

#[test]
fn a_write_with_disabled_bytes_fails() {
    let mut world = World::good(Mode::Flit);
    let partial = request(BASE + STRIDE, None)
        .with_byte_enables(0xe, 0xf)
        .unwrap();
    world.rewrite(1, partial, &[1, 2]);
    assert_eq!(world.wrong(), [(Kind::None, ONE_WRITE)]);
}

#[test]
fn reads_and_writes_elsewhere_do_not_matter() {
    let mut world = World::good(Mode::Flit);
    let read = Tlp::MemRead(request(BASE, None));
    world.trace.insert(0, record(9, Mode::Flit, &read));
    let elsewhere = bytes(&[1, 2]);
    let write = Tlp::MemWrite(request(BASE + 8, None), &elsewhere);
    world.trace.insert(0, record(10, Mode::Flit, &write));
    assert_eq!(world.wrong(), []);
}

#[test]
fn a_wrong_payload_fails() {
    let mut world = World::good(Mode::Flit);
    let hint = world.steps[0].expected_hint();
    world.rewrite(0, request(BASE, hint), &[1, 3]);
    assert_eq!(world.wrong(), [(Kind::Hint, PAYLOAD)]);
}

#[test]
fn wrong_ends_of_the_path_fail() {
    let mut world = World::good(Mode::Flit);
    world.trace[0].from = "accelerator".into();
    world.trace[1].to = Destination::Nobody;
    let stranger = MemRequest::new(STANDARD, BASE + 2 * STRIDE, 2)
        .unwrap()
        .with_hint(world.steps[2].expected_hint().unwrap());
    world.rewrite(2, stranger, &[1, 2]);
    assert_eq!(
        world.wrong(),
        [
            (Kind::Hint, ENDPOINTS),
            (Kind::None, ENDPOINTS),
            (Kind::Ext, ENDPOINTS)
        ]
    );
}

#[test]
fn a_tag_that_equals_the_tag_field_proves_nothing() {
    let mut world = World::good(Mode::Flit);
    let hint = world.steps[2].expected_hint().unwrap();
    let same = request(BASE + 2 * STRIDE, Some(hint))
        .with_tag(0x3ef0)
        .unwrap();
    world.rewrite(2, same, &[1, 2]);
    assert_eq!(world.wrong(), [], "0x3ef0 is another number than 0xfef0");
    world.asked.ext = 7;
    world.steps[2].published.as_mut().unwrap().steering_tag_ext = 7;
    world.steps[2].after = vec![1, 2];
    let hint = world.steps[2].expected_hint().unwrap();
    world.rewrite(2, request(BASE + 2 * STRIDE, Some(hint)), &[1, 2]);
    assert_eq!(world.wrong(), [(Kind::Ext, TAG_FIELD)]);
}

#[test]
fn publishing_something_else_than_asked_fails() {
    let mut world = World::good(Mode::Flit);
    world.asked.st = 0xe0;
    assert_eq!(world.wrong(), [(Kind::Hint, PUBLISHED)]);
    let mut world = World::good(Mode::Flit);
    world.steps[1].published = Some(Published {
        flags: 0,
        steering_tag: 0,
        steering_tag_ext: 0,
        ph: 0,
    });
    assert_eq!(world.wrong(), [(Kind::None, PUBLISHED)]);
}

#[test]
fn bytes_that_are_no_tlp_are_no_write() {
    let mut world = World::good(Mode::Flit);
    world.trace[0].bytes.truncate(5);
    assert_eq!(world.wrong(), [(Kind::Hint, ONE_WRITE)]);
}
