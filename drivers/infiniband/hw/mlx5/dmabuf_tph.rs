// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB

//! PCIe steering tags for memory regions (MRs) that are dma-bufs of other devices.
//!
//! The exporter of a dma-buf knows which steering tag and processing hint the requests to it should
//! carry. An MR gets its answer at registration. A registration does not fail for want of a hint.
//!
//! The hint of an MR is in its mkey: the processing hint itself, and the index of an entry of the
//! device's ST table that holds the tag. In direct mode the index is the tag. Both are set when the
//! mkey is created and never change after that.
//!
//! The answer is valid until the exporter invalidates the mapping. Before the translations of a new
//! one are loaded, the exporter is asked again. If it has another tag, the entry of the table is
//! rewritten, which is possible if the MR is its only user. Whatever else has changed, the mkey
//! cannot express it: the new mapping is refused, so that the MR never emits a hint that does not
//! hold any more. An MR without a hint stays without one; that does not go stale.
//!
//! An MR has one reference to its index, from before its mkey is chosen until the mkey is fenced.
//! It is not the mkey's: an idle mkey in a pool may have an index that means nothing any more, and
//! the next MR that gets it has a reference to that index again.
//!
//! C header: `drivers/infiniband/hw/mlx5/dmabuf_tph.h`

use kernel::{
    bindings,
    dev_dbg,
    dma_buf::DmaBuf,
    error::{
        from_result,
        to_result, //
    },
    pci::{
        self,
        tph::{
            Hint,
            Namespace,
            ProcessingHint, //
        },
    },
    prelude::*, //
};

/// The index of an mkey without a tag. In direct mode it is also that of tag zero, which is the
/// same to the completer.
const NO_INDEX: u16 = 0;

/// The steering tags of a device.
trait SteeringTags {
    /// Returns an index for `tag`, with a reference to it.
    fn alloc(&self, tag: u16) -> Result<u16>;

    /// Takes one more reference to `index`.
    fn get(&self, index: u16) -> Result;

    /// Drops a reference to `index`.
    fn put(&self, index: u16);

    /// Makes `index` mean `tag`, if that is what it means already or there is only one reference.
    fn retag(&self, index: u16, tag: u16) -> Result;
}

/// The device that emits the requests.
///
/// # Invariants
///
/// It is valid.
struct Mdev(*mut bindings::mlx5_core_dev);

impl SteeringTags for Mdev {
    fn alloc(&self, tag: u16) -> Result<u16> {
        let mut index = NO_INDEX;

        // SAFETY:
        // - By the type invariant the device is valid.
        // - `index` is valid for writes.
        to_result(unsafe { bindings::mlx5_st_alloc_index_by_tag(self.0, tag, &mut index) })?;

        Ok(index)
    }

    fn get(&self, index: u16) -> Result {
        // SAFETY: By the type invariant the device is valid.
        to_result(unsafe { bindings::mlx5_st_get_index(self.0, index) })
    }

    fn put(&self, index: u16) {
        // SAFETY: By the type invariant the device is valid.
        let _ = unsafe { bindings::mlx5_st_dealloc_index(self.0, index) };
    }

    fn retag(&self, index: u16, tag: u16) -> Result {
        // SAFETY: By the type invariant the device is valid.
        to_result(unsafe { bindings::mlx5_st_retag_index(self.0, index, tag) })
    }
}

/// The hint in an mkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MkeyHint {
    st_index: u16,
    ph: ProcessingHint,
}

impl MkeyHint {
    /// Returns how an mkey expresses `hint`, with a reference to the index.
    ///
    /// # Errors
    ///
    /// - [`ERANGE`] if the index does not fit into the 8 bits that an mkey has for it: an Extended
    ///   tag in direct mode, or an entry of a large table.
    /// - What [`SteeringTags::alloc`] returns.
    fn new(hint: Hint, tags: &impl SteeringTags) -> Result<Self> {
        let st_index = tags.alloc(hint.tag.value())?;

        if u8::try_from(st_index).is_err() {
            put(st_index, tags);
            return Err(ERANGE);
        }

        Ok(Self {
            st_index,
            ph: hint.ph,
        })
    }

