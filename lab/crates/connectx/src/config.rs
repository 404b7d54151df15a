// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be chosen of an adapter, and its configuration space.

use crate::capabilities::Profile;
use crate::registers;
use devices::CompleterType;
use devices::config::{
    BarKind, ConfigBuilder, ConfigSpace, Identity, MsiX, Pcie, StTable, TphCapability,
};
use tlp::Mode;

/// Vectors, if nobody chooses: one for commands and asynchronous events, the others for
/// completions.
const VECTORS: u16 = 8;

/// Entries of the ST table: as many as fit into a capability.
const ST_ENTRIES: u8 = 64;

/// ConnectX-7, which the driver and rdma-core's tests know.
const VENDOR: u16 = 0x15b3;
const DEVICE: u16 = 0x1021;

/// What can be chosen of an adapter.
#[derive(Clone, Copy, Debug)]
pub struct ConnectXConfig {
    /// What it says that it can do.
    pub profile: Profile,
    /// Extended TPH Requester Supported: it can send 16-bit tags.
    pub extended: bool,
    /// It has an ST table, in its capability; else a memory key holds the tag itself.
    pub table: bool,
    /// MSI-X vectors, 1..=64. With one, completions share it with everything else.
    pub vectors: u16,
}

/// All that there is.
impl Default for ConnectXConfig {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            extended: true,
            table: true,
            vectors: VECTORS,
        }
    }
}

impl ConnectXConfig {
    /// The configuration space after power-on.
    pub(crate) fn config_space(self, mode: Mode, serial: u64) -> ConfigSpace {
        let identity = Identity {
            vendor: VENDOR,
            device: DEVICE,
            class: 0x02_0700, // network, InfiniBand
            revision: 0,
        };
        ConfigBuilder::new(
            identity,
            Pcie {
                completer: CompleterType::None,
                mode,
            },
        )
        .bar(
            0,
            registers::BAR_SIZE,
            BarKind::Memory64 { prefetchable: true },
        )
        .power_management()
        .msix(MsiX {
            vectors: self.vectors,
            bar: 0,
            table: registers::MSIX_TABLE,
            pending: registers::MSIX_PENDING,
        })
        .serial_number(serial)
        .tph(TphCapability {
            extended: self.extended,
            interrupt_vector: false,
            table: if self.table {
                StTable::Capability(ST_ENTRIES)
            } else {
                StTable::None
            },
        })
        .build()
    }
}
