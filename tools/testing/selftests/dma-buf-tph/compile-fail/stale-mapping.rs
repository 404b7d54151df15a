// SPDX-License-Identifier: GPL-2.0
//! a mapping is not used after the reservation is unlocked, when it may be invalidated
//! error[E0505]

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    dma_buf::Attachment,
    prelude::*, //
};

pub fn map(dev: &Device<Bound>, attachment: &Attachment) -> Result<usize> {
    let resv = attachment.dmabuf().lock();
    let mapping = attachment.map(dev, &resv, DataDirection::FromDevice)?;
    drop(resv);
    Ok(mapping.sgt().iter().count())
}
