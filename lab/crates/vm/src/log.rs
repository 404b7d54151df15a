// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds in a kernel log what a healthy kernel never prints: oopses, WARNs, lockdep splats, stalls,
//! and what the sanitizers report.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

/// The message of a log line, without time stamp and caller (`[    1.234567][    T1] `).
#[must_use]
pub fn message(line: &str) -> &str {
    let mut rest = line.trim_end_matches('\r');
    while let Some((stamp, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        let stamp = stamp.trim_start();
        let time = stamp.contains('.') && stamp.chars().all(|c| c.is_ascii_digit() || c == '.');
        let caller = stamp
            .strip_prefix(['T', 'C'])
            .is_some_and(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_digit()));
        if !time && !caller {
            break;
        }
        // One blank parts the stamp from the message; more belong to the message (KTAP indents).
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    rest
}

/// What a message begins with, when the kernel says that something is broken.
const BEGINNINGS: &[&str] = &[
    "BUG: ",
    // SLUB's word for it: `BUG kmalloc-64 (Not tainted): Poison overwritten`.
    "BUG ",
    "[ BUG: ",
    "WARNING: ",
    "Oops",
    "kernel BUG at ",
    "Kernel panic - not syncing",
    "------------[ cut here ]------------",
    "general protection fault",
    "divide error",
    "invalid opcode",
    "stack segment",
    "double fault",
    "INFO: task ",
    "INFO: lockdep ",
    "INFO: trying to register non-static key",
    "INFO: rcu",
    "rcu: INFO: ",
    "UBSAN: ",
    "KASAN: ",
    "KCSAN: ",
    "Call Trace:",
    "Call trace:",
    "DEBUG_LOCKS_WARN_ON",
    "ODEBUG: ",
    // From here on lockdep would find nothing any more.
    "Disabling lock debugging due to kernel taint",
    "turning off the locking correctness validator",
    "refcount_t: ",
    "list_add corruption",
    "list_del corruption",
    "slab error",
    "Bad page ",
    "Unable to handle kernel ",
];

/// What a message contains, wherever a subsystem's own prefix puts it.
const ANYWHERE: &[&str] = &[
    ": BUG: ",
    "rust_kernel: panicked at ",
    "kmemleak: ",
    "DMA-API: ",
    "soft lockup",
    "hard LOCKUP",
    "self-detected stall",
    "detected stalls on CPUs",
];

/// Messages that hold one of the words above and report no fault.
const HARMLESS: &[&str] = &[
    "kmemleak: Kernel memory leak detector initialized",
    "kmemleak: Automatic memory scanning thread",
    "DMA-API: preallocated ",
    "DMA-API: debugging enabled",
    "DMA-API: dma_debug_entry pool grown to ",
];

/// A line of the log that says that the kernel is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Number of the line in the log, from 1.
    pub line: usize,
    /// The line's message.
    pub text: String,
}

/// The first complaint of a kernel log.
///
/// What follows the first one is often only its consequence, so one is enough. The bare `cut here`
/// line is replaced by the line that it announces.
#[must_use]
pub fn first_complaint(log: &str) -> Option<Complaint> {
    let mut lines = log.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let text = message(line).trim();
        if !is_complaint(text) {
            continue;
        }
        let announced = text.starts_with("------------[").then(|| lines.next());
        let (at, text) = match announced.flatten() {
            Some((next, line)) => (next, message(line).trim()),
            None => (at, text),
        };
        return Some(Complaint {
            line: at + 1,
            text: text.to_owned(),
        });
    }
    None
}

fn is_complaint(text: &str) -> bool {
    let found = BEGINNINGS.iter().any(|start| text.starts_with(start))
        || ANYWHERE.iter().any(|part| text.contains(part));
    found && !HARMLESS.iter().any(|part| text.contains(part))
}

/// The last `count` lines of a log that say anything, oldest first.
pub fn tail(log: &str, count: usize) -> Vec<&str> {
    let mut lines: Vec<&str> = log
        .lines()
        .rev()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .take(count)
        .collect();
    lines.reverse();
    lines
}

/// The last lines of a log file, to be shown behind an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail {
    path: PathBuf,
    lines: Vec<String>,
}

impl LogTail {
    const LINES: usize = 5;

    /// Reads the end of `path`; a file that cannot be read has no lines.
    pub fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Self {
            path: path.into(),
            lines: tail(&text, Self::LINES)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }
}

