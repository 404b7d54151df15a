// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a kernel that checks itself, when its tests are over, what it found and whether it still
//! checks: a checker that gave up finds nothing.

use crate::Kernel;
use crate::program::Step;
use std::fs;
use std::io;
use std::path::Path;

/// The name under which its results are reported.
const NAME: &str = "checkers";

/// What the script can ask, and the option with which a kernel has it.
const CHECKERS: [(&str, &str); 3] = [
    ("lockdep", "PROVE_LOCKING"),
    ("dma_api", "DMA_API_DEBUG"),
    ("kmemleak", "DEBUG_KMEMLEAK"),
];

/// kmemleak passes over objects younger than 5 seconds (`MSECS_MIN_AGE` in mm/kmemleak.c).
const AGE: u32 = 6;

const SCRIPT: &str = include_str!("checkers.sh");

/// Those that a kernel has, in the script's words.
fn present(kernel: &Kernel) -> impl Iterator<Item = &'static str> {
    let present = CHECKERS.iter().filter(|(_, option)| kernel.has(option));
    present.map(|&(checker, _)| checker)
}

/// Whether a kernel checks itself.
#[must_use]
pub fn has_any(kernel: &Kernel) -> bool {
    present(kernel).next().is_some()
}

/// Leaves the script in `dir` and returns what runs it in a guest of `kernel`; `None` for a kernel
/// without checkers.
pub fn step(kernel: &Kernel, dir: &Path) -> io::Result<Option<Step>> {
    let present: Vec<_> = present(kernel).collect();
    if present.is_empty() {
        return Ok(None);
    }
    fs::create_dir_all(dir)?;
    let path = dir.join("checkers.sh");
    fs::write(&path, SCRIPT)?;
    let path = fs::canonicalize(path)?.display().to_string();
    let mut step = Step::new(NAME, ["sh", &path, "", &AGE.to_string()]);
    step.command.extend(present.into_iter().map(str::to_owned));
    Ok(Some(step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    /// A directory with a `/proc` and a `/sys` in which all is well.
    fn healthy() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let debug = root.path().join("sys/kernel/debug");
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(debug.join("dma-api")).unwrap();
        let stats = " max bfs queue depth:                     0\n debug_locks:                             1\n";
        fs::write(root.path().join("proc/lockdep_stats"), stats).unwrap();
        fs::write(debug.join("dma-api/error_count"), "0\n").unwrap();
        fs::write(debug.join("dma-api/disabled"), "N\n").unwrap();
        // What is written there is gone.
        symlink("/dev/null", debug.join("kmemleak")).unwrap();
        root
    }

    /// What the script prints, and whether it succeeds.
    fn ask(root: &Path) -> (String, bool) {
        ask_for(root, &CHECKERS.map(|(checker, _)| checker))
    }

    fn ask_for(root: &Path, checkers: &[&str]) -> (String, bool) {
        let output = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(root)
            .arg("0")
            .args(checkers)
            .env(
                "PATH",
                format!("{}/bin:{}", root.display(), std::env::var("PATH").unwrap()),
            )
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.success())
    }

    #[test]
    fn a_healthy_kernel_passes() {
        let (text, success) = ask(healthy().path());
        assert!(success);
        assert!(text.starts_with("1..3\nok 1 - lockdep"), "{text}");
        assert_eq!(text.matches("\nok ").count(), 3, "{text}");
    }

    #[test]
    fn whatever_is_wrong_fails_alone() {
        for (file, bad, number) in [
            ("proc/lockdep_stats", " debug_locks:             0\n", 1),
            ("sys/kernel/debug/dma-api/error_count", "1\n", 2),
            ("sys/kernel/debug/dma-api/disabled", "Y\n", 2),
        ] {
            let root = healthy();
            fs::write(root.path().join(file), bad).unwrap();
            let (text, success) = ask(root.path());
            assert!(!success, "{file}");
            assert!(text.contains(&format!("not ok {number} - ")), "{text}");
            assert_eq!(text.matches("\nok ").count(), 2, "{text}");
        }
    }

    #[test]
    fn leaks_are_shown_and_counted() {
        let root = healthy();
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // What the script reads from kmemleak's file.
        let report =
            "#!/bin/sh\nfor i in $(seq 60); do echo unreferenced object $i; echo '  why'; done\n";
        crate::fake::script(&bin, "cat", report);
        let (text, success) = ask_for(root.path(), &["kmemleak"]);
        assert!(!success);
        assert!(text.starts_with("1..1\n# unreferenced object 1\n#   why\n"));
        assert!(text.contains("object 50\n") && !text.contains("object 51\n"));
        let end = "\n# 60 objects leaked\nnot ok 1 - no memory leaked\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_checker_that_is_not_there_fails() {
        let root = tempfile::tempdir().unwrap();
        let (text, success) = ask(root.path());
        assert!(!success);
        assert_eq!(text.matches("not ok ").count(), 3, "{text}");
    }

    #[test]
    fn a_checker_that_nobody_knows_fails() {
        let (text, success) = ask_for(healthy().path(), &["smatch"]);
        assert!(!success);
        assert_eq!(text, "1..1\nnot ok 1 - smatch is no checker\n");
    }

    #[test]
    fn only_what_the_kernel_has_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("arch/x86/boot")).unwrap();
        for file in ["arch/x86/boot/bzImage", "modules.order"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let step_with = |config: &str| {
            fs::write(dir.path().join(".config"), config).unwrap();
            let kernel = Kernel::at(dir.path()).unwrap();
            step(&kernel, &dir.path().join("out")).unwrap()
        };
        assert_eq!(step_with("CONFIG_PCI=y\n"), None);
        assert!(!dir.path().join("out").exists());
        let step = step_with("CONFIG_DEBUG_KMEMLEAK=y\nCONFIG_PROVE_LOCKING=y\n").unwrap();
        let path = fs::canonicalize(dir.path().join("out/checkers.sh")).unwrap();
        let path = path.display().to_string();
        let words = ["sh", &path, "", "6", "lockdep", "kmemleak"];
        assert_eq!(step, Step::new(NAME, words));
    }
}
