// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether two trees are the same to git.

use super::{tool, wrong};
use crate::{Error, Result, disk, git};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many differences are shown; the log has all of them.
const SHOWN: usize = 5;

/// Fails if `is` differs from `wanted` in a byte or in what may be executed. `log` has how.
pub fn trees(wanted: &Path, is: &Path, log: &Path) -> Result<()> {
    let (should, may) = (programs(wanted)?, programs(is)?);
    let mut differences: Vec<String> = should
        .difference(&may)
        .map(|path| format!("{} should be a program", path.display()))
        .chain(
            may.difference(&should)
                .map(|path| format!("{} should be no program", path.display())),
        )
        .collect();
    let mut diff = Command::new("diff");
    diff.args(["-r", "--no-dereference", "--exclude=.git"])
        .args([wanted, is]);
    let output = diff.output().map_err(git::start(&diff))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // 1 is that they differ.
    tool::code("diff", &output, &[0, 1])?;
    let heads = ["diff ", "Only in ", "Binary files ", "File "];
    let is_head = |line: &&str| heads.iter().any(|head| line.starts_with(head));
    differences.extend(text.lines().filter(is_head).map(str::to_owned));
    fs::write(log, [&differences.join("\n"), &*text].join("\n")).map_err(Error::io(log))?;
    differences.truncate(SHOWN);
    wrong(&differences)
}

/// The files that may be executed.
fn programs(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for file in disk::files(dir)? {
        let path = dir.join(&file);
        let metadata = disk::look(&path)?;
        if metadata.is_some_and(|metadata| metadata.is_file() && disk::is_program(&metadata)) {
            found.insert(file);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn compare(change: impl Fn(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for tree in [&a, &b] {
            fs::create_dir_all(tree.join("sub")).unwrap();
            fs::write(tree.join("sub/file"), "text\n").unwrap();
        }
        change(&b);
        let result = trees(&a, &b, &dir.path().join("log"));
        let text = result.err().map(|error| error.to_string());
        text.unwrap_or_default()
            .replace(&*dir.path().to_string_lossy(), "")
    }

    #[test]
    fn the_same_is_the_same() {
        assert_eq!(compare(|_| {}), "");
        // What belongs to git is in no tree.
        assert_eq!(
            compare(|tree| fs::create_dir(tree.join(".git")).unwrap()),
            ""
        );
    }

    #[test]
    fn every_difference_is_found() {
        let text = compare(|tree| fs::write(tree.join("sub/file"), "other\n").unwrap());
        assert!(text.starts_with("diff -r "), "{text}");
        let text = compare(|tree| fs::write(tree.join("sub/new"), "").unwrap());
        assert!(text.starts_with("Only in /b/sub: new"), "{text}");
        let text = compare(|tree| fs::remove_file(tree.join("sub/file")).unwrap());
        assert!(text.starts_with("Only in /a/sub: file"), "{text}");
        let text = compare(|tree| {
            fs::remove_file(tree.join("sub/file")).unwrap();
            symlink("gone", tree.join("sub/file")).unwrap();
        });
        assert!(text.ends_with("/b/sub/file is a symbolic link"), "{text}");
        let text = compare(|tree| {
            let program = fs::Permissions::from_mode(0o755);
            fs::set_permissions(tree.join("sub/file"), program).unwrap();
        });
        assert_eq!(text, "sub/file should be no program");
    }
}
