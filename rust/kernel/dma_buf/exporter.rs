// SPDX-License-Identifier: GPL-2.0

//! The exporter's side: the operations of a buffer, and how it is made.

use super::{
    DmaBuf,
    Reservation, //
};
#[cfg(CONFIG_PCI)]
use crate::pci::tph::{
    Hint,
    Namespace, //
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
        from_result,
        VTABLE_DEFAULT_ERROR, //
    },
    module::{
        this_module,
        ModuleMetadata, //
    },
    new_condvar,
    new_mutex,
    prelude::*,
    scatterlist::SGTable,
    sync::{
        aref::ARef,
        CondVar,
        Mutex, //
    },
    task::MAX_SCHEDULE_TIMEOUT,
    types::ForeignOwnable, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

/// The memory behind a [`DmaBuf`], implemented by a driver that exports it.
///
/// The buffer owns its exporter and drops it after the last reference to the buffer is gone, which
/// may be long after the driver is unbound; the driver's module stays until then.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{
///         Bound,
///         Device, //
///     },
///     dma::DataDirection,
///     dma_buf::{
///         DmaBuf,
///         Exporter,
///         Ops, //
///     },
///     page::PAGE_SIZE,
///     prelude::*,
///     scatterlist::{
///         Owned,
///         SGTable, //
///     },
/// };
/// use core::ops::Deref;
///
/// struct Table(Pin<KBox<SGTable<Owned<VVec<u8>>>>>);
///
/// impl Deref for Table {
///     type Target = SGTable;
///
///     fn deref(&self) -> &SGTable {
///         &self.0
///     }
/// }
///
/// struct Memory;
///
/// static MEMORY_OPS: Ops<Memory> = Ops::new();
///
/// #[vtable]
/// impl Exporter for Memory {
///     type Table = Table;
///
///     fn ops() -> &'static Ops<Self> {
///         &MEMORY_OPS
///     }
///
///     // Each device gets pages of its own here.
///     fn map(&self, dev: &Device<Bound>, dir: DataDirection) -> Result<Table> {
///         let pages = VVec::from_elem(0, PAGE_SIZE, GFP_KERNEL)?;
///
///         KBox::pin_init(SGTable::new(dev, pages, dir, GFP_KERNEL), GFP_KERNEL).map(Table)
///     }
/// }
///
/// let dmabuf = DmaBuf::export(Memory, PAGE_SIZE)?;
///
/// assert_eq!(dmabuf.size(), PAGE_SIZE);
/// assert!(dmabuf.exported_by::<Memory>().is_some());
/// # Ok::<(), Error>(())
/// ```
#[vtable]
pub trait Exporter: Send + Sync + Sized + 'static {
    /// Whether the memory may be taken away while it is in use: see [`Exported::revoke`].
    ///
    /// Such a buffer refuses importers that cannot be told.
    const REVOCABLE: bool = false;

    /// The memory mapped for one device, which dropping it unmaps.
    type Table: Deref<Target = SGTable>;

    /// Returns the operations, a `static` of the exporter's: see [`Ops`].
    fn ops() -> &'static Ops<Self>;

    /// Maps the memory for `dev`.
    ///
    /// Called with the reservation held. The table is dropped with it held, too. A buffer that was
    /// revoked does not call it.
    fn map(&self, dev: &Device<Bound>, dir: DataDirection) -> Result<Self::Table>;

    /// Returns the hint that requests of `requester` to the memory should carry, if there is a tag
    /// in `namespace`.
    ///
    /// Called with the reservation held. The answer is valid until the exporter next invalidates
    /// the mappings.
    #[cfg(CONFIG_PCI)]
    fn tph_hint(&self, _requester: &Device, _namespace: Namespace) -> Result<Option<Hint>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// The operations of the buffers of an [`Exporter`].
///
/// The address of an instance says whose buffer a [`DmaBuf`] is, so there must be exactly one for
/// each exporter: a `static`, never a constant, which the compiler may duplicate.
#[repr(transparent)]
pub struct Ops<T: Exporter>(bindings::dma_buf_ops, PhantomData<fn() -> T>);

