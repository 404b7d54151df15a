// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which BAR decodes an address.

use std::ops::Range;

/// The BARs that requests can reach, in order of their addresses.
///
/// It is made anew when one of them is moved, or enabled, which happens now and then; it is asked
/// for every TLP.
#[derive(Debug, Default)]
pub struct BarTable(Vec<Entry>);

/// A BAR that decodes its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its addresses.
    pub range: Range<u64>,
    /// Number of the port that it belongs to.
    pub port: usize,
    /// Its number there, 0..=5.
    pub number: u8,
}

#[derive(Debug)]
struct Entry {
    bar: Bar,
    /// Highest end of this one and of all in front of it: BARs may overlap, if a driver puts them
    /// so.
    up_to: u64,
}

impl FromIterator<Bar> for BarTable {
    /// Of BARs that overlap, the first of the iterator decodes the addresses that they share.
    fn from_iter<I: IntoIterator<Item = Bar>>(bars: I) -> Self {
        let mut bars: Vec<_> = bars.into_iter().collect();
        // It is stable.
        bars.sort_by_key(|bar| bar.range.start);
        let mut up_to = 0;
        let entries = bars.into_iter().map(|bar| {
            up_to = up_to.max(bar.range.end);
            Entry { bar, up_to }
        });
        Self(entries.collect())
    }
}

impl BarTable {
    /// The BAR of another port than `from` that decodes all `len` bytes at `addr`.
    pub fn find(&self, from: usize, addr: u64, len: usize) -> Option<&Bar> {
        let covers = |bar: &&Bar| bar.range.end.saturating_sub(addr) >= len as u64;
        self.before(addr, addr)
            .filter(|bar| bar.port != from)
            .filter(covers)
            .min_by_key(|bar| (bar.port, bar.number))
    }

    /// Whether a BAR of another port than `from` decodes some of `len` bytes at `addr`, or of the
    /// rest of the DW behind them.
    pub fn overlaps(&self, from: usize, addr: u64, len: usize) -> bool {
        let last = addr.saturating_add(len as u64);
        self.before(last, addr)
            .any(|bar| bar.port != from && addr < bar.range.end)
    }

    /// The BARs that begin at `last` or before, as far back as one may end behind `first`.
    fn before(&self, last: u64, first: u64) -> impl Iterator<Item = &Bar> {
        let begun = self
            .0
            .partition_point(|entry| entry.bar.range.start <= last);
        let entries = self.0[..begun].iter().rev();
        entries
            .take_while(move |entry| entry.up_to > first)
            .map(|entry| &entry.bar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn bars() -> impl Strategy<Value = Vec<Bar>> {
        let bar = (0u64..200, 0u64..60, 0usize..4, 0u8..6);
        let bar = bar.prop_map(|(start, len, port, number)| Bar {
            range: start..start + len,
            port,
            number,
        });
        vec(bar, 0..12).prop_map(|mut bars| {
            bars.sort_by_key(|bar| (bar.port, bar.number));
            bars.dedup_by_key(|bar| (bar.port, bar.number));
            bars
        })
    }

    proptest! {
        /// As a look at each would find them.
        #[test]
        fn what_is_found_is_what_a_scan_finds(
            bars in bars(), from in 0usize..4, addr in 0u64..260, len in 1usize..40,
        ) {
            let table = BarTable::from_iter(bars.clone());
            let last = addr + len as u64;
            let others = || bars.iter().filter(|bar| bar.port != from);
            let found = others().find(|bar| bar.range.start <= addr && bar.range.end >= last);
            prop_assert_eq!(table.find(from, addr, len), found);
            let overlaps = others().any(|bar| bar.range.start <= last && addr < bar.range.end);
            prop_assert_eq!(table.overlaps(from, addr, len), overlaps);
        }
    }

    #[test]
    fn the_last_address_can_be_decoded() {
        let bar = Bar {
            range: u64::MAX - 8..u64::MAX,
            port: 0,
            number: 0,
        };
        let table = BarTable::from_iter([bar.clone()]);
        assert_eq!(table.find(1, u64::MAX - 4, 4), Some(&bar));
        assert_eq!(table.find(1, u64::MAX - 3, 4), None);
        assert!(table.overlaps(1, u64::MAX - 1, 8));
    }
}
