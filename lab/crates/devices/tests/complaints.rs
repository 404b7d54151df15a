// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must never happen ends the run at once, whatever the clients do.

mod common;

use common::hierarchy;
use devices::{
    Complaints, CompleterType, Context, Device, Error, InitiatorConfig, Model, Parts, Slot,
};
use std::{error, thread};
use tlp::Mode;
use vfio_user::Client;

/// A device that does not work: a write to its BAR is something that must not happen.
#[derive(Debug)]
struct Broken;

struct BrokenModel(Complaints);

impl Device for Broken {
    fn build(&self, slot: &Slot<'_>) -> Result<Parts, Box<dyn error::Error + Send + Sync>> {
        Ok(Parts {
            model: Box::new(BrokenModel(slot.complaints.clone())),
            ..InitiatorConfig::Tph.build(slot)?
        })
    }
}

impl Model for BrokenModel {
    fn bar_read(&mut self, _bar: usize, _offset: u64, _data: &mut [u8]) {
        panic!("this is not modelled");
    }

    fn bar_write(&mut self, _context: &Context<'_>, _bar: usize, _offset: u64, _data: &[u8]) {
        let complaints = self.0.clone();
        let engine = thread::spawn(move || complaints.add("nobody wrote this".into()));
        engine.join().unwrap();
    }

    fn reset(&mut self) {
        let held = self.0.of_panic();
        let engine = thread::Builder::new().name("engine".into());
        let engine = engine.spawn(move || {
            let _held = held;
            panic!("this is not modelled");
        });
        engine.unwrap().join().unwrap_err();
    }
}

/// Both clients of a hierarchy whose first endpoint is broken, and how waiting for them ends when
/// `act` was done to it.
fn end_after(act: impl FnOnce(&mut Client)) -> (Error, [Client; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let mut hierarchy = hierarchy(dir.path(), Mode::Flit, CompleterType::Tph);
    hierarchy.endpoints[0].device = Box::new(Broken);
    let running = devices::serve(&hierarchy).unwrap();
    let [mut broken, other] =
        [0, 1].map(|endpoint| Client::new(&hierarchy.endpoints[endpoint].socket).unwrap());
    act(&mut broken);
    (running.wait().unwrap_err(), [broken, other])
}

#[test]
fn a_complaint_is_not_kept_until_the_clients_have_gone() {
    let (error, _clients) = end_after(|broken| broken.region_write(0, 0, &[0; 4]).unwrap());
    assert!(matches!(error, Error::Complaint { .. }), "{error}");
    assert_eq!(error.to_string(), "endpoint initiator: nobody wrote this");
}

#[test]
fn a_panic_is_not_kept_until_the_other_clients_have_gone() {
    let (error, _clients) = end_after(|broken| {
        broken.region_read(0, 0, &mut [0; 4]).unwrap_err();
    });
    assert!(
        matches!(&error, Error::Panicked(name) if name == "initiator"),
        "{error}"
    );
}

#[test]
fn a_panic_is_an_error_though_the_client_has_gone() {
    for endpoints in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut hierarchy = hierarchy(dir.path(), Mode::Flit, CompleterType::Tph);
        hierarchy.endpoints[0].device = Box::new(Broken);
        hierarchy.endpoints.truncate(endpoints);
        let running = devices::serve(&hierarchy).unwrap();
        drop(Client::new(&hierarchy.endpoints[0].socket).unwrap());
        let error = running.wait().unwrap_err();
        let said = "endpoint initiator: the thread engine panicked";
        assert_eq!(error.to_string(), said);
    }
}
