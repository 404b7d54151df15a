// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fabric's lock guards: the ports, the tap, and where requests go.

use crate::{
    Completer, Iommu, Limits, Want,
    bars::{Bar, BarTable},
    dma_map::DmaMap,
    hint::Gate,
    trace::Tap,
};
use std::{ops::Range, sync::Arc};
use tlp::{Bdf, Hint, MemRequest, Mode};

/// Bytes that one TLP carries at most.
pub const MAX_PAYLOAD: usize = 4096;
/// Number of the host as a sender; port `n` is number `n + 1`.
pub const HOST: usize = 0;

/// A function as the fabric sees it.
pub struct PortState {
    pub id: Bdf,
    pub completer: Option<Arc<dyn Completer>>,
    pub bus_master: bool,
    pub memory_enable: bool,
    pub limits: Limits,
    pub gate: Gate,
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
            gate: Gate::default(),
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
        let tag = self.next_tag & self.last_tag();
        let tag = match steering_tag {
            Some(st) if st.to_le_bytes()[0] == tag => tag.wrapping_add(1) & self.last_tag(),
            _ => tag,
        };
        self.next_tag = tag.wrapping_add(1);
        tag.into()
    }

    /// Takes as many tags as [`PortState::take_tag`] does when it is called `count` times.
    pub fn take_tags(&mut self, count: usize, steering_tag: Option<u16>) {
        let Some(last) = count.checked_sub(1) else {
            return;
        };
        // One of them has an effect on the next one only if it passes the steering tag.
        let tags = usize::from(self.last_tag()) + 1;
        let first = usize::from(self.take_tag(steering_tag));
        let skipped = steering_tag.map(|st| usize::from(st.to_le_bytes()[0]));
        let tag = match skipped.filter(|&skipped| skipped < tags) {
            None => first + last,
            // Of the others, counted from behind the one that is skipped.
            Some(skipped) => {
                let at = (first + tags - skipped - 1) % tags;
                skipped + 1 + (at + last) % (tags - 1)
            }
        };
        self.next_tag = (tag % tags + 1).to_le_bytes()[0];
    }

    /// The largest tag, which is a mask for them, too.
    fn last_tag(&self) -> u8 {
        if self.limits.extended_tag { 0xff } else { 0x1f }
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    Bar {
        port: usize,
        bar: u8,
        offset: u64,
        /// The address that the IOMMU made of the request's, if there is one.
        translated: Option<u64>,
    },
    Memory,
    Nobody,
}

impl Target {
    /// Sender number and BAR, as the tap wants them.
    pub fn receiver(self) -> Option<(usize, Option<u8>)> {
        match self {
            Self::Bar { port, bar, .. } => Some((port + 1, Some(bar))),
            Self::Memory => Some((HOST, None)),
            Self::Nobody => None,
        }
    }

    /// Number of the sender that answers a read.
    pub fn completer(self) -> usize {
        match self {
            Self::Bar { port, .. } => port + 1,
            Self::Memory | Self::Nobody => HOST,
        }
    }
}

/// Everything behind the fabric's lock.
pub struct State {
    pub mode: Mode,
    pub tap: Tap,
    pub ports: Vec<PortState>,
    /// Those of all ports: see [`State::place_bars`].
    bars: BarTable,
    pub iommu: Option<Arc<dyn Iommu>>,
    /// Room for the payload of a request that is not for whole DWs.
    pub padded: Box<[u8; MAX_PAYLOAD]>,
}

impl State {
    pub fn new(mode: Mode, tap: Tap, iommu: Option<Arc<dyn Iommu>>) -> Self {
        Self {
            mode,
            tap,
            ports: vec![],
            bars: BarTable::default(),
            iommu,
            padded: Box::new([0; MAX_PAYLOAD]),
        }
    }

    /// Takes up which BARs decode what: after each change of that.
    pub fn place_bars(&mut self) {
        let ports = (0..).zip(&self.ports);
        let reached = ports.filter(|(_, port)| port.memory_enable && port.completer.is_some());
        self.bars = reached
            .flat_map(|(port, PortState { bars, .. })| {
                (0..).zip(bars).filter_map(move |(number, range)| {
                    Some(Bar {
                        range: range.clone()?,
                        port,
                        number,
                    })
                })
            })
            .collect();
    }

    /// The hint of the next request of port `from`. As long as the fabric is locked, nothing
    /// changes it.
    pub fn hint(&mut self, from: usize, want: Option<Want>) -> Option<Hint> {
        let name = self.tap.sender(from + 1);
        self.ports[from].gate.pass(want?, name)
    }

    /// Where a request of port `from` goes.
    pub fn route(&self, from: usize, request: &MemRequest, write: bool) -> Target {
        let (addr, len) = (request.addr(), request.len_bytes());
        let memory = &self.ports[from].memory;
        let translated = self
            .iommu
            .as_ref()
            .and_then(|_| memory.translated(request.requester(), addr, len, write));
        let decoded = match self.iommu {
            None => Some(addr),
            Some(_) => translated,
        };
        // A link does not return to its sender what it sent.
        let bar = decoded.and_then(|addr| Some((addr, self.bars.find(from, addr, len)?)));
        match bar {
            Some((addr, bar)) => Target::Bar {
                port: bar.port,
                bar: bar.number,
                offset: addr - bar.range.start,
                translated,
            },
            None if memory.covers(addr, len, write) => Target::Memory,
            None => Target::Nobody,
        }
    }

    /// True if a request for some of `len` bytes at `addr` may go to a BAR though they are guest
    /// memory.
    pub fn may_hit_bar(&self, from: usize, addr: u64, len: usize) -> bool {
        // An IOMMU makes no BAR of guest memory.
        self.iommu.is_none() && self.bars.overlaps(from, addr, len)
    }
}

/// Byte address within its DW.
pub fn in_dw(addr: u64) -> usize {
    usize::from(addr.to_le_bytes()[0] & 0b11)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};

    proptest! {
        #[test]
        fn many_tags_are_taken_as_one_by_one(
            steps in vec((any::<bool>(), 0usize..600, option::of(0u16..0x140)), 1..8),
        ) {
            let new = || PortState::new(Bdf::new(0, 1, 0), None);
            let (mut one_by_one, mut at_once) = (new(), new());
            for (extended_tag, count, steering_tag) in steps {
                one_by_one.limits.extended_tag = extended_tag;
                at_once.limits.extended_tag = extended_tag;
                for _ in 0..count {
                    one_by_one.take_tag(steering_tag);
                }
                at_once.take_tags(count, steering_tag);
                prop_assert_eq!(one_by_one.next_tag, at_once.next_tag);
            }
        }
    }
}
