// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the codec through its public face.

mod capture;
mod common;
mod cross_check;
mod errors;
mod requests;
mod round_trip;
mod text;
