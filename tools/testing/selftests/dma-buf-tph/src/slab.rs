// SPDX-License-Identifier: GPL-2.0
//! How many objects the kernel has allocated.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Error};
use std::path::Path;

/// The number of active objects of each cache, from `/proc/slabinfo`.
pub fn objects() -> io::Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string("/proc/slabinfo")?;
    // A line with the version, one with the names of the columns.
    text.lines().skip(2).map(cache).collect()
}

/// Lets go of what a cache has only kept back: KASAN delays what it frees.
pub fn shrink(cache: &str) -> io::Result<()> {
    fs::write(
        Path::new("/sys/kernel/slab").join(cache).join("shrink"),
        "1",
    )
}

/// `NAME ACTIVE_OBJS NUM_OBJS ...`
fn cache(line: &str) -> io::Result<(String, u64)> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    let active = words.next().and_then(|active| active.parse().ok());
    let active = active.ok_or_else(|| Error::other(format!("/proc/slabinfo: {line}")))?;
    Ok((name, active))
}
