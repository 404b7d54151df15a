// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a trace amounts to.
//!
//! Who sent how much to whom, for which object and with which hints. The trace knows no dma-bufs:
//! what one looks like on the wire is a [`Region`], pages of a BAR that follow one another and are
//! written or read with the same hint.

use crate::filter::{Filter, hint, mnemonic, request};
use fabric::trace::{Destination, Object, ReadError, Reader, Record};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};
use std::path::Path;
use tlp::{Hint, Mode, Ph, SteeringTag, Tlp};

const PAGE_SHIFT: u32 = 12;

/// How much it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// TLPs.
    pub tlps: u64,
    /// Bytes that they carry, or ask for.
    pub bytes: u64,
    /// Number of the first one.
    pub first: u64,
}

impl Amount {
    fn add(&mut self, number: u64, bytes: u64) {
        if self.tlps == 0 {
            self.first = number;
        }
        self.tlps += 1;
        self.bytes += bytes;
    }
}

/// A hint, in an order for tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tagged {
    /// The steering tag's number.
    pub st: u16,
    /// Whether it has 16 bits.
    pub extended: bool,
    /// The processing hint's code.
    pub ph: u8,
}

impl From<Hint> for Tagged {
    fn from(hint: Hint) -> Self {
        Self {
            st: hint.tag.value(),
            extended: hint.tag.is_extended(),
            ph: hint.ph.code(),
        }
    }
}

impl From<Tagged> for Hint {
    fn from(tagged: Tagged) -> Self {
        let [_, low] = tagged.st.to_be_bytes();
        Self {
            ph: Ph::from_bits(tagged.ph),
            tag: if tagged.extended {
                SteeringTag::Ext(tagged.st)
            } else {
                SteeringTag::St(low)
            },
        }
    }
}

/// As an analyzer prints it.
impl Display for Tagged {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = if self.extended { 4 } else { 2 };
        write!(f, "ST={:0width$X}h PH={}", self.st, self.ph)
    }
}

/// TLPs of one kind from one to another, for one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The sender.
    pub from: String,
    /// For what, if that is known.
    pub object: Option<Object>,
    /// The receiver and its BAR.
    pub to: String,
    /// MRd, MWr, Cpl or CplD; `?` for what cannot be decoded.
    pub kind: &'static str,
}

/// Pages of a BAR that follow one another, and the hint that requests to them carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// The BAR and whose it is.
    pub to: String,
    /// Address of its first byte.
    pub first: u64,
    /// Address of its last byte.
    pub last: u64,
    /// The hint.
    pub hint: Option<Tagged>,
    /// What was written or read.
    pub amount: Amount,
}

/// What a trace amounts to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// All that was looked at.
    pub total: Amount,
    /// TLPs that were not, since the trace has reached its limit.
    pub unrecorded: u64,
    /// Nanoseconds since 1970 of the first and of the last one.
    pub times: Option<(u64, u64)>,
    /// Header formats.
    pub modes: Vec<Mode>,
    /// Requests that nobody took.
    pub unsupported: u64,
    /// What cannot be decoded.
    pub undecoded: u64,
    /// Bytes of payload that were not captured.
    pub missing: u64,
    /// Who sent what to whom, and with which hints.
    pub flows: BTreeMap<Flow, BTreeMap<Option<Tagged>, Amount>>,
    pages: BTreeMap<(String, Option<Tagged>, u64), Amount>,
}

impl Summary {
    /// Adds one TLP.
    pub fn add(&mut self, record: &Record) {
        let tlp = record.tlp();
        let bytes = tlp.as_ref().map_or(0, |tlp| bytes(record, tlp));
        let hint = tlp.as_ref().ok().and_then(hint).map(Tagged::from);
        self.total.add(record.number, bytes);
        let (first, last) = self.times.unwrap_or((record.time, record.time));
        self.times = Some((first.min(record.time), last.max(record.time)));
        if !self.modes.contains(&record.mode) {
            self.modes.push(record.mode);
        }
        self.unsupported += u64::from(record.is_unsupported());
        self.undecoded += u64::from(tlp.is_err());
        self.missing += record.missing as u64;
        let to = receiver(record);
        if let (Destination::To { bar: Some(_), .. }, Some(request)) =
            (&record.to, tlp.as_ref().ok().and_then(request))
        {
            let page = (to.clone(), hint, request.addr() >> PAGE_SHIFT);
            self.pages
                .entry(page)
                .or_default()
                .add(record.number, bytes);
        }
        let flow = Flow {
            from: record.from.clone(),
            object: record.object,
            to,
            kind: tlp.as_ref().map_or("?", kind),
        };
        let hints = self.flows.entry(flow).or_default();
        hints.entry(hint).or_default().add(record.number, bytes);
    }

