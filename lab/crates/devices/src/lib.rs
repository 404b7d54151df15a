// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCIe endpoints with TPH, served to a stock QEMU over vfio-user.
//!
//! Three kinds of endpoint share one [`fabric::Fabric`]: the [`accelerator`] (a completer whose
//! memory acts on the arriving steering tag), the [`initiator`] (a requester that emits memory
//! writes with hints) and the [`connectx`] (a requester that the mlx5 drivers of Linux use). Each is
//! one PCI function with a full [`config`] space and one unix socket.
//!
//! # How to run them
//!
//! ```no_run
//! use devices::{AcceleratorConfig, Endpoint, InitiatorConfig, Kind, Topology};
//! use std::path::Path;
//! use tlp::{Bdf, Mode};
//!
//! let running = devices::serve(&Topology {
//!     mode: Mode::Flit,
//!     iommu: None,
//!     dying: Default::default(),
//!     trace_dir: Some("out/demo".into()), // must exist; gets trace.pcapng
//!     trace_limit: fabric::trace::DEFAULT_LIMIT,
//!     endpoints: vec![
//!         Endpoint {
//!             name: "initiator".into(),
//!             socket: "run/initiator.sock".into(),
//!             bdf: Bdf::new(0, 0x10, 0),
//!             path: "pcie.0/00:10.0".into(),
//!             kind: Kind::Initiator(InitiatorConfig::default()),
//!         },
//!         Endpoint {
//!             name: "accelerator".into(),
//!             socket: "run/accelerator.sock".into(),
//!             bdf: Bdf::new(0, 0x11, 0),
//!             path: "pcie.0/00:11.0".into(),
//!             kind: Kind::Accelerator(AcceleratorConfig::default()),
//!         },
//!     ],
//! })?;
//! println!("ready"); // every socket listens: QEMU may be started
//! running.wait()?; // returns when the clients have gone
//!
//! for record in fabric::trace::Reader::open(Path::new("out/demo/trace.pcapng"))? {
//!     println!("{}", record?); // header line and analyzer lines, decoded from the bytes
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Behind an IOMMU ([`Topology::iommu`]) requests carry I/O virtual addresses. QEMU tells where guest
//! memory is among them, and that there is something else, but not that this is the BAR of a peer. So
//! the lab walks the guest's own IOMMU tables, which it reads through QEMU's monitor.
//!
//! QEMU must be given guest memory with `share=on`: with `share=off` it passes the same file
//! descriptors and DMA would silently go to a copy.

pub mod accelerator;
pub mod config;
pub mod connectx;
mod die;
mod function;
pub mod ids;
pub mod initiator;
mod interrupt;
mod memory;
mod monitor;
mod registers;
mod topology;
mod vtd;

pub use accelerator::{AcceleratorConfig, CompleterType};
pub use connectx::{ConnectXConfig, Profile};
pub use initiator::InitiatorConfig;
pub use topology::{Endpoint, Error, Kind, Running, Topology, serve};
