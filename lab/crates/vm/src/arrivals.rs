// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the trace of a boot must show of the writes that arrive.

use crate::cpu_hint;
use crate::results::Case;
use fabric::trace::{BINARY_FILE, Destination, HOST, ReadError, Reader, Record};
use std::collections::BTreeSet;
use std::path::Path;
use tlp::{Hint, Ph, SteeringTag, Tlp};

/// What is claimed of the writes that arrive, beside what the programs see of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// None at an accelerator.
    None,
    /// Some at an accelerator with a tag of each of these widths, which are 8 and 16 bits.
    Hinted(&'static [u8]),
    /// Some at an accelerator, and none of them has a hint.
    WithoutHint,
    /// Some in memory, with this processing hint and each tag that the firmware (`vm/src/cpu-tags.asl`)
    /// has for so many processors, and none with those that it does not know.
    InMemoryForEachCpu {
        /// How many.
        cpus: u32,
        /// The processing hint.
        ph: Ph,
    },
}

/// The tags that the firmware gives away together with the word that they are not valid.
const INVALID: [SteeringTag; 2] = [SteeringTag::St(0xc2), SteeringTag::Ext(0xca03)];

/// The firmware's tags of so many processors.
fn cpu_tags(cpus: u32) -> Vec<SteeringTag> {
    (0..cpus)
        .flat_map(|cpu| [cpu_hint(cpu, false), cpu_hint(cpu, true)])
        .flatten()
        .map(|hint| hint.tag)
        .collect()
}

impl Arrivals {
    /// What the trace in `dir` says about it.
    #[must_use]
    pub fn case(self, dir: &Path) -> Case {
        let claim = match self {
            Self::Hinted(_) => "the trace holds writes to an accelerator with tags of each width",
            Self::None => "the trace holds no write to an accelerator",
            Self::WithoutHint => "the trace holds writes to an accelerator, none with a hint",
            Self::InMemoryForEachCpu { .. } => {
                "the trace holds writes to memory with the firmware's tag of each CPU"
            }
        };
        match self.look(dir) {
            Ok(()) => Case::pass(claim),
            Err(why) => Case::fail(claim, why),
        }
    }

    fn look(self, dir: &Path) -> Result<(), String> {
        let fail = |error: ReadError| error.to_string();
        let mut seen = Seen::default();
        let mut reader = Reader::open(&dir.join(BINARY_FILE)).map_err(fail)?;
        for record in reader.by_ref() {
            let record = record.map_err(fail)?;
            let tlp = record.tlp().map_err(|error| error.to_string())?;
            let Tlp::MemWrite(request, _) = tlp else {
                continue;
            };
            let hint = request.hint();
            let forbidden = match self {
                Self::None => is_at_accelerator(&record),
                Self::WithoutHint => is_at_accelerator(&record) && hint.is_some(),
                Self::InMemoryForEachCpu { ph, .. } => {
                    is_in_memory(&record)
                        && hint.is_some_and(|hint| hint.ph == ph && INVALID.contains(&hint.tag))
                }
                Self::Hinted(_) => false,
            };
            if forbidden {
                return Err(record.to_string());
            }
            seen.take(&record, hint);
        }
        if reader.unrecorded() > 0 {
            let missing = reader.unrecorded();
            return Err(format!(
                "{missing} TLPs are not in the trace, so it proves nothing"
            ));
        }
        match self {
            Self::WithoutHint if seen.at_accelerator == 0 => Err("no write arrived".into()),
            Self::None | Self::WithoutHint => Ok(()),
            Self::Hinted(widths) => {
                let mut widths = widths.iter();
                match widths.find(|width| !seen.widths_at_accelerator.contains(width)) {
                    Some(width) => Err(format!("no write has a tag of {width} bits")),
                    None => Ok(()),
                }
            }
            Self::InMemoryForEachCpu { cpus, ph } => {
                let mut missing = cpu_tags(cpus);
                missing.retain(|&tag| !seen.in_memory.contains(&Hint { ph, tag }));
                if missing.is_empty() {
                    Ok(())
                } else {
                    Err(format!("no write to memory has one of {missing:x?}"))
                }
            }
        }
    }
}

/// The writes of a trace.
#[derive(Default)]
struct Seen {
    /// How many there are to an accelerator.
    at_accelerator: usize,
    /// The bits of the tags that they have.
    widths_at_accelerator: BTreeSet<u8>,
    /// The hints on those to memory.
    in_memory: Vec<Hint>,
}

impl Seen {
    fn take(&mut self, record: &Record, hint: Option<Hint>) {
        if is_at_accelerator(record) {
            self.at_accelerator += 1;
            let width = hint.map(|hint| match hint.tag {
                SteeringTag::St(_) => 8,
                SteeringTag::Ext(_) => 16,
            });
            self.widths_at_accelerator.extend(width);
        }
        if let Some(hint) = hint
            && is_in_memory(record)
            && !self.in_memory.contains(&hint)
        {
            self.in_memory.push(hint);
        }
    }
}

fn is_at_accelerator(record: &Record) -> bool {
    matches!(&record.to, Destination::To { name, bar: Some(_) } if name.starts_with("accelerator"))
}

