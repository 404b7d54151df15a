// SPDX-License-Identifier: GPL-2.0

//! PCIe TLP Processing Hints (TPH).
//!
//! A request may carry a *processing hint*, which says how its data will be used, and a *steering
//! tag*, which says where the completer should place it. Tags come in two namespaces, an 8-bit one
//! and a 16-bit *Extended* one. They are numbered independently, so a tag of one namespace means
//! nothing in the other: [`SteeringTag`] keeps them apart.
//!
//! A device that emits such requests is a [`Requester`]. Whether a device understands them when it
//! receives them is its [`CompleterType`], which is independent of the former.
//!
//! C header: [`include/linux/pci-tph.h`](srctree/include/linux/pci-tph.h)
//!
//! Reference: <https://docs.kernel.org/PCI/tph.html>

use super::Device;
use crate::{
    bindings,
    cpu::CpuId,
    device::{
        Bound,
        Core, //
    },
    error::to_result,
    prelude::*, //
};

/// A namespace of steering tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// 8-bit tags of TPH.
    St,
    /// 16-bit tags of Extended TPH.
    ExtSt,
}

impl Namespace {
    /// Returns whether this is the namespace of Extended TPH.
    #[inline]
    pub const fn is_extended(self) -> bool {
        matches!(self, Self::ExtSt)
    }

    /// Returns the namespace in which `pdev` is enabled to emit requests with TPH.
    ///
    /// This is [`None`] before [`Requester::enable`], and also after a write to the ST table after
    /// which the device could not be enabled again: ask each time.
    pub fn of(pdev: &Device) -> Option<Self> {
        // SAFETY: By its type invariant `pdev.as_raw()` is a valid pointer to a `struct pci_dev`.
        Self::from_req_type(unsafe { bindings::pcie_tph_enabled_req_type(pdev.as_raw()) })
    }

    /// Returns the requester type that is needed to emit tags of this namespace.
    const fn req_type(self) -> u8 {
        // CAST: Requester types have two bits.
        match self {
            Self::St => bindings::PCI_TPH_REQ_TPH_ONLY as u8,
            Self::ExtSt => bindings::PCI_TPH_REQ_EXT_TPH as u8,
        }
    }

    /// Decodes a TPH Requester Enable field (`PCI_TPH_CTRL_REQ_EN_MASK`).
    ///
    /// A requester uses the largest namespace that it is enabled for. Off and the reserved
    /// encoding are [`None`].
    const fn from_req_type(req_type: u8) -> Option<Self> {
        match req_type as u32 {
            bindings::PCI_TPH_REQ_TPH_ONLY => Some(Self::St),
            bindings::PCI_TPH_REQ_EXT_TPH => Some(Self::ExtSt),
            _ => None,
        }
    }
}

/// A steering tag, which exists in exactly one [`Namespace`].
///
/// Zero is a tag like any other.
///
/// # Examples
///
/// ```
/// use kernel::pci::tph::{
///     Namespace,
///     SteeringTag, //
/// };
///
/// let tag = SteeringTag::ExtSt(0x34);
///
/// assert_eq!(tag.namespace(), Namespace::ExtSt);
/// assert_eq!(tag.value(), 0x34);
/// assert!(tag != SteeringTag::St(0x34));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteeringTag {
    /// An 8-bit tag.
    St(u8),
    /// A 16-bit Extended tag.
    ExtSt(u16),
}

impl SteeringTag {
    /// Asks the firmware for the tag of `namespace` with which `requester` should write to CPU
    /// memory whose data `cpu` will use.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if the firmware knows no valid tag of this namespace.
    /// - [`ENODEV`] if the device is not below a Root Port.
    /// - [`EINVAL`] if the firmware does not tell tags.
    pub fn of_cpu(
        requester: &Device,
        memory: MemoryType,
        cpu: CpuId,
        namespace: Namespace,
    ) -> Result<Self> {
        let mut tag = 0;

        // SAFETY:
        // - By its type invariant `requester.as_raw()` is a valid pointer to a `struct pci_dev`.
        // - `tag` is valid for writes.
        to_result(unsafe {
            bindings::pcie_tph_get_cpu_st_req_type(
                requester.as_raw(),
                memory as bindings::tph_mem_type,
                namespace.req_type(),
                cpu.as_u32(),
                &mut tag,
            )
        })?;

        Ok(match namespace {
            Namespace::St => Self::St(u8::try_from(tag)?),
            Namespace::ExtSt => Self::ExtSt(tag),
        })
    }

    /// Returns the namespace in which this tag exists.
    #[inline]
    pub const fn namespace(self) -> Namespace {
        match self {
            Self::St(_) => Namespace::St,
            Self::ExtSt(_) => Namespace::ExtSt,
        }
    }

    /// Returns the number of the tag within its namespace.
    #[inline]
    pub const fn value(self) -> u16 {
        match self {
            Self::St(tag) => tag as u16,
            Self::ExtSt(tag) => tag,
        }
    }
}

