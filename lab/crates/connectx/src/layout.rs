// SPDX-License-Identifier: MIT OR Apache-2.0
//! Big-endian structures of the device, as tables of fields.
//!
//! A table is written once (see [`crate::ifc`] and [`crate::wire`]); reading and writing a field,
//! decoding a structure for the log, and the check against the kernel's headers all go through it.
//! Drivers may use them, too.

use std::fmt::{self, Display, Formatter};

/// A field: some bits of a structure. Bit 0 is the most significant bit of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, which is that in the kernel's header unless `member` says otherwise.
    pub name: &'static str,
    /// The member of the header's structure that the field is, or that it is a part of.
    pub member: Option<&'static str>,
    /// Its first bit.
    pub offset: usize,
    /// Its number of bits.
    pub width: usize,
}

impl Field {
    /// The value in `structure`, of a field of 64 bits at most. What lies beyond the end reads as
    /// 0.
    ///
    /// # Panics
    /// If the field is wider.
    #[must_use]
    pub fn get(self, structure: &[u8]) -> u64 {
        assert!(self.width <= 64, "{} is no number", self.name);
        let (first, last) = (self.offset / 8, (self.offset + self.width - 1) / 8);
        let value = (first..=last).fold(0, |value, at| {
            value << 8 | u128::from(structure.get(at).copied().unwrap_or(0))
        });
        let value = value >> (8 * (last + 1) - self.offset - self.width);
        // Masked to the field's width, so nothing is lost.
        #[allow(clippy::cast_possible_truncation)]
        let value = (value & mask(self.width)) as u64;
        value
    }

    /// The value of a field of 32 bits at most.
    ///
    /// # Panics
    /// If the field is wider.
    #[must_use]
    pub fn get32(self, structure: &[u8]) -> u32 {
        assert!(self.width <= 32, "{} has more than 32 bits", self.name);
        // Asserted.
        #[allow(clippy::cast_possible_truncation)]
        let value = self.get(structure) as u32;
        value
    }

    /// Whether a field of one bit is set.
    ///
    /// # Panics
    /// If the field is wider.
    #[must_use]
    pub fn is_set(self, structure: &[u8]) -> bool {
        assert!(self.width == 1, "{} is no flag", self.name);
        self.get(structure) != 0
    }

    /// Sets the field, of 64 bits at most.
    ///
    /// # Panics
    /// If the structure is too short, or the value too large: both are mistakes of the caller.
    pub fn set(self, structure: &mut [u8], value: u64) {
        assert!(self.width <= 64, "{} is no number", self.name);
        assert!(
            u128::from(value) <= mask(self.width),
            "{value:#x} does not fit into {}",
            self.name
        );
        let (first, last) = (self.offset / 8, (self.offset + self.width - 1) / 8);
        let shift = 8 * (last + 1) - self.offset - self.width;
        let (mut keep, mut bits) = (!(mask(self.width) << shift), u128::from(value) << shift);
        for byte in structure[first..=last].iter_mut().rev() {
            *byte = *byte & keep.to_le_bytes()[0] | bits.to_le_bytes()[0];
            keep >>= 8;
            bits >>= 8;
        }
    }

    /// The bytes of a field that is made of whole ones, as far as they are there.
    #[must_use]
    pub fn bytes(self, structure: &[u8]) -> &[u8] {
        let (first, len) = self.span();
        structure
            .get(first..)
            .map_or(&[], |rest| &rest[..len.min(rest.len())])
    }

    /// The bytes of a field that is made of whole ones, to be changed.
    ///
    /// # Panics
    /// If the structure is too short, which is a mistake of the caller.
    pub fn bytes_mut(self, structure: &mut [u8]) -> &mut [u8] {
        let (first, len) = self.span();
        &mut structure[first..first + len]
    }

    fn span(self) -> (usize, usize) {
        assert!(
            self.offset.is_multiple_of(8) && self.width.is_multiple_of(8),
            "{} is not made of bytes",
            self.name
        );
        (self.offset / 8, self.width / 8)
    }
}

const fn mask(width: usize) -> u128 {
    (1 << width) - 1
}

/// A structure.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// The structure in the kernel's headers; none if that is called mlx5_ifc_NAME_bits.
    pub header: Option<&'static str>,
    /// Its length in bytes; for what ends with a list, without the list.
    pub len: usize,
    /// Its fields, in their order.
    pub fields: &'static [Field],
}

