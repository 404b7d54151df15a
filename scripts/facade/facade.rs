// SPDX-License-Identifier: GPL-2.0

//! The crate `kernel` of a kernel that has the C half of the series only, with the Rust half added.
//!
//! It is compiled into a module that is built out of tree, whose own crate knows it as `kernel`. The
//! abstractions are the files below `rust/kernel/`, reached by symbolic links: with `#[path]`, a file
//! would look for its submodules elsewhere.

pub use ::kernel::*;

pub mod dma_buf;

pub mod pci {
    //! PCI, with TPH.

    pub use ::kernel::pci::*;

    pub mod tph;
}

pub mod prelude {
    //! The prelude, and what the kernel crate's own files can call without it.

    pub(crate) use crate::raw::AsRaw;
    pub use ::kernel::prelude::*;
}

#[allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
pub mod bindings {
    //! The bindings, and those that only the series adds.

    pub use ::kernel::bindings::*;

    include!(env!("TPH_BINDINGS"));
}

mod raw {
    use ::kernel::{
        bindings,
        device::{
            Device,
            DeviceContext, //
        },
        pci, //
    };

    /// The pointer that a wrapper of a C structure hands out within the kernel crate only.
    ///
    /// Where a method is not visible, one of a trait is found instead.
    pub(crate) trait AsRaw {
        type Raw;

        fn as_raw(&self) -> *mut Self::Raw;
    }

    impl<Ctx: DeviceContext> AsRaw for Device<Ctx> {
        type Raw = bindings::device;

        fn as_raw(&self) -> *mut bindings::device {
            // CAST: `Device` is a transparent wrapper of `struct device`.
            core::ptr::from_ref(self).cast_mut().cast()
        }
    }

    impl<Ctx: DeviceContext> AsRaw for pci::Device<Ctx> {
        type Raw = bindings::pci_dev;

        fn as_raw(&self) -> *mut bindings::pci_dev {
            // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
            core::ptr::from_ref(self).cast_mut().cast()
        }
    }
}