    /// Takes what `reader` knows at its end.
    pub fn end(&mut self, reader: &Reader) {
        self.unrecorded += reader.unrecorded();
    }

    /// The regions, by receiver, hint and address.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = Vec::new();
        for ((to, hint, page), amount) in &self.pages {
            let first = page << PAGE_SHIFT;
            let last = first | ((1 << PAGE_SHIFT) - 1);
            match regions.last_mut() {
                Some(region)
                    if (&region.to, &region.hint) == (to, hint)
                        && region.last.checked_add(1) == Some(first) =>
                {
                    region.last = last;
                    region.amount.tlps += amount.tlps;
                    region.amount.bytes += amount.bytes;
                    region.amount.first = region.amount.first.min(amount.first);
                }
                _ => regions.push(Region {
                    to: to.clone(),
                    first,
                    last,
                    hint: *hint,
                    amount: *amount,
                }),
            }
        }
        regions
    }

    /// Each hint, who sent it for what to whom, and how often.
    #[must_use]
    pub fn hints(&self) -> Vec<(Tagged, &Flow, Amount)> {
        let mut hints: Vec<_> = self
            .flows
            .iter()
            .flat_map(|(flow, hints)| {
                let hints = hints.iter();
                hints.filter_map(move |(hint, amount)| Some(((*hint)?, flow, *amount)))
            })
            .collect();
        hints.sort_by_key(|(hint, flow, _)| (*hint, *flow));
        hints
    }
}

/// The receiver, in few words.
#[must_use]
pub fn receiver(record: &Record) -> String {
    match &record.to {
        Destination::Nobody => "nobody".into(),
        to @ Destination::To { .. } => to.to_string(),
    }
}

/// Bytes that a record's TLP carries, captured or not, or asks for.
#[must_use]
pub fn bytes(record: &Record, tlp: &Tlp<'_>) -> u64 {
    let bytes = match tlp {
        Tlp::MemRead(request) => request.len_bytes(),
        _ => tlp.payload().len() + record.missing,
    };
    bytes as u64
}

/// The kind of a TLP, without the length of its address.
fn kind(tlp: &Tlp<'_>) -> &'static str {
    mnemonic(tlp).trim_end_matches(['3', '2', '6', '4'])
}

/// Sums up the TLPs of the trace that `filter` takes.
pub fn summarize(file: &Path, filter: &Filter) -> Result<Summary, ReadError> {
    let mut summary = Summary::default();
    let mut reader = Reader::open(file)?;
    for record in reader.by_ref() {
        let record = record?;
        if filter.takes(&record) {
            summary.add(&record);
        }
    }
    summary.end(&reader);
    Ok(summary)
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        for line in self.remarks() {
            writeln!(f, "{line}")?;
        }
        if self.total.tlps == 0 {
            return Ok(());
        }
        let mut rows =
            vec![["requester", "for", "to", "kind", "TLPs", "bytes", "hints"].map(String::from)];
        for (flow, hints) in &self.flows {
            let sum = |part: fn(&Amount) -> u64| hints.values().map(part).sum::<u64>().to_string();
            let object = flow
                .object
                .map_or_else(|| "-".into(), |object| object.to_string());
            rows.push([
                flow.from.clone(),
                object,
                flow.to.clone(),
                flow.kind.into(),
                sum(|amount| amount.tlps),
                sum(|amount| amount.bytes),
                hints
                    .iter()
                    .filter_map(|(hint, amount)| Some(format!("{} x{}", (*hint)?, amount.tlps)))
                    .collect::<Vec<_>>()
                    .join(", "),
            ]);
        }
        write!(f, "\n{}", Table(&rows))?;
        let regions = self.regions();
        if regions.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nPages of a BAR, as a dma-buf looks on the wire:\n")?;
        let mut rows = vec![["target", "addresses", "hint", "TLPs", "bytes"].map(String::from)];
        for region in regions {
            rows.push([
                region.to,
                format!("{:#x}-{:#x}", region.first, region.last),
                region
                    .hint
                    .map_or_else(|| "none".into(), |hint| hint.to_string()),
                region.amount.tlps.to_string(),
                region.amount.bytes.to_string(),
            ]);
        }
        Table(&rows).fmt(f)
    }
}

impl Summary {
    /// How many TLPs, in which time and mode.
    pub fn headline(&self) -> String {
        let modes: Vec<_> = self.modes.iter().map(ToString::to_string).collect();
        match self.times {
            None => "no TLPs".into(),
            Some((first, last)) => format!(
                "{} TLPs, {} bytes, in {}, {} mode",
                self.total.tlps,
                self.total.bytes,
                duration(last - first),
                modes.join(" and ")
            ),
        }
    }

