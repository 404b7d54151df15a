// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds for the files of the repository.

mod licences;
mod pages;
mod topologies;

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("../../..").canonicalize().unwrap()
}

/// The path in the repository of every file in `root` that no .gitignore excludes.
///
/// An empty git repository elsewhere is asked, so that a checkout may be a worktree or an archive.
fn files(root: &Path) -> Vec<String> {
    let empty = TempDir::new().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .env("GIT_DIR", empty.path())
            .env("GIT_WORK_TREE", root)
            .env_remove("GIT_INDEX_FILE")
            .current_dir(root)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "--quiet"]);
    let listed = git(&["ls-files", "-z", "--others", "--exclude-standard"]);
    let files: Vec<_> = listed.split_terminator('\0').map(Into::into).collect();
    assert!(files.iter().any(|file| file == "README.md"), "{files:?}");
    files
}