impl<T: Exporter> Ops<T> {
    /// Creates the operations.
    #[expect(clippy::new_without_default, reason = "it must be constant")]
    pub const fn new() -> Self {
        Self(
            bindings::dma_buf_ops {
                attach: if T::REVOCABLE {
                    Some(Self::attach_callback)
                } else {
                    None
                },
                map_dma_buf: Some(Self::map_callback),
                unmap_dma_buf: Some(Self::unmap_callback),
                release: Some(Self::release_callback),
                #[cfg(CONFIG_PCI)]
                get_tph: if T::HAS_TPH_HINT {
                    Some(Self::get_tph_callback)
                } else {
                    None
                },
                ..pin_init::zeroed()
            },
            PhantomData,
        )
    }

    /// # Safety
    ///
    /// `dmabuf` is a valid buffer with these operations, for the lifetime `'a`.
    unsafe fn buffer<'a>(dmabuf: *mut bindings::dma_buf) -> &'a Buffer<T> {
        // SAFETY: By the safety requirements `dmabuf` is valid.
        let buffer = unsafe { (*dmabuf).priv_ };

        // SAFETY: `DmaBuf::export()` stored the pointer, which the buffer owns.
        unsafe { KBox::<Buffer<T>>::borrow(buffer) }
    }

    /// # Safety
    ///
    /// `attach` is an attachment to the valid buffer `dmabuf` with these operations.
    unsafe extern "C" fn attach_callback(
        dmabuf: *mut bindings::dma_buf,
        attach: *mut bindings::dma_buf_attachment,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            if !unsafe { bindings::dma_buf_attach_revocable(attach) } {
                return Err(EOPNOTSUPP);
            }

            // SAFETY: By the safety requirements.
            if unsafe { Self::buffer(dmabuf) }.uses.state.lock().revoked {
                return Err(ENODEV);
            }

            Ok(0)
        })
    }

    /// # Safety
    ///
    /// `attach` is a valid attachment, of a device that is bound, to a buffer with these
    /// operations.
    unsafe extern "C" fn map_callback(
        attach: *mut bindings::dma_buf_attachment,
        dir: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: By the safety requirements `attach` is valid.
        let (dmabuf, dev) = unsafe { ((*attach).dmabuf, (*attach).dev) };

        // SAFETY: By the safety requirements.
        let buffer = unsafe { Self::buffer(dmabuf) };

        // SAFETY: An attachment keeps its device.
        let dev: &Device = unsafe { Device::from_raw(dev) };

        // SAFETY: An importer may map only while its device is bound.
        let dev = unsafe { dev.as_bound() };

        match buffer.map(dev, dir) {
            Ok(mapped) => KBox::into_raw(mapped).cast(),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// `sgt` was returned by [`Self::map_callback`] for `attach`, and is not used any more.
    unsafe extern "C" fn unmap_callback(
        attach: *mut bindings::dma_buf_attachment,
        sgt: *mut bindings::sg_table,
        _dir: bindings::dma_data_direction,
    ) {
        // SAFETY: By the safety requirements `attach` is valid.
        let dmabuf = unsafe { (*attach).dmabuf };

        // SAFETY: By the safety requirements; the table is the first field of `Mapped`.
        let mapped = unsafe { KBox::<Mapped<T>>::from_raw(sgt.cast()) };

        // SAFETY: By the safety requirements.
        unsafe { Self::buffer(dmabuf) }.unmap(mapped);
    }

    /// # Safety
    ///
    /// `dmabuf` is a buffer with these operations that nobody refers to any more.
    unsafe extern "C" fn release_callback(dmabuf: *mut bindings::dma_buf) {
        // SAFETY: By the safety requirements `dmabuf` is valid.
        let buffer = unsafe { (*dmabuf).priv_ };

        // SAFETY: `DmaBuf::export()` stored the pointer, which nobody uses any more.
        drop(unsafe { KBox::<Buffer<T>>::from_foreign(buffer) });
    }

    /// # Safety
    ///
    /// - `dmabuf` is a valid buffer with these operations, and `requester` a valid device.
    /// - `steering_tag` and `ph` are valid for writes.
    #[cfg(CONFIG_PCI)]
    unsafe extern "C" fn get_tph_callback(
        dmabuf: *mut bindings::dma_buf,
        requester: *mut bindings::device,
        extended: bool,
        steering_tag: *mut u16,
        ph: *mut u8,
    ) -> c_int {
        from_result(|| {
            let namespace = if extended {
                Namespace::ExtSt
            } else {
                Namespace::St
            };

            // SAFETY: By the safety requirements.
            let buffer = unsafe { Self::buffer(dmabuf) };

            // SAFETY: By the safety requirements.
            let requester = unsafe { Device::from_raw(requester) };

            let hint = buffer
                .exporter
                .tph_hint(requester, namespace)?
                .filter(|hint| hint.tag.namespace() == namespace)
                .ok_or(EOPNOTSUPP)?;

            // SAFETY: By the safety requirements `steering_tag` is valid for writes.
            unsafe { steering_tag.write(hint.tag.value()) };

            // SAFETY: By the safety requirements `ph` is valid for writes.
            unsafe { ph.write(hint.ph as u8) };

            Ok(0)
        })
    }
}

/// What the private pointer of a buffer refers to.
struct Buffer<T: Exporter> {
    exporter: T,
    uses: Pin<KBox<Uses>>,
}

/// Who uses the memory of a [`Buffer`].
#[pin_data]
struct Uses {
    #[pin]
    state: Mutex<State>,
    /// Notified when the last mapping goes.
    #[pin]
    idle: CondVar,
}

/// The state of [`Uses`]; `revoked` changes with the reservation held, too.
#[derive(Default)]
struct State {
    mappings: usize,
    revoked: bool,
}

impl Uses {
    // Neither generic nor inlined: lockdep wants one name for a class, and each crate that this
    // were compiled into would have its own.
    #[inline(never)]
    fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State::default()),
                idle <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }
}

