// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether KVM can run the guest. That /dev/kvm opens proves nothing: only a boot does.

use crate::command::{Accel, Task};
use crate::device_process::DevicesEnd;
use crate::error::VmError;
use crate::kernel::Kernel;
use crate::run::{self, Vm};
use crate::setup::Setup;
use crate::signals::Interrupt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the probe may take. Under KVM such a boot takes about two seconds.
const LIMIT: Duration = Duration::from_secs(8);

/// Chooses the accelerator: `KVM=0|1` in the environment decides; otherwise a timed boot does, once
/// per kernel and boot of the host. The answer is kept in `cache`.
pub fn choose(
    setup: &Setup,
    kernel: &Kernel,
    cache: &Path,
    interrupt: &Interrupt,
) -> Result<Accel, VmError> {
    match std::env::var("KVM").unwrap_or_default().as_str() {
        "0" => Ok(Accel::Tcg),
        "1" => Ok(Accel::Kvm),
        "" if !opens(Path::new("/dev/kvm")) => Ok(Accel::Tcg),
        "" => ask(setup, kernel, cache, LIMIT, interrupt),
        other => Err(VmError::KvmVariable(other.into())),
    }
}

fn opens(device: &Path) -> bool {
    File::options().read(true).write(true).open(device).is_ok()
}

