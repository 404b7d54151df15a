// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest is started with.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The programs that a run starts, and its patience with them.
#[derive(Debug, Clone)]
pub struct Setup {
    /// virtme-ng's `vng`.
    pub vng: PathBuf,
    /// util-linux' `unshare`.
    pub unshare: PathBuf,
    /// ACPICA's `iasl`.
    pub iasl: PathBuf,
    /// The program whose subcommand `devices` serves the devices: this one.
    pub lab: PathBuf,
    /// How long the device process may take until every socket listens.
    pub ready_limit: Duration,
    /// How long it may take to end after QEMU has left.
    pub leave_limit: Duration,
    /// How long a guest may take until its script begins, or a multiple of it: see
    /// [`Kernel::patience`](crate::Kernel::patience).
    pub begin_limit: Duration,
}

impl Setup {
    /// `vng` from the path, and the running program.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            vng: "vng".into(),
            unshare: "unshare".into(),
            iasl: "iasl".into(),
            lab: std::env::current_exe()?,
            ready_limit: Duration::from_secs(10),
            leave_limit: Duration::from_secs(60),
            // Many times what it takes on a loaded host, here and above: what needs more hangs.
            begin_limit: Duration::from_secs(60),
        })
    }
}
