// SPDX-License-Identifier: MIT OR Apache-2.0
//! The adapter's state: its objects, and what they tell the driver.

mod commands;
mod objects;
mod transport;

use crate::capabilities::{
    Capabilities, LOG_MAX_CQ, LOG_MAX_MKEY, LOG_MAX_PD, LOG_MAX_QP, LOG_MAX_SRQ, LOG_MAX_XRCD,
    MAX_EQS, Profile,
};
use crate::cq::{Cq, Told};
use crate::cqe::Bytes;
use crate::dma::{Dma, Fault};
use crate::eq::{Eq, Kind};
use crate::mkey::Mkey;
use crate::port::Port;
use crate::qp::Qp;
use crate::queue::Queue;
use crate::registers::UARS;
use crate::srq::Srq;
use crate::table::Table;
use crate::wire::cqe;
use devices::Interrupt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of memory keys. Key 0x100, of index 1, is the mark that ends a list of receive requests.
const MKEYS: std::ops::Range<u32> = 0x100..1 << LOG_MAX_MKEY;
/// How often a queue pair in error is looked at for receive requests, which nobody rings for: at
/// first, and at last.
const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LAST: Duration = Duration::from_millis(128);

/// The adapter, from the first command after a reset on.
pub struct Hca {
    dma: Dma,
    queue: Queue,
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
    /// Queue pairs whose send queue may hold requests that can be executed now.
    active: BTreeSet<u32>,
    /// Queue pairs whose peer was not ready.
    retrying: BTreeSet<u32>,
    /// Queue pairs that go into error as soon as the request that broke them has ended.
    breaking: Vec<u32>,
    /// Queue pairs in error: when each is looked at next, and how long after the time before.
    in_error: BTreeMap<u32, (Instant, Duration)>,
    /// CQs that wait for more completions before they tell.
    moderated: BTreeSet<u32>,
    /// How many of the next commands with an opcode are to be refused.
    refused: (u16, u16),
}

impl Hca {
    pub fn new(profile: Profile, dma: Dma, queue: Queue, interrupt: Arc<Interrupt>) -> Self {
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
            breaking: vec![],
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
        if let Err(fault) = self.run_command(entry) {
            log::error!("the command in entry {entry}: {fault}");
        }
    }

    fn run_command(&mut self, entry: usize) -> Result<(), Fault> {
        // Before the command: the queue that is to hear of a command's end is there when it begins.
        let hears = self.events_for(Kind::Command);
        match self.queue.fetch(&self.dma, entry)? {
            None => return Ok(()),
            Some(Err(delivery)) => {
                log::warn!("entry {entry} is no command: {delivery:?}");
                self.queue.give_back(&self.dma, entry, Some(delivery))?;
            }
            Some(Ok(command)) => {
                let answer = self.answer(&command.input);
                self.queue.answer(&self.dma, &command, answer)?;
            }
        }
        // A command that ends the queue is not told there.
        if let Some(eq) = hears.filter(|&eq| self.eqs.get(eq).is_some()) {
            let done = 1u32 << entry;
            self.post(eq, Kind::Command, &done.to_be_bytes());
        }
        Ok(())
    }

    /// The consumer of an EQ has moved on.
    pub fn update_eq(&mut self, number: u32, consumer: u32, arm: bool) {
        match self.eqs.get_mut(number) {
            Some(eq) => eq.update(consumer, arm, &self.interrupt),
            None => log::warn!("a doorbell of EQ {number}, which there is none"),
        }
    }

    /// A CQ is armed.
    pub fn arm_cq(&mut self, number: u32, consumer: u32, solicited: bool) {
        let Some(cq) = self.cqs.get_mut(number) else {
            log::warn!("a doorbell of CQ {number}, which there is none");
            return;
        };
        let tell = cq.arm(consumer, solicited, Instant::now());
        self.after_look_at_cq(number, tell);
    }

    /// A send queue has work.
    pub fn send(&mut self, number: u32) {
        if self.qps.get(number).is_some() {
            self.active.insert(number);
        } else {
            log::warn!("a doorbell of QP {number}, which there is none");
        }
    }

    /// Whether there is work that can be done now.
    pub fn is_busy(&self) -> bool {
        !self.active.is_empty()
    }

