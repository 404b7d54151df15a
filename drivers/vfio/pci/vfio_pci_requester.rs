// SPDX-License-Identifier: GPL-2.0-only

//! TPH requesters that user space owns with a VFIO PCI device.
//!
//! User space opts in, enables TPH in the control register of the capability as a driver would,
//! asks which hint belongs to a target, and has the ST table written. What it sees of the
//! capability, and what of all that it may do, is up to a policy.
//!
//! The control register that user space sees is what was accepted last. It is the PCI core that
//! writes the device's, so that both and the PCI core's own state always agree. All three change
//! under the memory lock of the device only.
//!
//! C header: `drivers/vfio/pci/vfio_pci_requester.h`

use core::{
    mem::size_of,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    cpu::CpuId,
    dma_buf::DmaBuf,
    error::{
        from_result,
        to_result, //
    },
    pci::{
        self,
        tph::{
            Hint,
            MemoryType,
            Namespace,
            ProcessingHint,
            SteeringTag, //
        },
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

mod requester_capability;
mod requester_control;
mod requester_request;
#[cfg(CONFIG_VFIO_PCI_TPH_KUNIT_TEST)]
mod requester_tests;

use requester_capability::{
    Capability,
    Policy, //
};
use requester_control::Control;
use requester_request::{
    literal,
    RawEntry,
    Resolve,
    SetEntries,
    Source, //
};

/// The state of a requester.
///
/// # Invariants
///
/// - `raw` is valid, and all of it but the control register and whether user space has opted in
///   stays as it is.
/// - User space opts in, but nobody takes that back.
struct Requester {
    raw: NonNull<bindings::vfio_pci_tph>,
}

impl Requester {
    /// # Safety
    ///
    /// - `raw` is valid for as long as the returned instance.
    /// - Meanwhile the device is neither opened nor closed.
    unsafe fn new(raw: *mut bindings::vfio_pci_tph) -> Result<Self> {
        // INVARIANT: By the safety requirements; what changes else changes then.
        Ok(Self {
            raw: NonNull::new(raw).ok_or(EINVAL)?,
        })
    }

    fn policy(&self) -> Policy {
        // SAFETY: By the type invariant it is valid and does not change.
        Policy::from_level(unsafe { (*self.raw.as_ptr()).policy })
    }

    /// Returns the capability; fails with [`EOPNOTSUPP`] if it is hidden.
    fn capability(&self) -> Result<Capability> {
        // SAFETY: By the type invariant it is valid and does not change.
        let capability = Capability(unsafe { (*self.raw.as_ptr()).capability });

        if capability.is_hidden() {
            return Err(EOPNOTSUPP);
        }

        Ok(capability)
    }

    /// Fails with [`EINVAL`] if user space has not opted in.
    fn check_opt_in(&self) -> Result {
        // SAFETY: By the type invariant it is valid. It may be set concurrently.
        if !unsafe { (&raw const (*self.raw.as_ptr()).opted_in).read_volatile() } {
            return Err(EINVAL);
        }

        Ok(())
    }

    fn opt_in(&self) {
        // SAFETY: By the type invariant it is valid. Whoever writes to it writes the same.
        unsafe { (&raw mut (*self.raw.as_ptr()).opted_in).write_volatile(true) };
    }

    /// Returns the control register; the caller holds the memory lock.
    fn control(&self) -> Control {
        // SAFETY: By the type invariant it is valid.
        Control(unsafe { (&raw const (*self.raw.as_ptr()).control).read_volatile() })
    }

    /// Sets the control register; the caller holds the memory lock. It is read without.
    fn set_control(&self, control: Control) {
        // SAFETY: By the type invariant it is valid.
        unsafe { (&raw mut (*self.raw.as_ptr()).control).write_volatile(control.0) };
    }
}

/// The memory lock of a device, which is awake, until this is dropped.
///
/// # Invariants
///
/// `vdev` is valid, and its memory lock is held for this instance.
struct MemoryLock {
    vdev: *mut bindings::vfio_pci_core_device,
}

impl MemoryLock {
    /// # Safety
    ///
    /// `vdev` is valid for as long as the returned instance.
    unsafe fn lock(vdev: *mut bindings::vfio_pci_core_device) -> Result<Self> {
        // SAFETY: By the safety requirements.
        to_result(unsafe { bindings::vfio_pci_tph_lock(vdev) })?;

        // INVARIANT: The lock was just taken.
        Ok(Self { vdev })
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is held.
        unsafe { bindings::vfio_pci_tph_unlock(self.vdev) };
    }
}

/// A PCI device whose TPH is enabled and disabled here, and nowhere else.
///
/// # Invariants
///
/// It is valid.
#[derive(Clone, Copy)]
struct Pdev(*mut bindings::pci_dev);

impl Pdev {
    /// # Safety
    ///
    /// `pdev` is valid for as long as the returned instance, and nobody else enables or disables
    /// its TPH.
    unsafe fn new(pdev: *mut bindings::pci_dev) -> Self {
        // INVARIANT: By the safety requirements.
        Self(pdev)
    }

    fn as_device(&self) -> &pci::Device {
        // SAFETY: By the type invariant it is valid; `pci::Device` is a transparent wrapper of it.
        unsafe { &*self.0.cast::<pci::Device>() }
    }

    fn is_enabled(&self) -> bool {
        // SAFETY: By the type invariant it is valid.
        let req_type = unsafe { bindings::pcie_tph_enabled_req_type(self.0) };

        u32::from(req_type) != bindings::PCI_TPH_REQ_DISABLE
    }

    fn disable(&self) {
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::pcie_disable_tph(self.0) };
    }

    /// Makes the device do what `control` says, and returns what it does.
    fn apply(&self, control: Control) -> Control {
        self.disable();

        if control == control.disabled() {
            return control;
        }

        // CAST: These are fields of three and of two bits.
        let (mode, enable) = (control.mode() as c_int, control.enable() as u8);

        // SAFETY: By the type invariant it is valid.
        let ret = unsafe { bindings::pcie_enable_tph_req_type(self.0, mode, enable) };
        if let Err(e) = to_result(ret) {
            dev_warn!(
                self.as_device(),
                "TPH stays off, as the device cannot be told to enable it: {:?}\n",
                e
            );
            return control.disabled();
        }

        control
    }

    /// Returns the hint of `namespace` for requests to `source`.
    fn resolve(&self, source: Source, namespace: Namespace) -> Result<Hint> {
        let without_ph = |tag| Hint {
            tag,
            ph: ProcessingHint::Bidirectional,
        };

        match source {
            Source::None => literal(0, namespace).map(without_ph),
            Source::Literal(number) => literal(number, namespace).map(without_ph),
            Source::DmaBuf(fd) => {
                let dmabuf = DmaBuf::from_fd(fd)?;
                let _resv = dmabuf.lock_interruptible()?;

                // SAFETY: The reservation lock is held.
                unsafe { dmabuf.tph_hint(self.as_device().as_ref(), namespace) }?.ok_or(EOPNOTSUPP)
            }
            Source::Cpu(cpu) => {
                let cpu = CpuId::from_u32(cpu).ok_or(EINVAL)?;

                // SAFETY: It is below `nr_cpu_ids`.
                if !unsafe { bindings::cpu_online(cpu.as_u32()) } {
                    return Err(EINVAL);
                }

                SteeringTag::of_cpu(self.as_device(), MemoryType::Volatile, cpu, namespace)
                    .map(without_ph)
            }
        }
    }

    /// Writes an entry of the ST table.
    fn set_entry(&self, index: u32, tag: u16) -> Result {
        // SAFETY: By the type invariant it is valid.
        to_result(unsafe { bindings::pcie_tph_set_st_entry(self.0, index, tag) })
    }
}

/// Checks what is asked of a feature; returns whether it is only a PROBE.
fn is_probe(flags: u32, argsz: usize, operation: u32, size: usize) -> Result<bool> {
    // SAFETY: It accepts any value.
    let ret = unsafe { bindings::vfio_check_feature(flags, argsz, operation, size) };

    to_result(ret)?;
    Ok(ret == 0)
}

/// Decides what user space sees of the TPH Requester capability at `pos`; returns whether it sees
/// anything. A device has one such capability, so others are hidden.
///
/// # Safety
///
/// - `tph` is that of a device that is being opened.
/// - `pdev` is its PCI device, and awake.
#[export]
unsafe extern "C" fn vfio_pci_tph_show(
    tph: *mut bindings::vfio_pci_tph,
    pdev: *mut bindings::pci_dev,
    pos: u16,
    len: u16,
) -> bool {
    // SAFETY: By the safety requirements it is valid, and nobody else accesses it yet.
    let tph = unsafe { &mut *tph };

    // SAFETY: By the safety requirements.
    let (hardware, supported) = unsafe {
        (
            bindings::pcie_tph_requester(pdev),
            bindings::pcie_tph_supported_req_type(pdev),
        )
    };

    let policy = Policy::from_level(tph.policy);
    let capability = Capability::new(hardware, supported, policy);
    if capability.is_hidden() || tph.pos != 0 {
        return false;
    }

    if capability.location() == bindings::PCI_TPH_LOC_MSIX {
        // SAFETY: By the safety requirements.
        let pdev = unsafe { Pdev::new(pdev) };

        dev_info!(
            pdev.as_device(),
            "no steering tags for interrupt vectors: user space can map the MSI-X table\n"
        );
    }

    tph.pos = pos;
    tph.len = len;
    tph.shows_table = policy.discloses_tags();
    tph.capability = capability.0;

    true
}

/// Turns TPH of a device off that changes hands, and forgets what was before.
///
/// # Safety
///
/// - `tph` is that of a device that is being opened or closed.
/// - `pdev` is its PCI device, and awake.
#[export]
unsafe extern "C" fn vfio_pci_tph_forget(
    tph: *mut bindings::vfio_pci_tph,
    pdev: *mut bindings::pci_dev,
) {
    // SAFETY: By the safety requirements.
    unsafe { bindings::pcie_tph_reset(pdev) };

    // SAFETY: By the safety requirements it is valid, and nobody else accesses it.
    let tph = unsafe { &mut *tph };

    *tph = bindings::vfio_pci_tph {
        policy: tph.policy,
        ..Default::default()
    };
}

/// Turns TPH off before a reset, after which it would be restored.
///
/// # Safety
///
/// - `tph` is valid, `pdev` is the PCI device, and awake.
/// - The memory lock of the device is held for writing.
#[export]
unsafe extern "C" fn vfio_pci_tph_off(
    tph: *mut bindings::vfio_pci_tph,
    pdev: *mut bindings::pci_dev,
) {
    // SAFETY: By the safety requirements; who opens or closes the device comes before or after.
    let (Ok(requester), pdev) = (unsafe { Requester::new(tph) }, unsafe { Pdev::new(pdev) }) else {
        return;
    };

    pdev.disable();
    requester.set_control(Control::default());
}

/// Handles a write to the control register.
///
/// # Safety
///
/// - `vdev` is a VFIO PCI device that stays open during the call.
/// - `tph` and `pdev` are its requester and its PCI device.
#[export]
unsafe extern "C" fn vfio_pci_tph_write(
    vdev: *mut bindings::vfio_pci_core_device,
    tph: *mut bindings::vfio_pci_tph,
    pdev: *mut bindings::pci_dev,
    offset: u32,
    count: u32,
    val: u32,
) {
    let handle = || -> Result {
        // SAFETY: By the safety requirements of this function.
        let requester = unsafe { Requester::new(tph) }?;

        requester.check_opt_in()?;

        // SAFETY: By the safety requirements of this function.
        let _lock = unsafe { MemoryLock::lock(vdev) }?;

        // SAFETY: By the safety requirements of this function.
        let pdev = unsafe { Pdev::new(pdev) };

        let old = requester.control();
        let wanted = old.merge(offset, count, val);
        let new = old.write(wanted, requester.capability()?);
        if new != old {
            requester.set_control(pdev.apply(new));
        }

        Ok(())
    };

    // A write to config space cannot fail. What was refused does not read back.
    let _ = handle();
}

/// Handles `VFIO_DEVICE_FEATURE_TPH`.
///
/// # Safety
///
/// `tph` is that of a VFIO PCI device that stays open during the call.
#[export]
unsafe extern "C" fn vfio_pci_core_feature_tph(
    tph: *mut bindings::vfio_pci_tph,
    flags: u32,
    argsz: usize,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        let requester = unsafe { Requester::new(tph) }?;

        requester.capability()?;
        if !is_probe(flags, argsz, bindings::VFIO_DEVICE_FEATURE_SET, 0)? {
            requester.opt_in();
        }

        Ok(0)
    })
}

