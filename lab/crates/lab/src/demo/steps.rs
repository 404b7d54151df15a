// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the guest programs `p2p-demo`, `vfio-demo` and `demo-rdma` report: one JSON object per line and step.

use serde::Deserialize;
use tlp::{Hint, Ph, SteeringTag};
use vm::cpu_hint;

/// The controls that the demo runs, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An 8-bit tag is published; the requester is in TPH mode.
    Hint,
    /// Nothing is published.
    None,
    /// A 16-bit tag is published; the requester is in Extended mode.
    Ext,
    /// A write to memory is steered at a CPU; the requester is in TPH mode.
    Cpu,
    /// A write to memory is not steered.
    Memory,
    /// A write to memory is steered at a CPU; the requester is in Extended mode.
    CpuExt,
}

impl Kind {
    /// The steps with the initiators as requesters, in the order in which they must be reported.
    pub const OF_INITIATORS: &'static [Self] = &[Self::Hint, Self::None, Self::Ext];
    /// Those with the initiators whose driver is in user space, behind a root port: the firmware knows
    /// tags of memory there. Elsewhere they are as with a driver in the kernel.
    pub const OF_USER_SPACE: &'static [Self] = &[
        Self::Hint,
        Self::None,
        Self::Ext,
        Self::Cpu,
        Self::Memory,
        Self::CpuExt,
    ];
    /// Those with the RDMA adapter, which is in Extended mode.
    pub const OF_ADAPTER: &'static [Self] = &[Self::Ext, Self::None];

    /// Its name in the report of the guest and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::None => "none",
            Self::Ext => "ext",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::CpuExt => "cpu-ext",
        }
    }

    /// Whether the target is memory; else it is the accelerator's.
    pub fn is_to_memory(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory | Self::CpuExt)
    }

    /// Whether it shows what is without a hint.
    pub fn is_control(self) -> bool {
        matches!(self, Self::None | Self::Memory)
    }

    /// Whether it is for 16-bit tags.
    pub fn is_extended(self) -> bool {
        matches!(self, Self::Ext | Self::CpuExt)
    }
}

/// Namespace that the requester has enabled in its TPH control register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requester {
    /// 8-bit tags.
    Tph,
    /// 16-bit tags.
    Ext,
}

/// The tuple that was published for the dma-buf (`struct vfio_device_feature_dma_buf_tph`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Bit 0: the 8-bit tag is valid; bit 1: the 16-bit tag is valid.
    pub flags: u32,
    /// 8-bit tag.
    pub steering_tag: u8,
    /// 16-bit tag.
    pub steering_tag_ext: u16,
    /// Processing hint, 0..=3.
    pub ph: u8,
}

impl Published {
    const ST: u32 = 1 << 0;
    const ST_EXT: u32 = 1 << 1;

    /// The hint that a requester in this namespace is to be given, if there is one.
    pub fn hint(self, requester: Requester) -> Option<Hint> {
        let (valid, tag) = match requester {
            Requester::Tph => (Self::ST, SteeringTag::St(self.steering_tag)),
            Requester::Ext => (Self::ST_EXT, SteeringTag::Ext(self.steering_tag_ext)),
        };
        (self.flags & valid != 0 && self.ph <= 3).then(|| Hint {
            ph: Ph::from_bits(self.ph),
            tag,
        })
    }
}

/// One step, as the guest saw it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Which control this is.
    #[serde(rename = "step")]
    pub kind: Kind,
    /// Address of the BAR, or of the memory: physical and, on x86, on the bus too.
    pub base: u64,
    /// Where in that range the write goes, in bytes.
    pub offset: u64,
    /// What was published for the dma-buf.
    pub published: Option<Published>,
    /// The CPU at which the write was to be steered.
    #[serde(default)]
    pub cpu: Option<u32>,
    /// What the requester had enabled.
    pub requester: Requester,
    /// The accelerator's memory before the write.
    pub before: Vec<u32>,
    /// What the initiator wrote.
    pub source: Vec<u32>,
    /// The accelerator's memory after the write.
    pub after: Vec<u32>,
}

