// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one MSI-X vector of a function, as the client's eventfd.

use std::{
    fs::File,
    io::{self, Write},
    sync::{Mutex, MutexGuard},
};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TYPE_MASK, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_DATA_TYPE_MASK,
};

/// Vectors of every function.
pub const VECTORS: u32 = 1;

/// Raises the vector, if the client has connected an eventfd to it.
///
/// Table, masks and pending bits are the client's: it gets every event and delivers it as they say.
#[derive(Default)]
pub struct Interrupt(Mutex<Option<File>>);

impl Interrupt {
    /// Raises the interrupt.
    pub fn raise(&self) {
        if let Some(eventfd) = &mut *self.eventfd()
            && let Err(error) = eventfd.write_all(&1u64.to_ne_bytes())
        {
            log::error!("the client's eventfd does not take an interrupt: {error}");
        }
    }

    /// SET_IRQS for MSI-X: connects or disconnects the eventfd, or raises the vector.
    ///
    /// A client disconnects by a count of 0, or by naming the vector without a descriptor.
    pub fn set(&self, flags: u32, start: u32, count: u32, fds: Vec<File>) -> io::Result<()> {
        let outside = start.checked_add(count).is_none_or(|end| end > VECTORS);
        if outside || fds.len() > count as usize {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        if flags & VFIO_IRQ_SET_ACTION_TYPE_MASK != VFIO_IRQ_SET_ACTION_TRIGGER {
            // Masking is done by the client.
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        match (flags & VFIO_IRQ_SET_DATA_TYPE_MASK, count) {
            (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_EVENTFD, 0) => *self.eventfd() = None,
            (VFIO_IRQ_SET_DATA_NONE, _) => self.raise(),
            (VFIO_IRQ_SET_DATA_EVENTFD, _) => *self.eventfd() = fds.into_iter().next(),
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
        Ok(())
    }

    fn eventfd(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().expect("a user of the eventfd panicked")
    }
}
