// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces for tests.

use fabric::trace::Tap;
use fabric::{Fabric, Port};
use tlp::{Bdf, Mode};

pub const ID: Bdf = Bdf::new(0, 0x10, 0);

/// A sender whose TLPs nobody takes, which a trace shows as well.
pub fn sender(tap: Tap) -> Port {
    let port = Fabric::new(Mode::Flit, tap).attach("sender", ID, None);
    let port = port.unwrap();
    port.set_command(true, false);
    port
}

pub fn send(port: &Port, tlps: u64) {
    for at in 0..tlps {
        let to = 0x1000 + at * 8;
        port.requester(ID).write(to, &[0; 8], None).unwrap();
    }
}
