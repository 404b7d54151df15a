// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ctrl-C, SIGTERM and a closed terminal, as a request that the running work sees and obeys.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether somebody asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Catches the signals from now on.
    pub fn install() -> io::Result<Self> {
        let this = Self::default();
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let number = usize::try_from(signal).map_err(io::Error::other)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&this.0), number)?;
        }
        Ok(this)
    }

    /// The name of the signal that came, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<&'static str> {
        match i32::try_from(self.0.load(Ordering::Relaxed)) {
            Ok(SIGHUP) => Some("SIGHUP"),
            Ok(SIGINT) => Some("SIGINT"),
            Ok(SIGTERM) => Some("SIGTERM"),
            _ => None,
        }
    }

    /// Asks to stop, as SIGTERM does.
    pub fn request(&self) {
        self.0
            .store(SIGTERM.unsigned_abs() as usize, Ordering::Relaxed);
    }
}
