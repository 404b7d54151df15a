// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work tree in which the patches are built, one after the other.
//!
//! Make trusts mtimes, so a file changes only if its content does, and then by a new file of that
//! name: the pristine one may be the same file under another name.

use crate::git::Repository;
use crate::{Error, Result, disk};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The pristine kernel's files.
#[derive(Debug)]
pub struct Base<'a> {
    /// Where they are.
    pub dir: &'a Path,
    /// Of a tree of the user's own, its files: path, tab, and what tells its content. Else empty.
    pub list: String,
}

impl<'a> Base<'a> {
    /// The kernel in `dir`. A tree of the user's own, whose files `list` has, is copied, so that
    /// nothing can reach it; another gets hard links.
    pub fn new(dir: &'a Path, list: Option<&Path>) -> Result<Self> {
        let list = list.map(disk::read).transpose()?.unwrap_or_default();
        Ok(Self { dir, list })
    }

    /// Makes `to` a tree of it.
    pub fn copy(&self, to: &Path) -> Result<()> {
        if self.list.is_empty() {
            return disk::link_tree(self.dir, to);
        }
        disk::create_dir(to)?;
        for (file, _) in self.list.lines().filter_map(|line| line.split_once('\t')) {
            disk::replace(&self.dir.join(file), &to.join(file))?;
        }
        Ok(())
    }
}

/// The work tree in `dir`. Beside it, `manifest` names those files that may not be the base's, and
/// `list` says what the base was.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Where it is.
    pub dir: PathBuf,
    manifest: PathBuf,
    list: PathBuf,
    base: &'a Base<'a>,
}

impl<'a> Tree<'a> {
    /// The one in `state`.
    pub fn new(state: &Path, base: &'a Base<'a>) -> Self {
        Self {
            dir: state.join("tree"),
            manifest: state.join("manifest"),
            list: state.join("list"),
            base,
        }
    }

    /// Makes it the base with the files of `commit`.
    pub fn check_out(&self, repository: &Repository, commit: &str) -> Result<()> {
        if disk::look(&self.dir)?.is_none() {
            let new = self.dir.with_extension("new");
            disk::remove_dir(&new)?;
            self.base.copy(&new)?;
            disk::write(&self.list, &self.base.list)?;
            fs::rename(&new, &self.dir).map_err(Error::io(&self.dir))?;
        }
        repository.run(["checkout", "--quiet", "--detach", commit])?;
        let stage = repository.dir();
        let wanted: BTreeSet<PathBuf> = disk::files(stage)?.into_iter().collect();
        let mut foreign: BTreeSet<PathBuf> = disk::read_lines(&self.manifest)?
            .into_iter()
            .map(PathBuf::from)
            .collect();
        foreign.extend(self.changed_in_base()?);
        // Whoever is interrupted from here on leaves a list of every file that may differ.
        self.write_manifest(foreign.union(&wanted))?;
        for file in foreign.difference(&wanted) {
            let to = self.dir.join(file);
            if disk::look(&self.base.dir.join(file))?.is_some() {
                settle(&self.base.dir.join(file), &to)?;
            } else if disk::look(&to)?.is_some() {
                fs::remove_file(&to).map_err(Error::io(&to))?;
            }
        }
        for file in &wanted {
            settle(&stage.join(file), &self.dir.join(file))?;
        }
        disk::write(&self.list, &self.base.list)?;
        self.write_manifest(wanted.iter())
    }

    /// The files that the user has changed in the base since.
    fn changed_in_base(&self) -> Result<Vec<PathBuf>> {
        let before = disk::read_if_any(&self.list)?;
        let lines = |text: &'a str| text.lines().collect::<BTreeSet<_>>();
        let (before, now): (BTreeSet<_>, _) = (before.lines().collect(), lines(&self.base.list));
        Ok(before
            .symmetric_difference(&now)
            .filter_map(|line| line.split_once('\t'))
            .map(|(file, _)| file.into())
            .collect())
    }

    fn write_manifest<'p>(&self, files: impl Iterator<Item = &'p PathBuf>) -> Result<()> {
        disk::write_lines(&self.manifest, files.map(|file| file.display()))
    }
}