    /// Makes the mkey express `hint`, if it can. No translation may be loaded.
    ///
    /// # Errors
    ///
    /// [`ESTALE`] if it cannot.
    fn renew(self, hint: Option<Hint>, tags: &impl SteeringTags) -> Result {
        let hint = hint.filter(|hint| hint.ph == self.ph).ok_or(ESTALE)?;

        tags.retag(self.st_index, hint.tag.value())
            .map_err(|_| ESTALE)
    }
}

fn get(st_index: u16, tags: &impl SteeringTags) -> Result {
    if st_index == NO_INDEX {
        return Ok(());
    }

    tags.get(st_index)
}

fn put(st_index: u16, tags: &impl SteeringTags) {
    if st_index != NO_INDEX {
        tags.put(st_index);
    }
}

/// Asks the exporter of `dmabuf` for the hint of a new MR.
fn ask(pdev: &pci::Device, dmabuf: &DmaBuf, namespace: Namespace) -> Result<Option<Hint>> {
    let _resv = dmabuf.lock();

    // SAFETY: The reservation lock is held.
    unsafe { dmabuf.tph_hint(pdev.as_ref(), namespace) }
}

/// Chooses the hint of a new MR, with a reference to its index. If there is none, `st_index` and
/// `ph` are left alone.
///
/// # Safety
///
/// - `mdev` is valid, and `pdev` is its PCI function.
/// - `dmabuf` is valid. Its reservation lock is not held.
/// - `st_index` and `ph` are valid for writes.
#[export]
unsafe extern "C" fn mlx5_ib_dmabuf_tph_ask(
    mdev: *mut bindings::mlx5_core_dev,
    pdev: *mut bindings::pci_dev,
    dmabuf: *mut bindings::dma_buf,
    st_index: *mut u16,
    ph: *mut u8,
) {
    // SAFETY: By the safety requirements `pdev` is valid during this call; `pci::Device` is a
    // transparent wrapper of it.
    let pdev = unsafe { &*pdev.cast::<pci::Device>() };

    // SAFETY: As above, for `dmabuf` and `DmaBuf`.
    let dmabuf = unsafe { &*dmabuf.cast::<DmaBuf>() };

    let Some(namespace) = Namespace::of(pdev) else {
        return;
    };

    // INVARIANT: It is valid by the safety requirements.
    let tags = Mdev(mdev);

    let hint = match ask(pdev, dmabuf, namespace) {
        Ok(Some(hint)) => MkeyHint::new(hint, &tags),
        Ok(None) => return,
        Err(e) => Err(e),
    };

    match hint {
        Ok(hint) => {
            // SAFETY: By the safety requirements of this function.
            unsafe { st_index.write(hint.st_index) };

            // SAFETY: By the safety requirements of this function.
            unsafe { ph.write(hint.ph as u8) };
        }
        Err(e) => dev_dbg!(pdev, "no steering tag for a dma-buf: {:?}\n", e),
    }
}

/// Asks again for the hint of an MR that has one, for a new mapping.
///
/// Returns `-ESTALE` if its mkey cannot express it.
///
/// # Safety
///
/// - `mdev` is valid, and `pdev` is its PCI function.
/// - `dmabuf` is valid. Its reservation lock is held.
/// - The caller has a reference to `st_index`, unless it is zero.
#[export]
unsafe extern "C" fn mlx5_ib_dmabuf_tph_renew(
    mdev: *mut bindings::mlx5_core_dev,
    pdev: *mut bindings::pci_dev,
    dmabuf: *mut bindings::dma_buf,
    st_index: u16,
    ph: u8,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements `pdev` is valid during this call; `pci::Device` is a
        // transparent wrapper of it.
        let pdev = unsafe { &*pdev.cast::<pci::Device>() };

        // SAFETY: As above, for `dmabuf` and `DmaBuf`.
        let dmabuf = unsafe { &*dmabuf.cast::<DmaBuf>() };

        // The device could not be enabled again after a write to its table: no hint of any mkey is
        // emitted any more.
        let Some(namespace) = Namespace::of(pdev) else {
            return Ok(0);
        };

        let carried = MkeyHint {
            st_index,
            ph: ProcessingHint::try_from(ph)?,
        };

        // SAFETY: By the safety requirements of this function the reservation lock is held.
        let hint = unsafe { dmabuf.tph_hint(pdev.as_ref(), namespace) }.unwrap_or(None);

        // INVARIANT: The device is valid by the safety requirements.
        carried.renew(hint, &Mdev(mdev))?;

        Ok(0)
    })
}

