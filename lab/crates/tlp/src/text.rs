// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text form of a protocol analyzer.
//!
//! One line per DW, `<dword> -> <text>`, where `<dword>` is the DW's wire bytes read as a
//! little-endian number. In flit mode a hinted write prints as the public capture does:
//!
//! ```text
//! 08000260 -> STP MWr64 TC=0 OHC=2 TS=0 Attr=0 L=8
//! F0000004 -> RID=4h:0h.0h EP- Tag=F0h
//! E0200000 -> AddrH=000020E0h
//! 00080006 -> AddrL=06000800h
//! 90F00000 -> OHC-B ST=F0h PH=2 HV=1 AMA=0 AV-
//! ```
//!
//! What that capture does not show (reads, completions, OHC-A, non-flit mode, payload) follows its
//! style: numbers with `h` are hexadecimal, others decimal, `+` and `-` are flags. The same write
//! with the 16-bit tag BEEFh in non-flit mode:
//!
//! ```text
//! 0000BE90 -> TPH prefix ST[15:8]=BEh
//! 08000160 -> STP MWr64 TC=0 TH+ TD- EP- Attr=0 AT=0 L=8
//! FFEF0004 -> RID=4h:0h.0h ST[7:0]=EFh LBE=Fh FBE=Fh
//! E0200000 -> AddrH=000020E0h
//! 02080006 -> AddrL=06000800h PH=2
//! ```

use crate::wire::{self, Dw, Form};
use crate::{Bdf, CompletionStatus, Mode, flit, nonflit};
use core::fmt::{self, Formatter};

/// Prints a TLP as an analyzer does. Lines are separated, not ended, by a newline.
///
/// It prints what the bytes say, also of packets that [`crate::Tlp::decode`] refuses.
#[derive(Clone, Copy, Debug)]
pub struct Analyzer<'a> {
    bytes: &'a [u8],
    mode: Mode,
    payload_limit: usize,
    captured_only: bool,
}

impl<'a> Analyzer<'a> {
    /// Prints the headers of the TLP in `bytes`. Any bytes will do: what is missing or unknown is
    /// said in the text.
    #[must_use]
    pub const fn new(bytes: &'a [u8], mode: Mode) -> Self {
        Self {
            bytes,
            mode,
            payload_limit: 0,
            captured_only: false,
        }
    }

    /// Also prints the first `limit` DWs of the payload, and how many more there are.
    #[must_use]
    pub const fn with_payload(mut self, limit: usize) -> Self {
        self.payload_limit = limit;
        self
    }

    /// What is missing of the payload was on the wire, but was not captured.
    #[must_use]
    pub const fn captured_only(mut self) -> Self {
        self.captured_only = true;
        self
    }
}

impl fmt::Display for Analyzer<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (dws, odd) = self.bytes.as_chunks::<4>();
        let mut lines = Lines {
            f,
            rest: dws,
            started: false,
        };
        let end = match self.mode {
            Mode::NonFlit => lines.nonflit(),
            Mode::Flit => lines.flit(),
        };
        let announced = match end {
            Ok(payload_dw) => payload_dw,
            Err(Stop::Truncated) => return lines.note(format_args!("TLP is truncated")),
            Err(Stop::Unknown) => {
                return lines.note(format_args!("{} more dwords", lines.rest.len()));
            }
            Err(Stop::Fmt(error)) => return Err(error),
        };
        lines.payload(announced, self.payload_limit, self.captured_only)?;
        if !odd.is_empty() {
            lines.note(format_args!("{} more bytes", odd.len()))?;
        }
        Ok(())
    }
}

/// Why the headers end early.
enum Stop {
    /// The bytes do.
    Truncated,
    /// The packet's type, and so its layout, is not known.
    Unknown,
    Fmt(fmt::Error),
}

impl From<fmt::Error> for Stop {
    fn from(error: fmt::Error) -> Self {
        Self::Fmt(error)
    }
}

/// A flag, `+` or `-`.
const fn flag(set: bool) -> char {
    if set { '+' } else { '-' }
}

/// Completion status: its abbreviation, or the code if that is reserved.
struct Status(u8);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match CompletionStatus::from_code(self.0) {
            Some(status) => f.write_str(status.abbreviation()),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Takes DW after DW and prints a line for each.
struct Lines<'a, 'f, 'b> {
    f: &'a mut Formatter<'f>,
    rest: &'b [Dw],
    started: bool,
}