    /// When there is something to do next although nobody rings.
    pub fn deadline(&self) -> Option<Instant> {
        let retries = self.retrying.iter().filter_map(|&number| {
            let qp = self.qps.get(number)?;
            Some(qp.retry?.at)
        });
        let looks = self.in_error.values().map(|&(at, _)| at);
        let told = self.moderated.iter();
        let told = told.filter_map(|&number| self.cqs.get(number)?.due());
        retries.chain(looks).chain(told).min()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Instant) {
        for number in self.moderated.clone() {
            let tell = self.cqs.get_mut(number).is_some_and(|cq| cq.expire(now));
            self.after_look_at_cq(number, tell);
        }
        for number in self.retrying.clone() {
            let retry = self.qps.get(number).and_then(|qp| qp.retry);
            if retry.is_none_or(|retry| retry.at <= now) {
                self.retrying.remove(&number);
                self.active.insert(number);
            }
        }
        let due = self.in_error.iter().filter(|(_, (at, _))| *at <= now);
        for number in due.map(|(&number, _)| number).collect::<Vec<_>>() {
            match self.flush(number) {
                Ok(true) => {
                    self.in_error.insert(number, (now + LOOK_FIRST, LOOK_FIRST));
                }
                Ok(false) => {
                    if let Some((at, pause)) = self.in_error.get_mut(&number) {
                        *pause = (*pause * 2).min(LOOK_LAST);
                        *at = now + *pause;
                    }
                }
                Err(fault) => self.lose(number, &fault),
            }
        }
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

    fn events_for(&self, kind: Kind) -> Option<u32> {
        self.eqs
            .iter()
            .find_map(|(number, eq)| eq.wants(kind).then_some(number))
    }

    /// Puts an event into an EQ. Nobody hears of one that cannot be put there.
    fn post(&mut self, number: u32, kind: Kind, data: &[u8]) {
        let Some(eq) = self.eqs.get_mut(number) else {
            self.dma.complaints.add(format!(
                "an event {kind:?} for EQ {number}, which there is none"
            ));
            return;
        };
        if let Err(fault) = eq.post(&self.dma, &self.interrupt, kind, data) {
            log::error!("an event {kind:?} is lost: {fault}");
        }
    }

    /// Tells of an object, if an event queue wants such events.
    fn tell(&mut self, kind: Kind, number: u32) {
        if let Some(eq) = self.events_for(kind) {
            self.post(eq, kind, &about(kind, number));
        }
    }

    /// Puts a completion into a CQ, and tells of it if it is to be told.
    fn complete(&mut self, number: u32, entry: Bytes, solicited: bool) -> Result<(), Fault> {
        let Some(cq) = self.cqs.get_mut(number) else {
            self.dma
                .complaints
                .add(format!("a completion for CQ {number}, which there is none"));
            return Ok(());
        };
        log::debug!("CQ {number}: {}", cqe::LAYOUT.show(&entry));
        match cq.post(&self.dma, entry, solicited, Instant::now())? {
            Told::Quietly => self.after_look_at_cq(number, false),
            Told::Event => self.after_look_at_cq(number, true),
            Told::Overrun => self.tell(Kind::CqError, number),
        }
        Ok(())
    }

    fn after_look_at_cq(&mut self, number: u32, tell: bool) {
        let Some(cq) = self.cqs.get(number) else {
            self.moderated.remove(&number);
            return;
        };
        if cq.due().is_some() {
            self.moderated.insert(number);
        } else {
            self.moderated.remove(&number);
        }
        if tell {
            let eq = cq.eq();
            self.post(eq, Kind::Completion, &about(Kind::Completion, number));
        }
    }
}

/// Data of an event about an object: where its number is depends on the kind.
fn about(kind: Kind, number: u32) -> [u8; 28] {
    let at = match kind {
        Kind::CqError => 0,
        _ => 24,
    };
    let mut data = [0; 28];
    data[at..at + 4].copy_from_slice(&number.to_be_bytes());
    if kind == Kind::CqError {
        data[11] = CQ_OVERRUN;
    }
    data
}

/// Syndrome of a CQ error.
const CQ_OVERRUN: u8 = 1;
