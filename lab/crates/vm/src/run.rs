// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts a guest, with the lab's devices or without, and says what became of it.
//!
//! [`run`] is the one way to a guest. It starts the device process, then virtme-ng, watches both,
//! and leaves nothing behind: neither processes nor an unread log.

#[cfg(test)]
pub(crate) mod tests;

use crate::command::{self, Accel, BEGIN_MARK, Guest, STATUS_MARK, Task};
use crate::device_process::{DeviceProcess, DevicesEnd};
use crate::error::{Reached, VmError};
use crate::kernel::Kernel;
use crate::log::{self, LogTail};
use crate::memory::{self, Qemu};
use crate::process::{Group, TICK, lines, rest};
use crate::setup::Setup;
use crate::signals::Interrupt;
use crate::topology::Devices;
use crate::{firmware, hang};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};
use trace::TraceError;

/// Most memory, in bytes, that the device process may take beyond the guest's.
pub const DEVICE_MEMORY_MAX: u64 = 64 << 20;

/// A guest to be run.
#[derive(Debug, Clone)]
pub struct Vm<'a> {
    /// Its kernel.
    pub kernel: &'a Kernel,
    /// How it executes.
    pub accel: Accel,
    /// How many processors it has.
    pub cpus: u8,
    /// Its clock counts its instructions, a nanosecond each; with software emulation and one processor.
    pub icount: bool,
    /// Its devices; none for a guest that only has to boot.
    pub devices: Option<Devices>,
    /// How the process that serves them is to end.
    pub devices_end: DevicesEnd,
    /// More kernel parameters.
    pub append: &'a [&'a str],
    /// What it runs.
    pub task: Task,
    /// The run is ended after this time, or a multiple of it: see [`Kernel::patience`].
    pub limit: Duration,
    /// Directory for the serial log, the device log, the traces and what the guest wrote to stderr.
    pub out: &'a Path,
}

/// A run that ended as it should: command ended, kernel well, devices well.
#[derive(Debug)]
pub struct Run {
    /// Exit status of the guest's command.
    pub status: u8,
    /// The serial log.
    pub serial: PathBuf,
    /// Peak of the device process in bytes, the guest's memory not counted; 0 without devices.
    pub devices_peak: u64,
    /// Peak of QEMU in bytes, with the guest's memory.
    pub qemu_peak: u64,
    /// From the start of the device process until everything had ended.
    pub took: Duration,
}

/// Runs the guest and hands each line of its command's stdout to `line` as it comes.
pub fn run(
    setup: &Setup,
    vm: &Vm<'_>,
    interrupt: &Interrupt,
    line: &mut dyn FnMut(&str),
) -> Result<Run, VmError> {
    fs::create_dir_all(vm.out)
        .map_err(|error| VmError::io(format!("make {}", vm.out.display()), error))?;
    let out = fs::canonicalize(vm.out)
        .map_err(|error| VmError::io(format!("find {}", vm.out.display()), error))?;
    // Here and below: what an earlier run left must not be taken for this one's.
    trace::clear(&out)
        .and_then(|()| hang::clear(&out))
        .map_err(|error| VmError::io(format!("remove what is in {}", out.display()), error))?;
    let ended = run_in(&out, setup, vm, interrupt, line);
    // The device process has ended, well or not, and its trace shows how it came to that.
    let concluded = trace::conclude(&out).map_err(|error| match error {
        TraceError::Write(error) => VmError::io(
            format!("write the text of the trace in {}", out.display()),
            error,
        ),
        error => VmError::Trace {
            dir: out.clone(),
            why: error.to_string(),
        },
    });
    let run = ended?;
    concluded?;
    Ok(run)
}

