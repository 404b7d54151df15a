// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which TLPs of a trace are looked at.

use crate::number::number;
use clap::Args;
use fabric::trace::{Destination, ObjectKind, Record};
use tlp::{Hint, MemRequest, Tlp};

/// Conditions, all of which a TLP must meet. Without any, every TLP does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Filter {
    /// Sent or received by this device (its name in the trace); may be repeated
    #[arg(long, value_name = "NAME")]
    pub device: Vec<String>,
    /// Requests that touch these addresses: 0xfe00000800, 0xfe00000000-0xfe00000fff or
    /// 0xfe00000000+0x1000
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub addr: Option<Range>,
    /// Requests with this steering tag, with `any`, or with `none`
    #[arg(long, value_name = "TAG", value_parser = wanted)]
    pub st: Option<Wanted>,
    /// With this transaction tag
    #[arg(long, value_name = "TAG", value_parser = number::<u16>)]
    pub tag: Option<u16>,
    /// Of this kind, such as MWr, MRd64 or CplD; may be repeated
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// For this memory key (its index)
    #[arg(long, value_name = "INDEX", value_parser = number::<u32>)]
    pub mkey: Option<u32>,
}

/// Addresses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// Which hints are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// One with this tag, of whichever namespace.
    Tag(u16),
    /// Any.
    Any,
    /// A request without one.
    None,
}

impl Filter {
    /// Whether `record` meets the conditions.
    ///
    /// One that cannot be decoded meets none that ask for a field of the TLP.
    #[must_use]
    pub fn takes(&self, record: &Record) -> bool {
        let is_at = |name: &String| {
            *name == record.from
                || matches!(&record.to, Destination::To { name: receiver, .. } if receiver == name)
        };
        if !self.device.is_empty() && !self.device.iter().any(is_at) {
            return false;
        }
        if let Some(index) = self.mkey {
            let key = record.object.filter(|one| one.kind == ObjectKind::Mkey);
            if key.map(|key| key.number) != Some(index) {
                return false;
            }
        }
        if (&self.addr, &self.st, &self.tag) == (&None, &None, &None) && self.kind.is_empty() {
            return true;
        }
        record.tlp().is_ok_and(|tlp| self.takes_tlp(&tlp))
    }

    fn takes_tlp(&self, tlp: &Tlp<'_>) -> bool {
        let request = request(tlp);
        let is_kind = |kind: &String| {
            let name = mnemonic(tlp).to_ascii_lowercase();
            name.starts_with(&kind.to_ascii_lowercase())
        };
        let touches = |range: &Range| {
            request.is_some_and(|request| {
                let last = request.addr() + (request.len_bytes() as u64 - 1);
                range.first <= last && request.addr() <= range.last
            })
        };
        let is_hinted = |wanted: &Wanted| {
            request.is_some_and(|request| match (wanted, request.hint()) {
                (Wanted::Any, hint) => hint.is_some(),
                (Wanted::None, hint) => hint.is_none(),
                (Wanted::Tag(st), hint) => hint.map(|hint| hint.tag.value()) == Some(*st),
            })
        };
        let tag = match tlp {
            Tlp::MemRead(request) | Tlp::MemWrite(request, _) => request.tag(),
            Tlp::Completion(header, _) => header.tag(),
        };
        (self.kind.is_empty() || self.kind.iter().any(is_kind))
            && self.addr.as_ref().is_none_or(touches)
            && self.st.as_ref().is_none_or(is_hinted)
            && self.tag.is_none_or(|wanted| wanted == tag)
    }
}

/// The header of a request.
#[must_use]
pub fn request<'a>(tlp: &'a Tlp<'_>) -> Option<&'a MemRequest> {
    match tlp {
        Tlp::MemRead(request) | Tlp::MemWrite(request, _) => Some(request),
        Tlp::Completion(..) => None,
    }
}

/// The hint of a TLP, if it is a request that has one.
pub fn hint(tlp: &Tlp<'_>) -> Option<Hint> {
    request(tlp).and_then(MemRequest::hint)
}

