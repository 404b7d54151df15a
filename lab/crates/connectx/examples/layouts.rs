// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints the tables of the ConnectX model, which scripts/layouts compares with the kernel's
//! headers.

fn main() {
    print!("{}", connectx::headers::list());
}
