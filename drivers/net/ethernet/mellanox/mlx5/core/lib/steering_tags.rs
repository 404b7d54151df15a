// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB

//! The PCIe steering tags (ST) that a device puts on its requests.
//!
//! An mkey does not hold a tag but an index. It is that of an entry of the ST table in the device's
//! TPH capability, which its driver fills. Whoever needs a tag gets the index of an entry that
//! holds it; users of the same tag share one. A device without a table is in *direct mode*: there
//! the index is the tag, and nothing is counted.
//!
//! C header: `drivers/net/ethernet/mellanox/mlx5/core/lib/steering_tags.h`

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

mod st_table;

use st_table::Table;

/// How an index leads to a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It is the tag.
    Direct,
    /// It is that of an entry of the ST table in the TPH capability, which has this number of them.
    Table(u16),
}

impl Mode {
    /// Decodes an ST Table Location field (`PCI_TPH_CAP_LOC_MASK`, in its place).
    ///
    /// `entries` is the size of a table in the TPH capability, zero if it is elsewhere. A table
    /// needs an entry besides entry 0.
    fn from_field(field: u32, entries: u16) -> Option<Self> {
        match (field, entries) {
            (bindings::PCI_TPH_LOC_NONE, _) => Some(Self::Direct),
            (_, 0 | 1) => None,
            (_, entries) => Some(Self::Table(entries)),
        }
    }
}

/// A PCI function that is enabled to emit requests with TPH, until this is dropped.
///
/// # Invariants
///
/// `pdev` is valid, and its TPH was enabled for this instance.
struct Requester {
    pdev: NonNull<bindings::pci_dev>,
}

impl Requester {
    /// # Safety
    ///
    /// - `pdev` is valid for as long as the returned instance.
    /// - Nobody else enables or disables its TPH meanwhile.
    unsafe fn enable(pdev: NonNull<bindings::pci_dev>) -> Result<Self> {
        // SAFETY: By the safety requirements.
        to_result(unsafe {
            bindings::pcie_enable_tph(pdev.as_ptr(), bindings::PCI_TPH_ST_DS_MODE as c_int)
        })?;

        // INVARIANT: It is valid by the safety requirements, and was just enabled.
        Ok(Self { pdev })
    }

    /// Asks the firmware for the tag of a CPU.
    fn cpu_tag(&self, memory: bindings::tph_mem_type, cpu: c_uint) -> Result<u16> {
        let mut tag = 0;

        // SAFETY:
        // - By the type invariant `self.pdev` is valid.
        // - `tag` is valid for writes.
        to_result(unsafe {
            bindings::pcie_tph_get_cpu_st(self.pdev.as_ptr(), memory, cpu, &mut tag)
        })?;

        Ok(tag)
    }