/// What an analyzer calls this kind of TLP.
#[must_use]
pub fn mnemonic(tlp: &Tlp<'_>) -> &'static str {
    match tlp {
        Tlp::MemRead(request) if request.is_64bit() => "MRd64",
        Tlp::MemRead(_) => "MRd32",
        Tlp::MemWrite(request, _) if request.is_64bit() => "MWr64",
        Tlp::MemWrite(..) => "MWr32",
        Tlp::Completion(_, []) => "Cpl",
        Tlp::Completion(..) => "CplD",
    }
}

fn range(text: &str) -> Result<Range, String> {
    let number = number::<u64>;
    let (first, last) = if let Some((first, last)) = text.split_once('-') {
        (number(first)?, number(last)?)
    } else if let Some((first, len)) = text.split_once('+') {
        let (first, len) = (number(first)?, number(len)?);
        let more = len.checked_sub(1).ok_or("a range has at least one byte")?;
        let last = first.checked_add(more);
        (first, last.ok_or("the range ends beyond the addresses")?)
    } else {
        (number(text)?, number(text)?)
    };
    if first > last {
        return Err("the range ends before it begins".into());
    }
    Ok(Range { first, last })
}

fn wanted(text: &str) -> Result<Wanted, String> {
    match text {
        "any" => Ok(Wanted::Any),
        "none" => Ok(Wanted::None),
        _ => number(text).map(Wanted::Tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabric::trace::Object;
    use tlp::{Bdf, CompletionHeader, CompletionStatus, Mode, Ph, SteeringTag};

    fn record(tlp: &Tlp<'_>, object: Option<Object>) -> Record {
        let mut bytes = vec![0; tlp.encoded_len(Mode::Flit)];
        tlp.encode(Mode::Flit, &mut bytes).unwrap();
        Record {
            number: 1,
            time: 0,
            from: "initiator".into(),
            to: Destination::To {
                name: "accelerator".into(),
                bar: Some(2),
            },
            mode: Mode::Flit,
            object,
            bytes,
            missing: 0,
        }
    }

    /// A hinted write of 0x1000..0x1008, a read, its completion, and what is no TLP.
    fn records() -> [Record; 4] {
        let request = MemRequest::new(Bdf(0x80), 0x1000, 2).unwrap();
        let request = request.with_tag(5).unwrap();
        let hint = Hint {
            ph: Ph::Target,
            tag: SteeringTag::St(0xf0),
        };
        let key = Object {
            kind: ObjectKind::Mkey,
            number: 0x20,
        };
        let answer = CompletionHeader::answering(&request, Bdf(0), CompletionStatus::Success);
        let broken = Record {
            bytes: vec![0x55; 12],
            from: "host".into(),
            ..record(&Tlp::MemRead(request), None)
        };
        [
            record(&Tlp::MemWrite(request.with_hint(hint), &[0; 8]), Some(key)),
            record(&Tlp::MemRead(request), None),
            record(&Tlp::Completion(answer, &[0; 8]), None),
            broken,
        ]
    }

    fn taken(options: &[&str]) -> Vec<bool> {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            filter: Filter,
        }
        let filter = Line::parse_from(["x"].iter().chain(options)).filter;
        records()
            .iter()
            .map(|record| filter.takes(record))
            .collect()
    }

    #[test]
    fn each_condition_chooses() {
        assert_eq!(taken(&[]), [true; 4]);
        assert_eq!(taken(&["--device", "host"]), [false, false, false, true]);
        assert_eq!(taken(&["--device", "accelerator"]), [true; 4]);
        assert_eq!(taken(&["--device", "accel"]), [false; 4]);
        for range in ["0x1004", "0x1007-0x2000", "0x800+0x801", "0-4096"] {
            let taken = taken(&["--addr", range]);
            assert_eq!(taken, [true, true, false, false], "{range}");
        }
        for range in ["0x1008", "0xfff", "0x800+0x800"] {
            assert_eq!(taken(&["--addr", range]), [false; 4], "{range}");
        }
        assert_eq!(taken(&["--st", "0xf0"]), [true, false, false, false]);
        assert_eq!(taken(&["--st", "any"]), [true, false, false, false]);
        assert_eq!(taken(&["--st", "none"]), [false, true, false, false]);
        assert_eq!(taken(&["--tag", "5"]), [true, true, true, false]);
        assert_eq!(taken(&["--kind", "mwr"]), [true, false, false, false]);
        assert_eq!(taken(&["--kind", "MRd32"]), [false, true, false, false]);
        assert_eq!(taken(&["--kind", "Cpl"]), [false, false, true, false]);
        assert_eq!(taken(&["--mkey", "0x20"]), [true, false, false, false]);
        let both = ["--kind", "MWr", "--kind", "CplD", "--st", "0xf1"];
        assert_eq!(taken(&both), [false; 4]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (text, why) in [
            ("2-1", "before it begins"),
            ("1+0", "one byte"),
            ("0xffffffffffffffff+2", "beyond"),
            ("bar", "such as"),
        ] {
            let error = range(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(wanted("0x10000").unwrap_err().contains("16 bits"));
    }
}
