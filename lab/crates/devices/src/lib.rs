// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCIe endpoints with TPH, served to a stock QEMU over vfio-user.
//!
//! The endpoints of a [`Hierarchy`] share one [`fabric::Fabric`]; each is one PCI function with a
//! full [`config`] space and one unix socket. What an endpoint is, its [`Device`] says. Two are
//! here, the [`accelerator`] (a completer whose memory acts on the arriving steering tag) and the
//! [`initiator`] (a requester that emits memory writes with hints); any other crate may hold more.
//!
//! # How to write one
//!
//! A type that holds the device's options implements [`Device`]: it puts a configuration space
//! together with [`config::ConfigBuilder`], makes an [`Interrupt`] of it, and hands over a
//! [`Model`], which the client's accesses to the BARs reach. Requests of peers reach its
//! [`fabric::Completer`], if it has one. Requests of its own it sends by a [`fabric::Requester`] of
//! the port that it finds in the [`Context`] of a register write, from a thread of its own.
//! [`mmio`] and [`SharedMemory`] are what a BAR can be made of.
//!
//! # How to run them
//!
//! ```no_run
//! use devices::{AcceleratorConfig, Endpoint, InitiatorConfig, Hierarchy};
//! use std::path::Path;
//! use tlp::{Bdf, Mode};
//!
//! let running = devices::serve(&Hierarchy {
//!     mode: Mode::Flit,
//!     iommu: None,
//!     crash: Default::default(),
//!     trace_dir: Some("out/demo".into()), // must exist; gets trace.pcapng
//!     trace_limit: fabric::trace::DEFAULT_LIMIT,
//!     trace_snaplen: None,
//!     endpoints: vec![
//!         Endpoint {
//!             name: "initiator".into(),
//!             socket: "run/initiator.sock".into(),
//!             bdf: Bdf::new(0, 0x10, 0),
//!             path: "pcie.0/00:10.0".into(),
//!             device: Box::new(InitiatorConfig::default()),
//!         },
//!         Endpoint {
//!             name: "accelerator".into(),
//!             socket: "run/accelerator.sock".into(),
//!             bdf: Bdf::new(0, 0x11, 0),
//!             path: "pcie.0/00:11.0".into(),
//!             device: Box::new(AcceleratorConfig::default()),
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
//! Behind an IOMMU ([`Hierarchy::iommu`]) requests carry I/O virtual addresses. QEMU tells where
//! guest memory is among them, and that there is something else, but not that this is the BAR of a
//! peer. So the lab walks the guest's own IOMMU tables, which it reads through QEMU's monitor.
//!
//! QEMU must be given guest memory with `share=on`: with `share=off` it passes the same file
//! descriptors and DMA would silently go to a copy.

pub mod accelerator;
pub mod client;
mod complaints;
pub mod config;
pub mod crash;
mod device;
mod function;
mod hierarchy;
pub mod ids;
pub mod initiator;
mod interrupt;
pub mod mmio;
mod monitor;
mod shared_memory;
mod vtd;

pub use accelerator::AcceleratorConfig;
pub use complaints::{Complaints, OfPanic};
pub use config::CompleterType;
pub use device::{Device, Parts, Slot};
pub use function::{Context, Model};
pub use hierarchy::{Endpoint, Error, Hierarchy, Running, serve};
pub use initiator::InitiatorConfig;
pub use interrupt::Interrupt;
pub use shared_memory::SharedMemory;
