// SPDX-License-Identifier: MIT OR Apache-2.0
//! The totals of a run as JSON, for programs that cite them.
//!
//! `check.json` holds an object:
//!
//! - `complete`: whether every part was run, not only some that were asked for, or that could be run;
//! - `kernels`: the guests' kernels, objects with `name` and, of what they were built, the hash `inputs`;
//! - `parts`: objects in the order of the report, with `name`, `passed`, `failed`, `skipped`, the time
//!   that it took in `seconds`, how many of its guests were `started_twice`, and `not_run`: why it
//!   could not be run, or null;
//! - `total`: `passed`, `failed` and `skipped`.
//!
//! A run that did not come to its end leaves none.

use crate::report::{self, Totals};
use serde::Serialize;
use std::path::Path;
use std::{fs, io};
use vm::Kernel;

/// The file in the output directory.
const JSON: &str = "check.json";

/// A run that came to its end.
#[derive(Debug, Serialize)]
pub struct Summary {
    complete: bool,
    kernels: Vec<BuiltKernel>,
    parts: Vec<Part>,
    total: Totals,
}

#[derive(Debug, Serialize)]
struct BuiltKernel {
    name: String,
    inputs: Option<String>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    #[serde(flatten)]
    totals: Totals,
    seconds: f64,
    started_twice: usize,
    not_run: Option<String>,
}

impl From<&report::Part> for Part {
    fn from(part: &report::Part) -> Self {
        Self {
            name: part.name.clone(),
            totals: part.totals,
            seconds: (part.took.as_secs_f64() * 10.0).round() / 10.0,
            started_twice: part.started_twice,
            not_run: part.not_run.clone(),
        }
    }
}

/// Removes what a former run left in `out`.
pub fn clear(out: &Path) -> io::Result<()> {
    match fs::remove_file(out.join(JSON)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Summary {
    /// The summary of `parts` on `kernels`; `complete` says whether these are all.
    pub fn new<'a>(
        complete: bool,
        kernels: impl IntoIterator<Item = &'a Kernel>,
        parts: &[report::Part],
    ) -> Self {
        let kernels = kernels.into_iter().map(|kernel| BuiltKernel {
            name: kernel.name(),
            inputs: kernel.inputs(),
        });
        let mut total = Totals::default();
        for part in parts {
            total.add(part.totals);
        }
        Self {
            complete: complete && parts.iter().all(|part| part.not_run.is_none()),
            kernels: kernels.collect(),
            parts: parts.iter().map(Part::from).collect(),
            total,
        }
    }

    /// Leaves it in `out`.
    pub fn write(&self, out: &Path) -> io::Result<()> {
        fs::create_dir_all(out)?;
        let json = serde_json::to_string_pretty(self)?;
        fs::write(out.join(JSON), json + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn part(name: &str, passed: usize, failed: usize, skipped: usize) -> report::Part {
        report::Part {
            name: name.into(),
            totals: Totals {
                passed,
                failed,
                skipped,
            },
            took: Duration::from_millis(12_340),
            ..report::Part::default()
        }
    }

    fn json(parts: &[report::Part]) -> Value {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("new");
        Summary::new(true, [], parts).write(&out).unwrap();
        serde_json::from_slice(&fs::read(out.join(JSON)).unwrap()).unwrap()
    }

    #[test]
    fn the_json_is_as_described() {
        let expected = json!({
            "complete": true,
            "kernels": [],
            "parts": [
                {"name": "one", "passed": 3, "failed": 0, "skipped": 1,
                 "seconds": 12.3, "started_twice": 0, "not_run": null},
                {"name": "two", "passed": 1, "failed": 2, "skipped": 0,
                 "seconds": 12.3, "started_twice": 0, "not_run": null},
            ],
            "total": {"passed": 4, "failed": 2, "skipped": 1},
        });
        assert_eq!(
            json(&[part("one", 3, 0, 1), part("two", 1, 2, 0)]),
            expected
        );
    }

    #[test]
    fn a_run_of_which_a_part_could_not_be_run_is_not_complete() {
        let two = report::Part {
            started_twice: 1,
            not_run: Some("no guest".into()),
            ..part("two", 0, 0, 0)
        };
        let json = json(&[part("one", 3, 0, 1), two]);
        assert_eq!(json["complete"], false);
        assert_eq!(json["parts"][1]["started_twice"], 1);
        assert_eq!(json["parts"][1]["not_run"], "no guest");
    }

    #[test]
    fn a_run_without_an_end_leaves_no_totals_of_a_former_one() {
        let out = tempfile::tempdir().unwrap();
        Summary::new(true, [], &[]).write(out.path()).unwrap();
        clear(out.path()).unwrap();
        assert!(!out.path().join(JSON).exists());
        clear(out.path()).unwrap();
        clear(&out.path().join("nowhere")).unwrap();
    }
}