/// A processing hint: how the data of a request will be used.
///
/// # Examples
///
/// ```
/// use kernel::pci::tph::ProcessingHint;
///
/// assert_eq!(ProcessingHint::try_from(2)?, ProcessingHint::Target);
/// assert_eq!(ProcessingHint::try_from(4), Err(EINVAL));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProcessingHint {
    /// Read and written often by host and device.
    Bidirectional = 0,
    /// Read and written often by the device that emits the request.
    Requester = 1,
    /// Read and written often by the host, or by the completer of a peer-to-peer request.
    Target = 2,
    /// As [`ProcessingHint::Target`], and soon.
    TargetPriority = 3,
}

impl TryFrom<u8> for ProcessingHint {
    type Error = Error;

    /// Fails with [`EINVAL`] for a value that does not fit into the two bits of the field.
    fn try_from(value: u8) -> Result<Self> {
        match value {
            0 => Ok(Self::Bidirectional),
            1 => Ok(Self::Requester),
            2 => Ok(Self::Target),
            3 => Ok(Self::TargetPriority),
            _ => Err(EINVAL),
        }
    }
}

/// What a request with TPH carries: a steering tag and a processing hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Where the completer should place the data.
    pub tag: SteeringTag,
    /// How the data will be used.
    pub ph: ProcessingHint,
}

/// Which requests with TPH a device understands as a completer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompleterType {
    /// None: it ignores the hints, or must not receive them.
    None,
    /// Those with 8-bit tags.
    Tph,
    /// Those with 8-bit and with 16-bit Extended tags.
    ExtTph,
}

impl CompleterType {
    /// Reads the completer type of `pdev` from its Device Capabilities 2 register.
    ///
    /// This reads config space, so `pdev` has to be awake.
    pub fn of(pdev: &Device) -> Self {
        // SAFETY: By its type invariant `pdev.as_raw()` is a valid pointer to a `struct pci_dev`.
        Self::from_field(unsafe { bindings::pcie_tph_completer_type(pdev.as_raw()) })
    }

    /// Decodes a TPH Completer Supported field (`PCI_EXP_DEVCAP2_TPH_COMP_MASK`, shifted).
    ///
    /// The reserved encoding counts as none.
    const fn from_field(field: u8) -> Self {
        match field as u32 {
            bindings::PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY => Self::Tph,
            bindings::PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH => Self::ExtTph,
            _ => Self::None,
        }
    }

    /// Returns whether requests with tags of `namespace` are understood.
    #[inline]
    pub const fn completes(self, namespace: Namespace) -> bool {
        match namespace {
            Namespace::St => !matches!(self, Self::None),
            Namespace::ExtSt => matches!(self, Self::ExtTph),
        }
    }
}

/// How a requester chooses the steering tags of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StMode {
    /// No ST mode: all tags are zero, only the processing hint counts.
    NoSt = bindings::PCI_TPH_ST_NS_MODE,
    /// Interrupt vector mode: the tag is the entry of the ST table for an interrupt vector.
    InterruptVector = bindings::PCI_TPH_ST_IV_MODE,
    /// Device specific mode: the device and its driver agree on the tag by their own means.
    DeviceSpecific = bindings::PCI_TPH_ST_DS_MODE,
}

/// Where a requester keeps its ST table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StTable {
    /// Nowhere: device and driver agree on the tags by their own means.
    None,
    /// In its TPH Requester capability, with this number of entries.
    Capability(u16),
    /// In its MSI-X table, with an entry for each vector.
    MsiX,
}

impl StTable {
    /// Decodes an ST Table Location field (`PCI_TPH_CAP_LOC_MASK`, in its place).
    ///
    /// The reserved encoding counts as none. `entries` is what counts if it is in the capability.
    const fn from_field(field: u32, entries: u16) -> Self {
        match field {
            bindings::PCI_TPH_LOC_CAP => Self::Capability(entries),
            bindings::PCI_TPH_LOC_MSIX => Self::MsiX,
            _ => Self::None,
        }
    }
}

/// A device that is enabled to emit requests with TPH, until this is dropped.
///
/// # Examples
///
/// A driver that agrees with its device on the tags keeps this in its data:
///
/// ```
/// use kernel::{
///     device::Core,
///     pci::{
///         self,
///         tph::{
///             Requester,
///             StMode, //
///         },
///     },
///     prelude::*,
/// };
///
/// fn enable<'a>(pdev: &'a pci::Device<Core<'_>>) -> Result<Requester<'a>> {
///     let requester = Requester::enable(pdev, StMode::DeviceSpecific)?;
///     dev_dbg!(pdev, "ST table: {:?}\n", requester.st_table());
///     Ok(requester)
/// }
/// ```
///
/// # Invariants
///
/// TPH of `pdev` was enabled by [`Requester::enable`], and nobody else enables or disables it.
pub struct Requester<'a> {
    pdev: &'a Device<Bound>,
}