/// Runs the guest with `out` for its files; when this returns, all processes have ended.
fn run_in(
    out: &Path,
    setup: &Setup,
    vm: &Vm<'_>,
    interrupt: &Interrupt,
    line: &mut dyn FnMut(&str),
) -> Result<Run, VmError> {
    let start = Instant::now();
    let limits = Limits::new(setup, vm);
    let serial = out.join("serial.log");
    File::create(&serial)
        .map_err(|error| VmError::io(format!("write {}", serial.display()), error))?;

    let acpi_table = match &vm.devices {
        Some(devices) if devices.topology.has_root_port() => {
            Some(firmware::cpu_tags(&setup.iasl, out)?)
        }
        _ => None,
    };
    let mut devices = match &vm.devices {
        Some(devices) => Some(DeviceProcess::start(
            setup,
            devices.clone(),
            vm.devices_end,
            out,
            interrupt,
        )?),
        None => None,
    };
    let script = match &vm.task {
        Task::Script(script) => Some(leave_script(out, script)?),
        Task::Shell => None,
    };
    let guest = Guest {
        kernel: vm.kernel,
        accel: vm.accel,
        cpus: vm.cpus,
        icount: vm.icount,
        devices: devices.as_ref().map(DeviceProcess::placed),
        acpi_table: acpi_table.as_deref(),
        append: vm.append,
        task: &vm.task,
        script: script.as_deref(),
        serial: &serial,
    };
    let mut machine = Machine::start(setup, &guest, out)?;
    let watched = machine.watch(&limits, &serial, devices.as_mut(), interrupt, line);
    let processors = match &watched {
        Ok(Watched::TooLong { .. }) => devices.as_ref().map_or(String::new(), |devices| {
            let socket = hang::socket(&devices.placed().dir);
            match hang::describe(&socket, vm.kernel, out) {
                Ok(processors) => format!(", {processors}"),
                Err(error) => format!(", and QEMU does not tell where it was: {error}"),
            }
        }),
        _ => String::new(),
    };
    // Ends what still runs and lets the readers of its pipes come to their end.
    machine.finish(line)?;
    let ended = Ended {
        watched: watched?,
        processors,
        serial: &serial,
        stderr: &machine.stderr_path,
    };
    let judged = ended.judge(&vm.task);
    let left = devices
        .as_mut()
        .map_or(Ok(()), |devices| devices.leave(setup.leave_limit));
    let status = match (judged, left) {
        // It explains what became of the guest, and not the other way round.
        (_, Err(error @ VmError::DevicesComplained { .. })) => return Err(error),
        (judged, left) => {
            let status = judged?;
            left?;
            status
        }
    };
    Ok(Run {
        status,
        serial,
        devices_peak: devices.as_ref().map_or(0, DeviceProcess::peak),
        qemu_peak: machine.qemu_peak,
        took: start.elapsed(),
    })
}

