// SPDX-License-Identifier: GPL-2.0
//! A VFIO PCI device, and the dma-bufs that it exports.

use crate::feature::{self, feature};
use crate::iommufd::Ioas;
use crate::page::Page;
use crate::pci;
use crate::sys::{io, ioctl_ref, ioctl_val};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use vfio_bindings::bindings::vfio;

const fn request(nr: u32) -> u64 {
    io(vfio::VFIO_TYPE, vfio::VFIO_BASE + nr)
}

const VFIO_SET_IOMMU: u64 = request(2);
const VFIO_GROUP_SET_CONTAINER: u64 = request(4);
const VFIO_GROUP_GET_DEVICE_FD: u64 = request(6);
const VFIO_DEVICE_GET_REGION_INFO: u64 = request(8);
const VFIO_DEVICE_SET_IRQS: u64 = request(10);
const VFIO_DEVICE_RESET: u64 = request(11);
const VFIO_DEVICE_PCI_HOT_RESET: u64 = request(13);
const VFIO_DEVICE_FEATURE: u64 = request(17);
const VFIO_DEVICE_BIND_IOMMUFD: u64 = request(18);
const VFIO_DEVICE_ATTACH_IOMMUFD_PT: u64 = request(19);

/// `VFIO_DMA_BUF_TPH_ST`: the 8-bit tag is valid.
pub const TPH_ST: u32 = 1;
/// `VFIO_DMA_BUF_TPH_ST_EXT`: the 16-bit Extended tag is valid.
pub const TPH_ST_EXT: u32 = 2;

pub use vfio::{
    VFIO_DEVICE_FEATURE_GET as GET, VFIO_DEVICE_FEATURE_PROBE as PROBE,
    VFIO_DEVICE_FEATURE_SET as SET,
};

/// `struct vfio_device_feature_dma_buf_tph`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tph {
    /// A dma-buf that the device exported.
    pub dmabuf_fd: i32,
    /// Which tags are valid.
    pub flags: u32,
    /// The 16-bit Extended tag.
    pub steering_tag_ext: u16,
    /// The 8-bit tag.
    pub steering_tag: u8,
    /// The processing hint, 0 to 3.
    pub ph: u8,
}

const _: () = {
    assert!(size_of::<Tph>() == 12);
    assert!(offset_of!(Tph, dmabuf_fd) == 0);
    assert!(offset_of!(Tph, flags) == 4);
    assert!(offset_of!(Tph, steering_tag_ext) == 8);
    assert!(offset_of!(Tph, steering_tag) == 10);
    assert!(offset_of!(Tph, ph) == 11);
};

impl Tph {
    fn from_bytes(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, steering_tag, ph] = bytes;
        Self {
            dmabuf_fd: i32::from_ne_bytes([a, b, c, d]),
            flags: u32::from_ne_bytes([e, f, g, h]),
            steering_tag_ext: u16::from_ne_bytes([i, j]),
            steering_tag,
            ph,
        }
    }

    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[0..4].copy_from_slice(&self.dmabuf_fd.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.steering_tag_ext.to_ne_bytes());
        bytes[10] = self.steering_tag;
        bytes[11] = self.ph;
        bytes
    }
}

/// `struct vfio_device_bind_iommufd`, without the token.
#[repr(C)]
struct BindIommufd {
    argsz: u32,
    flags: u32,
    iommufd: i32,
    out_devid: u32,
}

/// `struct vfio_device_attach_iommufd_pt`, without the PASID.
#[repr(C)]
struct AttachIommufdPt {
    argsz: u32,
    flags: u32,
    pt_id: u32,
}

/// `struct vfio_pci_hot_reset` with one group at most.
#[repr(C)]
struct HotReset {
    argsz: u32,
    flags: u32,
    count: u32,
    group_fd: i32,
}

/// An open VFIO PCI device.
pub struct Device {
    file: File,
    /// The group that it was opened by; none if by itself.
    group: Option<File>,
    /// Closing these ends the access to the device.
    _access: Vec<File>,
}

fn open_node(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Error::new(error.kind(), format!("{path}: {error}")))
}

/// `struct vfio_irq_set` with file descriptors.
#[repr(C)]
struct SetIrqs {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    fds: [RawFd; MAX_VECTORS],
}

/// Most MSI-X vectors that are connected here.
const MAX_VECTORS: usize = 8;

/// A buffer for `struct vfio_device_feature` and its payload, aligned for it.
#[repr(C, align(8))]
struct Feature([u8; 64]);

