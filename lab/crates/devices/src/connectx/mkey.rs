// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory keys.

/// A memory key.
#[derive(Debug)]
pub struct Mkey {
    /// Its context.
    pub context: Vec<u8>,
}

impl Mkey {
    pub fn new(_index: u32, context: &[u8]) -> Self {
        Self {
            context: context.to_vec(),
        }
    }
}
