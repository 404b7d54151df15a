// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MSI-X vectors of a function, as the client's eventfds.

use crate::config::ConfigSpace;
use std::{
    fs::File,
    io::{self, Write},
    sync::{Mutex, MutexGuard},
};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TYPE_MASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_DATA_TYPE_MASK,
};

/// Raises vectors, as far as the client has connected eventfds to them.
///
/// Table, masks and pending bits are the client's: it gets every event and delivers it as they say.
pub struct Interrupt(Mutex<Vec<Option<File>>>);

impl Interrupt {
    /// As many vectors as the MSI-X capability of `config` has, none connected.
    #[must_use]
    pub fn new(config: &ConfigSpace) -> Self {
        Self(Mutex::new((0..config.vectors()).map(|_| None).collect()))
    }

    /// How many vectors there are.
    ///
    /// # Panics
    /// If a thread panicked that used the interrupt.
    #[must_use]
    pub fn vectors(&self) -> u32 {
        u32::try_from(self.eventfds().len()).expect("made of 16 bits")
    }

    /// Raises a vector; one that there is not, or that is not connected, is nobody's.
    ///
    /// # Panics
    /// If a thread panicked that used the interrupt.
    pub fn raise(&self, vector: u32) {
        let mut eventfds = self.eventfds();
        let eventfd = usize::try_from(vector)
            .ok()
            .and_then(|vector| eventfds.get_mut(vector));
        if let Some(Some(eventfd)) = eventfd
            && let Err(error) = eventfd.write_all(&1u64.to_ne_bytes())
        {
            log::error!("the client's eventfd does not take an interrupt: {error}");
        }
    }

    /// SET_IRQS for MSI-X: connects or disconnects eventfds, or raises vectors.
    ///
    /// A client disconnects all by a count of 0, or some by naming them without descriptors.
    pub(crate) fn set(&self, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let end = start.checked_add(count).ok_or_else(invalid)?;
        if end > self.vectors() || fds.len() > count as usize {
            return Err(invalid());
        }
        if flags & VFIO_IRQ_SET_ACTION_TYPE_MASK != VFIO_IRQ_SET_ACTION_TRIGGER {
            // Masking is done by the client.
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        match (flags & VFIO_IRQ_SET_DATA_TYPE_MASK, count) {
            (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_EVENTFD, 0) => {
                self.eventfds().fill_with(|| None);
            }
            (VFIO_IRQ_SET_DATA_NONE, _) => (start..end).for_each(|vector| self.raise(vector)),
            (VFIO_IRQ_SET_DATA_EVENTFD, _) => {
                let mut fds = fds.into_iter();
                for eventfd in &mut self.eventfds()[start as usize..end as usize] {
                    *eventfd = fds.next();
                }
            }
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
        Ok(())
    }

    fn eventfds(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        self.0.lock().expect("a user of the eventfds panicked")
    }
}
