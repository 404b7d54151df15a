// SPDX-License-Identifier: GPL-2.0
//! an attachment is not detached while it is mapped
//! error[E0505]

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    dma_buf::{
        Attachment,
        Reservation, //
    },
    prelude::*, //
};

pub fn detach(
    dev: &Device<Bound>,
    attachment: Attachment,
    resv: &Reservation<'_>,
) -> Result<usize> {
    let mapping = attachment.map(dev, resv, DataDirection::FromDevice)?;
    drop(attachment);
    Ok(mapping.sgt().iter().count())
}
