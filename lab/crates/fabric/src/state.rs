// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fabric's lock guards: the ports, the tap, and where requests go.

use crate::{Completer, Iommu, Limits, Steering, memory::DmaMap, send::Buffers, trace::Tap};
use std::{ops::Range, sync::Arc};
use tlp::{Bdf, MemRequest, Mode};

/// Read Completion Boundary of the root complex, bytes.
pub const RCB_HOST: usize = 64;
/// Read Completion Boundary of an endpoint, bytes (fixed by the specification).
pub const RCB_ENDPOINT: usize = 128;
/// Routing id of the host bridge, which answers for guest memory and for nobody.
pub const HOST_ID: Bdf = Bdf::new(0, 0, 0);

/// A function as the fabric sees it.
pub struct PortState {
    pub id: Bdf,
    pub completer: Option<Arc<dyn Completer>>,
    pub bus_master: bool,
    pub memory_enable: bool,
    pub limits: Limits,
    pub steering: Steering,
    /// Address range of each BAR that is placed.
    pub bars: [Option<Range<u64>>; 6],
    pub memory: DmaMap,
    /// Counts resets: requesters of an earlier epoch are void.
    pub epoch: u64,
    pub next_tag: u8,
    /// A completion with Unsupported Request came back.
    pub master_abort: bool,
}

impl PortState {
    pub fn new(id: Bdf, completer: Option<Arc<dyn Completer>>) -> Self {
        Self {
            id,
            completer,
            bus_master: false,
            memory_enable: false,
            limits: Limits::default(),
            steering: Steering::default(),
            bars: [const { None }; 6],
            memory: DmaMap::default(),
            epoch: 0,
            next_tag: 0,
            master_abort: false,
        }
    }

    /// The next transaction tag.
    ///
    /// It never equals the low byte of `steering_tag`, so that a trace cannot mix them up.
    pub fn take_tag(&mut self, steering_tag: Option<u16>) -> u16 {
        let mask = if self.limits.extended_tag { 0xff } else { 0x1f };
        loop {
            let tag = self.next_tag & mask;
            self.next_tag = tag.wrapping_add(1);
            if steering_tag.is_none_or(|st| st.to_le_bytes()[0] != tag) {
                return tag.into();
            }
        }
    }
}

/// Where a request goes.
pub enum Target {
    Bar {
        completer: Arc<dyn Completer>,
        port: usize,
        bar: usize,
        offset: u64,
        /// The address that the IOMMU made of the request's, if there is one.
        translated: Option<u64>,
    },
    Memory,
    Nobody,
}

impl Target {
    /// Sender number and BAR, as the tap wants them.
    pub fn receiver(&self) -> Option<(usize, Option<u8>)> {
        match *self {
            Self::Bar { port, bar, .. } => Some((port + 1, u8::try_from(bar).ok())),
            Self::Memory => Some((HOST, None)),
            Self::Nobody => None,
        }
    }

    /// Number of the sender that answers a read.
    pub fn completer(&self) -> usize {
        match *self {
            Self::Bar { port, .. } => port + 1,
            Self::Memory | Self::Nobody => HOST,
        }
    }
}

/// Number of the host as a sender; port `n` is number `n + 1`.
pub const HOST: usize = 0;

/// Everything behind the fabric's lock.
pub struct State {
    pub mode: Mode,
    pub tap: Tap,
    pub ports: Vec<PortState>,
    pub iommu: Option<Arc<dyn Iommu>>,
    /// Taken by the request that is on its way.
    pub buffers: Buffers,
}

impl State {
    pub fn new(mode: Mode, tap: Tap, iommu: Option<Arc<dyn Iommu>>) -> Self {
        Self {
            mode,
            tap,
            ports: vec![],
            iommu,
            buffers: Buffers::default(),
        }
    }

    pub fn route(&self, from: usize, request: &MemRequest, write: bool) -> Target {
        let (addr, len) = (request.addr(), request.len_bytes());
        let memory = &self.ports[from].memory;
        let bar = if self.iommu.is_none() {
            self.bar_at(from, addr, len, None)
        } else {
            memory
                .translated(request.requester(), addr, len, write)
                .and_then(|addr| self.bar_at(from, addr, len, Some(addr)))
        };
        match bar {
            Some(target) => target,
            None if memory.covers(addr, len, write) => Target::Memory,
            None => Target::Nobody,
        }
    }

    /// True if a request for some of `len` bytes at `addr` may go to a BAR though they are guest memory.
    pub fn may_hit_bar(&self, from: usize, addr: u64, len: usize) -> bool {
        // An IOMMU makes no BAR of guest memory.
        self.iommu.is_none()
            && self.bars(from).any(|(.., range)| {
                range.start <= addr.saturating_add(len as u64) && addr < range.end
            })
    }

    /// Number, completer, number of the BAR and addresses of every BAR that `from` can reach.
    fn bars(
        &self,
        from: usize,
    ) -> impl Iterator<Item = (usize, &Arc<dyn Completer>, usize, &Range<u64>)> {
        // A link does not return to its sender what it sent.
        let peers = (0..)
            .zip(&self.ports)
            .filter(move |(number, peer)| *number != from && peer.memory_enable);
        peers.flat_map(|(number, peer)| {
            peer.completer.iter().flat_map(move |completer| {
                (0..)
                    .zip(&peer.bars)
                    .filter_map(move |(bar, range)| Some((number, completer, bar, range.as_ref()?)))
            })
        })
    }

    /// The BAR of another function than `from` that decodes `len` bytes at `addr`.
    fn bar_at(
        &self,
        from: usize,
        addr: u64,
        len: usize,
        translated: Option<u64>,
    ) -> Option<Target> {
        let (port, completer, bar, range) = self.bars(from).find(|(.., range)| {
            range.start <= addr && range.end.saturating_sub(addr) >= len as u64
        })?;
        Some(Target::Bar {
            completer: completer.clone(),
            port,
            bar,
            offset: addr - range.start,
            translated,
        })
    }
}

/// Byte address within its DW.
pub fn in_dw(addr: u64) -> usize {
    usize::from(addr.to_le_bytes()[0] & 0b11)
}
