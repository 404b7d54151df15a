// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that the harness failed is tried once more.

use crate::error::{Cause, VmError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Does `attempt`, whose files go to `out`, and does it again if it fails for a [`Cause::Harness`].
/// Before that, what it left is set aside, and `again` gets the error and where that is: whatever the
/// attempt found is void.
pub fn twice<T>(
    out: &Path,
    mut attempt: impl FnMut() -> Result<T, VmError>,
    again: impl FnOnce(&VmError, &Path),
) -> Result<T, VmError> {
    let aside = set_aside_as(out);
    let failed = |error| VmError::io(format!("set {} aside", out.display()), error);
    absent(fs::remove_dir_all(&aside)).map_err(failed)?;
    match attempt() {
        Err(error) if error.cause() == Cause::Harness => {
            absent(fs::rename(out, &aside)).map_err(failed)?;
            again(&error, &aside);
            attempt()
        }
        ended => ended,
    }
}

/// Where the files of an attempt are that used `out` and is void.
fn set_aside_as(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".void");
    out.with_file_name(name)
}

/// What is not there need not be moved.
fn absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Tries what ends in these ways, leaving its number in `out`; returns the end, and what was set aside.
    fn attempts(
        ends: impl IntoIterator<Item = Result<u8, VmError>>,
        out: &Path,
    ) -> (Result<u8, VmError>, Vec<String>, usize) {
        let mut ends = VecDeque::from_iter(ends);
        let (mut number, mut void) = (0, vec![]);
        let end = twice(
            out,
            || {
                number += 1;
                fs::create_dir_all(out).unwrap();
                fs::write(out.join("number"), number.to_string()).unwrap();
                ends.pop_front().unwrap()
            },
            |error, aside| {
                let left = fs::read_to_string(aside.join("number")).unwrap();
                void.push(format!("{left}: {error}"));
            },
        );
        (end, void, number)
    }

    #[test]
    fn only_a_failure_of_the_harness_is_tried_again_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let harness = || Err(VmError::MemoryNotShared);
        let fault = || Err(VmError::DevicesNotKilled("now"));

        let (end, void, number) = attempts([Ok(3)], &out);
        assert!(matches!(end, Ok(3)) && void.is_empty() && number == 1);

        let (end, void, _) = attempts([harness(), Ok(3)], &out);
        assert!(matches!(end, Ok(3)));
        assert!(void[0].starts_with("1: the guest's memory"), "{void:?}");
        assert_eq!(fs::read_to_string(out.join("number")).unwrap(), "2");
        assert!(dir.path().join("out.void").exists());

        let (end, void, number) = attempts([harness(), harness()], &out);
        assert!(matches!(end, Err(VmError::MemoryNotShared)) && number == 2);
        assert_eq!(void.len(), 1);

        for error in [fault(), Err(VmError::Interrupted("SIGTERM"))] {
            let (end, void, number) = attempts([error], &out);
            assert!(end.is_err() && void.is_empty() && number == 1);
        }
        assert!(
            !dir.path().join("out.void").exists(),
            "an older one is gone"
        );
    }

    #[test]
    fn an_attempt_without_files_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut number = 0;
        let end: Result<(), VmError> = twice(
            &dir.path().join("never made"),
            || {
                number += 1;
                Err(VmError::MemoryNotShared)
            },
            |_, _| {},
        );
        assert!(matches!(end, Err(VmError::MemoryNotShared)) && number == 2);
    }
}
