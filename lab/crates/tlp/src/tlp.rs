// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packets themselves.

use crate::wire::{Extent, Form, Headers, MAX_HEADERS_DW};
use crate::{CompletionHeader, DecodeError, EncodeError, MemRequest, flit, nonflit};
use core::fmt;

/// The longest encoding: TPH prefix or OHCs, the longest header, 4096 bytes of payload.
pub const MAX_ENCODED_LEN: usize = 4 * MAX_HEADERS_DW + 4096;

/// Header format of a link: one for the whole link, negotiated at link training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Headers of PCIe 1.0 to 5.0.
    NonFlit,
    /// Headers of flit mode (PCIe 6.0 and later).
    Flit,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NonFlit => "non-flit",
            Self::Flit => "flit",
        })
    }
}

/// A transaction layer packet; its payload is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlp<'a> {
    /// Memory read (MRd): asks for `len_dw` DWs.
    MemRead(MemRequest),
    /// Memory write (MWr), posted; the payload is `len_dw` DWs, bytes in address order.
    MemWrite(MemRequest, &'a [u8]),
    /// Completion: with data (CplD) if the payload is not empty, without (Cpl) if it is.
    Completion(CompletionHeader, &'a [u8]),
}

impl<'a> Tlp<'a> {
    /// Bytes that [`Tlp::encode`] writes in this mode.
    #[must_use]
    pub fn encoded_len(&self, mode: Mode) -> usize {
        let header_dw = match (self, mode) {
            (Self::MemRead(request) | Self::MemWrite(request, _), Mode::NonFlit) => {
                nonflit::request_dw(self.form(), request)
            }
            (Self::MemRead(request) | Self::MemWrite(request, _), Mode::Flit) => {
                flit::request_dw(self.form(), request)
            }
            (Self::Completion(..), Mode::NonFlit) => self.form().header_dw(),
            (Self::Completion(header, _), Mode::Flit) => flit::completion_dw(self.form(), header),
        };
        header_dw * 4 + self.payload().len()
    }

    /// Writes the packet to the front of `buf` and returns its length in bytes. After an error
    /// `buf` is as it was.
    ///
    /// The tag of a hinted write in non-flit mode is not written: ST has its place, and a posted
    /// request needs none. [`Tlp::decode`] reports it as 0.
    pub fn encode(&self, mode: Mode, buf: &mut [u8]) -> Result<usize, EncodeError> {
        let mut dws = [[0; 4]; MAX_HEADERS_DW];
        let len = self.encode_headers(mode, &mut dws)?;
        let (headers, payload) = (dws[..len].as_flattened(), self.payload());
        let (need, have) = (headers.len() + payload.len(), buf.len());
        if have < need {
            return Err(EncodeError::BufferTooShort { need, have });
        }
        buf[..headers.len()].copy_from_slice(headers);
        buf[headers.len()..need].copy_from_slice(payload);
        Ok(need)
    }

    /// Writes what is in front of the payload to the front of `dws`, as [`Tlp::encode`] does, and
    /// returns how many DWs that are: for who has another place for the payload than behind them.
    pub fn encode_headers(
        &self,
        mode: Mode,
        dws: &mut [[u8; 4]; MAX_HEADERS_DW],
    ) -> Result<usize, EncodeError> {
        self.check_payload()?;
        let (form, len_dw) = (self.form(), self.payload().len() / 4);
        let mut headers = Headers::new(dws);
        match (self, mode) {
            (Self::MemRead(request) | Self::MemWrite(request, _), Mode::NonFlit) => {
                nonflit::emit_request(form, request, &mut headers)?;
            }
            (Self::MemRead(request) | Self::MemWrite(request, _), Mode::Flit) => {
                flit::emit_request(form, request, &mut headers);
            }
            (Self::Completion(header, _), Mode::NonFlit) => {
                nonflit::emit_completion(form, header, len_dw, &mut headers)?;
            }
            (Self::Completion(header, _), Mode::Flit) => {
                flit::emit_completion(form, header, len_dw, &mut headers);
            }
        }
        Ok(headers.len())
    }

    /// Reads the one packet that `bytes` holds; nothing may follow it.
    ///
    /// It is strict: a reserved code or bit, or a field that this crate does not model (digest,
    /// poison, address type, PASID, trailer, other OHCs) is an error, never ignored.
    pub fn decode(bytes: &'a [u8], mode: Mode) -> Result<Self, DecodeError> {
        let (tlp, _) = Self::parse(bytes, mode, Extent::Whole)?;
        Ok(tlp)
    }

    /// Reads the one packet whose front `bytes` holds, all headers at least, as an analyzer keeps
    /// it that does not capture whole payloads. Returns it with as much of its payload as there is,
    /// and how many bytes of that are missing.
    ///
    /// It is as strict as [`Tlp::decode`] otherwise.
    pub fn decode_cut(bytes: &'a [u8], mode: Mode) -> Result<(Self, usize), DecodeError> {
        let (tlp, announced) = Self::parse(bytes, mode, Extent::Cut)?;
        Ok((tlp, announced - tlp.payload().len()))
    }

    fn parse(bytes: &'a [u8], mode: Mode, extent: Extent) -> Result<(Self, usize), DecodeError> {
        match mode {
            Mode::NonFlit => nonflit::parse(bytes, extent),
            Mode::Flit => flit::parse(bytes, extent),
        }
    }

    /// The data that the packet carries: none for reads and for completions without data.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        match self {
            Self::MemRead(_) => &[],
            Self::MemWrite(_, payload) | Self::Completion(_, payload) => payload,
        }
    }

    fn check_payload(&self) -> Result<(), EncodeError> {
        match self {
            Self::MemRead(_) => Ok(()),
            Self::MemWrite(request, payload) => {
                let (need, have) = (request.len_bytes(), payload.len());
                if need == have {
                    Ok(())
                } else {
                    Err(EncodeError::PayloadLength { need, have })
                }
            }
            Self::Completion(header, payload) => Ok(header.check_payload(payload.len())?),
        }
    }

    const fn form(&self) -> Form {
        match self {
            Self::MemRead(request) if request.is_64bit() => Form::MemRead64,
            Self::MemRead(_) => Form::MemRead32,
            Self::MemWrite(request, _) if request.is_64bit() => Form::MemWrite64,
            Self::MemWrite(..) => Form::MemWrite32,
            Self::Completion(_, []) => Form::Cpl,
            Self::Completion(..) => Form::CplD,
        }
    }
}
