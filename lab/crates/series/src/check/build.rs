// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the kernel at each patch of the series.
//!
//! The tree goes from patch to patch as the lab's goes from edit to edit, and each set of options
//! has a build directory that is kept. A warning is an error, so that what was built is without
//! one, but for the objects in which the pristine kernel has one.

use super::news::{news, of_rustdoc, of_sparse};
use super::options::{self, OptionSet};
use super::tree::{Base, Tree};
use super::{CheckArgs, wrong};
use crate::commits::Series;
use crate::progress::{self, steps};
use crate::{Error, Result, disk};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// MB that a build takes.
const SPACE: u64 = 800;

/// How many of the first errors of a log are shown.
const SHOWN: usize = 3;

/// The builds of a series.
#[derive(Debug)]
pub struct Build<'a> {
    args: &'a CheckArgs,
    series: &'a Series,
    tree: Tree<'a>,
    /// The configuration of the guest's kernel.
    config: String,
}

impl<'a> Build<'a> {
    /// Those of `series`; nothing is done yet.
    pub fn new(args: &'a CheckArgs, series: &'a Series, base: &'a Base<'a>) -> Result<Self> {
        Ok(Self {
            args,
            series,
            tree: Tree::new(&args.state, base),
            config: disk::read(&args.repo.join("scripts/kernel.config"))?,
        })
    }

    /// What tells a configuration from its former versions.
    pub fn key(&self, set: OptionSet) -> Result<String> {
        self.series.repository.hash(&self.fragment(set))
    }

    fn fragment(&self, set: OptionSet) -> String {
        set.fragment(&self.config, &self.series.symbols)
    }

    fn dir(&self, set: OptionSet) -> PathBuf {
        let name = format!("build-{}-{set}", self.args.toolbox);
        self.args.state.join(name)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.args.out.join(format!("{name}.log"))
    }

    /// The objects in which the pristine kernel has warnings.
    fn unclean(&self, set: OptionSet) -> Result<BTreeSet<String>> {
        let lines = disk::read_lines(&self.dir(set).join("unclean"))?;
        Ok(lines.into_iter().collect())
    }

    fn make(&self, set: OptionSet) -> Result<Command> {
        let mut command = Command::new("make");
        command
            .arg("-C")
            .arg(&self.tree.dir)
            .arg(format!("O={}", self.dir(set).display()))
            .args(["W=1e", "CLIPPY=1", "LOCALVERSION="])
            .args(["KBUILD_BUILD_USER=rust-tph", "KBUILD_BUILD_HOST=toolbox"])
            .arg(format!("-j{}", self.args.jobs));
        for object in self.unclean(set)? {
            let name = object.rsplit('/').next().unwrap_or_default();
            command.arg(format!("CFLAGS_{name}=-Wno-error"));
        }
        Ok(command)
    }

    fn check_out(&self, commit: &str) -> Result<()> {
        self.tree.check_out(&self.series.repository, commit)
    }

    /// Makes something; why it failed is the first errors.
    fn attempt(&self, label: &str, make: &mut Command, log: &Path) -> Result<()> {
        if progress::run(label, make, log, steps, self.args.verbose)? {
            return Ok(());
        }
        let text = fs::read(log).map_err(Error::io(log))?;
        let errors = first_errors(&String::from_utf8_lossy(&text));
        Err(Error::Wrong(format!(
            "{errors}\nthe log is {}",
            log.display()
        )))
    }

    /// The pristine kernel, and which of its objects have warnings.
    pub fn base_builds(&self, set: OptionSet) -> Result<()> {
        self.check_out("base")?;
        self.configure(set, &self.log(&format!("configure-base-{set}")))?;
        let log = self.log(&format!("build-base-{set}"));
        // All of it, whatever fails; then again, and then nothing may.
        let mut make = self.make(set)?;
        make.args(["--keep-going", "vmlinux", "modules"]);
        let label = format!("the pristine kernel with {set}");
        progress::run(&label, &mut make, &log, steps, self.args.verbose)?;
        let text = fs::read(&log).map_err(Error::io(&log))?;
        let mut unclean = self.unclean(set)?;
        unclean.extend(failed_objects(&String::from_utf8_lossy(&text)));
        disk::write_lines(&self.dir(set).join("unclean"), &unclean)?;
        let mut make = self.make(set)?;
        make.args(["vmlinux", "modules"]);
        let label = format!("the pristine kernel with {set}, its warnings aside");
        self.attempt(&label, &mut make, &log)
    }

