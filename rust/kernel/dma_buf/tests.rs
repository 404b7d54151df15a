// SPDX-License-Identifier: GPL-2.0

//! KUnit tests, with exporters and importers that have no hardware behind them.

use super::{
    Attachment,
    DmaBuf,
    Exporter,
    Ops, //
};
use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    error::{
        from_err_ptr,
        to_result, //
    },
    faux,
    pci::tph::{
        Hint,
        Namespace,
        ProcessingHint,
        SteeringTag, //
    },
    prelude::*,
    scatterlist::SGTable,
    sync::{
        aref::ARef,
        Arc,
        Completion,
        Mutex, //
    },
    types::Opaque, //
};
use core::ops::Deref;

const SIZE: usize = 4096;
const ADDRESS: u64 = 0x1234_5000;

/// A table with one entry, which nobody mapped.
struct Table(KBox<Opaque<bindings::sg_table>>);

impl Table {
    fn new() -> Result<Self> {
        let table = KBox::new(Opaque::zeroed(), GFP_KERNEL)?;

        // SAFETY: `table` is valid for writes.
        to_result(unsafe { bindings::sg_alloc_table(table.get(), 1, GFP_KERNEL.as_raw()) })?;

        // SAFETY: The table was just allocated, with one entry.
        let entry = unsafe { &mut *(*table.get()).sgl };
        entry.dma_address = ADDRESS;
        entry.dma_length = SIZE as u32;

        Ok(Self(table))
    }
}

impl Deref for Table {
    type Target = SGTable;

    fn deref(&self) -> &SGTable {
        // SAFETY: The table is valid, and nobody modifies it.
        unsafe { SGTable::from_raw(self.0.get()) }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: `new()` allocated it.
        unsafe { bindings::sg_free_table(self.0.get()) };
    }
}

/// An exporter that knows no hints and cannot take its memory away.
struct Plain;

static PLAIN_OPS: Ops<Plain> = Ops::new();

#[vtable]
impl Exporter for Plain {
    type Table = Table;

    fn ops() -> &'static Ops<Self> {
        &PLAIN_OPS
    }

    fn map(&self, _dev: &Device<Bound>, _dir: DataDirection) -> Result<Table> {
        Table::new()
    }
}

/// An exporter that answers the same to whoever has the right name, and can take its memory away.
struct Hinted {
    requester: &'static CStr,
    answer: Result<Option<Hint>>,
}

static HINTED_OPS: Ops<Hinted> = Ops::new();

#[vtable]
impl Exporter for Hinted {
    const REVOCABLE: bool = true;

    type Table = Table;

    fn ops() -> &'static Ops<Self> {
        &HINTED_OPS
    }

    fn map(&self, _dev: &Device<Bound>, _dir: DataDirection) -> Result<Table> {
        Table::new()
    }

    fn tph_hint(&self, requester: &Device, _namespace: Namespace) -> Result<Option<Hint>> {
        if requester.name() != self.requester {
            return Ok(None);
        }

        self.answer
    }
}

/// A device without hardware.
struct Faux(faux::Registration);

impl Faux {
    fn new(name: &CStr) -> Result<Self> {
        faux::Registration::new(name, None).map(Self)
    }
}

impl Deref for Faux {
    type Target = Device<Bound>;

    fn deref(&self) -> &Device<Bound> {
        let dev: &faux::Device<Bound> = self.0.as_ref();

        dev.as_ref()
    }
}

const REQUESTER: &CStr = c"rust_dma_buf_requester";

const HINT: Hint = Hint {
    tag: SteeringTag::St(0xf0),
    ph: ProcessingHint::Target,
};

fn requester() -> Result<Faux> {
    Faux::new(REQUESTER)
}

fn hinted(answer: Result<Option<Hint>>) -> Result<ARef<DmaBuf>> {
    let exporter = Hinted {
        requester: REQUESTER,
        answer,
    };

    DmaBuf::export(exporter, SIZE)
}

/// What the arguments for the answer hold before the call.
const UNTOUCHED: (u16, u8) = (0x5a5a, 0xa5);