fn settle(from: &Path, to: &Path) -> Result<()> {
    if disk::is_same(from, to)? {
        Ok(())
    } else {
        disk::replace(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Identity;
    use std::time::SystemTime;

    /// A base with the files one and two, and a repository whose commits `first` and `second`
    /// change one and add three.
    struct World {
        dir: tempfile::TempDir,
        repository: Repository,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let base = dir.path().join("base");
            fs::create_dir(&base).unwrap();
            fs::write(base.join("one"), "1").unwrap();
            fs::write(base.join("two"), "2").unwrap();
            let identity = Identity {
                name: "Ada".into(),
                email: "ada@example.org".into(),
                date: 0,
            };
            let repository = Repository::init(&dir.path().join("repository"), identity).unwrap();
            let commit = |name: &str, files: &[(&str, &str)]| {
                for (file, text) in files {
                    fs::write(repository.dir().join(file), text).unwrap();
                }
                repository.run(["add", "--all"]).unwrap();
                repository.run(["commit", "--quiet", "-m", name]).unwrap();
                repository.run(["tag", name]).unwrap();
            };
            commit("base", &[("one", "1")]);
            commit("first", &[("one", "first")]);
            commit("second", &[("three", "3")]);
            Self { dir, repository }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn check_out(&self, commit: &str, list: Option<&str>) {
            let base_dir = self.at("base");
            let file = list.map(|text| {
                fs::write(self.at("listed"), text).unwrap();
                self.at("listed")
            });
            let base = Base::new(&base_dir, file.as_deref()).unwrap();
            let tree = Tree::new(self.dir.path(), &base);
            tree.check_out(&self.repository, commit).unwrap();
        }

        fn tree(&self) -> String {
            let files = disk::files(&self.at("tree")).unwrap();
            let text = |file: &PathBuf| fs::read_to_string(self.at("tree").join(file)).unwrap();
            let lines = files
                .iter()
                .map(|file| format!("{}={}", file.display(), text(file)));
            lines.collect::<Vec<_>>().join(" ")
        }

        fn time(&self, file: &str) -> SystemTime {
            fs::metadata(self.at(file)).unwrap().modified().unwrap()
        }
    }

    #[test]
    fn the_tree_follows_the_commits_there_and_back() {
        let world = World::new();
        for (commit, tree) in [
            ("second", "one=first three=3 two=2"),
            ("first", "one=first two=2"),
            ("base", "one=1 two=2"),
        ] {
            world.check_out(commit, None);
            assert_eq!(world.tree(), tree, "{commit}");
            assert_eq!(fs::read_to_string(world.at("base/one")).unwrap(), "1");
        }
    }

    #[test]
    fn a_file_that_stays_keeps_its_time() {
        let world = World::new();
        world.check_out("first", None);
        let time = world.time("tree/one");
        world.check_out("second", None);
        assert_eq!(world.time("tree/one"), time);
    }

    #[test]
    fn what_an_interrupted_run_left_is_put_right() {
        let world = World::new();
        world.check_out("second", None);
        // As if it had been ended in the middle of going back.
        fs::remove_file(world.at("tree/one")).unwrap();
        world.check_out("base", None);
        assert_eq!(world.tree(), "one=1 two=2");
    }

    #[test]
    fn a_tree_of_the_users_own_is_followed_and_never_touched() {
        let world = World::new();
        world.check_out("second", Some("one\ta\ntwo\ta\n"));
        fs::write(world.at("tree/two"), "2").unwrap();
        fs::write(world.at("base/two"), "22").unwrap();
        world.check_out("second", Some("one\ta\ntwo\tb\n"));
        assert_eq!(world.tree(), "one=first three=3 two=22");
        fs::remove_file(world.at("base/two")).unwrap();
        world.check_out("second", Some("one\ta\n"));
        assert_eq!(world.tree(), "one=first three=3");
        assert_eq!(fs::read_to_string(world.at("base/one")).unwrap(), "1");
    }
}