/// Why the guest's report is no report of the demo.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepsError {
    /// A line is not one of the contract.
    #[error("line {line} of the guest's report is not a step ({reason}): {text}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
        /// The line.
        text: String,
    },
    /// The steps are not those of the demo.
    #[error("the guest reported the steps [{got}] instead of [{expected}]")]
    Steps {
        /// What it reported.
        got: String,
        /// What it should have.
        expected: String,
    },
    /// The arrays of a step do not describe one range.
    #[error(
        "step {step}: `before`, `source` and `after` must have one length, 1 to 1024 dwords; they have {lengths:?}, at offset {offset:#x}"
    )]
    Shape {
        /// The step.
        step: &'static str,
        /// The three lengths.
        lengths: [usize; 3],
        /// Its offset.
        offset: u64,
    },
    /// A range that no address space holds.
    #[error("step {step}: {base:#x} + {offset:#x} is no dword-aligned bus address")]
    Address {
        /// The step.
        step: &'static str,
        /// Its base.
        base: u64,
        /// Its offset.
        offset: u64,
    },
}

impl Step {
    /// Bus address of the write's first byte.
    pub fn address(&self) -> u64 {
        self.base.saturating_add(self.offset)
    }

    /// Length of the write in bytes.
    pub fn len_bytes(&self) -> u64 {
        4 * self.source.len() as u64
    }

    /// What a TLP of this step must carry.
    pub fn expected_hint(&self) -> Option<Hint> {
        match self.cpu {
            Some(cpu) => cpu_hint(cpu, self.requester == Requester::Ext),
            None => self
                .published
                .and_then(|published| published.hint(self.requester)),
        }
    }

    fn check(&self) -> Result<(), StepsError> {
        let lengths = [self.before.len(), self.source.len(), self.after.len()];
        let step = self.kind.name();
        let same = lengths.iter().all(|&length| length == lengths[0]);
        if !same || !(1..=1024).contains(&lengths[0]) {
            return Err(StepsError::Shape {
                step,
                lengths,
                offset: self.offset,
            });
        }
        let end = self
            .base
            .checked_add(self.offset)
            .and_then(|address| address.checked_add(self.len_bytes()));
        if end.is_none() || !self.address().is_multiple_of(4) {
            return Err(StepsError::Address {
                step,
                base: self.base,
                offset: self.offset,
            });
        }
        Ok(())
    }
}

