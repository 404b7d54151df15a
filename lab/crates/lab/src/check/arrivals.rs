// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the trace of a boot must show of the writes that arrive.

use crate::style::relative;
use fabric::trace::{BINARY_FILE, Destination, HOST, ReadError, Reader, Record};
use std::path::Path;
use tlp::{Ph, SteeringTag, Tlp};
use vm::cpu_hint;
use vm::results::Case;

/// Which writes arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// Those that the programs ask for and look at themselves.
    Any,
    /// None at an accelerator.
    None,
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
    /// What the trace in `dir` says about it, if it is asked.
    pub fn case(self, dir: &Path) -> Option<Case> {
        let claim = match self {
            Self::Any => return None,
            Self::None => "the trace holds no write to an accelerator",
            Self::WithoutHint => "the trace holds writes to an accelerator, none with a hint",
            Self::InMemoryForEachCpu { .. } => {
                "the trace holds writes to memory with the firmware's tag of each CPU"
            }
        };
        Some(match self.look(dir) {
            Ok(()) => Case::pass(claim),
            Err(why) => Case::fail(claim, relative(&why)),
        })
    }

    fn look(self, dir: &Path) -> Result<(), String> {
        let fail = |error: ReadError| error.to_string();
        let mut arrived = 0;
        let (mut missing, wanted) = match self {
            Self::InMemoryForEachCpu { cpus, ph } => (cpu_tags(cpus), Some(ph)),
            Self::Any | Self::None | Self::WithoutHint => (vec![], None),
        };
        for record in Reader::open(&dir.join(BINARY_FILE)).map_err(fail)? {
            let record = record.map_err(fail)?;
            let tlp = record.tlp().map_err(|error| error.to_string())?;
            let Tlp::MemWrite(request, _) = tlp else {
                continue;
            };
            if let Some(hint) = request.hint()
                && is_in_memory(&record)
                && Some(hint.ph) == wanted
            {
                if INVALID.contains(&hint.tag) {
                    return Err(record.to_string());
                }
                missing.retain(|&tag| tag != hint.tag);
            }
            if !is_at_accelerator(&record) || wanted.is_some() {
                continue;
            }
            arrived += 1;
            if self == Self::None || request.hint().is_some() {
                return Err(record.to_string());
            }
        }
        if !missing.is_empty() {
            return Err(format!("no write to memory has one of {missing:x?}"));
        }
        if self == Self::WithoutHint && arrived == 0 {
            return Err("no write arrived".into());
        }
        Ok(())
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
    use fabric::trace::Tap;
    use fabric::{Completer, Fabric};
    use std::sync::Arc;
    use tlp::{Bdf, Hint, MemRequest, Mode};
    use vm::results::Verdict;

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
    fn passes(expected: Arrivals, writes: &[(u64, Option<Hint>)]) -> Option<bool> {
        let dir = tempfile::tempdir().unwrap();
        let fabric = Fabric::new(Mode::Flit, Tap::create(dir.path()).unwrap());
        let completer: Arc<dyn Completer> = Arc::new(Memory);
        let accelerator = fabric
            .attach("accelerator", Bdf::new(0, 0x11, 0), Some(completer))
            .unwrap();
        accelerator.set_command(false, true);
        accelerator.set_bar(2, AT_ACCELERATOR, 0x1000);
        let id = Bdf::new(0, 0x10, 0);
        let initiator = fabric.attach("initiator", id, None).unwrap();
        initiator.set_command(true, false);
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
            initiator.requester(id).write(addr, &[0; 8], hint).unwrap();
        }
        let case = expected.case(dir.path())?;
        Some(case.verdict == Verdict::Pass)
    }

    #[test]
    fn nothing_arrives() {
        assert_eq!(passes(Arrivals::None, &[]), Some(true));
        let elsewhere = [(AT_NOBODY, None)];
        assert_eq!(passes(Arrivals::None, &elsewhere), Some(true));
        let arrives = [(AT_NOBODY, None), (AT_ACCELERATOR, None)];
        assert_eq!(passes(Arrivals::None, &arrives), Some(false));
    }

    #[test]
    fn what_arrives_has_no_hint() {
        let plain = (AT_ACCELERATOR, None);
        let hinted = (AT_ACCELERATOR, Some(HINT));
        assert_eq!(passes(Arrivals::WithoutHint, &[plain]), Some(true));
        assert_eq!(passes(Arrivals::WithoutHint, &[plain, hinted]), Some(false));
        assert_eq!(passes(Arrivals::WithoutHint, &[]), Some(false));
        assert_eq!(passes(Arrivals::Any, &[hinted]), None);
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
        assert_eq!(passes(expected, &all(2, IN_MEMORY)), Some(true));
        assert_eq!(passes(of_four, &all(2, IN_MEMORY)), Some(false));
        assert_eq!(passes(of_four, &all(4, IN_MEMORY)), Some(true));
        assert_eq!(passes(expected, &all(2, AT_ACCELERATOR)), Some(false));
        for tag in INVALID {
            let mut writes = all(4, IN_MEMORY);
            writes.push(write(IN_MEMORY, tag));
            assert_eq!(passes(of_four, &writes), Some(false), "{tag:?}");
        }
        let all = all(2, IN_MEMORY);
        for left_out in 0..all.len() {
            let mut some = all.clone();
            some.remove(left_out);
            assert_eq!(passes(expected, &some), Some(false));
        }
        let ph = Ph::Requester;
        let other_ph: Vec<_> = cpu_tags(2)
            .into_iter()
            .map(|tag| (IN_MEMORY, Some(Hint { ph, tag })))
            .collect();
        assert_eq!(passes(expected, &other_ph), Some(false));
    }

    #[test]
    fn without_a_trace_nothing_is_proved() {
        let dir = tempfile::tempdir().unwrap();
        let case = Arrivals::None.case(dir.path()).unwrap();
        assert_ne!(case.verdict, Verdict::Pass);
    }
}
