// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pristine kernel that the series is made against.

use crate::{Result, disk};
use std::path::Path;

/// What the kernel in `dir` calls itself: `v7.3-rc7`.
pub fn version(dir: &Path) -> Result<String> {
    let makefile = disk::read(&dir.join("Makefile"))?;
    let value = |name: &str| {
        makefile
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
            .map(str::trim)
            .next()
            .unwrap_or_default()
    };
    let sublevel = match value("SUBLEVEL") {
        "" | "0" => String::new(),
        number => format!(".{number}"),
    };
    Ok(format!(
        "v{}.{}{sublevel}{}",
        value("VERSION"),
        value("PATCHLEVEL"),
        value("EXTRAVERSION")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_as_linux_tags_it() {
        for (sublevel, extra, expected) in [
            ("0", "-rc7", "v7.3-rc7"),
            ("0", "", "v7.3"),
            ("4", "", "v7.3.4"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let makefile = format!(
                "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = {sublevel}\nEXTRAVERSION ={extra}\nNAME = x\n"
            );
            std::fs::write(dir.path().join("Makefile"), makefile).unwrap();
            assert_eq!(version(dir.path()).unwrap(), expected);
        }
    }
}
