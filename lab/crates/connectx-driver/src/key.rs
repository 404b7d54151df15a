// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory keys, and how they are changed by requests.

use connectx::ifc::mkc;
use connectx::layout::Field;

/// Rights of a key.
pub mod access {
    /// The queue's own side may read.
    pub const LOCAL_READ: u32 = 1;
    /// The queue's own side may write.
    pub const LOCAL_WRITE: u32 = 1 << 1;
    /// Its peer may read.
    pub const REMOTE_READ: u32 = 1 << 2;
    /// Its peer may write.
    pub const REMOTE_WRITE: u32 = 1 << 3;
    /// Its peer may change by atomics.
    pub const ATOMIC: u32 = 1 << 4;
    /// All of that.
    pub const ALL: u32 = 0x1f;
}

/// Bits of the mask that says which fields of a key a UMR takes over. There is none for the hint.
pub mod mask {
    /// `len`.
    pub const LEN: u64 = 1;
    /// `log_page_size`.
    pub const PAGE_SIZE: u64 = 1 << 1;
    /// `start_addr`.
    pub const START: u64 = 1 << 6;
    /// `pd`.
    pub const PD: u64 = 1 << 7;
    /// `mkey_7_0`.
    pub const KEY: u64 = 1 << 13;
    /// All rights.
    pub const ACCESS: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;
    /// `free`.
    pub const FREE: u64 = 1 << 29;
}

const PHYSICAL: u64 = 0;
const TRANSLATED: u64 = 1;
/// A key of any queue pair.
const ANY_QP: u64 = 0xff_ffff;
/// Low bits of a translation: readable and writable.
pub(crate) const PRESENT: u64 = 3;

/// What a memory key is to be: fields of its context, and translations.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// Fields that are not 0.
    pub fields: Vec<(Field, u64)>,
    /// Addresses of pages.
    pub pages: Vec<u64>,
}

impl Key {
    /// All of the bus, at its own addresses, as the driver itself uses it.
    #[must_use]
    pub fn physical(pd: u32, rights: u32) -> Self {
        let fields = vec![
            (mkc::access_mode_1_0, PHYSICAL),
            (mkc::qpn, ANY_QP),
            (mkc::length64, 1),
            (mkc::pd, pd.into()),
        ];
        Self {
            fields,
            pages: vec![],
        }
        .allow(rights)
    }

    /// `len` bytes that begin at `start` in the key's own address space, in `pages` of 2^`shift`
    /// bytes.
    #[must_use]
    pub fn translated(
        pd: u32,
        rights: u32,
        start: u64,
        len: u64,
        shift: u32,
        pages: &[u64],
    ) -> Self {
        let octowords = pages.len().div_ceil(2) as u64;
        let fields = vec![
            (mkc::access_mode_1_0, TRANSLATED),
            (mkc::qpn, ANY_QP),
            (mkc::pd, pd.into()),
            (mkc::start_addr, start),
            (mkc::len, len),
            (mkc::translations_octword_size, octowords),
            (mkc::log_page_size, shift.into()),
        ];
        Self {
            fields,
            pages: pages.to_vec(),
        }
        .allow(rights)
    }

    /// A key of a pool: free, with room for `entries` translations, to be enabled by [`Umr`].
    #[must_use]
    pub fn pooled(pd: u32, entries: u64) -> Self {
        let fields = vec![
            (mkc::free, 1),
            (mkc::umr_en, 1),
            (mkc::access_mode_1_0, TRANSLATED),
            (mkc::qpn, ANY_QP),
            (mkc::pd, pd.into()),
            (mkc::translations_octword_size, entries.div_ceil(2)),
            (mkc::log_page_size, 12),
        ];
        Self {
            fields,
            pages: vec![],
        }
    }

    /// With these rights, too.
    #[must_use]
    pub fn allow(mut self, rights: u32) -> Self {
        self.fields.extend(rights_of(rights));
        self
    }

    /// With this hint: processing hint and index in the table of steering tags.
    #[must_use]
    pub fn hint(mut self, ph: u8, index: u8) -> Self {
        self.fields.extend([
            (mkc::pcie_tph_en, 1),
            (mkc::pcie_tph_ph, ph.into()),
            (mkc::pcie_tph_steering_tag_index, index.into()),
        ]);
        self
    }
}

