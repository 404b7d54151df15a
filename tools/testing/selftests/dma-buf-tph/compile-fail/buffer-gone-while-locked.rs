// SPDX-License-Identifier: GPL-2.0
//! the last reference to a buffer does not go while its reservation is locked
//! error[E0505]

use kernel::{
    dma_buf::DmaBuf,
    sync::aref::ARef, //
};

pub fn release(dmabuf: ARef<DmaBuf>) {
    let resv = dmabuf.lock();
    drop(dmabuf);
    drop(resv);
}
