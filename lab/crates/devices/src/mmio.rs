// SPDX-License-Identifier: MIT OR Apache-2.0
//! BARs that consist of 32-bit little-endian registers.

/// Reads any bytes: `register` is called once for each register that they touch.
pub fn read(offset: u64, data: &mut [u8], register: impl Fn(usize) -> u32) {
    let mut at = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut rest = data;
    while !rest.is_empty() {
        let value = register(at & !3).to_le_bytes();
        let skip = at & 3;
        let (now, later) = rest.split_at_mut(rest.len().min(4 - skip));
        now.copy_from_slice(&value[skip..skip + now.len()]);
        at = at.saturating_add(now.len());
        rest = later;
    }
}

/// Writes one or two whole registers, the lower one first; other writes are ignored.
pub fn write(offset: u64, data: &[u8], mut register: impl FnMut(usize, u32)) {
    let (words, rest) = data.as_chunks::<4>();
    let (Ok(at), [], 1..=2) = (usize::try_from(offset), rest, words.len()) else {
        log::debug!(
            "ignored a register write of {} bytes at {offset:#x}",
            data.len()
        );
        return;
    };
    if at % 4 != 0 {
        log::debug!("ignored a register write at {offset:#x}, which is not aligned");
        return;
    }
    for (word, at) in words.iter().zip((at..).step_by(4)) {
        register(at, u32::from_le_bytes(*word));
    }
}

/// The lower register of a 64-bit pair.
#[must_use]
pub const fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The upper register of a 64-bit pair.
#[must_use]
pub const fn high(value: u64) -> u32 {
    low(value >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_read() {
        let register =
            |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| at.to_le_bytes()[0] + n));
        for (offset, len) in [(0u8, 4u8), (1, 1), (2, 2), (3, 4), (4, 8), (5, 13)] {
            let mut data = vec![0xff; len.into()];
            read(offset.into(), &mut data, register);
            assert_eq!(data, (offset..offset + len).collect::<Vec<u8>>());
        }
        read(u64::MAX, &mut [0; 16], |_| 0);
    }

    #[test]
    fn whole_registers_are_written() {
        let written = |offset, data: &[u8]| {
            let mut got = vec![];
            write(offset, data, |at, value| got.push((at, value)));
            got
        };
        assert_eq!(written(8, &[1, 2, 3, 4]), [(8, 0x0403_0201)]);
        assert_eq!(written(8, &[1, 0, 0, 0, 2, 0, 0, 0]), [(8, 1), (12, 2)]);
        for (offset, len) in [
            (8, 0),
            (8, 1),
            (8, 2),
            (8, 3),
            (8, 5),
            (9, 4),
            (8, 12),
            (u64::MAX, 4),
        ] {
            assert_eq!(
                written(offset, &vec![0; len]),
                [],
                "{len} bytes at {offset:#x}"
            );
        }
    }
}
