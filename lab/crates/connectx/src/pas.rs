// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of addresses, which commands call `pas`.

/// The addresses in a list at the end of a command.
pub fn parse(list: &[u8]) -> Vec<u64> {
    let (addresses, _) = list.as_chunks::<8>();
    let addresses = addresses.iter();
    addresses.map(|&one| u64::from_be_bytes(one)).collect()
}
