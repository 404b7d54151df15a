// SPDX-License-Identifier: MIT OR Apache-2.0
//! The topologies that come with the lab.

use super::Topology;
use std::sync::LazyLock;

/// A topology of which the text is part of the program.
pub type Preset = LazyLock<Topology>;

macro_rules! presets {
    ($($preset:ident $file:literal)*) => {
        $(
            #[doc = concat!("The topology of `presets/", $file, "`, which says what it is.")]
            pub static $preset: Preset = LazyLock::new(|| {
                read($file, include_str!(concat!("presets/", $file)))
            });
        )*

        /// All of them.
        pub static ALL: &[&Preset] = &[$(&$preset),*];

        #[cfg(test)]
        const FILES: &[&str] = &[$($file),*];
    };
}

presets! {
    T1 "t1.toml"
    T1_COMPLETERS "t1-completers.toml"
    T1_REQUESTERS "t1-requesters.toml"
    T1_UNTRUSTED "t1-untrusted.toml"
    T1_RDMA "t1-rdma.toml"
    T1_ADAPTERS "t1-adapters.toml"
    T2 "t2.toml"
    T2_REQUESTERS "t2-requesters.toml"
    T3 "t3.toml"
    T3_RDMA "t3-rdma.toml"
    T3_ADAPTERS "t3-adapters.toml"
    T3_REQUESTERS "t3-requesters.toml"
    T4 "t4.toml"
}

/// A test reads each, so this does not fail where it matters.
fn read(file: &str, text: &str) -> Topology {
    match Topology::from_toml(text) {
        Ok(topology) => topology,
        Err(error) => unreachable!("{file}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs;
    use std::path::Path;

    #[test]
    fn files_have_the_names_of_their_topologies() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/topology/presets");
        let files = fs::read_dir(&dir).unwrap();
        let names: BTreeSet<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        let expected = ALL
            .iter()
            .map(|preset| format!("{}.toml", preset.name).into());
        assert_eq!(names, expected.collect::<BTreeSet<OsString>>());
        for (preset, file) in ALL.iter().zip(FILES) {
            assert_eq!(*file, format!("{}.toml", preset.name));
        }
    }
}
