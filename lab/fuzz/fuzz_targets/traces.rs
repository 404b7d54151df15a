// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are read as traces, and finished.
#![no_main]

use fabric::trace::{Reader, finish};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use tempfile::NamedTempFile;

fuzz_target!(|bytes: &[u8]| {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    for _ in 0..2 {
        if let Ok(reader) = Reader::open(file.path()) {
            for record in reader.map_while(Result::ok) {
                let _ = record.to_string();
            }
        }
        // It may be damaged.
        let _ = finish(file.path());
    }
});
