// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks the series as its readers will: that it applies and makes the tree that the lab builds,
//! and each patch by itself with the kernel's own tools.
//!
//! What passed is not done again for the same input, so that an interrupted check goes on where it
//! was.

mod build;
mod checkpatch;
mod kernel_doc;
mod news;
mod options;
mod results;
mod rustfmt;
mod same;
mod tool;
mod tree;

use crate::commits::{Commit, Prepared, Series};
use crate::git::Identity;
use crate::progress::{self, going_on};
use crate::{Error, Result, disk, git};
use build::Build;
use checkpatch::Justified;
use clap::Args;
use news::news;
use options::OptionSet;
use results::Results;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use tree::Base;

/// MB that a git tree of the kernel takes.
const FRESH_SPACE: u64 = 4500;

/// Options of `lab series check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The repository
    #[arg(long, value_name = "DIR", default_value = "/tph/repo")]
    pub repo: PathBuf,
    /// The pristine kernel
    #[arg(long, value_name = "DIR")]
    pub base: PathBuf,
    /// What tells this pristine kernel and these tools from others
    #[arg(long, value_name = "TEXT")]
    pub base_key: String,
    /// The files of a pristine kernel of the user's own: path, tab, what tells its content
    #[arg(long, value_name = "FILE")]
    pub base_files: Option<PathBuf>,
    /// What the lab makes of the pristine kernel: the files that differ
    #[arg(long, value_name = "DIR")]
    pub staged: PathBuf,
    /// Directory for what passed and for the builds
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// What tells the builds of these tools from those of others
    #[arg(long, value_name = "ID")]
    pub toolbox: String,
    /// Leave out what takes hours, the builds, and what needs more packages
    #[arg(long)]
    pub quick: bool,
    /// Only this patch, by its place in the series
    #[arg(long, value_name = "N")]
    pub patch: Option<NonZeroUsize>,
    /// How many jobs a build has
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// Show the output of what is being run
    #[arg(long)]
    pub verbose: bool,
    /// Directory for logs
    #[arg(long, value_name = "DIR", default_value = "/tph/repo/out/series-check")]
    pub out: PathBuf,
}

/// Checks the series, prints TAP and a total, and says whether all is well.
pub fn check(args: &CheckArgs, to: &mut dyn Write) -> Result<bool> {
    disk::create_dir(&args.out)?;
    disk::create_dir(&args.state)?;
    // Programs are run in other directories.
    let absolute = |path: &Path| path.canonicalize().map_err(Error::io(path));
    let args = &CheckArgs {
        base: absolute(&args.base)?,
        state: absolute(&args.state)?,
        ..args.clone()
    };
    let work = tempfile::tempdir_in(&args.state).map_err(Error::io(&args.state))?;
    // Who exports does not matter here.
    let identity = Identity {
        name: "Series Check".into(),
        email: "series-check@localhost".into(),
        date: 0,
    };
    let repository = work.path().join("repository");
    let series = Prepared::new(&repository, &args.repo, &args.base, identity, &[])?.commit()?;
    let mails = series.mail(&work.path().join("mails"), &[])?;
    let count = series.commits.len();
    if let Some(number) = args
        .patch
        .map(NonZeroUsize::get)
        .filter(|&number| number > count)
    {
        return Err(Error::NoSuchPatch { number, count });
    }
    let base = Base::new(&args.base, args.base_files.as_deref())?;
    let justified_path = args.repo.join("patches/checkpatch-justified");
    let mut justified = Justified::parse(&disk::read(&justified_path)?);
    let run = Run {
        args,
        work: work.path(),
        build: Build::new(args, &series, &base)?,
        series: &series,
        mails: &mails,
        base: &base,
    };
    let memory = args.state.join("passed");
    let mut results = Results::new(to, &memory, series.repository.clone())?;
    run.all(&mut justified, &mut results)?;
    results.close()
}

/// One run of the check.
struct Run<'a> {
    args: &'a CheckArgs,
    work: &'a Path,
    build: Build<'a>,
    series: &'a Series,
    mails: &'a [PathBuf],
    base: &'a Base<'a>,
}