fn read_lossy(path: &Path) -> Result<String, VmError> {
    let bytes =
        fs::read(path).map_err(|error| VmError::io(format!("read {}", path.display()), error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// How long a guest may take.
struct Limits {
    /// Until its script begins; a shell has nothing that would say that it has begun.
    begin: Option<Duration>,
    /// In all.
    end: Duration,
}

impl Limits {
    fn new(setup: &Setup, vm: &Vm<'_>) -> Self {
        let patience = vm.kernel.patience();
        let end = vm.limit * patience;
        let begin = match vm.task {
            Task::Script(_) => Some(end.min(setup.begin_limit * patience)),
            Task::Shell => None,
        };
        Self { begin, end }
    }
}

/// How the watch over a guest ended.
enum Watched {
    /// With virtme-ng.
    Ended(ExitStatus),
    /// The guest had come this far when its time until then was over.
    TooLong { reached: Reached, limit: Duration },
}

/// How a guest ended, and what it left.
struct Ended<'a> {
    watched: Watched,
    /// Where the processors of a guest were that took too long.
    processors: String,
    /// The guest's kernel log.
    serial: &'a Path,
    /// What virtme-ng and the guest's command wrote to stderr.
    stderr: &'a Path,
}

impl Ended<'_> {
    /// The exit status of the guest's command, if that ended and the kernel is well.
    fn judge(self, task: &Task) -> Result<u8, VmError> {
        let log = read_lossy(self.serial)?;
        // An oops explains a death or a hang better than the death or the hang does.
        if let Some(complaint) = log::first_complaint(&log) {
            return Err(VmError::Kernel {
                reached: reached(&log),
                complaint,
                log: self.serial.into(),
            });
        }
        let vng = match self.watched {
            Watched::Ended(vng) => vng,
            Watched::TooLong { reached, limit } => {
                return Err(VmError::TimedOut {
                    limit,
                    reached,
                    processors: self.processors,
                    log: LogTail::of(self.serial),
                });
            }
        };
        match task {
            Task::Script(_) => self.command_status(&log, vng),
            Task::Shell if vng.success() => Ok(0),
            Task::Shell => Err(self.no_guest(vng)),
        }
    }

    /// The exit status of the command, as the kernel log and virtme-ng agree on it.
    fn command_status(&self, log: &str, vng: ExitStatus) -> Result<u8, VmError> {
        let marked = log.lines().rev().find_map(|line| {
            log::message(line)
                .strip_prefix(STATUS_MARK)
                .and_then(|status| status.trim().parse::<u8>().ok())
        });
        match (marked, reached(log)) {
            (Some(status), _) if vng.code() == Some(status.into()) => Ok(status),
            (Some(status), _) => Err(VmError::StatusLost { status, vng }),
            (None, _) if log.trim().is_empty() => Err(self.no_guest(vng)),
            (None, Reached::Boot) => Err(VmError::NotBegun {
                vng,
                serial: self.serial.into(),
                log: LogTail::of(self.stderr),
            }),
            (None, Reached::Command) => Err(VmError::GuestDied {
                log: LogTail::of(self.serial),
            }),
        }
    }

    fn no_guest(&self, vng: ExitStatus) -> VmError {
        VmError::NoGuest {
            vng,
            log: LogTail::of(self.stderr),
        }
    }
}

/// How far the guest with this kernel log came.
fn reached(log: &str) -> Reached {
    if log
        .lines()
        .any(|line| log::message(line).trim_end() == BEGIN_MARK)
    {
        Reached::Command
    } else {
        Reached::Boot
    }
}

/// Leaves the guest's script in `out`, where the guest finds it.
fn leave_script(out: &Path, script: &str) -> Result<PathBuf, VmError> {
    let path = out.join("guest.sh");
    fs::write(&path, command::file_of(script))
        .map_err(|error| VmError::io(format!("write {}", path.display()), error))?;
    Ok(path)
}

/// Leaves the stand-in for parts of the guest's boot in `out`.
fn stand_in(out: &Path) -> Result<PathBuf, VmError> {
    let path = out.join("guest-udevadm");
    fs::write(&path, command::STAND_IN)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|error| VmError::io(format!("write {}", path.display()), error))?;
    Ok(path)
}

/// virtme-ng and everything that it started.
struct Machine {
    group: Group,
    stdout: Option<Receiver<String>>,
    stderr: Option<JoinHandle<io::Result<u64>>>,
    stderr_path: PathBuf,
    qemu: Option<Qemu>,
    qemu_peak: u64,
    memory_must_be_shared: bool,
}

impl Machine {
    fn start(setup: &Setup, guest: &Guest<'_>, out: &Path) -> Result<Self, VmError> {
        let interactive = matches!(guest.task, Task::Shell);
        let mut command = if interactive {
            Command::new(&setup.vng)
        } else {
            command::trimmed(&setup.unshare, &stand_in(out)?, &setup.vng)
        };
        command.args(command::arguments(guest)).current_dir("/");
        // Pipes, not files: QEMU opens these by name several times, and would truncate a file.
        command.stderr(Stdio::piped());
        if !interactive {
            command.stdin(Stdio::null()).stdout(Stdio::piped());
        }
        let started = if interactive {
            Group::spawn_on_terminal(&mut command)
        } else {
            Group::spawn(&mut command)
        };
        let mut group = started.map_err(|error| VmError::Start {
            program: command.get_program().into(),
            error,
        })?;
        let stdout = group.take_stdout().map(lines);
        let stderr_path = out.join("guest.stderr");
        let mut file = File::create(&stderr_path)
            .map_err(|error| VmError::io(format!("write {}", stderr_path.display()), error))?;
        let stderr = group
            .take_stderr()
            .map(|mut stderr| spawn(move || io::copy(&mut stderr, &mut file)));
        Ok(Self {
            group,
            stdout,
            stderr,
            stderr_path,
            qemu: None,
            qemu_peak: 0,
            memory_must_be_shared: guest.devices.is_some(),
        })
    }

