// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must never happen: the model, or the driver that uses it, is wrong.

use std::sync::{Arc, Mutex, PoisonError};

/// Takes complaints, and keeps the first: a run that has one has failed.
#[derive(Clone, Debug, Default)]
pub struct Complaints(Arc<Mutex<Option<String>>>);

impl Complaints {
    /// Something has happened that must not.
    pub fn add(&self, what: String) {
        log::error!("{what}");
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(what);
    }

    /// The first one.
    pub fn first(&self) -> Option<String> {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_kept() {
        let complaints = Complaints::default();
        assert_eq!(complaints.first(), None);
        complaints.clone().add("one".into());
        complaints.add("two".into());
        assert_eq!(complaints.first().as_deref(), Some("one"));
    }
}