/// Calls `dma_buf_get_tph()`, and returns what the arguments for the answer hold then.
fn ask(dmabuf: &DmaBuf, requester: &Device<Bound>, namespace: Namespace) -> (Result, (u16, u8)) {
    let (mut tag, mut ph) = UNTOUCHED;

    // SAFETY: Everything is valid. (That the reservation is held is for lockdep to find.)
    let ret = to_result(unsafe {
        bindings::dma_buf_get_tph(
            dmabuf.as_raw(),
            requester.as_raw(),
            namespace.is_extended(),
            &mut tag,
            &mut ph,
        )
    });

    (ret, (tag, ph))
}

fn ask_locked(
    dmabuf: &DmaBuf,
    requester: &Device<Bound>,
    namespace: Namespace,
) -> (Result, (u16, u8)) {
    let _resv = dmabuf.lock();

    ask(dmabuf, requester, namespace)
}

/// An importer that keeps its mapping, as one in C may until it has been told to give it up.
struct Keeper {
    /// How often it was told; changes with the reservation held.
    told: KBox<Opaque<u32>>,
    dmabuf: ARef<DmaBuf>,
    attachment: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
}

/// # Safety
///
/// `attachment` is one of a [`Keeper`], and the reservation is held.
unsafe extern "C" fn count(attachment: *mut bindings::dma_buf_attachment) {
    // SAFETY: By the safety requirements, it is `Keeper::told`, which nobody else accesses.
    unsafe { *(*attachment).importer_priv.cast::<u32>() += 1 };
}

static KEEPER_OPS: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: true,
    invalidate_mappings: Some(count),
};

impl Keeper {
    fn new(dmabuf: ARef<DmaBuf>, dev: &Device<Bound>) -> Result<Self> {
        let told = KBox::new(Opaque::new(0), GFP_KERNEL)?;
        // SAFETY: The buffer and the device are valid, the operations are static.
        let attachment = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(
                dmabuf.as_raw(),
                dev.as_raw(),
                &KEEPER_OPS,
                told.get().cast(),
            )
        })?;

        let resv = dmabuf.lock();
        // SAFETY: The attachment is valid, and the reservation is held.
        let sgt = unsafe {
            bindings::dma_buf_map_attachment(
                attachment,
                bindings::dma_data_direction_DMA_FROM_DEVICE,
            )
        };
        drop(resv);

        from_err_ptr(sgt).map(|sgt| Self {
            told,
            dmabuf,
            attachment,
            sgt,
        })
    }
}

impl Keeper {
    fn told(&self) -> u32 {
        let _resv = self.dmabuf.lock();

        // SAFETY: It is valid, and the reservation is held.
        unsafe { *self.told.get() }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let resv = self.dmabuf.lock();
        // SAFETY: It was mapped in this direction by `new()`, and the reservation is held.
        unsafe {
            bindings::dma_buf_unmap_attachment(
                self.attachment,
                self.sgt,
                bindings::dma_data_direction_DMA_FROM_DEVICE,
            )
        };
        drop(resv);

        // SAFETY: It was attached by `new()`, and is not mapped any more.
        unsafe { bindings::dma_buf_detach(self.dmabuf.as_raw(), self.attachment) };
    }
}

/// A revocation that another thread waits for.
#[pin_data]
struct Revocation {
    #[pin]
    has_ended: Mutex<bool>,
    #[pin]
    ended: Completion,
}

impl Revocation {
    fn start(dmabuf: ARef<DmaBuf>) -> Result<Arc<Self>> {
        let revocation = Arc::pin_init(
            pin_init!(Self {
                has_ended <- crate::new_mutex!(false),
                ended <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let remote = revocation.clone();

        crate::workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            if let Some(exported) = dmabuf.exported_by::<Hinted>() {
                exported.revoke();
            }
            *remote.has_ended.lock() = true;
            remote.ended.complete_all();
        })?;

        Ok(revocation)
    }
}

#[macros::kunit_tests(rust_dma_buf)]
mod cases {
    use super::*;
    use crate::time::{
        delay::fsleep,
        Delta, //
    };

