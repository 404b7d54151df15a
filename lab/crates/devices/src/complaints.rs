// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must never happen: the model, or the driver that uses it, is wrong.

use std::{
    sync::mpsc::{Sender, channel},
    thread,
};

/// What the threads of the endpoints tell whoever waits for them, with the endpoint's number.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Something has happened that must not.
    Complaint(usize, String),
    /// A thread of its device has panicked, as this says: an error at any time.
    Panic(usize, String),
    /// Its client has gone; what is complained of from now on comes of that.
    Left(usize),
}

/// Takes a device's complaints: a run that has one has failed, and ends at once.
#[derive(Clone, Debug)]
pub struct Complaints {
    endpoint: usize,
    to: Sender<News>,
}

impl Complaints {
    /// Those of the endpoint with this number.
    pub(crate) fn new(endpoint: usize, to: Sender<News>) -> Self {
        Self { endpoint, to }
    }

    /// Something has happened that must not.
    pub fn add(&self, what: String) {
        self.send(what, News::Complaint);
    }

    fn send(&self, what: String, news: impl FnOnce(usize, String) -> News) {
        log::error!("{what}");
        // Nobody listens any more when the run has ended.
        let _ = self.to.send(news(self.endpoint, what));
    }

    /// To be held by a thread of the device: complains if that panics.
    #[must_use]
    pub fn of_panic(&self) -> OfPanic {
        OfPanic(self.clone())
    }
}

impl Default for Complaints {
    /// For a device that is not served: its complaints are logged only.
    fn default() -> Self {
        Self::new(0, channel().0)
    }
}

/// See [`Complaints::of_panic`].
#[derive(Debug)]
pub struct OfPanic(Complaints);

impl Drop for OfPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current();
            let name = thread.name().unwrap_or("without a name").to_owned();
            let what = format!("the thread {name} panicked");
            self.0.send(what, News::Panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_at_once() {
        let (to, news) = channel();
        Complaints::new(3, to).add("one".into());
        assert_eq!(news.recv().unwrap(), News::Complaint(3, "one".into()));
        Complaints::default().add("nobody hears it".into());
    }

    #[test]
    fn a_thread_complains_if_it_panics() {
        let (to, news) = channel();
        let complaints = Complaints::new(0, to);
        for panics in [false, true] {
            let held = complaints.of_panic();
            let engine = thread::Builder::new().name("an engine".into());
            let engine = engine.spawn(move || {
                let _held = held;
                assert!(!panics, "it was to panic");
            });
            assert_eq!(engine.unwrap().join().is_err(), panics);
        }
        drop(complaints);
        let said = News::Panic(0, "the thread an engine panicked".into());
        assert_eq!(news.iter().collect::<Vec<_>>(), [said]);
    }
}