    /// A patch, and those before it.
    pub fn builds(&self, index: usize, set: OptionSet) -> Result<()> {
        let unclean = self.unclean(set)?;
        let changed = self.series.changed_by_all("d")?;
        let hidden: Vec<_> = changed
            .iter()
            .filter_map(|file| Some(format!("{}.o", file.strip_suffix(".c")?)))
            .filter(|object| unclean.contains(object))
            .collect();
        if !hidden.is_empty() {
            return Err(Error::Wrong(format!(
                "the pristine kernel has warnings in {}, so that those of the series would not be seen",
                hidden.join(", ")
            )));
        }
        let number = index + 1;
        self.check_out(&self.series.commits[index].id)?;
        self.configure(set, &self.log(&format!("configure-{number:02}-{set}")))?;
        let mut make = self.make(set)?;
        make.args(["vmlinux", "modules"]);
        let log = self.log(&format!("build-{number:02}-{set}"));
        self.attempt(&format!("patch {number} with {set}"), &mut make, &log)
    }

    /// Configures the kernel if the set or a Kconfig file has changed. What the tree knows of the
    /// set's symbols is as the set says.
    fn configure(&self, set: OptionSet, log: &Path) -> Result<()> {
        let in_config = options::symbols(&self.config);
        let added = self.series.symbols.iter();
        let nobodys: Vec<_> = added
            .filter(|symbol| !in_config.contains_key(symbol.as_str()))
            .map(String::as_str)
            .collect();
        if !nobodys.is_empty() {
            return Err(Error::Wrong(format!(
                "nobody would build what scripts/kernel.config does not have: {}",
                nobodys.join(" ")
            )));
        }
        let dir = self.begin(set)?;
        let fragment = self.fragment(set);
        let path = dir.join("fragments");
        disk::write(&path, &fragment)?;
        let mut inputs = fragment.clone();
        let mut known = BTreeSet::new();
        for file in disk::files(&self.tree.dir)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("Kconfig") {
                let text = disk::read(&self.tree.dir.join(&file))?;
                known.extend(declared(&text));
                inputs += &text;
            }
        }
        let key = self.series.repository.hash(&inputs)?;
        let key_file = dir.join("config.key");
        if disk::read_if_any(&key_file)? == key {
            return Ok(());
        }
        disk::write(&key_file, "")?;
        let mut make = self.make(set)?;
        make.arg(format!("KCONFIG_ALLCONFIG={}", path.display()));
        make.arg("allnoconfig");
        self.attempt(&format!("configuring {set}"), &mut make, log)?;
        let config = disk::read(&dir.join(".config"))?;
        let missing = options::missing(&config, &fragment, &known);
        if !missing.is_empty() {
            let missing = missing.join(" ");
            return Err(Error::Wrong(format!(
                "the configuration has not got {missing}"
            )));
        }
        disk::write(&key_file, &key)
    }

    /// The build directory of a set. A new one begins as a copy of another set's: most of it is the
    /// same.
    fn begin(&self, set: OptionSet) -> Result<PathBuf> {
        let dir = self.dir(set);
        if disk::look(&dir)?.is_some() {
            return Ok(dir);
        }
        disk::need_space(&self.args.state, SPACE, "the build of the series")?;
        let new = dir.with_extension("new");
        disk::remove_dir(&new)?;
        match OptionSet::ALL
            .map(|other| self.dir(other))
            .iter()
            .find(|other| other.is_dir())
        {
            Some(other) => disk::clone_tree(other, &new)?,
            None => disk::create_dir(&new)?,
        }
        fs::rename(&new, &dir).map_err(Error::io(&dir))?;
        Ok(dir)
    }

    /// The objects of C files. A file that another one of its folder includes is in that one's.
    fn objects(&self, files: &[String]) -> Result<BTreeSet<String>> {
        let mut objects = BTreeSet::new();
        for file in files {
            let (folder, name) = file.rsplit_once('/').unwrap_or((".", file));
            let include = format!("#include \"{name}\"");
            let dir = self.tree.dir.join(folder);
            let mut includer = None;
            for entry in fs::read_dir(&dir).map_err(Error::io(&dir))? {
                let path = entry.map_err(Error::io(&dir))?.path();
                if path.extension().is_some_and(|ending| ending == "c")
                    && disk::read(&path)?.contains(&include)
                {
                    includer = path
                        .file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned());
                }
            }
            let stem = includer.unwrap_or_else(|| name.trim_end_matches(".c").to_owned());
            objects.insert(format!("{folder}/{stem}.o"));
        }
        Ok(objects)
    }

    /// Runs sparse on C files of the tree, and returns what it says.
    fn sparse(&self, label: &str, files: &[String], log: &Path) -> Result<Vec<String>> {
        self.configure(OptionSet::Modules, log)?;
        let mut make = self.make(OptionSet::Modules)?;
        make.args(["C=2", "CHECK=sparse"])
            .args(self.objects(files)?);
        self.attempt(label, &mut make, log)?;
        let text = fs::read(log).map_err(Error::io(log))?;
        let tree = self.tree.dir.to_string_lossy();
        Ok(of_sparse(&String::from_utf8_lossy(&text), &tree))
    }

    /// What sparse says of these files in the pristine kernel.
    pub fn base_sparse(&self, files: &[String]) -> Result<()> {
        self.check_out("base")?;
        let log = self.log("sparse-base");
        let said = self.sparse("the pristine kernel: sparse", files, &log)?;
        self.keep("sparse", &said)
    }

    /// Of the files that a patch changes it says what it says of the pristine kernel.
    pub fn sparse_is_clean(&self, index: usize, files: &[String]) -> Result<()> {
        self.check_out(&self.series.commits[index].id)?;
        let number = index + 1;
        let log = self.log(&format!("sparse-{number:02}"));
        let said = self.sparse(&format!("patch {number}: sparse"), files, &log)?;
        wrong(&news(&self.kept("sparse")?, &said))
    }

    fn rustdoc(&self, label: &str, log: &Path) -> Result<Vec<String>> {
        self.configure(OptionSet::Modules, log)?;
        let mut make = self.make(OptionSet::Modules)?;
        self.attempt(label, make.arg("rustdoc"), log)?;
        let text = fs::read(log).map_err(Error::io(log))?;
        Ok(of_rustdoc(&String::from_utf8_lossy(&text)))
    }

    /// What rustdoc warns of in the pristine kernel.
    pub fn base_rustdoc(&self) -> Result<()> {
        self.check_out("base")?;
        let said = self.rustdoc("the pristine kernel: rustdoc", &self.log("rustdoc-base"))?;
        self.keep("rustdoc", &said)
    }

    /// At a patch it warns of nothing else.
    pub fn rustdoc_renders(&self, index: usize) -> Result<()> {
        self.check_out(&self.series.commits[index].id)?;
        let number = index + 1;
        let log = self.log(&format!("rustdoc-{number:02}"));
        let said = self.rustdoc(&format!("patch {number}: rustdoc"), &log)?;
        wrong(&news(&self.kept("rustdoc")?, &said))
    }

    /// Remembers what a tool says of the pristine kernel.
    fn keep(&self, tool: &str, said: &[String]) -> Result<()> {
        disk::write_lines(&self.dir(OptionSet::Modules).join(tool), said)
    }

    fn kept(&self, tool: &str) -> Result<Vec<String>> {
        let text = disk::read(&self.dir(OptionSet::Modules).join(tool))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// The first errors of a build's log; its end if there is none.
fn first_errors(log: &str) -> String {
    let is_error = |line: &&str| {
        let words = ["error", "warning", "ERROR", "WARNING"];
        let says =
            |word: &&str| line.contains(&format!("{word}:")) || line.contains(&format!("{word}["));
        words.iter().any(says) || line.contains("undefined") || line.contains("*** ")
    };
    let mut errors: Vec<_> = log.lines().filter(is_error).take(SHOWN).collect();
    if errors.is_empty() {
        errors = log.lines().rev().take(SHOWN).collect();
        errors.reverse();
    }
    errors.join("\n")
}

/// The objects of which make says that they could not be made.
fn failed_objects(log: &str) -> impl Iterator<Item = String> {
    log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Makefile.build:")?;
        let (number, rest) = rest.split_once(": ")?;
        number.parse::<u32>().ok()?;
        let (target, _) = rest.split_once("] Error ")?;
        let (object, ending) = target.rsplit_once('.')?;
        (ending == "o").then(|| format!("{object}.o"))
    })
}

