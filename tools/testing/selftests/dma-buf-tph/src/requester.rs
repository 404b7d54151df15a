// SPDX-License-Identifier: GPL-2.0
//! A TPH requester that user space owns through VFIO: one of the lab's initiators, without the
//! driver that it has in the kernel.

use crate::accelerator::{self, Accelerator};
use crate::engine::{self, Copy, Hint, Namespace};
use crate::page;
use crate::pci::{self, CompleterType};
use crate::tap::assert_errno;
use crate::vfio::{Device, GET, PROBE, SET};
use libc::EOPNOTSUPP;
use std::fs;
use std::io::{self, Error, ErrorKind};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `VFIO_DEVICE_FEATURE_TPH`.
pub const TPH: u32 = 15;
/// `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
pub const RESOLVE: u32 = 16;
/// `VFIO_DEVICE_FEATURE_TPH_ST`.
pub const ST: u32 = 17;

/// `VFIO_DEVICE_TPH_EXTENDED`.
pub const EXTENDED: u32 = 1;

/// Size of the header of `struct vfio_device_feature`.
pub const HEADER: u32 = 8;
const PARAMETER: &str = "/sys/module/vfio_pci/parameters/tph";

/// Offset of the capability register in the capability.
pub const CAPABILITY: usize = 4;
/// Offset of the control register in the capability.
pub const CONTROL: usize = 8;
/// Offset of the ST table in the capability.
pub const TABLE: usize = 12;
/// Its entries in the lab's initiators.
pub const ENTRIES: u32 = 64;

/// No ST mode, in the control register.
pub const NO_ST: u32 = 0;
/// Interrupt vector mode.
pub const INTERRUPT_VECTOR: u32 = 1;
/// Device specific mode.
pub const DEVICE_SPECIFIC: u32 = 2;
/// TPH Requester Enable, 8-bit tags only.
pub const ENABLE: u32 = 1 << 8;
/// TPH Requester Enable, both kinds of tags.
pub const ENABLE_EXT: u32 = 3 << 8;

/// Policy levels of vfio-pci.
pub mod level {
    use std::ops::RangeInclusive;

    /// No ST mode only.
    pub const NO_ST: i32 = 0;
    /// Interrupt vector mode, too.
    pub const IV_ST: i32 = 1;
    /// Device specific mode, too; user space knows tags.
    pub const DS_ST: i32 = 2;
    /// User space chooses tags.
    pub const LITERAL: i32 = 3;
    /// All of them.
    pub const ALL: RangeInclusive<i32> = NO_ST..=LITERAL;
}

impl Namespace {
    /// The flags of a request for a tag of it.
    pub(crate) fn flags(self) -> u32 {
        match self {
            Self::St => 0,
            Self::Ext => EXTENDED,
        }
    }

    /// TPH Requester Enable.
    pub(crate) fn enable(self) -> u32 {
        match self {
            Self::St => ENABLE,
            Self::Ext => ENABLE_EXT,
        }
    }
}

/// What a steering tag is for.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Nothing.
    None,
    /// A dma-buf.
    DmaBuf(i32),
    /// A CPU.
    Cpu(u32),
    /// It is the tag.
    Literal(u32),
    /// Any numbers.
    Raw(u32, u32),
}

impl Source {
    /// A dma-buf.
    #[must_use]
    pub fn of(dmabuf: BorrowedFd<'_>) -> Self {
        Self::DmaBuf(dmabuf.as_raw_fd())
    }

    fn numbers(self) -> [u32; 2] {
        match self {
            Self::None => [0, 0],
            Self::DmaBuf(fd) => [1, fd.cast_unsigned()],
            Self::Cpu(cpu) => [2, cpu],
            Self::Literal(tag) => [3, tag],
            Self::Raw(source, value) => [source, value],
        }
    }
}

/// `struct vfio_device_tph_st_entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Number of the entry.
    pub index: u32,
    /// Number of the source.
    pub source: u32,
    /// Its value.
    pub value: u32,
    /// Zero.
    pub reserved: u32,
}

impl Entry {
    /// An entry with the tag of `source`.
    #[must_use]
    pub fn new(index: u32, source: Source) -> Self {
        let [source, value] = source.numbers();
        Self {
            index,
            source,
            value,
            reserved: 0,
        }
    }

    /// An entry with this tag.
    #[must_use]
    pub fn literal(index: u32, tag: u32) -> Self {
        Self::new(index, Source::Literal(tag))
    }
}

/// `struct vfio_device_feature_tph_st`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SetEntries {
    /// [`EXTENDED`] or 0.
    pub flags: u32,
    /// Number of entries.
    pub count: u32,
    /// How many were written; the kernel's.
    pub applied: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the entries.
    pub entries: u64,
}