    /// Waits until virtme-ng ends or the guest has taken too long; an error is a reason to end it.
    fn watch(
        &mut self,
        limits: &Limits,
        serial: &Path,
        mut devices: Option<&mut DeviceProcess>,
        interrupt: &Interrupt,
        line: &mut dyn FnMut(&str),
    ) -> Result<Watched, VmError> {
        let start = Instant::now();
        let mut begin = limits.begin;
        loop {
            let mut heard = Ok(());
            self.pass_lines(&mut |text| {
                if let Some(devices) = devices.as_deref_mut()
                    && heard.is_ok()
                {
                    heard = devices.hear(text);
                }
                line(text);
            });
            heard?;
            if let Some(signal) = interrupt.signal() {
                return Err(VmError::Interrupted(signal));
            }
            if let Some(devices) = devices.as_deref_mut() {
                devices.sample_memory();
                match devices.ended()? {
                    // They end well when QEMU has left them; the guest may then still be ending.
                    Some(status) if !devices.as_expected(status) => {
                        return Err(devices.died("while the guest ran", status));
                    }
                    _ => {}
                }
            }
            let ended = self
                .group
                .ended()
                .map_err(|error| VmError::io("wait for virtme-ng", error))?;
            if let Some(status) = ended {
                if self.memory_must_be_shared && self.qemu.is_none() && status.success() {
                    return Err(VmError::QemuUnseen);
                }
                return Ok(Watched::Ended(status));
            }
            if let Some(limit) = begin.take_if(|limit| start.elapsed() >= *limit)
                && reached(&read_lossy(serial)?) == Reached::Boot
            {
                let reached = Reached::Boot;
                return Ok(Watched::TooLong { reached, limit });
            }
            if start.elapsed() >= limits.end {
                let (reached, limit) = (Reached::Command, limits.end);
                return Ok(Watched::TooLong { reached, limit });
            }
            self.look_at_qemu()?;
            sleep(TICK);
        }
    }

    fn look_at_qemu(&mut self) -> Result<(), VmError> {
        if self.qemu.is_none() {
            self.qemu = memory::find_qemu(&self.group.tree());
            let shared = self.qemu.is_none_or(|qemu| qemu.memory_is_shared);
            if self.memory_must_be_shared && !shared {
                return Err(VmError::MemoryNotShared);
            }
        }
        if let Some(peak) = self.qemu.and_then(|qemu| memory::peak(qemu.pid)) {
            self.qemu_peak = self.qemu_peak.max(peak);
        }
        Ok(())
    }

    fn pass_lines(&mut self, line: &mut dyn FnMut(&str)) {
        if let Some(stdout) = &self.stdout {
            for text in stdout.try_iter() {
                line(&text);
            }
        }
    }

    /// Ends the machine and passes the rest of its output.
    fn finish(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), VmError> {
        self.group
            .stop()
            .map_err(|error| VmError::io("end virtme-ng", error))?;
        if let Some(stdout) = self.stdout.take() {
            for text in rest(&stdout) {
                line(&text);
            }
        }
        if let Some(Ok(Err(error))) = self.stderr.take().map(JoinHandle::join) {
            let what = format!("write {}", self.stderr_path.display());
            return Err(VmError::io(what, error));
        }
        Ok(())
    }
}
