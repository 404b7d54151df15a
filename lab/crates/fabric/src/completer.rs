// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a function does with requests that arrive at its BARs.

use tlp::MemRequest;

/// The memory side of a function: it owns the BARs that its port has mapped.
///
/// Called with the fabric's lock held (see the crate's documentation): an implementation locks its
/// own model only, returns promptly and never calls the fabric.
pub trait Completer: Send + Sync {
    /// A memory write for `bar` at `offset` (bytes, DW-aligned).
    ///
    /// `data` holds `request.len_dw()` DWs; only bytes that `request.is_enabled()` names may
    /// change. The request lies within the BAR and carries the hint as it was on the wire.
    fn write(&self, bar: usize, offset: u64, request: &MemRequest, data: &[u8]);

    /// A memory read of `bar` at `offset` (bytes, DW-aligned): fills `data`, whole DWs.
    fn read(&self, bar: usize, offset: u64, request: &MemRequest, data: &mut [u8]);
}