    /// Writes `tag` to an entry of the ST table.
    fn write(&self, index: u16, tag: u16) -> Result {
        // SAFETY: By the type invariant `self.pdev` is valid.
        to_result(unsafe { bindings::pcie_tph_set_st_entry(self.pdev.as_ptr(), index.into(), tag) })
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self.pdev` is valid.
        unsafe { bindings::pcie_disable_tph(self.pdev.as_ptr()) };
    }
}

/// The tags of a device that are in use, in each [`Mode`].
enum Tags {
    Direct,
    /// The lock also serializes the writes to the device's table. It comes after the reservation
    /// lock of a dma-buf.
    Table(Pin<KBox<Mutex<Table>>>),
}

impl Tags {
    fn new(mode: Mode) -> Result<Self> {
        Ok(match mode {
            Mode::Direct => Self::Direct,
            Mode::Table(entries) => Self::Table(KBox::pin_init(
                new_mutex!(Table::new(entries)?, "mlx5_st"),
                GFP_KERNEL,
            )?),
        })
    }

    fn alloc(&self, tag: u16, write: impl FnOnce(u16, u16) -> Result) -> Result<u16> {
        match self {
            Self::Direct => Ok(tag),
            Self::Table(table) => table.lock().alloc(tag, write),
        }
    }

    fn get(&self, index: u16) -> Result {
        match self {
            Self::Direct => Ok(()),
            Self::Table(table) => table.lock().get(index),
        }
    }

    fn put(&self, index: u16) -> Result {
        match self {
            Self::Direct => Ok(()),
            Self::Table(table) => table.lock().put(index),
        }
    }

    fn retag(&self, index: u16, tag: u16, write: impl FnOnce(u16, u16) -> Result) -> Result {
        match self {
            Self::Direct if index == tag => Ok(()),
            Self::Direct => Err(EBUSY),
            Self::Table(table) => table.lock().retag(index, tag, write),
        }
    }

    fn is_unused(&self) -> bool {
        match self {
            Self::Direct => true,
            Self::Table(table) => table.lock().is_unused(),
        }
    }
}

/// The steering tags of a device; `struct mlx5_st` in C.
struct SteeringTags {
    requester: Requester,
    tags: Tags,
}

impl SteeringTags {
    /// Enables TPH of `pdev`, if it can do what an mkey needs.
    ///
    /// # Safety
    ///
    /// As [`Requester::enable`].
    unsafe fn new(pdev: NonNull<bindings::pci_dev>) -> Result<KBox<Self>> {
        // SAFETY: By the safety requirements.
        if unsafe { (*pdev.as_ptr()).tph_cap } == 0 {
            return Err(EOPNOTSUPP);
        }

        // SAFETY: By the safety requirements; it has the capability.
        let field = unsafe { bindings::pcie_tph_get_st_table_loc(pdev.as_ptr()) };

        // SAFETY: As above.
        let entries = unsafe { bindings::pcie_tph_get_st_table_size(pdev.as_ptr()) };

        let tags = Tags::new(Mode::from_field(field, entries).ok_or(EOPNOTSUPP)?)?;

        // SAFETY: By the safety requirements.
        let requester = unsafe { Requester::enable(pdev) }?;

        Ok(KBox::new(Self { requester, tags }, GFP_KERNEL)?)
    }

    /// # Safety
    ///
    /// `st` is NULL, or was created by [`mlx5_steering_tags_create`] and is not destroyed before
    /// `'a` ends.
    unsafe fn borrow<'a>(st: *mut bindings::mlx5_st) -> Result<&'a Self> {
        // SAFETY: By the safety requirements; what changes is behind a lock.
        unsafe { st.cast::<Self>().as_ref() }.ok_or(EOPNOTSUPP)
    }

    fn alloc(&self, tag: u16) -> Result<u16> {
        self.tags
            .alloc(tag, |index, tag| self.requester.write(index, tag))
    }

    fn alloc_cpu(&self, memory: bindings::tph_mem_type, cpu: c_uint) -> Result<u16> {
        self.alloc(self.requester.cpu_tag(memory, cpu)?)
    }

    fn retag(&self, index: u16, tag: u16) -> Result {
        self.tags
            .retag(index, tag, |index, tag| self.requester.write(index, tag))
    }
}

/// Creates the steering tags of `pdev`; NULL if it has none.
///
/// # Safety
///
/// - `pdev` is valid until [`mlx5_steering_tags_destroy`].
/// - Nobody else enables or disables its TPH until then.
#[export]
unsafe extern "C" fn mlx5_steering_tags_create(
    pdev: *mut bindings::pci_dev,
) -> *mut bindings::mlx5_st {
    let Some(pdev) = NonNull::new(pdev) else {
        return core::ptr::null_mut();
    };

    // SAFETY: By the safety requirements of this function.
    match unsafe { SteeringTags::new(pdev) } {
        Ok(st) => KBox::into_raw(st).cast(),
        Err(_) => core::ptr::null_mut(),
    }
}

/// Destroys the steering tags of a device, and returns whether nobody used them any more.
///
/// # Safety
///
/// `st` was created by [`mlx5_steering_tags_create`], and nobody uses it during or after this call.
#[export]
unsafe extern "C" fn mlx5_steering_tags_destroy(st: *mut bindings::mlx5_st) -> bool {
    // SAFETY: By the safety requirements, as `create` made it from such a box.
    let st = unsafe { KBox::<SteeringTags>::from_raw(st.cast()) };

    st.tags.is_unused()
}

/// Gets an index for `tag`.
///
/// # Safety
///
/// - `st` is NULL, or was created by [`mlx5_steering_tags_create`] and is not destroyed during this
///   call.
/// - `st_index` is valid for writes.
#[export]
unsafe extern "C" fn mlx5_steering_tags_alloc(
    st: *mut bindings::mlx5_st,
    tag: u16,
    st_index: *mut u16,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        let index = unsafe { SteeringTags::borrow(st) }?.alloc(tag)?;

        // SAFETY: By the safety requirements of this function.
        unsafe { st_index.write(index) };

        Ok(0)
    })
}

