// SPDX-License-Identifier: GPL-2.0
//! PCI devices in sysfs, and the drivers they are bound to.

use std::fs;
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Vendor id of the lab's devices.
pub const VENDOR: u16 = 0x1af4;
/// Device id of the lab's accelerator.
pub const ACCELERATOR: u16 = 0x10f2;

const DEVICES: &str = "/sys/bus/pci/devices";

/// A PCI function.
pub struct Device {
    sysfs: PathBuf,
}

impl Device {
    /// Finds the first function with these ids.
    pub fn find(vendor: u16, device: u16) -> io::Result<Self> {
        for entry in fs::read_dir(DEVICES)? {
            let sysfs = entry?.path();
            let id = |name| -> io::Result<u16> {
                let text = fs::read_to_string(sysfs.join(name))?;
                u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).map_err(Error::other)
            };
            if id("vendor")? == vendor && id("device")? == device {
                return Ok(Self { sysfs });
            }
        }

        Err(Error::other(format!(
            "no PCI device {vendor:04x}:{device:04x}: start the guest with the lab's devices"
        )))
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

    /// Binds it to `driver` and to no other.
    pub fn bind(&self, driver: &str) -> io::Result<()> {
        let bound = self.sysfs.join("driver");
        if bound.exists() {
            if fs::read_link(&bound)?.ends_with(driver) {
                return Ok(());
            }
            fs::write(bound.join("unbind"), self.address())?;
        }
        fs::write(self.sysfs.join("driver_override"), driver)?;
        fs::write(
            Path::new("/sys/bus/pci/drivers").join(driver).join("bind"),
            self.address(),
        )
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