fn is_in_memory(record: &Record) -> bool {
    matches!(&record.to, Destination::To { name, bar: None } if name == HOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Verdict;
    use fabric::trace::{Options, Tap};
    use fabric::{Completer, Fabric, RequesterEnable, Tph, Want};
    use std::sync::Arc;
    use tlp::{Bdf, MemRequest, Mode};

    struct Memory;

    impl Completer for Memory {
        fn write(&self, _bar: usize, _offset: u64, _request: &MemRequest, _data: &[u8]) {}
        fn read(&self, _bar: usize, _offset: u64, _request: &MemRequest, _data: &mut [u8]) {}
    }

    const AT_ACCELERATOR: u64 = 0x1000;
    const IN_MEMORY: u64 = 0x4000;
    const AT_NOBODY: u64 = 0x8000;
    const HINT: Hint = Hint {
        ph: Ph::Target,
        tag: SteeringTag::St(1),
    };

    /// Whether the trace of these writes passes.
    fn passes(expected: Arrivals, writes: &[(u64, Option<Hint>)]) -> bool {
        verdict(expected, writes, Options::default()) == Verdict::Pass
    }

    fn verdict(expected: Arrivals, writes: &[(u64, Option<Hint>)], options: Options) -> Verdict {
        let dir = tempfile::tempdir().unwrap();
        let fabric = Fabric::new(Mode::Flit, Tap::with(dir.path(), options).unwrap());
        let completer: Arc<dyn Completer> = Arc::new(Memory);
        let accelerator = fabric
            .attach("accelerator", Bdf::new(0, 0x11, 0), Some(completer))
            .unwrap();
        accelerator.set_command(false, true);
        accelerator.set_bar(2, AT_ACCELERATOR, 0x1000);
        let id = Bdf::new(0, 0x10, 0);
        let initiator = fabric.attach("initiator", id, None).unwrap();
        initiator.set_command(true, false);
        initiator.set_tph(Some(Tph::own_tags(RequesterEnable::TphAndExtended)));
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(0x1000).unwrap();
        initiator
            .map_memory(IN_MEMORY, 0x1000, memory, 0, true)
            .unwrap();
        // What the accelerator is asked to send back is no write.
        initiator
            .requester(id)
            .read(AT_ACCELERATOR, &mut [0; 8])
            .unwrap();
        for &(addr, hint) in writes {
            let want = hint.map(Want::exactly);
            initiator.requester(id).write(addr, &[0; 8], want).unwrap();
        }
        drop((accelerator, initiator, fabric));
        expected.case(dir.path()).verdict
    }

    #[test]
    fn a_trace_that_lacks_something_proves_nothing() {
        let writes = vec![(AT_NOBODY, None); 100];
        assert!(passes(Arrivals::None, &writes));
        let short = Options {
            limit: 2048,
            ..Options::default()
        };
        let Verdict::Fail(why) = verdict(Arrivals::None, &writes, short) else {
            panic!("it passed");
        };
        assert!(why.contains("TLPs are not in the trace"), "{why}");
    }

    #[test]
    fn nothing_arrives() {
        assert!(passes(Arrivals::None, &[]));
        let elsewhere = [(AT_NOBODY, None)];
        assert!(passes(Arrivals::None, &elsewhere));
        let arrives = [(AT_NOBODY, None), (AT_ACCELERATOR, None)];
        assert!(!passes(Arrivals::None, &arrives));
    }

    #[test]
    fn what_arrives_has_no_hint() {
        let plain = (AT_ACCELERATOR, None);
        let hinted = (AT_ACCELERATOR, Some(HINT));
        assert!(passes(Arrivals::WithoutHint, &[plain]));
        assert!(!passes(Arrivals::WithoutHint, &[plain, hinted]));
        assert!(!passes(Arrivals::WithoutHint, &[]));
    }

    #[test]
    fn each_width_arrives() {
        let write = |tag| {
            let ph = Ph::Target;
            (AT_ACCELERATOR, Some(Hint { ph, tag }))
        };
        let (st, ext) = (write(SteeringTag::St(1)), write(SteeringTag::Ext(1)));
        let both = Arrivals::Hinted(&[8, 16]);
        assert!(passes(both, &[st, ext]));
        assert!(!passes(both, &[st]));
        assert!(!passes(both, &[ext]));
        assert!(passes(Arrivals::Hinted(&[16]), &[ext]));
        let elsewhere = (IN_MEMORY, ext.1);
        assert!(!passes(both, &[st, elsewhere]));
    }

    #[test]
    fn every_cpu_has_its_tag_in_memory() {
        let write = |addr, tag| {
            let ph = Ph::Target;
            (addr, Some(Hint { ph, tag }))
        };
        let all = |cpus, addr| -> Vec<_> {
            let tags = cpu_tags(cpus).into_iter();
            tags.map(|tag| write(addr, tag)).collect()
        };
        let expected = Arrivals::InMemoryForEachCpu {
            cpus: 2,
            ph: Ph::Target,
        };
        let of_four = Arrivals::InMemoryForEachCpu {
            cpus: 4,
            ph: Ph::Target,
        };
        assert!(passes(expected, &all(2, IN_MEMORY)));
        assert!(!passes(of_four, &all(2, IN_MEMORY)));
        assert!(passes(of_four, &all(4, IN_MEMORY)));
        assert!(!passes(expected, &all(2, AT_ACCELERATOR)));
        for tag in INVALID {
            let mut writes = all(4, IN_MEMORY);
            writes.push(write(IN_MEMORY, tag));
            assert!(!passes(of_four, &writes), "{tag:?}");
        }
        let all = all(2, IN_MEMORY);
        for left_out in 0..all.len() {
            let mut some = all.clone();
            some.remove(left_out);
            assert!(!passes(expected, &some));
        }
        let ph = Ph::Requester;
        let other_ph: Vec<_> = cpu_tags(2)
            .into_iter()
            .map(|tag| (IN_MEMORY, Some(Hint { ph, tag })))
            .collect();
        assert!(!passes(expected, &other_ph));
    }

    #[test]
    fn without_a_trace_nothing_is_proved() {
        let dir = tempfile::tempdir().unwrap();
        let case = Arrivals::None.case(dir.path());
        assert_ne!(case.verdict, Verdict::Pass);
    }
}