/// Gets an index for the tag of a CPU.
///
/// # Safety
///
/// As [`mlx5_steering_tags_alloc`].
#[export]
unsafe extern "C" fn mlx5_steering_tags_alloc_cpu(
    st: *mut bindings::mlx5_st,
    mem_type: bindings::tph_mem_type,
    cpu_uid: c_uint,
    st_index: *mut u16,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        let index = unsafe { SteeringTags::borrow(st) }?.alloc_cpu(mem_type, cpu_uid)?;

        // SAFETY: By the safety requirements of this function.
        unsafe { st_index.write(index) };

        Ok(0)
    })
}

/// Takes one more reference to an index.
///
/// # Safety
///
/// `st` is NULL, or was created by [`mlx5_steering_tags_create`] and is not destroyed during this
/// call.
#[export]
unsafe extern "C" fn mlx5_steering_tags_get(st: *mut bindings::mlx5_st, st_index: u16) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        unsafe { SteeringTags::borrow(st) }?.tags.get(st_index)?;

        Ok(0)
    })
}

/// Drops a reference to an index.
///
/// # Safety
///
/// As [`mlx5_steering_tags_get`].
#[export]
unsafe extern "C" fn mlx5_steering_tags_put(st: *mut bindings::mlx5_st, st_index: u16) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        unsafe { SteeringTags::borrow(st) }?.tags.put(st_index)?;

        Ok(0)
    })
}

/// Makes an index mean `tag`, if the caller's reference to it is the only one.
///
/// # Safety
///
/// As [`mlx5_steering_tags_get`].
#[export]
unsafe extern "C" fn mlx5_steering_tags_retag(
    st: *mut bindings::mlx5_st,
    st_index: u16,
    tag: u16,
) -> c_int {
    from_result(|| {
        // SAFETY: By the safety requirements of this function.
        unsafe { SteeringTags::borrow(st) }?.retag(st_index, tag)?;

        Ok(0)
    })
}

#[cfg(CONFIG_MLX5_DMABUF_TPH_KUNIT_TEST)]
#[kunit_tests(rust_mlx5_st)]
mod tests {
    use super::*;
    use core::ptr::null_mut;

    const SIZES: [u16; 3] = [2, 64, 2048];

    /// A write to the device's table that succeeds.
    fn written(_index: u16, _tag: u16) -> Result {
        Ok(())
    }

    /// One that fails, or must not happen.
    fn refused(_index: u16, _tag: u16) -> Result {
        Err(EIO)
    }

    #[test]
    fn location_decides_the_mode() {
        assert_eq!(Mode::from_field(0, 0), Some(Mode::Direct));
        assert_eq!(Mode::from_field(0x200, 1), None);
        assert_eq!(Mode::from_field(0x200, 2), Some(Mode::Table(2)));
        assert_eq!(Mode::from_field(0x200, 64), Some(Mode::Table(64)));
        // In the MSI-X table, and the reserved encoding.
        assert_eq!(Mode::from_field(0x400, 0), None);
        assert_eq!(Mode::from_field(0x600, 0), None);
    }

    #[test]
    fn device_without_tags_supports_nothing() {
        let mut index = 0x5a5a;
        let unsupported = EOPNOTSUPP.to_errno();

        // SAFETY: `index` is valid for writes.
        let ret = unsafe { mlx5_steering_tags_alloc(null_mut(), 1, &mut index) };
        assert_eq!(ret, unsupported);

        // SAFETY: `index` is valid for writes.
        let ret = unsafe { mlx5_steering_tags_alloc_cpu(null_mut(), 0, 0, &mut index) };
        assert_eq!(ret, unsupported);
        assert_eq!(index, 0x5a5a);

        // SAFETY: NULL is allowed.
        let ret = unsafe { mlx5_steering_tags_get(null_mut(), 1) };
        assert_eq!(ret, unsupported);

        // SAFETY: NULL is allowed.
        let ret = unsafe { mlx5_steering_tags_put(null_mut(), 1) };
        assert_eq!(ret, unsupported);

        // SAFETY: NULL is allowed.
        let ret = unsafe { mlx5_steering_tags_retag(null_mut(), 1, 1) };
        assert_eq!(ret, unsupported);
    }

    #[test]
    fn index_is_the_tag_in_direct_mode() -> Result {
        let tags = Tags::new(Mode::Direct)?;

        for tag in [0, 1, 0xff, 0x1234, 0xffff] {
            assert_eq!(tags.alloc(tag, refused), Ok(tag));
            assert_eq!(tags.get(tag), Ok(()));
            assert_eq!(tags.put(tag), Ok(()));
        }
        assert!(tags.is_unused());
        Ok(())
    }

