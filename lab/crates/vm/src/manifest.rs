// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which programs the last build made, and where they are.
//!
//! A folder of programs also holds those whose source is gone. So whoever builds keeps what cargo says
//! about it (`cargo build --message-format=json`), and only what is named there is run.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file, beside the programs.
const FILE: &str = "programs.json";

/// The programs of one build.
#[derive(Debug)]
pub struct Manifest {
    file: PathBuf,
    programs: BTreeMap<String, PathBuf>,
}

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Nobody kept what cargo said.
    #[error("cannot read the list of programs {}: {error}; `make check` builds the lab and writes it", .file.display())]
    Unreadable {
        /// Where it was looked for.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what cargo says.
    #[error("line {line} of the list of programs {} is none of cargo's: {error}; build the lab again", .file.display())]
    Malformed {
        /// The list.
        file: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
    /// It is that of a build that failed or did not end.
    #[error("the build that wrote {} did not succeed; correct what it says and build the lab again", .0.display())]
    Unfinished(PathBuf),
    /// The build made no such program.
    #[error("no program {name} was built ({} names none); correct the name, or build the lab again", .file.display())]
    NotBuilt {
        /// The program.
        name: String,
        /// The list.
        file: PathBuf,
    },
    /// It is not there (any more).
    #[error("there is no program {}; correct the name, or build the lab again", .0.display())]
    Gone(PathBuf),
}

/// A message of cargo.
#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        target: Target,
        executable: Option<PathBuf>,
    },
    BuildFinished {
        success: bool,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Manifest {
    /// The list of the build that made `program`.
    pub fn of_build(program: &Path) -> Result<Self, ManifestError> {
        let file = program.with_file_name(FILE);
        match fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) => Err(ManifestError::Unreadable { file, error }),
        }
    }

    fn parse(text: &str, file: PathBuf) -> Result<Self, ManifestError> {
        let mut programs = BTreeMap::new();
        let mut succeeded = false;
        for (line, message) in (1..).zip(text.lines()) {
            match serde_json::from_str(message) {
                Ok(Message::CompilerArtifact { target, executable }) => {
                    if let Some(path) = executable
                        && target.kind.iter().any(|kind| kind == "bin")
                    {
                        programs.insert(target.name, path);
                    }
                }
                Ok(Message::BuildFinished { success }) => succeeded = success,
                Ok(Message::Other) => {}
                Err(error) => return Err(ManifestError::Malformed { file, line, error }),
            }
        }
        if succeeded {
            Ok(Self { file, programs })
        } else {
            Err(ManifestError::Unfinished(file))
        }
    }

    /// Where the program `name` is.
    pub fn program(&self, name: &str) -> Result<&Path, ManifestError> {
        let Some(path) = self.programs.get(name) else {
            return Err(ManifestError::NotBuilt {
                name: name.into(),
                file: self.file.clone(),
            });
        };
        present(path)
    }
}

/// `path`, if a file is there.
pub(crate) fn present(path: &Path) -> Result<&Path, ManifestError> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(ManifestError::Gone(path.into()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const FINISHED: &str = r#"{"reason":"build-finished","success":true}"#;

    fn artifact(kind: &str, path: &Path) -> String {
        let name = path.file_name().unwrap().to_str().unwrap();
        serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": "path+file:///src#0.1.0",
            "target": {"kind": [kind], "name": name, "src_path": "/src/main.rs"},
            "filenames": [path],
            "executable": path,
            "fresh": true,
        })
        .to_string()
    }

    /// The list of a build that made the program `lab` and `programs`, all in `dir`.
    pub(crate) fn manifest(dir: &Path, programs: &[&str]) -> Manifest {
        let mut text = String::new();
        for name in programs {
            text += &(artifact("bin", &dir.join(name)) + "\n");
        }
        fs::write(dir.join(FILE), text + FINISHED).unwrap();
        Manifest::of_build(&dir.join("lab")).unwrap()
    }

    #[test]
    fn only_what_was_built_is_a_program() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["here", "deleted"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let manifest = manifest(dir.path(), &["here", "gone"]);
        assert_eq!(manifest.program("here").unwrap(), dir.path().join("here"));
        let error = |name| manifest.program(name).unwrap_err().to_string();
        assert!(error("deleted").starts_with("no program deleted was built"));
        assert!(error("gone").contains("/gone; correct the name"));
    }

    #[test]
    fn what_is_no_binary_is_no_program() {
        let example = artifact("example", Path::new("/t/examples/layouts"));
        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tlp"},"executable":null}"#;
        let script = r#"{"reason":"build-script-executed","package_id":"x"}"#;
        let text = [&example, library, script, FINISHED].join("\n");
        let manifest = Manifest::parse(&text, FILE.into()).unwrap();
        assert!(manifest.programs.is_empty(), "{manifest:?}");
    }

    #[test]
    fn a_list_that_cannot_be_trusted_is_refused() {
        let failed = FINISHED.replace("true", "false");
        let program = artifact("bin", Path::new("/t/lab"));
        for (text, why) in [
            (program.clone(), "did not succeed"),
            (format!("{program}\n{failed}"), "did not succeed"),
            (String::new(), "did not succeed"),
            (format!("{program}\nerror: no"), "line 2 of the list"),
        ] {
            let error = Manifest::parse(&text, FILE.into()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = Manifest::of_build(Path::new("/nowhere/lab")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("/nowhere/programs.json"), "{error}");
        assert!(error.contains("`make check`"), "{error}");
    }
}
