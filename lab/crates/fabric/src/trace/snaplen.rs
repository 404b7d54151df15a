// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of each packet a trace captures.

use super::HEADER_LEN;
use crate::Error;
use tlp::MAX_HEADERS_DW;

/// How many bytes of each packet's data a trace captures: whole DWs, and no headers are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snaplen(u32);

impl Snaplen {
    /// The least: what stands in front of a TLP, and its longest headers.
    #[allow(clippy::cast_possible_truncation)] // 32
    pub const HEADERS: Self = Self((HEADER_LEN + 4 * MAX_HEADERS_DW) as u32);

    /// # Errors
    /// [`Error::Snaplen`] if so many bytes would cut headers, or a DW.
    pub fn new(bytes: u32) -> Result<Self, Error> {
        if bytes < Self::HEADERS.0 || !bytes.is_multiple_of(4) {
            return Err(Error::Snaplen(bytes));
        }
        Ok(Self(bytes))
    }

    /// So many.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snaplen_that_cuts_headers_or_a_dw_is_refused() {
        let least = Snaplen::HEADERS.bytes();
        assert_eq!(least, 32);
        for bytes in [least, least + 4, u32::MAX - 3] {
            assert_eq!(Snaplen::new(bytes).unwrap().bytes(), bytes);
        }
        for bytes in [0, least - 4, least + 2, u32::MAX] {
            let refused = Snaplen::new(bytes);
            assert!(
                matches!(refused, Err(Error::Snaplen(named)) if named == bytes),
                "{refused:?}"
            );
        }
        assert_eq!(
            Snaplen::new(30).unwrap_err().to_string(),
            "snaplen of 30 bytes: it must be 32 at least, and whole DWs"
        );
    }
}
