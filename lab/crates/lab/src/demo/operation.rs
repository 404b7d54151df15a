// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the accelerator does with a hint: its documented map of operations.

use devices::accelerator::{Operation, Steering};
use tlp::Hint;

/// The operation that a write with this hint performs on each dword of memory.
pub fn operation(hint: Option<Hint>) -> Operation {
    hint.map_or(Operation::Store, |hint| Steering::from(hint.tag).operation)
}

/// An operation's name.
pub fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Store => "store",
        Operation::Add => "add",
        Operation::Xor => "exclusive or",
        Operation::Min => "minimum",
        Operation::Max => "maximum",
        Operation::And => "and",
        Operation::Or => "or",
    }
}

/// The same in words, with the cache partition that the tag selects.
pub fn selected(hint: Option<Hint>) -> String {
    match hint.map(|hint| Steering::from(hint.tag)) {
        None => "store, in no cache partition".into(),
        Some(steering) => format!(
            "{}, in cache partition {}",
            name(steering.operation),
            steering.partition
        ),
    }
}
