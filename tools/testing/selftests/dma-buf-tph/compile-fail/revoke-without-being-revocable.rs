// SPDX-License-Identifier: GPL-2.0
//! an exporter that lets everybody in cannot take its memory away
//! error[E0080]

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::DataDirection,
    dma_buf::{
        DmaBuf,
        Exporter,
        Ops, //
    },
    prelude::*,
    scatterlist::SGTable, //
};

struct LocalModule;

impl kernel::ModuleMetadata for LocalModule {
    const NAME: &'static kernel::str::CStr = c"compile_fail";
    const THIS_MODULE: ThisModule = {
        // SAFETY: There is none.
        unsafe { ThisModule::from_ptr(core::ptr::null_mut()) }
    };
}

struct Memory;

static OPS: Ops<Memory> = Ops::new();

#[vtable]
impl Exporter for Memory {
    type Table = &'static SGTable;

    fn ops() -> &'static Ops<Self> {
        &OPS
    }

    fn map(&self, _dev: &Device<Bound>, _dir: DataDirection) -> Result<&'static SGTable> {
        Err(ENOMEM)
    }
}

pub fn revoke(dmabuf: &DmaBuf) {
    if let Some(memory) = dmabuf.exported_by::<Memory>() {
        memory.revoke();
    }
}
