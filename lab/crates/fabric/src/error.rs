// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong on the fabric.

use crate::trace::Snaplen;
use std::{io, path::PathBuf};
use tlp::{CompletionStatus, EncodeError, FieldError};

/// Why something did not take place on the fabric.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// COMMAND.Bus Master Enable is off: the function may not send requests.
    #[error("bus mastering is off (COMMAND.BME = 0)")]
    BusMasterOff,
    /// The function was reset after this requester was made.
    #[error("the function was reset")]
    Reset,
    /// The completer (or, for an address that nobody decodes, the root complex) refused the read.
    #[error("read of {addr:#x} completed with {}", status.abbreviation())]
    Completion {
        /// Byte address of the read.
        addr: u64,
        /// Status of the completion.
        status: CompletionStatus,
    },
    /// Address and length make no TLP.
    #[error("no TLP for this request: {0}")]
    Request(#[from] FieldError),
    /// The request cannot be put on a link of this mode.
    #[error("cannot encode the TLP: {0}")]
    Encode(#[from] EncodeError),
    /// The IOMMU could not be asked.
    #[error("cannot translate {addr:#x}: {source}")]
    Translate {
        /// Byte address of the request.
        addr: u64,
        /// Why.
        source: io::Error,
    },
    /// The tap cannot record. What is not recorded is not delivered either.
    #[error("cannot record: {0}")]
    Record(#[from] io::Error),

    /// Traces name endpoints; two of the same name could not be told apart.
    #[error("an endpoint named {0:?} is attached already")]
    NameTaken(String),
    /// The trace format numbers endpoints with one byte.
    #[error("no room for another endpoint: a fabric has at most {0}")]
    Full(usize),

    /// What is to be mapped is empty, or does not fit the address space.
    #[error("DMA range {addr:#x}+{size:#x} is not a range")]
    NoRange {
        /// First byte, as the requester addresses it.
        addr: u64,
        /// Bytes.
        size: u64,
    },
    /// The range overlaps one that is mapped.
    #[error("DMA range {addr:#x}+{size:#x} overlaps one that is mapped")]
    Overlap {
        /// First byte, as the requester addresses it.
        addr: u64,
        /// Bytes.
        size: u64,
    },
    /// A range can only be unmapped as a whole.
    #[error("DMA range {addr:#x}+{size:#x} cuts a mapping in two")]
    PartOfMapping {
        /// First byte, as the requester addresses it.
        addr: u64,
        /// Bytes.
        size: u64,
    },
    /// The file ends before the range does.
    #[error("DMA range {addr:#x}+{size:#x} lies at {offset:#x} of a file that ends at {end:#x}")]
    BeyondFile {
        /// First byte, as the requester addresses it.
        addr: u64,
        /// Bytes.
        size: u64,
        /// Where in the file the range begins.
        offset: u64,
        /// Length of the file.
        end: u64,
    },
    /// The length of the file cannot be found out.
    #[error("cannot examine the file for DMA range {addr:#x}+{size:#x}: {source}")]
    Examine {
        /// First byte, as the requester addresses it.
        addr: u64,
        /// Bytes.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be mapped.
    #[error("cannot map DMA range {addr:#x}+{size:#x}: {source}")]
    Map {
        /// First byte, as the requester addresses it.
        addr: u64,
        /// Bytes.
        size: u64,
        /// What the mapping failed with.
        source: vm_memory::mmap::MmapRegionError,
    },

    /// The trace cannot be begun.
    #[error("cannot write the trace {path}: {source}")]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Headers would be cut, or a DW.
    #[error(
        "snaplen of {0} bytes: it must be {least} at least, and whole DWs",
        least = Snaplen::HEADERS.bytes()
    )]
    Snaplen(u32),
}
