// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCIe transaction layer packets (TLPs) that carry TLP processing hints (TPH).
//!
//! The crate turns memory requests and completions into the bytes of a link and back, in both
//! header formats: [`Mode::NonFlit`] (TH bit, PH, 8-bit ST in the header, 16-bit ST with the help
//! of the TPH prefix) and [`Mode::Flit`] (hint in OHC-B). [`text::Analyzer`] prints the same bytes
//! as a protocol analyzer does.
//!
//! Byte 0 of a slice is the first byte on the wire; framing, sequence numbers and CRCs belong to
//! the data link layer and do not appear. Nothing here allocates or does I/O.
//!
//! What no public source confirms is gathered in [`assumptions`].
//!
//! ```
//! use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag, Tlp};
//!
//! let hint = Hint { ph: Ph::Target, tag: SteeringTag::St(0xf0) };
//! let payload = [0u8; 32];
//! let request = MemRequest::new(Bdf::new(4, 0, 0), 0x20e0_0600_0800, 8)?.with_hint(hint);
//! let write = Tlp::MemWrite(request, &payload);
//!
//! let mut wire = [0u8; 64];
//! let len = write.encode(Mode::NonFlit, &mut wire)?;
//! assert_eq!(wire[..4], [0x60, 0x01, 0x00, 0x08]);
//! assert_eq!(Tlp::decode(&wire[..len], Mode::NonFlit)?, write);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![expect(
    clippy::cast_possible_truncation,
    reason = "a codec cuts values to a field's width"
)]

pub mod assumptions;
mod bdf;
mod completion;
mod error;
mod flit;
mod hint;
mod nonflit;
mod request;
pub mod text;
mod tlp;
mod wire;

pub use bdf::Bdf;
pub use completion::{CompletionHeader, CompletionStatus};
pub use error::{CompletionError, DecodeError, EncodeError, FieldError};
pub use hint::{Hint, Ph, SteeringTag};
pub use request::MemRequest;
pub use tlp::{MAX_ENCODED_LEN, Mode, Tlp};
pub use wire::MAX_HEADERS_DW;
