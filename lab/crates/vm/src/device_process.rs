// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that serves the devices (`lab devices`), seen from the one that runs the guest.

use crate::error::VmError;
use crate::log::LogTail;
use crate::memory::beyond_guest;
use crate::process::{Group, TICK, lines, rest};
use crate::serve::{COMPLAINT, DIE, READY_LINE};
use crate::setup::Setup;
use crate::signals::Interrupt;
use crate::topology::{Devices, Placed};
use rustix::process::{Pid, Signal};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How the device process is to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DevicesEnd {
    /// By itself, after QEMU has left it.
    #[default]
    WithQemu,
    /// By SIGKILL in mid-transfer, after the guest's command printed this line.
    KilledAfter(&'static str),
}

/// The running device process.
#[derive(Debug)]
pub struct DeviceProcess {
    group: Group,
    /// What it says, line by line; several threads may watch a process.
    said: Mutex<Receiver<String>>,
    /// The first complaint of a device that was heard before it was ready.
    complaint: Option<String>,
    log: PathBuf,
    // Holds the sockets; removed when the process has ended.
    _run_dir: tempfile::TempDir,
    placed: Placed,
    end: DevicesEnd,
    dying: bool,
    peak: u64,
}

impl DeviceProcess {
    /// Starts `lab devices …` and waits until it is ready. Its traces and its log go to `out`.
    pub fn start(
        setup: &Setup,
        devices: Devices,
        end: DevicesEnd,
        out: &Path,
        interrupt: &Interrupt,
    ) -> Result<Self, VmError> {
        let run_dir = tempfile::Builder::new()
            .prefix("lab-")
            .tempdir()
            .map_err(|error| VmError::io("make a directory for the device sockets", error))?;
        let log = out.join("devices.log");
        let log_file = File::create(&log)
            .map_err(|error| VmError::io(format!("write {}", log.display()), error))?;
        let topology = run_dir.path().join("topology.toml");
        devices
            .topology
            .write(&topology)
            .map_err(|error| VmError::io(format!("write {}", topology.display()), error))?;
        let mut command = Command::new(&setup.lab);
        command
            .arg("devices")
            .arg("--dir")
            .arg(run_dir.path())
            .arg("--trace")
            .arg(out)
            .arg(format!("--end-with-parent={}", std::process::id()))
            .arg("--topology")
            .arg(topology)
            .arg(format!("--trace-limit={}", devices.trace_limit))
            .args(
                devices
                    .snaplen
                    .map(|snaplen| format!("--snaplen={}", snaplen.bytes())),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file);
        let mut group = Group::spawn(&mut command).map_err(|error| VmError::Start {
            program: setup.lab.clone(),
            error,
        })?;
        let said = group.take_stdout().map_or_else(|| channel().1, lines);
        let mut this = Self {
            group,
            said: Mutex::new(said),
            complaint: None,
            log,
            placed: Placed {
                topology: devices.topology,
                dir: run_dir.path().into(),
            },
            _run_dir: run_dir,
            end,
            dying: false,
            peak: 0,
        };
        this.wait_until_ready(setup.ready_limit, interrupt)?;
        Ok(this)
    }

    fn wait_until_ready(&mut self, limit: Duration, interrupt: &Interrupt) -> Result<(), VmError> {
        let deadline = Instant::now() + limit;
        loop {
            let said: Vec<_> = self.said().try_iter().collect();
            for line in said {
                if line == READY_LINE {
                    return Ok(());
                }
                self.complaint = self.complaint.take().or(complaint(&line));
            }
            if let Some(signal) = interrupt.signal() {
                return Err(VmError::Interrupted(signal));
            }
            if let Some(status) = self.ended()? {
                return Err(self.died("before it was ready", status));
            }
            if Instant::now() >= deadline {
                return Err(VmError::DevicesNotReady {
                    limit,
                    log: self.log_tail(),
                });
            }
            sleep(TICK);
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.group.id()
    }

    /// What QEMU is to connect to.
    #[must_use]
    pub fn placed(&self) -> &Placed {
        &self.placed
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, VmError> {
        self.group
            .ended()
            .map_err(|error| VmError::io("wait for the device process", error))
    }

    /// Takes note of a line that the guest's command printed.
    pub fn hear(&mut self, line: &str) -> Result<(), VmError> {
        if let DevicesEnd::KilledAfter(cue) = self.end
            && cue == line
        {
            self.dying = true;
            self.group
                .signal(DIE)
                .map_err(|error| VmError::io("tell the device process to die", error))?;
        }
        Ok(())
    }

    /// Whether this end is the expected one.
    #[must_use]
    pub fn as_expected(&self, status: ExitStatus) -> bool {
        if self.dying {
            status.signal() == Some(Signal::KILL.as_raw())
        } else {
            status.success()
        }
    }

    /// Takes note of the memory that the process uses now, the guest's memory not counted.
    pub fn sample_memory(&mut self) {
        if let Some(bytes) = beyond_guest(self.group.id()) {
            self.peak = self.peak.max(bytes);
        }
    }

    /// The most memory that was noted, in bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Waits for the process after QEMU has left it: it ends by itself, and well, if it was not to be
    /// killed before.
    pub fn leave(&mut self, limit: Duration) -> Result<(), VmError> {
        let ended = self
            .group
            .wait(limit)
            .map_err(|error| VmError::io("wait for the device process", error))?;
        match ended {
            Some(status) if !self.as_expected(status) => Err(self.died("at the end", status)),
            Some(_) => match self.end {
                DevicesEnd::KilledAfter(line) if !self.dying => {
                    Err(VmError::DevicesNotKilled(line))
                }
                _ => Ok(()),
            },
            None => Err(VmError::DevicesStay {
                limit,
                log: self.log_tail(),
            }),
        }
    }

    /// The error for a process that ended `when` it should not have.
    #[must_use]
    pub fn died(&self, when: &'static str, status: ExitStatus) -> VmError {
        if let DevicesEnd::KilledAfter(line) = self.end
            && status.success()
        {
            return VmError::DevicesNotKilled(line);
        }
        let heard = self.complaint.clone();
        match heard.or_else(|| rest(&self.said()).find_map(|line| complaint(&line))) {
            Some(complaint) => VmError::DevicesComplained {
                complaint,
                when,
                log: self.log.clone(),
            },
            None => VmError::DevicesDied {
                when,
                status,
                log: self.log_tail(),
            },
        }
    }

    fn said(&self) -> MutexGuard<'_, Receiver<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_tail(&self) -> LogTail {
        LogTail::of(&self.log)
    }
}

/// What a device complains of in this line.
fn complaint(line: &str) -> Option<String> {
    line.strip_prefix(COMPLAINT).map(str::to_owned)
}
