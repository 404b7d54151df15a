// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a steering tag means to the accelerator.

use tlp::SteeringTag;

/// Number of cache partitions.
pub const PARTITIONS: u8 = 16;

/// What the accelerator does to each 32-bit lane of a write, on the way to its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The written value: the tag only steers.
    Store,
    /// Sum, modulo 2^32.
    Add,
    /// Exclusive or.
    Xor,
    /// The smaller one, unsigned.
    Min,
    /// The larger one, unsigned.
    Max,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
}

impl Operation {
    /// The operation that a 4-bit code selects.
    const fn of(code: u8) -> Self {
        match code {
            0xf => Self::Add,
            0xe => Self::Xor,
            0xd => Self::Min,
            0xc => Self::Max,
            0xb => Self::And,
            0xa => Self::Or,
            _ => Self::Store,
        }
    }

    /// The lane's new value, from what memory holds and what was written.
    #[must_use]
    pub const fn apply(self, memory: u32, written: u32) -> u32 {
        match self {
            Self::Store => written,
            Self::Add => memory.wrapping_add(written),
            Self::Xor => memory ^ written,
            Self::Min => {
                if written < memory {
                    written
                } else {
                    memory
                }
            }
            Self::Max => {
                if written > memory {
                    written
                } else {
                    memory
                }
            }
            Self::And => memory & written,
            Self::Or => memory | written,
        }
    }
}

/// A steering tag, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// What to do.
    pub operation: Operation,
    /// Where to keep the data: 0..[`PARTITIONS`].
    pub partition: usize,
    /// Stream id of a 16-bit tag.
    pub stream: Option<u8>,
}

impl From<SteeringTag> for Steering {
    fn from(tag: SteeringTag) -> Self {
        let (selector, stream) = match tag {
            SteeringTag::St(tag) => (tag, None),
            SteeringTag::Ext(tag) => {
                let [stream, selector] = tag.to_le_bytes();
                (selector, Some(stream))
            }
        };
        Self {
            operation: Operation::of(selector >> 4),
            partition: usize::from(selector & 0xf),
            stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_map() {
        use Operation::{Add, And, Max, Min, Or, Store, Xor};
        for (code, operation) in [
            (0xf, Add),
            (0xe, Xor),
            (0xd, Min),
            (0xc, Max),
            (0xb, And),
            (0xa, Or),
        ]
        .into_iter()
        .chain((0..0xa).map(|code| (code, Store)))
        {
            for partition in 0..16 {
                let short = Steering::from(SteeringTag::St(code << 4 | partition));
                let expected = Steering {
                    operation,
                    partition: usize::from(partition),
                    stream: None,
                };
                assert_eq!(short, expected);
                let tag = u16::from_be_bytes([code << 4 | partition, 0x5a]);
                let long = Steering::from(SteeringTag::Ext(tag));
                assert_eq!(
                    long,
                    Steering {
                        stream: Some(0x5a),
                        ..expected
                    }
                );
            }
        }
    }

    #[test]
    fn operations() {
        use Operation::{Add, And, Max, Min, Or, Store, Xor};
        for (operation, memory, written, result) in [
            (Store, 0x1234_5678, 0x9abc_def0, 0x9abc_def0),
            (Add, 0xffff_ffff, 2, 1),
            (Xor, 0xff00_ff00, 0x0ff0_0ff0, 0xf0f0_f0f0),
            (Min, 0x8000_0000, 1, 1),
            (Min, 1, 0x8000_0000, 1),
            (Max, 0x8000_0000, 1, 0x8000_0000),
            (Max, 1, 0x8000_0000, 0x8000_0000),
            (And, 0xff00_ff00, 0x0ff0_0ff0, 0x0f00_0f00),
            (Or, 0xff00_ff00, 0x0ff0_0ff0, 0xfff0_fff0),
        ] {
            assert_eq!(operation.apply(memory, written), result, "{operation:?}");
        }
    }
}
