// SPDX-License-Identifier: GPL-2.0-only

//! The TPH Requester Control register that user space sees and writes.

use kernel::{
    bindings,
    pci::tph::Namespace,
    prelude::*, //
};

use super::requester_capability::Capability;

const MODE: u32 = bindings::PCI_TPH_CTRL_MODE_SEL_MASK;
const ENABLE: u32 = bindings::PCI_TPH_CTRL_REQ_EN_MASK;

/// The control register: what was accepted last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control(pub(super) u32);

impl Control {
    /// Returns ST Mode Select.
    pub(super) fn mode(self) -> u32 {
        self.0 & MODE
    }

    /// Returns TPH Requester Enable.
    pub(super) fn enable(self) -> u32 {
        (self.0 & ENABLE) >> ENABLE.trailing_zeros()
    }

    fn from_fields(mode: u32, enable: u32) -> Self {
        Self(mode & MODE | enable << ENABLE.trailing_zeros() & ENABLE)
    }

    /// Returns the register with TPH off.
    pub(super) fn disabled(self) -> Self {
        Self::from_fields(self.mode(), bindings::PCI_TPH_REQ_DISABLE)
    }

    /// Returns what a write of `count` bytes at `offset` asks for; the other bytes stay.
    pub(super) fn merge(self, offset: u32, count: u32, value: u32) -> Self {
        let mask = match count {
            1 => 0xff,
            2 => 0xffff,
            _ => u32::MAX,
        };
        let place = |bits: u32| bits.checked_shl(8 * offset).unwrap_or(0);

        Self(self.0 & !place(mask) | place(value & mask))
    }

    /// Returns what becomes of the register if `wanted` is written to it.
    ///
    /// The fields are judged one by one, so that it does not matter whether they are written
    /// together. What is refused stays as it was.
    pub(super) fn write(self, wanted: Self, capability: Capability) -> Self {
        let mode = if capability.has_mode(wanted.mode()) {
            wanted.mode()
        } else {
            self.mode()
        };
        let is_supported = match wanted.enable() {
            bindings::PCI_TPH_REQ_DISABLE => true,
            bindings::PCI_TPH_REQ_TPH_ONLY => capability.supports(Namespace::St),
            bindings::PCI_TPH_REQ_EXT_TPH => capability.supports(Namespace::ExtSt),
            _ => false,
        };
        let enable = if is_supported {
            wanted.enable()
        } else {
            self.enable()
        };

        Self::from_fields(mode, enable)
    }

    /// Checks that the ST table can be written with tags of `namespace`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if TPH is off, is not enabled for `namespace`, or no mode with tags is selected.
    pub(super) fn check(self, namespace: Namespace) -> Result {
        match (self.enable(), namespace) {
            (bindings::PCI_TPH_REQ_TPH_ONLY, Namespace::St) => (),
            (bindings::PCI_TPH_REQ_EXT_TPH, _) => (),
            _ => return Err(EINVAL),
        }

        if self.mode() == bindings::PCI_TPH_ST_NS_MODE {
            return Err(EINVAL);
        }

        Ok(())
    }
}
