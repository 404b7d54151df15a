// SPDX-License-Identifier: MIT OR Apache-2.0
//! The analyzer tap: what the fabric recorded of each TLP, and the file that keeps it.
//!
//! The file is pcapng, little-endian. It has one interface (link type USER0, 147) per sender, named
//! after it: interface 0 is `host`, the root complex with guest memory. Its description, if it has
//! one, is its path from the root bus, such as `pcie.0/root-port/switch/arm0/03:00.0` (see
//! [`Tap::placed`]). A packet belongs to the interface of its sender, and has the time at which the
//! sender began the call that it stems from. A request that the root complex passes on, as an IOMMU
//! makes it, is a packet of the host's that follows the one it stems from. A packet's data is a
//! header of [`HEADER_LEN`] bytes and the TLP's bytes as on the wire:
//!
//! | byte | meaning |
//! |-|-|
//! | 0 | version of this header: 2 |
//! | 1 | flags: bit 0 the link is in flit mode, bit 1 unsupported request; others 0 |
//! | 2 | number of the interface that receives it; 0xff for an unsupported request |
//! | 3 | BAR that receives it; 0xff if the receiver is the host or the packet a completion |
//! | 4 | kind of the request's [`Object`], its [`ObjectKind::code`]; 0 if the sender names none |
//! | 5-7 | its number, big-endian |
//!
//! A completion is for the object of its request.
//!
//! With a [`Snaplen`], no more of a packet's data is captured. It is more than
//! the headers need, so that only payload is missing; the packet tells how long it was.
//!
//! # Its end
//!
//! Each packet is in the file before its TLP is delivered, whatever becomes of the process. Until
//! the process has ended well, the newest packets are not in their place, but where [`Reader`]
//! finds them; [`finish`] makes a file for other programs of what a killed process left.
//!
//! A trace has a limit ([`DEFAULT_LIMIT`], [`Options::limit`]). The TLP that finds no room and all
//! that follow it travel unrecorded. The trace then ends with a statistics block of interface 0,
//! which says how many they are: [`Reader::unrecorded`].
//!
//! # Its text
//!
//! A [`Record`] prints as one header line and the lines of [`tlp::text::Analyzer`]:
//!
//! ```text
//! # 1: initiator -> accelerator BAR2
//! 08000260 -> STP MWr64 TC=0 OHC=2 TS=0 Attr=0 L=8
//! ...
//! ```

mod append;
mod header;
mod object;
mod reader;
mod record;
mod snaplen;
mod tap;
#[cfg(test)]
mod wireshark;

pub use header::HEADER_LEN;
pub use object::{Object, ObjectKind};
pub use reader::{ReadError, Reader, Sender, extract, finish};
pub use record::{Destination, Record};
pub use snaplen::Snaplen;
pub use tap::{Options, Tap};

/// Name of the interface that stands for the root complex and guest memory.
pub const HOST: &str = "host";
/// Name of the trace within its directory.
pub const BINARY_FILE: &str = "trace.pcapng";
/// Most bytes of a trace, unless said otherwise.
pub const DEFAULT_LIMIT: u64 = 256 << 20;
