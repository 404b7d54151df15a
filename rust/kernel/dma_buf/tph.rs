// SPDX-License-Identifier: GPL-2.0

//! PCIe steering tags and processing hints (TPH) of a mapping.

use super::{
    DmaBuf,
    Mapping, //
};
use crate::{
    bindings,
    device::Device,
    error::to_result,
    pci::tph::{
        Hint,
        Namespace,
        ProcessingHint,
        SteeringTag, //
    },
    prelude::*, //
};
use core::ops::Deref;

impl DmaBuf {
    /// Asks the exporter for the hint that requests of `requester` to this buffer should carry. It
    /// is [`None`] if there is no tag in `namespace`.
    ///
    /// This is for the Rust part of an importer that is not in Rust. The hint is valid until the
    /// exporter next invalidates the mappings, which [`Mapping::tph_hint`] makes sure of.
    ///
    /// # Errors
    ///
    /// What the exporter answers but [`EOPNOTSUPP`], and [`EINVAL`] if it answers with a tag or
    /// processing hint that does not exist.
    ///
    /// # Safety
    ///
    /// The reservation lock is held by the caller.
    pub unsafe fn tph_hint(
        &self,
        requester: &Device,
        namespace: Namespace,
    ) -> Result<Option<Hint>> {
        let mut tag = 0;
        let mut ph = 0;

        // SAFETY:
        // - By their type invariants the buffer and the device are valid.
        // - By the safety requirements the reservation lock is held.
        // - `tag` and `ph` are valid for writes.
        let ret = to_result(unsafe {
            bindings::dma_buf_get_tph(
                self.as_raw(),
                requester.as_raw(),
                namespace.is_extended(),
                &mut tag,
                &mut ph,
            )
        });
        match ret {
            Ok(()) => (),
            Err(e) if e == EOPNOTSUPP => return Ok(None),
            Err(e) => return Err(e),
        }

        let tag = match namespace {
            Namespace::St => SteeringTag::St(u8::try_from(tag)?),
            Namespace::ExtSt => SteeringTag::ExtSt(tag),
        };

        Ok(Some(Hint {
            tag,
            ph: ProcessingHint::try_from(ph)?,
        }))
    }
}

impl Mapping<'_> {
    /// Asks the exporter for the hint that requests of the attached device to this mapping should
    /// carry. It is [`None`] if there is no tag in `namespace`.
    ///
    /// # Errors
    ///
    /// What the exporter answers but [`EOPNOTSUPP`], and [`EINVAL`] if it answers with a tag or
    /// processing hint that does not exist.
    pub fn tph_hint(&self, namespace: Namespace) -> Result<Option<MappingHint<'_>>> {
        // SAFETY: By the type invariant the reservation lock is held.
        let hint = unsafe {
            self.attachment
                .dmabuf
                .tph_hint(&self.attachment.dev, namespace)
        }?;

        Ok(hint.map(|hint| MappingHint {
            hint,
            _mapping: self,
        }))
    }
}

/// The [`Hint`] for requests to a [`Mapping`].
///
/// The exporter may change its mind when it takes the mapping away, so this cannot outlive it.
pub struct MappingHint<'a> {
    hint: Hint,
    _mapping: &'a Mapping<'a>,
}

impl Deref for MappingHint<'_> {
    type Target = Hint;

    #[inline]
    fn deref(&self) -> &Hint {
        &self.hint
    }
}