const _: () = {
    assert!(size_of::<Entry>() == 16);
    assert!(size_of::<SetEntries>() == 24);
    assert!(offset_of!(SetEntries, entries) == 16);
};

/// What no call leaves in `applied`.
pub const UNTOUCHED: u32 = 0xdead;

impl SetEntries {
    /// A request that writes `entries`.
    #[must_use]
    pub fn new(flags: u32, entries: &[Entry]) -> Self {
        Self {
            flags,
            count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            applied: UNTOUCHED,
            reserved: 0,
            entries: entries.as_ptr().addr() as u64,
        }
    }

    fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (chunk, number) in
            bytes
                .chunks_exact_mut(4)
                .zip([self.flags, self.count, self.applied, self.reserved])
        {
            chunk.copy_from_slice(&number.to_ne_bytes());
        }
        bytes[16..].copy_from_slice(&self.entries.to_ne_bytes());
        bytes
    }
}

/// A hint that the kernel has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The tag, if it may be known.
    pub steering_tag: u16,
    /// The processing hint.
    pub ph: u8,
}

/// What [`Requester::write_to`] writes.
pub const DATA: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// What became of a write with a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The device sent it without the hint, which its control register does not allow.
    Dropped,
    /// It has a tag that means nothing to the accelerator.
    Stored,
    /// The accelerator added it, which is what the tags mean that it publishes.
    Added,
}

/// The tag in entry 0 of the ST table, 8 bits of it.
pub const FROM_TABLE: Hint = Hint::Entry {
    index: 0,
    namespace: Namespace::St,
    ph: accelerator::PUBLISHED.ph,
};

/// The 8-bit tag that the accelerator publishes.
pub const FROM_USER: Hint = Hint::Tag {
    tag: accelerator::PUBLISHED.steering_tag as u16,
    namespace: Namespace::St,
    ph: accelerator::PUBLISHED.ph,
};

/// A requester that user space owns.
pub struct Requester {
    /// The PCI function.
    pub pdev: pci::Device,
    /// The device.
    pub vfio: Device,
    /// Offset of the TPH Requester capability in the device's config space.
    at: usize,
}

/// Finds the TPH Requester capability in a configuration space.
fn capability(config: &[u8]) -> Option<usize> {
    const TPH_REQUESTER: u16 = 0x17;

    let word = |at: usize| u16::from_le_bytes([config[at], config[at + 1]]);
    let mut at = 0x100;
    while at != 0 && at + 4 <= config.len() {
        if word(at) == TPH_REQUESTER {
            return Some(at);
        }
        at = usize::from(word(at + 2) >> 4);
    }
    None
}

/// Sets the policy level of devices that are bound from now on.
pub fn set_level(level: i32) -> io::Result<()> {
    fs::write(PARAMETER, level.to_string())
}

/// The policy level of devices that are bound from now on.
pub fn level() -> io::Result<String> {
    Ok(fs::read_to_string(PARAMETER)?.trim().to_owned())
}

/// Opens `pdev` as a device that is bound at this policy level.
pub fn open_at(pdev: &pci::Device, level: i32) -> io::Result<Device> {
    Device::load(pdev)?;
    open_with(pdev, level, Device::open)
}

/// The same, with another way to open it. What that needs is loaded.
pub fn open_with(
    pdev: &pci::Device,
    level: i32,
    open: impl FnOnce(&pci::Device) -> io::Result<Device>,
) -> io::Result<Device> {
    set_level(level).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::other("vfio-pci of this kernel has no parameter tph, it lacks VFIO_PCI_TPH")
        }
        _ => error,
    })?;
    let vfio = pdev.release().and_then(|()| open(pdev));
    set_level(0)?;
    vfio
}

impl Requester {
    /// Opens one of the lab's initiators, bound at this policy level.
    pub fn open(id: u16, level: i32) -> io::Result<Self> {
        Self::open_device(pci::Device::find(id)?, level)
    }

    /// The same of this one.
    pub fn open_device(pdev: pci::Device, level: i32) -> io::Result<Self> {
        let vfio = open_at(&pdev, level)?;
        Self::of(pdev, vfio)
    }

    /// Closes it and opens it again, as it is bound.
    pub fn reopen(self) -> io::Result<Self> {
        drop(self.vfio);
        let vfio = Device::open(&self.pdev)?;
        Self::of(self.pdev, vfio)
    }

