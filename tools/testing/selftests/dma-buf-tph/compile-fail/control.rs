// SPDX-License-Identifier: GPL-2.0
//! what the others do, done right, compiles

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
    let copy = hint.as_deref().copied();
    drop(mapping);
    drop(resv);
    Ok(copy)
}
