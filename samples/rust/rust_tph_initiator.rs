// SPDX-License-Identifier: GPL-2.0

//! Rust sample of a dma-buf importer that honours PCIe steering tags (TPH).
//!
//! This is a driver for the *initiator* of the rust-tph lab, a PCI device that copies memory to bus
//! addresses and can put a steering tag and a processing hint on the writes. To make it probe,
//! start the lab's devices (`make shell`); their register interface is described in
//! `lab/crates/devices/src/initiator`.
//!
//! Each device has a character device, `/dev/tph-initiator` or, for one that emits Extended TPH,
//! `/dev/tph-initiator-ext`, which one process at a time can open:
//!
//! - `IMPORT` takes the file descriptor of a dma-buf and attaches the device to it,
//! - `WRITE` lets the device write into it,
//! - `RELEASE` detaches the device, as does closing the file,
//! - `REQ_TYPE` returns the requests that the device is enabled to emit, as `PCI_TPH_REQ_*`.
//!
//! ```c
//! struct tph_initiator_write {
//!     __u64 data;        /* in: address of the data */
//!     __u64 offset;        /* in: where to write in the dma-buf, in bytes */
//!     __u32 len;        /* in: bytes to write, 1 to 65536 */
//!     __u16 steering_tag;    /* out: the tag on the writes */
//!     __u8  ph;        /* out: the processing hint on the writes */
//!     __u8  req_type;        /* out: the namespace of the tag as PCI_TPH_REQ_*, 0 for no hint */
//! };
//!
//! #define TPH_INITIATOR_IMPORT    _IOW('t', 0x80, __s32)
//! #define TPH_INITIATOR_WRITE    _IOWR('t', 0x81, struct tph_initiator_write)
//! #define TPH_INITIATOR_RELEASE    _IO('t', 0x82)
//! #define TPH_INITIATOR_REQ_TYPE    _IO('t', 0x83)
//! ```

