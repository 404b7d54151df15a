// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fills in the figures of the cover letter, from what the last runs left; what was not measured is
//! said to be so.
//!
//! | name | figure |
//! |-|-|
//! | `@base@` | what the series is made against |
//! | `@tests@` | of `check.json`, which `lab check` describes |
//! | `@sizes@` | of `git diff --numstat` |
//! | `@cost@` | of `bench.json`, which `lab bench` describes: what was counted in instructions |

use crate::{Error, Result, disk};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

/// How long a line may be that is wrapped again, in characters.
const WIDTH: usize = 72;

/// Where the figures come from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// What the series is made against.
    pub base: &'a str,
    /// What `git diff --numstat` printed.
    pub numstat: &'a str,
    /// The last run of the tests.
    pub check: &'a Path,
    /// The last run of the benchmarks.
    pub bench: &'a Path,
    /// The hashes of what the kernels would be built of now.
    pub inputs: &'a [String],
}

/// The letter with its figures.
pub fn fill(letter: &str, sources: &Sources) -> Result<String> {
    let figures = BTreeMap::from([
        ("base", sources.base.to_owned()),
        ("tests", tests(load(sources.check)?, sources.inputs)),
        ("sizes", sizes(sources.numstat)),
        ("cost", cost(load(sources.bench)?, sources.inputs)),
    ]);
    let paragraphs = letter.split("\n\n").map(|paragraph| {
        let filled = substitute(paragraph, &figures)?;
        // A figure that stands alone may have lines of its own, which stay as they are.
        let is_alone = names(paragraph).any(|name| paragraph.trim_end() == format!("@{name}@"));
        Ok(if is_alone || filled == paragraph {
            filled
        } else {
            wrap(&filled)
        })
    });
    let text = paragraphs.collect::<Result<Vec<_>>>()?.join("\n\n");
    Ok(format!("{}\n", text.trim_end_matches('\n')))
}

/// The names between two `@` in `text`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut parts = text.split('@').skip(1).peekable();
    std::iter::from_fn(move || {
        loop {
            let part = parts.next()?;
            // What follows the last one is behind it.
            parts.peek()?;
            if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()) {
                return Some(part);
            }
        }
    })
}

fn substitute(text: &str, figures: &BTreeMap<&str, String>) -> Result<String> {
    let mut filled = text.to_owned();
    for name in names(text) {
        let figure = figures
            .get(name)
            .ok_or_else(|| Error::UnknownFigure(name.to_owned()))?;
        filled = filled.replace(&format!("@{name}@"), figure);
    }
    Ok(filled)
}

/// The words of `text` in lines; one that is too long has a line of its own.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.len() - 1;
        let length = lines[line].chars().count();
        if length == 0 {
            lines[line].push_str(word);
        } else if length + 1 + word.chars().count() <= WIDTH {
            lines[line].push(' ');
            lines[line].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// The JSON of a run; `None` if there was none.
fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = disk::read_if_any(path)?;
    if text.is_empty() {
        return Ok(None);
    }
    let run = serde_json::from_str(&text).map_err(|error| Error::Run {
        path: path.to_owned(),
        error,
    })?;
    Ok(Some(run))
}

/// What is said of figures that were measured of something else than what is here now.
fn age<'a>(measured: impl IntoIterator<Item = Option<&'a String>>, now: &[String]) -> &'static str {
    let mut measured = measured.into_iter().peekable();
    let is_known = measured.peek().is_some();
    if is_known && measured.all(|inputs| inputs.is_some_and(|inputs| now.contains(inputs))) {
        ""
    } else {
        "They were measured before the last change of the sources."
    }
}

#[derive(Deserialize)]
struct Check {
    complete: bool,
    kernels: Vec<Kernel>,
    total: Total,
}

#[derive(Deserialize)]
struct Kernel {
    name: String,
    inputs: Option<String>,
}

#[derive(Deserialize)]
struct Total {
    passed: u64,
    failed: u64,
    skipped: u64,
}

fn tests(run: Option<Check>, now: &[String]) -> String {
    let Some(run) = run else {
        return "not measured: make check has not ended here.".into();
    };
    if !run.complete {
        return "not measured: the last make check was one of some parts only.".into();
    }
    let Total {
        passed,
        failed,
        skipped,
    } = run.total;
    let kernels: Vec<_> = run
        .kernels
        .iter()
        .map(|kernel| kernel.name.as_str())
        .collect();
    let text = format!(
        "{passed} passed, {failed} failed, {skipped} skipped, on the kernels {}: tests of the host, KUnit, and guests with emulated devices. {}",
        kernels.join(", "),
        age(run.kernels.iter().map(|kernel| kernel.inputs.as_ref()), now),
    );
    text.trim_end().to_owned()
}

