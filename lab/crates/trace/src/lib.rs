// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows what traces hold: as an analyzer's text, as sums, as a page; and takes parts of them.
//!
//! The format itself, its reader and its writer are [`fabric::trace`]. `lab-trace` is all of this
//! as a program, which needs nothing but the trace.

pub mod command;
mod conclude;
mod error;
pub mod filter;
mod list;
pub mod number;
mod page;
pub mod summary;
#[cfg(test)]
mod testing;

pub use conclude::{PAGE_FILE, TEXT_FILE, clear, conclude};
pub use error::TraceError;
pub use list::print;
pub use page::write_page;
pub use summary::summarize;
