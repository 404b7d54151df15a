// SPDX-License-Identifier: GPL-2.0
//! PCI devices in sysfs, and the drivers they are bound to.

use crate::page::Page;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Error};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Vendor id of the lab's devices.
pub const VENDOR: u16 = 0x1af4;
/// Device id of the lab's initiator of 8-bit tags.
pub const INITIATOR: u16 = 0x10f0;
/// Device id of the lab's initiator of 16-bit tags.
pub const INITIATOR_EXT: u16 = 0x10f1;
/// Device id of the lab's initiator with interrupt vector mode.
pub const INITIATOR_IV: u16 = 0x10f3;
/// Device id of the lab's initiator whose ST table is in the MSI-X table.
pub const INITIATOR_MSIX: u16 = 0x10f4;
/// Device id of the lab's initiator without an ST table.
pub const INITIATOR_NO_TABLE: u16 = 0x10f5;
/// Device id of the lab's initiator without TPH.
pub const INITIATOR_NO_TPH: u16 = 0x10f6;
/// Device id of the lab's accelerator.
pub const ACCELERATOR: u16 = 0x10f2;

const DEVICES: &str = "/sys/bus/pci/devices";

/// P2P Request Redirect and P2P Completion Redirect of the ACS control register.
const ACS_REDIRECT: u16 = 0x0c;

/// A PCI function.
pub struct Device {
    sysfs: PathBuf,
}

/// TPH Completer Supported, bits 13:12 of Device Capabilities 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompleterType {
    /// It takes no hints.
    None = 0,
    /// It takes 8-bit tags.
    Tph = 1,
    /// Reserved by the specification.
    Reserved = 2,
    /// It takes 8-bit and 16-bit tags.
    ExtTph = 3,
}

impl Device {
    /// Finds one of the lab's devices.
    pub fn find(device: u16) -> io::Result<Self> {
        Self::find_with(device, |_| Ok(true))?
            .ok_or_else(|| missing(format_args!("device {VENDOR:04x}:{device:04x}")))
    }

    /// Finds one of the lab's devices that is behind a root port, or one that is not.
    pub fn find_behind(device: u16, root_port: bool) -> io::Result<Self> {
        let is_wanted = |device: &Self| Ok(device.root_port()?.is_some() == root_port);
        Self::find_with(device, is_wanted)?
            .ok_or_else(|| missing(format_args!("device {VENDOR:04x}:{device:04x} there")))
    }

    /// Finds the lab's accelerator of this completer type.
    pub fn accelerator(completer: CompleterType) -> io::Result<Self> {
        let is_wanted = |device: &Self| Ok(device.completer_field()? == completer as u8);
        Self::find_with(ACCELERATOR, is_wanted)?
            .ok_or_else(|| missing(format_args!("accelerator of completer type {completer:?}")))
    }

    fn find_with(
        id: u16,
        is_wanted: impl Fn(&Self) -> io::Result<bool>,
    ) -> io::Result<Option<Self>> {
        for entry in fs::read_dir(DEVICES)? {
            let device = Self {
                sysfs: entry?.path(),
            };
            if device.id("vendor")? == VENDOR && device.id("device")? == id && is_wanted(&device)? {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    fn id(&self, name: &str) -> io::Result<u16> {
        let text = fs::read_to_string(self.sysfs.join(name))?;
        u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).map_err(Error::other)
    }

    /// The TPH completer field of Device Capabilities 2, see [`CompleterType`].
    pub fn completer_field(&self) -> io::Result<u8> {
        const CAPABILITIES: usize = 0x34;
        const EXPRESS: u8 = 0x10;
        const DEVCAP2: usize = 0x24;

        let config = self.config()?;
        let byte = |offset: usize| {
            config
                .get(offset)
                .copied()
                .ok_or_else(|| Error::other(format!("{}: short config space", self.address())))
        };
        let mut capability = usize::from(byte(CAPABILITIES)?);
        // A device that is gone reads as all ones.
        while !matches!(capability, 0 | 0xff) {
            if byte(capability)? == EXPRESS {
                return Ok(byte(capability + DEVCAP2 + 1)? >> 4 & 3);
            }
            capability = usize::from(byte(capability + 1)?);
        }
        Err(Error::other(format!("{}: no PCI Express", self.address())))
    }

    /// Its configuration space, as it can be read now.
    pub fn config(&self) -> io::Result<Vec<u8>> {
        fs::read(self.sysfs.join("config"))
    }

    /// Reads from its configuration space, no more than is asked for.
    pub fn read_config(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        File::open(self.sysfs.join("config"))?.read_exact_at(bytes, offset)
    }

    /// Writes to its configuration space, whoever else uses it.
    pub fn write_config(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let config = OpenOptions::new()
            .write(true)
            .open(self.sysfs.join("config"))?;
        config.write_all_at(bytes, offset)
    }

    /// Sets or clears Bus Master Enable in the command register.
    pub fn set_bus_master(&self, on: bool) -> io::Result<()> {
        const COMMAND: usize = 4;
        const BUS_MASTER: u8 = 4;

        let config = self.config()?;
        let command = config[COMMAND] & !BUS_MASTER | if on { BUS_MASTER } else { 0 };
        self.write_config(COMMAND as u64, &[command, config[COMMAND + 1]])
    }

    /// Where its ACS control register is, and what that holds.
    fn acs_control(&self) -> io::Result<(usize, u16)> {
        const ACS: u16 = 0x0d;
        const CONTROL: usize = 6;

        let config = self.config()?;
        let word = |at: usize| u16::from_le_bytes([config[at], config[at + 1]]);
        let mut capability = 0x100;
        while capability != 0 {
            if word(capability) == ACS {
                return Ok((capability + CONTROL, word(capability + CONTROL)));
            }
            capability = usize::from(word(capability + 2) >> 4);
        }
        Err(Error::other(format!("{}: no ACS", self.address())))
    }

    /// Whether it redirects requests and completions between peers to the host bridge.
    pub fn acs_redirects(&self) -> io::Result<bool> {
        Ok(self.acs_control()?.1 & ACS_REDIRECT == ACS_REDIRECT)
    }

    /// Lets peers below it reach each other again.
    pub fn clear_acs_redirect(&self) -> io::Result<()> {
        let (offset, control) = self.acs_control()?;
        self.write_config(offset as u64, &(control & !ACS_REDIRECT).to_le_bytes())
    }

    /// Reads a register of a BAR, whichever driver it is bound to.
    pub fn register(&self, bar: usize, offset: usize) -> io::Result<u32> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.sysfs.join(format!("resource{bar}")))?;
        let [value] = Page::of(&file, 0)?.read(offset);
        Ok(value)
    }