/// What a file is for, by the beginning of its path.
const GROUPS: [(&str, &str); 7] = [
    ("selftests", "tools/"),
    ("samples", "samples/"),
    ("documentation", "Documentation/"),
    ("documentation", "MAINTAINERS"),
    ("test module", "drivers/dma-buf/dmabuf_test_importer.c"),
    ("KUnit tests", "rust/kernel/dma_buf/tests.rs"),
    ("kernel", ""),
];

/// Lines added and removed, by what they are for and written in.
fn sizes(numstat: &str) -> String {
    let mut counts: BTreeMap<(usize, &str), (u64, u64)> = BTreeMap::new();
    for line in numstat.lines() {
        let mut fields = line.splitn(3, '\t');
        // Of a binary file git counts no lines and prints `-`.
        let mut lines = || {
            fields
                .next()
                .unwrap_or_default()
                .parse::<u64>()
                .unwrap_or(0)
        };
        let (added, removed) = (lines(), lines());
        let path = fields.next().unwrap_or_default();
        let group = GROUPS
            .iter()
            .find(|(_, prefix)| path.starts_with(prefix))
            .map_or("kernel", |(name, _)| name);
        // The kernel comes first.
        let order = GROUPS.iter().rev().position(|(name, _)| *name == group);
        let language = match path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("c" | "h") => "C",
            Some("rs") => "Rust",
            _ => "other",
        };
        let count = counts
            .entry((order.unwrap_or_default(), language))
            .or_default();
        count.0 += added;
        count.1 += removed;
    }
    let head = format!("  {:<14} {:<6} {:>6} {:>8}", "", "", "added", "removed");
    let rows = counts.iter().map(|((order, language), (added, removed))| {
        let group = GROUPS[GROUPS.len() - 1 - order].0;
        format!("  {group:<14} {language:<6} {added:>6} {removed:>8}")
    });
    std::iter::once(head)
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

#[derive(Deserialize)]
struct Bench {
    inputs: Option<String>,
    measurements: Vec<Measurement>,
}

#[derive(Deserialize)]
struct Measurement {
    group: String,
    name: String,
    value: f64,
    unit: String,
    compared_with: Option<String>,
}

fn cost(run: Option<Bench>, now: &[String]) -> String {
    let Some(run) = run else {
        return "not measured: make bench has not ended here.".into();
    };
    // In the order of the run.
    let mut groups: Vec<&str> = Vec::new();
    for one in &run.measurements {
        if !groups.contains(&one.group.as_str()) {
            groups.push(&one.group);
        }
    }
    groups.retain(|group| {
        let mut of_it = run.measurements.iter().filter(|one| one.group == *group);
        of_it.any(|one| one.unit == "instructions")
    });
    if groups.is_empty() {
        return "not measured: the last make bench counted no instructions in a guest.".into();
    }
    let mut lines = Vec::new();
    for group in groups {
        lines.push(format!("{group}:"));
        for one in run.measurements.iter().filter(|one| one.group == group) {
            let compared = one.compared_with.as_ref();
            let compared = compared.map(|with| format!(" (compared with {with})"));
            lines.push(format!(
                "  {}: {} {}{}",
                one.name,
                six_digits(one.value),
                one.unit,
                compared.unwrap_or_default()
            ));
        }
    }
    let age = age([run.inputs.as_ref()], now);
    if !age.is_empty() {
        lines.push(age.to_owned());
    }
    lines.join("\n")
}

