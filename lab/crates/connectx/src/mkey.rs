// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory keys: who may access which memory how, and where it is.

use crate::dma::{KeyHint, Span};
use crate::error::ProtectionError;
use crate::ifc::mkc;
use crate::layout::Field;
use crate::owner::Owner;
use crate::pas;
use crate::status::Status;
use crate::wqe::{Check, Umr};
use tlp::Ph;

/// Bytes of an octoword, and entries in it.
const OCTOWORD: u64 = 16;
const ENTRIES: u64 = OCTOWORD / 8;
/// Octowords of a table, at most: 32 GiB in pages of 4 KiB. A table takes as much of the host's memory.
const MAX_OCTOWORDS: u64 = 1 << 22;
/// Octowords that are written at a time.
const UNIT: u64 = 4;
/// Low bits of an entry: what the device may do there.
const READABLE: u64 = 1;
const WRITABLE: u64 = 2;
const FLAGS: u64 = 0xfff;

/// Bits of the mask of a UMR, and the field that each takes over. There is none for the hint.
const MASK: [(u32, Field); 12] = [
    (0, mkc::len),
    (1, mkc::log_page_size),
    (6, mkc::start_addr),
    (7, mkc::pd),
    (13, mkc::mkey_7_0),
    (17, mkc::lr),
    (18, mkc::lw),
    (19, mkc::rr),
    (20, mkc::rw),
    (21, mkc::a),
    (25, mkc::relaxed_ordering_write),
    (29, mkc::free),
];
const MASK_RELAXED_READ: u32 = 47;

/// What is done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the queue's own side.
    LocalRead,
    LocalWrite,
    /// By its peer.
    RemoteRead,
    RemoteWrite,
    Atomic,
}

impl Access {
    /// All of them, and the field of each.
    const RIGHTS: [(Self, Field); 5] = [
        (Self::LocalRead, mkc::lr),
        (Self::LocalWrite, mkc::lw),
        (Self::RemoteRead, mkc::rr),
        (Self::RemoteWrite, mkc::rw),
        (Self::Atomic, mkc::a),
    ];

    /// Its bit in [`Limits::rights`].
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A memory key.
#[derive(Debug)]
pub struct Mkey {
    index: u32,
    context: Vec<u8>,
    /// What the context says, for each access.
    limits: Limits,
    /// Translations; those beyond the end were never written and are empty.
    table: Vec<u64>,
}

impl Mkey {
    /// A key as CREATE_MKEY makes it, with the translations that it brings.
    pub fn new(index: u32, context: &[u8], list: &[u8]) -> Result<Self, Status> {
        if !matches!(mode(context), Mode::Physical | Mode::Translated) {
            return Err(Status::BadParameter);
        }
        if mkc::translations_octword_size.get(context) > MAX_OCTOWORDS {
            return Err(Status::Limit);
        }
        let mkey = Self {
            index,
            context: context.to_vec(),
            limits: Limits::of(context),
            table: pas::parse(list),
        };
        if mkey.table.len() as u64 > mkey.capacity() {
            return Err(Status::BadParameter);
        }
        Ok(mkey)
    }

    /// Its protection domain.
    pub fn pd(&self) -> u32 {
        self.limits.pd
    }

    /// Entries that it has room for. Tables are written in units of 64 bytes, so there is room for the
    /// zeros that fill up the last one.
    fn capacity(&self) -> u64 {
        let octowords = mkc::translations_octword_size.get(&self.context);
        ENTRIES * octowords.next_multiple_of(UNIT)
    }

    /// Whether `key` in domain `pd` allows `access` to `len` bytes at `addr`. That something is there is
    /// seen when it is accessed.
    pub fn permit(
        &self,
        key: u32,
        pd: u32,
        addr: u64,
        len: u64,
        access: Access,
    ) -> Result<(), ProtectionError> {
        let limits = &self.limits;
        if key & 0xff != limits.variant || limits.free {
            return Err(ProtectionError::Key);
        }
        if pd != limits.pd {
            return Err(ProtectionError::Domain);
        }
        if limits.rights & access.bit() == 0 {
            return Err(ProtectionError::Right);
        }
        let end = addr.checked_add(len).ok_or(ProtectionError::Bounds)?;
        if let Some(bytes) = limits.len {
            let start = limits.start;
            let last = start.checked_add(bytes).ok_or(ProtectionError::Bounds)?;
            if addr < start || end > last {
                return Err(ProtectionError::Bounds);
            }
        }
        Ok(())
    }

