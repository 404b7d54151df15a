// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of virtme-ng's `vng`.

use crate::hang;
use crate::kernel::Kernel;
use crate::topology::{Placed, preset};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// QEMU's software emulation: works everywhere.
    Tcg,
    /// The host's KVM.
    Kvm,
}

/// What the guest runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// A shell script; its exit status is the run's.
    Script(String),
    /// An interactive shell on the terminal.
    Shell,
}

/// The guest, as far as virtme-ng must know.
#[derive(Debug, Clone)]
pub struct Guest<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// How it executes.
    pub accel: Accel,
    /// How many processors it has.
    pub cpus: u8,
    /// Its clock counts its instructions, a nanosecond each.
    pub icount: bool,
    /// Its vfio-user devices; their servers listen already.
    pub devices: Option<&'a Placed>,
    /// An ACPI table for its firmware.
    pub acpi_table: Option<&'a Path>,
    /// More kernel parameters.
    pub append: &'a [&'a str],
    /// What it runs.
    pub task: &'a Task,
    /// The file with its script, as [`file_of`] has it.
    pub script: Option<&'a Path>,
    /// Where the serial console goes.
    pub serial: &'a Path,
}

/// What the script of the guest leaves in the kernel log; its exit status follows.
///
/// virtme-ng reports 255 for a guest that died as well as for a command that exits with 255, and its
/// own refusals look like a command's status. Only this line says that the command ran to its end.
pub const STATUS_MARK: &str = "lab: the command ended with status ";

/// What it leaves there before it runs the command.
pub const BEGIN_MARK: &str = "lab: the command begins";

/// The stand-in for what the guest's user space does at boot and a script does not need.
pub const STAND_IN: &str = include_str!("guest-udevadm.sh");

/// Programs of the guest's root that [`STAND_IN`] replaces, in a mount namespace of its own.
const REPLACED: [&str; 2] = ["/usr/bin/udevadm", "/usr/bin/systemd-tmpfiles"];

/// On a loaded host a timer interrupt may come later than the kernel waits for it when it boots: then it
/// takes the timer for broken and panics.
const NO_TIMER_CHECK: &str = "no_timer_check";

/// The kernel's watch over its clock hangs if it begins while the first clock is replaced, by which all
/// processors but one are stopped: then that one waits for another one, for a time that does not pass. On
/// a loaded host it also takes the TSC for broken.
const NO_CLOCK_WATCHDOG: &str = "tsc=nowatchdog";

/// So that the addresses in the registers of a guest that hangs are those of System.map.
const NO_KASLR: &str = "nokaslr";

/// The command that starts `vng` in a mount namespace where `stand_in` takes the place of
/// `REPLACED`; virtiofsd, and so the guest, sees that namespace.
#[must_use]
pub fn trimmed(unshare: &Path, stand_in: &Path, vng: &Path) -> Command {
    let binds: Vec<_> = REPLACED
        .iter()
        .map(|path| format!("[ ! -e {path} ] || mount --bind \"$0\" {path}"))
        .collect();
    let script = format!("set -e; {}; exec \"$@\"", binds.join("; "));
    let mut command = Command::new(unshare);
    command
        .args(["--mount", "sh", "-c", &script])
        .arg(stand_in)
        .arg(vng);
    command
}

/// Arguments for `vng`.
#[must_use]
pub fn arguments(guest: &Guest<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--run".into(), guest.kernel.dir().into()];
    match guest.accel {
        Accel::Tcg => arguments.push("--disable-kvm".into()),
        // With KVM it would take a machine without PCIe.
        Accel::Kvm => arguments.push("--disable-microvm".into()),
    }
    for (option, value) in [
        ("--cpus", guest.cpus.to_string()),
        // A shared memfd, as virtme-ng makes it for virtiofs.
        ("--memory", format!("{}M", guest.kernel.memory_mib())),
        ("--name", "lab".into()),
        ("--user", "root".into()),
        ("--append", kernel_parameters(guest)),
    ] {
        arguments.extend([option.into(), value.into()]);
    }
    arguments.push(format!("--qemu-opts={}", qemu_options(guest)).into());
    if let Some(script) = guest.script {
        // virtme-ng passes this in the kernel's command line, which has little room.
        let run = format!("sh {}", shell_quote(&script.display().to_string()));
        arguments.extend(["--exec".into(), run.into()]);
    }
    arguments
}