/// Takes a reference to the index of an MR's mkey.
///
/// # Safety
///
/// `mdev` is valid.
#[export]
unsafe extern "C" fn mlx5_ib_st_get(mdev: *mut bindings::mlx5_core_dev, st_index: u16) -> c_int {
    from_result(|| {
        // INVARIANT: It is valid by the safety requirements.
        get(st_index, &Mdev(mdev))?;

        Ok(0)
    })
}

/// Drops the reference to the index of an MR's mkey.
///
/// # Safety
///
/// `mdev` is valid, and the caller has the reference.
#[export]
unsafe extern "C" fn mlx5_ib_st_put(mdev: *mut bindings::mlx5_core_dev, st_index: u16) {
    // INVARIANT: It is valid by the safety requirements.
    put(st_index, &Mdev(mdev));
}

#[cfg(CONFIG_MLX5_DMABUF_TPH_KUNIT_TEST)]
#[kunit_tests(rust_mlx5_ib_tph)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use kernel::pci::tph::SteeringTag;

    /// A device with one entry, `index`, or in direct mode.
    struct Device {
        index: Option<u16>,
        tag: Cell<u16>,
        references: Cell<i32>,
        retags: Cell<u32>,
    }

    impl Device {
        fn direct() -> Self {
            Self {
                index: None,
                tag: Cell::new(0),
                references: Cell::new(0),
                retags: Cell::new(0),
            }
        }

        fn with_entry(index: u16) -> Self {
            Self {
                index: Some(index),
                ..Self::direct()
            }
        }
    }

    impl SteeringTags for Device {
        fn alloc(&self, tag: u16) -> Result<u16> {
            self.references.set(self.references.get() + 1);
            self.tag.set(tag);
            Ok(self.index.unwrap_or(tag))
        }

        fn get(&self, index: u16) -> Result {
            if self.index.is_some_and(|own| own != index) {
                return Err(EINVAL);
            }
            self.references.set(self.references.get() + 1);
            Ok(())
        }

        fn put(&self, _index: u16) {
            self.references.set(self.references.get() - 1);
        }

        fn retag(&self, index: u16, tag: u16) -> Result {
            if self.index.map_or(index, |_| self.tag.get()) == tag {
                return Ok(());
            }
            if self.index != Some(index) || self.references.get() != 1 {
                return Err(EBUSY);
            }
            self.tag.set(tag);
            self.retags.set(self.retags.get() + 1);
            Ok(())
        }
    }

    fn hint(tag: SteeringTag) -> Hint {
        Hint {
            tag,
            ph: ProcessingHint::Target,
        }
    }

    const ST: SteeringTag = SteeringTag::St(0xf0);
    const EXT_ST: SteeringTag = SteeringTag::ExtSt(0x1234);

    #[test]
    fn mkey_has_the_index_of_the_tag() -> Result {
        let device = Device::with_entry(7);

        let mkey = MkeyHint::new(hint(EXT_ST), &device)?;
        assert_eq!(mkey.st_index, 7);
        assert_eq!(mkey.ph, ProcessingHint::Target);
        assert_eq!(device.tag.get(), 0x1234);
        assert_eq!(device.references.get(), 1);
        Ok(())
    }

    #[test]
    fn mkey_has_the_tag_in_direct_mode() -> Result {
        let device = Device::direct();

        assert_eq!(MkeyHint::new(hint(ST), &device)?.st_index, 0xf0);
        assert_eq!(
            MkeyHint::new(hint(SteeringTag::ExtSt(0xff)), &device)?.st_index,
            0xff
        );
        Ok(())
    }

    #[test]
    fn tag_that_does_not_fit_is_refused_in_direct_mode() {
        for tag in [0x100, 0x1234, 0xff00, 0xffff] {
            let device = Device::direct();
            let mkey = MkeyHint::new(hint(SteeringTag::ExtSt(tag)), &device);

            assert_eq!(mkey, Err(ERANGE));
            assert_eq!(device.references.get(), 0);
        }
    }

    #[test]
    fn tag_zero_is_index_zero_in_direct_mode() -> Result {
        let device = Device::direct();

        let mkey = MkeyHint::new(hint(SteeringTag::St(0)), &device)?;
        assert_eq!(mkey.st_index, NO_INDEX);
        assert_eq!(mkey.renew(Some(hint(SteeringTag::St(0))), &device), Ok(()));
        assert_eq!(mkey.renew(Some(hint(ST)), &device), Err(ESTALE));
        Ok(())
    }

    #[test]
    fn index_that_does_not_fit_is_refused() {
        for (index, fits) in [(0xff, true), (0x100, false), (0x7ff, false)] {
            let device = Device::with_entry(index);
            let mkey = MkeyHint::new(hint(ST), &device);

            assert_eq!(mkey.is_ok(), fits);
            assert_eq!(device.references.get(), i32::from(fits));
        }
    }

    #[test]
    fn same_hint_is_kept() -> Result {
        let table = Device::with_entry(1);
        let direct = Device::direct();

        let mkey = MkeyHint::new(hint(EXT_ST), &table)?;
        assert_eq!(mkey.renew(Some(hint(EXT_ST)), &table), Ok(()));
        assert_eq!(table.retags.get(), 0);
        let mkey = MkeyHint::new(hint(ST), &direct)?;
        assert_eq!(mkey.renew(Some(hint(ST)), &direct), Ok(()));
        Ok(())
    }

    #[test]
    fn same_hint_is_kept_by_those_who_share_it() -> Result {
        let device = Device::with_entry(1);

        let mkey = MkeyHint::new(hint(ST), &device)?;
        MkeyHint::new(hint(ST), &device)?;
        assert_eq!(mkey.renew(Some(hint(ST)), &device), Ok(()));
        Ok(())
    }

    #[test]
    fn another_tag_is_written_to_the_entry() -> Result {
        let device = Device::with_entry(1);

        let mkey = MkeyHint::new(hint(ST), &device)?;
        let renewed = mkey.renew(Some(hint(SteeringTag::St(0xf1))), &device);
        assert_eq!(renewed, Ok(()));
        assert_eq!(device.tag.get(), 0xf1);
        assert_eq!(device.retags.get(), 1);
        assert_eq!(device.references.get(), 1);
        Ok(())
    }

    #[test]
    fn another_tag_of_a_shared_entry_is_refused() -> Result {
        let device = Device::with_entry(1);

        let mkey = MkeyHint::new(hint(ST), &device)?;
        MkeyHint::new(hint(ST), &device)?;
        let renewed = mkey.renew(Some(hint(SteeringTag::St(0xf1))), &device);
        assert_eq!(renewed, Err(ESTALE));
        assert_eq!(device.tag.get(), 0xf0);
        Ok(())
    }

    #[test]
    fn another_tag_is_refused_in_direct_mode() -> Result {
        let device = Device::direct();

        let mkey = MkeyHint::new(hint(SteeringTag::ExtSt(0x34)), &device)?;
        assert_eq!(mkey.renew(Some(hint(EXT_ST)), &device), Err(ESTALE));
        Ok(())
    }

    #[test]
    fn another_processing_hint_is_refused() -> Result {
        let device = Device::with_entry(1);

        let mkey = MkeyHint::new(hint(ST), &device)?;
        for tag in [ST, SteeringTag::St(0xf1)] {
            let other = Hint {
                tag,
                ph: ProcessingHint::TargetPriority,
            };
            assert_eq!(mkey.renew(Some(other), &device), Err(ESTALE));
        }
        assert_eq!(device.tag.get(), 0xf0);
        Ok(())
    }

    #[test]
    fn no_hint_any_more_is_refused() -> Result {
        let device = Device::with_entry(1);

        let mkey = MkeyHint::new(hint(ST), &device)?;
        assert_eq!(mkey.renew(None, &device), Err(ESTALE));
        // It may come back.
        assert_eq!(mkey.renew(Some(hint(ST)), &device), Ok(()));
        Ok(())
    }

    #[test]
    fn index_zero_has_no_references() {
        let device = Device::with_entry(1);

        assert_eq!(get(NO_INDEX, &device), Ok(()));
        assert_eq!(device.references.get(), 0);
        put(NO_INDEX, &device);
        assert_eq!(device.references.get(), 0);
        assert_eq!(get(1, &device), Ok(()));
        assert_eq!(device.references.get(), 1);
        put(1, &device);
        assert_eq!(device.references.get(), 0);
    }

    #[test]
    fn reference_that_cannot_be_taken_is_an_error() {
        let device = Device::with_entry(1);

        assert_eq!(get(2, &device), Err(EINVAL));
    }
}
