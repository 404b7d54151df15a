// SPDX-License-Identifier: GPL-2.0-only

//! The payloads of the features, and what is checked before anything is looked up.
//!
//! The order of the checks is uAPI, as it decides which error a request with several faults gets:
//! what is malformed, then what is never allowed. The whole request is judged before its first
//! entry is looked at more closely.

use core::mem::{
    offset_of,
    size_of, //
};
use kernel::{
    bindings,
    pci::tph::{
        Namespace,
        SteeringTag, //
    },
    prelude::*,
    transmute, //
};

use super::requester_capability::{
    Capability,
    Policy, //
};

/// What a steering tag is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nothing.
    None,
    /// The dma-buf of a file descriptor.
    DmaBuf(i32),
    /// Memory that a CPU uses.
    Cpu(u32),
    /// It is this tag.
    Literal(u32),
}

impl Source {
    /// Fails with [`EINVAL`] if there is no such source.
    fn new(source: u32, value: u32) -> Result<Self> {
        match (source, value) {
            (bindings::VFIO_DEVICE_TPH_NONE, 0) => Ok(Self::None),
            // CAST: A file descriptor as it is in `__u32`.
            (bindings::VFIO_DEVICE_TPH_DMABUF, fd) => Ok(Self::DmaBuf(fd as i32)),
            (bindings::VFIO_DEVICE_TPH_CPU, cpu) => Ok(Self::Cpu(cpu)),
            (bindings::VFIO_DEVICE_TPH_LITERAL, tag) => Ok(Self::Literal(tag)),
            _ => Err(EINVAL),
        }
    }
}

/// Returns the tag of `namespace` with this number; fails with [`EINVAL`] if there is none.
pub(super) fn literal(number: u32, namespace: Namespace) -> Result<SteeringTag> {
    Ok(match namespace {
        Namespace::St => SteeringTag::St(u8::try_from(number)?),
        Namespace::ExtSt => SteeringTag::ExtSt(u16::try_from(number)?),
    })
}

/// Decodes the flags of a request.
fn namespace(flags: u32) -> Result<Namespace> {
    match flags {
        0 => Ok(Namespace::St),
        bindings::VFIO_DEVICE_TPH_EXTENDED => Ok(Namespace::ExtSt),
        _ => Err(EINVAL),
    }
}

/// The payload of `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(super) struct Resolve(pub(super) bindings::vfio_device_feature_tph_resolve);

// The layout is uAPI.
const _: () = {
    assert!(size_of::<Resolve>() == 16);
    assert!(offset_of!(bindings::vfio_device_feature_tph_resolve, flags) == 0);
    assert!(offset_of!(bindings::vfio_device_feature_tph_resolve, source) == 4);
    assert!(offset_of!(bindings::vfio_device_feature_tph_resolve, value) == 8);
    assert!(offset_of!(bindings::vfio_device_feature_tph_resolve, steering_tag) == 12);
    assert!(offset_of!(bindings::vfio_device_feature_tph_resolve, ph) == 14);
    assert!(offset_of!(bindings::vfio_device_feature_tph_resolve, reserved) == 15);
};

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl transmute::FromBytes for Resolve {}

// SAFETY: It has no padding, as the offsets above show.
unsafe impl transmute::AsBytes for Resolve {}

impl Resolve {
    /// Checks the request, and returns which tag of what it asks for.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if it is malformed.
    /// - [`EOPNOTSUPP`] if it is not for this `policy`, or not for a device with this `capability`.
    pub(super) fn check(
        &self,
        capability: Capability,
        policy: Policy,
    ) -> Result<(Namespace, Source)> {
        let namespace = namespace(self.0.flags)?;
        let source = Source::new(self.0.source, self.0.value)?;

        if self.0.reserved != 0 || matches!(source, Source::None | Source::Literal(_)) {
            return Err(EINVAL);
        }

        if !policy.may_resolve(source) || !capability.supports(namespace) {
            return Err(EOPNOTSUPP);
        }

        Ok((namespace, source))
    }
}

/// An entry of the array in `VFIO_DEVICE_FEATURE_TPH_ST`.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawEntry(pub(super) bindings::vfio_device_tph_st_entry);

// The layout is uAPI.
const _: () = {
    assert!(size_of::<RawEntry>() == 16);
    assert!(offset_of!(bindings::vfio_device_tph_st_entry, index) == 0);
    assert!(offset_of!(bindings::vfio_device_tph_st_entry, source) == 4);
    assert!(offset_of!(bindings::vfio_device_tph_st_entry, value) == 8);
    assert!(offset_of!(bindings::vfio_device_tph_st_entry, reserved) == 12);
};

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl transmute::FromBytes for RawEntry {}

/// An entry that is not malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) index: u32,
    pub(super) source: Source,
}

impl RawEntry {
    /// Fails with [`EINVAL`] if it is malformed or not in a table of `size` entries.
    fn check(&self, size: u32) -> Result<Entry> {
        let source = Source::new(self.0.source, self.0.value)?;

        if self.0.reserved != 0 || self.0.index >= size {
            return Err(EINVAL);
        }

        Ok(Entry {
            index: self.0.index,
            source,
        })
    }
}

/// The payload of `VFIO_DEVICE_FEATURE_TPH_ST`.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub(super) struct SetEntries(pub(super) bindings::vfio_device_feature_tph_st);

// The layout is uAPI.
const _: () = {
    assert!(size_of::<SetEntries>() == 24);
    assert!(offset_of!(bindings::vfio_device_feature_tph_st, flags) == 0);
    assert!(offset_of!(bindings::vfio_device_feature_tph_st, count) == 4);
    assert!(offset_of!(bindings::vfio_device_feature_tph_st, applied) == 8);
    assert!(offset_of!(bindings::vfio_device_feature_tph_st, reserved) == 12);
    assert!(offset_of!(bindings::vfio_device_feature_tph_st, entries) == 16);
};

// SAFETY: It consists of integers only, so every bit pattern is a valid value.
unsafe impl transmute::FromBytes for SetEntries {}

// SAFETY: It has no padding, as the offsets above show.
unsafe impl transmute::AsBytes for SetEntries {}

impl SetEntries {
    /// Returns the number of entries; fails with [`EINVAL`] if it is zero or above `size`.
    pub(super) fn count(&self, size: u32) -> Result<u32> {
        match self.0.count {
            count if count != 0 && count <= size => Ok(count),
            _ => Err(EINVAL),
        }
    }

    /// Checks the request with its entries, and returns what it asks for.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if it is malformed.
    /// - [`EOPNOTSUPP`] if it is not for this `policy`, or not for a device with this `capability`.
    pub(super) fn check(
        &self,
        raw: &[RawEntry],
        capability: Capability,
        policy: Policy,
    ) -> Result<(Namespace, KVVec<Entry>)> {
        let size = capability.entries()?;
        let namespace = namespace(self.0.flags)?;

        if self.0.reserved != 0 {
            return Err(EINVAL);
        }

        let mut entries = KVVec::with_capacity(raw.len(), GFP_KERNEL)?;
        for raw in raw {
            entries.push(raw.check(size)?, GFP_KERNEL)?;
        }

        for entry in &entries {
            if let Source::Literal(number) = entry.source {
                literal(number, namespace)?;
            }
        }

        if entries
            .iter()
            .any(|entry| !policy.may_program(entry.source))
        {
            return Err(EOPNOTSUPP);
        }

        if !capability.supports(namespace) {
            return Err(EOPNOTSUPP);
        }

        Ok((namespace, entries))
    }
}
