// SPDX-License-Identifier: GPL-2.0-only

//! PCIe steering tags on the dma-bufs that user space exports from a VFIO PCI device.
//!
//! User space owns the device, so it knows which tags mean something to it. It publishes them for a
//! dma-buf with `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`; importers ask for them by `dma_buf_get_tph()`.
//!
//! What was published is the last request that was accepted, stored as a whole in the private
//! struct of the dma-buf under its reservation lock. An all-zero one, as it is at first, publishes
//! nothing. The file descriptor is not part of it.
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
#[derive(Clone, Copy, Default)]
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

// SAFETY: It has no padding, as the offsets above show.
unsafe impl transmute::AsBytes for Request {}

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

    /// Returns a request that publishes the same, with zero for what it leaves unpublished.
    fn canonical(self) -> Self {
        let mut request = Self::default();

        if self.publishes(Namespace::St) {
            request.0.steering_tag = self.0.steering_tag;
        }
        if self.publishes(Namespace::ExtSt) {
            request.0.steering_tag_ext = self.0.steering_tag_ext;
        }
        if self.0.flags != 0 {
            request.0.flags = self.0.flags;
            request.0.ph = self.0.ph;
        }

        request
    }

    /// Returns a request that publishes, in each namespace that `completer` completes, tag zero.
    fn completed_by(completer: CompleterType) -> Self {
        let mut request = Self::default();

        if completer.completes(Namespace::St) {
            request.0.flags |= bindings::VFIO_DMA_BUF_TPH_ST;
        }
        if completer.completes(Namespace::ExtSt) {
            request.0.flags |= bindings::VFIO_DMA_BUF_TPH_ST_EXT;
        }

        request
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

/// What is published for a dma-buf.
///
/// # Invariants
///
/// `raw` is valid for as long as `dmabuf`, and accessed under its reservation lock only.
struct Published<'a> {
    raw: NonNull<bindings::vfio_device_feature_dma_buf_tph>,
    dmabuf: &'a DmaBuf,
}

impl<'a> Published<'a> {
    /// Finds what is published for a dma-buf of `vdev`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `vdev` did not export it.
    ///
    /// # Safety
    ///
    /// `vdev` is a VFIO PCI device that stays open during the call.
    unsafe fn of(dmabuf: &'a DmaBuf, vdev: *mut bindings::vfio_pci_core_device) -> Result<Self> {
        // SAFETY: `dmabuf` is valid, and by the safety requirements so is `vdev`.
        let raw = unsafe { bindings::vfio_pci_dma_buf_tph(dmabuf.as_raw(), vdev) };

        // INVARIANT: It is part of the private struct of the dma-buf.
        Ok(Self {
            raw: NonNull::new(raw).ok_or(EINVAL)?,
            dmabuf,
        })
    }

    /// Replaces it by what `request` publishes.
    fn set(&self, request: Request) -> Result {
        let _resv = self.dmabuf.lock_interruptible()?;

        // SAFETY: By the type invariant it is valid; the reservation lock is held.
        unsafe { self.raw.write(request.canonical().0) };

        Ok(())
    }

    /// Returns a request that would publish the same.
    fn get(&self) -> Result<Request> {
        let _resv = self.dmabuf.lock_interruptible()?;

        // SAFETY: By the type invariant it is valid; the reservation lock is held.
        Ok(Request(unsafe { self.raw.read() }))
    }
}

/// Handles SET.
///
/// # Safety
///
/// As [`Published::of`].
unsafe fn set(
    vdev: *mut bindings::vfio_pci_core_device,
    completer: CompleterType,
    request: Request,
) -> Result {
    request.check(completer)?;

    let dmabuf = DmaBuf::from_fd(request.0.dmabuf_fd)?;

    // SAFETY: By the safety requirements of this function.
    unsafe { Published::of(&dmabuf, vdev) }?.set(request)
}

/// Handles GET: what is published for the dma-buf `fd`, or for -1 what the device can complete.
///
/// # Safety
///
/// As [`Published::of`].
unsafe fn get(
    vdev: *mut bindings::vfio_pci_core_device,
    completer: CompleterType,
    fd: i32,
) -> Result<Request> {
    let mut answer = if fd == -1 {
        Request::completed_by(completer)
    } else {
        let dmabuf = DmaBuf::from_fd(fd)?;

        // SAFETY: By the safety requirements of this function.
        unsafe { Published::of(&dmabuf, vdev) }?.get()?
    };
    answer.0.dmabuf_fd = fd;

    Ok(answer)
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
                bindings::VFIO_DEVICE_FEATURE_GET | bindings::VFIO_DEVICE_FEATURE_SET,
                size_of::<Request>(),
            )
        };
        to_result(ret)?;
        if ret == 0 {
            // PROBE
            return Ok(0);
        }

        let (mut reader, mut writer) =
            UserSlice::new(UserPtr::from_ptr(arg.cast()), size_of::<Request>()).reader_writer();
        let request: Request = reader.read()?;

        if flags & bindings::VFIO_DEVICE_FEATURE_SET != 0 {
            // SAFETY: By the safety requirements of this function.
            unsafe { set(vdev, completer, request) }?;
        } else {
            // SAFETY: By the safety requirements of this function.
            writer.write(&unsafe { get(vdev, completer, request.0.dmabuf_fd) }?)?;
        }

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