impl Run<'_> {
    fn all(&self, justified: &mut Justified, results: &mut Results) -> Result<()> {
        let (quick, only) = (self.args.quick, self.args.patch);
        if only.is_none() {
            let name = "git am makes the tree that the lab builds";
            results.check(name, self.makes_the_tree())?;
        }
        if !quick {
            self.pristine(results)?;
        }
        for index in 0..self.series.commits.len() {
            if only.is_none_or(|number| number.get() == index + 1) {
                self.patch(index, justified, results)?;
            }
        }
        if only.is_none() {
            let name = "patches/checkpatch-justified: each entry excuses something";
            results.check(name, justified.all_are_needed())?;
        }
        if !quick && only.is_none() {
            let mut keys = String::new();
            for index in 0..self.series.commits.len() {
                keys += &self.patch_key(index)?;
            }
            let name = "git am on a fresh unpacked base makes the tree that the lab builds";
            results.once(&keys, name, || self.makes_the_tree_of_a_fresh_base())?;
        }
        Ok(())
    }

    /// What is said of the pristine kernel, so that only what is new is held against the series.
    fn pristine(&self, results: &mut Results) -> Result<()> {
        for set in OptionSet::ALL {
            let key = self.base_key() + &self.build.key(set)?;
            let name = format!("the pristine kernel: builds with {set}");
            results.once(&key, &name, || self.build.base_builds(set))?;
        }
        let key = self.base_key() + &self.build.key(OptionSet::Modules)?;
        let name = "the pristine kernel: rustdoc";
        results.once(&key, name, || self.build.base_rustdoc())?;
        let files = in_languages(&self.series.changed_by_all("M")?, &["c"]);
        let key = key + &files.join(" ");
        let name = "the pristine kernel: sparse";
        results.once(&key, name, || self.build.base_sparse(&files))
    }

    fn patch(&self, index: usize, justified: &mut Justified, results: &mut Results) -> Result<()> {
        let commit = &self.series.commits[index];
        let changed = self.series.changed(commit)?;
        let of = |endings: &[&str]| in_languages(&changed, endings);
        let title = format!("{:02} {}", index + 1, commit.subject);
        let mut options = vec!["--strict"];
        if !self.args.quick {
            options.push("--codespell");
        }
        let outcome = self.checkpatch(index, &options, justified);
        let name = format!("{title}: checkpatch {}", options.join(" "));
        results.check(&name, outcome)?;

        let key = self.patch_key(index)?;
        let mut rust = of(&["rs"]);
        rust.retain(|file| !file.starts_with("tools/"));
        if !rust.is_empty() {
            let name = format!("{title}: rustfmt");
            results.once(&key, &name, || {
                let config = self.args.base.join(".rustfmt.toml");
                rustfmt::is_happy(&self.series.repository, &commit.id, &rust, &config)
            })?;
        }
        if self.args.quick {
            return Ok(());
        }
        let documented = of(&["c", "h"]);
        if !documented.is_empty() {
            let name = format!("{title}: kernel-doc");
            results.once(&key, &name, || {
                self.kernel_doc_is_clean(commit, &documented)
            })?;
        }
        for set in OptionSet::ALL {
            let key = key.clone() + &self.build.key(set)?;
            let name = format!("{title}: builds with {set}");
            results.once(&key, &name, || self.build.builds(index, set))?;
        }
        let key = key + &self.build.key(OptionSet::Modules)?;
        let sources = of(&["c"]);
        if !sources.is_empty() {
            let name = format!("{title}: sparse");
            results.once(&key, &name, || self.build.sparse_is_clean(index, &sources))?;
        }
        if changed.iter().any(|file| file.starts_with("rust/")) {
            let name = format!("{title}: rustdoc");
            results.once(&key, &name, || self.build.rustdoc_renders(index))?;
        }
        Ok(())
    }

    /// What decides a patch's result: its mail but for the commit's hash, and the tree that it
    /// makes.
    fn patch_key(&self, index: usize) -> Result<String> {
        let mail = disk::read(&self.mails[index])?;
        let mail = mail.split_once('\n').map_or("", |(_, rest)| rest);
        let tree = format!("{}^{{tree}}", self.series.commits[index].id);
        let tree = self.series.repository.run(["rev-parse", &tree])?;
        self.series
            .repository
            .hash(&format!("{mail}{tree}{}", self.base_key()))
    }

    fn base_key(&self) -> String {
        format!(
            "{} {} {}",
            self.args.toolbox, self.args.base_key, self.base.list
        )
    }

    /// What the lab makes of the pristine kernel, and `tools/` as it is here, on top of `dir`.
    fn put_wanted(&self, dir: &Path) -> Result<()> {
        for file in disk::files(&self.args.staged)? {
            disk::replace(&self.args.staged.join(&file), &dir.join(&file))?;
        }
        let tools = self
            .series
            .slice
            .iter()
            .filter(|file| file.starts_with("tools/"));
        for file in tools {
            disk::replace(&self.args.repo.join(file), &dir.join(file))?;
        }
        Ok(())
    }

    /// On the files of the base that the series changes.
    fn makes_the_tree(&self) -> Result<()> {
        let repository = &self.series.repository;
        repository.run(["checkout", "--quiet", "-B", "am", "base"])?;
        self.applies(repository)?;
        let wanted = self.work.join("wanted");
        self.put_wanted(&wanted)?;
        let outcome = same::trees(&wanted, repository.dir(), &self.args.out.join("tree.log"));
        disk::remove_dir(&wanted)?;
        outcome
    }

    /// On all of it, unpacked, as whoever receives the series does it.
    fn makes_the_tree_of_a_fresh_base(&self) -> Result<()> {
        disk::need_space(&self.args.state, FRESH_SPACE, "a git tree of the kernel")?;
        let fresh = self.work.join("fresh");
        self.base.copy(&fresh)?;
        let repository = self.series.repository.beside(&fresh)?;
        repository.run(["config", "core.looseCompression", "0"])?;
        let mut add = repository.git(["add", "--all", "--force"]);
        let label = "committing the pristine kernel";
        let log = self.args.out.join("fresh.log");
        if !progress::run(label, &mut add, &log, going_on, self.args.verbose)? {
            return Err(Error::Git {
                command: "add".into(),
                why: disk::read(&log)?.trim().to_owned(),
            });
        }
        repository.run(["commit", "--quiet", "--message=base"])?;
        self.applies(&repository)?;
        let whole = self.work.join("whole");
        self.base.copy(&whole)?;
        self.put_wanted(&whole)?;
        let outcome = same::trees(&whole, &fresh, &self.args.out.join("tree.log"));
        disk::remove_dir(&whole)?;
        disk::remove_dir(&fresh)?;
        outcome
    }

    fn applies(&self, repository: &git::Repository) -> Result<()> {
        match repository.refuses(self.mails)? {
            Some(why) => Err(Error::Wrong(why)),
            None => Ok(()),
        }
    }

    /// Clean, but for what is justified. The sign-off is for who posts.
    fn checkpatch(&self, index: usize, options: &[&str], justified: &mut Justified) -> Result<()> {
        let mut command = Command::new("perl");
        // There, and not in a git tree: asking for each licence's name takes longer than all else,
        // and wants a git tree of Linux.
        command
            .current_dir(&self.args.base)
            .args(["scripts/checkpatch.pl", "--no-signoff", "--show-types"])
            .args(["--no-summary", "--color=never"])
            .args(options)
            .arg(&self.mails[index]);
        let said = checkpatch::run(&mut command)?;
        let log = self
            .args
            .out
            .join(format!("checkpatch-{:02}.log", index + 1));
        disk::write(&log, &said)?;
        wrong(&justified.judge(&said))
    }

    /// Only what the pristine kernel's version of the file does not say.
    fn kernel_doc_is_clean(&self, commit: &Commit, files: &[String]) -> Result<()> {
        let repository = &self.series.repository;
        repository.run(["checkout", "--quiet", &commit.id])?;
        let script = self.args.base.join("scripts/kernel-doc");
        let mut new = Vec::new();
        for file in files {
            let before = kernel_doc::says(&script, &self.args.base, file)?;
            let now = kernel_doc::says(&script, repository.dir(), file)?;
            new.extend(news(&before, &now));
        }
        wrong(&new)
    }
}

/// Those of `files` whose names end so.
fn in_languages(files: &[String], endings: &[&str]) -> Vec<String> {
    let is_one = |file: &&String| {
        let ending = file.rsplit_once('.').map(|(_, ending)| ending);
        ending.is_some_and(|ending| endings.contains(&ending))
    };
    files.iter().filter(is_one).cloned().collect()
}

/// It is well if there is nothing to say.
fn wrong(lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        Ok(())
    } else {
        Err(Error::Wrong(lines.join("\n")))
    }
}