/// The file of a guest with this script: it tells the kernel log when the script begins, and how it
/// ended.
#[must_use]
pub fn file_of(script: &str) -> String {
    format!(
        "#!/bin/sh\necho '<5>{BEGIN_MARK}' >/dev/kmsg\n( {script}\n)\ns=$?\n\
         echo \"<5>{STATUS_MARK}$s\" >/dev/kmsg\nexit $s\n"
    )
}

fn kernel_parameters(guest: &Guest<'_>) -> String {
    let mut parameters = vec![
        "loglevel=7",
        "printk.devkmsg=on",
        NO_TIMER_CHECK,
        NO_CLOCK_WATCHDOG,
        NO_KASLR,
    ];
    let placed = guest.devices.into_iter();
    let of_topology: Vec<_> = placed
        .flat_map(|placed| placed.topology.boot_parameters())
        .collect();
    parameters.extend(of_topology.iter().map(String::as_str));
    parameters.extend(guest.append);
    parameters.join(" ")
}

/// QEMU's options, as one string that virtme-ng gives to a shell.
fn qemu_options(guest: &Guest<'_>) -> String {
    let has_iommu = guest.devices.is_some_and(|placed| placed.topology.iommu);
    let machine = match guest.accel {
        Accel::Tcg => "q35",
        // Without a fallback: a guest that was to run under KVM must not run under TCG.
        Accel::Kvm if !has_iommu => "q35,accel=kvm",
        // The IOMMU must see the interrupts that it remaps.
        Accel::Kvm => "q35,accel=kvm,kernel-irqchip=split",
    };
    let mut options = vec![
        "-machine".into(),
        machine.into(),
        "-cpu".into(),
        guest
            .devices
            .map_or(&*preset::T1, |placed| &placed.topology)
            .cpu
            .clone(),
    ];
    if guest.icount {
        options.extend(["-icount".into(), "shift=0".into()]);
    }
    // virtme-ng sends a script's console to /dev/null, and a shell's kernel messages to stderr.
    let console = match guest.task {
        Task::Script(_) => "console",
        Task::Shell => "dmesg",
    };
    let path = format!("chardev.{console}.path={}", guest.serial.display());
    options.extend(["-set".into(), shell_quote(&path)]);
    if let Some(table) = guest.acpi_table {
        // In QEMU's options a comma is written twice.
        let table = table.display().to_string().replace(',', ",,");
        options.extend(["-acpitable".into(), shell_quote(&format!("file={table}"))]);
    }
    if let Some(placed) = guest.devices {
        options.extend(devices(placed));
    }
    options.join(" ")
}

fn devices(placed: &Placed) -> Vec<String> {
    let mut options = Vec::new();
    let monitors = placed.topology.monitor(&placed.dir).into_iter();
    for monitor in monitors.chain([hang::socket(&placed.dir)]) {
        let monitor = format!("unix:{},server=on,wait=off", monitor.display());
        options.extend(["-qmp".into(), shell_quote(&monitor)]);
    }
    for device in placed.topology.qemu_devices(&placed.dir) {
        options.extend(["-device".into(), shell_quote(&device)]);
    }
    options
}