use core::mem::size_of;
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    dma::{
        Coherent,
        DataDirection,
        Device as _,
        DmaAddress,
        DmaMask, //
    },
    dma_buf::{
        Attachment,
        DmaBuf,
        Mapping, //
    },
    fs::File,
    io::{
        poll::read_poll_timeout,
        register,
        register::Array,
        Io, //
    },
    ioctl::{
        _IO,
        _IOC_SIZE,
        _IOW,
        _IOWR, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    num::Bounded,
    pci::{
        self,
        tph::{
            Hint,
            Namespace,
            Requester,
            StMode, //
        },
    },
    prelude::*,
    sizes::SZ_64K,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    time::Delta,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

mod regs {
    use super::*;

    register! {
        /// Requester id of the writes: who it is, an emulated device cannot know by itself.
        pub(super) RID(u32) @ 0x08 {
            15:0 id;
        }

        /// Destination bus address, low and high half.
        pub(super) ADDR(u32)[2] @ 0x10 {
            31:0 half;
        }

        /// Source bus address, low and high half.
        pub(super) SRC(u32)[2] @ 0x18 {
            31:0 half;
        }

        /// Number of bytes.
        pub(super) LEN(u32) @ 0x20 {
            31:0 len;
        }

        /// The hint on the writes.
        pub(super) HINT(u32) @ 0x24 {
            /// Namespace of the tag, encoded as the TPH Requester Enable field.
            21:20 width;
            17:16 ph;
            15:0 tag;
        }

        pub(super) DOORBELL(u32) @ 0x28 {
            0:0 start;
        }

        pub(super) STATUS(u32) @ 0x2c {
            /// Zero, or why the copy failed.
            15:8 error;
            0:0 busy => bool;
        }
    }

    pub(super) const END: usize = 0x30;
}

/// Returns the low half of an address.
fn lower_32_bits(addr: DmaAddress) -> u32 {
    // CAST: Only the low half is wanted.
    addr as u32
}

/// Returns the high half of an address.
fn upper_32_bits(addr: DmaAddress) -> u32 {
    // CAST: The high half fits.
    (addr >> 32) as u32
}

/// Returns the encoding of `namespace` in the TPH Requester Enable field.
fn req_type(namespace: Option<Namespace>) -> u8 {
    let req_type = match namespace {
        None => bindings::PCI_TPH_REQ_DISABLE,
        Some(Namespace::St) => bindings::PCI_TPH_REQ_TPH_ONLY,
        Some(Namespace::ExtSt) => bindings::PCI_TPH_REQ_EXT_TPH,
    };

    // CAST: The field has two bits.
    req_type as u8
}

impl From<Hint> for regs::HINT {
    fn from(hint: Hint) -> Self {
        let width = u32::from(req_type(Some(hint.tag.namespace())));

        Self::zeroed()
            .with_width(Bounded::<u32, _>::from_expr(width & 3))
            .with_ph(Bounded::<u32, _>::from_expr(hint.ph as u32 & 3))
            .with_tag(hint.tag.value())
    }
}

/// `struct tph_initiator_write`
#[repr(C)]
#[derive(Clone, Copy)]
struct Write {
    data: u64,
    offset: u64,
    len: u32,
    steering_tag: u16,
    ph: u8,
    req_type: u8,
}

const _: () = assert!(size_of::<Write>() == 24);

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl FromBytes for Write {}

// SAFETY: It has no padding, as its size shows.
unsafe impl AsBytes for Write {}

const IMPORT: u32 = _IOW::<i32>('t' as u32, 0x80);
const WRITE: u32 = _IOWR::<Write>('t' as u32, 0x81);
const RELEASE: u32 = _IO('t' as u32, 0x82);
const REQ_TYPE: u32 = _IO('t' as u32, 0x83);

/// What an open file and the driver share; it may outlive the binding of the device.
#[pin_data]
struct Initiator {
    pdev: ARef<pci::Device>,
    bar: pci::DevresBar<{ regs::END }>,
    #[pin]
    state: Mutex<State>,
}

struct State {
    /// Whether the device is bound: it does not become unbound while the lock is held.
    bound: bool,
    /// Whether the character device is open.
    open: bool,
    import: Option<Attachment>,
}

impl Initiator {
    /// Returns the device as bound, if it is.
    fn bound<'a>(&'a self, state: &'a State) -> Result<&'a pci::Device<Bound>> {
        if !state.bound {
            return Err(ENODEV);
        }

        let dev: &kernel::device::Device = self.pdev.as_ref();

        // SAFETY: `state` is borrowed from the lock, which `unbind()` takes to clear `bound` before
        // the device is unbound.
        let dev = unsafe { dev.as_bound() };

        dev.try_into()
    }

    fn import(&self, fd: i32) -> Result {
        let dmabuf = DmaBuf::from_fd(fd)?;
        let mut state = self.state.lock();

        if state.import.is_some() {
            return Err(EBUSY);
        }

        let attachment = Attachment::new(self.bound(&state)?.as_ref(), dmabuf)?;
        state.import = Some(attachment);

        Ok(())
    }

    fn release(&self) -> Result {
        self.state.lock().import.take().ok_or(ENOENT)?;

        Ok(())
    }

    /// Writes `data` into the imported buffer and returns the hint on the writes.
    fn write(&self, offset: u64, data: &[u8]) -> Result<Option<Hint>> {
        let state = self.state.lock();
        let pdev = self.bound(&state)?;
        let attachment = state.import.as_ref().ok_or(ENOENT)?;

        let end = offset.checked_add(data.len() as u64).ok_or(EINVAL)?;
        if end > attachment.dmabuf().size() as u64 {
            return Err(EINVAL);
        }

        let source = Coherent::from_slice(pdev.as_ref(), data, GFP_KERNEL)?;

        let resv = attachment.dmabuf().lock_interruptible()?;
        let mapping = attachment.map(pdev.as_ref(), &resv, DataDirection::FromDevice)?;

        // Without a hint the data arrives all the same.
        let hint = match Namespace::of(pdev) {
            None => None,
            Some(namespace) => mapping.tph_hint(namespace).unwrap_or_else(|e| {
                dev_dbg!(pdev, "writing without a steering tag: {:?}\n", e);
                None
            }),
        };

        self.copy(
            pdev,
            source.dma_address(),
            &mapping,
            offset..end,
            hint.as_deref(),
        )?;

        Ok(hint.as_deref().copied())
    }

    /// Copies memory at `src` to the bytes `range` of `mapping`.
    fn copy(
        &self,
        pdev: &pci::Device<Bound>,
        mut src: DmaAddress,
        mapping: &Mapping<'_>,
        range: core::ops::Range<u64>,
        hint: Option<&Hint>,
    ) -> Result {
        let bar = self.bar.access(pdev.as_ref())?;

        bar.write_reg(hint.copied().map_or(regs::HINT::zeroed(), regs::HINT::from));

        // Where the entry starts in the buffer.
        let mut start = 0;
        for entry in mapping.sgt().iter() {
            let end = start + entry.dma_len();
            let from = range.start.max(start);
            let to = range.end.min(end);

            if from < to {
                let len = to - from;

                let dst = entry.dma_address() + (from - start);

                bar.write(regs::ADDR::at(0), lower_32_bits(dst).into());
                bar.write(regs::ADDR::at(1), upper_32_bits(dst).into());
                bar.write(regs::SRC::at(0), lower_32_bits(src).into());
                bar.write(regs::SRC::at(1), upper_32_bits(src).into());
                bar.write_reg(regs::LEN::from(u32::try_from(len)?));
                bar.write_reg(regs::DOORBELL::zeroed().with_const_start::<1>());
                self.wait(pdev, bar)?;

                src += len;
            }
            start = end;
        }

        Ok(())
    }

    /// Waits until the device is idle.
    fn wait(&self, pdev: &pci::Device<Bound>, bar: &pci::Bar<'_, { regs::END }>) -> Result {
        let status = read_poll_timeout(
            || Ok(bar.read(regs::STATUS)),
            |status| !status.busy(),
            Delta::from_micros(50),
            Delta::from_secs(1),
        )
        .inspect_err(|_| {
            dev_err!(
                pdev,
                "the device does not become idle, taking it off the bus\n"
            );
            stop_bus_master(pdev);
        })?;

        match status.error().get() {
            0 => Ok(()),
            error => {
                dev_err!(pdev, "copy failed, the device reports error {}\n", error);
                Err(EIO)
            }
        }
    }
}

/// Keeps the device from emitting any request, since its mappings are about to go.
fn stop_bus_master(pdev: &pci::Device<Bound>) {
    register! {
        COMMAND(u16) @ 0x4 {
            2:2 bus_master => bool;
        }
    }

    pdev.config_space()
        .update(COMMAND, |command| command.with_bus_master(false));
}

/// An open file; at most one per [`Initiator`].
struct Session {
    initiator: Arc<Initiator>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.initiator.state.lock();

        state.open = false;
        state.import = None;
    }
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = KBox<Self>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        // SAFETY: All registrations of this type are part of a `Node`, and they are deregistered,
        // which waits for this function, before it goes.
        let node = unsafe { &*kernel::container_of!(core::ptr::from_ref(misc), Node, misc) };

        let session = KBox::new_uninit(GFP_KERNEL)?;
        let mut state = node.initiator.state.lock();
        if state.open {
            return Err(EBUSY);
        }
        state.open = true;

        Ok(session.write(Self {
            initiator: node.initiator.clone(),
        }))
    }

    fn ioctl(me: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let initiator = &me.initiator;
        let user = UserSlice::new(UserPtr::from_addr(arg), _IOC_SIZE(cmd));

        match cmd {
            IMPORT => initiator.import(user.reader().read()?)?,
            WRITE => {
                let (mut reader, mut writer) = user.reader_writer();
                let mut write: Write = reader.read()?;

                let len = write.len as usize;
                if len == 0 || len > SZ_64K {
                    return Err(EINVAL);
                }

                let mut data = KVVec::new();
                UserSlice::new(UserPtr::from_addr(usize::try_from(write.data)?), len)
                    .read_all(&mut data, GFP_KERNEL)?;

                let hint = initiator.write(write.offset, &data)?;
                write.req_type = req_type(hint.map(|hint| hint.tag.namespace()));
                write.steering_tag = hint.map_or(0, |hint| hint.tag.value());
                write.ph = hint.map_or(0, |hint| hint.ph as u8);
                writer.write(&write)?;
            }
            RELEASE => initiator.release()?,
            REQ_TYPE => {
                let state = initiator.state.lock();

                return Ok(req_type(Namespace::of(initiator.bound(&state)?)).into());
            }
            _ => return Err(ENOTTY),
        }

        Ok(0)
    }
}

