// SPDX-License-Identifier: GPL-2.0

//! Rust sample of a dma-buf exporter that answers with PCIe steering tags (TPH): CPU memory.
//!
//! What is a steering tag for with ordinary memory? There it names the cache of a CPU, in which the
//! root complex should place the data of a write: the CPU that will read it next. Which tag that is
//! depends on where the write enters the root complex, so the platform's firmware is asked for the
//! device that emits it, the requester (`_DSM` of the host bridge above its root port). That is why
//! `dma_buf_get_tph()` has the requester as an argument:
//! `Documentation/driver-api/dma-buf-tph.rst`.
//!
//! `/dev/tph-memory` has three operations:
//!
//! - `CREATE` returns the file descriptor of a new dma-buf, for whose data a CPU is chosen,
//! - `READ` copies from a dma-buf that is not mapped for any device,
//! - `REVOKE` takes a dma-buf away from all devices, for good.
//!
//! ```c
//! struct tph_memory_create {
//!     __u32 len;              /* in: bytes, 1 to 1048576 */
//!     __u32 cpu;              /* in: the CPU that will use the data */
//! };
//!
//! struct tph_memory_read {
//!     __s32 fd;               /* in: the dma-buf */
//!     __u32 len;              /* in: bytes to read */
//!     __u64 offset;           /* in: where to start in the dma-buf */
//!     __u64 data;             /* in: where to put it */
//! };
//!
//! #define TPH_MEMORY_CREATE  _IOW('t', 0x90, struct tph_memory_create)
//! #define TPH_MEMORY_READ    _IOW('t', 0x91, struct tph_memory_read)
//! #define TPH_MEMORY_REVOKE  _IOW('t', 0x92, __s32)
//! ```

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    alloc::allocator::VmallocPageIter,
    cpu::CpuId,
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    dma_buf::{
        DmaBuf,
        Exporter,
        Ops, //
    },
    fs::File,
    ioctl::{
        _IOC_SIZE,
        _IOW, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    page::{
        AsPageIter,
        PAGE_SIZE, //
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
    scatterlist::{
        Owned,
        SGTable, //
    },
    sizes::SZ_1M,
    sync::Arc,
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// `struct tph_memory_create`
#[repr(C)]
struct Create {
    len: u32,
    cpu: u32,
}

/// `struct tph_memory_read`
#[repr(C)]
struct Read {
    fd: i32,
    len: u32,
    offset: u64,
    data: u64,
}

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl FromBytes for Create {}

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl FromBytes for Read {}

const CREATE: u32 = _IOW::<Create>('t' as u32, 0x90);
const READ: u32 = _IOW::<Read>('t' as u32, 0x91);
const REVOKE: u32 = _IOW::<i32>('t' as u32, 0x92);

/// Pages that devices may write to while they are mapped, and the CPU reads while they are not.
struct Pages(VVec<u8>);

/// What a table of a mapping keeps of the pages.
struct PagesRef(Arc<Pages>);

impl AsPageIter for PagesRef {
    type Iter<'a> = VmallocPageIter<'a>;

    fn page_iter(&mut self) -> VmallocPageIter<'_> {
        let bytes = &self.0 .0;

        // SAFETY:
        // - The bytes are a `Vmalloc` allocation, which starts at a page,
        // - and which is valid for as long as `self`.
        // - Its end is that of the vector, since it was created with this length.
        unsafe { VmallocPageIter::new(NonNull::from(bytes.as_slice()).cast(), bytes.len()) }
    }
}

/// The pages mapped for a device.
struct Table(Pin<KBox<SGTable<Owned<PagesRef>>>>);

impl Deref for Table {
    type Target = SGTable;

    fn deref(&self) -> &SGTable {
        &self.0
    }
}

/// The exporter of one buffer.
struct Memory {
    pages: Arc<Pages>,
    cpu: CpuId,
}

static MEMORY_OPS: Ops<Memory> = Ops::new();

#[vtable]
impl Exporter for Memory {
    const REVOCABLE: bool = true;

    type Table = Table;

    fn ops() -> &'static Ops<Self> {
        &MEMORY_OPS
    }

    fn map(&self, dev: &Device<Bound>, dir: DataDirection) -> Result<Table> {
        let pages = PagesRef(self.pages.clone());

        KBox::pin_init(SGTable::new(dev, pages, dir, GFP_KERNEL), GFP_KERNEL).map(Table)
    }

    fn tph_hint(&self, requester: &Device, namespace: Namespace) -> Result<Option<Hint>> {
        // Only PCI devices emit TLPs.
        let Ok(requester) = <&pci::Device>::try_from(requester) else {
            return Ok(None);
        };

        // Without firmware that knows, there is no tag.
        let tag = SteeringTag::of_cpu(requester, MemoryType::Volatile, self.cpu, namespace);

        Ok(tag.ok().map(|tag| Hint {
            tag,
            ph: ProcessingHint::Target,
        }))
    }
}

fn create(create: &Create) -> Result<i32> {
    let len = create.len as usize;
    if len == 0 || len > SZ_1M {
        return Err(EINVAL);
    }
    let cpu = CpuId::from_u32(create.cpu).ok_or(EINVAL)?;
    let len = len.next_multiple_of(PAGE_SIZE);

    let memory = Memory {
        pages: Arc::new(Pages(VVec::from_elem(0, len, GFP_KERNEL)?), GFP_KERNEL)?,
        cpu,
    };

    DmaBuf::into_fd(DmaBuf::export(memory, len)?)
}

fn read(read: &Read) -> Result {
    let dmabuf = DmaBuf::from_fd(read.fd)?;
    let memory = dmabuf.exported_by::<Memory>().ok_or(EINVAL)?;

    let offset = usize::try_from(read.offset)?;
    let len = read.len as usize;
    let end = offset.checked_add(len).ok_or(EINVAL)?;
    let bytes = memory.pages.0.get(offset..end).ok_or(EINVAL)?;

    // Copied twice: user memory is not to be touched with the reservation locked.
    let mut copy = KVVec::with_capacity(len, GFP_KERNEL)?;
    let resv = memory.lock_unmapped()?;
    copy.extend_from_slice(bytes, GFP_KERNEL)?;
    drop(resv);

    UserSlice::new(UserPtr::from_addr(usize::try_from(read.data)?), len)
        .writer()
        .write_slice(&copy)
}

fn revoke(fd: i32) -> Result {
    let dmabuf = DmaBuf::from_fd(fd)?;

    dmabuf.exported_by::<Memory>().ok_or(EINVAL)?.revoke();

    Ok(())
}

/// An open file, which has no state.
struct Session;

#[vtable]
impl MiscDevice for Session {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        Ok(KBox::new(Self, GFP_KERNEL)?)
    }

    fn ioctl(_me: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let mut user = UserSlice::new(UserPtr::from_addr(arg), _IOC_SIZE(cmd)).reader();

        match cmd {
            CREATE => Ok(isize::try_from(create(&user.read()?)?)?),
            READ => read(&user.read()?).map(|()| 0),
            REVOKE => revoke(user.read()?).map(|()| 0),
            _ => Err(ENOTTY),
        }
    }
}

#[pin_data]
struct Module {
    #[pin]
    _misc: MiscDeviceRegistration<Session>,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _misc <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"tph-memory",
            }),
        })
    }
}

module! {
    type: Module,
    name: "rust_tph_memory",
    authors: ["rust-tph"],
    description: "Rust sample of a dma-buf exporter of CPU memory with PCIe steering tags",
    license: "GPL v2",
    imports_ns: ["DMA_BUF"],
}
