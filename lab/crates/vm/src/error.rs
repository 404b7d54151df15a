// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can become of a guest instead of a result.

use crate::command::SCRIPT_MAX;
use crate::kernel::KernelError;
use crate::log::{Complaint, LogTail};
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
    /// The script does not fit into the kernel's command line.
    #[error(
        "the guest's script has {0} bytes, more than {SCRIPT_MAX}: put it into a file that the guest can read"
    )]
    ScriptTooLong(usize),
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
    /// The device process ended too early, or not well.
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
        "the guest's command ended without the line '{0}', upon which the device process was to be killed"
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
    #[error("the guest did not end within {} s and was killed{processors}; {log}", .limit.as_secs())]
    TimedOut {
        /// The time that it had.
        limit: Duration,
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
    /// The guest ended before its command did.
    #[error("the guest died before its command ended; {log}")]
    GuestDied {
        /// Its serial log.
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
    #[error("the guest's kernel complained: {} ({}, line {})", .complaint.text, .log.display(), .complaint.line)]
    Kernel {
        /// The first line that says so.
        complaint: Complaint,
        /// The serial log.
        log: PathBuf,
    },
    /// Somebody asked to stop.
    #[error("stopped by {0}; guest and devices were ended")]
    Interrupted(&'static str),
}

impl VmError {
    /// An error of the system while trying to do `what`.
    pub fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            error,
        }
    }
}