/// Handles `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
///
/// # Safety
///
/// - `tph` is that of a VFIO PCI device that stays open during the call.
/// - `pdev` is its PCI device, and awake.
#[export]
unsafe extern "C" fn vfio_pci_core_feature_tph_resolve(
    tph: *mut bindings::vfio_pci_tph,
    pdev: *mut bindings::pci_dev,
    flags: u32,
    arg: *mut bindings::vfio_device_feature_tph_resolve,
    argsz: usize,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        let (requester, pdev) = unsafe { (Requester::new(tph)?, Pdev::new(pdev)) };

        let capability = requester.capability()?;
        let size = size_of::<Resolve>();
        if is_probe(flags, argsz, bindings::VFIO_DEVICE_FEATURE_GET, size)? {
            return Ok(0);
        }

        let (mut reader, mut writer) =
            UserSlice::new(UserPtr::from_ptr(arg.cast()), size).reader_writer();
        let mut request: Resolve = reader.read()?;
        let (namespace, source) = request.check(capability, requester.policy())?;

        requester.check_opt_in()?;
        let hint = pdev.resolve(source, namespace)?;

        request.0.ph = hint.ph as u8;
        request.0.steering_tag = if requester.policy().discloses_tags() {
            hint.tag.value()
        } else {
            0
        };
        writer.write(&request)?;

        Ok(0)
    })
}

