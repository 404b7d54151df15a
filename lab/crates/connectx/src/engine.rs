// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device's own thread, because DMA must not be done in a region callback.
//!
//! Doorbells are kept, not queued: one that is rung twice is kept once, so that a driver that rings
//! faster than the device works costs no memory.

use crate::command_queue::CommandQueue;
use crate::config::ConnectXConfig;
use crate::dma::Dma;
use crate::hca::Hca;
use crate::registers::{Action, LOG_COMMANDS};
use devices::{Complaints, Interrupt};
use fabric::Requester;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Without an access for so long, nothing is under way.
const IDLE: Duration = Duration::from_millis(50);

/// Doorbells that were rung and not served yet.
#[derive(Default)]
struct Pending {
    /// The device was reset, and nothing of before holds.
    reset: bool,
    /// Where the command queue is and how to reach memory, when the driver begins.
    start: Option<(u64, Requester)>,
    /// A bit for each entry of the command queue.
    commands: u32,
    /// QPs with work.
    sends: BTreeSet<u32>,
    /// CQs that are armed: consumer, and whether for solicited completions only.
    cqs: BTreeMap<u32, (u32, bool)>,
    /// EQs: consumer, and whether they are armed.
    eqs: BTreeMap<u32, (u32, bool)>,
    /// Commands to be refused: opcode and how many.
    refuse: Option<(u16, u16)>,
    end: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        !self.reset
            && self.start.is_none()
            && self.commands == 0
            && self.sends.is_empty()
            && self.cqs.is_empty()
            && self.eqs.is_empty()
            && self.refuse.is_none()
            && !self.end
    }
}

const PANICKED: &str = "a user of the doorbells panicked";

#[derive(Default)]
struct Doorbells {
    pending: Mutex<Pending>,
    rung: Condvar,
}

impl Doorbells {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect(PANICKED)
    }

    /// Waits until a doorbell is rung, or `hca` has something to do.
    fn wait(&self, hca: Option<&Hca>) -> Pending {
        let pending = self.lock();
        let mut pending = match hca.map(|hca| (hca.is_busy(), hca.deadline())) {
            Some((true, _)) => pending,
            Some((false, Some(deadline))) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let waited = self
                    .rung
                    .wait_timeout_while(pending, left, |pending| pending.is_empty());
                waited.expect(PANICKED).0
            }
            _ => {
                let waited = self.rung.wait_while(pending, |pending| pending.is_empty());
                waited.expect(PANICKED)
            }
        };
        std::mem::take(&mut pending)
    }
}

/// The thread; it ends when this value is dropped.
pub struct Engine {
    doorbells: Arc<Doorbells>,
    /// Counts accesses to memory.
    sent: Arc<AtomicU64>,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    pub fn start(
        name: &str,
        config: ConnectXConfig,
        interrupt: Arc<Interrupt>,
        complaints: Complaints,
    ) -> io::Result<Self> {
        let doorbells = Arc::new(Doorbells::default());
        let sent = Arc::<AtomicU64>::default();
        let worker = thread::Builder::new()
            .name(format!("{name} engine"))
            .spawn({
                let (doorbells, sent) = (Arc::clone(&doorbells), Arc::clone(&sent));
                let name = name.to_owned();
                move || {
                    let _panic = complaints.of_panic();
                    work(&doorbells, &sent, &complaints, &name, config, &interrupt);
                }
            })?;
        Ok(Self {
            doorbells,
            sent,
            worker: Some(worker),
        })
    }

