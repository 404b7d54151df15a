// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether rustfmt would leave files as they are.

use super::{tool, wrong};
use crate::Result;
use crate::git::{self, Repository};
use std::path::Path;
use std::process::Command;

/// Fails if rustfmt with the configuration file `config` would change one of these files of a
/// commit. It reads them from standard input, so that what a file's modules are does not matter;
/// there `--check` would succeed whatever it finds.
pub fn is_happy(
    repository: &Repository,
    commit: &str,
    files: &[String],
    config: &Path,
) -> Result<()> {
    let mut bad = Vec::new();
    for file in files {
        let text = repository.bytes(["show", &format!("{commit}:{file}")])?;
        let mut rustfmt = Command::new("rustfmt");
        rustfmt
            .args(["--edition", "2021", "--config-path"])
            .arg(config);
        let output = git::feed(&mut rustfmt, &text)?;
        if tool::code("rustfmt", &output, &[0, 1])? == 1 {
            let why = String::from_utf8_lossy(&output.stderr);
            bad.push(format!("rustfmt cannot read {file}: {}", why.trim()));
        } else if output.stdout != text {
            bad.push(format!("rustfmt would change {file}"));
        }
    }
    wrong(&bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Identity;
    use crate::{Error, disk};

    /// What is said of the file `a.rs` with this text, or of one that no commit has.
    fn judge(text: Option<&str>) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            name: "Ada".into(),
            email: "ada@example.org".into(),
            date: 0,
        };
        let repository = Repository::init(dir.path(), identity).unwrap();
        let config = dir.path().join(".rustfmt.toml");
        disk::write(&config, "newline_style = \"Unix\"\n").unwrap();
        if let Some(text) = text {
            disk::write(&dir.path().join("a.rs"), text).unwrap();
        }
        repository.run(["add", "--all"]).unwrap();
        repository.run(["commit", "--quiet", "-m", "a"]).unwrap();
        is_happy(&repository, "HEAD", &["a.rs".to_owned()], &config)
    }

    #[test]
    fn what_is_formatted_passes_and_nothing_else() {
        judge(Some("fn a() {}\n")).unwrap();
        for (text, why) in [
            ("fn a() { }\n", "rustfmt would change a.rs"),
            ("fn a() {}", "rustfmt would change a.rs"),
            ("fn a( {}\n", "rustfmt cannot read a.rs: error: "),
        ] {
            let error = judge(Some(text)).unwrap_err();
            assert!(
                matches!(&error, Error::Wrong(said) if said.starts_with(why)),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_git_cannot_show_is_an_error() {
        let error = judge(None).unwrap_err();
        assert!(matches!(&error, Error::Git { .. }), "{error}");
    }
}