impl Device {
    /// Binds `pdev` to vfio-pci and opens it: through its own character device and iommufd if an
    /// IOMMU translates its addresses, else through its group in no-IOMMU mode.
    pub fn open(pdev: &pci::Device) -> io::Result<Self> {
        if pdev.has_iommu() {
            Self::open_cdev(pdev)
        } else {
            Self::open_noiommu(pdev)
        }
    }

    /// Loads what [`Device::open`] needs.
    pub fn load(pdev: &pci::Device) -> io::Result<()> {
        if pdev.has_iommu() {
            pci::modprobe("iommufd", &[])?;
        } else {
            pci::modprobe("vfio", &["enable_unsafe_noiommu_mode=1"])?;
        }
        pci::modprobe("vfio-pci", &[])
    }

    fn open_cdev(pdev: &pci::Device) -> io::Result<Self> {
        Self::load(pdev)?;
        Self::open_in(pdev, &Ioas::new()?)
    }

    /// Binds `pdev` to vfio-pci and opens it through its own character device, so that it reaches
    /// what is mapped in `ioas`. Without an IOMMU that is what its user may let it reach.
    pub fn open_in(pdev: &pci::Device, ioas: &Ioas) -> io::Result<Self> {
        pdev.bind("vfio-pci")?;
        let file = open_node(&format!("/dev/vfio/devices/{}", pdev.vfio_name()?))?;

        let mut bind = BindIommufd {
            argsz: size_of::<BindIommufd>() as u32,
            flags: 0,
            iommufd: ioas.iommufd.as_raw_fd(),
            out_devid: 0,
        };
        // SAFETY: The kernel respects `argsz`.
        unsafe { ioctl_ref(file.as_fd(), VFIO_DEVICE_BIND_IOMMUFD, &mut bind) }?;

        let mut attach = AttachIommufdPt {
            argsz: size_of::<AttachIommufdPt>() as u32,
            flags: 0,
            pt_id: ioas.id,
        };
        // SAFETY: The kernel respects `argsz`.
        unsafe { ioctl_ref(file.as_fd(), VFIO_DEVICE_ATTACH_IOMMUFD_PT, &mut attach) }?;

        Ok(Self {
            file,
            group: None,
            _access: vec![ioas.iommufd.try_clone()?],
        })
    }

    fn open_noiommu(pdev: &pci::Device) -> io::Result<Self> {
        Self::load(pdev)?;
        pdev.bind("vfio-pci")?;

        let container = open_node("/dev/vfio/vfio")?;
        let group = open_node(&format!("/dev/vfio/noiommu-{}", pdev.iommu_group()?))?;

        let mut container_fd = container.as_raw_fd();
        // SAFETY: The kernel reads one int.
        unsafe { ioctl_ref(group.as_fd(), VFIO_GROUP_SET_CONTAINER, &mut container_fd) }?;
        ioctl_val(
            container.as_fd(),
            VFIO_SET_IOMMU,
            vfio::VFIO_NOIOMMU_IOMMU.into(),
        )?;

        let mut name = CString::new(pdev.address())?.into_bytes_with_nul();
        // SAFETY: The kernel reads a string, which ends in a NUL.
        let fd =
            unsafe { ioctl_ref(group.as_fd(), VFIO_GROUP_GET_DEVICE_FD, name.as_mut_slice()) }?;
        // SAFETY: The ioctl returned a file descriptor that is ours.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });

        Ok(Self {
            file,
            group: Some(group),
            _access: vec![container],
        })
    }

    /// Returns the access to a region, for example BAR 2.
    pub fn region(&self, index: u32) -> io::Result<Region<'_>> {
        let mut info = vfio::vfio_region_info {
            argsz: size_of::<vfio::vfio_region_info>() as u32,
            index,
            ..Default::default()
        };
        // SAFETY: The kernel respects `argsz`.
        unsafe { ioctl_ref(self.file.as_fd(), VFIO_DEVICE_GET_REGION_INFO, &mut info) }?;

