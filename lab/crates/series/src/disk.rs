// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files and directories, and the room for them.

use crate::{Error, Result};
use std::fmt::{Display, Write};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fails if less than `need` MB are free in `dir`, before work that would fail at its end.
pub fn need_space(dir: &Path, need: u64, what: &'static str) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| Error::io(dir)(error.into()))?;
    let free = stat.f_bavail * stat.f_frsize / 1_000_000;
    if free < need {
        let dir = dir.to_owned();
        return Err(Error::Space {
            what,
            need,
            free,
            dir,
        });
    }
    Ok(())
}

/// The text of a file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(path))
}

/// The text of a file; empty if there is none.
pub fn read_if_any(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(Error::io(path)),
    }
}

/// Writes a file; whoever is interrupted leaves the former one.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    fs::write(&new, text).map_err(Error::io(&new))?;
    fs::rename(&new, path).map_err(Error::io(path))
}

/// Writes a file of these lines.
pub fn write_lines<L: Display>(path: &Path, lines: impl IntoIterator<Item = L>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        // A string takes whatever is written.
        let _ = writeln!(text, "{line}");
    }
    write(path, &text)
}

/// The lines of a file; none if there is no file.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    Ok(read_if_any(path)?.lines().map(str::to_owned).collect())
}

/// Makes a directory and those above it.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(path))
}

/// Removes a directory with all that is in it, if it is there.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(Error::io(path)),
    }
}

/// What `path` is, not followed if it is a link; `None` if it is not there.
pub fn look(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// Whether a file may be executed by its owner.
pub fn is_program(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}

/// Puts a copy of a file or link in place of `to`. Other names of what was there keep it.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(from).map_err(Error::io(from))?;
    if let Some(dir) = to.parent() {
        create_dir(dir)?;
    }
    if look(to)?.is_some() {
        fs::remove_file(to).map_err(Error::io(to))?;
    }
    if metadata.is_symlink() {
        let target = fs::read_link(from).map_err(Error::io(from))?;
        symlink(target, to).map_err(Error::io(to))
    } else {
        fs::copy(from, to).map(drop).map_err(Error::io(to))
    }
}

/// Whether two files, or links, are the same to git: bytes, and whether they may be executed.
pub fn is_same(one: &Path, other: &Path) -> Result<bool> {
    let (Some(a), Some(b)) = (look(one)?, look(other)?) else {
        return Ok(false);
    };
    if a.file_type() != b.file_type() {
        return Ok(false);
    }
    if a.is_symlink() {
        let target = |path: &Path| fs::read_link(path).map_err(Error::io(path));
        return Ok(target(one)? == target(other)?);
    }
    let bytes = |path: &Path| fs::read(path).map_err(Error::io(path));
    Ok(is_program(&a) == is_program(&b) && a.len() == b.len() && bytes(one)? == bytes(other)?)
}

/// The files and links below `dir`, as paths in it, sorted; without what belongs to git.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
            let entry = entry.map_err(Error::io(&folder))?;
            let kind = entry.file_type().map_err(Error::io(&folder))?;
            if kind.is_dir() {
                if entry.file_name() != ".git" {
                    left.push(entry.path());
                }
            } else if let Ok(path) = entry.path().strip_prefix(dir) {
                found.push(path.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes `to` a tree of hard links to what is in `from`.
pub fn link_tree(from: &Path, to: &Path) -> Result<()> {
    copy_tree("-al", from, to)
}

/// Makes `to` a copy of what is in `from`, with its times.
pub fn clone_tree(from: &Path, to: &Path) -> Result<()> {
    copy_tree("-a", from, to)
}

fn copy_tree(how: &str, from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp")
        .arg(how)
        .args([from, to])
        .output()
        .map_err(|error| Error::Start {
            program: "cp".into(),
            error,
        })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(Error::Wrong(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named() {
        let dir = tempfile::tempdir().unwrap();
        need_space(dir.path(), 0, "nothing").unwrap();
        let error = need_space(dir.path(), u64::MAX, "everything").unwrap_err();
        assert!(
            error.to_string().starts_with("everything needs "),
            "{error}"
        );
    }

    #[test]
    fn what_is_replaced_keeps_its_other_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("old"), "old").unwrap();
        fs::hard_link(at("old"), at("tree")).unwrap();
        fs::write(at("new"), "new").unwrap();
        replace(&at("new"), &at("tree")).unwrap();
        assert_eq!(read(&at("old")).unwrap(), "old");
        assert_eq!(read(&at("tree")).unwrap(), "new");
    }

    #[test]
    fn files_differ_by_bytes_and_by_whether_they_are_programs() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("a", "one"),
            ("same", "one"),
            ("bytes", "two"),
            ("mode", "one"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("one", at("link")).unwrap();
        assert!(is_same(&at("a"), &at("same")).unwrap());
        for other in ["bytes", "mode", "link", "gone"] {
            assert!(!is_same(&at("a"), &at(other)).unwrap(), "{other}");
        }
    }
}
