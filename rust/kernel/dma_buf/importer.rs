// SPDX-License-Identifier: GPL-2.0

//! The importer's side: attachments and mappings.

use super::{
    DmaBuf,
    Reservation, //
};
use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    error::from_err_ptr,
    prelude::*,
    scatterlist::SGTable,
    sync::aref::ARef, //
};
use core::ptr::NonNull;

/// The link between an importer's device and a [`DmaBuf`].
///
/// It accepts memory of other devices (peer-to-peer). It also accepts that the exporter takes the
/// memory away at any time: mappings exist only while the reservation is held, so there is never
/// one to give up when the exporter, which then holds it, says so.
///
/// Dropping it takes the reservation lock; a [`Mapping`] borrows the attachment, so it is gone
/// then.
///
/// # Invariants
///
/// - `raw` is an attachment of `dev` to `dmabuf` that this instance owns.
/// - Nothing is mapped through `raw` but by the [`Mapping`]s that borrow this instance.
pub struct Attachment {
    raw: NonNull<bindings::dma_buf_attachment>,
    pub(super) dmabuf: ARef<DmaBuf>,
    pub(super) dev: ARef<Device>,
}

// SAFETY: An attachment may be used and detached by any thread.
unsafe impl Send for Attachment {}

// SAFETY: All `&self` methods either only read what never changes, or need the reservation.
unsafe impl Sync for Attachment {}

impl Attachment {
    const OPS: &'static bindings::dma_buf_attach_ops = &bindings::dma_buf_attach_ops {
        allow_peer2peer: true,
        invalidate_mappings: Some(Self::invalidate_mappings_callback),
    };

    /// # Safety
    ///
    /// `_attach` is an attachment with these operations, and its reservation lock is held.
    unsafe extern "C" fn invalidate_mappings_callback(_attach: *mut bindings::dma_buf_attachment) {
        // The caller holds the reservation, so by the invariants there is no mapping to unmap.
    }

    /// Attaches `dev` to `dmabuf`; the caller must not hold the reservation.
    ///
    /// # Errors
    ///
    /// What the exporter answers, for example [`ENODEV`] if the memory was taken away, or
    /// [`EOPNOTSUPP`] if it does not export to devices like `dev`.
    pub fn new(dev: &Device<Bound>, dmabuf: ARef<DmaBuf>) -> Result<Self> {
        // SAFETY:
        // - `dmabuf` and `dev` are valid, and stay so for as long as the attachment exists, since
        //   `Self` owns a reference to each.
        // - `Self::OPS` is static.
        let raw = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(
                dmabuf.as_raw(),
                dev.as_raw(),
                Self::OPS,
                core::ptr::null_mut(),
            )
        })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;

        // INVARIANT: `raw` was just created, so nothing is mapped through it.
        Ok(Self {
            raw,
            dmabuf,
            dev: dev.into(),
        })
    }

    /// Returns the buffer.
    #[inline]
    pub fn dmabuf(&self) -> &DmaBuf {
        &self.dmabuf
    }

    /// Maps the buffer for the attached device, until the [`Mapping`] is dropped.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `dev` is not the attached device, or `resv` not the reservation of the
    ///   attached buffer.
    /// - What the exporter answers, for example [`ENODEV`] if the memory was taken away, or
    ///   [`EINVAL`] if the device cannot reach it.
    pub fn map<'a>(
        &'a self,
        dev: &'a Device<Bound>,
        resv: &'a Reservation<'_>,
        dir: DataDirection,
    ) -> Result<Mapping<'a>> {
        if dev.as_raw() != self.dev.as_raw() || !core::ptr::eq(resv.dmabuf, self.dmabuf()) {
            return Err(EINVAL);
        }

        // SAFETY:
        // - By the type invariant `self.raw` is valid.
        // - `resv` shows that the reservation lock is held.
        // - `dev` shows that the device may map memory.
        let sgt = from_err_ptr(unsafe {
            bindings::dma_buf_map_attachment(self.raw.as_ptr(), dir.into())
        })?;

        // INVARIANT: `sgt` was just mapped.
        Ok(Mapping {
            attachment: self,
            _resv: resv,
            sgt: NonNull::new(sgt).ok_or(ENOMEM)?,
            dir,
        })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // SAFETY:
        // - By the type invariants `self.raw` is an attachment to `self.dmabuf` that we own.
        // - It has no mapping, since those borrow `self`.
        unsafe { bindings::dma_buf_detach(self.dmabuf.as_raw(), self.raw.as_ptr()) };
    }
}

/// A [`DmaBuf`] that is mapped for the device of an [`Attachment`], until this is dropped.
///
/// It borrows the reservation, so that it can neither outlive the lock nor an invalidation.
///
/// # Invariants
///
/// - `sgt` was mapped through `attachment` in the direction `dir`, and is still mapped.
/// - The reservation lock of its buffer is held.
pub struct Mapping<'a> {
    pub(super) attachment: &'a Attachment,
    _resv: &'a Reservation<'a>,
    sgt: NonNull<bindings::sg_table>,
    dir: DataDirection,
}

impl Mapping<'_> {
    /// Returns the DMA addresses. The table has no pages.
    #[inline]
    pub fn sgt(&self) -> &SGTable {
        // SAFETY: By the type invariant `self.sgt` is valid while `self` exists, and the exporter
        // does not modify a table that is mapped.
        unsafe { SGTable::from_raw(self.sgt.as_ptr()) }
    }
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants
        // - `self.sgt` was mapped through this attachment in this direction,
        // - the reservation lock is held.
        unsafe {
            bindings::dma_buf_unmap_attachment(
                self.attachment.raw.as_ptr(),
                self.sgt.as_ptr(),
                self.dir.into(),
            )
        };
    }
}