fn rights_of(rights: u32) -> impl Iterator<Item = (Field, u64)> {
    let fields = [mkc::lr, mkc::lw, mkc::rr, mkc::rw, mkc::a];
    let bits = fields.into_iter().enumerate();
    bits.map(move |(bit, field)| (field, u64::from(rights >> bit & 1)))
}

/// A change of a memory key by a request.
#[derive(Clone, Debug, Default)]
pub struct Umr {
    /// The key.
    pub key: u32,
    /// See the constants.
    pub flags: u8,
    /// Which fields are taken over, see [`mask`].
    pub mask: u64,
    /// New values of them; others are 0.
    pub fields: Vec<(Field, u64)>,
    /// Translations, of which there is a multiple of 8, with their low bits.
    pub entries: Vec<u64>,
    /// Number of the first one that is replaced.
    pub first: u64,
}

impl Umr {
    /// There are no translations.
    pub const INLINE: u8 = 0x80;
    /// The key must not be free. The names in the kernel's headers contradict each other here.
    pub const CHECK_IN_USE: u8 = 0x40;
    /// The key must be free.
    pub const CHECK_FREE: u8 = 0x20;
    /// `first` counts.
    pub const OFFSET: u8 = 0x10;

    /// Loads `pages` from entry `first` on, filled up with empty ones to a multiple of 8, and
    /// leaves all else alone.
    #[must_use]
    pub fn load(key: u32, check: u8, first: u64, pages: &[u64]) -> Self {
        let mut entries: Vec<_> = pages.iter().map(|page| page | PRESENT).collect();
        entries.resize(entries.len().next_multiple_of(8), 0);
        Self {
            key,
            flags: check | Self::OFFSET,
            entries,
            first,
            ..Self::default()
        }
    }

    /// Removes the translations of `count` pages.
    #[must_use]
    pub fn zap(key: u32, count: usize) -> Self {
        Self {
            key,
            flags: Self::CHECK_IN_USE | Self::OFFSET,
            entries: vec![0; count.next_multiple_of(8)],
            ..Self::default()
        }
    }

    /// Loads `pages` and enables the key: `len` bytes from `start` on, in pages of 2^`shift` bytes.
    #[must_use]
    pub fn enable(
        key: u32,
        pd: u32,
        rights: u32,
        start: u64,
        len: u64,
        shift: u32,
        pages: &[u64],
    ) -> Self {
        let mut umr = Self::load(key, Self::CHECK_FREE, 0, pages);
        umr.mask = mask::LEN
            | mask::PAGE_SIZE
            | mask::START
            | mask::PD
            | mask::KEY
            | mask::ACCESS
            | mask::FREE;
        umr.fields = vec![
            (mkc::mkey_7_0, u64::from(key & 0xff)),
            (mkc::pd, pd.into()),
            (mkc::start_addr, start),
            (mkc::len, len),
            (mkc::log_page_size, shift.into()),
        ];
        umr.fields.extend(rights_of(rights));
        umr
    }

    /// Frees the key and gives it back to the pool's domain.
    #[must_use]
    pub fn revoke(key: u32, pd: u32) -> Self {
        Self {
            key,
            flags: Self::INLINE,
            mask: mask::PD | mask::FREE,
            fields: vec![(mkc::free, 1), (mkc::pd, pd.into())],
            ..Self::default()
        }
    }

    /// Changes rights and domain.
    #[must_use]
    pub fn rights(key: u32, pd: u32, rights: u32) -> Self {
        let mut fields = vec![(mkc::pd, pd.into())];
        fields.extend(rights_of(rights));
        Self {
            key,
            flags: Self::CHECK_IN_USE | Self::INLINE,
            mask: mask::PD | mask::ACCESS,
            fields,
            ..Self::default()
        }
    }

    /// Changes the size of pages, and nothing of what is in the table.
    #[must_use]
    pub fn page_size(key: u32, start: u64, len: u64, shift: u32) -> Self {
        Self {
            key,
            flags: Self::CHECK_IN_USE | Self::INLINE,
            mask: mask::LEN | mask::START | mask::PAGE_SIZE,
            fields: vec![
                (mkc::start_addr, start),
                (mkc::len, len),
                (mkc::log_page_size, shift.into()),
            ],
            ..Self::default()
        }
    }
}
