// SPDX-License-Identifier: MIT OR Apache-2.0
//! The series as commits, in a repository of its own.

use crate::git::{Identity, Repository};
use crate::patch::{self, Patch};
use crate::{Error, Result, base, claims, disk};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One patch of the series, committed.
#[derive(Debug)]
pub struct Commit {
    /// Its hash.
    pub id: String,
    /// Its first line.
    pub subject: String,
}

/// A repository with the pristine kernel's files that the series changes, tagged `base`. The branch
/// `series` begins there.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The repository.
    pub repository: Repository,
    repo: &'a Path,
    base: &'a Path,
    patches: Vec<Patch>,
}

impl<'a> Prepared<'a> {
    /// Makes it in `dir`, with what the patches of `repo` change of `base`, and what `others` do.
    pub fn new(
        dir: &Path,
        repo: &'a Path,
        base: &'a Path,
        identity: Identity,
        others: &[PathBuf],
    ) -> Result<Self> {
        let patches = patch::read_all(&repo.join("patches"))?;
        let mut touched: BTreeSet<String> = patches
            .iter()
            .flat_map(|patch| patch.touches.clone())
            .collect();
        for other in others {
            touched.extend(patch::touches(&disk::read(other)?));
        }
        let repository = Repository::init(dir, identity)?;
        for file in touched.iter().filter(|file| base.join(file).is_file()) {
            disk::replace(&base.join(file), &dir.join(file))?;
        }
        repository.run(["add", "--all", "--force"])?;
        let message = format!("--message={}", base::version(base)?);
        repository.run(["commit", "--quiet", "--allow-empty", &message])?;
        repository.run(["tag", "base"])?;
        Ok(Self {
            repository,
            repo,
            base,
            patches,
        })
    }

    /// Commits each patch, a second after the former one.
    pub fn commit(self) -> Result<Series> {
        let slice = claims::slice(self.repo)?;
        let files = claims::assign(&self.patches, &slice)?;
        let mut commits = Vec::new();
        let mut repository = self.repository.clone();
        for (patch, files) in self.patches.iter().zip(files) {
            repository = repository.later(1);
            self.apply(&repository, patch)?;
            for file in files {
                self.add(&repository, &file)?;
            }
            let commit = ["commit", "--quiet", "--cleanup=whitespace", "--file=-"];
            if repository
                .run(["diff", "--cached", "--name-only"])?
                .is_empty()
            {
                return Err(Error::ChangesNothing(patch.name.clone()));
            }
            repository.run_with(commit, &patch.message)?;
            commits.push(Commit {
                id: repository.run(["rev-parse", "HEAD"])?,
                subject: repository.run(["log", "-1", "--format=%s"])?,
            });
        }
        Ok(Series {
            repository: self.repository,
            commits,
            slice,
            symbols: self
                .patches
                .into_iter()
                .flat_map(|patch| patch.symbols)
                .collect(),
        })
    }

    fn apply(&self, repository: &Repository, patch: &Patch) -> Result<()> {
        let apply = ["apply", "--index", "--allow-empty", "--whitespace=nowarn"];
        let file = std::path::absolute(&patch.path).map_err(Error::io(&patch.path))?;
        let arguments = apply.iter().map(AsRef::as_ref).chain([file.as_os_str()]);
        match repository.run(arguments) {
            Ok(_) => Ok(()),
            Err(Error::Git { why, .. }) => Err(Error::DoesNotApply {
                patch: patch.name.clone(),
                base: base::version(self.base)?,
                why,
            }),
            Err(error) => Err(error),
        }
    }

    fn add(&self, repository: &Repository, file: &str) -> Result<()> {
        if self.base.join(file).exists() {
            return Err(Error::InTheKernel(file.to_owned()));
        }
        disk::replace(&self.repo.join(file), &repository.dir().join(file))?;
        repository.run(["add", "--force", "--", file]).map(drop)
    }
}

/// The series: commits on the branch `series` of a repository, from its tag `base` on.
#[derive(Debug)]
pub struct Series {
    /// The repository.
    pub repository: Repository,
    /// The commits, the first one first.
    pub commits: Vec<Commit>,
    /// The files that the series brings into a kernel tree.
    pub slice: Vec<String>,
    /// The symbols that it adds to Kconfig.
    pub symbols: Vec<String>,
}

impl Series {
    /// Writes the commits into `dir`, as git format-patch does, and returns the files.
    pub fn mail(&self, dir: &Path, options: &[String]) -> Result<Vec<PathBuf>> {
        let mut arguments: Vec<String> = ["format-patch", "--quiet", "--no-signature"]
            .map(str::to_owned)
            .into();
        arguments.push(format!("--output-directory={}", dir.display()));
        arguments.extend_from_slice(options);
        arguments.push("base..series".into());
        self.repository.run(arguments)?;
        patch::list(dir)
    }

    /// The files that a commit changes and does not remove.
    pub fn changed(&self, commit: &Commit) -> Result<Vec<String>> {
        let range = [format!("{}~", commit.id), commit.id.clone()];
        let diff = ["diff", "--name-only", "--diff-filter=d"].map(str::to_owned);
        self.repository.lines(diff.into_iter().chain(range))
    }

    /// The files that the whole series changes; `filter` is git's: `M` for those of the base, `d`
    /// for all that it does not remove.
    pub fn changed_by_all(&self, filter: &str) -> Result<Vec<String>> {
        let filter = format!("--diff-filter={filter}");
        self.repository
            .lines(["diff", "--name-only", &filter, "base", "series"])
    }
}