    #[test]
    fn exporter_without_hints_is_not_supported() -> Result {
        let dev = requester()?;
        let dmabuf = DmaBuf::export(Plain, SIZE)?;

        for namespace in [Namespace::St, Namespace::ExtSt] {
            let answer = ask_locked(&dmabuf, &dev, namespace);
            assert_eq!(answer, (Err(EOPNOTSUPP), UNTOUCHED));
        }
        Ok(())
    }

    #[test]
    fn hint_of_the_namespace_is_returned() -> Result {
        let dev = requester()?;
        let st = hinted(Ok(Some(HINT)))?;
        let ext_st = hinted(Ok(Some(Hint {
            tag: SteeringTag::ExtSt(0xbef0),
            ph: ProcessingHint::TargetPriority,
        })))?;

        let answer = ask_locked(&st, &dev, Namespace::St);
        assert_eq!(answer, (Ok(()), (0xf0, 2)));
        let answer = ask_locked(&ext_st, &dev, Namespace::ExtSt);
        assert_eq!(answer, (Ok(()), (0xbef0, 3)));
        Ok(())
    }

    #[test]
    fn hint_of_another_namespace_is_not() -> Result {
        let dev = requester()?;
        let st = hinted(Ok(Some(HINT)))?;
        let ext_st = hinted(Ok(Some(Hint {
            tag: SteeringTag::ExtSt(0x34),
            ..HINT
        })))?;

        let answer = ask_locked(&st, &dev, Namespace::ExtSt);
        assert_eq!(answer, (Err(EOPNOTSUPP), UNTOUCHED));
        let answer = ask_locked(&ext_st, &dev, Namespace::St);
        assert_eq!(answer, (Err(EOPNOTSUPP), UNTOUCHED));
        Ok(())
    }

    #[test]
    fn exporter_sees_the_requester() -> Result {
        let other = Faux::new(c"rust_dma_buf_other")?;
        let dmabuf = hinted(Ok(Some(HINT)))?;

        let answer = ask_locked(&dmabuf, &other, Namespace::St);
        assert_eq!(answer, (Err(EOPNOTSUPP), UNTOUCHED));
        Ok(())
    }

    #[test]
    fn error_of_the_exporter_is_returned() -> Result {
        let dev = requester()?;
        let dmabuf = hinted(Err(EIO))?;

        let answer = ask_locked(&dmabuf, &dev, Namespace::St);
        assert_eq!(answer, (Err(EIO), UNTOUCHED));
        Ok(())
    }

    #[test]
    fn lockdep_finds_who_asks_without_the_reservation() -> Result {
        let dev = requester()?;
        let dmabuf = hinted(Ok(Some(HINT)))?;

        // SAFETY: It has no requirements.
        let test = unsafe { bindings::kunit_get_current_test() };
        // SAFETY: `test` is running.
        let warnings = unsafe { bindings::kunit_start_suppress_warning(test) };
        let _ = ask_locked(&dmabuf, &dev, Namespace::St);
        // SAFETY: `warnings` was just started.
        let locked = unsafe { bindings::kunit_suppressed_warning_count(warnings) };
        let _ = ask(&dmabuf, &dev, Namespace::St);
        // SAFETY: As above.
        let unlocked = unsafe { bindings::kunit_suppressed_warning_count(warnings) };
        // SAFETY: Both are valid.
        unsafe { bindings::kunit_end_suppress_warning(test, warnings) };

        assert_eq!(locked, 0);
        assert_eq!(unlocked, i32::from(cfg!(CONFIG_LOCKDEP)));
        Ok(())
    }

    #[test]
    fn mapping_gives_address_and_hint() -> Result {
        let dev = requester()?;
        let dmabuf = hinted(Ok(Some(HINT)))?;
        let attachment = Attachment::new(&dev, dmabuf.clone())?;

        let resv = dmabuf.lock();
        let mapping = attachment.map(&dev, &resv, DataDirection::FromDevice)?;
        let mut addresses = mapping.sgt().iter().map(|entry| entry.dma_address());
        assert_eq!(addresses.next(), Some(ADDRESS));
        assert_eq!(addresses.next(), None);
        assert_eq!(mapping.tph_hint(Namespace::St)?.as_deref(), Some(&HINT));
        assert!(mapping.tph_hint(Namespace::ExtSt)?.is_none());
        Ok(())
    }

