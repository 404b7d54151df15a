// SPDX-License-Identifier: MIT OR Apache-2.0
//! The totals of a run as JSON, for programs that cite them.
//!
//! `check.json` holds an object:
//!
//! - `complete`: whether every part was run, not only some that were asked for;
//! - `kernels`: the guests' kernels, objects with `name` and, of what they were built, the hash `inputs`;
//! - `parts`: objects with `name`, `passed`, `failed` and `skipped`, in the order of the report;
//! - `total`: `passed`, `failed` and `skipped`.
//!
//! A run that did not come to its end leaves none.

use super::report::Totals;
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
}

/// Removes what a former run left in `out`.
pub fn clear(out: &Path) -> io::Result<()> {
    match fs::remove_file(out.join(JSON)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Summary {
    /// The summary of `parts` on `kernels`.
    pub fn new<'a>(
        complete: bool,
        kernels: impl IntoIterator<Item = &'a Kernel>,
        parts: &[(String, Totals)],
    ) -> Self {
        let kernels = kernels.into_iter().map(|kernel| BuiltKernel {
            name: kernel.name(),
            inputs: kernel.inputs(),
        });
        let mut total = Totals::default();
        for (_, totals) in parts {
            total.add(*totals);
        }
        let parts = parts.iter().map(|(name, totals)| Part {
            name: name.clone(),
            totals: *totals,
        });
        Self {
            complete,
            kernels: kernels.collect(),
            parts: parts.collect(),
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

    fn totals(passed: usize, failed: usize, skipped: usize) -> Totals {
        Totals {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn the_json_is_as_described() {
        let out = tempfile::tempdir().unwrap();
        let parts = [
            ("one".into(), totals(3, 0, 1)),
            ("two".into(), totals(1, 2, 0)),
        ];
        let out = out.path().join("new");
        Summary::new(true, [], &parts).write(&out).unwrap();
        let json: Value = serde_json::from_slice(&fs::read(out.join(JSON)).unwrap()).unwrap();
        let expected = json!({
            "complete": true,
            "kernels": [],
            "parts": [
                {"name": "one", "passed": 3, "failed": 0, "skipped": 1},
                {"name": "two", "passed": 1, "failed": 2, "skipped": 0},
            ],
            "total": {"passed": 4, "failed": 2, "skipped": 1},
        });
        assert_eq!(json, expected);
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