    #[test]
    fn tag_cannot_change_in_direct_mode() -> Result {
        let tags = Tags::new(Mode::Direct)?;

        assert_eq!(tags.retag(0x34, 0x34, refused), Ok(()));
        assert_eq!(tags.retag(0x34, 0x35, written), Err(EBUSY));
        assert_eq!(tags.retag(0x34, 0x1234, written), Err(EBUSY));
        assert_eq!(tags.retag(0, 1, written), Err(EBUSY));
        Ok(())
    }

    #[test]
    fn table_counts_users() -> Result {
        let tags = Tags::new(Mode::Table(2))?;

        assert_eq!(tags.alloc(0xf0, written), Ok(1));
        assert!(!tags.is_unused());
        assert_eq!(tags.get(1), Ok(()));
        assert_eq!(tags.retag(1, 0xf1, written), Err(EBUSY));
        assert_eq!(tags.put(1), Ok(()));
        assert_eq!(tags.retag(1, 0xf1, written), Ok(()));
        assert_eq!(tags.put(1), Ok(()));
        assert!(tags.is_unused());
        Ok(())
    }

    #[test]
    fn table_needs_an_entry_besides_entry_zero() {
        assert_eq!(Table::new(0).err(), Some(EINVAL));
        assert_eq!(Table::new(1).err(), Some(EINVAL));
    }

