// SPDX-License-Identifier: GPL-2.0

//! What it costs to allocate a tag that the steering-tag table of mlx5 holds already.
//!
//! For each size of a table, this fills it and prints a line
//!
//! ```text
//! tph-bench st-alloc entries=63 ns=100
//! ```
//!
//! with the time of one allocation. In a guest of `qemu-system-x86_64 -icount shift=0`, a
//! nanosecond is an instruction.

use kernel::{
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    }, //
};

// The table of the driver itself, which does not export it.
#[path = "../../drivers/net/ethernet/mellanox/mlx5/core/lib/st_table.rs"]
#[expect(dead_code)]
mod st_table;

use st_table::Table;

module! {
    type: Bench,
    name: "rust_mlx5_st_bench",
    authors: ["rust-tph"],
    description: "Cost of the steering-tag table of mlx5",
    license: "GPL",
}

struct Bench;

/// How many allocations are measured at once.
const ALLOCATIONS: i64 = 1000;

/// Returns the nanoseconds of one allocation of the tag that came last into a table with `entries`.
fn measure(entries: u16) -> Result<i64> {
    let mut table = Table::new(entries + 1)?;
    let mut tag = 0;

    // Numbers from the top, so that their tree has the same height whatever their number.
    for i in 0..entries {
        tag = 0xffff - i;
        table.alloc(tag, |_, _| Ok(()))?;
    }

    let start = Instant::<Monotonic>::now();
    for _ in 0..ALLOCATIONS {
        table.alloc(tag, |_, _| Err(EIO))?;
    }

    Ok(start.elapsed().as_nanos() / ALLOCATIONS)
}

impl kernel::Module for Bench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        for entries in [1, 63, 2047] {
            pr_info!(
                "tph-bench st-alloc entries={} ns={}\n",
                entries,
                measure(entries)?
            );
        }

        Ok(Self)
    }
}