impl Lines<'_, '_, '_> {
    fn next(&mut self) -> Result<Dw, Stop> {
        let (&first, rest) = self.rest.split_first().ok_or(Stop::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    fn newline(&mut self) -> fmt::Result {
        if self.started {
            self.f.write_str("\n")?;
        }
        self.started = true;
        Ok(())
    }

    fn line(&mut self, dw: Dw, text: fmt::Arguments<'_>) -> fmt::Result {
        self.newline()?;
        write!(self.f, "{:08X} -> {text}", u32::from_le_bytes(dw))
    }

    /// A line that stands for no DW.
    fn note(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        self.newline()?;
        write!(self.f, "... {text}")
    }

    fn unknown(&mut self, dw: Dw) -> Stop {
        match self.line(dw, format_args!("STP unknown type {:02X}h", dw[0])) {
            Ok(()) => Stop::Unknown,
            Err(error) => Stop::Fmt(error),
        }
    }

    /// Headers of non-flit mode; returns the DWs of payload that they announce.
    fn nonflit(&mut self) -> Result<usize, Stop> {
        let mut first = self.next()?;
        let prefix = nonflit::Prefix::is_at(first);
        if prefix {
            let st_high = nonflit::Prefix(first).st_high();
            self.line(first, format_args!("TPH prefix ST[15:8]={st_high:X}h"))?;
            first = self.next()?;
        }
        let dw0 = nonflit::Dw0(first);
        let form = dw0.form().ok_or_else(|| self.unknown(first))?;
        self.line(
            first,
            format_args!(
                "STP {} TC={} TH{} TD{} EP{} Attr={} AT={} L={}",
                form.mnemonic(),
                dw0.tc(),
                flag(dw0.th()),
                flag(dw0.td()),
                flag(dw0.ep()),
                dw0.attr(),
                dw0.at(),
                shown_length(form, dw0.length()),
            ),
        )?;
        if form.is_completion() {
            self.nonflit_completion(dw0)?;
        } else {
            self.nonflit_request(form, dw0, prefix)?;
        }
        Ok(payload_dw(form, dw0.length()))
    }

    fn nonflit_request(&mut self, form: Form, dw0: nonflit::Dw0, prefix: bool) -> Result<(), Stop> {
        let dw1 = self.next()?;
        let rid = Bdf(wire::high(dw1));
        let tag = dw0.tag_high() | u16::from(dw1[2]);
        let (last_be, first_be) = (dw1[3] >> 4, dw1[3] & 0xf);
        let st = if prefix { "ST[7:0]" } else { "ST" };
        match (dw0.th(), form.is_read()) {
            (false, _) => {
                let text =
                    format_args!("RID={rid} Tag={tag:X}h LBE={last_be:X}h FBE={first_be:X}h");
                self.line(dw1, text)?;
            }
            (true, true) => {
                self.line(
                    dw1,
                    format_args!("RID={rid} Tag={tag:X}h {st}={:X}h", dw1[3]),
                )?;
            }
            (true, false) => {
                let text = format_args!(
                    "RID={rid} {st}={:X}h LBE={last_be:X}h FBE={first_be:X}h",
                    dw1[2]
                );
                self.line(dw1, text)?;
            }
        }
        self.address(
            form,
            |bits| if dw0.th() { Some(("PH", bits)) } else { None },
        )
    }

    fn nonflit_completion(&mut self, dw0: nonflit::Dw0) -> Result<(), Stop> {
        let dw1 = nonflit::CplDw1(self.next()?);
        self.line(
            dw1.0,
            format_args!(
                "CID={} CS={} BCM{} BC={}",
                dw1.completer(),
                Status(dw1.status_code()),
                flag(dw1.bcm()),
                dw1.byte_count(),
            ),
        )?;
        let dw2 = self.next()?;
        let (rid, tag) = (Bdf(wire::high(dw2)), dw0.tag_high() | u16::from(dw2[2]));
        self.line(
            dw2,
            format_args!("RID={rid} Tag={tag:X}h LA={:X}h", dw2[3] & 0x7f),
        )?;
        Ok(())
    }

    /// Headers of flit mode; returns the DWs of payload that they announce.
    fn flit(&mut self) -> Result<usize, Stop> {
        let dw0 = flit::Dw0(self.next()?);
        let form = dw0.form().ok_or_else(|| self.unknown(dw0.0))?;
        self.line(
            dw0.0,
            format_args!(
                "STP {} TC={} OHC={} TS={} Attr={} L={}",
                form.mnemonic(),
                dw0.tc(),
                dw0.ohc(),
                dw0.ts(),
                dw0.attr(),
                shown_length(form, dw0.length()),
            ),
        )?;
        if form.is_completion() {
            self.flit_completion()?;
        } else {
            self.flit_request(form)?;
        }
        self.ohcs(form, dw0)?;
        Ok(payload_dw(form, dw0.length()))
    }

    fn flit_request(&mut self, form: Form) -> Result<(), Stop> {
        let dw1 = flit::Dw1(self.next()?);
        let (rid, ep, tag) = (dw1.id(), flag(dw1.ep()), dw1.tag());
        self.line(dw1.0, format_args!("RID={rid} EP{ep} Tag={tag:X}h"))?;
        self.address(
            form,
            |bits| if bits == 0 { None } else { Some(("AT", bits)) },
        )
    }

    fn flit_completion(&mut self) -> Result<(), Stop> {
        let dw1 = flit::Dw1(self.next()?);
        let (cid, ep, tag) = (dw1.id(), flag(dw1.ep()), dw1.tag());
        self.line(dw1.0, format_args!("CID={cid} EP{ep} Tag={tag:X}h"))?;
        let dw2 = flit::CplDw2(self.next()?);
        let lower = dw1.lower_address_6() | dw2.lower_address_5_2();
        let (rid, byte_count) = (dw2.requester(), dw2.byte_count());
        self.line(
            dw2.0,
            format_args!("RID={rid} LA={lower:X}h BC={byte_count}"),
        )?;
        Ok(())
    }

    fn ohcs(&mut self, form: Form, dw0: flit::Dw0) -> Result<(), Stop> {
        if dw0.ohc() & flit::OHC_A != 0 {
            let dw = self.next()?;
            if form.is_completion() {
                let ohc_a = flit::CplOhcA(dw);
                let (status, lower) = (Status(ohc_a.status_code()), ohc_a.lower_address_1_0());
                self.line(dw, format_args!("OHC-A CS={status} LA[1:0]={lower}"))?;
            } else {
                let ohc_a = flit::RequestOhcA(dw);
                let (last_be, first_be) = (ohc_a.last_be(), ohc_a.first_be());
                self.line(dw, format_args!("OHC-A LBE={last_be:X}h FBE={first_be:X}h"))?;
            }
        }
        if dw0.ohc() & flit::OHC_B != 0 {
            let ohc_b = flit::OhcB(self.next()?);
            self.line(
                ohc_b.0,
                format_args!(
                    "OHC-B ST={:X}h PH={} HV={} AMA={} AV{}",
                    ohc_b.st(),
                    ohc_b.ph(),
                    ohc_b.hv(),
                    ohc_b.ama(),
                    flag(ohc_b.av()),
                ),
            )?;
        }
        if dw0.ohc() & flit::OHC_C != 0 {
            let dw = self.next()?;
            self.line(dw, format_args!("OHC-C"))?;
        }
        for _ in 0..dw0.ohc_e_dw() {
            let dw = self.next()?;
            self.line(dw, format_args!("OHC-E"))?;
        }
        Ok(())
    }

    /// Address DWs; `low_bits` names what the two bits below the address are, if they are shown.
    fn address(
        &mut self,
        form: Form,
        low_bits: impl Fn(u8) -> Option<(&'static str, u8)>,
    ) -> Result<(), Stop> {
        let mut name = "Addr";
        if form.is_64bit() {
            let dw = self.next()?;
            self.line(dw, format_args!("AddrH={:08X}h", u32::from_be_bytes(dw)))?;
            name = "AddrL";
        }
        let dw = self.next()?;
        let addr = u32::from_be_bytes(dw) & !0b11;
        match low_bits(dw[3] & 0b11) {
            Some((bits, value)) => {
                self.line(dw, format_args!("{name}={addr:08X}h {bits}={value}"))?;
            }
            None => self.line(dw, format_args!("{name}={addr:08X}h"))?,
        }
        Ok(())
    }

    fn payload(&mut self, announced: usize, limit: usize, captured_only: bool) -> fmt::Result {
        let present = announced.min(self.rest.len());
        let (payload, behind) = self.rest.split_at(present);
        let shown = present.min(limit);
        for (index, &dw) in payload[..shown].iter().enumerate() {
            self.line(dw, format_args!("Data[{index}]"))?;
        }
        if limit > 0 && present > shown {
            self.note(format_args!("{} more dwords of data", present - shown))?;
        }
        let missing = announced - present;
        if missing > 0 && captured_only {
            self.note(format_args!("payload not captured: {missing} dwords"))?;
        } else if missing > 0 {
            self.note(format_args!(
                "TLP is truncated: {missing} dwords of data missing"
            ))?;
        }
        if !behind.is_empty() {
            self.note(format_args!("{} dwords behind the TLP", behind.len()))?;
        }
        Ok(())
    }
}

/// DWs of payload behind the headers.
fn payload_dw(form: Form, length: u16) -> usize {
    if form.has_payload() { length.into() } else { 0 }
}

/// The length as printed: a completion without data has none.
const fn shown_length(form: Form, length: u16) -> u16 {
    if matches!(form, Form::Cpl) {
        length % 1024
    } else {
        length
    }
}