impl Display for LogTail {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return write!(f, "{} is empty", self.path.display());
        }
        write!(f, "the end of {}:", self.path.display())?;
        for line in &self.lines {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_splat_is_found() {
        let splats = [
            "BUG: kernel NULL pointer dereference, address: 0000000000000008",
            "BUG: unable to handle page fault for address: ffffc90000000000",
            "BUG: sleeping function called from invalid context at mm/slab.h:1",
            "BUG: scheduling while atomic: init/1/0x00000002",
            "BUG: using smp_processor_id() in preemptible [00000000] code: init/1",
            "BUG: spinlock bad magic on CPU#0, init/1",
            "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]",
            "BUG: MAX_LOCKDEP_ENTRIES too low!",
            "BUG kmalloc-64 (Not tainted): Poison overwritten",
            "[ BUG: Invalid wait context ]",
            "BUG: KASAN: slab-use-after-free in dma_buf_get_tph+0x10/0x20",
            "BUG: KFENCE: out-of-bounds read in f+0x1/0x2",
            "BUG: KCSAN: data-race in f / g",
            "BUG: Bad page state in process init  pfn:00001",
            "BUG: workqueue lockup - pool cpus=0",
            "Oops: 0002 [#1] SMP NOPTI",
            "Oops: general protection fault, probably for non-canonical address 0x0: 0000 [#1]",
            "kernel BUG at drivers/dma-buf/dma-buf.c:1000!",
            "WARNING: CPU: 0 PID: 1 at kernel/foo.c:10 bar+0x1/0x2",
            "WARNING: drivers/dma-buf/dma-buf.c:12 at f+0x1/0x2, CPU#0: init/1",
            "WARNING: possible circular locking dependency detected",
            "WARNING: possible recursive locking detected",
            "WARNING: possible irq lock inversion dependency detected",
            "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
            "WARNING: inconsistent lock state",
            "WARNING: held lock freed!",
            "WARNING: lock held when returning to user space!",
            "WARNING: init/1 still has locks held!",
            "WARNING: Nested lock was not taken",
            "WARNING: suspicious RCU usage",
            "WARNING: bad unlock balance detected!",
            "INFO: task init:1 blocked for more than 120 seconds.",
            "INFO: trying to register non-static key.",
            "INFO: lockdep is turned off.",
            "turning off the locking correctness validator.",
            "Disabling lock debugging due to kernel taint",
            "ODEBUG: free active (active state 0) object: 0000000000000001 object type: timer_list",
            "ODEBUG: object 0000000000000001 is on stack 0000000000000002, but NOT annotated.",
            "ODEBUG: Out of memory. ODEBUG disabled",
            "INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [init:1]",
            "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
            "UBSAN: array-index-out-of-bounds in drivers/pci/tph.c:1:2",
            "Kernel panic - not syncing: Attempted to kill init!",
            "rust_kernel: panicked at rust/kernel/dma_buf.rs:1:2:",
            "kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
            "kmemleak: Kernel memory leak detector disabled",
            "kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE",
            "DMA-API: pci 0000:00:10.0: device driver has pending DMA allocations",
            "DMA-API: rust_tph_initiator 0000:00:10.0: device driver tries to free DMA memory it has not allocated",
            "DMA-API: debugging out of memory - disabling",
            "DMA-API: cacheline tracking ENOMEM, dma-debug disabled",
            "refcount_t: underflow; use-after-free.",
            "list_del corruption. prev->next should be 0",
            "Call Trace:",
        ];
        for splat in splats {
            for log in [
                format!("[    1.0] fine\n[    1.234567] {splat}\n"),
                format!("[    1.234567][    T1] {splat}\r\n"),
                format!("{splat}\n"),
            ] {
                let found = first_complaint(&log).unwrap_or_else(|| panic!("missed: {log}"));
                assert_eq!(found.text, splat);
            }
        }
    }

    #[test]
    fn harmless_lines_stay_harmless() {
        let log = "\
[    0.000000] ACPI BIOS Warning (bug): Optional FADT field has a zero address
[    0.000000] [Firmware Bug]: TSC doesn't count with P0 frequency!
[    0.100000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
[    0.200000] warning: process `x' used the deprecated sysctl
[    0.300000] vfio-pci 0000:00:11.0: Adding kernel taint for vfio-noiommu group on device
[    0.400000] vfio-pci 0000:00:11.0: vfio-noiommu device opened by user (p2p-demo:90)
[    0.500000] debug: unmapping init memory
[    0.600000] rcu: Hierarchical RCU implementation.
[    0.700000] DMA-API: preallocated 65536 debug entries
[    0.700001] DMA-API: debugging enabled by kernel config
[    0.700002] DMA-API: dma_debug_entry pool grown to 131072 (200%)
[    0.800000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15721)
[    0.900000] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
[    1.000000] INFO: no complaint
";
        assert_eq!(first_complaint(log), None);
    }

    #[test]
    fn a_cut_here_names_the_line_behind_it() {
        let log = "[    1.0] a\n[    1.1] ------------[ cut here ]------------\n\
                   [    1.2] WARNING: mm/x.c:1 at f+0x1/0x2, CPU#0: init/1\n";
        assert_eq!(
            first_complaint(log),
            Some(Complaint {
                line: 3,
                text: "WARNING: mm/x.c:1 at f+0x1/0x2, CPU#0: init/1".into()
            })
        );
        let cut = "[    1.1] ------------[ cut here ]------------\n";
        assert_eq!(
            first_complaint(cut).map(|complaint| complaint.line),
            Some(1)
        );
    }

    #[test]
    fn the_stamp_goes_and_the_indent_stays() {
        assert_eq!(message("[    1.000001]     ok 1 test"), "    ok 1 test");
        assert_eq!(message("[    1.000001][   T12]     ok 1"), "    ok 1");
        assert_eq!(message("[Firmware Bug]: x"), "[Firmware Bug]: x");
        assert_eq!(message("[    0.1] [Firmware Bug]: x"), "[Firmware Bug]: x");
        assert_eq!(message("no stamp"), "no stamp");
    }

    #[test]
    fn the_tail_is_in_order_and_skips_blank_lines() {
        assert_eq!(tail("a\n\nb\nc\n\n", 2), ["b", "c"]);
        assert_eq!(tail("", 3), Vec::<&str>::new());
    }
}
