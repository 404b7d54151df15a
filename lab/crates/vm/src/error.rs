// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can become of a guest instead of a result, and what that says.

use crate::kernel::KernelError;
use crate::log::{Complaint, LogTail};
use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a run has no result. The first line of each message says what and what to do.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The kernel cannot be used.
    #[error(transparent)]
    NoKernel(#[from] KernelError),
    /// A program does not start.
    #[error("cannot start {}: {error}; run this inside the toolbox (`make shell`, `make demo` and `make check` do)", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system refused something.
    #[error("cannot {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
    /// The environment variable KVM holds something else than 0 or 1.
    #[error(
        "KVM={0} means nothing; use KVM=0 (software emulation), KVM=1, or unset it to let a probe decide"
    )]
    KvmVariable(String),
    /// The guest's ACPI table does not compile.
    #[error(
        "iasl does not compile the guest's ACPI table ({status}): correct lab/crates/vm/src/cpu-tags.asl; {log}"
    )]
    Firmware {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        log: LogTail,
    },
    /// The device process does not say that it is ready.
    #[error("the device process was not ready within {} s and was ended; {log}", .limit.as_secs())]
    DevicesNotReady {
        /// The time that it had.
        limit: Duration,
        /// Its log.
        log: LogTail,
    },
    /// A model of a device says that something happened which must not, or panicked.
    #[error("{complaint} (said by the device process {when}, upon which it ended; its log is {})", .log.display())]
    DevicesComplained {
        /// What it said.
        complaint: String,
        /// When it did.
        when: &'static str,
        /// Its log.
        log: PathBuf,
    },
    /// The device process ended too early, or not well, and does not say that a device is the reason.
    #[error("the device process died {when} ({status}), so the guest was stopped; {log}")]
    DevicesDied {
        /// When it did.
        when: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// Its log.
        log: LogTail,
    },
    /// The device process was to be killed, and was not.
    #[error(
        "the device process was to be killed in mid-transfer after the line '{0}', and was not: that line did not come, or no driver looked at a busy device after it"
    )]
    DevicesNotKilled(&'static str),
    /// The device process goes on without QEMU.
    #[error("the device process did not end within {} s after QEMU and was ended; {log}", .limit.as_secs())]
    DevicesStay {
        /// The time that it had.
        limit: Duration,
        /// Its log.
        log: LogTail,
    },
    /// QEMU's memory is not a shared memfd.
    #[error(
        "the guest's memory is not a shared memfd, so the devices' DMA would go to a copy; virtme-ng shares it only with virtiofs: install virtiofsd and make the root file system a mount point of its own"
    )]
    MemoryNotShared,
    /// The run succeeded, but QEMU never showed, so its memory could not be checked.
    #[error(
        "QEMU was never seen, so nothing proves that the guest's memory is shared; is /proc mounted?"
    )]
    QemuUnseen,
    /// The guest took too long.
    #[error("the guest's command did not {} within {} s, so the guest was killed{processors}; {log}", .reached.next(), .limit.as_secs())]
    TimedOut {
        /// The time that it had.
        limit: Duration,
        /// How far it came.
        reached: Reached,
        /// Where its processors were, after a comma, if QEMU was asked.
        processors: String,
        /// Its serial log.
        log: LogTail,
    },
    /// There was no guest at all.
    #[error("virtme-ng started no guest ({vng}); {log}")]
    NoGuest {
        /// How virtme-ng ended.
        vng: ExitStatus,
        /// What it said.
        log: LogTail,
    },
    /// The guest ended before its command began.
    #[error("the guest ended before its command began ({vng}); its kernel log is {}; {log}", .serial.display())]
    NotBegun {
        /// How virtme-ng ended.
        vng: ExitStatus,
        /// The serial log.
        serial: PathBuf,
        /// What it said.
        log: LogTail,
    },
    /// The guest ended before its command did, and its kernel does not complain.
    #[error("the guest died before its command ended, without a word of its kernel; {log}")]
    GuestDied {
        /// Its serial log.
        log: LogTail,
    },
    /// The guest's script could not do what it had to.
    #[error("the guest's script ended with status {status}; {log}")]
    ScriptFailed {
        /// How it ended.
        status: u8,
        /// What it said.
        log: LogTail,
    },
    /// The kernel's log and virtme-ng tell different exit statuses.
    #[error(
        "the guest's command ended with status {status}, but virtme-ng ended otherwise ({vng})"
    )]
    StatusLost {
        /// What the guest said.
        status: u8,
        /// What virtme-ng said.
        vng: ExitStatus,
    },
    /// The kernel is not well, whatever the command's status.
    #[error("the guest's kernel complained{reached}: {} ({}, line {})", .complaint.text, .log.display(), .complaint.line)]
    Kernel {
        /// How far the guest came, then or later.
        reached: Reached,
        /// The first line that says so.
        complaint: Complaint,
        /// The serial log.
        log: PathBuf,
    },
    /// What the devices recorded cannot be read.
    #[error("cannot conclude the trace in {}: {why}", .dir.display())]
    Trace {
        /// The directory.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// Somebody asked to stop.
    #[error("stopped by {0}; guest and devices were ended")]
    Interrupted(&'static str),
}

/// How far a guest came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Its command had not begun.
    Boot,
    /// Its command had begun.
    Command,
}

impl Reached {
    /// What its command has to do next.
    fn next(self) -> &'static str {
        match self {
            Self::Boot => "begin",
            Self::Command => "end",
        }
    }
}

impl Display for Reached {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => " before its command began",
            Self::Command => "",
        })
    }
}

/// What a run without a result says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing about what was to be tested: what was to run it failed, or somebody ended it from
    /// outside. To be tried again, and never a result.
    Harness,
    /// Something is wrong with what was tested: the kernel, a program, or a device. A result.
    Fault,
    /// That somebody asked to stop.
    Stop,
}

impl VmError {
    /// What it says about what was tested.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoKernel(_)
            | Self::Start { .. }
            | Self::Io { .. }
            | Self::KvmVariable(_)
            | Self::Firmware { .. }
            | Self::DevicesNotReady { .. }
            | Self::DevicesDied { .. }
            | Self::MemoryNotShared
            | Self::QemuUnseen
            | Self::NoGuest { .. }
            | Self::NotBegun { .. }
            | Self::GuestDied { .. }
            | Self::StatusLost { .. }
            | Self::ScriptFailed { .. }
            | Self::TimedOut {
                reached: Reached::Boot,
                ..
            } => Cause::Harness,
            Self::DevicesComplained { .. }
            | Self::DevicesNotKilled(_)
            | Self::DevicesStay { .. }
            | Self::Kernel { .. }
            | Self::Trace { .. }
            | Self::TimedOut {
                reached: Reached::Command,
                ..
            } => Cause::Fault,
            Self::Interrupted(_) => Cause::Stop,
        }
    }

    /// An error of the system while trying to do `what`.
    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            error,
        }
    }
}