/// The character device of an [`Initiator`].
#[pin_data]
struct Node {
    initiator: Arc<Initiator>,
    #[pin]
    misc: MiscDeviceRegistration<Session>,
}

/// The driver's data. The character device goes first, TPH is disabled last.
#[pin_data]
struct Data<'bound> {
    #[pin]
    node: Node,
    _requester: Option<Requester<'bound>>,
}

struct Driver;

/// What tells one kind of initiator from the other.
struct Info {
    node: &'static CStr,
}

kernel::pci_device_table!(
    PCI_TABLE,
    <Driver as pci::Driver>::IdInfo,
    [
        (
            pci::DeviceId::from_id(pci::Vendor::REDHAT_QUMRANET, 0x10f0),
            Info {
                node: c"tph-initiator",
            }
        ),
        (
            pci::DeviceId::from_id(pci::Vendor::REDHAT_QUMRANET, 0x10f1),
            Info {
                node: c"tph-initiator-ext",
            }
        ),
    ]
);

impl pci::Driver for Driver {
    type IdInfo = Info;
    type Data<'bound> = Data<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let info = info.ok_or(ENODEV)?;

            pdev.enable_device_mem()?;
            pdev.set_master();

            // SAFETY: There are no concurrent calls to DMA allocation and mapping primitives.
            unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())? };

            let bar = pdev
                .iomap_region_sized::<{ regs::END }>(0, c"rust_tph_initiator")?
                .into_devres()?;
            bar.access(pdev.as_ref())?
                .write_reg(regs::RID::zeroed().with_id(pdev.dev_id()));
            // The data arrives without hints, too.
            let requester = Requester::enable(pdev, StMode::DeviceSpecific)
                .inspect(|requester| dev_dbg!(pdev, "ST table: {:?}\n", requester.st_table()))
                .inspect_err(|e| dev_info!(pdev, "no steering tags: {:?}\n", e))
                .ok();

            let initiator = Arc::pin_init(
                try_pin_init!(Initiator {
                    pdev: pdev.into(),
                    bar,
                    state <- new_mutex!(State {
                        bound: true,
                        open: false,
                        import: None,
                    }),
                }),
                GFP_KERNEL,
            )?;

            Ok(try_pin_init!(Data {
                node <- try_pin_init!(Node {
                    initiator,
                    misc <- MiscDeviceRegistration::register(MiscDeviceOptions {
                        name: info.node,
                    }),
                }),
                _requester: requester,
            }))
        })
    }

    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let mut state = this.node.initiator.state.lock();

        state.bound = false;
        state.import = None;
    }
}

kernel::module_pci_driver! {
    type: Driver,
    name: "rust_tph_initiator",
    authors: ["rust-tph"],
    description: "Rust sample of a dma-buf importer with PCIe steering tags",
    license: "GPL v2",
    imports_ns: ["DMA_BUF"],
}