    /// The requester in an open device.
    pub fn of(pdev: pci::Device, vfio: Device) -> io::Result<Self> {
        let at = capability(&pdev.config()?)
            .ok_or_else(|| Error::other(format!("{}: no TPH Requester", pdev.address())))?;
        Ok(Self { pdev, vfio, at })
    }

    /// [`Requester::open`], opted in.
    pub fn opted_in(id: u16, level: i32) -> io::Result<Self> {
        let requester = Self::open(id, level)?;
        requester.opt_in()?;
        Ok(requester)
    }

    /// [`Requester::opted_in`], enabled in device specific mode with this TPH Requester Enable.
    ///
    /// # Panics
    ///
    /// If the device does not have it then.
    #[track_caller]
    pub fn enabled(id: u16, level: i32, enable: u32) -> io::Result<Self> {
        let requester = Self::opted_in(id, level)?;
        requester.control(DEVICE_SPECIFIC | enable)?;
        requester.assert_control(DEVICE_SPECIFIC | enable);
        Ok(requester)
    }

    /// Opts in.
    pub fn opt_in(&self) -> io::Result<()> {
        self.vfio.feature(TPH | SET, HEADER, &mut [])?;
        Ok(())
    }

    /// PROBE of a feature, with its operation.
    pub fn probe(&self, feature: u32) -> io::Result<i32> {
        probe(&self.vfio, feature)
    }

    /// The policy level that was latched, in debugfs.
    pub fn latched_level(&self) -> io::Result<String> {
        let name = self.pdev.address();
        let text = fs::read_to_string(format!("/sys/kernel/debug/vfio/{name}/pci/tph"))?;
        Ok(text.trim().to_owned())
    }

    /// Whether user space sees the capability.
    pub fn is_seen(&self) -> io::Result<bool> {
        is_seen(&self.vfio)
    }

    /// A register of the capability as user space sees it.
    pub fn seen(&self, offset: usize) -> io::Result<u32> {
        let [dword] = self.vfio.config()?.read_dwords(self.offset(offset))?;
        Ok(dword)
    }

