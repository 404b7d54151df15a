// SPDX-License-Identifier: GPL-2.0
//! a hint is not used after its mapping is gone
//! error[E0505]

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    dma_buf::Attachment,
    pci::tph::{
        Hint,
        Namespace, //
    },
    prelude::*, //
};

pub fn ask(dev: &Device<Bound>, attachment: &Attachment) -> Result<Option<Hint>> {
    let resv = attachment.dmabuf().lock();
    let mapping = attachment.map(dev, &resv, DataDirection::FromDevice)?;
    let hint = mapping.tph_hint(Namespace::St)?;
    drop(mapping);
    Ok(hint.as_deref().copied())
}
