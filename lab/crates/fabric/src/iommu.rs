// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IOMMU of the root complex.

use std::io;
use tlp::Bdf;

/// Bytes of a page: what one translation is good for.
pub const PAGE_SIZE: u64 = 4096;

/// Translates the addresses of requests on their way through the root complex.
///
/// A client shares guest memory as a requester addresses it, so only requests to something else
/// (a peer's BAR) need this.
pub trait Iommu: Send + Sync {
    /// The physical address of the page that `requester` addresses at `page`, a multiple of
    /// [`PAGE_SIZE`]; none if the IOMMU blocks it.
    ///
    /// It is asked once for as long as the client keeps the page mapped, without the fabric's lock,
    /// so it may wait for the client.
    fn translate(&self, requester: Bdf, page: u64) -> io::Result<Option<u64>>;
}