/// A number with six significant digits at most, as C's `%g` prints it.
fn six_digits(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let trim = |digits: &str| {
        let is_fraction = digits.contains('.');
        let end = |c: char| is_fraction && c == '0';
        digits
            .trim_end_matches(end)
            .trim_end_matches('.')
            .to_owned()
    };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..6) => {
            let decimals = usize::try_from(5 - exponent).unwrap_or_default();
            trim(&format!("{value:.decimals$}"))
        }
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trim(digits), exponent.abs())
        }
        Err(_) => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NUMSTAT: &str =
        "1\t2\tdrivers/a.c\n30\t0\trust/kernel/b.rs\n4\t0\tsamples/rust/c.rs\n-\t-\ttools/x.bin";

    const CHECK: &str = r#"{"complete": true, "kernels": [{"name": "7.3-tph", "inputs": "abc"}],
        "parts": [], "total": {"passed": 1200, "failed": 0, "skipped": 7}}"#;

    const BENCH: &str = r#"{"inputs": "abc", "measurements": [
        {"group": "copies", "name": "memcpy", "value": 3, "unit": "GB/s"},
        {"group": "In a guest", "name": "entries: 1", "value": 182, "unit": "instructions"},
        {"group": "In a guest", "name": "the largest", "value": 1.25, "unit": "times",
         "compared_with": "the smallest"}]}"#;

    fn filled(letter: &str, check: &str, bench: &str, inputs: &[&str]) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let [check, bench] = [("check", check), ("bench", bench)].map(|(name, text)| {
            let path = dir.path().join(name);
            if !text.is_empty() {
                fs::write(&path, text).unwrap();
            }
            path
        });
        let inputs: Vec<_> = inputs.iter().map(|&one| one.into()).collect();
        let sources = Sources {
            base: "v7",
            numstat: NUMSTAT,
            check: &check,
            bench: &bench,
            inputs: &inputs,
        };
        fill(letter, &sources)
    }

    #[test]
    fn the_letter_has_the_figures_of_the_last_runs() {
        let letter = "subject\n\nOf @base@.\n\nTests: @tests@\n\n@sizes@\n\n@cost@\n\n";
        assert_eq!(
            filled(letter, CHECK, BENCH, &["abc", "def"]).unwrap(),
            "subject\n\nOf v7.\n\n\
             Tests: 1200 passed, 0 failed, 7 skipped, on the kernels 7.3-tph: tests\n\
             of the host, KUnit, and guests with emulated devices.\n\n\
             \x20                        added  removed\n\
             \x20 kernel         C           1        2\n\
             \x20 kernel         Rust       30        0\n\
             \x20 samples        Rust        4        0\n\
             \x20 selftests      other       0        0\n\n\
             In a guest:\n  entries: 1: 182 instructions\n  the largest: 1.25 times (compared with the smallest)\n"
        );
    }

    #[test]
    fn figures_of_other_sources_are_said_to_be_old() {
        let text = filled("@tests@\n\n@cost@", CHECK, BENCH, &["def"]).unwrap();
        let count = text
            .matches("measured before the last change of the sources")
            .count();
        assert_eq!(count, 2, "{text}");
        // Nor is it known of what something was measured that does not say so.
        let text = filled("@cost@", "", &BENCH.replace("inputs", "other"), &["abc"]).unwrap();
        assert!(text.contains("before the last change"), "{text}");
    }

    #[test]
    fn what_was_not_measured_is_said_to_be_so() {
        let text = filled("@tests@\n\n@cost@", "", "", &[]).unwrap();
        assert!(text.contains("not measured: make check has not ended here."));
        assert!(text.contains("not measured: make bench has not ended here."));
        let some = CHECK.replace("true", "false");
        let none = BENCH.replace("instructions", "ns");
        let text = filled("@tests@\n\n@cost@", &some, &none, &["abc"]).unwrap();
        assert!(text.contains("was one of some parts only"), "{text}");
        assert!(text.contains("counted no instructions"), "{text}");
    }

    #[test]
    fn a_run_that_is_none_is_named() {
        let error = filled("@tests@", "{", "", &[]).unwrap_err().to_string();
        assert!(error.contains("check is not what a run writes"), "{error}");
    }

    #[test]
    fn a_figure_that_nobody_knows_is_named() {
        let error = filled("at @speed@", "", "", &[]).unwrap_err().to_string();
        assert!(error.contains("@speed@"), "{error}");
        // An address is no figure.
        let text = filled("ada@example.org", "", "", &[]).unwrap();
        assert_eq!(text, "ada@example.org\n");
    }

    #[test]
    fn numbers_have_six_digits_at_most() {
        for (value, text) in [
            (182.0, "182"),
            (1.25, "1.25"),
            (0.0, "0"),
            (1_234_567.0, "1.23457e+06"),
            (123_456.7, "123457"),
            (0.000_123_4, "0.0001234"),
            (0.000_012_34, "1.234e-05"),
            (999_999.9, "1e+06"),
        ] {
            assert_eq!(six_digits(value), text);
        }
    }
}
