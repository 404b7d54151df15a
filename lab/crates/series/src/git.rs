// SPDX-License-Identifier: MIT OR Apache-2.0
//! git, whoever's configuration is around.

use crate::{Error, Result};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Who makes commits, and when.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the author.
    pub name: String,
    /// Address of the author.
    pub email: String,
    /// Seconds since 1970.
    pub date: i64,
}

/// A repository that is ours alone.
#[derive(Debug, Clone)]
pub struct Repository {
    dir: PathBuf,
    identity: Identity,
}

impl Repository {
    /// A new one in `dir`, which is on the branch `series`.
    pub fn init(dir: &Path, identity: Identity) -> Result<Self> {
        crate::disk::create_dir(dir)?;
        let repository = Self {
            dir: dir.to_owned(),
            identity,
        };
        repository.run(["init", "--quiet", "--initial-branch=series"])?;
        Ok(repository)
    }

    /// A new one in `dir`, of the same identity.
    pub fn beside(&self, dir: &Path) -> Result<Self> {
        Self::init(dir, self.identity.clone())
    }

    /// Its work tree.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same, `seconds` later.
    pub fn later(&self, seconds: i64) -> Self {
        let mut later = self.clone();
        later.identity.date += seconds;
        later
    }

    /// A command of git in it.
    pub fn git<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = git(&self.dir);
        let date = format!("@{} +0000", self.identity.date);
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), &self.identity.name)
                .env(format!("GIT_{who}_EMAIL"), &self.identity.email)
                .env(format!("GIT_{who}_DATE"), &date);
        }
        command
            .args(["-c", "core.abbrev=12"])
            .args(["-c", "core.autocrlf=false"])
            .args(["-c", "commit.gpgSign=false"])
            .args(arguments);
        command
    }

    /// Runs a command of git and returns what it prints, without the last line end.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        text(&mut self.git(arguments))
    }

    /// Runs a command of git and returns what it prints, byte by byte.
    pub fn bytes<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<u8>> {
        let mut command = self.git(arguments);
        let output = command.output().map_err(start(&command))?;
        printed(&command, output)
    }

    /// As [`run()`](Self::run), with `input` on standard input.
    pub fn run_with<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<String> {
        let mut command = self.git(arguments);
        let output = feed(&mut command, input.as_bytes())?;
        said(&command, output)
    }

    /// The lines that a command of git prints.
    pub fn lines<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<String>> {
        Ok(self.run(arguments)?.lines().map(str::to_owned).collect())
    }

    /// Applies mails as whoever receives them does; says why if they do not apply.
    pub fn refuses<P: AsRef<Path>>(&self, mails: &[P]) -> Result<Option<String>> {
        let mut am = self.git(["am", "--quiet", "--keep-cr"]);
        for mail in mails {
            let mail = mail.as_ref();
            am.arg(std::path::absolute(mail).map_err(Error::io(mail))?);
        }
        let output = am.output().map_err(start(&am))?;
        if output.status.success() {
            return Ok(None);
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let failed = said.lines().find(|line| line.starts_with("Patch failed"));
        let why = failed
            .or(said.lines().last())
            .unwrap_or("git am says nothing");
        Ok(Some(why.to_owned()))
    }

    /// What git would call `text`: a hash.
    pub fn hash(&self, text: &str) -> Result<String> {
        self.run_with(["hash-object", "--stdin"], text)
    }
}

/// Every file below `folders` of `dir` that no `.gitignore` excludes, sorted. An empty repository
/// elsewhere is asked, so that it works in an unpacked tarball and in a git worktree, too.
pub fn list_files(dir: &Path, folders: &[&str]) -> Result<Vec<String>> {
    let empty = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    text(git(empty.path()).args(["init", "--quiet", "--bare"]))?;
    let present = folders.iter().filter(|folder| dir.join(folder).is_dir());
    let mut command = git(dir);
    command
        .env("GIT_DIR", empty.path())
        .env("GIT_WORK_TREE", ".")
        .args(["ls-files", "-z", "--others", "--exclude-standard", "--"])
        .args(present.clone());
    if present.count() == 0 {
        return Ok(Vec::new());
    }
    let listed = text(&mut command)?;
    let mut files: Vec<_> = listed.split_terminator('\0').map(str::to_owned).collect();
    files.sort();
    Ok(files)
}

/// git in `dir`, without anybody's configuration.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .arg("-C")
        .arg(dir);
    command
}

fn text(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(start(command))?;
    said(command, output)
}

/// Runs a program on `input`.
pub fn feed(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start(command))?;
    let mut pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read to the end says why by its exit code.
            let _ = pipe.as_mut().map(|pipe| pipe.write_all(input));
        });
        child.wait_with_output()
    });
    output.map_err(start(command))
}

/// For `map_err`: names the program.
pub fn start(command: &Command) -> impl FnOnce(std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    |error| Error::Start { program, error }
}

/// What a command of git that succeeded prints, as text without the last line end.
fn said(command: &Command, output: Output) -> Result<String> {
    let printed = printed(command, output)?;
    let text = String::from_utf8_lossy(&printed);
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// What a command of git prints, which must succeed.
fn printed(command: &Command, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = command.get_args().map(OsStr::to_string_lossy);
    let mut words = words.skip_while(|word| word.starts_with('-') || word.contains(['/', '=']));
    let why = String::from_utf8_lossy(&output.stderr);
    let why = why.lines().next().unwrap_or("it says nothing");
    Err(Error::Git {
        command: words.by_ref().take(3).collect::<Vec<_>>().join(" "),
        why: why.trim_start_matches("error: ").to_owned(),
    })
}
