// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gateways of TLP emulation: pages to which a process writes responses to TLPs.
//!
//! What a response looks like is not public. So each write is recorded as it comes, and nothing is
//! made of it: this is no claim that firmware would understand it.
//!
//! The record is the file `NAME-gateways.txt` beside the traces, a line for each write:
//!
//! ```text
//! # 1: 0.000123456 s page 0 offset 0x010 width 4: 01020304
//! ```
//!
//! The number gives the order, the time is since the first one, the bytes are in the order of their
//! addresses.

use crate::registers::{GATEWAY_BASE, GATEWAYS};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

/// Bytes of a gateway.
pub const PAGE: u64 = 0x1000;

/// The gateways, and the record of what was written to them.
#[derive(Debug)]
pub struct Gateways {
    file: Option<File>,
    writes: u64,
    first: Option<Instant>,
}

impl Gateways {
    /// Those of the adapter `name`, recorded in the directory `dir`; without one they are not
    /// recorded.
    pub fn new(name: &str, dir: Option<&Path>) -> io::Result<Self> {
        let file = dir
            .map(|dir| File::create(dir.join(format!("{name}-gateways.txt"))))
            .transpose()?;
        Ok(Self {
            file,
            writes: 0,
            first: None,
        })
    }

    /// Takes a write to the BAR, if it is to a gateway.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> bool {
        let Some(at) = offset
            .checked_sub(GATEWAY_BASE)
            .filter(|&at| at < GATEWAYS * PAGE)
        else {
            return false;
        };
        self.writes += 1;
        let first = *self.first.get_or_insert_with(Instant::now);
        let mut line = format!(
            "# {}: {:.9} s page {} offset {:#05x} width {}: ",
            self.writes,
            first.elapsed().as_secs_f64(),
            at / PAGE,
            at % PAGE,
            data.len()
        );
        for byte in data {
            // Writing to a string does not fail.
            let _ = write!(line, "{byte:02x}");
        }
        line.push('\n');
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(line.as_bytes())
        {
            log::error!("a write to a gateway is not recorded: {error}");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn writes_are_recorded_as_they_come() {
        let dir = tempfile::tempdir().unwrap();
        let mut gateways = Gateways::new("adapter", Some(dir.path())).unwrap();
        assert!(gateways.write(GATEWAY_BASE + 0x10, &[1, 2, 3, 4]));
        assert!(gateways.write(GATEWAY_BASE + 3 * PAGE + 0xfff, &[0xab]));
        assert!(gateways.write(GATEWAY_BASE + 0x10, &[5; 8]));
        let text = fs::read_to_string(dir.path().join("adapter-gateways.txt")).unwrap();
        let seen: Vec<_> = text
            .lines()
            .map(|line| line.split_once(" s ").unwrap().1)
            .collect();
        assert_eq!(
            seen,
            [
                "page 0 offset 0x010 width 4: 01020304",
                "page 3 offset 0xfff width 1: ab",
                "page 0 offset 0x010 width 8: 0505050505050505",
            ]
        );
        assert!(text.starts_with("# 1: 0.0") && text.contains("\n# 3: "));
    }

    #[test]
    fn other_pages_are_no_gateways() {
        let mut gateways = Gateways::new("adapter", None).unwrap();
        for offset in [0, GATEWAY_BASE - 1, GATEWAY_BASE + GATEWAYS * PAGE] {
            assert!(!gateways.write(offset, &[0; 4]), "{offset:#x}");
        }
        assert!(
            gateways.write(GATEWAY_BASE, &[0; 4]),
            "one that nobody records"
        );
    }
}
