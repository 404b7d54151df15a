// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the steering-tag table of mlx5 costs, in instructions of a guest whose clock counts them.

use connectx_driver::measure::Measurement;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;
use vm::signals::Interrupt;
use vm::{Accel, DevicesEnd, Kernel, Setup, Task, Vm, log};

/// The module that measures when it is loaded, and the option that makes it.
const OPTION: &str = "SAMPLE_RUST_MLX5_ST_BENCH";
const MODULE: &str = "rust_mlx5_st_bench";
/// What it says, before `entries=N ns=N`.
const MARK: &str = "tph-bench st-alloc ";

const LIMIT: Duration = Duration::from_secs(5 * 60);

pub fn measure(
    setup: &Setup,
    kernel: &Kernel,
    out: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Measurement>, Box<dyn Error>> {
    if !kernel.has_module(OPTION) {
        eprintln!("lab: nothing is measured in a guest, this kernel has no {OPTION}");
        return Ok(vec![]);
    }
    let vm = Vm {
        kernel,
        // KVM counts no instructions.
        accel: Accel::Tcg,
        cpus: 1,
        icount: true,
        devices: None,
        devices_end: DevicesEnd::default(),
        append: &[],
        task: Task::Script(format!("modprobe {MODULE}")),
        limit: LIMIT,
        out,
    };
    let run = vm::run(setup, &vm, interrupt, &mut |_| {})?;
    let log = String::from_utf8_lossy(&fs::read(&run.serial)?).into_owned();
    let costs = parse(&log);
    if run.status != 0 || costs.is_empty() {
        let log = run.serial.display();
        return Err(format!("the guest did not measure; its log is {log}").into());
    }
    Ok(rows(&costs))
}

/// The size of each table and what an allocation took there.
fn parse(log: &str) -> Vec<(u32, u32)> {
    let costs = log.lines().filter_map(|line| {
        let (_, line) = log::message(line).split_once(MARK)?;
        let (entries, time) = line.trim().split_once(' ')?;
        let entries = entries.strip_prefix("entries=")?.parse().ok()?;
        Some((entries, time.strip_prefix("ns=")?.parse().ok()?))
    });
    costs.collect()
}

fn rows(costs: &[(u32, u32)]) -> Vec<Measurement> {
    let group = "Allocating a steering tag that is in the table, in a guest (-icount shift=0)";
    let mut rows: Vec<_> = costs
        .iter()
        .map(|&(entries, cost)| {
            let name = format!("entries: {entries}");
            Measurement::new(group, name, cost.into(), "instructions")
        })
        .collect();
    if let [(_, first), .., (_, last)] = costs {
        let ratio = f64::from(*last) / f64::from(*first).max(1.0);
        let flat = Measurement::new(group, "the largest table", ratio, "times");
        rows.push(flat.compared_with("the smallest"));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[    1.000000] rust_mlx5_st_bench: tph-bench st-alloc entries=1 ns=100
[    1.100000] rust_mlx5_st_bench: tph-bench st-alloc entries=63 ns=110
[    1.150000] rust_mlx5_st_bench: tph-bench st-alloc entries=x ns=1
[    1.200000] something else
[    1.300000] rust_mlx5_st_bench: tph-bench st-alloc entries=2047 ns=125
";

    #[test]
    fn the_module_is_understood() {
        let costs = parse(LOG);
        assert_eq!(costs, [(1, 100), (63, 110), (2047, 125)]);
        let json = serde_json::to_value(rows(&costs)).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 4);
        assert_eq!(json[3]["value"], 1.25);
    }

    #[test]
    fn a_log_without_numbers_has_none() {
        assert!(parse("[    1.0] tph-bench st-alloc entries=1").is_empty());
        assert!(rows(&[]).is_empty());
    }
}
