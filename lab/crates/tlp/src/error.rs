// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with a field, a packet to send, and bytes received.

use crate::{CompletionStatus, Mode};
use thiserror::Error;

/// A value that no TLP may carry, in whichever mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// Length is not 1..=1024 DW.
    #[error("length of {0} DW: a TLP carries 1 to 1024")]
    Length(u16),
    /// The address is not a multiple of 4.
    #[error("address {0:#x} is not DW-aligned: name the bytes by the byte enables")]
    Unaligned(u64),
    /// A request must not cross a 4 KiB boundary.
    #[error("request of {len_dw} DW at {addr:#x} crosses a 4 KiB boundary")]
    Crosses4K {
        /// First byte of the request.
        addr: u64,
        /// Its length in DW.
        len_dw: u16,
    },
    /// The byte enables break the rules of [`crate::MemRequest::with_byte_enables`].
    #[error("byte enables first {first:#x}, last {last:#x} are not allowed for {len_dw} DW")]
    ByteEnables {
        /// First DW's enables.
        first: u8,
        /// Last DW's enables.
        last: u8,
        /// Length of the request in DW.
        len_dw: u16,
    },
    /// The byte range is empty, or longer than a TLP, or beyond the address space.
    #[error("no TLP covers {len} bytes at {addr:#x}")]
    ByteRange {
        /// First byte.
        addr: u64,
        /// Number of bytes.
        len: usize,
    },
    /// Tag above 14 bits.
    #[error("tag {0:#x} has more than 14 bits")]
    Tag(u16),
    /// Traffic class above 7.
    #[error("traffic class {0} is above 7")]
    TrafficClass(u8),
    /// Attributes above 3 bits.
    #[error("attributes {0:#x} have more than 3 bits")]
    Attributes(u8),
    /// Byte count of a completion is not 1..=4096.
    #[error("byte count {0}: a completion reports 1 to 4096")]
    ByteCount(u16),
    /// Lower address above 7 bits.
    #[error("lower address {0:#x} has more than 7 bits")]
    LowerAddress(u8),
}

/// How a completion's payload can contradict its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompletionError {
    /// The payload is not 0 to 1024 whole DWs.
    #[error("completion payload of {0} bytes: it must be 0 to 1024 whole DWs")]
    Payload(usize),
    /// Only a successful completion carries data.
    #[error("completion with status {} carries data", .0.abbreviation())]
    DataWithError(CompletionStatus),
    /// The payload is longer than the byte count allows.
    #[error("completion carries {have} bytes, of which only {remaining} remain to be returned")]
    BeyondByteCount {
        /// Bytes that remain, from byte count and lower address, in whole DWs.
        remaining: usize,
        /// Bytes given.
        have: usize,
    },
}

/// Why a packet cannot be put on this link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The buffer is shorter than [`crate::Tlp::encoded_len`].
    #[error("buffer of {have} bytes for a TLP of {need}")]
    BufferTooShort {
        /// Bytes needed.
        need: usize,
        /// Bytes offered.
        have: usize,
    },
    /// The payload does not match the header's length.
    #[error("payload of {have} bytes, header says {need}")]
    PayloadLength {
        /// Bytes that the header announces.
        need: usize,
        /// Bytes given.
        have: usize,
    },
    /// Status, byte count and payload of a completion contradict each other.
    #[error(transparent)]
    Completion(#[from] CompletionError),
    /// The tag has more bits than the mode's header.
    #[error("tag {tag:#x} does not fit the {mode} header")]
    TagTooWide {
        /// The tag.
        tag: u16,
        /// The mode.
        mode: Mode,
    },
    /// In non-flit mode ST takes the byte of a read's byte enables: they must all be set.
    #[error(
        "a hinted read has no byte enables in non-flit mode: make it whole DWs or drop the hint"
    )]
    HintedPartialRead,
}

/// Why bytes are not a TLP that this crate understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Fewer bytes than the headers or the payload need.
    #[error("truncated TLP: {have} bytes of {need}")]
    Truncated {
        /// Bytes needed, as far as the bytes at hand tell.
        need: usize,
        /// Bytes at hand.
        have: usize,
    },
    /// More bytes than the TLP has.
    #[error("{extra} bytes follow the TLP of {len}")]
    TrailingBytes {
        /// Length of the TLP.
        len: usize,
        /// Bytes behind it.
        extra: usize,
    },
    /// The first byte names no packet that this crate knows.
    #[error("unknown {mode} TLP type {code:#04x}")]
    UnknownType {
        /// The first byte of the header.
        code: u8,
        /// The mode.
        mode: Mode,
    },
    /// A reserved code, or a bit set that is reserved.
    #[error("field {field} = {value:#x} is reserved")]
    Reserved {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A field that is legal, but that this crate does not model, is in use.
    #[error("field {field} = {value:#x} is not supported")]
    Unsupported {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A TPH prefix in front of a packet without TH.
    #[error("TPH prefix in front of a TLP without TH")]
    PrefixWithoutHint,
    /// A value that no TLP may carry.
    #[error("malformed TLP: {0}")]
    Malformed(#[from] FieldError),
    /// An address below 4 GiB in the 64-bit header form, which is for higher addresses only.
    #[error("address {0:#x} in a 64-bit header: below 4 GiB the 32-bit form is the rule")]
    NeedlessLongAddress(u64),
    /// Status, byte count and payload of a completion contradict each other.
    #[error("malformed TLP: {0}")]
    Completion(#[from] CompletionError),
}
