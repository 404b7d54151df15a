// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of this crate.

macro_rules! sources {
    ($($path:literal)*) => {
        /// What decides how a check is made: if any of it changes, what passed does not count any
        /// more.
        pub const SOURCES: &[&str] = &[$(include_str!($path)),*];

        #[cfg(test)]
        const PATHS: &[&str] = &[$($path),*];
    };
}

sources! {
    "base.rs"
    "check/build.rs"
    "check/checkpatch.rs"
    "check/kernel_doc.rs"
    "check/news.rs"
    "check/options.rs"
    "check/results.rs"
    "check/rustfmt.rs"
    "check/same.rs"
    "check/tool.rs"
    "check/tree.rs"
    "check.rs"
    "claims.rs"
    "commits.rs"
    "disk.rs"
    "error.rs"
    "git.rs"
    "letter.rs"
    "lib.rs"
    "patch.rs"
    "progress.rs"
    "sources.rs"
    "write.rs"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_source_is_listed() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let files = crate::disk::files(&dir).unwrap();
        assert_eq!(files, PATHS.iter().map(Path::new).collect::<Vec<_>>());
    }
}