/// Reads the guest's report: exactly the steps of these `kinds`, in order.
pub fn parse(report: &str, kinds: &[Kind]) -> Result<Vec<Step>, StepsError> {
    let mut steps = Vec::new();
    for (index, text) in report.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let step: Step = serde_json::from_str(text).map_err(|error| StepsError::Line {
            line: index + 1,
            reason: error.to_string(),
            text: text.to_owned(),
        })?;
        step.check()?;
        steps.push(step);
    }
    let got: Vec<_> = steps.iter().map(|step| step.kind).collect();
    if got != kinds {
        let names = |kinds: &[Kind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        return Err(StepsError::Steps {
            got: names(&got).join(", "),
            expected: names(kinds).join(", "),
        });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(report: &str) -> Result<Vec<Step>, StepsError> {
        super::parse(report, Kind::OF_INITIATORS)
    }

    const HINT: &str = r#"{"step":"hint","base":549755813888,"offset":0,"published":{"flags":1,"steering_tag":240,"steering_tag_ext":0,"ph":2},"requester":"tph","before":[1],"source":[2],"after":[3]}"#;
    const NONE: &str = r#"{"step":"none","base":549755813888,"offset":4,"published":null,"requester":"tph","before":[1],"source":[2],"after":[2]}"#;
    const EXT: &str = r#"{"step":"ext","base":549755813888,"offset":8,"published":{"flags":2,"steering_tag":0,"steering_tag_ext":48880,"ph":1},"requester":"ext","before":[1],"source":[2],"after":[3]}"#;

    #[test]
    fn the_three_steps_are_read() {
        let steps = parse(&format!("{HINT}\n{NONE}\n\n{EXT}\n")).unwrap();
        assert_eq!(steps[0].address(), 0x80_0000_0000);
        assert_eq!(
            steps[0].expected_hint(),
            Some(Hint {
                ph: Ph::Target,
                tag: SteeringTag::St(0xf0)
            })
        );
        assert_eq!(steps[1].expected_hint(), None);
        assert_eq!(
            steps[2].expected_hint(),
            Some(Hint {
                ph: Ph::Requester,
                tag: SteeringTag::Ext(0xbef0)
            })
        );
    }

    #[test]
    fn the_adapter_has_steps_of_its_own() {
        let report = format!("{EXT}\n{NONE}\n");
        assert_eq!(super::parse(&report, Kind::OF_ADAPTER).unwrap().len(), 2);
        assert!(parse(&report).is_err());
    }

    #[test]
    fn a_tag_of_the_other_namespace_is_no_hint() {
        let mut steps = parse(&format!("{HINT}\n{NONE}\n{EXT}\n")).unwrap();
        steps[0].requester = Requester::Ext;
        assert_eq!(steps[0].expected_hint(), None);
        steps[2].requester = Requester::Tph;
        assert_eq!(steps[2].expected_hint(), None);
    }

    const CPU: &str = r#"{"step":"cpu","base":4096,"offset":0,"published":null,"cpu":1,"requester":"tph","before":[1],"source":[2],"after":[2]}"#;
    const MEMORY: &str = r#"{"step":"memory","base":4096,"offset":0,"published":null,"requester":"tph","before":[1],"source":[2],"after":[2]}"#;
    const CPU_EXT: &str = r#"{"step":"cpu-ext","base":4096,"offset":0,"published":null,"cpu":3,"requester":"ext","before":[1],"source":[2],"after":[2]}"#;

    #[test]
    fn memory_is_for_a_cpu() {
        let report = [HINT, NONE, EXT, CPU, MEMORY, CPU_EXT].join("\n");
        let steps = super::parse(&report, Kind::OF_USER_SPACE).unwrap();
        let tags: Vec<_> = steps[3..]
            .iter()
            .map(|step| step.expected_hint().map(|hint| hint.tag))
            .collect();
        let unknown = None;
        assert_eq!(tags, [Some(SteeringTag::St(0xc1)), None, unknown]);
        assert!(steps[3..].iter().all(|step| step.kind.is_to_memory()));
        assert!(!steps[..3].iter().any(|step| step.kind.is_to_memory()));
    }

    #[test]
    fn every_step_must_be_there_once_and_in_order() {
        for report in [
            String::new(),
            format!("{HINT}\n{NONE}\n"),
            format!("{NONE}\n{HINT}\n{EXT}\n"),
            format!("{HINT}\n{NONE}\n{EXT}\n{EXT}\n"),
        ] {
            assert!(
                matches!(parse(&report), Err(StepsError::Steps { .. })),
                "{report}"
            );
        }
    }

    #[test]
    fn a_line_that_is_no_step_is_shown() {
        let error = parse(&format!("{HINT}\nhello\n")).unwrap_err();
        assert!(matches!(error, StepsError::Line { line: 2, .. }));
        let cut = &HINT[..40];
        assert!(matches!(parse(cut), Err(StepsError::Line { line: 1, .. })));
        let unknown = HINT.replace("\"offset\":0", "\"offset\":0,\"more\":1");
        assert!(matches!(parse(&unknown), Err(StepsError::Line { .. })));
    }

    #[test]
    fn arrays_of_different_length_are_refused() {
        let short = HINT.replace("\"after\":[3]", "\"after\":[]");
        assert!(matches!(parse(&short), Err(StepsError::Shape { .. })));
        let empty = short
            .replace("\"before\":[1]", "\"before\":[]")
            .replace("\"source\":[2]", "\"source\":[]");
        assert!(matches!(parse(&empty), Err(StepsError::Shape { .. })));
    }

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        let odd = HINT.replace("\"offset\":0", "\"offset\":2");
        assert!(matches!(parse(&odd), Err(StepsError::Address { .. })));
        let beyond = HINT.replace("549755813888", &u64::MAX.to_string());
        assert!(matches!(parse(&beyond), Err(StepsError::Address { .. })));
    }
}
