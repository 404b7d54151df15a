// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hints that depend on a function's TPH requester capability at the moment of sending.

use tlp::{Hint, Ph, SteeringTag};

/// What a function's TPH requester capability says now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// The namespace that TPH Requester Enable selects; without one no request carries a hint.
    pub namespace: Option<Namespace>,
    /// The ST table; none if the tags are the device's own.
    pub table: Option<Vec<u16>>,
}

/// Namespaces of steering tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// 8 bits.
    St,
    /// 16 bits: Extended TPH.
    Ext,
}

impl Steering {
    fn steer(&self, ph: Ph, index: u8) -> Option<Hint> {
        let tag = match (&self.table, index) {
            (_, 0) => 0,
            (Some(table), index) => table.get(usize::from(index)).copied()?,
            (None, tag) => tag.into(),
        };
        let tag = match self.namespace? {
            Namespace::St => SteeringTag::St(tag.to_le_bytes()[0]),
            Namespace::Ext => SteeringTag::Ext(tag),
        };
        Some(Hint { ph, tag })
    }
}

/// The hint that a request is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None.
    Nothing,
    /// This one.
    Hint(Hint),
    /// What the [`Steering`] of the port makes of it when the request is sent: an entry of the ST
    /// table or, without a table, the tag itself; 0 stands for tag 0. An index beyond the table gives
    /// no hint.
    Steered {
        /// How the data is about to be used.
        ph: Ph,
        /// Index of the entry, or the tag.
        index: u8,
    },
}

impl Want {
    /// The hint that leaves a port with this `steering`.
    pub(crate) fn on(self, steering: &Steering) -> Option<Hint> {
        match self {
            Self::Nothing => None,
            Self::Hint(hint) => Some(hint),
            Self::Steered { ph, index } => steering.steer(ph, index),
        }
    }
}

impl From<Option<Hint>> for Want {
    fn from(hint: Option<Hint>) -> Self {
        hint.map_or(Self::Nothing, Self::Hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PH: Ph = Ph::Target;

    fn tag(steering: &Steering, index: u8) -> Option<SteeringTag> {
        let hint = Want::Steered { ph: PH, index }.on(steering)?;
        assert_eq!(hint.ph, PH);
        Some(hint.tag)
    }

    #[test]
    fn an_index_selects_an_entry() {
        let mut steering = Steering {
            namespace: Some(Namespace::Ext),
            table: Some(vec![0xffff, 0xbef0]),
        };
        assert_eq!(tag(&steering, 1), Some(SteeringTag::Ext(0xbef0)));
        assert_eq!(
            tag(&steering, 0),
            Some(SteeringTag::Ext(0)),
            "entry 0 is none"
        );
        assert_eq!(tag(&steering, 2), None, "beyond the table");
        steering.namespace = Some(Namespace::St);
        assert_eq!(tag(&steering, 1), Some(SteeringTag::St(0xf0)));
        steering.namespace = None;
        assert_eq!(tag(&steering, 1), None);
        assert_eq!(tag(&steering, 0), None);
    }

    #[test]
    fn without_a_table_the_index_is_the_tag() {
        let steering = Steering {
            namespace: Some(Namespace::Ext),
            table: None,
        };
        assert_eq!(tag(&steering, 0xf0), Some(SteeringTag::Ext(0xf0)));
        assert_eq!(tag(&steering, 0), Some(SteeringTag::Ext(0)));
    }
}
