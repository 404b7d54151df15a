// SPDX-License-Identifier: GPL-2.0
//! The kernel log.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// What the kernel says from some moment on.
pub struct Log {
    file: File,
}

impl Log {
    /// What it says from now on.
    pub fn from_now() -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file })
    }

    /// The messages so far, with their prefixes.
    pub fn messages(mut self) -> io::Result<Vec<String>> {
        let mut messages = Vec::new();
        // One read returns one message.
        let mut message = [0; 8192];
        loop {
            match self.file.read(&mut message) {
                Ok(len) => messages.push(String::from_utf8_lossy(&message[..len]).into_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asserts that one message so far contains all of `parts`.
    ///
    /// # Panics
    ///
    /// If none does.
    #[track_caller]
    pub fn assert_says(self, parts: &[&str]) {
        let messages = self.messages().unwrap();
        let is_it = |message: &String| parts.iter().all(|part| message.contains(part));
        assert!(messages.iter().any(is_it), "{parts:?} not in {messages:?}");
    }
}
