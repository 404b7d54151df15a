// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each file says its licence.

use super::{files, root};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

// In parts, so that nobody takes it for what this file says.
const LICENCE: &str = concat!("SPDX-License", "-Identifier: ");

/// Files of the drivers of mlx5, which are under the licences of their neighbours.
const MLX5: [&str; 3] = [
    "drivers/infiniband/",
    "drivers/net/ethernet/mellanox/",
    "include/linux/mlx5/",
];

/// Whether the licence of the file at `path` is said by REUSE.toml, and not by the file.
fn is_said_elsewhere(path: &str) -> bool {
    let extensions = ["config", "lock", "md", "patch"].map(OsStr::new);
    let extension = Path::new(path).extension().unwrap_or_default();
    extensions.contains(&extension) || path.starts_with("patches/")
}

/// What the file at `path` may say of its licence.
fn licences(path: &str) -> &'static [&'static str] {
    if path.starts_with("lab/") {
        &["MIT OR Apache-2.0"]
    } else if MLX5.iter().any(|mlx5| path.starts_with(mlx5)) {
        &["GPL-2.0 OR Linux-OpenIB"]
    } else {
        &["GPL-2.0", "GPL-2.0-only"]
    }
}

/// What is wrong with what the file at `path` says of its licence.
fn wrong_licence(path: &str, text: &str) -> Option<String> {
    // Behind what names a script's interpreter.
    let said = text
        .lines()
        .take(2)
        .find_map(|line| line.split_once(LICENCE));
    let Some((_, said)) = said else {
        return Some(format!("{path}: has no line '{}'", LICENCE.trim_end()));
    };
    let said = said.trim_end_matches("*/").trim_end();
    let licences = licences(path);
    (!licences.contains(&said)).then(|| format!("{path}: says {said}, and not {licences:?}"))
}

#[test]
fn every_file_says_its_licence() {
    let root = root();
    let wrong: Vec<_> = files(&root)
        .iter()
        .filter(|path| !path.starts_with("LICENSES/") && !is_said_elsewhere(path))
        .filter(|path| !root.join(path).is_symlink())
        .filter_map(|path| {
            let text = fs::read(root.join(path)).unwrap();
            wrong_licence(path, &String::from_utf8_lossy(&text))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_licence_that_is_missing_or_anothers_is_wrong() {
    let gpl = format!("// {LICENCE}GPL-2.0\n");
    let mit = format!("{LICENCE}MIT OR Apache-2.0");
    assert_eq!(wrong_licence("rust/a.rs", &gpl), None);
    assert_eq!(
        wrong_licence("scripts/a", &format!("#!/bin/sh\n{gpl}")),
        None
    );
    assert_eq!(
        wrong_licence("lab/a.css", &format!("/* {mit} */\na {{}}\n")),
        None
    );
    let wrong = |path, text: &str| wrong_licence(path, text).unwrap();
    assert!(wrong("lab/a.rs", &gpl).contains("says GPL-2.0,"));
    assert!(wrong("drivers/infiniband/hw/mlx5/a.rs", &gpl).contains("OpenIB"));
    assert!(wrong("lab/a.rs", "//! Text.\n").contains("has no line"));
    assert!(wrong("lab/a.rs", &format!("\n\n// {mit}\n")).contains("has no line"));
}
