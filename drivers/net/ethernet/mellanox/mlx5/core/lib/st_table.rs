// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB

//! Which entry of an ST table holds which tag, and for how many users.
//!
//! The table in the device is written by whoever calls, so this runs without a device too.

use kernel::{
    prelude::*,
    xarray::{
        AllocKind,
        XArray, //
    },
};

/// An entry that is in use.
///
/// # Invariants
///
/// `users` is not zero.
struct Used {
    tag: u16,
    users: u32,
}

enum Entry {
    /// Nobody uses it. `next` is the free entry that follows in the list, zero ends it.
    Free {
        next: u16,
    },
    Used(Used),
}

/// Finds an entry by the tag that it holds.
struct ByTag(Pin<KBox<XArray<KBox<u16>>>>);

impl ByTag {
    fn new() -> Result<Self> {
        Ok(Self(KBox::pin_init(
            XArray::new(AllocKind::Alloc),
            GFP_KERNEL,
        )?))
    }

    fn find(&self, tag: u16) -> Option<u16> {
        self.0.lock().get(tag.into()).copied()
    }

    fn insert(&self, tag: u16, index: u16) -> Result {
        let index = KBox::new(index, GFP_KERNEL)?;

        self.0.lock().store(tag.into(), index, GFP_KERNEL)?;

        Ok(())
    }

    /// Forgets that `tag` leads to the entry `index`, if it does.
    fn remove(&self, tag: u16, index: u16) {
        let mut by_tag = self.0.lock();

        if by_tag.get(tag.into()) == Some(&index) {
            by_tag.remove(tag.into());
        }
    }
}

/// The entries of an ST table.
///
/// The cost of every method but [`Table::new`] and [`Table::is_unused`] is independent of their
/// number.
///
/// # Invariants
///
/// - Entry 0 is never used, and never in the list of free entries: it is the index of an mkey
///   without a tag.
/// - Every other entry is either used, or in the list of free entries, which starts at `free`.
/// - A tag that `by_tag` finds is held by the used entry that it leads to. A used entry is found by
///   its tag, unless [`Table::retag`] gave it one that another entry held.
pub(crate) struct Table {
    entries: KVec<Entry>,
    free: u16,
    by_tag: ByTag,
}

impl Table {
    /// Creates the entries of a table of `size`, all of them free.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is none besides entry 0.
    pub(crate) fn new(size: u16) -> Result<Self> {
        if size < 2 {
            return Err(EINVAL);
        }

        let mut entries = KVec::with_capacity(size.into(), GFP_KERNEL)?;
        entries.push(Entry::Free { next: 0 }, GFP_KERNEL)?;
        for next in 2..size {
            entries.push(Entry::Free { next }, GFP_KERNEL)?;
        }
        entries.push(Entry::Free { next: 0 }, GFP_KERNEL)?;

        // INVARIANT: The list is 1, 2, and so on; nothing is used and nothing is found.
        Ok(Self {
            entries,
            free: 1,
            by_tag: ByTag::new()?,
        })
    }

    /// Returns whether every entry is free.
    pub(crate) fn is_unused(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| matches!(entry, Entry::Free { .. }))
    }

    fn used(&mut self, index: u16) -> Result<&mut Used> {
        match self.entries.get_mut(usize::from(index)) {
            Some(Entry::Used(used)) => Ok(used),
            _ => Err(EINVAL),
        }
    }

    /// Returns the index of an entry that holds `tag`, and counts one more user of it.
    ///
    /// If there is none yet, `write` writes the tag to an entry of the device's table.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if the table is full.
    /// - [`ENOMEM`], or what `write` returns.
    pub(crate) fn alloc(
        &mut self,
        tag: u16,
        write: impl FnOnce(u16, u16) -> Result,
    ) -> Result<u16> {
        if let Some(index) = self.by_tag.find(tag) {
            self.get(index)?;
            return Ok(index);
        }

        let index = self.free;
        let Some(entry) = self.entries.get_mut(usize::from(index)) else {
            return Err(EINVAL);
        };
        let next = match entry {
            Entry::Free { next } if index != 0 => *next,
            _ => return Err(EBUSY),
        };

        self.by_tag.insert(tag, index)?;
        if let Err(e) = write(index, tag) {
            self.by_tag.remove(tag, index);
            return Err(e);
        }

        // INVARIANT: It leaves the list, and was just made to be found by its tag.
        self.free = next;
        *entry = Entry::Used(Used { tag, users: 1 });

        Ok(index)
    }

    /// Counts one more user of the entry `index`.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if nobody uses it.
    /// - [`EOVERFLOW`] if the users cannot be counted.
    pub(crate) fn get(&mut self, index: u16) -> Result {
        let used = self.used(index)?;

        used.users = used.users.checked_add(1).ok_or(EOVERFLOW)?;

        Ok(())
    }

    /// Counts one user of the entry `index` less, and frees it after the last one.
    ///
    /// The device keeps the tag of a free entry: no mkey that is in use refers to it.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if nobody uses it.
    pub(crate) fn put(&mut self, index: u16) -> Result {
        let Some(entry) = self.entries.get_mut(usize::from(index)) else {
            return Err(EINVAL);
        };
        let Entry::Used(used) = entry else {
            return Err(EINVAL);
        };

        if used.users > 1 {
            used.users -= 1;
            return Ok(());
        }

        // INVARIANT: It joins the list, and is not found any more.
        self.by_tag.remove(used.tag, index);
        *entry = Entry::Free { next: self.free };
        self.free = index;

        Ok(())
    }

    /// Makes the entry `index` hold `tag`, for its only user.
    ///
    /// If another entry holds the tag already, that one goes on to be found by it.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if nobody uses the entry.
    /// - [`EBUSY`] if it holds another tag, and somebody else relies on that.
    /// - [`ENOMEM`], or what `write` returns; then the entry is as it was.
    pub(crate) fn retag(
        &mut self,
        index: u16,
        tag: u16,
        write: impl FnOnce(u16, u16) -> Result,
    ) -> Result {
        let used = self.used(index)?;
        let old = used.tag;

        if old == tag {
            return Ok(());
        }
        if used.users > 1 {
            return Err(EBUSY);
        }

        if self.by_tag.find(tag).is_none() {
            self.by_tag.insert(tag, index)?;
        }
        if let Err(e) = write(index, tag) {
            self.by_tag.remove(tag, index);
            return Err(e);
        }

        // INVARIANT: It is found by its new tag, unless another entry is, and not by its old one.
        self.by_tag.remove(old, index);
        self.used(index)?.tag = tag;

        Ok(())
    }
}