impl<T: Exporter> Buffer<T> {
    /// Called with the reservation held.
    fn map(
        &self,
        dev: &Device<Bound>,
        dir: bindings::dma_data_direction,
    ) -> Result<KBox<Mapped<T>>> {
        if self.uses.state.lock().revoked {
            return Err(ENODEV);
        }

        let mapped = Mapped::new(&self.exporter, dev, dir)?;
        self.uses.state.lock().mappings += 1;

        Ok(mapped)
    }

    /// Called with the reservation held.
    fn unmap(&self, mapped: KBox<Mapped<T>>) {
        drop(mapped);

        let mut state = self.uses.state.lock();
        state.mappings -= 1;
        if state.mappings == 0 {
            self.uses.idle.notify_all();
        }
    }
}

/// A table that an importer has, and what keeps it mapped.
///
/// # Invariants
///
/// `raw` is a copy of the `struct sg_table` of `_table`.
#[repr(C)]
struct Mapped<T: Exporter> {
    raw: bindings::sg_table,
    _table: T::Table,
}

impl<T: Exporter> Mapped<T> {
    fn new(
        exporter: &T,
        dev: &Device<Bound>,
        dir: bindings::dma_data_direction,
    ) -> Result<KBox<Self>> {
        let dir = match dir {
            bindings::dma_data_direction_DMA_BIDIRECTIONAL => DataDirection::Bidirectional,
            bindings::dma_data_direction_DMA_TO_DEVICE => DataDirection::ToDevice,
            bindings::dma_data_direction_DMA_FROM_DEVICE => DataDirection::FromDevice,
            _ => return Err(EINVAL),
        };

        let table = exporter.map(dev, dir)?;

        // CAST: `SGTable` is a transparent wrapper of `struct sg_table`.
        let raw: *const bindings::sg_table = core::ptr::from_ref::<SGTable>(&table).cast();

        // INVARIANT: It is the copy.
        Ok(KBox::new(
            Self {
                // SAFETY: `raw` is valid for reads.
                raw: unsafe { raw.read() },
                _table: table,
            },
            GFP_KERNEL,
        )?)
    }
}