impl Layout {
    /// What `structure` says: the fields that are not 0.
    #[must_use]
    pub fn show(self, structure: &[u8]) -> Show<'_> {
        Show {
            layout: self,
            structure,
        }
    }

    /// Whether the fields are in order, apart from each other, and within the structure.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        let mut end = 0;
        let mut index = 0;
        while index < self.fields.len() {
            let field = self.fields[index];
            if field.width == 0 || field.offset < end {
                return false;
            }
            end = field.offset + field.width;
            index += 1;
        }
        end <= 8 * self.len
    }
}

/// See [`Layout::show`].
pub struct Show<'a> {
    layout: Layout,
    structure: &'a [u8],
}

impl Display for Show<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.layout.name)?;
        for field in self.layout.fields {
            if field.width > 64 {
                let bytes = field.bytes(self.structure);
                if bytes.iter().any(|&byte| byte != 0) {
                    write!(f, " {}=[{} bytes]", field.name, bytes.len())?;
                }
            } else if let value @ 1.. = field.get(self.structure) {
                write!(f, " {}={value:#x}", field.name)?;
            }
        }
        Ok(())
    }
}

/// Makes a module for each structure: a constant for each field, and `LAYOUT`.
///
/// `in` gives the structure in the kernel's headers, `of` the member that a field is or is in,
/// where these have other names.
macro_rules! layouts {
    ($(
        $(#[$doc:meta])*
        $name:ident: $len:literal $(in $header:ident)? {
            $($field:ident $offset:literal $width:literal $(of $($member:ident).+)?;)*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[allow(non_upper_case_globals, dead_code, missing_docs)]
            pub mod $name {
                use crate::layout::{Field, Layout, layouts};

                $(pub const $field: Field = Field {
                    name: stringify!($field),
                    member: layouts!(@name $($($member).+)?),
                    offset: $offset,
                    width: $width,
                };)*

                pub const LAYOUT: Layout = Layout {
                    name: stringify!($name),
                    header: layouts!(@name $($header)?),
                    len: $len,
                    fields: &[$($field),*],
                };
                const _: () = assert!(LAYOUT.is_sound());
            }
        )*
        /// All of them.
        pub const ALL: &[crate::layout::Layout] = &[$($name::LAYOUT),*];
    };
    (@name) => { None };
    (@name $($name:ident).+) => { Some(stringify!($($name).+)) };
}
pub(super) use layouts;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn field(offset: usize, width: usize) -> Field {
        Field {
            name: "field",
            member: None,
            offset,
            width,
        }
    }

    #[test]
    fn bits_are_counted_from_the_most_significant_one() {
        let bytes = [0x80, 0x01, 0x23, 0x45, 0x67];
        assert_eq!(field(0, 1).get(&bytes), 1);
        assert_eq!(field(1, 1).get(&bytes), 0);
        assert_eq!(field(8, 24).get(&bytes), 0x01_2345);
        assert_eq!(field(20, 12).get(&bytes), 0x345);
        assert_eq!(field(28, 8).get(&bytes), 0x56);
        assert_eq!(field(24, 32).get(&bytes), 0x4567_0000, "beyond the end");
        assert_eq!(field(64, 8).get(&bytes), 0);
        assert_eq!(field(64, 8).bytes(&bytes), [0; 0]);
        assert_eq!(field(24, 64).bytes(&bytes), [0x45, 0x67]);
    }

    #[test]
    #[should_panic(expected = "does not fit into field")]
    fn what_does_not_fit_is_a_mistake() {
        field(3, 4).set(&mut [0; 2], 16);
    }

    #[test]
    fn unsound_tables_are_seen() {
        let sound = |fields: &[Field], len| {
            let fields = fields.to_vec().leak();
            let layout = Layout {
                name: "name",
                header: None,
                len,
                fields,
            };
            layout.is_sound()
        };
        assert!(sound(&[field(0, 4), field(4, 4)], 1));
        assert!(!sound(&[field(0, 4), field(3, 4)], 1), "overlap");
        assert!(!sound(&[field(4, 4), field(0, 4)], 1), "order");
        assert!(!sound(&[field(4, 5)], 1), "beyond the end");
        assert!(!sound(&[field(4, 0)], 1), "nothing");
    }

    proptest! {
        #[test]
        fn what_is_set_is_got_and_the_rest_stays(
            offset in 0usize..80,
            width in 1usize..=64,
            value: u64,
            before: [u8; 18],
        ) {
            let field = field(offset, width);
            let value = value & u64::MAX >> (64 - width);
            let mut bytes = before;
            field.set(&mut bytes, value);
            prop_assert_eq!(field.get(&bytes), value);
            field.set(&mut bytes, field.get(&before));
            prop_assert_eq!(bytes, before);
        }
    }
}
