// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which queue pair's work is done when, and how a work request ends: with a completion, once more
//! later, or in the error state.

use super::Hca;
use super::outcome::Outcome;
use crate::cqe::{self, Opcode, Syndrome};
use crate::eq::EventType;
use crate::error::Error;
use crate::ifc::qpc;
use crate::owner::Owner;
use crate::qp::{Qp, Receive, Retry, SendWqe, State};
use crate::wqe::WorkRequest;
use std::time::{Duration, Instant};

/// How often a queue pair in the error state is polled for receive requests, which have no
/// doorbell: at first, and at last.
const POLL_FIRST: Duration = Duration::from_millis(1);
const POLL_LAST: Duration = Duration::from_millis(128);

/// The retry count that stands for "without end".
const FOREVER: u8 = 7;

impl Hca {
    /// The doorbell of a send queue was rung.
    pub fn ring_send_doorbell(&mut self, number: u32) {
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

    /// When there is something to do next without a doorbell.
    pub fn deadline(&self) -> Option<Instant> {
        let retries = self.retrying.iter().filter_map(|&number| {
            let qp = self.qps.get(number)?;
            Some(qp.retry?.at)
        });
        let polls = self.in_error.values().map(|&(at, _)| at);
        let moderated = self.moderated.iter();
        let moderated = moderated.filter_map(|&number| self.cqs.get(number)?.due());
        retries.chain(polls).chain(moderated).min()
    }

    /// Does what is due: events that waited, retries, polls.
    pub fn run_timers(&mut self, now: Instant) {
        for number in self.moderated.clone() {
            let notify = self.cqs.get_mut(number).is_some_and(|cq| cq.expire(now));
            self.update_moderation(number, notify);
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
                    self.in_error.insert(number, (now + POLL_FIRST, POLL_FIRST));
                }
                Ok(false) => {
                    if let Some((at, pause)) = self.in_error.get_mut(&number) {
                        *pause = (*pause * 2).min(POLL_LAST);
                        *at = now + *pause;
                    }
                }
                Err(error) => self.catastrophic_error(number, &error),
            }
        }
    }

    /// Executes one request of each send queue that has some.
    pub fn work(&mut self) {
        let now = Instant::now();
        for number in self.active.clone() {
            match self.step(number, now) {
                Ok(true) => {}
                Ok(false) => {
                    self.active.remove(&number);
                }
                Err(error) => self.catastrophic_error(number, &error),
            }
            self.apply_pending_errors();
        }
    }

    /// Where a request failed, the queue pairs enter the error state after its own completion: one
    /// of them may be that which it was posted to.
    fn apply_pending_errors(&mut self) {
        for number in std::mem::take(&mut self.pending_errors) {
            let lives = |qp: &Qp| qp.state != State::Error;
            if self.qps.get(number).is_some_and(lives)
                && let Err(error) = self.enter_error_state(number)
            {
                self.catastrophic_error(number, &error);
            }
        }
    }

    /// A queue pair whose own memory, or that of its completions, cannot be reached enters the
    /// error state without completions of its requests.
    pub(super) fn catastrophic_error(&mut self, number: u32, error: &Error) {
        log::error!("QP {number}, catastrophic error: {error}");
        self.active.remove(&number);
        self.retrying.remove(&number);
        self.in_error.remove(&number);
        if let Some(qp) = self.qps.get_mut(number) {
            qp.set_error();
        }
        self.report(EventType::WqCatastrophic, number);
    }

    /// Executes one request; says whether there may be another that can be executed.
    fn step(&mut self, number: u32, now: Instant) -> Result<bool, Error> {
        let Some(qp) = self.qps.get_mut(number) else {
            return Ok(false);
        };
        match qp.state {
            State::Rts => {}
            State::Error => {
                self.flush(number)?;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        if qp.retry.is_some_and(|retry| retry.at > now) {
            self.retrying.insert(number);
            return Ok(false);
        }
        let Some(wqe) = qp.next_send(&self.dma)? else {
            return Ok(false);
        };
        let (outcome, signalled) = match WorkRequest::parse(&wqe.bytes, qp.service.form()) {
            Ok(request) => {
                log::trace!("QP {number}: request {}: {request:x?}", wqe.index);
                (self.execute(number, &request), request.signalled)
            }
            Err(_) => (Outcome::Failed(Syndrome::LocalQpOperation), true),
        };
        log::debug!(
            "QP {number}: request {} of opcode {:#x}: {outcome:?}",
            wqe.index,
            wqe.control.opcode
        );
        // A request to itself may have lost it, and then nothing completes.
        if self.qps.get(number).is_none_or(|qp| qp.state != State::Rts) {
            return Ok(false);
        }
        match outcome {
            Outcome::Done(bytes) => {
                self.retire_send(number, &wqe);
                if signalled {
                    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                    let entry = cqe::requester(number, wqe.control.opcode, wqe.index, bytes);
                    self.complete_send(number, entry)?;
                }
                Ok(true)
            }
            Outcome::RnrNak { timer } => {
                if self.schedule_retry(number, now + timer) {
                    return Ok(false);
                }
                self.complete_in_error(number, &wqe, Syndrome::RnrRetryExceeded)?;
                Ok(false)
            }
            Outcome::Failed(why) => {
                self.complete_in_error(number, &wqe, why)?;
                Ok(false)
            }
        }
    }

    fn retire_send(&mut self, number: u32, wqe: &SendWqe) {
        if let Some(qp) = self.qps.get_mut(number) {
            qp.retire_send(wqe);
        }
    }

    /// Whether the request may be tried again, at `at`.
    fn schedule_retry(&mut self, number: u32, at: Instant) -> bool {
        let Some(qp) = self.qps.get_mut(number) else {
            return false;
        };
        let allowed = qpc::rnr_retry.get(&qp.context).to_le_bytes()[0];
        let left = match qp.retry {
            None => (allowed != FOREVER).then_some(allowed),
            Some(retry) => retry.left,
        };
        if left == Some(0) {
            return false;
        }
        let left = left.map(|left| left - 1);
        qp.retry = Some(Retry { at, left });
        self.retrying.insert(number);
        true
    }

    /// Completes a request with an error, upon which the queue pair enters the error state.
    fn complete_in_error(
        &mut self,
        number: u32,
        wqe: &SendWqe,
        why: Syndrome,
    ) -> Result<(), Error> {
        self.retire_send(number, wqe);
        let side = Opcode::RequesterError;
        let entry = cqe::error(side, number, wqe.control.opcode, wqe.index, why);
        self.complete_send(number, entry)?;
        self.enter_error_state(number)
    }

    /// A queue pair enters the error state: what was posted is flushed.
    pub(super) fn enter_error_state(&mut self, number: u32) -> Result<(), Error> {
        let Some(qp) = self.qps.get_mut(number) else {
            return Ok(());
        };
        qp.set_error();
        let shared = matches!(qp.receive, Receive::Shared(_));
        self.retrying.remove(&number);
        self.flush_from_now_on(number)?;
        if shared {
            // It consumes no more requests of the shared queue.
            self.report(EventType::LastWqe, number);
        }
        Ok(())
    }

    /// Flushes what was posted to a queue pair in the error state, and what will be.
    pub(super) fn flush_from_now_on(&mut self, number: u32) -> Result<(), Error> {
        self.flush(number)?;
        let next = Instant::now() + POLL_FIRST;
        self.in_error.insert(number, (next, POLL_FIRST));
        Ok(())
    }

    /// Flushes what was posted to a queue pair in the error state; says whether there was
    /// something.
    fn flush(&mut self, number: u32) -> Result<bool, Error> {
        let mut any = false;
        loop {
            match self.flush_next(number) {
                Ok(true) => any = true,
                // Without bus mastering it cannot look: what was posted is there at the next poll.
                Ok(false)
                | Err(Error::Dma {
                    owner: Owner::Qp(_),
                    source: fabric::Error::BusMasterOff,
                }) => return Ok(any),
                Err(error) => return Err(error),
            }
        }
    }

    /// Flushes the next request, if there is one.
    fn flush_next(&mut self, number: u32) -> Result<bool, Error> {
        let in_error = |qp: &&mut Qp| qp.state == State::Error;
        let Some(qp) = self.qps.get_mut(number).filter(in_error) else {
            self.in_error.remove(&number);
            return Ok(false);
        };
        if let Some(wqe) = qp.next_send(&self.dma)? {
            qp.retire_send(&wqe);
            let opcode = wqe.control.opcode;
            let side = Opcode::RequesterError;
            let entry = cqe::error(side, number, opcode, wqe.index, Syndrome::Flushed);
            self.complete_send(number, entry)?;
        } else if let Some((index, _)) = qp.consume_receive(&self.dma)? {
            let cqn = self.field(number, qpc::cqn_rcv);
            self.complete_receive_error(number, cqn, index, Syndrome::Flushed)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn complete_send(&mut self, number: u32, entry: cqe::Bytes) -> Result<(), Error> {
        let cqn = self.field(number, qpc::cqn_snd);
        self.post_completion(cqn, entry, false)
    }
}