    #[test]
    fn users_of_a_tag_share_its_entry() -> Result {
        for size in SIZES {
            let mut table = Table::new(size)?;
            let index = table.alloc(0xf0, written)?;

            assert_eq!(table.alloc(0xf0, refused), Ok(index));
            assert_eq!(table.get(index), Ok(()));
            for _ in 0..3 {
                assert!(!table.is_unused());
                assert_eq!(table.put(index), Ok(()));
            }
            assert!(table.is_unused());
            assert_eq!(table.put(index), Err(EINVAL));
            assert_eq!(table.get(index), Err(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn entry_is_written_for_a_new_tag() -> Result {
        let mut table = Table::new(64)?;
        let mut entry = None;

        let index = table.alloc(0xbef0, |index, tag| {
            entry = Some((index, tag));
            Ok(())
        })?;
        assert_eq!(entry, Some((index, 0xbef0)));
        Ok(())
    }

    #[test]
    fn every_entry_but_the_first_is_used() -> Result {
        for size in SIZES {
            let mut table = Table::new(size)?;
            let mut seen = KVec::from_elem(false, size.into(), GFP_KERNEL)?;

            for tag in 0..size - 1 {
                let index = usize::from(table.alloc(tag, written)?);
                assert_eq!(seen.get(index), Some(&false));
                seen[index] = true;
            }
            assert_eq!(seen.iter().filter(|&&seen| !seen).count(), 1);
            assert!(!seen[0]);
        }
        Ok(())
    }

    #[test]
    fn full_table_is_busy_but_shares() -> Result {
        for size in SIZES {
            let mut table = Table::new(size)?;
            let mut last = 0;

            for tag in 0..size - 1 {
                last = table.alloc(tag, written)?;
            }
            assert_eq!(table.alloc(0xffff, written), Err(EBUSY));
            assert_eq!(table.alloc(size - 2, refused), Ok(last));
            table.put(last)?;
            assert_eq!(table.alloc(0xffff, written), Err(EBUSY));
            table.put(last)?;
            assert_eq!(table.alloc(0xffff, written), Ok(last));
            assert_eq!(table.alloc(size - 2, written), Err(EBUSY));
        }
        Ok(())
    }

    #[test]
    fn unknown_index_is_invalid() -> Result {
        let mut table = Table::new(64)?;
        table.alloc(0xf0, written)?;

        for index in [0, 2, 63, 64, 0xffff] {
            assert_eq!(table.get(index), Err(EINVAL));
            assert_eq!(table.put(index), Err(EINVAL));
            assert_eq!(table.retag(index, 1, written), Err(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn failed_write_leaves_nothing_behind() -> Result {
        let mut table = Table::new(2)?;

        assert_eq!(table.alloc(0xf0, refused), Err(EIO));
        assert!(table.is_unused());
        assert_eq!(table.alloc(0xf0, refused), Err(EIO));
        assert_eq!(table.alloc(0xf1, written), Ok(1));
        Ok(())
    }

    #[test]
    fn freed_entries_are_used_again() -> Result {
        for size in SIZES {
            let mut table = Table::new(size)?;

            for round in 0..3 {
                for tag in 0..size - 1 {
                    table.alloc(round * 0x1000 + tag, written)?;
                }
                for index in 1..size {
                    table.put(index)?;
                }
                assert!(table.is_unused());
            }
        }
        Ok(())
    }

    #[test]
    fn freed_tag_is_written_again() -> Result {
        let mut table = Table::new(64)?;

        let index = table.alloc(0xf0, written)?;
        table.put(index)?;
        assert_eq!(table.alloc(0xf0, refused), Err(EIO));
        Ok(())
    }

    #[test]
    fn only_user_may_retag() -> Result {
        let mut table = Table::new(64)?;
        let mut entry = None;

        let index = table.alloc(0xf0, written)?;
        table.retag(index, 0xf1, |index, tag| {
            entry = Some((index, tag));
            Ok(())
        })?;
        assert_eq!(entry, Some((index, 0xf1)));
        // The new tag is found, the old one is not.
        assert_eq!(table.alloc(0xf1, refused), Ok(index));
        assert_eq!(table.alloc(0xf0, refused), Err(EIO));
        Ok(())
    }

    #[test]
    fn retagged_entry_is_freed_with_its_new_tag() -> Result {
        let mut table = Table::new(64)?;

        let index = table.alloc(0xf0, written)?;
        table.retag(index, 0xf1, written)?;
        table.put(index)?;
        assert!(table.is_unused());
        assert_eq!(table.alloc(0xf1, refused), Err(EIO));
        assert_eq!(table.alloc(0xf0, refused), Err(EIO));
        Ok(())
    }

    #[test]
    fn shared_entry_keeps_its_tag() -> Result {
        let mut table = Table::new(64)?;

        let index = table.alloc(0xf0, written)?;
        table.get(index)?;
        assert_eq!(table.retag(index, 0xf1, written), Err(EBUSY));
        assert_eq!(table.retag(index, 0xf0, refused), Ok(()));
        assert_eq!(table.alloc(0xf0, refused), Ok(index));
        assert_eq!(table.alloc(0xf1, refused), Err(EIO));
        Ok(())
    }

    #[test]
    fn failed_retag_changes_nothing() -> Result {
        let mut table = Table::new(64)?;

        let index = table.alloc(0xf0, written)?;
        assert_eq!(table.retag(index, 0xf1, refused), Err(EIO));
        assert_eq!(table.alloc(0xf0, refused), Ok(index));
        assert_eq!(table.alloc(0xf1, refused), Err(EIO));
        Ok(())
    }

    #[test]
    fn retag_to_the_tag_of_another_entry() -> Result {
        let mut table = Table::new(64)?;

        let other = table.alloc(0xf1, written)?;
        let index = table.alloc(0xf0, written)?;
        assert_eq!(table.retag(index, 0xf1, refused), Err(EIO));
        assert_eq!(table.alloc(0xf1, refused), Ok(other));
        table.put(other)?;

        // Both hold it now. The other one is found, also when this one is gone.
        table.retag(index, 0xf1, written)?;
        assert_eq!(table.alloc(0xf1, refused), Ok(other));
        table.put(index)?;
        assert_eq!(table.alloc(0xf1, refused), Ok(other));
        for _ in 0..3 {
            table.put(other)?;
        }
        assert!(table.is_unused());
        Ok(())
    }

    #[test]
    fn entry_that_is_not_found_lives_on() -> Result {
        let mut table = Table::new(64)?;

        let other = table.alloc(0xf1, written)?;
        let index = table.alloc(0xf0, written)?;
        table.retag(index, 0xf1, written)?;
        table.put(other)?;

        // A new user gets an entry of its own, which this one does not take away.
        let third = table.alloc(0xf1, written)?;
        assert!(third != index);
        table.retag(index, 0xf2, written)?;
        assert_eq!(table.alloc(0xf1, refused), Ok(third));
        assert_eq!(table.alloc(0xf2, refused), Ok(index));
        Ok(())
    }

    #[test]
    fn every_number_is_a_tag() -> Result {
        let mut table = Table::new(64)?;

        for tag in [0, 0xff, 0x100, 0x1234, 0xffff] {
            let index = table.alloc(tag, written)?;
            assert_eq!(table.alloc(tag, refused), Ok(index));
        }
        Ok(())
    }
}