    /// Waits until memory was accessed so many times more; false if it is not for a while.
    pub fn wait_for_accesses(&self, number: u64) -> bool {
        let sent = || self.sent.load(Ordering::Relaxed);
        let end = sent().wrapping_add(number);
        let mut last = (sent(), Instant::now());
        while sent().wrapping_sub(end) > u64::MAX / 2 {
            if last.0 != sent() {
                last = (sent(), Instant::now());
            } else if last.1.elapsed() > IDLE {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    /// Something was pending; `requester` is what reaches memory until the next reset.
    pub fn ring(&self, action: Action, requester: impl FnOnce() -> Requester) {
        if action != Action::None {
            log::debug!("pending: {action:x?}");
        }
        let mut pending = self.doorbells.lock();
        match action {
            Action::None => return,
            Action::Begin(queue) => {
                *pending = Pending {
                    start: Some((queue, requester())),
                    end: pending.end,
                    ..Pending::default()
                }
            }
            Action::Commands(entries) => pending.commands |= entries,
            Action::Refuse { opcode, number } => pending.refuse = Some((opcode, number)),
            Action::Send(qp) => {
                pending.sends.insert(qp);
            }
            Action::Cq {
                number,
                consumer,
                solicited,
            } => {
                let before = pending
                    .cqs
                    .get(&number)
                    .is_none_or(|&(_, solicited)| solicited);
                pending.cqs.insert(number, (consumer, solicited && before));
            }
            Action::Eq {
                number,
                consumer,
                arm,
            } => {
                let before = pending.eqs.get(&number).is_some_and(|&(_, arm)| arm);
                pending.eqs.insert(number, (consumer, arm || before));
            }
        }
        drop(pending);
        self.doorbells.rung.notify_one();
    }

    /// The device is reset.
    pub fn reset(&self) {
        let mut pending = self.doorbells.lock();
        *pending = Pending {
            reset: true,
            ..Pending::default()
        };
        drop(pending);
        self.doorbells.rung.notify_one();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.doorbells.lock().end = true;
        self.doorbells.rung.notify_one();
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            log::error!("the engine panicked");
        }
    }
}

fn work(
    doorbells: &Doorbells,
    sent: &Arc<AtomicU64>,
    complaints: &Complaints,
    name: &str,
    config: ConnectXConfig,
    interrupt: &Arc<Interrupt>,
) {
    let mut hca: Option<Hca> = None;
    loop {
        let mut pending = doorbells.wait(hca.as_ref());
        if pending.end {
            return;
        }
        if pending.reset
            && let Some(hca) = hca.take()
        {
            log::debug!("{name}: reset with {}", hca.census());
        }
        if let Some((queue, requester)) = pending.start.take() {
            if let Some(hca) = hca.take().filter(|hca| !hca.is_empty()) {
                log::error!("{name}: the driver begins anew and leaves {}", hca.census());
            }
            let dma = Dma::new(
                requester,
                config.table,
                Arc::clone(sent),
                complaints.clone(),
            );
            hca = Some(Hca::new(
                config.profile,
                dma,
                CommandQueue::new(queue),
                Arc::clone(interrupt),
            ));
        }
        let Some(hca) = &mut hca else {
            pending.reset = false;
            if !pending.is_empty() {
                log::warn!("{name}: a doorbell before the first command");
            }
            continue;
        };
        serve(hca, &pending);
    }
}

/// Serves the doorbells: first those of what the driver has consumed, then the send queues, then
/// commands, which may destroy what the requests need. What fails does not keep the rest from being
/// done.
fn serve(hca: &mut Hca, pending: &Pending) {
    if let Some((opcode, number)) = pending.refuse {
        hca.refuse_commands(opcode, number);
    }
    for (&number, &(consumer, arm)) in &pending.eqs {
        hca.update_eq(number, consumer, arm);
    }
    for (&number, &(consumer, solicited)) in &pending.cqs {
        hca.arm_cq(number, consumer, solicited);
    }
    for &number in &pending.sends {
        hca.ring_send_doorbell(number);
    }
    hca.run_timers(Instant::now());
    hca.work();
    for entry in 0..1 << LOG_COMMANDS {
        if pending.commands >> entry & 1 != 0 {
            hca.command(entry);
        }
    }
}
