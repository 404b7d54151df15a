// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds the guest's report against the recorded TLPs.
//!
//! What is said about a TLP here comes from its recorded bytes; what is said about memory, from the
//! guest. The two meet in the accelerator's operation map: the tag on the wire must explain what
//! happened to the memory.

use super::operation::{name, operation, selected};
use super::steps::{Kind, Requester, Step};
use crate::cli::Publish;
use devices::InitiatorConfig;
use devices::accelerator::Operation;
use fabric::trace::{Destination, HOST, Record};
use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};
use vm::results::Case;
use vm::topology::{AddressKind, Device, Topology};

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must be so.
    pub claim: &'static str,
    /// How it is instead.
    pub wrong: Option<String>,
}

/// A step with the TLPs that belong to it and what they prove.
#[derive(Debug)]
pub struct Verified<'a> {
    /// The guest's side.
    pub step: &'a Step,
    /// The recorded writes into the step's range, as the initiator sent them.
    pub sent: Vec<&'a Record>,
    /// The same as the host passed them on, if it did.
    pub passed_on: Vec<&'a Record>,
    /// What the accelerator does with the hint on the wire, if there is a write to it.
    pub selected: Option<String>,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

impl Verified<'_> {
    /// Whether everything is as it should be.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.wrong.is_none())
    }

    /// The checks as test results.
    pub fn cases(&self) -> impl Iterator<Item = Case> + '_ {
        self.checks.iter().map(|check| {
            let name = format!("{}: {}", self.step.kind.name(), check.claim);
            match &check.wrong {
                None => Case::pass(name),
                Some(wrong) => Case::fail(name, wrong),
            }
        })
    }
}

/// A write, decoded from its record.
struct Write<'a> {
    record: &'a Record,
    request: MemRequest,
    payload: &'a [u8],
}

/// Verifies every step, of which the trace was recorded in `topology`.
pub fn verify<'a>(
    steps: &'a [Step],
    trace: &'a [Record],
    asked: Publish,
    topology: &Topology,
) -> Vec<Verified<'a>> {
    steps
        .iter()
        .map(|step| verify_step(step, trace, asked, topology))
        .collect()
}

fn verify_step<'a>(
    step: &'a Step,
    trace: &'a [Record],
    asked: Publish,
    topology: &Topology,
) -> Verified<'a> {
    let ends = match Ends::of(step, topology) {
        Ok(ends) => ends,
        Err(missing) => {
            return Verified {
                step,
                sent: vec![],
                passed_on: vec![],
                selected: None,
                checks: vec![check("the topology has its devices", Err(missing))],
            };
        }
    };
    let target = ends.target;
    let arrived = writes_into(step, trace);
    let (sent, passed_on) = match target {
        Target::Peer(AddressKind::Iova) => (before(&arrived, trace), arrived),
        Target::Peer(_) | Target::Memory => (arrived, vec![]),
    };
    // Whatever the initiator sent must arrive unchanged, but for its address.
    let last = if passed_on.is_empty() {
        &sent
    } else {
        &passed_on
    };
    let all = || sent.iter().chain(&passed_on);
    let mut checks = vec![
        check(
            "what was asked is published",
            asked_is_published(step, asked),
        ),
        check("one write fills the range", fills(step, last)),
    ];
    if let Some(first) = last.first() {
        let hint = first.request.hint();
        let claim = match target {
            Target::Peer(AddressKind::Physical | AddressKind::Bus) => {
                "it goes from the requester to the accelerator"
            }
            Target::Peer(AddressKind::Iova) => {
                "it goes from the requester through the host to the accelerator"
            }
            Target::Memory => "it goes from the requester to memory",
        };
        checks.push(check(claim, way(&ends, &sent, &passed_on)));
        let claim = match target {
            Target::Peer(AddressKind::Physical) => "its address is the BAR's physical address",
            Target::Peer(AddressKind::Iova) => "its address is an I/O virtual address",
            Target::Peer(AddressKind::Bus) => "its address is the BAR's bus address",
            Target::Memory => "its address is that of the memory",
        };
        checks.push(check(claim, address(step, &sent, target)));
        let claim = match (step.kind, step.expected_hint()) {
            (Kind::None | Kind::Memory, _) => "it carries no hint",
            (Kind::Hint | Kind::Ext, _) => "it carries the published hint",
            (Kind::Cpu | Kind::CpuExt, Some(_)) => "it carries the firmware's tag of the CPU",
            (Kind::Cpu | Kind::CpuExt, None) => {
                "it carries no hint, as the firmware has no such tag of the CPU"
            }
        };
        checks.push(check(claim, all().try_for_each(|one| carries(step, one))));
        let has_tag = hint.is_some() || step.expected_hint().is_some();
        if step.kind.is_extended() && has_tag && first.record.mode == Mode::Flit {
            checks.push(check(
                "its Tag field is not the steering tag",
                all().try_for_each(tag_field_differs),
            ));
        }
        checks.push(check(
            "its payload is the source",
            payload(step, &sent).and_then(|()| payload(step, last)),
        ));
        let (claim, operation) = match (target, hint) {
            (Target::Memory, _) => ("memory holds the source", Operation::Store),
            (Target::Peer(_), None) => ("memory holds a plain store", operation(hint)),
            (Target::Peer(_), Some(_)) => ("memory holds what the tag selects", operation(hint)),
        };
        checks.push(check(claim, memory(step, operation)));
    }
    Verified {
        step,
        selected: last
            .first()
            .filter(|_| target != Target::Memory)
            .map(|write| {
                let hint = write.request.hint();
                let telling = step.after != step.source || hint.is_none();
                let remark = if telling {
                    ""
                } else {
                    " (a plain store would leave the same)"
                };
                selected(hint) + remark
            }),
        sent: sent.iter().map(|write| write.record).collect(),
        passed_on: passed_on.iter().map(|write| write.record).collect(),
        checks,
    }
}