    /// Its address, such as `0000:00:11.0`.
    #[must_use]
    pub fn address(&self) -> String {
        self.sysfs
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Bus address of a BAR.
    pub fn bar(&self, bar: usize) -> io::Result<u64> {
        let text = fs::read_to_string(self.sysfs.join("resource"))?;
        text.lines()
            .nth(bar)
            .and_then(|line| line.split_whitespace().next())
            .and_then(|start| u64::from_str_radix(start.trim_start_matches("0x"), 16).ok())
            .ok_or_else(|| Error::other(format!("{}: no BAR {bar}", self.address())))
    }

    /// Takes it from the driver that it is bound to.
    pub fn unbind(&self) -> io::Result<()> {
        fs::write(self.sysfs.join("driver").join("unbind"), self.address())
    }

    /// Takes it from the driver that it is bound to, if there is one.
    pub fn release(&self) -> io::Result<()> {
        if self.sysfs.join("driver").exists() {
            self.unbind()
        } else {
            Ok(())
        }
    }

    /// Its requester id: bus, device, function.
    pub fn rid(&self) -> io::Result<u16> {
        // 0000:00:11.0
        let address = self.address();
        let number = |range: std::ops::Range<usize>| {
            let digits = address.get(range).unwrap_or_default();
            u16::from_str_radix(digits, 16).map_err(Error::other)
        };
        Ok(number(5..7)? << 8 | number(8..10)? << 3 | number(11..12)?)
    }

    /// Binds it to `driver` and to no other.
    pub fn bind(&self, driver: &str) -> io::Result<()> {
        let bound = self.sysfs.join("driver");
        if bound.exists() {
            if fs::read_link(&bound)?.ends_with(driver) {
                return Ok(());
            }
            self.unbind()?;
        }
        fs::write(self.sysfs.join("driver_override"), driver)?;
        fs::write(
            Path::new("/sys/bus/pci/drivers").join(driver).join("bind"),
            self.address(),
        )
    }

    /// Allows only these ways to reset it: none by an empty string, all that it has by `default`.
    pub fn set_reset_methods(&self, names: &str) -> io::Result<()> {
        fs::write(self.sysfs.join("reset_method"), format!("{names}\n"))
    }

    /// Whether an IOMMU translates the addresses of its requests.
    #[must_use]
    pub fn has_iommu(&self) -> bool {
        // vfio gives a device without one a group, too.
        let group = self.sysfs.join("iommu_group");
        let name = fs::read_to_string(group.join("name")).unwrap_or_default();
        group.exists() && name.trim() != "vfio-noiommu"
    }

    /// The root port that it is behind; none if it is on a root bus itself.
    pub fn root_port(&self) -> io::Result<Option<Self>> {
        let path = fs::canonicalize(&self.sysfs)?;
        // /sys/devices/pci0000:00/ROOT PORT/.../DEVICE
        let is_host_bridge = |path: &&Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with("pci")
        };
        let top = path
            .ancestors()
            .find(|path| path.parent().as_ref().is_some_and(is_host_bridge))
            .ok_or_else(|| Error::other(format!("{}: no host bridge", self.address())))?;
        Ok((top != path).then(|| Self { sysfs: top.into() }))
    }

    /// The name of its vfio device, such as `vfio0`.
    pub fn vfio_name(&self) -> io::Result<String> {
        let entry = fs::read_dir(self.sysfs.join("vfio-dev"))?
            .next()
            .ok_or_else(|| Error::other(format!("{}: no vfio device", self.address())))??;
        Ok(entry.file_name().to_string_lossy().into_owned())
    }

    /// The number of its IOMMU group.
    pub fn iommu_group(&self) -> io::Result<String> {
        let group = fs::read_link(self.sysfs.join("iommu_group"))?;
        Ok(group
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default())
    }
}

fn missing(what: std::fmt::Arguments<'_>) -> Error {
    Error::other(format!("no {what}: start the guest with the lab's devices"))
}

/// Loads a module with `parameters`.
pub fn modprobe(module: &str, parameters: &[&str]) -> io::Result<()> {
    let status = Command::new("modprobe")
        .arg(module)
        .args(parameters)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(format!("modprobe {module}: {status}")))
    }
}

/// Whether a module is loaded; its name as in `/proc/modules`, with underscores.
pub fn is_loaded(module: &str) -> io::Result<bool> {
    let modules = fs::read_to_string("/proc/modules")?;
    Ok(modules
        .lines()
        .any(|line| line.split(' ').next() == Some(module)))
}

/// Unloads a module, if it is loaded.
pub fn unload(module: &str) -> io::Result<()> {
    let status = Command::new("modprobe").arg("-r").arg(module).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::other(format!("modprobe -r {module}: {status}")))
    }
}
