// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the driver hears of things: completions, and events.

use super::Hca;
use crate::cq::Told;
use crate::cqe::Bytes;
use crate::eq::Kind;
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
        let tell = cq.arm(consumer, solicited, Instant::now());
        self.after_look_at_cq(number, tell);
    }

    pub(super) fn events_for(&self, kind: Kind) -> Option<u32> {
        self.eqs
            .iter()
            .find_map(|(number, eq)| eq.wants(kind).then_some(number))
    }

    /// Puts an event into an EQ. Nobody hears of one that cannot be put there.
    pub(super) fn post(&mut self, number: u32, kind: Kind, data: &[u8]) {
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

    /// Tells of an object, if an event queue wants such events.
    pub(super) fn tell(&mut self, kind: Kind, number: u32) {
        if let Some(eq) = self.events_for(kind) {
            self.post(eq, kind, &about(kind, number));
        }
    }

    /// Puts a completion into a CQ, and tells of it if it is to be told.
    pub(super) fn complete(
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
            Told::Quietly => self.after_look_at_cq(number, false),
            Told::Event => self.after_look_at_cq(number, true),
            Told::Overrun => self.tell(Kind::CqError, number),
        }
        Ok(())
    }

    pub(super) fn after_look_at_cq(&mut self, number: u32, tell: bool) {
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
