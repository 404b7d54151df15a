// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device is before it is served: its description, and what is built of it.

use crate::{complaints::Complaints, config::ConfigSpace, function::Model, interrupt::Interrupt};
use fabric::Completer;
use std::{
    error::Error,
    fmt::Debug,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};
use tlp::{Bdf, Mode};

/// Describes a device: what can be chosen of it, and how it is built.
///
/// Whoever writes a device implements this for the type that holds its options.
/// [`serve`](crate::serve) builds it once, attaches it to the fabric, and serves it.
pub trait Device: Debug + Send + Sync {
    /// Builds the device as after power-on.
    ///
    /// # Errors
    /// Whatever keeps it from being built: options out of range, no memory, no thread.
    fn build(&self, slot: &Slot<'_>) -> Result<Parts, Box<dyn Error + Send + Sync>>;
}

/// Where a device sits, as its [`Endpoint`](crate::Endpoint) and its
/// [`Hierarchy`](crate::Hierarchy) say.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// What traces and messages call it.
    pub name: &'a str,
    /// Bus, device and function under which the guest will see it.
    pub bdf: Bdf,
    /// Mode of its link.
    pub mode: Mode,
    /// Directory of the trace, for what else the device records; without one it records nothing.
    pub trace_dir: Option<&'a Path>,
    /// Takes what must not happen and did.
    pub complaints: &'a Complaints,
    /// See [`Hierarchy::crash`](crate::Hierarchy::crash).
    pub crash: &'a Arc<AtomicBool>,
}

impl Slot<'_> {
    /// The device's serial number: an EUI-64 from the locally administered range, the same in every
    /// run.
    #[must_use]
    pub fn serial_number(&self) -> u64 {
        0x0254_50ff_fe00_0000 | u64::from(self.bdf.0)
    }
}

/// A device that was built.
pub struct Parts {
    /// Its configuration space.
    pub config: ConfigSpace,
    /// Its interrupt, made of that configuration space; the model raises its vectors.
    pub interrupt: Arc<Interrupt>,
    /// Its registers.
    pub model: Box<dyn Model>,
    /// What takes memory requests of peers to its BARs; to a device without one they are
    /// unsupported.
    pub completer: Option<Arc<dyn Completer>>,
}