    #[test]
    fn mapping_needs_its_own_device_and_reservation() -> Result {
        let dev = requester()?;
        let other_dev = Faux::new(c"rust_dma_buf_other")?;
        let dmabuf = DmaBuf::export(Plain, SIZE)?;
        let other = DmaBuf::export(Plain, SIZE)?;
        let attachment = Attachment::new(&dev, dmabuf.clone())?;

        let resv = other.lock();
        let mapped = attachment.map(&dev, &resv, DataDirection::FromDevice);
        assert_eq!(mapped.err(), Some(EINVAL));
        drop(resv);
        let resv = dmabuf.lock();
        let mapped = attachment.map(&other_dev, &resv, DataDirection::FromDevice);
        assert_eq!(mapped.err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn exporters_tell_their_buffers_apart() -> Result {
        let plain = DmaBuf::export(Plain, SIZE)?;
        let hinted = hinted(Ok(None))?;

        assert!(plain.exported_by::<Plain>().is_some());
        assert!(plain.exported_by::<Hinted>().is_none());
        assert!(hinted.exported_by::<Hinted>().is_some());
        assert!(hinted.exported_by::<Plain>().is_none());
        Ok(())
    }

    #[test]
    fn revoked_buffer_is_out_of_reach() -> Result {
        let dev = requester()?;
        let dmabuf = hinted(Ok(Some(HINT)))?;
        let attachment = Attachment::new(&dev, dmabuf.clone())?;
        let exported = dmabuf.exported_by::<Hinted>().ok_or(EINVAL)?;

        exported.revoke();
        let resv = dmabuf.lock();
        let mapped = attachment.map(&dev, &resv, DataDirection::FromDevice);
        assert_eq!(mapped.err(), Some(ENODEV));
        drop(resv);
        let attached = Attachment::new(&dev, dmabuf.clone());
        assert_eq!(attached.err(), Some(ENODEV));
        exported.revoke();
        Ok(())
    }

    #[test]
    fn mapped_buffer_is_busy() -> Result {
        let dev = requester()?;
        let dmabuf = hinted(Ok(None))?;
        let exported = dmabuf.exported_by::<Hinted>().ok_or(EINVAL)?;

        drop(exported.lock_unmapped()?);
        let keeper = Keeper::new(dmabuf.clone(), &dev)?;
        assert_eq!(exported.lock_unmapped().err(), Some(EBUSY));
        drop(keeper);
        drop(exported.lock_unmapped()?);
        Ok(())
    }

    #[test]
    fn revocation_waits_for_what_is_mapped() -> Result {
        let dev = requester()?;
        let dmabuf = hinted(Ok(None))?;
        let keeper = Keeper::new(dmabuf.clone(), &dev)?;

        let revocation = Revocation::start(dmabuf.clone())?;
        fsleep(Delta::from_millis(50));
        assert!(!*revocation.has_ended.lock());
        assert_eq!(keeper.told(), 1);
        drop(keeper);
        revocation.ended.wait_for_completion();
        assert!(*revocation.has_ended.lock());
        Ok(())
    }

    #[test]
    fn importer_that_cannot_be_told_is_refused() -> Result {
        let dev = requester()?;
        let revocable = hinted(Ok(None))?;
        let plain = DmaBuf::export(Plain, SIZE)?;

        // SAFETY: The buffer and the device are valid.
        let refused =
            from_err_ptr(unsafe { bindings::dma_buf_attach(revocable.as_raw(), dev.as_raw()) });
        assert_eq!(refused.err(), Some(EOPNOTSUPP));

        // SAFETY: The buffer and the device are valid.
        let attachment =
            from_err_ptr(unsafe { bindings::dma_buf_attach(plain.as_raw(), dev.as_raw()) })?;
        // SAFETY: It was just attached.
        unsafe { bindings::dma_buf_detach(plain.as_raw(), attachment) };
        Ok(())
    }
}
