// SPDX-License-Identifier: MIT OR Apache-2.0
//! One recorded TLP.

use super::Object;
use std::fmt;
use tlp::{DecodeError, Mode, Tlp, text::Analyzer};

/// DWs of payload that the text form shows.
const PAYLOAD_SHOWN: usize = 8;

/// A TLP as the tap recorded it.
///
/// `Display` is its entry in a text trace: a header line and the analyzer's lines, without a
/// newline at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the trace, from 1.
    pub number: u64,
    /// Nanoseconds since 1970 when the sender began the call that it stems from.
    pub time: u64,
    /// Name of the sender.
    pub from: String,
    /// Who received it.
    pub to: Destination,
    /// Mode of the link.
    pub mode: Mode,
    /// What the request is for, or that which a completion answers, if the sender says so.
    pub object: Option<Object>,
    /// The TLP as on the wire, as far as it was captured: its headers, and what
    /// [`super::Snaplen`] leaves of its payload.
    pub bytes: Vec<u8>,
    /// How many bytes of its payload were not captured.
    pub missing: usize,
}

/// Where a TLP went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To an endpoint or the host.
    To {
        /// Its name.
        name: String,
        /// The BAR that was hit; none for the host and for completions.
        bar: Option<u8>,
    },
    /// Nobody decodes the address: Unsupported Request.
    Nobody,
}

impl Record {
    /// The TLP, decoded from the recorded bytes. Its payload is what was captured of it.
    pub fn tlp(&self) -> Result<Tlp<'_>, DecodeError> {
        if self.missing == 0 {
            return Tlp::decode(&self.bytes, self.mode);
        }
        let (tlp, missing) = Tlp::decode_cut(&self.bytes, self.mode)?;
        if missing == self.missing {
            return Ok(tlp);
        }
        // What was captured is not the front of what was on the wire.
        let have = self.bytes.len() + self.missing;
        Err(DecodeError::Truncated {
            need: self.bytes.len() + missing,
            have,
        })
    }

    /// The analyzer's lines alone, without payload.
    #[must_use]
    pub const fn analyzer(&self) -> Analyzer<'_> {
        let analyzer = Analyzer::new(self.bytes.as_slice(), self.mode);
        if self.missing == 0 {
            analyzer
        } else {
            analyzer.captured_only()
        }
    }

    /// True if no one took the request.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.to == Destination::Nobody
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}: {} -> {}", self.number, self.from, self.to)?;
        write!(f, "{}", self.analyzer().with_payload(PAYLOAD_SHOWN))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To {
                name,
                bar: Some(bar),
            } => write!(f, "{name} BAR{bar}"),
            Self::To { name, bar: None } => f.write_str(name),
            Self::Nobody => f.write_str("nobody: unsupported request"),
        }
    }
}
