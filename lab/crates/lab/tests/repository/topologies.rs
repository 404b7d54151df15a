// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page for authors of devices lists the topologies as they are.

use super::root;
use std::fs;
use vm::topology::{Topology, preset};

const PAGE: &str = "lab/doc/device-author.md";
const HEAD: &str = "| name | what | its accelerator |\n|-|-|-|\n";

fn row(topology: &Topology) -> String {
    let accelerator = topology.accelerator().unwrap();
    let path = topology.path(accelerator);
    format!("| `{}` | {} | `{path}` |\n", topology.name, topology.about)
}

#[test]
fn the_page_lists_the_topologies() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let (_, behind) = page.split_once(HEAD).expect("a table of topologies");
    let (table, _) = behind.split_once("\n\n").unwrap();
    let expected: String = preset::ALL.iter().map(|preset| row(preset)).collect();
    assert_eq!(
        table,
        expected.trim_end(),
        "it should be:\n{HEAD}{expected}"
    );
}