impl DmaBuf {
    /// Exports `size` bytes of the memory of `exporter`, readable and writable.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`], and [`ENOENT`] if the exporter's module is being unloaded.
    pub fn export<T: Exporter>(exporter: T, size: usize) -> Result<ARef<Self>> {
        let buffer = KBox::new(
            Buffer {
                exporter,
                uses: Uses::new()?,
            },
            GFP_KERNEL,
        )?
        .into_foreign();

        let info = bindings::dma_buf_export_info {
            exp_name: T::OwnerModule::NAME.as_char_ptr(),
            owner: this_module::<T::OwnerModule>().as_ptr(),
            ops: &T::ops().0,
            size,
            flags: bindings::O_RDWR as c_int,
            priv_: buffer,
            ..pin_init::zeroed()
        };

        // SAFETY: `info` is filled in as `dma_buf_export()` wants it, and the operations are
        // static; the pointers to them and to the buffer have the types that they expect.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_export(&info) }).inspect_err(|_| {
            // SAFETY: It was made above, and on failure nobody else has it.
            drop(unsafe { KBox::<Buffer<T>>::from_foreign(buffer) });
        })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;

        // SAFETY: `dma_buf_export()` returned a valid pointer and a reference that is ours.
        Ok(unsafe { ARef::from_raw(raw.cast()) })
    }

    /// Gives a reference to the current process as a file descriptor, which is closed on exec.
    ///
    /// # Errors
    ///
    /// [`EMFILE`] if the process has too many.
    pub fn into_fd(dmabuf: ARef<Self>) -> Result<i32> {
        // SAFETY: `dmabuf` is valid.
        let fd = unsafe { bindings::dma_buf_fd(dmabuf.as_raw(), bindings::O_CLOEXEC as c_int) };
        if fd < 0 {
            return Err(Error::from_errno(fd));
        }

        // The file descriptor has the reference now.
        core::mem::forget(dmabuf);

        Ok(fd)
    }

    /// Returns the buffer as its exporter sees it, if that is a `T`.
    pub fn exported_by<T: Exporter>(&self) -> Option<Exported<'_, T>> {
        // SAFETY: By the type invariant `self.as_raw()` is valid.
        let ops = unsafe { (*self.as_raw()).ops };

        core::ptr::eq(ops, &T::ops().0).then(|| Exported {
            dmabuf: self,
            // SAFETY: It is valid for as long as `self`, and its operations are those of `T`.
            buffer: unsafe { Ops::<T>::buffer(self.as_raw()) },
        })
    }
}

/// A [`DmaBuf`] as its exporter sees it, which it dereferences to.
pub struct Exported<'a, T: Exporter> {
    dmabuf: &'a DmaBuf,
    buffer: &'a Buffer<T>,
}

impl<T: Exporter> Deref for Exported<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.buffer.exporter
    }
}

impl<'a, T: Exporter> Exported<'a, T> {
    /// Locks the reservation if nobody has the memory mapped. Then nobody has until it is unlocked,
    /// and the CPU may access the memory.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if an importer has it mapped.
    /// - [`EINTR`] if a signal arrived.
    pub fn lock_unmapped(&self) -> Result<Reservation<'a>> {
        let resv = self.dmabuf.lock_interruptible()?;

        if self.buffer.uses.state.lock().mappings > 0 {
            return Err(EBUSY);
        }

        Ok(resv)
    }

    /// Takes the memory away from all importers, for good.
    ///
    /// They are told, and must unmap it soon. When this returns, none of them has it mapped, so no
    /// device accesses it. To attach to the buffer or to map it fails with [`ENODEV`] from now on.
    ///
    /// Sleeps; the caller must not hold the reservation.
    pub fn revoke(&self) {
        const {
            assert!(
                T::REVOCABLE,
                "the exporter accepts importers that cannot be told"
            )
        };

        let resv = self.dmabuf.lock();
        self.buffer.uses.state.lock().revoked = true;

        // SAFETY: The buffer is valid, and `resv` shows that the reservation lock is held.
        unsafe { bindings::dma_buf_invalidate_mappings(self.dmabuf.as_raw()) };

        // Until its fences are signalled, an importer may go on to use what it has mapped.
        // SAFETY: The reservation is valid for as long as the buffer.
        unsafe {
            bindings::dma_resv_wait_timeout(
                self.dmabuf.resv(),
                bindings::dma_resv_usage_DMA_RESV_USAGE_BOOKKEEP,
                false,
                MAX_SCHEDULE_TIMEOUT as usize,
            )
        };
        drop(resv);

        let mut state = self.buffer.uses.state.lock();
        while state.mappings > 0 {
            self.buffer.uses.idle.wait(&mut state);
        }
    }
}
