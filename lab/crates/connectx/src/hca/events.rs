// SPDX-License-Identifier: MIT OR Apache-2.0
//! Completions and events, and the doorbells by which the driver consumes and arms them.

use super::Hca;
use crate::cq::Notification;
use crate::cqe::Bytes;
use crate::eq::EventType;
use crate::error::Error;
use crate::wire::cqe;
use std::time::Instant;

impl Hca {
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
        let notify = cq.arm(consumer, solicited, Instant::now());
        self.update_moderation(number, notify);
    }

    pub(super) fn eq_for(&self, kind: EventType) -> Option<u32> {
        self.eqs
            .iter()
            .find_map(|(number, eq)| eq.wants(kind).then_some(number))
    }

    /// Posts an event to an EQ. One that cannot be written there is lost.
    pub(super) fn post_event(&mut self, number: u32, kind: EventType, data: &[u8]) {
        let Some(eq) = self.eqs.get_mut(number) else {
            self.dma.complaints.add(format!(
                "an event {kind:?} for EQ {number}, which there is none"
            ));
            return;
        };
        if let Err(error) = eq.post(&self.dma, &self.interrupt, kind, data) {
            log::error!("an event {kind:?} is lost: {error}");
        }
    }

    /// Posts an event about an object, if there is an event queue for its type.
    pub(super) fn report(&mut self, kind: EventType, number: u32) {
        if let Some(eq) = self.eq_for(kind) {
            self.post_event(eq, kind, &event_data(kind, number));
        }
    }

    /// Posts a completion to a CQ, and the event that it causes.
    pub(super) fn post_completion(
        &mut self,
        number: u32,
        entry: Bytes,
        solicited: bool,
    ) -> Result<(), Error> {
        let Some(cq) = self.cqs.get_mut(number) else {
            self.dma
                .complaints
                .add(format!("a completion for CQ {number}, which there is none"));
            return Ok(());
        };
        log::debug!("CQ {number}: {}", cqe::LAYOUT.show(&entry));
        match cq.post(&self.dma, entry, solicited, Instant::now())? {
            Notification::None => self.update_moderation(number, false),
            Notification::Event => self.update_moderation(number, true),
            Notification::Overrun => self.report(EventType::CqError, number),
        }
        Ok(())
    }

    pub(super) fn update_moderation(&mut self, number: u32, notify: bool) {
        let Some(cq) = self.cqs.get(number) else {
            self.moderated.remove(&number);
            return;
        };
        if cq.due().is_some() {
            self.moderated.insert(number);
        } else {
            self.moderated.remove(&number);
        }
        if notify {
            let eq = cq.eq();
            self.post_event(
                eq,
                EventType::Completion,
                &event_data(EventType::Completion, number),
            );
        }
    }
}

/// Data of an event about an object: where its number is depends on the kind.
fn event_data(kind: EventType, number: u32) -> [u8; 28] {
    let at = match kind {
        EventType::CqError => 0,
        _ => 24,
    };
    let mut data = [0; 28];
    data[at..at + 4].copy_from_slice(&number.to_be_bytes());
    if kind == EventType::CqError {
        data[11] = CQ_OVERRUN;
    }
    data
}

/// Syndrome of a CQ error.
const CQ_OVERRUN: u8 = 1;
