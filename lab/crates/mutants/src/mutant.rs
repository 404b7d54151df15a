// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fault: a patch whose header names the test that must find it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How the line begins that names the test.
const FOUND_BY: &str = "Found-by: ";

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, which is that of the patch.
    pub name: String,
    /// The test that must find it, as the report of `lab check` calls it: `PROGRAM: TEST`, or
    /// `SUITE: TEST` of KUnit.
    pub found_by: String,
}

/// Why there is no such fault.
#[derive(Debug, thiserror::Error)]
pub enum MutantError {
    /// A file.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A header that names no test.
    #[error("{} does not begin with '{FOUND_BY}PROGRAM: TEST', the test that must find it", .0.display())]
    NoTest(PathBuf),
    /// There is nothing to be done.
    #[error("there is no fault in {}", .0.display())]
    None(PathBuf),
}

impl Mutant {
    /// Reads the fault `name` of `dir`.
    pub fn read(dir: &Path, name: &str) -> Result<Self, MutantError> {
        let path = dir.join(format!("{name}.patch"));
        let text = fs::read_to_string(&path).map_err(|error| MutantError::Io {
            path: path.clone(),
            error,
        })?;
        let found_by = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix(FOUND_BY))
            .map(str::trim)
            .filter(|test| test.contains(": "));
        let Some(found_by) = found_by else {
            return Err(MutantError::NoTest(path));
        };
        Ok(Self {
            name: name.to_owned(),
            found_by: found_by.to_owned(),
        })
    }

    /// Reads the faults `names` of `dir`; all of them, if none is named.
    pub fn read_all(dir: &Path, names: &[String]) -> Result<Vec<Self>, MutantError> {
        let mut names = names.to_vec();
        if names.is_empty() {
            let error = |error| MutantError::Io {
                path: dir.to_owned(),
                error,
            };
            for entry in fs::read_dir(dir).map_err(error)? {
                let name = entry.map_err(error)?.file_name();
                names.extend(
                    name.to_string_lossy()
                        .strip_suffix(".patch")
                        .map(str::to_owned),
                );
            }
            names.sort();
        }
        if names.is_empty() {
            return Err(MutantError::None(dir.to_owned()));
        }
        names.iter().map(|name| Self::read(dir, name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(patches: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in patches {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn the_first_line_names_the_test() {
        let text = "Found-by: guest-a: case 2: a / b\n--- a/x\n+++ b/x\n";
        let dir = dir(&[("b.patch", text), ("a.patch", text), ("note", "")]);
        let all = Mutant::read_all(dir.path(), &[]).unwrap();
        let names: Vec<_> = all.iter().map(|mutant| mutant.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(all[0].found_by, "guest-a: case 2: a / b");
        assert_eq!(
            Mutant::read_all(dir.path(), &["b".into()]).unwrap()[..],
            all[1..]
        );
    }

    #[test]
    fn a_fault_that_names_no_test_is_an_error() {
        for text in ["--- a/x\n", "Found-by: guest-a\n", ""] {
            let dir = dir(&[("a.patch", text)]);
            let error = Mutant::read(dir.path(), "a").unwrap_err();
            assert!(matches!(error, MutantError::NoTest(_)), "{error}");
        }
    }

    #[test]
    fn a_fault_that_is_not_there_is_an_error() {
        let empty = dir(&[]);
        let error = Mutant::read(empty.path(), "gone").unwrap_err();
        assert!(
            error.to_string().contains("gone.patch: No such file"),
            "{error}"
        );
        let error = Mutant::read_all(empty.path(), &[]).unwrap_err();
        assert!(matches!(error, MutantError::None(_)), "{error}");
    }

    /// Every fault of the repository names a test.
    #[test]
    fn the_repositorys_faults_name_tests() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/mutants.d");
        Mutant::read_all(&dir, &[]).unwrap();
    }
}
