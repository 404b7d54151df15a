// SPDX-License-Identifier: GPL-2.0
//! a 16-bit number is not an 8-bit tag
//! error[E0308]

use kernel::pci::tph::SteeringTag;

pub fn tag(number: u16) -> SteeringTag {
    SteeringTag::St(number)
}