    /// What must not be overlooked.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = vec![];
        if self.unsupported > 0 {
            remarks.push(format!(
                "{} requests were taken by nobody",
                self.unsupported
            ));
        }
        if self.undecoded > 0 {
            remarks.push(format!("{} packets cannot be decoded", self.undecoded));
        }
        if self.missing > 0 {
            remarks.push(format!("payload not captured: {} bytes", self.missing));
        }
        if self.unrecorded > 0 {
            remarks.push(format!(
                "{} more TLPs were not recorded: the trace had reached its limit",
                self.unrecorded
            ));
        }
        remarks
    }
}

/// Nanoseconds for people.
#[must_use]
pub fn duration(ns: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // for people
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// Rows in columns as wide as they must be; numbers stand to the right.
struct Table<'a, const N: usize>(&'a [[String; N]]);

impl<const N: usize> Display for Table<'_, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = |at: usize| self.0.iter().map(|row| row[at].chars().count()).max();
        let numbers = |at: usize| {
            let mut values = self.0.iter().skip(1).map(|row| &row[at]);
            values.all(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
        };
        for row in self.0 {
            let mut line = String::new();
            for (at, value) in row.iter().enumerate() {
                let width = width(at).unwrap_or_default();
                // A string takes whatever is written to it.
                let _ = if numbers(at) && !value.is_empty() {
                    write!(line, "{value:>width$}  ")
                } else {
                    write!(line, "{value:width$}  ")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tlp::{Bdf, MemRequest};

    fn write(number: u64, addr: u64, hint: Option<Hint>, to: Destination) -> Record {
        let request = MemRequest::new(Bdf(0x80), addr, 2).unwrap();
        let request = hint.map_or(request, |hint| request.with_hint(hint));
        let tlp = Tlp::MemWrite(request, &[0; 8]);
        let mut bytes = vec![0; tlp.encoded_len(Mode::NonFlit)];
        tlp.encode(Mode::NonFlit, &mut bytes).unwrap();
        Record {
            number,
            time: 1000 * number,
            from: "initiator".into(),
            to,
            mode: Mode::NonFlit,
            object: None,
            bytes,
            missing: 0,
        }
    }

    #[test]
    fn pages_that_follow_one_another_with_one_hint_are_a_region() {
        let hint = |st| {
            Some(Hint {
                ph: Ph::Target,
                tag: SteeringTag::St(st),
            })
        };
        let bar = Destination::To {
            name: "accelerator".into(),
            bar: Some(2),
        };
        let host = Destination::To {
            name: "host".into(),
            bar: None,
        };
        let mut summary = Summary::default();
        for (addr, hint, to) in [
            (0xff8, hint(1), &bar),
            (0x1000, hint(1), &bar),
            (0x1ff0, hint(1), &bar),
            (0x3000, hint(1), &bar),
            (0x2000, hint(2), &bar),
            (0x2008, None, &bar),
            (0x2000, hint(1), &host),
            (0x2000, hint(1), &Destination::Nobody),
        ] {
            let number = summary.total.tlps + 1;
            summary.add(&write(number, addr, hint, to.clone()));
        }
        let regions: Vec<_> = summary
            .regions()
            .into_iter()
            .map(|region| {
                let st = region.hint.map(|hint| hint.st);
                (
                    region.first,
                    region.last,
                    st,
                    region.amount.tlps,
                    region.amount.bytes,
                )
            })
            .collect();
        assert_eq!(
            regions,
            [
                (0x2000, 0x2fff, None, 1, 8),
                (0, 0x1fff, Some(1), 3, 24),
                (0x3000, 0x3fff, Some(1), 1, 8),
                (0x2000, 0x2fff, Some(2), 1, 8),
            ]
        );
        assert_eq!(summary.total.tlps, 8);
        assert_eq!(summary.unsupported, 1);
        assert_eq!(
            summary.headline(),
            "8 TLPs, 64 bytes, in 7.0 µs, non-flit mode"
        );
        let text = summary.to_string();
        let row =
            "initiator  -    accelerator BAR2  MWr      6     48  ST=01h PH=2 x4, ST=02h PH=2 x1";
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn what_is_no_tlp_is_counted() {
        let mut summary = Summary::default();
        let broken = Record {
            bytes: vec![0x55; 12],
            ..write(1, 0, None, Destination::Nobody)
        };
        summary.add(&broken);
        assert_eq!((summary.undecoded, summary.total.bytes), (1, 0));
        assert!(summary.to_string().contains("1 packets cannot be decoded"));
    }
}
