// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in front of each TLP in a trace: see the table in [`super`].
//!
//! `lab/wireshark/rust-tph.lua` reads the same bytes; a test holds the two together.

use super::{Object, ObjectKind};
use tlp::Mode;

/// Bytes in front of the TLP in a packet.
pub const HEADER_LEN: usize = 8;

const VERSION: u8 = 2;
/// No interface, or no BAR.
pub const NONE: u8 = 0xff;

const VERSION_AT: usize = 0;
const FLAGS_AT: usize = VERSION_AT + 1;
const RECEIVER_AT: usize = FLAGS_AT + 1;
const BAR_AT: usize = RECEIVER_AT + 1;
const OBJECT_KIND_AT: usize = BAR_AT + 1;
const OBJECT_NUMBER_AT: usize = OBJECT_KIND_AT + 1;
const OBJECT_NUMBER_LEN: usize = 3;

// TLPs are whole DWs, and are to be aligned like the blocks that hold them.
const _: () = assert!(OBJECT_NUMBER_AT + OBJECT_NUMBER_LEN == HEADER_LEN);
const _: () = assert!(HEADER_LEN.is_multiple_of(4));

const FLIT: u8 = 1 << 0;
const UNSUPPORTED: u8 = 1 << 1;

/// The header, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub mode: Mode,
    /// Number of the interface that receives it, and its BAR; none for an unsupported request.
    pub receiver: Option<(u8, Option<u8>)>,
    pub object: Option<Object>,
}

impl Header {
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[VERSION_AT] = VERSION;
        if self.mode == Mode::Flit {
            bytes[FLAGS_AT] |= FLIT;
        }
        if self.receiver.is_none() {
            bytes[FLAGS_AT] |= UNSUPPORTED;
        }
        let (receiver, bar) = self.receiver.unwrap_or((NONE, None));
        bytes[RECEIVER_AT] = receiver;
        bytes[BAR_AT] = bar.unwrap_or(NONE);
        if let Some(Object { kind, number }) = self.object {
            bytes[OBJECT_KIND_AT] = kind.code();
            bytes[OBJECT_NUMBER_AT..].copy_from_slice(&number.to_be_bytes()[1..]);
        }
        bytes
    }

    /// Says what is wrong with bytes that are no header.
    pub fn from_bytes(bytes: [u8; HEADER_LEN]) -> Result<Self, String> {
        let version = bytes[VERSION_AT];
        if version != VERSION {
            return Err(format!(
                "has a header of version {version}, this program knows {VERSION}: \
                 record it anew, or read it with the version of the lab that wrote it"
            ));
        }
        let flags = bytes[FLAGS_AT];
        if flags & !(FLIT | UNSUPPORTED) != 0 {
            return Err(format!("has unknown flags {flags:#04x}"));
        }
        let [kind, number @ ..] = [0, 1, 2, 3].map(|at| bytes[OBJECT_KIND_AT + at]);
        let number = u32::from_be_bytes([0, number[0], number[1], number[2]]);
        let object = match (kind, number) {
            (0, 0) => None,
            _ => Some(Object {
                kind: ObjectKind::from_code(kind)
                    .ok_or_else(|| format!("has an object of unknown kind {kind}"))?,
                number,
            }),
        };
        let bar = Some(bytes[BAR_AT]).filter(|&bar| bar != NONE);
        Ok(Self {
            mode: if flags & FLIT != 0 {
                Mode::Flit
            } else {
                Mode::NonFlit
            },
            receiver: (flags & UNSUPPORTED == 0).then_some((bytes[RECEIVER_AT], bar)),
            object,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_table() {
        let header = Header {
            mode: Mode::Flit,
            receiver: Some((2, Some(4))),
            object: Some(Object {
                kind: ObjectKind::Mkey,
                number: 0x01_0203,
            }),
        };
        assert_eq!(header.to_bytes(), [2, 1, 2, 4, 7, 1, 2, 3]);
        let header = Header {
            mode: Mode::NonFlit,
            receiver: None,
            object: None,
        };
        assert_eq!(header.to_bytes(), [2, 2, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_written_is_read() {
        let receivers = [None, Some((0, None)), Some((7, Some(5)))];
        let objects = (1..=7).filter_map(ObjectKind::from_code);
        let objects: Vec<_> = objects
            .map(|kind| Object {
                kind,
                number: 0xff_ffff,
            })
            .map(Some)
            .chain([None])
            .collect();
        assert_eq!(objects.len(), 8);
        for mode in [Mode::Flit, Mode::NonFlit] {
            for receiver in receivers {
                for &object in &objects {
                    let header = Header {
                        mode,
                        receiver,
                        object,
                    };
                    assert_eq!(Header::from_bytes(header.to_bytes()), Ok(header));
                }
            }
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let wrong = |bytes| Header::from_bytes(bytes).unwrap_err();
        assert!(wrong([1, 0, 0, 0, 0, 0, 0, 0]).contains("version 1"));
        assert!(wrong([2, 4, 0, 0, 0, 0, 0, 0]).contains("flags 0x04"));
        assert!(wrong([2, 0, 0, 0, 8, 0, 0, 0]).contains("kind 8"));
        assert!(wrong([2, 0, 0, 0, 0, 0, 0, 1]).contains("kind 0"));
    }
}
