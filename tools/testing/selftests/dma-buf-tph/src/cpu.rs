// SPDX-License-Identifier: GPL-2.0
//! The processors of the guest.

use std::io::{self, Error};
use std::{fs, str::FromStr};

/// The lowest number that is no processor's, not even one's that is offline.
pub fn first_absent() -> io::Result<u32> {
    // A range from 0 on, or 0 alone.
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = possible.trim().rsplit('-').next().unwrap_or_default();
    let last = u32::from_str(last).map_err(Error::other)?;
    Ok(last + 1)
}
