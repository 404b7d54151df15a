// SPDX-License-Identifier: MIT OR Apache-2.0
//! What /proc says about the processes of a run: the guest's memory backend, and how much memory
//! QEMU and the device process take, and how much there is.

use rustix::process::Pid;
use std::fs;

/// What QEMU's memory file is called in the address space of whoever maps it.
const GUEST_RAM: &str = "/memfd:memory-backend-memfd";

/// The QEMU among `processes` that runs a guest, if there is one yet.
#[must_use]
pub fn find_qemu(processes: &[Pid]) -> Option<Qemu> {
    processes.iter().find_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments = String::from_utf8_lossy(&arguments);
        let arguments = arguments.split('\0');
        // virtme-ng also starts one that only tells its version.
        let runs = arguments.clone().any(|argument| argument == "-kernel");
        (name.starts_with("qemu-system") && runs).then(|| Qemu {
            pid: *pid,
            memory_is_shared: backends_are_shared(arguments),
        })
    })
}

/// A QEMU that runs a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qemu {
    /// Its process.
    pub pid: Pid,
    /// Whether all guest memory is a memfd that others may map shared. With a private mapping the
    /// devices would get the same file descriptors, and DMA would silently go to a copy.
    pub memory_is_shared: bool,
}

fn backends_are_shared<'a>(arguments: impl Iterator<Item = &'a str>) -> bool {
    let mut backends = arguments
        .filter(|argument| argument.starts_with("memory-backend-"))
        .peekable();
    backends.peek().is_some()
        && backends.all(|backend| {
            let mut options = backend.split(',');
            options.next() == Some("memory-backend-memfd")
                && options.any(|option| option == "share=on")
        })
}

/// Resident bytes of process `pid` that are not the guest's memory; `None` if it is gone.
#[must_use]
pub fn beyond_guest(pid: Pid) -> Option<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    Some(resident_beyond_guest(&smaps))
}

fn resident_beyond_guest(smaps: &str) -> u64 {
    let mut of_guest = false;
    let mut kib = 0;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("Rss:"), Some(value)) if !of_guest => {
                kib += value.parse::<u64>().unwrap_or_default();
            }
            // A mapping's first line: its address range; the name is the sixth field.
            (Some(range), Some(_)) if range.contains('-') && !range.ends_with(':') => {
                of_guest = fields
                    .nth(3)
                    .is_some_and(|name| name.starts_with(GUEST_RAM));
            }
            _ => {}
        }
    }
    kib * 1024
}

/// The most bytes that process `pid` ever had resident; `None` if it is gone.
#[must_use]
pub fn peak(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(kib * 1024)
}

/// How much memory new processes can take, in MiB; `None` if the kernel does not say.
#[must_use]
pub fn available_mib() -> Option<u64> {
    available_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shared_memfd_will_do() {
        let check = |arguments: &[&str]| backends_are_shared(arguments.iter().copied());
        assert!(check(&[
            "-object",
            "memory-backend-memfd,id=mem,size=1G,share=on",
            "-numa"
        ]));
        assert!(!check(&["-m", "1G"]));
        assert!(!check(&["memory-backend-memfd,id=mem,size=1G,share=off"]));
        assert!(!check(&["memory-backend-memfd,id=mem,size=1G"]));
        assert!(!check(&["memory-backend-ram,id=mem,size=1G,share=on"]));
        assert!(!check(&[
            "memory-backend-memfd,id=a,size=1G,share=on",
            "memory-backend-memfd,id=b,size=1G,share=off"
        ]));
    }

    #[test]
    fn guest_memory_is_not_counted() {
        let smaps = "\
55d0c0000000-55d0c0010000 r-xp 00000000 08:01 1234   /usr/bin/lab
Size:                 64 kB
Rss:                  40 kB
Pss:                  40 kB
7f0000000000-7f0040000000 rw-s 00000000 00:01 99     /memfd:memory-backend-memfd (deleted)
Size:            1048576 kB
Rss:              524288 kB
7f0050000000-7f0050100000 rw-s 00000000 00:01 98     /memfd:bar2 (deleted)
Rss:                 100 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0
Rss:                   8 kB
";
        assert_eq!(resident_beyond_guest(smaps), 148 * 1024);
    }

    #[test]
    fn available_memory_is_what_the_kernel_says() {
        let meminfo = "MemTotal:  24000000 kB\nMemFree: 1000 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(available_in(meminfo), Some(2048));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
        assert!(available_mib().unwrap() > 0);
    }

    #[test]
    fn this_process_has_memory() {
        let pid = rustix::process::getpid();
        assert!(beyond_guest(pid).unwrap() > 0);
        assert!(peak(pid).unwrap() >= 4096);
    }
}