/// `text` as one word of a POSIX shell.
#[must_use]
pub fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::topology::{Completer, Topology};
    use std::fs;

    pub(crate) fn kernel(dir: &Path) -> Kernel {
        fs::create_dir_all(dir.join("arch/x86/boot")).unwrap();
        for file in ["arch/x86/boot/bzImage", ".config", "modules.order"] {
            fs::write(dir.join(file), "").unwrap();
        }
        Kernel::at(dir).unwrap()
    }

    fn line(accel: Accel, task: &Task) -> Vec<String> {
        line_of(&preset::T1, accel, task)
    }

    fn line_of(topology: &Topology, accel: Accel, task: &Task) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let kernel = kernel(dir.path());
        let guest = Guest {
            kernel: &kernel,
            accel,
            cpus: 2,
            icount: false,
            devices: Some(&Placed {
                topology: Topology {
                    root_ports: Completer::Reserved,
                    ..topology.clone()
                },
                dir: "/run/l".into(),
            }),
            acpi_table: Some(Path::new("/out/a,b/tags.aml")),
            append: &["kunit.enable=1"],
            task,
            script: match task {
                Task::Script(_) => Some(Path::new("/out/it's/script")),
                Task::Shell => None,
            },
            serial: Path::new("/out/it's/serial.log"),
        };
        arguments(&guest)
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    /// The words that the shell, to which virtme-ng gives QEMU's options, makes of them.
    pub(crate) fn qemu_words(line: &[String]) -> Vec<String> {
        let options = line
            .iter()
            .find_map(|argument| argument.strip_prefix("--qemu-opts="))
            .unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {options}")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn value<'a>(line: &'a [String], option: &str) -> &'a str {
        let at = line.iter().position(|argument| argument == option).unwrap();
        &line[at + 1]
    }

    #[test]
    fn software_emulation_is_asked_for() {
        let line = line(Accel::Tcg, &Task::Script("true".into()));
        assert!(line.contains(&"--disable-kvm".into()));
        let words = qemu_words(&line);
        assert_eq!(value(&words, "-machine"), "q35");
        assert_eq!(value(&words, "-cpu"), "EPYC");
    }

    #[test]
    fn kvm_has_no_fallback_and_keeps_pcie() {
        let line = line(Accel::Kvm, &Task::Script("true".into()));
        assert!(!line.contains(&"--disable-kvm".into()));
        assert!(line.contains(&"--disable-microvm".into()));
        assert_eq!(value(&qemu_words(&line), "-machine"), "q35,accel=kvm");
    }

    #[test]
    fn instructions_are_counted_if_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = kernel(dir.path());
        for icount in [false, true] {
            let guest = Guest {
                kernel: &kernel,
                accel: Accel::Tcg,
                cpus: 1,
                icount,
                devices: None,
                acpi_table: None,
                append: &[],
                task: &Task::Shell,
                script: None,
                serial: Path::new("/out/serial.log"),
            };
            let words = qemu_options(&guest);
            assert_eq!(words.contains("-icount shift=0"), icount);
        }
    }

    #[test]
    fn devices_and_log_survive_the_shell() {
        let line = line(Accel::Tcg, &Task::Script("true".into()));
        let words = qemu_words(&line);
        assert_eq!(
            value(&words, "-set"),
            "chardev.console.path=/out/it's/serial.log"
        );
        let devices: Vec<serde_json::Value> = words
            .iter()
            .filter(|word| word.starts_with('{'))
            .map(|word| serde_json::from_str(word).unwrap())
            .collect();
        assert_eq!(devices.len(), 3);
        assert_eq!(devices[0]["driver"], "vfio-user-pci");
        assert_eq!(devices[0]["addr"], "0x10.0x0");
        assert_eq!(devices[0]["multifunction"], false);
        assert_eq!(devices[0]["bus"], "pcie.0");
        assert_eq!(devices[0]["rombar"], 0);
        assert_eq!(devices[0]["socket"]["path"], "/run/l/initiator.sock");
        assert_eq!(devices[1]["addr"], "0x11.0x0");
    }

    fn values<'a>(words: &'a [String], option: &str) -> Vec<&'a str> {
        let pairs = words.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn the_iommu_is_the_first_device_and_has_a_monitor() {
        let script = Task::Script("true".into());
        let line = line_of(&preset::T2, Accel::Kvm, &script);
        let words = qemu_words(&line);
        let devices = values(&words, "-device");
        assert!(devices[0].starts_with("intel-iommu,"), "{devices:?}");
        assert!(devices[0].contains("caching-mode=on"), "QEMU aborts else");
        assert_eq!(devices.len(), 4);
        assert_eq!(
            values(&words, "-qmp"),
            ["monitor", "hang"].map(|name| format!("unix:/run/l/{name}.sock,server=on,wait=off"))
        );
        assert!(value(&words, "-machine").ends_with(",kernel-irqchip=split"));
        assert!(value(&line, "--append").contains(" intel_iommu=on"));
    }

    #[test]
    fn a_switch_is_there_before_the_devices() {
        let script = Task::Script("true".into());
        let words = qemu_words(&line_of(&preset::T3, Accel::Tcg, &script));
        let devices = values(&words, "-device");
        let kinds: Vec<_> = devices
            .iter()
            .map(|device| device.split(',').next().unwrap())
            .collect();
        let switch = ["pcie-root-port", "x3130-upstream"];
        assert_eq!(kinds[..2], switch);
        assert_eq!(kinds[2..5], ["xio3130-downstream"; 3]);
        let initiator: serde_json::Value = serde_json::from_str(devices[5]).unwrap();
        assert_eq!(initiator["bus"], "arm0");
        assert_eq!(initiator["addr"], "0x0.0x0");
        assert_eq!(
            values(&words, "-qmp"),
            ["unix:/run/l/hang.sock,server=on,wait=off"]
        );
        assert_ne!(value(&words, "-cpu"), "EPYC");
    }

    #[test]
    fn the_firmware_gets_its_table() {
        let words = qemu_words(&line(Accel::Tcg, &Task::Script("true".into())));
        assert_eq!(value(&words, "-acpitable"), "file=/out/a,,b/tags.aml");
    }

    #[test]
    fn functions_of_one_slot_are_told_apart() {
        let script = Task::Script("true".into());
        let words = qemu_words(&line_of(&preset::T4, Accel::Tcg, &script));
        let devices = values(&words, "-device");
        assert!(devices[0].starts_with("pcie-root-port,"), "{devices:?}");
        for (function, device) in devices[1..].iter().enumerate() {
            let device: serde_json::Value = serde_json::from_str(device).unwrap();
            assert_eq!(device["bus"], "root-port");
            assert_eq!(device["addr"], format!("0x0.{function:#x}"));
            assert_eq!(device["multifunction"], true);
        }
    }

    #[test]
    fn the_kernel_may_speak_and_gets_its_parameters() {
        let line = line(Accel::Tcg, &Task::Script("true".into()));
        let append = value(&line, "--append");
        assert_eq!(
            append,
            "loglevel=7 printk.devkmsg=on no_timer_check tsc=nowatchdog nokaslr kunit.enable=1"
        );
    }

    #[test]
    fn a_root_port_has_a_completer_type() {
        let script = Task::Script("true".into());
        let append = |topology: &Topology| {
            let line = line_of(topology, Accel::Tcg, &script);
            value(&line, "--append").to_owned()
        };
        for topology in [&preset::T3, &preset::T3_REQUESTERS, &preset::T4] {
            let append = append(topology);
            assert!(append.contains(" tph_root_port.completer=2 "), "{append}");
        }
        assert!(!append(&preset::T2).contains("tph_root_port"));
    }

    #[test]
    fn a_script_is_marked_and_keeps_its_status() {
        let script = file_of("exit 7").replace("/dev/kmsg", "/dev/stdout");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(7));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("<5>{BEGIN_MARK}\n<5>{STATUS_MARK}7\n"));
    }

    #[test]
    fn a_script_is_found_whatever_its_path() {
        let line = line(Accel::Tcg, &Task::Script("true".into()));
        assert_eq!(value(&line, "--exec"), r"sh '/out/it'\''s/script'");
    }

    #[test]
    fn a_shell_runs_no_script() {
        let line = line(Accel::Tcg, &Task::Shell);
        assert!(!line.contains(&"--exec".into()));
        assert!(value(&qemu_words(&line), "-set").starts_with("chardev.dmesg.path="));
    }
}
