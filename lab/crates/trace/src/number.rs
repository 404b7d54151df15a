// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers on a command line.

/// A number in decimal, or in hexadecimal after `0x`, that fits into `T`.
pub fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = parsed.map_err(|_| "give a number, such as 240 or 0xf0".to_owned())?;
    let bits = 8 * size_of::<T>();
    T::try_from(number).map_err(|_| format!("{text} does not fit into {bits} bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fits_or_is_refused() {
        assert_eq!(number::<u8>("240"), Ok(240));
        assert_eq!(number::<u8>("0xf0"), Ok(240));
        assert_eq!(number::<u64>("0xffffffffffffffff"), Ok(u64::MAX));
        for (text, why) in [
            ("256", "256 does not fit into 8 bits"),
            ("-1", "such as 240 or 0xf0"),
            ("f0", "such as 240 or 0xf0"),
            ("0x", "such as 240 or 0xf0"),
            ("", "such as 240 or 0xf0"),
        ] {
            let error = number::<u8>(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
