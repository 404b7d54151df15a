// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program of the guest, and how it is run.

use crate::command::shell_quote;
use crate::manifest::{Manifest, ManifestError, present};
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// A program of the guest, named exactly, and how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    file: File,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    uses: &'static [(&'static str, &'static str)],
    title: Option<&'static str>,
}

/// Where a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum File {
    /// That which the build makes under this name.
    Built(&'static str),
    /// That at this path of the repository, which is not built.
    InRepository(&'static str),
}

impl Program {
    const fn new(file: File) -> Self {
        Self {
            file,
            arguments: &[],
            environment: &[],
            uses: &[],
            title: None,
        }
    }

    /// The program that the build makes under this name.
    #[must_use]
    pub const fn built(name: &'static str) -> Self {
        Self::new(File::Built(name))
    }

    /// The program at this path of the repository.
    #[must_use]
    pub const fn in_repository(path: &'static str) -> Self {
        Self::new(File::InRepository(path))
    }

    /// With these arguments.
    #[must_use]
    pub const fn arguments(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    /// With these variables in its environment, beside those of the guest.
    #[must_use]
    pub const fn environment(
        mut self,
        environment: &'static [(&'static str, &'static str)],
    ) -> Self {
        self.environment = environment;
        self
    }

    /// With variables in its environment that hold the paths of built programs: it runs these.
    #[must_use]
    pub const fn uses(mut self, programs: &'static [(&'static str, &'static str)]) -> Self {
        self.uses = programs;
        self
    }

    /// Its cases are reported under this title, instead of the name of its file: for a program that
    /// runs several times in one guest.
    #[must_use]
    pub const fn titled(mut self, title: &'static str) -> Self {
        self.title = Some(title);
        self
    }

    /// Where it is.
    #[must_use]
    pub fn file(&self) -> File {
        self.file
    }

    /// Where the programs are that it runs.
    pub fn used(&self) -> impl Iterator<Item = File> {
        self.uses.iter().map(|&(_, name)| File::Built(name))
    }

    /// What its cases are reported under.
    #[must_use]
    pub fn title(&self) -> &'static str {
        let (File::Built(path) | File::InRepository(path)) = self.file;
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        self.title.unwrap_or(name)
    }

    /// What runs it, with the programs of a build and this repository.
    pub fn step(&self, built: &Manifest, repo: &Path) -> Result<Step, ManifestError> {
        let path = match self.file {
            File::Built(name) => built.program(name)?.to_owned(),
            File::InRepository(path) => present(&repo.join(path))?.to_owned(),
        };
        let mut step = Step::new(self.title(), [path.display().to_string()]);
        for &(name, value) in self.environment {
            step.environment.push((name.into(), value.into()));
        }
        for &(name, program) in self.uses {
            let path = built.program(program)?.display().to_string();
            step.environment.push((name.into(), path));
        }
        step.command
            .extend(self.arguments.iter().map(|&argument| argument.to_owned()));
        Ok(step)
    }
}

/// One command of a guest's script. It is displayed as a shell takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What its cases are reported under.
    pub title: String,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The path of its program, and its arguments.
    pub command: Vec<String>,
}

impl Step {
    /// A command without an environment of its own.
    pub fn new(
        title: impl Into<String>,
        command: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            title: title.into(),
            environment: Vec::new(),
            command: command.into_iter().map(Into::into).collect(),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.environment {
            write!(f, "{name}={} ", shell_quote(value))?;
        }
        let words: Vec<_> = self.command.iter().map(|word| shell_quote(word)).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::manifest;
    use std::fs;
    use std::process::Command;

    #[test]
    fn a_program_gets_its_arguments_and_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let name = "it's a test";
        crate::fake::script(
            dir.path(),
            name,
            "#!/bin/sh\nprintf '%s|' \"$A\" \"$TOOL\" \"$@\"\n",
        );
        fs::write(dir.path().join("tool"), "").unwrap();
        let program = Program::built(name)
            .arguments(&["two words", "it's", ""])
            .environment(&[("A", "$HOME *")])
            .uses(&[("TOOL", "tool")]);
        let step = program
            .step(&manifest(dir.path(), &[name, "tool"]), dir.path())
            .unwrap();
        let output = Command::new("sh")
            .args(["-c", &step.to_string()])
            .output()
            .unwrap();
        let tool = dir.path().join("tool");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("$HOME *|{}|two words|it's||", tool.display())
        );
        assert_eq!(program.used().collect::<Vec<_>>(), [File::Built("tool")]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let built = manifest(dir.path(), &["a"]);
        let step = |program: Program| program.step(&built, dir.path());
        for (program, name) in [
            (Program::built("b"), "no program b was built"),
            (Program::in_repository("tools/b"), "/tools/b;"),
            (Program::built("a").uses(&[("TOOL", "c")]), "no program c"),
        ] {
            let error = step(program).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let path = dir.path().join("a").display().to_string();
        assert_eq!(
            step(Program::in_repository("a")).unwrap(),
            Step::new("a", [path])
        );
    }

    #[test]
    fn the_title_is_the_name_of_the_file_or_another_one() {
        assert_eq!(Program::built("guest-memory").title(), "guest-memory");
        let program = Program::in_repository("tools/testing/rdma-reload");
        assert_eq!(program.title(), "rdma-reload");
        assert_eq!(
            program.titled("reload, with MSI-X").title(),
            "reload, with MSI-X"
        );
    }
}
