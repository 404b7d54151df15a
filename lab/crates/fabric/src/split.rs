// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where requests and completions are cut.

use std::iter;

/// Read Completion Boundary of the root complex, bytes.
pub const RCB_HOST: usize = 64;
/// Read Completion Boundary of an endpoint, bytes (fixed by the specification).
pub const RCB_ENDPOINT: usize = 128;

/// Bytes of a request at `addr` that one TLP may carry, `remaining` at most.
///
/// `max` is Max_Payload_Size or Max_Read_Request_Size in bytes and counts whole DWs; no request
/// crosses a 4 KiB boundary.
pub fn request_len(addr: u64, remaining: usize, max: usize) -> usize {
    let in_page = low(addr, 0x1000);
    let in_dw = low(addr, 4);
    remaining.min(0x1000 - in_page).min(max - in_dw)
}

/// Bytes of `remaining` at `addr` that are moved at a time: `max` at most, and up to the end of a
/// page if not all. `max` is a page or more.
pub fn run_len(addr: u64, remaining: usize, max: usize) -> usize {
    if remaining <= max {
        remaining
    } else {
        max - low(addr.wrapping_add(max as u64), 0x1000)
    }
}

/// How many requests [`request_len`] makes of `len` bytes at `addr`, which lie within a page.
pub fn requests(addr: u64, len: usize, max: usize) -> usize {
    match len {
        0 => 0,
        _ => (low(addr, 4) + len).div_ceil(max),
    }
}

/// Bytes that the next completion carries for a read whose next byte is at `addr`.
///
/// A read that does not fit into one completion of `max` bytes (Max_Payload_Size) is cut at
/// naturally aligned multiples of the Read Completion Boundary `rcb`.
fn completion_len(addr: u64, remaining: usize, max: usize, rcb: usize) -> usize {
    if low(addr, 4) + remaining <= max {
        remaining
    } else {
        let in_rcb = low(addr, rcb);
        (in_rcb + max) / rcb * rcb - in_rcb
    }
}

/// The bytes of each completion for a read of `remaining` bytes at `addr`: see [`completion_len`].
pub fn completion_lens(
    mut addr: u64,
    mut remaining: usize,
    max: usize,
    rcb: usize,
) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let len = (remaining > 0).then(|| completion_len(addr, remaining, max, rcb))?;
        // The last byte of a read may be the last one that there is.
        addr = addr.wrapping_add(len as u64);
        remaining -= len;
        Some(len)
    })
}

/// `addr` modulo `align`.
fn low(addr: u64, align: usize) -> usize {
    // The remainder is below `align`, which is a usize.
    #[allow(clippy::cast_possible_truncation)]
    let low = (addr % align as u64) as usize;
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_cut_at_payload_size_and_at_4k() {
        assert_eq!(request_len(0x1000, 300, 128), 128);
        assert_eq!(request_len(0x1000, 100, 128), 100);
        assert_eq!(request_len(0x1ff0, 300, 128), 16);
        // A first DW that is not whole still counts as one.
        assert_eq!(request_len(0x1003, 300, 128), 125);
        assert_eq!(request_len(u64::MAX, 8, 128), 1);
    }

    #[test]
    fn a_run_ends_with_a_page_or_with_all() {
        for (addr, remaining, expected) in [
            (0x1000, 0x10000, 0x4000),
            (0x1801, 0x10000, 0x37ff),
            (0x1801, 0x4001, 0x37ff),
            (0x1801, 0x4000, 0x4000),
            (0x1801, 1, 1),
        ] {
            assert_eq!(run_len(addr, remaining, 0x4000), expected, "{addr:#x}");
        }
    }

    #[test]
    fn completions_end_on_the_boundary() {
        assert_eq!(completion_len(0x1000, 512, 128, 64), 128);
        assert_eq!(completion_len(0x1010, 512, 128, 64), 112);
        assert_eq!(completion_len(0x1010, 128, 128, 64), 128);
        assert_eq!(completion_len(0x1010, 512, 128, 128), 112);
        assert_eq!(completion_len(0x1001, 128, 128, 64), 127);
    }

    proptest! {
        #[test]
        fn requests_cover_exactly_what_was_asked(
            addr in 0u64..0x1_0000, len in 1usize..20_000, max in (7u32..13).prop_map(|n| 1usize << n),
        ) {
            let (mut at, mut left) = (addr, len);
            let mut pages = std::collections::BTreeMap::new();
            while left > 0 {
                let n = request_len(at, left, max);
                let (_, bytes, count) = pages.entry(at >> 12).or_insert((at, 0, 0));
                (*bytes, *count) = (*bytes + n, *count + 1);
                prop_assert!(n > 0 && n <= left);
                let (first, last) = (at, at + n as u64 - 1);
                prop_assert_eq!(first >> 12, last >> 12, "crosses 4 KiB");
                prop_assert!((last / 4 - first / 4 + 1) * 4 <= max as u64, "longer than max");
                at += n as u64;
                left -= n;
            }
            prop_assert_eq!(requests(addr, 0, max), 0);
            for (first, bytes, count) in pages.into_values() {
                prop_assert_eq!(requests(first, bytes, max), count);
            }
        }

        #[test]
        fn completions_cover_a_read_and_break_at_rcb_only(
            addr in 0u64..0x1000, len in 1usize..4096,
            max in (7u32..13).prop_map(|n| 1usize << n), rcb in prop_oneof![Just(64usize), Just(128)],
        ) {
            let (mut at, mut left) = (addr, len);
            for n in completion_lens(addr, len, max, rcb) {
                prop_assert!(n > 0 && n <= left);
                let end = at + n as u64;
                prop_assert!((end - 1) / 4 - at / 4 < max as u64 / 4, "longer than max");
                prop_assert!(n == left || end.is_multiple_of(rcb as u64), "breaks off the boundary");
                at = end;
                left -= n;
            }
            prop_assert_eq!(left, 0);
        }
    }
}