/// Where a step's write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// To the accelerator, with such an address.
    Peer(AddressKind),
    /// To memory, with its physical address.
    Memory,
}

/// The two devices of a step.
struct Ends<'a> {
    /// What writes, and its address.
    requester: (&'a Device, Bdf),
    accelerator: &'a Device,
    target: Target,
}

impl<'a> Ends<'a> {
    fn of(step: &Step, topology: &'a Topology) -> Result<Self, String> {
        let initiator = |kind: InitiatorConfig| {
            let found = topology.initiator(kind);
            found.ok_or_else(|| format!("it has no initiator of kind {kind:?}"))
        };
        let requester = match (topology.adapter(), step.requester) {
            (Some(adapter), _) => adapter,
            (None, Requester::Tph) => initiator(InitiatorConfig::Tph)?,
            (None, Requester::Ext) => initiator(InitiatorConfig::Extended)?,
        };
        let accelerator = topology.accelerator().ok_or("it has no accelerator")?;
        Ok(Self {
            requester: (requester, topology.bdf(requester)),
            accelerator,
            target: if step.kind.is_to_memory() {
                Target::Memory
            } else {
                Target::Peer(topology.address_kind(requester, accelerator))
            },
        })
    }
}

fn check(claim: &'static str, result: Result<(), String>) -> Check {
    Check {
        claim,
        wrong: result.err(),
    }
}

/// The memory writes that touch the step's range of the BAR, in the order of the trace.
fn writes_into<'a>(step: &Step, trace: &'a [Record]) -> Vec<Write<'a>> {
    let range = step.address()..step.address() + step.len_bytes();
    trace
        .iter()
        .filter_map(decode)
        .filter(|write| {
            let start = write.request.addr();
            let end = start.saturating_add(write.request.len_bytes() as u64);
            start < range.end && range.start < end
        })
        .collect()
}

/// The memory writes that stand right before these in the trace: what the host got before it passed
/// them on.
fn before<'a>(passed_on: &[Write<'_>], trace: &'a [Record]) -> Vec<Write<'a>> {
    passed_on
        .iter()
        .filter_map(|write| {
            let number = write.record.number.checked_sub(1)?;
            trace.iter().find(|record| record.number == number)
        })
        .filter_map(decode)
        .collect()
}

/// A record as a memory write, if it is one.
fn decode(record: &Record) -> Option<Write<'_>> {
    match record.tlp() {
        Ok(Tlp::MemWrite(request, payload)) => Some(Write {
            record,
            request,
            payload,
        }),
        _ => None,
    }
}

/// The published tuple, or the CPU, is the one of the command line.
fn asked_is_published(step: &Step, asked: Publish) -> Result<(), String> {
    let steered = matches!(step.kind, Kind::Cpu | Kind::CpuExt);
    let cpu = steered.then_some(asked.cpu);
    if step.cpu != cpu {
        return Err(format!("asked for CPU {cpu:?}, steered at {:?}", step.cpu));
    }
    let tag = match step.kind {
        Kind::Hint => Some(SteeringTag::St(asked.st)),
        Kind::Ext => Some(SteeringTag::Ext(asked.ext)),
        Kind::None | Kind::Memory => None,
        Kind::Cpu | Kind::CpuExt => {
            return match step.published {
                Some(tuple) => Err(format!("published {tuple:?}")),
                None => Ok(()),
            };
        }
    };
    let asked = tag.map(|tag| Hint {
        ph: Ph::from_bits(asked.ph),
        tag,
    });
    let published = step.expected_hint();
    if published != asked {
        return Err(format!(
            "asked for {}, published {}",
            describe(asked),
            describe(published)
        ));
    }
    match step.published {
        Some(tuple) if step.kind.is_control() => Err(format!("published {tuple:?}")),
        _ => Ok(()),
    }
}

