// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device's own thread, because DMA must not be done in a region callback.
//!
//! What is rung is kept, not queued: twice the same is once, so that a driver that rings faster than
//! the device works costs no memory.

use crate::capabilities::Profile;
use crate::complaints::Complaints;
use crate::dma::Dma;
use crate::hca::Hca;
use crate::queue::Queue;
use crate::registers::{Action, LOG_COMMANDS};
use devices::Interrupt;
use fabric::Requester;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Without an access for so long, nothing is under way.
const IDLE: Duration = Duration::from_millis(50);

/// What has been rung and not been looked at.
#[derive(Default)]
struct Rung {
    /// The device was reset, and nothing of before holds.
    reset: bool,
    /// Where the command queue is and how to reach memory, when the driver begins.
    start: Option<(u64, Requester)>,
    commands: u32,
    sends: BTreeSet<u32>,
    cqs: BTreeMap<u32, (u32, bool)>,
    eqs: BTreeMap<u32, (u32, bool)>,
    /// Commands to be refused: opcode and how many.
    refuse: Option<(u16, u16)>,
    end: bool,
}

impl Rung {
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

const PANICKED: &str = "a user of the bell panicked";

#[derive(Default)]
struct Bell {
    rung: Mutex<Rung>,
    woken: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().expect(PANICKED)
    }

    /// Waits until something is rung, or `hca` has something to do.
    fn wait(&self, hca: Option<&Hca>) -> Rung {
        let rung = self.lock();
        let mut rung = match hca.map(|hca| (hca.is_busy(), hca.deadline())) {
            Some((true, _)) => rung,
            Some((false, Some(deadline))) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let waited = self
                    .woken
                    .wait_timeout_while(rung, left, |rung| rung.is_empty());
                waited.expect(PANICKED).0
            }
            _ => {
                let waited = self.woken.wait_while(rung, |rung| rung.is_empty());
                waited.expect(PANICKED)
            }
        };
        std::mem::take(&mut rung)
    }
}

/// The thread; it ends when this value is dropped.
pub struct Engine {
    bell: Arc<Bell>,
    /// Counts accesses to memory.
    sent: Arc<AtomicU64>,
    complaints: Complaints,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    pub fn start(name: &str, profile: Profile, interrupt: Arc<Interrupt>) -> io::Result<Self> {
        let bell = Arc::new(Bell::default());
        let sent = Arc::<AtomicU64>::default();
        let complaints = Complaints::default();
        let worker = thread::Builder::new()
            .name(format!("{name} engine"))
            .spawn({
                let (bell, sent) = (Arc::clone(&bell), Arc::clone(&sent));
                let complaints = complaints.clone();
                let name = name.to_owned();
                move || work(&bell, &sent, &complaints, &name, profile, &interrupt)
            })?;
        Ok(Self {
            bell,
            sent,
            complaints,
            worker: Some(worker),
        })
    }

    /// What has happened that must not.
    pub fn complaint(&self) -> Option<String> {
        let panicked = self.worker.as_ref().is_some_and(JoinHandle::is_finished);
        let panicked = panicked.then(|| "the engine panicked".to_owned());
        panicked.or_else(|| self.complaints.first())
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

    /// Something was rung; `requester` is what reaches memory until the next reset.
    pub fn ring(&self, action: Action, requester: impl FnOnce() -> Requester) {
        if action != Action::None {
            log::debug!("rung: {action:x?}");
        }
        let mut rung = self.bell.lock();
        match action {
            Action::None => return,
            Action::Begin(queue) => {
                *rung = Rung {
                    start: Some((queue, requester())),
                    end: rung.end,
                    ..Rung::default()
                }
            }
            Action::Commands(entries) => rung.commands |= entries,
            Action::Refuse { opcode, number } => rung.refuse = Some((opcode, number)),
            Action::Send(qp) => {
                rung.sends.insert(qp);
            }
            Action::Cq {
                number,
                consumer,
                solicited,
            } => {
                let before = rung
                    .cqs
                    .get(&number)
                    .is_none_or(|&(_, solicited)| solicited);
                rung.cqs.insert(number, (consumer, solicited && before));
            }
            Action::Eq {
                number,
                consumer,
                arm,
            } => {
                let before = rung.eqs.get(&number).is_some_and(|&(_, arm)| arm);
                rung.eqs.insert(number, (consumer, arm || before));
            }
        }
        drop(rung);
        self.bell.woken.notify_one();
    }

    /// The device is reset.
    pub fn reset(&self) {
        let mut rung = self.bell.lock();
        *rung = Rung {
            reset: true,
            ..Rung::default()
        };
        drop(rung);
        self.bell.woken.notify_one();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.bell.lock().end = true;
        self.bell.woken.notify_one();
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            log::error!("the engine panicked");
        }
    }
}

fn work(
    bell: &Bell,
    sent: &Arc<AtomicU64>,
    complaints: &Complaints,
    name: &str,
    profile: Profile,
    interrupt: &Arc<Interrupt>,
) {
    let mut hca: Option<Hca> = None;
    loop {
        let mut rung = bell.wait(hca.as_ref());
        if rung.end {
            return;
        }
        if rung.reset
            && let Some(hca) = hca.take()
        {
            log::debug!("{name}: reset with {}", hca.census());
        }
        if let Some((queue, requester)) = rung.start.take() {
            if let Some(hca) = hca.take().filter(|hca| !hca.is_empty()) {
                log::error!("{name}: the driver begins anew and leaves {}", hca.census());
            }
            let dma = Dma::new(requester, Arc::clone(sent), complaints.clone());
            hca = Some(Hca::new(
                profile,
                dma,
                Queue::new(queue),
                Arc::clone(interrupt),
            ));
        }
        let Some(hca) = &mut hca else {
            rung.reset = false;
            if !rung.is_empty() {
                log::warn!("{name}: a doorbell before the first command");
            }
            continue;
        };
        serve(hca, &rung);
    }
}

/// Looks at everything that was rung: what the driver has taken first, then work, then commands,
/// which may end what the work needs. What fails does not keep the rest from being done.
fn serve(hca: &mut Hca, rung: &Rung) {
    if let Some((opcode, number)) = rung.refuse {
        hca.refuse_commands(opcode, number);
    }
    for (&number, &(consumer, arm)) in &rung.eqs {
        hca.update_eq(number, consumer, arm);
    }
    for (&number, &(consumer, solicited)) in &rung.cqs {
        hca.arm_cq(number, consumer, solicited);
    }
    for &number in &rung.sends {
        hca.send(number);
    }
    hca.expire(Instant::now());
    hca.work();
    for entry in 0..1 << LOG_COMMANDS {
        if rung.commands >> entry & 1 != 0 {
            hca.command(entry);
        }
    }
}