/// Handles `VFIO_DEVICE_FEATURE_TPH_ST`.
///
/// # Safety
///
/// - `vdev` is a VFIO PCI device that stays open during the call.
/// - `tph` and `pdev` are its requester and its PCI device.
#[export]
unsafe extern "C" fn vfio_pci_core_feature_tph_st(
    vdev: *mut bindings::vfio_pci_core_device,
    tph: *mut bindings::vfio_pci_tph,
    pdev: *mut bindings::pci_dev,
    flags: u32,
    arg: *mut bindings::vfio_device_feature_tph_st,
    argsz: usize,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        let (requester, pdev) = unsafe { (Requester::new(tph)?, Pdev::new(pdev)) };

        let capability = requester.capability()?;
        let table = capability.entries()?;
        let size = size_of::<SetEntries>();
        if is_probe(flags, argsz, bindings::VFIO_DEVICE_FEATURE_SET, size)? {
            return Ok(0);
        }

        let (mut reader, mut writer) =
            UserSlice::new(UserPtr::from_ptr(arg.cast()), size).reader_writer();
        let mut request: SetEntries = reader.read()?;
        let raw = read_entries(&request, table)?;
        let (namespace, entries) = request.check(&raw, capability, requester.policy())?;

        requester.check_opt_in()?;

        // Before the memory lock is taken, under which no reference to a dma-buf may be dropped:
        // the last one takes the memory lock of the exporting device, which may be the same.
        let mut tags = KVVec::with_capacity(entries.len(), GFP_KERNEL)?;
        let mut result = Ok(());
        for entry in &entries {
            match pdev.resolve(entry.source, namespace) {
                Ok(hint) => tags.push((entry.index, hint.tag.value()), GFP_KERNEL)?,
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }

        // SAFETY: By the safety requirements of this function.
        let lock = unsafe { MemoryLock::lock(vdev) }?;

        requester.control().check(namespace)?;
        request.0.applied = 0;
        for &(index, tag) in &tags {
            if let Err(e) = pdev.set_entry(index, tag) {
                result = Err(e);
                break;
            }
            request.0.applied += 1;
        }
        if !pdev.is_enabled() {
            requester.set_control(requester.control().disabled());
        }
        drop(lock);

        writer.write(&request)?;
        result.map(|()| 0)
    })
}

/// Copies the entries of a request for a table of `size` entries from user space.
fn read_entries(request: &SetEntries, size: u32) -> Result<KVVec<RawEntry>> {
    let count = request.count(size)? as usize;
    let pointer = UserPtr::from_addr(usize::try_from(request.0.entries).map_err(|_| EFAULT)?);
    let mut reader = UserSlice::new(pointer, count * size_of::<RawEntry>()).reader();
    let mut entries = KVVec::with_capacity(count, GFP_KERNEL)?;

    for _ in 0..count {
        entries.push(reader.read()?, GFP_KERNEL)?;
    }

    Ok(entries)
}