        Ok(Region {
            file: &self.file,
            offset: info.offset,
        })
    }

    /// Returns the access to config space.
    pub fn config(&self) -> io::Result<Region<'_>> {
        self.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)
    }

    /// Sets or clears a bit of the command register.
    fn set_command(&self, bit: u16, on: bool) -> io::Result<()> {
        const COMMAND: u64 = 4;

        let config = self.config()?;
        let mut bytes = [0; 2];
        config.read(COMMAND, &mut bytes)?;
        let command = u16::from_le_bytes(bytes) & !bit | if on { bit } else { 0 };
        config.write(COMMAND, &command.to_le_bytes())
    }

    /// Sets or clears Memory Space Enable in the command register.
    pub fn set_memory_enable(&self, on: bool) -> io::Result<()> {
        self.set_command(2, on)
    }

    /// Sets or clears Bus Master Enable in the command register.
    pub fn set_bus_master(&self, on: bool) -> io::Result<()> {
        self.set_command(4, on)
    }

    /// Connects MSI-X vectors from 0 on, one to each eventfd.
    ///
    /// # Panics
    ///
    /// If there are more than eight.
    pub fn connect_msix(&self, eventfds: &[File]) -> io::Result<()> {
        let mut set = SetIrqs {
            argsz: size_of::<SetIrqs>() as u32,
            flags: vfio::VFIO_IRQ_SET_DATA_EVENTFD | vfio::VFIO_IRQ_SET_ACTION_TRIGGER,
            index: vfio::VFIO_PCI_MSIX_IRQ_INDEX,
            start: 0,
            count: eventfds.len() as u32,
            fds: [-1; MAX_VECTORS],
        };
        assert!(eventfds.len() <= MAX_VECTORS);
        for (fd, eventfd) in set.fds.iter_mut().zip(eventfds) {
            *fd = eventfd.as_raw_fd();
        }
        // SAFETY: The kernel respects `argsz`, and reads as many descriptors as `count` says.
        unsafe { ioctl_ref(self.file.as_fd(), VFIO_DEVICE_SET_IRQS, &mut set) }?;
        Ok(())
    }

    /// Offset in config space of this capability, as user space sees it.
    fn capability(&self, id: u8) -> io::Result<u64> {
        const CAPABILITIES: usize = 0x34;

        let mut config = [0; 0x100];
        self.config()?.read(0, &mut config)?;
        let mut at = config[CAPABILITIES];
        while at != 0 {
            if config[usize::from(at)] == id {
                return Ok(at.into());
            }
            at = config[usize::from(at) + 1];
        }
        Err(Error::other(format!("no capability {id:#x}")))
    }

    /// Sets the power state, 0 to 3, in the Power Management capability.
    pub fn set_power_state(&self, state: u8) -> io::Result<()> {
        const POWER_MANAGEMENT: u8 = 1;
        const CONTROL: u64 = 4;

        let at = self.capability(POWER_MANAGEMENT)? + CONTROL;
        let mut control = [0];
        self.config()?.read(at, &mut control)?;
        self.config()?.write(at, &[control[0] & !3 | state])
    }

    /// Initiates a Function Level Reset in the PCI Express capability.
    pub fn function_level_reset(&self) -> io::Result<()> {
        const EXPRESS: u8 = 0x10;
        const DEVICE_CONTROL: u64 = 8;
        const INITIATE: u16 = 1 << 15;

        let at = self.capability(EXPRESS)? + DEVICE_CONTROL;
        let mut control = [0; 2];
        self.config()?.read(at, &mut control)?;
        let control = u16::from_le_bytes(control) | INITIATE;
        self.config()?.write(at, &control.to_le_bytes())
    }

    /// Resets the device.
    pub fn reset(&self) -> io::Result<()> {
        ioctl_val(self.file.as_fd(), VFIO_DEVICE_RESET, 0)?;
        Ok(())
    }

    /// Resets the bus or slot that the device is alone on.
    pub fn hot_reset(&self) -> io::Result<()> {
        let group_fd = self.group.as_ref().map(AsRawFd::as_raw_fd);
        let mut reset = HotReset {
            argsz: size_of::<HotReset>() as u32,
            flags: 0,
            count: group_fd.is_some().into(),
            group_fd: group_fd.unwrap_or(-1),
        };
        // SAFETY: The kernel reads no more groups than there are.
        unsafe { ioctl_ref(self.file.as_fd(), VFIO_DEVICE_PCI_HOT_RESET, &mut reset) }?;
        Ok(())
    }

    /// Closes the device while others may be using it: they find `/dev/null` in its place.
    pub fn close(&self) -> io::Result<()> {
        let null = File::open("/dev/null")?;
        // SAFETY: The descriptor that is replaced stays ours and open.
        if unsafe { libc::dup2(null.as_raw_fd(), self.file.as_raw_fd()) } < 0 {
            return Err(Error::last_os_error());
        }
        Ok(())
    }

    /// `VFIO_DEVICE_FEATURE` with the flags and `argsz` as they are given; `payload` follows the
    /// header and takes what the kernel writes.
    ///
    /// # Panics
    ///
    /// If the payload has more than 56 bytes.
    pub fn feature(&self, flags: u32, argsz: u32, payload: &mut [u8]) -> io::Result<i32> {
        let mut feature = Feature([0; 64]);
        feature.0[0..4].copy_from_slice(&argsz.to_ne_bytes());
        feature.0[4..8].copy_from_slice(&flags.to_ne_bytes());
        feature.0[8..8 + payload.len()].copy_from_slice(payload);
        // SAFETY: No feature that is used here has a payload of more than 56 bytes.
        let ret = unsafe { ioctl_ref(self.file.as_fd(), VFIO_DEVICE_FEATURE, &mut feature) };
        payload.copy_from_slice(&feature.0[8..8 + payload.len()]);
        ret
    }

    /// `VFIO_DEVICE_FEATURE` with a header at the very end of the mapped memory, so that the
    /// payload behind it cannot be read.
    pub fn feature_unmapped_payload(&self, flags: u32, argsz: u32) -> io::Result<i32> {
        const PAGE: usize = 4096;

        // SAFETY: A new private mapping of two pages, the second of which is then inaccessible.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        // SAFETY: The second page belongs to the mapping made above, and nothing refers to it.
        unsafe { libc::munmap(base.byte_add(PAGE), PAGE) };
        // SAFETY: The last eight bytes of the first page, aligned to four, are ours to write.
        let header = unsafe { &mut *base.byte_add(PAGE - 8).cast::<[u32; 2]>() };
        *header = [argsz, flags];
        // SAFETY: Only the header can be accessed, any further access is the error to see here.
        let ret = unsafe { ioctl_ref(self.file.as_fd(), VFIO_DEVICE_FEATURE, header) };
        // SAFETY: Nothing refers to the page any more.
        unsafe { libc::munmap(base, PAGE) };
        ret
    }

    /// Exports `len` bytes of a BAR from `offset` on as a dma-buf; both in whole pages.
    pub fn export(&self, bar: u32, offset: u64, len: u64) -> io::Result<OwnedFd> {
        let mut payload = [0; 32];
        payload[0..4].copy_from_slice(&bar.to_ne_bytes());
        payload[4..8].copy_from_slice(&((libc::O_RDWR | libc::O_CLOEXEC) as u32).to_ne_bytes());
        payload[12..16].copy_from_slice(&1u32.to_ne_bytes());
        payload[16..24].copy_from_slice(&offset.to_ne_bytes());
        payload[24..32].copy_from_slice(&len.to_ne_bytes());
        let fd = match self.feature(
            vfio::VFIO_DEVICE_FEATURE_DMA_BUF | GET,
            8 + 32,
            &mut payload,
        ) {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOTTY) && feature::is_conformance() =>
            {
                feature::lacks("VFIO_DEVICE_FEATURE_DMA_BUF")
            }
            result => result?,
        };

        // SAFETY: The ioctl returned a file descriptor that is ours.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Returns what is published for a dma-buf, or for -1 which tags the device completes.
    pub fn published(&self, dmabuf_fd: i32) -> io::Result<Tph> {
        // All but the file descriptor is the kernel's to fill in.
        let mut bytes = Tph {
            dmabuf_fd,
            ..Tph::from_bytes([0xff; 12])
        }
        .to_bytes();
        let feature = feature();
        if !feature.has_get {
            feature::lacks("GET");
        }
        self.feature(feature.number | GET, 8 + 12, &mut bytes)?;
        Ok(Tph::from_bytes(bytes))
    }

    /// Publishes steering tags: `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`.
    pub fn publish(&self, tph: Tph) -> io::Result<()> {
        self.feature(feature().number | SET, 8 + 12, &mut tph.to_bytes())?;
        Ok(())
    }
}

/// A region of a [`Device`].
pub struct Region<'a> {
    file: &'a File,
    offset: u64,
}

impl Region<'_> {
    /// Reads from `offset` of the region on.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.offset + offset)
    }

    /// Writes from `offset` of the region on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.offset + offset)
    }

    /// Maps the page at `offset` of the region.
    pub fn page(&self, offset: u64) -> io::Result<Page> {
        Page::of(self.file, self.offset + offset)
    }

    /// Reads `N` little-endian dwords.
    pub fn read_dwords<const N: usize>(&self, offset: u64) -> io::Result<[u32; N]> {
        let mut dwords = [0; N];
        for (offset, dword) in (offset..).step_by(4).zip(&mut dwords) {
            let mut bytes = [0; 4];
            self.read(offset, &mut bytes)?;
            *dword = u32::from_le_bytes(bytes);
        }
        Ok(dwords)
    }

    /// Writes dwords in little endian.
    pub fn write_dwords(&self, offset: u64, dwords: &[u32]) -> io::Result<()> {
        for (offset, dword) in (offset..).step_by(4).zip(dwords) {
            self.write(offset, &dword.to_le_bytes())?;
        }
        Ok(())
    }
}
