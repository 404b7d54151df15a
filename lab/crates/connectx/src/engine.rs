// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device's own thread, because DMA must not be done in a region callback.
//!
//! Doorbells are kept, not queued: one that is rung twice is kept once, and one is kept only for a
//! number that an object can have. So a driver that rings faster than the device works costs no
//! more memory than one doorbell for each of them.

use crate::command_queue::CommandQueue;
use crate::config::ConnectXConfig;
use crate::dma::Dma;
use crate::hca::Hca;
use crate::registers::{Action, LOG_COMMANDS};
use devices::{Complaints, Interrupt};
use fabric::Requester;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the thread looks for the next doorbell, after it has worked, before it sleeps: a driver
/// that waits for a completion rings again at once, and to wake the thread takes longer than its
/// work.
const SPIN: Duration = Duration::from_micros(50);

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

    fn add(&mut self, action: Action, requester: impl FnOnce() -> Requester) {
        match action {
            Action::None => {}
            Action::Begin(queue) => {
                *self = Self {
                    reset: self.reset,
                    start: Some((queue, requester())),
                    end: self.end,
                    ..Self::default()
                }
            }
            Action::Commands(entries) => self.commands |= entries,
            Action::Refuse { opcode, number } => self.refuse = Some((opcode, number)),
            Action::Send(qp) => {
                self.sends.insert(qp);
            }
            Action::Cq {
                number,
                consumer,
                solicited,
            } => {
                let before = self
                    .cqs
                    .get(&number)
                    .is_none_or(|&(_, solicited)| solicited);
                self.cqs.insert(number, (consumer, solicited && before));
            }
            Action::Eq {
                number,
                consumer,
                arm,
            } => {
                let before = self.eqs.get(&number).is_some_and(|&(_, arm)| arm);
                self.eqs.insert(number, (consumer, arm || before));
            }
        }
    }
}

const PANICKED: &str = "a user of the doorbells panicked";

#[derive(Default)]
struct Doorbells {
    kept: Mutex<Kept>,
    /// Whether there may be something in [`Kept::pending`], for who looks without the lock.
    any: AtomicBool,
    rung: Condvar,
}

#[derive(Default)]
struct Kept {
    pending: Pending,
    /// The thread sleeps, and must be woken.
    asleep: bool,
}

impl Doorbells {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect(PANICKED)
    }

    /// Changes what is pending, and has the thread look at it.
    fn ring(&self, change: impl FnOnce(&mut Pending)) {
        let mut kept = self.lock();
        change(&mut kept.pending);
        self.any.store(true, Ordering::Release);
        let asleep = kept.asleep;
        drop(kept);
        if asleep {
            self.rung.notify_one();
        }
    }

    /// Waits until a doorbell is rung, or `hca` has something to do; sleeps only after `awake`.
    fn wait(&self, hca: Option<&Hca>, awake: Instant) -> Pending {
        if hca.is_some_and(Hca::is_busy) {
            return self.look();
        }
        let deadline = hca.and_then(Hca::deadline);
        let end = deadline.map_or(awake, |deadline| deadline.min(awake));
        while !self.any.load(Ordering::Acquire) {
            if Instant::now() >= end {
                return self.sleep(deadline);
            }
            // Whoever is to ring may need this processor.
            thread::yield_now();
        }
        self.look()
    }

    /// Sleeps until a doorbell is rung, or `deadline`.
    fn sleep(&self, deadline: Option<Instant>) -> Pending {
        let mut kept = self.lock();
        kept.asleep = true;
        let nothing = |kept: &mut Kept| kept.pending.is_empty();
        let mut kept = match deadline {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let slept = self.rung.wait_timeout_while(kept, left, nothing);
                slept.expect(PANICKED).0
            }
            None => self.rung.wait_while(kept, nothing).expect(PANICKED),
        };
        kept.asleep = false;
        self.take(kept)
    }

    /// What is pending now.
    fn look(&self) -> Pending {
        self.take(self.lock())
    }

    fn take(&self, mut kept: MutexGuard<'_, Kept>) -> Pending {
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut kept.pending)
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
        if action == Action::None {
            return;
        }
        log::debug!("pending: {action:x?}");
        self.doorbells
            .ring(|pending| pending.add(action, requester));
    }

    /// The device is reset.
    pub fn reset(&self) {
        self.doorbells.ring(|pending| {
            *pending = Pending {
                reset: true,
                end: pending.end,
                ..Pending::default()
            }
        });
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.doorbells.ring(|pending| pending.end = true);
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
    // Until when the next doorbell is expected soon.
    let mut awake = Instant::now();
    loop {
        let mut pending = doorbells.wait(hca.as_ref(), awake);
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
        let worked = hca.is_busy() || !pending.is_empty();
        serve(hca, &pending);
        if worked {
            awake = Instant::now() + SPIN;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Who waits, sleeping only after `awake`, gets the doorbell that is rung as soon as it does
    /// sleep, or does not sleep for a while.
    fn wait_and_ring(awake: Duration, sleeps: bool) {
        let doorbells = Doorbells::default();
        thread::scope(|scope| {
            let waits = scope.spawn(|| doorbells.wait(None, Instant::now() + awake));
            let end = Instant::now() + IDLE;
            let asleep = || doorbells.lock().asleep;
            while if sleeps {
                !asleep()
            } else {
                Instant::now() < end
            } {
                assert!(sleeps || !asleep());
                thread::yield_now();
            }
            doorbells.ring(|pending| pending.add(Action::Send(7), || unreachable!()));
            let pending = waits.join().unwrap();
            assert_eq!(pending.sends, BTreeSet::from([7]));
        });
        assert!(doorbells.look().is_empty(), "it was taken");
    }

    #[test]
    fn who_begins_after_a_reset_has_been_reset() {
        let fabric = fabric::Fabric::new(tlp::Mode::Flit, fabric::trace::Tap::discard());
        let id = tlp::Bdf::new(0, 1, 0);
        let port = fabric.attach("adapter", id, None).unwrap();
        for reset in [false, true] {
            let mut pending = Pending {
                reset,
                commands: 1,
                ..Pending::default()
            };
            pending.add(Action::Begin(0x1000), || port.requester(id));
            assert_eq!(pending.reset, reset);
            assert!(matches!(pending.start, Some((0x1000, _))));
            assert_eq!(pending.commands, 0, "of before");
        }
    }

    #[test]
    fn a_doorbell_wakes_who_sleeps() {
        wait_and_ring(Duration::ZERO, true);
        wait_and_ring(SPIN, true);
    }

    #[test]
    fn a_doorbell_is_seen_without_sleep() {
        wait_and_ring(Duration::from_secs(3600), false);
    }

    #[test]
    fn waiting_ends_with_what_was_rung_before() {
        let doorbells = Doorbells::default();
        doorbells.ring(|pending| pending.commands = 5);
        assert_eq!(doorbells.wait(None, Instant::now()).commands, 5);
    }
}