    /// Writes to the capability as user space can.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.vfio.config()?.write(self.offset(offset), bytes)
    }

    /// Writes the control register.
    pub fn control(&self, value: u32) -> io::Result<()> {
        self.write(CONTROL, &value.to_le_bytes())
    }

    /// Offset in config space of what is at `offset` of the capability.
    #[must_use]
    pub fn offset(&self, offset: usize) -> u64 {
        (self.at + offset) as u64
    }

    /// A register of the capability as the device has it.
    pub fn real(&self, offset: usize) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.pdev.read_config(self.offset(offset), &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// An entry of the device's ST table.
    pub fn entry(&self, index: u32) -> io::Result<u16> {
        let mut bytes = [0; 2];
        let offset = self.offset(TABLE + 2 * index as usize);
        self.pdev.read_config(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// All entries of the device's ST table.
    pub fn table(&self) -> io::Result<Vec<u16>> {
        let mut bytes = [0; 2 * ENTRIES as usize];
        self.pdev.read_config(self.offset(TABLE), &mut bytes)?;
        let (entries, _) = bytes.as_chunks();
        Ok(entries.iter().copied().map(u16::from_le_bytes).collect())
    }

    /// Asks for the hint of a target.
    pub fn resolve(&self, flags: u32, source: Source) -> io::Result<Resolved> {
        // What the kernel fills in is wrong before.
        let mut bytes = [0xff; 16];
        bytes[15] = 0;
        let [source, value] = source.numbers();
        for (chunk, number) in bytes.chunks_exact_mut(4).zip([flags, source, value]) {
            chunk.copy_from_slice(&number.to_ne_bytes());
        }
        self.vfio.feature(RESOLVE | GET, HEADER + 16, &mut bytes)?;
        Ok(Resolved {
            steering_tag: u16::from_ne_bytes([bytes[12], bytes[13]]),
            ph: bytes[14],
        })
    }

    /// Makes a request as it is; returns its result, and what it leaves in `applied`.
    pub fn request(&self, request: SetEntries) -> (io::Result<()>, u32) {
        let mut bytes = request.to_bytes();
        let result = self.vfio.feature(ST | SET, HEADER + 24, &mut bytes);
        let applied = u32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        (result.map(|_| ()), applied)
    }

    /// Writes entries of the ST table.
    pub fn set(&self, flags: u32, entries: &[Entry]) -> (io::Result<()>, u32) {
        self.request(SetEntries::new(flags, entries))
    }

    /// Writes one entry of the ST table.
    pub fn set_one(&self, flags: u32, index: u32, source: Source) -> io::Result<()> {
        self.set(flags, &[Entry::new(index, source)]).0
    }

    /// Lets the device write [`DATA`] into the accelerator's exported page.
    ///
    /// # Panics
    ///
    /// If something else arrives.
    pub fn write_to(&self, accelerator: &Accelerator, hint: Hint) -> io::Result<Written> {
        /// Where the data comes from, in the accelerator's memory.
        const FROM: u64 = 0;
        const TO: u64 = page::SIZE as u64;
        const BEFORE: u32 = 0x100;

        let memory = accelerator.vfio.region(accelerator::MEMORY)?;
        memory.write_dwords(FROM, &DATA)?;
        memory.write_dwords(TO, &[BEFORE; DATA.len()])?;
        let bar =
            pci::Device::accelerator(CompleterType::ExtTph)?.bar(accelerator::MEMORY as usize)?;

        self.vfio.set_memory_enable(true)?;
        self.vfio.set_bus_master(true)?;
        let registers = self.vfio.region(engine::BAR)?;
        let copy = Copy {
            rid: self.pdev.rid()?,
            from: bar + FROM,
            to: bar + TO,
            len: size_of_val(&DATA) as u32,
            hint: Some(hint),
            vector: None,
        };
        copy.begin(&registers)?;
        let dropped = engine::end(&registers)?;

        let after = memory.read_dwords(TO)?;
        if after == DATA {
            return Ok(if dropped {
                Written::Dropped
            } else {
                Written::Stored
            });
        }
        assert_eq!(after, DATA.map(|dword| BEFORE + dword));
        assert!(!dropped, "it has the hint that the device says it dropped");
        Ok(Written::Added)
    }

    /// User space sees this control register, and the device has it.
    ///
    /// # Panics
    ///
    /// If that is not so.
    #[track_caller]
    pub fn assert_control(&self, control: u32) {
        assert_eq!(self.seen(CONTROL).unwrap(), control, "seen");
        let expected = if control & ENABLE_EXT == 0 {
            0
        } else {
            control
        };
        assert_eq!(self.real(CONTROL).unwrap(), expected, "real");
    }

    /// Every entry of the device's ST table is zero but these.
    ///
    /// # Panics
    ///
    /// If that is not so.
    #[track_caller]
    pub fn assert_table(&self, entries: &[(u32, u16)]) {
        for (index, tag) in (0..).zip(self.table().unwrap()) {
            let expected = entries.iter().find(|entry| entry.0 == index);
            assert_eq!(tag, expected.map_or(0, |entry| entry.1), "entry {index}");
        }
    }

    /// A request fails before its first entry: it reports nothing and writes nothing.
    ///
    /// # Panics
    ///
    /// If that is not so.
    #[track_caller]
    pub fn assert_refused(&self, flags: u32, entries: &[Entry], errno: i32) {
        let before = self.table().unwrap();
        let control = self.real(CONTROL).unwrap();
        let (result, applied) = self.set(flags, entries);
        assert_errno(result, errno);
        assert_eq!(applied, UNTOUCHED);
        assert_eq!(self.table().unwrap(), before);
        assert_eq!(self.real(CONTROL).unwrap(), control);
    }

    /// User space sees no requester in this device, and cannot make it one.
    ///
    /// # Panics
    ///
    /// If that is not so.
    #[track_caller]
    pub fn assert_hidden(&self) {
        assert!(!self.is_seen().unwrap());
        for feature in [TPH, RESOLVE, ST] {
            assert_errno(self.probe(feature), EOPNOTSUPP);
        }
        assert_errno(self.opt_in(), EOPNOTSUPP);
        assert_errno(self.resolve(0, Source::DmaBuf(-1)), EOPNOTSUPP);
        assert_errno(self.set(0, &[]).0, EOPNOTSUPP);
        for offset in [CAPABILITY, CONTROL, TABLE] {
            self.write(offset, &[0xff; 4]).unwrap();
            assert_eq!(self.seen(offset).unwrap(), 0);
        }
        assert_eq!(self.real(CONTROL).unwrap(), 0);
        assert_eq!(self.entry(0).unwrap(), 0);
    }
}

/// PROBE of a feature, with its operation.
pub fn probe(vfio: &Device, feature: u32) -> io::Result<i32> {
    let operation = if feature == RESOLVE { GET } else { SET };
    vfio.feature(feature | PROBE | operation, HEADER, &mut [])
}

/// Whether user space sees a TPH Requester capability.
pub fn is_seen(vfio: &Device) -> io::Result<bool> {
    let mut config = vec![0; 4096];
    vfio.config()?.read(0, &mut config)?;
    Ok(capability(&config).is_some())
}
