// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results for who reads them: as TAP, part by part and with one total, and as JSON.

mod report;
pub mod style;
pub mod summary;

pub use report::{Part, Report, Totals};
