// SPDX-License-Identifier: MIT OR Apache-2.0
//! A PCIe fabric inside one process.
//!
//! Endpoints attach to a [`Fabric`]. Every DMA of a [`Requester`] becomes a TLP: it is encoded to
//! bytes (split at Max_Payload_Size or Max_Read_Request_Size and at 4 KiB), recorded by the
//! analyzer [`Tap`](trace::Tap), decoded from those same bytes, and routed by address:
//!
//! 1. to a peer's BAR, if that peer's Memory Space Enable is set,
//! 2. else to guest memory, through the requester's own DMA mappings,
//! 3. else nowhere: Unsupported Request.
//!
//! With an [`Iommu`], requests go to the root complex first, and only what a function has mapped is
//! there: guest memory, or a page whose translation is a peer's BAR. In the latter case the root
//! complex passes on a TLP of its own with the translated address, which is recorded as well.
//!
//! Which hint a request carries may depend on the port's [`Steering`] at the moment when it is sent.
//!
//! What a completer sees thus comes from the recorded bytes alone. Reads are answered by
//! completions, which are encoded, recorded and decoded likewise. Only requests to guest memory that
//! are not recorded do without bytes: nobody could tell.
//!
//! # Locks
//!
//! One lock guards the whole fabric: it carries one TLP at a time, so that the order of the trace
//! is the order of delivery (and those of one page in a row, if they are sent by one call), and when a call that closes a gate ([`Port::set_command`],
//! [`Port::reset`], …) has returned, nothing more passes that gate. A [`Completer`] is called with
//! this lock held and must not call back into the fabric. Nothing in the fabric but a [`Requester`]
//! waits for a vfio-user client (for a translation, without the lock), so all other calls may be
//! made from a region callback.

mod bars;
mod completer;
mod direct;
mod error;
mod iommu;
mod memory;
mod port;
mod requester;
mod send;
mod split;
mod state;
mod steering;
pub mod trace;

pub use completer::Completer;
pub use error::{AttachError, DmaError, MapError};
pub use iommu::{Iommu, PAGE_SIZE};
pub use port::{Fabric, Limits, Port};
pub use requester::Requester;
pub use steering::{Namespace, Steering, Want};
