// SPDX-License-Identifier: GPL-2.0
//! What the guest's halves of the demos have in common: the tuple that is asked for, and the
//! report.

use crate::vfio::{self, Tph};
use clap::Args;
use serde::Serialize;

/// What is to be published.
#[derive(Args, Clone, Copy)]
pub struct Publish {
    /// 8-bit steering tag to publish
    #[arg(long, default_value = "0xf0", value_parser = parse_number::<u8>)]
    pub st: u8,
    /// Processing hint to publish, 0 to 3
    #[arg(long, default_value = "2", value_parser = parse_number::<u8>)]
    pub ph: u8,
    /// 16-bit Extended steering tag to publish
    #[arg(long, default_value = "0xbef0", value_parser = parse_number::<u16>)]
    pub ext: u16,
}

impl Publish {
    /// A request that publishes the 8-bit tag.
    #[must_use]
    pub fn standard(self) -> Tph {
        Tph {
            flags: vfio::TPH_ST,
            steering_tag: self.st,
            ph: self.ph,
            ..Tph::default()
        }
    }

    /// A request that publishes the 16-bit tag.
    #[must_use]
    pub fn extended(self) -> Tph {
        Tph {
            flags: vfio::TPH_ST_EXT,
            steering_tag_ext: self.ext,
            ph: self.ph,
            ..Tph::default()
        }
    }
}

fn parse_number<T: TryFrom<u32>>(text: &str) -> Result<T, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("'{text}' is not a number that fits"))
}

/// What was published, as the kernel got it.
#[derive(Serialize)]
pub struct Published {
    flags: u32,
    steering_tag: u8,
    steering_tag_ext: u16,
    ph: u8,
}

impl From<Tph> for Published {
    fn from(tph: Tph) -> Self {
        Self {
            flags: tph.flags,
            steering_tag: tph.steering_tag,
            steering_tag_ext: tph.steering_tag_ext,
            ph: tph.ph,
        }
    }
}

/// Memory before a write: no operation leaves it as it is, and no two give the same result with
/// [`source`].
#[must_use]
pub fn before() -> [u32; 8] {
    std::array::from_fn(|i| 0x1000_0f00 + 0x0101 * i as u32)
}

/// What is written.
#[must_use]
pub fn source() -> [u32; 8] {
    std::array::from_fn(|i| 0x0200_00f3 + 0x1010 * i as u32)
}

/// What happened in one step; printed as one line of JSON.
#[derive(Serialize)]
pub struct Step {
    /// Its name.
    pub step: &'static str,
    /// Bus address of the BAR, or of the memory, that is written to.
    pub base: u64,
    /// Where in it.
    pub offset: u64,
    /// What was published for the target.
    pub published: Option<Published>,
    /// The CPU that the target is for, if it is memory and the write was to be steered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// What the requester may emit.
    pub requester: &'static str,
    /// The target before the write.
    pub before: [u32; 8],
    /// What was written.
    pub source: [u32; 8],
    /// The target after it.
    pub after: [u32; 8],
}
