// SPDX-License-Identifier: MIT OR Apache-2.0
//! The analyzer tap: what the fabric recorded of each TLP, and its two files.
//!
//! # trace.txt
//!
//! Per TLP, in order of delivery, one header line and the lines of [`tlp::text::Analyzer`], then
//! an empty line:
//!
//! ```text
//! # 1: initiator -> accelerator BAR2
//! 08000260 -> STP MWr64 TC=0 OHC=2 TS=0 Attr=0 L=8
//! ...
//! ```
//!
//! # trace.pcapng
//!
//! One interface (link type USER0, 147) per sender, named after it: interface 0 is `host`, the
//! root complex with guest memory. A request that the root complex passes on, as an IOMMU makes it,
//! is a packet of the host's that follows the one it stems from. A packet belongs to the interface of its sender. Its data is a
//! header of [`HEADER_LEN`] bytes and the TLP's bytes as on the wire:
//!
//! | byte | meaning |
//! |-|-|
//! | 0 | version of this header: 1 |
//! | 1 | flags: bit 0 the link is in flit mode, bit 1 unsupported request; others 0 |
//! | 2 | number of the interface that receives it; 0xff for an unsupported request |
//! | 3 | BAR that receives it; 0xff if the receiver is the host or the packet a completion |
//!
//! Each packet is one write to the file, so that a killed process leaves a readable trace.

mod reader;
mod record;
mod tap;

pub use reader::{ReadError, Reader};
pub use record::{Destination, Record};
pub use tap::{Tap, TapError};

/// Name of the interface that stands for the root complex and guest memory.
pub const HOST: &str = "host";
/// Name of the text trace within its directory.
pub const TEXT_FILE: &str = "trace.txt";
/// Name of the binary trace within its directory.
pub const BINARY_FILE: &str = "trace.pcapng";

/// Bytes in front of the TLP in a packet of the binary trace.
pub const HEADER_LEN: usize = 4;

const VERSION: u8 = 1;
const FLAG_FLIT: u8 = 1 << 0;
const FLAG_UNSUPPORTED: u8 = 1 << 1;
/// No interface, or no BAR.
const NONE: u8 = 0xff;
