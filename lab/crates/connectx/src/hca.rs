// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter's state: its objects, and the queue pairs that the scheduler has to do with.

mod commands;
mod connected;
mod datagram;
mod events;
mod objects;
mod outcome;
mod receive;
mod scheduler;
mod transport;
mod umr;

use crate::capabilities::{
    Capabilities, LOG_MAX_CQ, LOG_MAX_MKEY, LOG_MAX_PD, LOG_MAX_QP, LOG_MAX_SRQ, LOG_MAX_XRCD,
    MAX_EQS, Profile,
};
use crate::command_queue::CommandQueue;
use crate::cq::Cq;
use crate::dma::Dma;
use crate::eq::{Eq, EventType};
use crate::error::Error;
use crate::mkey::Mkey;
use crate::port::Port;
use crate::qp::Qp;
use crate::registers::UARS;
use crate::srq::Srq;
use crate::table::Table;
use devices::Interrupt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of memory keys. Key 0x100, of index 1, is the mark that ends a list of receive requests.
const MKEYS: std::ops::Range<u32> = 0x100..1 << LOG_MAX_MKEY;
/// The adapter, from the first command after a reset on.
pub struct Hca {
    dma: Dma,
    queue: CommandQueue,
    interrupt: Arc<Interrupt>,
    capabilities: Capabilities,
    port: Port,
    uars: Table<()>,
    eqs: Table<Eq>,
    pds: Table<()>,
    xrcds: Table<()>,
    mkeys: Table<Mkey>,
    cqs: Table<Cq>,
    srqs: Table<Srq>,
    qps: Table<Qp>,
    /// QPs whose send queue may hold requests that can be executed now.
    active: BTreeSet<u32>,
    /// QPs that wait until the retry after an RNR NAK.
    retrying: BTreeSet<u32>,
    /// QPs that enter the error state as soon as the request that failed there has completed.
    pending_errors: Vec<u32>,
    /// QPs in the error state: when each is polled next, and how long after the time before.
    in_error: BTreeMap<u32, (Instant, Duration)>,
    /// CQs whose event waits for more completions.
    moderated: BTreeSet<u32>,
    /// How many of the next commands with an opcode are to be refused.
    refused: (u16, u16),
}

impl Hca {
    pub fn new(profile: Profile, dma: Dma, queue: CommandQueue, interrupt: Arc<Interrupt>) -> Self {
        Self {
            dma,
            queue,
            interrupt,
            capabilities: Capabilities::new(profile),
            port: Port::new(),
            uars: Table::new(UARS),
            eqs: Table::new(1..u32::from(MAX_EQS)),
            pds: Table::new(1..1 << LOG_MAX_PD),
            xrcds: Table::new(1..1 << LOG_MAX_XRCD),
            mkeys: Table::new(MKEYS),
            cqs: Table::new(1..1 << LOG_MAX_CQ),
            srqs: Table::new(1..1 << LOG_MAX_SRQ),
            // 0 and 1 are the ports' own.
            qps: Table::new(2..1 << LOG_MAX_QP),
            active: BTreeSet::new(),
            retrying: BTreeSet::new(),
            pending_errors: vec![],
            in_error: BTreeMap::new(),
            moderated: BTreeSet::new(),
            refused: (0, 0),
        }
    }

    /// TEARDOWN_HCA: whatever is left ends, since its memory goes back to the host.
    fn tear_down(&mut self) {
        if !self.is_empty() {
            let what = format!("the driver tears down and leaves {}", self.census());
            self.dma.complaints.add(what);
        }
        self.uars.clear();
        self.eqs.clear();
        self.pds.clear();
        self.xrcds.clear();
        self.mkeys.clear();
        self.cqs.clear();
        self.srqs.clear();
        self.qps.clear();
        self.active.clear();
        self.retrying.clear();
        self.in_error.clear();
        self.moderated.clear();
    }

    /// Refuses the next `number` commands with this opcode.
    pub fn refuse_commands(&mut self, opcode: u16, number: u16) {
        log::info!("{number} commands {opcode:#x} will be refused");
        self.refused = (opcode, number);
    }

    /// Runs the command in an entry of the queue, if there is one.
    pub fn command(&mut self, entry: usize) {
        if let Err(error) = self.run_command(entry) {
            log::error!("the command in entry {entry}: {error}");
        }
    }

    fn run_command(&mut self, entry: usize) -> Result<(), Error> {
        // Before the command: the event queue of its completion is there when it begins.
        let eq = self.eq_for(EventType::Command);
        match self.queue.fetch(&self.dma, entry)? {
            None => return Ok(()),
            Some(Err(status)) => {
                log::warn!("entry {entry} is no command: {status:?}");
                self.queue.give_back(&self.dma, entry, Some(status))?;
            }
            Some(Ok(entry)) => {
                let answer = self.answer(&entry.input);
                self.queue.answer(&self.dma, &entry, answer)?;
            }
        }
        // The command may have destroyed it.
        if let Some(eq) = eq.filter(|&eq| self.eqs.get(eq).is_some()) {
            let done = 1u32 << entry;
            self.post_event(eq, EventType::Command, &done.to_be_bytes());
        }
        Ok(())
    }

    /// What there is, for the log.
    pub fn census(&self) -> String {
        format!(
            "{} UARs, {} EQs, {} PDs, {} mkeys, {} CQs, {} SRQs, {} QPs",
            self.uars.len(),
            self.eqs.len(),
            self.pds.len(),
            self.mkeys.len(),
            self.cqs.len(),
            self.srqs.len(),
            self.qps.len()
        )
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        [
            self.uars.len(),
            self.eqs.len(),
            self.pds.len(),
            self.xrcds.len(),
            self.mkeys.len(),
            self.cqs.len(),
            self.srqs.len(),
            self.qps.len(),
        ]
        .iter()
        .all(|&number| number == 0)
    }
}
