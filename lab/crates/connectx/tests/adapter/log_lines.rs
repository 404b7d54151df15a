// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the model logs, for tests that want to see it.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::sync::{Mutex, Once};

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(vec![]));

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What is said rarely.
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// From here on lines are kept. All tests of this binary share them.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
}

/// The first line that contains all of `words`.
pub fn find(words: &[&str]) -> Option<String> {
    let lines = LINES.0.lock().unwrap();
    let all = |line: &&String| words.iter().all(|word| line.contains(word));
    lines.iter().find(all).cloned()
}