    /// The front of `len` bytes at `addr` that lies in one piece: in as many pages as follow one
    /// another.
    pub fn span(&self, addr: u64, len: usize, write: bool) -> Result<Span, ProtectionError> {
        let owner = Owner::Mkey(self.index);
        let Some(shift) = self.limits.page_shift else {
            return Ok(Span::new(owner, addr, len));
        };
        let start = self.limits.start;
        let page = 1u64
            .checked_shl(shift)
            .ok_or(ProtectionError::Translation)?;
        // The first entry is that of the page in which the memory begins.
        let at = addr
            .checked_sub(start)
            .and_then(|at| at.checked_add(start % page))
            .ok_or(ProtectionError::Translation)?;
        let entries = usize::try_from(at / page)
            .ok()
            .and_then(|number| self.table.get(number..))
            .ok_or(ProtectionError::Translation)?;
        let needed = if write { WRITABLE } else { READABLE };
        let mut pages = entries
            .iter()
            .take_while(|&entry| entry & needed != 0)
            .map(|&entry| entry & !FLAGS);
        let first = pages.next().ok_or(ProtectionError::Translation)?;
        let within = at % page;
        let base = first
            .checked_add(within)
            .ok_or(ProtectionError::Translation)?;
        let (mut last, mut room) = (first, page - within);
        for next in pages {
            if room >= len as u64 || last.checked_add(page) != Some(next) {
                break;
            }
            last = next;
            room += page;
        }
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Ok(Span::new(owner, base, len.min(room)))
    }

    /// The hint of requests through it.
    pub fn hint(&self) -> Option<KeyHint> {
        self.limits.hint
    }

    /// Whether `umr` may be applied by a queue pair of domain `pd`; `privileged` if it is the driver's
    /// own for this.
    pub fn permit_update(
        &self,
        umr: &Umr,
        pd: u32,
        privileged: bool,
    ) -> Result<(), ProtectionError> {
        let get = |field: Field| field.get(&self.context);
        if get(mkc::umr_en) == 0 {
            return Err(ProtectionError::Right);
        }
        if !privileged && u64::from(pd) != get(mkc::pd) {
            return Err(ProtectionError::Domain);
        }
        let free = get(mkc::free) != 0;
        let as_expected = match umr.check {
            Check::Nothing => true,
            Check::Free => free,
            Check::InUse => !free,
        };
        if !as_expected {
            return Err(ProtectionError::Key);
        }
        let end = umr.offset.checked_add(umr.octowords);
        if end.is_none_or(|end| ENTRIES.saturating_mul(end) > self.capacity()) {
            return Err(ProtectionError::Bounds);
        }
        Ok(())
    }

    /// Applies `umr`, which is permitted, with the translations that it brings.
    pub fn update(&mut self, umr: &Umr, list: &[u8]) {
        let first = usize::try_from(umr.offset * ENTRIES).expect("permitted");
        let entries = pas::parse(list);
        let end = first + entries.len();
        if self.table.len() < end {
            self.table.resize(end, 0);
        }
        self.table[first..end].copy_from_slice(&entries);
        // What is empty at the end need not be kept.
        let used = self.table.iter().rposition(|&entry| entry != 0);
        self.table.truncate(used.map_or(0, |last| last + 1));
        if self.table.capacity() > 2 * self.table.len() + 64 {
            self.table.shrink_to_fit();
        }
        for (bit, field) in MASK {
            if umr.mask >> bit & 1 != 0 {
                field.set(&mut self.context, field.get(&umr.context));
            }
        }
        if umr.mask >> MASK_RELAXED_READ & 1 != 0 {
            let value = mkc::relaxed_ordering_read.get(&umr.context);
            mkc::relaxed_ordering_read.set(&mut self.context, value);
        }
        self.limits = Limits::of(&self.context);
    }
}

/// What the context of a key says about each access, taken out of it when it is written.
#[derive(Debug)]
struct Limits {
    /// Low byte of the key.
    variant: u32,
    free: bool,
    pd: u32,
    /// A bit for each [`Access`] that it allows.
    rights: u8,
    start: u64,
    /// Bytes from there on; none if it reaches everything.
    len: Option<u64>,
    /// A page has two to the power of this bytes; none if it does not translate.
    page_shift: Option<u32>,
    hint: Option<KeyHint>,
}

impl Limits {
    fn of(context: &[u8]) -> Self {
        let byte = |field: Field| field.get(context).to_le_bytes()[0];
        let rights = Access::RIGHTS
            .iter()
            .filter(|(_, field)| field.is_set(context));
        let hint = KeyHint {
            ph: Ph::from_bits(byte(mkc::pcie_tph_ph)),
            index: byte(mkc::pcie_tph_steering_tag_index),
        };
        Self {
            variant: mkc::mkey_7_0.get32(context),
            free: mkc::free.is_set(context),
            pd: mkc::pd.get32(context),
            rights: rights.fold(0, |rights, (access, _)| rights | access.bit()),
            start: mkc::start_addr.get(context),
            len: (!mkc::length64.is_set(context)).then(|| mkc::len.get(context)),
            page_shift: (mode(context) != Mode::Physical)
                .then(|| mkc::log_page_size.get32(context)),
            hint: mkc::pcie_tph_en.is_set(context).then_some(hint),
        }
    }
}

/// How a key finds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Its addresses are those of the bus.
    Physical,
    /// A table of pages.
    Translated,
    /// Lists of other keys, which this model does not have.
    Indirect,
}

