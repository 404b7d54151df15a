// SPDX-License-Identifier: MIT OR Apache-2.0
//! An InfiniBand adapter that the unmodified mlx5 drivers of Linux use: a ConnectX-class physical
//! function.
//!
//! It has no firmware: a command stores a context and hands out a number. What is sent goes no
//! further than the adapter itself (loopback). Layouts and numbers are those of include/linux/mlx5/
//! and of the drivers; where these do not say what a device does, the model does what their authors
//! expect, and no compatibility with firmware is claimed.
//!
//! BAR 0 is described in `registers`, what the device says that it can do in `capabilities`. The
//! structures that it shares with its driver are tables: [`layout`], [`ifc`], [`wire`].

mod adapter;
mod capabilities;
mod command_queue;
mod config;
mod cq;
mod cqe;
mod dma;
mod engine;
mod eq;
mod error;
pub mod fuzz;
mod gateway;
mod hca;
pub mod headers;
pub mod ifc;
pub mod layout;
mod mkey;
mod owner;
mod pas;
mod port;
mod qp;
mod registers;
mod scatter_gather;
mod srq;
mod status;
mod table;
pub mod wire;
mod wq;
mod wqe;

pub use capabilities::Profile;
pub use config::ConnectXConfig;
