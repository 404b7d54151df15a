// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ConnectX model, driven by a small driver as a real one would.

mod harness;
mod log_lines;

mod any_bytes;
mod bring_up;
mod commands;
mod completions;
mod datagrams;
mod endings;
mod events;
mod faults;
mod hints;
mod keys;
mod messages;
mod protection;
mod shared;
mod transfers;
