// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables as a list that can be checked against the kernel's headers.

use crate::{ifc, wire};
use std::fmt::{self, Write};

/// What a C compiler can check the tables by: a line for each structure, and one for each field.
///
/// A structure's line is `struct NAME LEN`, with the name in the header and the length in bytes. A
/// field's is `field STRUCTURE MEMBER OFFSET WIDTH HOW`, in bits; HOW is `bits` where one byte of
/// the header stands for a bit (mlx5_ifc.h), else `whole` if the field is the member, and `part` if
/// it lies in it.
#[must_use]
pub fn list() -> String {
    let mut lines = String::new();
    for layout in ifc::ALL.iter().chain(wire::ALL) {
        let generated = format!("mlx5_ifc_{}_bits", layout.name);
        let header = layout.header.unwrap_or(&generated);
        let mut line = |text: fmt::Arguments<'_>| {
            writeln!(lines, "{text}").expect("a string takes everything");
        };
        line(format_args!("struct {header} {:#x}", layout.len));
        for field in layout.fields {
            let how = match field.member {
                _ if header.starts_with("mlx5_ifc_") => "bits",
                Some(_) => "part",
                None => "whole",
            };
            let (member, offset, width) = (
                field.member.unwrap_or(field.name),
                field.offset,
                field.width,
            );
            line(format_args!(
                "field {header} {member} {offset:#x} {width:#x} {how}"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_what_the_headers_name() {
        let list = list();
        for line in [
            "struct mlx5_ifc_mkc_bits 0x40",
            "field mlx5_ifc_mkc_bits pcie_tph_steering_tag_index 0x1e8 0x8 bits",
            "field mlx5_cmd_layout in_ptr 0x40 0x40 whole",
            "field mlx5_cmd_layout type 0x0 0x8 part",
            "field mlx5_av key.qkey.qkey 0x0 0x20 part",
        ] {
            assert!(list.lines().any(|of| of == line), "{line}");
        }
    }
}
