// SPDX-License-Identifier: MIT OR Apache-2.0
//! One number of a benchmark.

use serde::Serialize;

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// A bound, and whether it is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Required {
    /// The bound.
    #[serde(flatten)]
    pub bound: Bound,
    /// Whether the value keeps it.
    pub met: bool,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// What was done.
    pub group: String,
    /// What of it was measured.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it says something next to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// What it must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Required>,
}

impl Measurement {
    /// A number that stands for itself.
    pub fn new(
        group: impl Into<String>,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            group: group.into(),
            name: name.into(),
            value,
            unit,
            compared_with: None,
            required: None,
        }
    }

    /// The same: it says something only next to this.
    #[must_use]
    pub fn compared_with(mut self, what: impl Into<String>) -> Self {
        self.compared_with = Some(what.into());
        self
    }

    /// The same, and whether it keeps this bound.
    #[must_use]
    pub fn required(mut self, bound: Bound) -> Self {
        let met = match bound {
            Bound::AtLeast(least) => self.value >= least,
            Bound::AtMost(most) => self.value <= most,
        };
        self.required = Some(Required { bound, met });
        self
    }
}

/// Bytes, or what there is less of: few enough for a float.
#[allow(clippy::cast_precision_loss)]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}
