// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demo's report for people.

use super::steps::Kind;
use super::verify::{Verified, describe};
use report::style::Style;
use std::fmt::Write;

/// Width of the column of names.
const NAMES: usize = 11;

/// Dwords of memory on one line.
const PER_LINE: usize = 8;

/// The part of the report that tells of one step.
pub fn step(verified: &Verified<'_>, style: Style) -> String {
    let mut text = String::new();
    let step = verified.step;
    let title = match step.kind {
        Kind::Hint => "An 8-bit tag is published",
        Kind::None => "Control: nothing is published",
        Kind::Ext => "A 16-bit tag is published, the requester in Extended mode",
        Kind::Cpu => "Memory that a CPU uses, an 8-bit tag",
        Kind::Memory => "Control: memory that is written to without a hint",
        Kind::CpuExt => "Memory that a CPU uses, a 16-bit tag",
    };
    let _ = writeln!(text, "{}", style.heading(title));
    let expected = describe(step.expected_hint());
    match step.cpu {
        Some(cpu) => row(&mut text, &format!("CPU {cpu}"), [expected]),
        None if step.kind == Kind::Memory => row(&mut text, "CPU", ["none"]),
        None => row(&mut text, "published", [expected]),
    }
    for (name, records) in [("TLP", &verified.sent), ("passed on", &verified.passed_on)] {
        for record in records {
            let analyzer = record.analyzer().to_string();
            row(&mut text, name, analyzer.lines());
        }
    }
    if let Some(selected) = &verified.selected {
        row(&mut text, "operation", [selected]);
    }
    row(&mut text, "before", dwords(&step.before));
    row(&mut text, "source", dwords(&step.source));
    row(&mut text, "after", dwords(&step.after));
    if verified.holds() {
        let verdict = match step.kind {
            Kind::Cpu | Kind::CpuExt => {
                "the TLP carries what the firmware has for this CPU, and memory holds the source"
            }
            Kind::Memory => "the TLP carries no hint, and memory holds the source",
            Kind::None => "the TLP carries no hint, and memory holds a plain store",
            Kind::Hint | Kind::Ext => {
                "the TLP carries the published hint, and memory holds what its tag selects"
            }
        };
        row(&mut text, &style.good(pad("ok")), [verdict]);
    }
    for check in &verified.checks {
        if let Some(wrong) = &check.wrong {
            let line = format!("not so: {}: {wrong}", check.claim);
            row(&mut text, &style.bad(pad("FAILED")), [line]);
        }
    }
    text
}

fn pad(name: &str) -> String {
    format!("{name:NAMES$}")
}

/// One name with its lines beneath one another.
fn row<T: AsRef<str>>(text: &mut String, name: &str, lines: impl IntoIterator<Item = T>) {
    let mut name = pad(name);
    for line in lines {
        let _ = writeln!(text, "  {name}{}", line.as_ref());
        name = pad("");
    }
}

/// Memory, some dwords to a line.
fn dwords(memory: &[u32]) -> Vec<String> {
    memory
        .chunks(PER_LINE)
        .map(|chunk| {
            let words: Vec<_> = chunk.iter().map(|dword| format!("{dword:08x}")).collect();
            words.join(" ")
        })
        .collect()
}
