// SPDX-License-Identifier: GPL-2.0

//! DMA buffer sharing.
//!
//! A [`DmaBuf`] is memory of one device, the *exporter*, that others, the *importers*, access by
//! DMA. Its *reservation* is the lock that both sides share: whoever holds the [`Reservation`] can
//! rely on the memory staying where it is.
//!
//! An importer creates an [`Attachment`] of its device, locks the reservation, and creates a
//! [`Mapping`]. The mapping gives the DMA addresses, and the [`MappingHint`] that requests to them
//! should carry. Both are valid while the reservation is held, which the borrow checker enforces.
//!
//! Modules that use this must import the symbol namespace `DMA_BUF`.
//!
//! # Examples
//!
//! An importer lets its device write into a buffer, with the hint that the exporter wants:
//!
//! ```
//! # #[cfg(CONFIG_PCI)]
//! # mod example {
//! use kernel::{
//!     device::Bound,
//!     dma::DataDirection,
//!     dma_buf::Attachment,
//!     pci::{
//!         self,
//!         tph::Namespace, //
//!     },
//!     prelude::*, //
//! };
//!
//! fn write(pdev: &pci::Device<Bound>, attachment: &Attachment) -> Result {
//!     let resv = attachment.dmabuf().lock();
//!     let mapping = attachment.map(pdev.as_ref(), &resv, DataDirection::FromDevice)?;
//!     let hint = match Namespace::of(pdev) {
//!         Some(namespace) => mapping.tph_hint(namespace)?,
//!         None => None,
//!     };
//!
//!     for entry in mapping.sgt().iter() {
//!         // Program the device, and wait until it has finished.
//!         # let _ = (entry.dma_address(), entry.dma_len(), hint.as_deref());
//!     }
//!
//!     Ok(())
//! }
//! # }
//! ```
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)
//!
//! Reference: <https://docs.kernel.org/driver-api/dma-buf.html>

use crate::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};
use core::ptr::NonNull;

mod exporter;
mod importer;
#[cfg(CONFIG_RUST_DMA_BUF_KUNIT_TEST)]
mod tests;
#[cfg(CONFIG_PCI)]
mod tph;

pub use self::exporter::{
    Exported,
    Exporter,
    Ops, //
};
pub use self::importer::{
    Attachment,
    Mapping, //
};
#[cfg(CONFIG_PCI)]
pub use self::tph::MappingHint;

/// A shared DMA buffer.
///
/// # Invariants
///
/// A [`DmaBuf`] instance represents a valid `struct dma_buf` created by the C portion of the
/// kernel.
#[repr(transparent)]
pub struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: A `struct dma_buf` is reference-counted and may be released from any thread.
unsafe impl Send for DmaBuf {}

// SAFETY: What can be reached through a shared reference does not change, or is protected by the
// reservation lock.
unsafe impl Sync for DmaBuf {}

// SAFETY: The reference count of a `struct dma_buf` is the one of its file.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant `self.as_raw()` is valid, and so is its `file`.
        let file = unsafe { (*self.as_raw()).file };

        // SAFETY: The existence of a shared reference guarantees that the refcount is non-zero.
        unsafe { bindings::get_file(file) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The safety requirements guarantee that the refcount is non-zero.
        unsafe { bindings::dma_buf_put(obj.cast().as_ptr()) };
    }
}

impl DmaBuf {
    /// Returns the buffer that the file descriptor `fd` of the current process refers to.
    ///
    /// # Errors
    ///
    /// - [`EBADF`] if `fd` is not open.
    /// - [`EINVAL`] if it is not a dma-buf.
    pub fn from_fd(fd: i32) -> Result<ARef<Self>> {
        // SAFETY: `dma_buf_get()` accepts any number.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        let raw = NonNull::new(raw).ok_or(EBADF)?;

        // SAFETY: `dma_buf_get()` returned a valid pointer and a reference that is ours.
        Ok(unsafe { ARef::from_raw(raw.cast()) })
    }

    /// Returns the raw `struct dma_buf *`.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }

    /// Returns the size of the buffer in bytes, which never changes.
    #[inline]
    pub fn size(&self) -> usize {
        // SAFETY: By the type invariant `self.as_raw()` is valid.
        unsafe { (*self.as_raw()).size }
    }

    fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: By the type invariant `self.as_raw()` is valid.
        unsafe { (*self.as_raw()).resv }
    }

    /// Locks the reservation; sleeps until it is free.
    pub fn lock(&self) -> Reservation<'_> {
        // SAFETY: `self.resv()` is valid for as long as `self`. Without a context this cannot fail.
        unsafe { bindings::dma_resv_lock(self.resv(), core::ptr::null_mut()) };

        // INVARIANT: The lock was just taken.
        Reservation {
            dmabuf: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Locks the reservation unless a signal arrives before it is free.
    ///
    /// # Errors
    ///
    /// [`EINTR`] if a signal arrived.
    pub fn lock_interruptible(&self) -> Result<Reservation<'_>> {
        // SAFETY: `self.resv()` is valid for as long as `self`.
        to_result(unsafe {
            bindings::dma_resv_lock_interruptible(self.resv(), core::ptr::null_mut())
        })?;

        // INVARIANT: The lock was just taken.
        Ok(Reservation {
            dmabuf: self,
            _not_send: NotThreadSafe,
        })
    }
}

/// The proof that the reservation of a [`DmaBuf`] is locked, until this is dropped.
///
/// It borrows the buffer, so that the reservation is always unlocked before the reference to the
/// buffer goes: the last one may release the buffer, which takes locks that come first.
///
/// # Invariants
///
/// The reservation lock of `dmabuf` is held by the current task, which took it for this instance.
#[must_use = "the reservation is unlocked as soon as this is dropped"]
pub struct Reservation<'a> {
    dmabuf: &'a DmaBuf,
    _not_send: NotThreadSafe,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held, and this instance owns it.
        unsafe { bindings::dma_resv_unlock(self.dmabuf.resv()) };
    }
}
