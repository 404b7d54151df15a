// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why memory is not accessed.

use crate::owner::Owner;
use thiserror::Error;

/// Why memory is not accessed.
#[derive(Debug, Error)]
pub enum Error {
    /// The object has no such bytes.
    #[error("{owner} has no {len} bytes at {offset:#x}")]
    Outside {
        /// The object.
        owner: Owner,
        /// Where in its buffer.
        offset: u64,
        /// How many.
        len: usize,
    },
    /// The fabric did not carry it.
    #[error("{owner}: {source}")]
    Dma {
        /// The object.
        owner: Owner,
        /// Why.
        source: fabric::Error,
    },
    /// A memory key does not allow it.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
}

/// Why a memory key does not allow an access, or a change of itself.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProtectionError {
    /// There is no such key, or it is free, or its variant is another.
    #[error("no such memory key")]
    Key,
    /// It belongs to another protection domain.
    #[error("the memory key belongs to another protection domain")]
    Domain,
    /// It does not allow that.
    #[error("the memory key does not grant this right")]
    Right,
    /// It does not reach so far.
    #[error("beyond the bounds of the memory key")]
    Bounds,
    /// Nothing is there, or not for that.
    #[error("the memory key has no translation for it")]
    Translation,
}

/// Which side of a copy failed.
#[derive(Debug, Error)]
pub enum CopyError {
    /// Where the bytes come from.
    #[error("at its source: {0}")]
    Source(Error),
    /// Where they go.
    #[error("at its target: {0}")]
    Target(Error),
}
