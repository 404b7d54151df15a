// SPDX-License-Identifier: GPL-2.0-only

//! What user space may know and do: the policy, and the capability register that follows from it.

use kernel::{
    bindings,
    pci::tph::Namespace,
    prelude::*, //
};

use super::requester_request::Source;

const MODES: u32 =
    bindings::PCI_TPH_CAP_ST_NS | bindings::PCI_TPH_CAP_ST_IV | bindings::PCI_TPH_CAP_ST_DS;

/// How much of TPH user space gets; `enum vfio_pci_tph_policy` in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Policy {
    /// Processing hints.
    NoSt,
    /// Also steering tags that the kernel writes.
    IvSt,
    /// Also steering tags that user space knows.
    DsSt,
    /// Also steering tags of its choice.
    Literal,
}

impl Policy {
    /// Decodes a latched level. One that does not exist is the strictest.
    pub(super) fn from_level(level: u8) -> Self {
        match u32::from(level) {
            bindings::vfio_pci_tph_policy_VFIO_PCI_TPH_IV_ST => Self::IvSt,
            bindings::vfio_pci_tph_policy_VFIO_PCI_TPH_DS_ST => Self::DsSt,
            bindings::vfio_pci_tph_policy_VFIO_PCI_TPH_LITERAL => Self::Literal,
            _ => Self::NoSt,
        }
    }

    /// Returns the modes that may be selected, as in the capability register.
    fn modes(self) -> u32 {
        let mut modes = bindings::PCI_TPH_CAP_ST_NS;

        if self >= Self::IvSt {
            modes |= bindings::PCI_TPH_CAP_ST_IV;
        }
        if self >= Self::DsSt {
            modes |= bindings::PCI_TPH_CAP_ST_DS;
        }

        modes
    }

    /// Returns whether user space may know steering tags.
    ///
    /// In Device Specific mode it has to, as it tells them to the device by other means. Then the
    /// kernel does not control any more which tags the device emits.
    pub(super) fn discloses_tags(self) -> bool {
        self >= Self::DsSt
    }

    /// Returns whether user space may ask for the tag of `source`.
    pub(super) fn may_resolve(self, source: Source) -> bool {
        match source {
            Source::DmaBuf(_) => true,
            Source::Cpu(_) => self >= Self::DsSt,
            Source::None | Source::Literal(_) => false,
        }
    }

    /// Returns whether user space may have the tag of `source` written to the ST table.
    pub(super) fn may_program(self, source: Source) -> bool {
        match source {
            Source::None | Source::DmaBuf(_) | Source::Cpu(_) => self >= Self::IvSt,
            Source::Literal(_) => self >= Self::Literal,
        }
    }
}

/// The TPH Requester Capability register that user space sees; zero if the capability is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capability(pub(super) u32);

impl Capability {
    /// The capability is hidden.
    pub(super) const HIDDEN: Self = Self(0);

    /// Trims the register of a device.
    ///
    /// `supported` is the requester type that the device and its Root Port support.
    pub(super) fn new(hardware: u32, supported: u8, policy: Policy) -> Self {
        let table = bindings::PCI_TPH_CAP_LOC_MASK | bindings::PCI_TPH_CAP_ST_MASK;
        let mut modes = hardware & policy.modes();

        // User space can map the MSI-X table, and so choose the tags itself.
        if Self(hardware).location() == bindings::PCI_TPH_LOC_MSIX {
            modes &= !bindings::PCI_TPH_CAP_ST_IV;
        }

        let extended = match u32::from(supported) {
            _ if modes == 0 => return Self::HIDDEN,
            bindings::PCI_TPH_REQ_TPH_ONLY => 0,
            bindings::PCI_TPH_REQ_EXT_TPH => bindings::PCI_TPH_CAP_EXT_TPH,
            _ => return Self::HIDDEN,
        };

        Self(match policy {
            Policy::NoSt => modes | extended,
            _ => modes | extended | hardware & table,
        })
    }

    pub(super) fn is_hidden(self) -> bool {
        self.0 & MODES == 0
    }

    /// Returns whether this value of ST Mode Select can be selected.
    pub(super) fn has_mode(self, mode: u32) -> bool {
        MODES.checked_shr(mode).is_some_and(|modes| modes & 1 != 0)
            && self.0.checked_shr(mode).is_some_and(|modes| modes & 1 != 0)
    }

    /// Returns whether tags of `namespace` can be emitted.
    pub(super) fn supports(self, namespace: Namespace) -> bool {
        match namespace {
            Namespace::St => !self.is_hidden(),
            Namespace::ExtSt => self.0 & bindings::PCI_TPH_CAP_EXT_TPH != 0,
        }
    }

    /// Returns where the ST table is, as `PCI_TPH_LOC_*`.
    pub(super) fn location(self) -> u32 {
        self.0 & bindings::PCI_TPH_CAP_LOC_MASK
    }

    /// Returns the number of ST table entries that user space may have written.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if it never may: the table is not in the capability, or no mode uses it.
    pub(super) fn entries(self) -> Result<u32> {
        let uses = bindings::PCI_TPH_CAP_ST_IV | bindings::PCI_TPH_CAP_ST_DS;

        if self.location() != bindings::PCI_TPH_LOC_CAP || self.0 & uses == 0 {
            return Err(EOPNOTSUPP);
        }

        Ok(((self.0 & bindings::PCI_TPH_CAP_ST_MASK) >> bindings::PCI_TPH_CAP_ST_SHIFT) + 1)
    }
}
