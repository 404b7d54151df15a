// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which hint has which colour.

use crate::summary::{Summary, Tagged};
use std::collections::BTreeMap;

/// Hints that have a colour of their own, the most frequent ones.
const COLOURS: usize = 6;

/// What a hint is drawn with: the name of a class.
pub type Colour = &'static str;

/// Which colour a hint has.
#[derive(Default)]
pub struct Colours(BTreeMap<Tagged, Colour>);

impl Colours {
    const NAMES: [Colour; COLOURS] = ["c0", "c1", "c2", "c3", "c4", "c5"];
    /// Of a hint that has none of its own.
    pub const OTHER: Colour = "cx";
    /// Of what has no hint.
    pub const NONE: Colour = "cn";

    /// The colours of a trace that amounts to this.
    pub fn of(summary: &Summary) -> Self {
        let mut counts = BTreeMap::new();
        for (hint, _, amount) in summary.hints() {
            *counts.entry(hint).or_insert(0) += amount.tlps;
        }
        let mut hints: Vec<(Tagged, u64)> = counts.into_iter().collect();
        hints.sort_by_key(|&(hint, count)| (u64::MAX - count, hint));
        Self(
            hints
                .into_iter()
                .map(|(hint, _)| hint)
                .zip(Self::NAMES)
                .collect(),
        )
    }

    /// That of a hint, or of none.
    pub fn get(&self, hint: Option<Tagged>) -> Colour {
        match hint {
            None => Self::NONE,
            Some(hint) => self.0.get(&hint).copied().unwrap_or(Self::OTHER),
        }
    }

    /// The hints that have a colour of their own, with it.
    pub fn own(&self) -> impl Iterator<Item = (&Tagged, Colour)> {
        self.0.iter().map(|(hint, &colour)| (hint, colour))
    }
}