impl<'a> Requester<'a> {
    /// Enables `pdev` to emit requests with TPH.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the device has no TPH Requester capability or does not know `mode`, if its
    ///   Root Port completes no requests with TPH, or if the kernel was told `pci=notph`.
    /// - [`EBUSY`] if TPH is enabled already.
    pub fn enable(pdev: &'a Device<Core<'_>>, mode: StMode) -> Result<Self> {
        // SAFETY: By its type invariant `pdev.as_raw()` is a valid pointer to a `struct pci_dev`;
        // its core context excludes concurrent callers.
        to_result(unsafe { bindings::pcie_enable_tph(pdev.as_raw(), mode as c_int) })?;

        // INVARIANT: TPH has just been enabled, and it was not enabled before.
        Ok(Self { pdev })
    }

    /// Returns where the device keeps its ST table.
    pub fn st_table(&self) -> StTable {
        // SAFETY: By its type invariant `self.pdev.as_raw()` is a valid pointer to a
        // `struct pci_dev`; that TPH was enabled shows that it has the capability.
        let field = unsafe { bindings::pcie_tph_get_st_table_loc(self.pdev.as_raw()) };

        // SAFETY: As above.
        let entries = unsafe { bindings::pcie_tph_get_st_table_size(self.pdev.as_raw()) };

        StTable::from_field(field, entries)
    }
}

impl Drop for Requester<'_> {
    fn drop(&mut self) {
        // SAFETY: By its type invariant `self.pdev.as_raw()` is a valid pointer to a
        // `struct pci_dev`; by the invariant of `Self` there are no concurrent callers.
        unsafe { bindings::pcie_disable_tph(self.pdev.as_raw()) };
    }
}

/// A kind of CPU memory, for which the firmware may have steering tags of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryType {
    /// Volatile memory.
    Volatile = bindings::tph_mem_type_TPH_MEM_TYPE_VM,
    /// Persistent memory.
    Persistent = bindings::tph_mem_type_TPH_MEM_TYPE_PM,
}

#[cfg(CONFIG_RUST_PCI_TPH_KUNIT_TEST)]
#[macros::kunit_tests(rust_pci_tph)]
mod tests {
    use super::*;

    #[test]
    fn completer_type_folds_the_reserved_code() {
        assert_eq!(CompleterType::from_field(0), CompleterType::None);
        assert_eq!(CompleterType::from_field(1), CompleterType::Tph);
        assert_eq!(CompleterType::from_field(2), CompleterType::None);
        assert_eq!(CompleterType::from_field(3), CompleterType::ExtTph);
    }

    #[test]
    fn completer_type_decides_the_namespaces() {
        assert!(!CompleterType::None.completes(Namespace::St));
        assert!(!CompleterType::None.completes(Namespace::ExtSt));
        assert!(CompleterType::Tph.completes(Namespace::St));
        assert!(!CompleterType::Tph.completes(Namespace::ExtSt));
        assert!(CompleterType::ExtTph.completes(Namespace::St));
        assert!(CompleterType::ExtTph.completes(Namespace::ExtSt));
    }

    #[test]
    fn requester_type_folds_the_reserved_code() {
        assert_eq!(Namespace::from_req_type(0), None);
        assert_eq!(Namespace::from_req_type(1), Some(Namespace::St));
        assert_eq!(Namespace::from_req_type(2), None);
        assert_eq!(Namespace::from_req_type(3), Some(Namespace::ExtSt));
        for namespace in [Namespace::St, Namespace::ExtSt] {
            assert_eq!(
                Namespace::from_req_type(namespace.req_type()),
                Some(namespace)
            );
        }
    }

    #[test]
    fn processing_hint_has_two_bits() -> Result {
        for value in 0..4 {
            assert_eq!(ProcessingHint::try_from(value)? as u8, value);
        }
        for value in [4, 0x80, 0xff] {
            assert_eq!(ProcessingHint::try_from(value), Err(EINVAL));
        }
        Ok(())
    }

    #[test]
    fn st_table_location_is_decoded_in_its_place() {
        assert_eq!(StTable::from_field(0, 0), StTable::None);
        assert_eq!(StTable::from_field(0x200, 8), StTable::Capability(8));
        assert_eq!(StTable::from_field(0x400, 0), StTable::MsiX);
        assert_eq!(StTable::from_field(0x600, 0), StTable::None);
    }

    #[test]
    fn tag_knows_its_namespace() {
        assert_eq!(SteeringTag::St(0x34).namespace(), Namespace::St);
        assert_eq!(SteeringTag::ExtSt(0x34).namespace(), Namespace::ExtSt);
        assert!(SteeringTag::St(0x34) != SteeringTag::ExtSt(0x34));
        assert_eq!(SteeringTag::ExtSt(0xbef0).value(), 0xbef0);
    }
}