fn mode(context: &[u8]) -> Mode {
    match mkc::access_mode_4_2.get(context) << 2 | mkc::access_mode_1_0.get(context) {
        0 => Mode::Physical,
        1 => Mode::Translated,
        _ => Mode::Indirect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INDEX: u32 = 0x1234;
    const KEY: u32 = INDEX << 8 | 0x56;
    const PD: u32 = 7;

    fn context(values: &[(Field, u64)]) -> Vec<u8> {
        let mut context = vec![0; mkc::LAYOUT.len];
        for &(field, value) in values {
            field.set(&mut context, value);
        }
        context
    }

    fn list(entries: &[u64]) -> Vec<u8> {
        entries
            .iter()
            .flat_map(|entry| entry.to_be_bytes())
            .collect()
    }

    /// As the driver's pool makes them.
    fn pooled(octowords: u64) -> Mkey {
        let context = context(&[
            (mkc::free, 1),
            (mkc::umr_en, 1),
            (mkc::access_mode_1_0, 1),
            (mkc::log_page_size, 12),
            (mkc::translations_octword_size, octowords),
            (mkc::pd, 1),
            (mkc::pcie_tph_en, 1),
            (mkc::pcie_tph_ph, 2),
            (mkc::pcie_tph_steering_tag_index, 5),
        ]);
        Mkey::new(INDEX, &context, &[]).unwrap()
    }

    fn enable() -> Umr {
        Umr {
            key: KEY,
            check: Check::Free,
            mask: 1 << 0 | 1 << 1 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17 | 1 << 20 | 1 << 29,
            context: context(&[
                (mkc::mkey_7_0, 0x56),
                (mkc::start_addr, 0x7f00_0000_0800),
                (mkc::len, 0x1800),
                (mkc::log_page_size, 12),
                (mkc::pd, PD.into()),
                (mkc::lr, 1),
                (mkc::rw, 1),
            ]),
            octowords: 4,
            offset: 0,
        }
    }

    fn enabled() -> Mkey {
        let mut mkey = pooled(4);
        let umr = enable();
        mkey.permit_update(&umr, 1, true).unwrap();
        mkey.update(&umr, &list(&[0x8000 | 3, 0x3000 | 1, 0, 0, 0, 0, 0, 0]));
        mkey
    }

    #[test]
    fn an_enabled_key_permits_what_it_says() {
        let mkey = enabled();
        let at = 0x7f00_0000_0800;
        let permit = |key, pd, addr, len, access| mkey.permit(key, pd, addr, len, access);
        assert_eq!(permit(KEY, PD, at, 0x1800, Access::RemoteWrite), Ok(()));
        assert_eq!(permit(KEY, PD, at, 0x1800, Access::LocalRead), Ok(()));
        for (refused, why) in [
            (
                permit(KEY + 1, PD, at, 1, Access::LocalRead),
                ProtectionError::Key,
            ),
            (
                permit(KEY, 1, at, 1, Access::LocalRead),
                ProtectionError::Domain,
            ),
            (
                permit(KEY, PD, at, 1, Access::RemoteRead),
                ProtectionError::Right,
            ),
            (
                permit(KEY, PD, at, 1, Access::Atomic),
                ProtectionError::Right,
            ),
            (
                permit(KEY, PD, at - 1, 1, Access::LocalRead),
                ProtectionError::Bounds,
            ),
            (
                permit(KEY, PD, at, 0x1801, Access::LocalRead),
                ProtectionError::Bounds,
            ),
            (
                permit(KEY, PD, at, u64::MAX, Access::LocalRead),
                ProtectionError::Bounds,
            ),
        ] {
            assert_eq!(refused, Err(why));
        }
        assert_eq!(
            pooled(4).permit(INDEX << 8, 1, 0, 0, Access::LocalRead),
            Err(ProtectionError::Key),
            "a free one"
        );
    }

    #[test]
    fn memory_is_where_the_entries_say() {
        let mkey = enabled();
        let at = 0x7f00_0000_0800;
        let span = |addr, len, write| {
            mkey.span(addr, len, write)
                .map(|span| (span.addr(), span.len()))
        };
        assert_eq!(span(at, 0x1800, true), Ok((0x8800, 0x800)));
        assert_eq!(span(at + 0x800, 0x1000, false), Ok((0x3000, 0x1000)));
        assert_eq!(
            span(at + 0x800, 1, true),
            Err(ProtectionError::Translation),
            "read-only"
        );
        assert_eq!(
            span(at + 0x1800, 1, false),
            Err(ProtectionError::Translation),
            "empty"
        );
        assert_eq!(
            span(at - 0x801, 1, false),
            Err(ProtectionError::Translation)
        );
    }

    #[test]
    fn pages_that_follow_one_another_are_one_piece() {
        let entries = [0x8003, 0x9003, 0xa003, 0xc003, 0xd001, 0x7003];
        let context = context(&[
            (mkc::access_mode_1_0, 1),
            (mkc::start_addr, 0x800),
            (mkc::log_page_size, 12),
            (mkc::translations_octword_size, 4),
        ]);
        let mkey = Mkey::new(1, &context, &list(&entries)).unwrap();
        for (addr, len, write, expected) in [
            (0x800, 0x6000, true, (0x8800, 0x2800)),
            (0x800, 0x1000, true, (0x8800, 0x1000)),
            (0x1fff, 0x6000, true, (0x9fff, 0x1001)),
            (0x3000, 0x6000, false, (0xc000, 0x2000)),
            (0x3000, 0x6000, true, (0xc000, 0x1000)),
            (0x5ff0, 0x6000, false, (0x7ff0, 0x10)),
        ] {
            let span = mkey.span(addr, len, write).unwrap();
            assert_eq!((span.addr(), span.len()), expected, "{len:#x} at {addr:#x}");
        }
    }

    #[test]
    fn the_last_page_of_all_is_followed_by_none() {
        let last = !0xfff | 3;
        let context = context(&[
            (mkc::access_mode_1_0, 1),
            (mkc::log_page_size, 12),
            (mkc::translations_octword_size, 4),
        ]);
        let mkey = Mkey::new(1, &context, &list(&[last, 3])).unwrap();
        assert_eq!(mkey.span(0, 0x2000, true).unwrap().len(), 0x1000);
    }

    #[test]
    fn a_physical_key_does_not_translate() {
        let context = context(&[(mkc::length64, 1), (mkc::lr, 1)]);
        let mkey = Mkey::new(INDEX, &context, &[]).unwrap();
        let span = mkey.span(0xffff_0000_1234, 0x10_0000, true).unwrap();
        assert_eq!((span.addr(), span.len()), (0xffff_0000_1234, 0x10_0000));
        assert_eq!(
            mkey.permit(INDEX << 8, 0, 5, u64::MAX - 5, Access::LocalRead),
            Ok(())
        );
        assert_eq!(mkey.hint(), None);
    }

    #[test]
    fn an_update_leaves_the_hint_alone() {
        let mut mkey = enabled();
        let hint = Some(KeyHint {
            ph: Ph::Target,
            index: 5,
        });
        assert_eq!(mkey.hint(), hint);
        let mut umr = enable();
        umr.mask = u64::MAX;
        umr.context = vec![0xff; mkc::LAYOUT.len];
        mkey.update(&umr, &[]);
        assert_eq!(mkey.hint(), hint);
        umr.context = vec![0; mkc::LAYOUT.len];
        mkey.update(&umr, &[]);
        assert_eq!(mkey.hint(), hint);
    }

    #[test]
    fn an_update_has_conditions() {
        let (free, used) = (pooled(4), enabled());
        let umr = |check, offset| Umr {
            check,
            offset,
            ..enable()
        };
        assert_eq!(
            used.permit_update(&umr(Check::Free, 0), 1, true),
            Err(ProtectionError::Key)
        );
        assert_eq!(
            free.permit_update(&umr(Check::InUse, 0), 1, true),
            Err(ProtectionError::Key)
        );
        assert_eq!(used.permit_update(&umr(Check::InUse, 0), 1, true), Ok(()));
        assert_eq!(
            used.permit_update(&umr(Check::InUse, 0), 1, false),
            Err(ProtectionError::Domain)
        );
        assert_eq!(used.permit_update(&umr(Check::InUse, 0), PD, false), Ok(()));
        for offset in [1, u64::MAX, 1 << 47] {
            assert_eq!(
                used.permit_update(&umr(Check::Nothing, offset), 1, true),
                Err(ProtectionError::Bounds)
            );
        }
        let fixed = Mkey::new(INDEX, &context(&[(mkc::access_mode_1_0, 1)]), &[]).unwrap();
        assert_eq!(
            fixed.permit_update(&umr(Check::Nothing, 0), 0, true),
            Err(ProtectionError::Right)
        );
    }

    #[test]
    fn what_is_zapped_is_gone_and_takes_no_memory() {
        let mut mkey = pooled(1 << 17);
        let umr = Umr {
            octowords: 1 << 15,
            ..enable()
        };
        mkey.update(&umr, &list(&vec![0x1003; 1 << 16]));
        assert!(mkey.span(0x7f00_0000_0800, 1, true).is_ok());
        let zap = Umr { mask: 0, ..umr };
        mkey.update(&zap, &list(&vec![0; 1 << 16]));
        assert_eq!(
            mkey.span(0x7f00_0000_0800, 1, true),
            Err(ProtectionError::Translation)
        );
        assert!(mkey.table.capacity() <= 64);
    }

    #[test]
    fn keys_that_cannot_be_made_are_refused() {
        let klm = context(&[(mkc::access_mode_1_0, 2)]);
        assert!(matches!(Mkey::new(1, &klm, &[]), Err(Status::BadParameter)));
        let small = context(&[
            (mkc::access_mode_1_0, 1),
            (mkc::translations_octword_size, 1),
        ]);
        assert!(Mkey::new(1, &small, &list(&[1; 8])).is_ok());
        assert!(matches!(
            Mkey::new(1, &small, &list(&[1; 9])),
            Err(Status::BadParameter)
        ));
    }

    proptest! {
        #[test]
        fn the_table_is_the_list_of_pages(
            pages in prop::collection::vec(1u64..1 << 40, 1..64),
            shift in 12u32..22,
            head: u32,
            offset in 0u64..1 << 27,
        ) {
            let page = 1u64 << shift;
            let start = 0x7f00_0000_0000 + u64::from(head) % page;
            let entries: Vec<_> = pages.iter().map(|number| number << shift | 3).collect();
            let context = context(&[
                (mkc::access_mode_1_0, 1),
                (mkc::start_addr, start),
                (mkc::log_page_size, shift.into()),
                (mkc::translations_octword_size, 64),
            ]);
            let mkey = Mkey::new(1, &context, &list(&entries)).unwrap();
            let number = usize::try_from((start % page + offset) / page).unwrap();
            match (mkey.span(start + offset, 16, false), pages.get(number)) {
                (Ok(span), Some(base)) => {
                    prop_assert_eq!(span.addr(), (base << shift) + (start + offset) % page);
                    prop_assert!(span.len() >= 1 && span.len() <= 16);
                }
                (Err(why), None) => prop_assert_eq!(why, ProtectionError::Translation),
                (got, expected) => prop_assert!(false, "{:?} {:?}", got, expected),
            }
        }
    }
}
