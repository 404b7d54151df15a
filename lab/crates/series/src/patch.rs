// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of `patches/`: a commit message, which files of the slice it brings along, and hunks.

use crate::{Error, Result, disk};
use std::path::{Path, PathBuf};

/// A patch of the series.
#[derive(Debug)]
pub struct Patch {
    /// Where it lies.
    pub path: PathBuf,
    /// Its file name.
    pub name: String,
    /// The commit message: subject, an empty line, text.
    pub message: String,
    /// Its claims, as its lines `Adds:` have them: a file, or a folder if it ends with a slash.
    pub claims: Vec<String>,
    /// The files that its hunks name.
    pub touches: Vec<String>,
    /// The symbols of Kconfig that its hunks add.
    pub symbols: Vec<String>,
}

impl Patch {
    /// Reads a patch.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self::parse(path, &name, &disk::read(path)?)
    }

    fn parse(path: &Path, name: &str, text: &str) -> Result<Self> {
        let subject = text
            .strip_prefix("Subject: ")
            .ok_or_else(|| Error::NoSubject(name.to_owned()))?;
        let message = subject
            .lines()
            .take_while(|&line| line != "---")
            .filter(|line| !line.starts_with("Adds: "))
            .flat_map(|line| [line, "\n"])
            .collect();
        let header = text.lines().take_while(|line| !line.is_empty());
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            message,
            claims: header
                .filter_map(|line| line.strip_prefix("Adds: "))
                .map(str::to_owned)
                .collect(),
            touches: touches(text),
            symbols: text
                .lines()
                .filter_map(|line| line.strip_prefix("+config "))
                .map(|name| format!("CONFIG_{name}"))
                .collect(),
        })
    }
}

/// The files that a patch's hunks name.
pub fn touches(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("--- ").or(line.strip_prefix("+++ ")))
        .filter_map(|file| file.strip_prefix("a/").or(file.strip_prefix("b/")))
        .filter_map(|file| file.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// The files `*.patch` of `dir`, in their order.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The patches of the repository.
pub fn read_all(dir: &Path) -> Result<Vec<Patch>> {
    let patches: Vec<_> = list(dir)?
        .iter()
        .map(|path| Patch::read(path))
        .collect::<Result<_>>()?;
    if patches.is_empty() {
        return Err(Error::NoPatches(dir.to_owned()));
    }
    Ok(patches)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Subject: PCI: Do it\nAdds: drivers/new/\nAdds: tools/x.c\n\nWhy.\n\nMore.\n---\n\
        --- a/drivers/Kconfig\n+++ b/drivers/Kconfig\n@@ -1 +1,2 @@\n config OLD\n+config NEW\n";

    fn parse(text: &str) -> Result<Patch> {
        Patch::parse(Path::new("patches/0001-x.patch"), "0001-x.patch", text)
    }

    #[test]
    fn a_header_has_message_and_claims() {
        let patch = parse(TEXT).unwrap();
        assert_eq!(patch.message, "PCI: Do it\n\nWhy.\n\nMore.\n");
        assert_eq!(patch.claims, ["drivers/new/", "tools/x.c"]);
        assert_eq!(patch.touches, ["drivers/Kconfig", "drivers/Kconfig"]);
        assert_eq!(patch.symbols, ["CONFIG_NEW"]);
    }

    #[test]
    fn a_patch_without_a_subject_is_named() {
        for text in ["", "\nSubject: x\n---\n", "PCI: Do it\n---\n"] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(
                error,
                "patches/0001-x.patch does not begin with its 'Subject: '; add it"
            );
        }
    }

    #[test]
    fn a_directory_without_patches_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cover-letter"), "x").unwrap();
        assert!(matches!(read_all(dir.path()), Err(Error::NoPatches(_))));
    }
}
