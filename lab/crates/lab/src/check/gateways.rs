// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the record of the RDMA adapter's gateways must hold.

use report::style::relative;
use std::fs;
use std::path::Path;
use vm::results::Case;

/// The adapter's record, see `lab/crates/connectx/src/gateway.rs`.
const RECORD: &str = "connectx-gateways.txt";

/// What the guest program `rdma-gateways` writes, in its order: the first and the last line are of the
/// process that made the gateway, the others of one that imported it.
const WRITES: [&str; 4] = [
    "page 0 offset 0x010 width 4: 11111111",
    "page 0 offset 0x028 width 8: 2222222222222222",
    "page 0 offset 0x030 width 4: 33333333",
    "page 0 offset 0x014 width 2: 4444",
];

/// What the record in `dir` says about it.
pub fn case(dir: &Path) -> Case {
    let claim = "the record of the gateways holds what both processes wrote";
    match fs::read_to_string(dir.join(RECORD)) {
        Ok(record) if writes(&record).eq(WRITES) => Case::pass(claim),
        Ok(record) => Case::fail(claim, format!("it holds\n{record}")),
        Err(error) => Case::fail(claim, relative(&format!("{RECORD}: {error}"))),
    }
}

/// The writes of a record, without number and time.
fn writes(record: &str) -> impl Iterator<Item = &str> {
    record
        .lines()
        .map(|line| line.split_once(" s ").map_or(line, |(_, write)| write))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm::results::Verdict;

    #[test]
    fn all_writes_must_be_there_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let passes = |lines: &[&str]| {
            let lines = lines.iter().map(|line| format!("# 1: 0.5 s {line}"));
            let text = lines.collect::<Vec<_>>().join("\n");
            fs::write(dir.path().join(RECORD), text).unwrap();
            matches!(case(dir.path()).verdict, Verdict::Pass)
        };
        assert!(passes(&WRITES));
        assert!(!passes(&WRITES[..3]));
        let [first, second, third, fourth] = WRITES;
        assert!(!passes(&[second, first, third, fourth]));
        assert!(!passes(&[]));
        let nowhere = case(Path::new("/nowhere"));
        assert!(matches!(nowhere.verdict, Verdict::Fail(_)));
    }
}