/// The symbols that a Kconfig file declares.
fn declared(kconfig: &str) -> impl Iterator<Item = String> {
    kconfig.lines().filter_map(|line| {
        let line = line.trim_start();
        let name = line
            .strip_prefix("config ")
            .or(line.strip_prefix("menuconfig "))?;
        Some(format!("CONFIG_{}", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_errors_tell_why() {
        let log = "  CC a.o\na.c:1:1: error: x\nnote\nb: warning: y\nmake: *** [a.o] Error 1\nmake: *** z\n";
        assert_eq!(
            first_errors(log),
            "a.c:1:1: error: x\nb: warning: y\nmake: *** [a.o] Error 1"
        );
        assert_eq!(first_errors("1\n2\n3\n4\n"), "2\n3\n4");
    }

    #[test]
    fn an_object_that_failed_is_found() {
        let log = "make[5]: *** [/t/scripts/Makefile.build:295: fs/old.o] Error 1\n\
            make[4]: *** [/t/scripts/Makefile.build:544: fs] Error 2\n";
        assert_eq!(failed_objects(log).collect::<Vec<_>>(), ["fs/old.o"]);
    }

    #[test]
    fn a_kconfig_file_declares_symbols() {
        let text = "menuconfig A\n\tbool\nif A\n  config B\nendif\n# config C\n";
        assert_eq!(declared(text).collect::<Vec<_>>(), ["CONFIG_A", "CONFIG_B"]);
    }
}
