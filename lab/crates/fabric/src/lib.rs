// SPDX-License-Identifier: MIT OR Apache-2.0
//! A PCIe fabric inside one process.
//!
//! Endpoints attach to a [`Fabric`]. Every DMA of a [`Requester`] becomes TLPs: it is split at
//! Max_Payload_Size or Max_Read_Request_Size and at 4 KiB. Each is encoded to bytes that the
//! analyzer [`Tap`](trace::Tap) keeps, and goes by its address:
//!
//! 1. to a peer's BAR, if that peer's Memory Space Enable is set,
//! 2. else to guest memory, through the requester's own DMA mappings,
//! 3. else nowhere: Unsupported Request.
//!
//! With an [`Iommu`], requests go to the root complex first, and only what a function has mapped is
//! there: guest memory, or a page whose translation is a peer's BAR. In the latter case the root
//! complex passes on a TLP of its own with the translated address, which is recorded as well.
//!
//! Which hint a request carries is decided when it is sent, by what the port's [`Tph`] says then: a
//! model only [`Want`]s one.
//!
//! What a completer sees is what the recorded bytes say. It is not decoded from them for every TLP:
//! the tests do that. Reads are answered by completions, which are recorded likewise. Requests that
//! are not recorded do without bytes, and those of them that go to guest memory are moved as a
//! whole: nobody could tell.
//!
//! # Locks
//!
//! One lock guards the whole fabric: it carries one TLP at a time, so that the order of the trace
//! is the order of delivery (and those of one page in a row, if they are sent by one call), and
//! when a call that closes a gate ([`Port::set_command`], [`Port::set_tph`], [`Port::reset`], …)
//! has returned, nothing more passes that gate. A [`Completer`] is called with this lock held and
//! must not call back into the fabric. Nothing in the fabric but a [`Requester`] waits for a
//! vfio-user client (for a translation, without the lock), so all other calls may be made from a
//! region callback.

mod bars;
mod completer;
mod direct;
mod dma_map;
mod error;
mod hint;
mod iommu;
mod port;
mod requester;
mod send;
mod split;
mod state;
pub mod trace;

pub use completer::Completer;
pub use error::Error;
pub use hint::{NoHint, RequesterEnable, StEntries, StMode, TagSource, Tph, Want, Width};
pub use iommu::{Iommu, PAGE_SIZE};
pub use port::{Fabric, Limits, Port};
pub use requester::{CopyError, End, MAX_RUN, Requester};
