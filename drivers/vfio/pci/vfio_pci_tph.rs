// SPDX-License-Identifier: GPL-2.0-only

//! PCIe steering tags on the dma-bufs that user space exports from a VFIO PCI device.
//!
//! User space owns the device, so it knows which tags mean something to it. It publishes them for a
//! dma-buf with `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`; importers ask for them by `dma_buf_get_tph()`.
//!
//! What was published is the last request that was accepted, stored as a whole in the private
//! struct of the dma-buf under its reservation lock. An all-zero one, as it is at first, publishes
//! nothing.
//!
//! C header: `drivers/vfio/pci/vfio_pci_tph.h`

use core::{
    mem::{
        offset_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    dma_buf::DmaBuf,
    error::{
        from_result,
        to_result, //
    },
    pci::{
        self,
        tph::{
            CompleterType,
            Hint,
            Namespace,
            ProcessingHint,
            SteeringTag, //
        },
    },
    prelude::*,
    transmute,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// The payload of `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`, and what is stored of it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Request(bindings::vfio_device_feature_dma_buf_tph);

// The layout is uAPI.
const _: () = {
    assert!(size_of::<Request>() == 12);
    assert!(offset_of!(bindings::vfio_device_feature_dma_buf_tph, dmabuf_fd) == 0);
    assert!(offset_of!(bindings::vfio_device_feature_dma_buf_tph, flags) == 4);
    assert!(offset_of!(bindings::vfio_device_feature_dma_buf_tph, steering_tag_ext) == 8);
    assert!(offset_of!(bindings::vfio_device_feature_dma_buf_tph, steering_tag) == 10);
    assert!(offset_of!(bindings::vfio_device_feature_dma_buf_tph, ph) == 11);
};

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl transmute::FromBytes for Request {}

impl Request {
    /// Returns whether the tag of `namespace` is valid; the flags alone decide that.
    fn publishes(&self, namespace: Namespace) -> bool {
        let flag = match namespace {
            Namespace::St => bindings::VFIO_DMA_BUF_TPH_ST,
            Namespace::ExtSt => bindings::VFIO_DMA_BUF_TPH_ST_EXT,
        };

        self.0.flags & flag != 0
    }

    /// Checks everything but the file descriptor.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if an undefined bit is set.
    /// - [`EOPNOTSUPP`] if it publishes an Extended tag, which `completer` does not complete. (The
    ///   caller has seen that it completes 8-bit ones.)
    fn check(&self, completer: CompleterType) -> Result {
        const FLAGS: u32 = bindings::VFIO_DMA_BUF_TPH_ST | bindings::VFIO_DMA_BUF_TPH_ST_EXT;

        if self.0.flags & !FLAGS != 0 {
            return Err(EINVAL);
        }

        ProcessingHint::try_from(self.0.ph)?;

        if self.publishes(Namespace::ExtSt) && !completer.completes(Namespace::ExtSt) {
            return Err(EOPNOTSUPP);
        }

        Ok(())
    }

    /// Returns the hint that it publishes in `namespace`.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if there is none.
    fn hint(&self, namespace: Namespace) -> Result<Hint> {
        if !self.publishes(namespace) {
            return Err(EOPNOTSUPP);
        }

        Ok(Hint {
            tag: match namespace {
                Namespace::St => SteeringTag::St(self.0.steering_tag),
                Namespace::ExtSt => SteeringTag::ExtSt(self.0.steering_tag_ext),
            },
            ph: ProcessingHint::try_from(self.0.ph)?,
        })
    }
}

/// Handles `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`.
///
/// The order of the checks is uAPI, as it decides which error a request with several faults gets:
/// the device first, so that PROBE tells the truth, then the request, the file descriptor last. A
/// failure leaves what was published before untouched.
///
/// # Safety
///
/// - `vdev` is a VFIO PCI device that stays open during the call.
/// - `pdev` is the PCI device of `vdev`, and awake.
#[export]
unsafe extern "C" fn vfio_pci_core_feature_dma_buf_tph(
    vdev: *mut bindings::vfio_pci_core_device,
    pdev: *mut bindings::pci_dev,
    flags: u32,
    arg: *mut bindings::vfio_device_feature_dma_buf_tph,
    argsz: usize,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements `pdev` is valid for the duration of this call;
        // `pci::Device` is a transparent wrapper of it.
        let pdev = unsafe { &*pdev.cast::<pci::Device>() };

        let completer = CompleterType::of(pdev);
        if completer == CompleterType::None {
            return Err(EOPNOTSUPP);
        }

        // SAFETY: It accepts any value.
        let ret = unsafe {
            bindings::vfio_check_feature(
                flags,
                argsz,
                bindings::VFIO_DEVICE_FEATURE_SET,
                size_of::<Request>(),
            )
        };
        to_result(ret)?;
        if ret == 0 {
            // PROBE
            return Ok(0);
        }

        let request: Request = UserSlice::new(UserPtr::from_ptr(arg.cast()), size_of::<Request>())
            .reader()
            .read()?;
        request.check(completer)?;

        let dmabuf = DmaBuf::from_fd(request.0.dmabuf_fd)?;

        // SAFETY: `dmabuf` is valid, and by the safety requirements so is `vdev`.
        let published = unsafe { bindings::vfio_pci_dma_buf_tph(dmabuf.as_raw(), vdev) };
        let published = NonNull::new(published).ok_or(EINVAL)?;

        let _resv = dmabuf.lock_interruptible()?;

        // SAFETY:
        // - `published` is valid for as long as `dmabuf`.
        // - It is accessed under the reservation lock only, which is held.
        unsafe { published.write(request.0) };

        Ok(0)
    })
}

/// Answers `dma_buf_get_tph()` from what was published.
///
/// # Safety
///
/// - `published` is valid, and the reservation lock that protects it is held.
/// - `steering_tag` and `ph` are valid for writes.
#[export]
unsafe extern "C" fn vfio_pci_tph_hint(
    published: *const bindings::vfio_device_feature_dma_buf_tph,
    extended: bool,
    steering_tag: *mut u16,
    ph: *mut u8,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements `published` is valid, and nobody writes to it.
        let published = Request(unsafe { *published });

        let hint = published.hint(if extended {
            Namespace::ExtSt
        } else {
            Namespace::St
        })?;

        // SAFETY: By the safety requirements `steering_tag` is valid for writes.
        unsafe { steering_tag.write(hint.tag.value()) };

        // SAFETY: By the safety requirements `ph` is valid for writes.
        unsafe { ph.write(hint.ph as u8) };

        Ok(0)
    })
}