fn fills(step: &Step, writes: &[Write<'_>]) -> Result<(), String> {
    let (from, length) = (step.address(), step.len_bytes());
    match writes {
        [] => Err(format!(
            "the trace has no write to {from:#x}, {length} bytes"
        )),
        [one]
            if one.request.addr() == from
                && one.request.len_bytes() as u64 == length
                && one.request.is_full() =>
        {
            Ok(())
        }
        [one] => Err(format!(
            "TLP {} writes {} bytes to {:#x} instead of {length} to {from:#x}",
            one.record.number,
            one.request.len_bytes(),
            one.request.addr()
        )),
        more => Err(format!(
            "the trace has {} writes to {from:#x}, {length} bytes",
            more.len()
        )),
    }
}

/// From the initiator to the accelerator, in one go or through the host.
fn way(ends: &Ends<'_>, sent: &[Write<'_>], passed_on: &[Write<'_>]) -> Result<(), String> {
    let &Ends {
        requester: (initiator, bdf),
        accelerator,
        target,
    } = ends;
    let to_accelerator = |to: &Destination| matches!(to, Destination::To { name, bar: Some(_) } if *name == accelerator.name);
    let to_host =
        |to: &Destination| matches!(to, Destination::To { name, bar: None } if name == HOST);
    let through_host = target == Target::Peer(AddressKind::Iova);

    for write in sent.iter().chain(passed_on) {
        let requester = write.request.requester();
        if requester != bdf {
            return Err(format!(
                "TLP {} has requester {requester}, it should be {bdf}",
                write.record.number
            ));
        }
    }
    for Write { record, .. } in sent {
        let right = match target {
            Target::Peer(AddressKind::Iova) | Target::Memory => to_host(&record.to),
            Target::Peer(_) => to_accelerator(&record.to),
        };
        if record.from != initiator.name || !right {
            return Err(goes(record));
        }
    }
    for Write { record, .. } in passed_on {
        if record.from != HOST || !to_accelerator(&record.to) {
            return Err(goes(record));
        }
    }
    if through_host && sent.len() != passed_on.len() {
        return Err(format!(
            "the host got {} writes and passed on {}",
            sent.len(),
            passed_on.len()
        ));
    }
    Ok(())
}

fn goes(record: &Record) -> String {
    format!(
        "TLP {} goes from {} to {}",
        record.number, record.from, record.to
    )
}

/// The address that the initiator was given is of the right kind.
fn address(step: &Step, sent: &[Write<'_>], target: Target) -> Result<(), String> {
    const PAGE: u64 = 4096;

    for write in sent {
        let (addr, physical) = (write.request.addr(), step.address());
        let right = match target {
            // The IOMMU translates whole pages.
            Target::Peer(AddressKind::Iova) => addr != physical && addr % PAGE == physical % PAGE,
            Target::Peer(_) | Target::Memory => addr == physical,
        };
        if !right {
            return Err(format!(
                "TLP {} has address {addr:#x}, the target's is {physical:#x}",
                write.record.number
            ));
        }
    }
    Ok(())
}

fn carries(step: &Step, write: &Write<'_>) -> Result<(), String> {
    let expected = step.expected_hint();
    let got = write.request.hint();
    if got == expected {
        return Ok(());
    }
    Err(format!(
        "it should carry {}, TLP {} carries {}",
        describe(expected),
        write.record.number,
        describe(got)
    ))
}

fn tag_field_differs(write: &Write<'_>) -> Result<(), String> {
    let field = write.request.tag();
    if write.request.hint().map(|hint| hint.tag.value()) != Some(field) {
        return Ok(());
    }
    Err(format!(
        "TLP {} has {field:#x} in both places, so it cannot tell them apart; try another tag",
        write.record.number
    ))
}

fn payload(step: &Step, writes: &[Write<'_>]) -> Result<(), String> {
    let sent: Vec<u8> = writes
        .iter()
        .flat_map(|write| write.payload)
        .copied()
        .collect();
    let source: Vec<u8> = step
        .source
        .iter()
        .flat_map(|dword| dword.to_le_bytes())
        .collect();
    if sent == source {
        return Ok(());
    }
    Err(match sent.iter().zip(&source).position(|(a, b)| a != b) {
        Some(at) => format!(
            "byte {at} is {:02x}, in the source it is {:02x}",
            sent[at], source[at]
        ),
        None => format!(
            "{} bytes were sent, the source has {}",
            sent.len(),
            source.len()
        ),
    })
}

fn memory(step: &Step, operation: Operation) -> Result<(), String> {
    for (at, ((&before, &source), &after)) in step
        .before
        .iter()
        .zip(&step.source)
        .zip(&step.after)
        .enumerate()
    {
        let expected = operation.apply(before, source);
        if after != expected {
            return Err(format!(
                "dword {at} is {after:08x}, {} of {before:08x} and {source:08x} is {expected:08x}",
                name(operation)
            ));
        }
    }
    Ok(())
}

/// A hint in the words of the command line.
pub fn describe(hint: Option<Hint>) -> String {
    let Some(Hint { ph, tag }) = hint else {
        return "no hint".into();
    };
    let ph = ph.code();
    match tag {
        SteeringTag::St(tag) => format!("ST {tag:#04x} PH {ph}"),
        SteeringTag::Ext(tag) => format!("Extended ST {tag:#06x} PH {ph}"),
    }
}