/// The answer that is kept, or that of a new probe.
fn ask(
    setup: &Setup,
    kernel: &Kernel,
    cache: &Path,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<Accel, VmError> {
    let memory = Memory::new(kernel, cache)
        .map_err(|error| VmError::io("tell this kernel and this boot of the host apart", error))?;
    if let Some(accel) = memory.recall() {
        return Ok(accel);
    }
    eprintln!("lab: probing whether KVM runs this kernel ...");
    let finding = probe(setup, kernel, cache, limit, interrupt)?;
    if let Err(error) = memory.keep(finding) {
        eprintln!(
            "lab: cannot keep the answer in {}, the next run probes again: {error}",
            cache.display()
        );
    }
    let (accel, text) = match finding {
        Finding::Works => (Accel::Kvm, "it does"),
        Finding::Fails | Finding::NeverSpoke => {
            (Accel::Tcg, "it does not; software emulation is used")
        }
    };
    eprintln!("lab: {text} (KVM=0 or KVM=1 decides otherwise)");
    Ok(accel)
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// The kernel booted and ran a command.
    Works,
    /// It did not.
    Fails,
    /// It did not get as far as its first message: that is the host's fault, not the kernel's.
    NeverSpoke,
}

fn probe(
    setup: &Setup,
    kernel: &Kernel,
    cache: &Path,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<Finding, VmError> {
    // The guest has a /tmp of its own, and must find its script.
    let out = fs::create_dir_all(cache)
        .and_then(|()| tempfile::tempdir_in(cache))
        .map_err(|error| VmError::io(format!("make a directory in {}", cache.display()), error))?;
    let vm = Vm {
        kernel,
        accel: Accel::Kvm,
        cpus: 1,
        icount: false,
        devices: None,
        devices_end: DevicesEnd::default(),
        append: &[],
        task: Task::Script("true".into()),
        limit,
        out: out.path(),
    };
    match run::run(setup, &vm, interrupt, &mut |_| {}) {
        Ok(run) if run.status == 0 => Ok(Finding::Works),
        Err(error @ (VmError::Interrupted(_) | VmError::Start { .. } | VmError::Io { .. })) => {
            Err(error)
        }
        Err(VmError::TimedOut { .. }) => {
            let log = fs::metadata(out.path().join("serial.log"));
            if log.is_ok_and(|log| log.len() == 0) {
                Ok(Finding::NeverSpoke)
            } else {
                Ok(Finding::Fails)
            }
        }
        Ok(_) | Err(_) => Ok(Finding::Fails),
    }
}

/// What earlier probes found: one file for the host, one per kernel, both for one boot of the host.
struct Memory {
    of_host: PathBuf,
    of_kernel: PathBuf,
}

impl Memory {
    fn new(kernel: &Kernel, cache: &Path) -> std::io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let image = fs::metadata(kernel.image())?;
        let mut hasher = DefaultHasher::new();
        (kernel.dir(), image.len(), image.modified()?).hash(&mut hasher);
        let of_host = format!("kvm-{}", boot.trim());
        let of_kernel = format!("{of_host}-{:016x}", hasher.finish());
        Ok(Self {
            of_host: cache.join(of_host),
            of_kernel: cache.join(of_kernel),
        })
    }

    fn recall(&self) -> Option<Accel> {
        let read = |file| fs::read_to_string(file).ok();
        match read(&self.of_host)
            .or_else(|| read(&self.of_kernel))?
            .trim()
        {
            "works" => Some(Accel::Kvm),
            "fails" => Some(Accel::Tcg),
            _ => None,
        }
    }

    fn keep(&self, finding: Finding) -> std::io::Result<()> {
        let (file, text) = match finding {
            Finding::Works => (&self.of_kernel, "works\n"),
            Finding::Fails => (&self.of_kernel, "fails\n"),
            Finding::NeverSpoke => (&self.of_host, "fails\n"),
        };
        fs::write(file, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::STATUS_MARK;
    use crate::run::tests::Bench;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(300);

    /// A bench whose virtme-ng counts its starts and then does as `vng` says.
    fn bench(vng: &str) -> Bench {
        Bench::new(&format!("echo >>$root/probes; {vng}"), "")
    }

    fn ask_in(bench: &Bench, limit: Duration) -> Accel {
        let cache = bench.dir.path().join("cache");
        let Bench { setup, kernel, .. } = bench;
        ask(setup, kernel, &cache, limit, &Interrupt::default()).unwrap()
    }

    fn probes(bench: &Bench) -> usize {
        fs::read_to_string(bench.dir.path().join("probes"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    fn works() -> String {
        format!("echo '{STATUS_MARK}0' >>$log; exit 0")
    }

    #[test]
    fn a_boot_proves_kvm_once() {
        let bench = bench(&works());
        assert_eq!(ask_in(&bench, LONG), Accel::Kvm);
        assert_eq!(ask_in(&bench, LONG), Accel::Kvm);
        assert_eq!(probes(&bench), 1);
    }

    #[test]
    fn a_probe_that_hangs_is_killed_and_remembered_for_the_host() {
        let bench = bench("exec sleep 1000");
        assert_eq!(ask_in(&bench, SHORT), Accel::Tcg);
        fs::write(bench.kernel.image(), "another kernel").unwrap();
        assert_eq!(ask_in(&bench, SHORT), Accel::Tcg);
        assert_eq!(probes(&bench), 1);
    }

    #[test]
    fn a_kernel_that_fails_says_nothing_about_the_next() {
        for vng in [
            "echo 'Linux version' >>$log; exec sleep 1000",
            "echo 'Kernel panic - not syncing: x' >>$log; exit 255",
        ] {
            let bench = bench(vng);
            assert_eq!(ask_in(&bench, SHORT), Accel::Tcg);
            assert_eq!(ask_in(&bench, SHORT), Accel::Tcg);
            assert_eq!(probes(&bench), 1, "{vng}");
            fs::write(bench.kernel.image(), "another kernel").unwrap();
            assert_eq!(ask_in(&bench, SHORT), Accel::Tcg);
            assert_eq!(probes(&bench), 2, "{vng}");
        }
    }

    #[test]
    fn a_virtme_ng_that_refuses_is_no_kvm() {
        let bench = bench("exit 1");
        assert_eq!(ask_in(&bench, LONG), Accel::Tcg);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_asked_for_again() {
        let bench = bench(&works());
        ask_in(&bench, LONG);
        for entry in fs::read_dir(bench.dir.path().join("cache")).unwrap() {
            fs::write(entry.unwrap().path(), "cut").unwrap();
        }
        assert_eq!(ask_in(&bench, LONG), Accel::Kvm);
        assert_eq!(probes(&bench), 2);
    }

    #[test]
    fn a_request_to_stop_is_no_answer() {
        let bench = bench("exec sleep 1000");
        let interrupt = Interrupt::default();
        interrupt.request();
        let cache = bench.dir.path().join("cache");
        let result = ask(&bench.setup, &bench.kernel, &cache, LONG, &interrupt);
        assert!(matches!(result, Err(VmError::Interrupted(_))));
        assert_eq!(fs::read_dir(cache).unwrap().count(), 0);
    }

    #[test]
    fn a_device_that_is_not_there_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("kvm");
        assert!(!opens(&device));
        fs::write(&device, "").unwrap();
        assert!(opens(&device));
    }
}
