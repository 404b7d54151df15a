// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest finds counts only if it could be run.

use super::error::CheckError;
use super::parts::Results;
use report::style::relative;
use std::path::Path;
use vm::VmError;
use vm::results::Event;

/// Runs a guest, whose files go to `out`, and reports what it finds. An attempt that the harness
/// failed is void, with all that it found: it is said and made once more. If that fails, too, the
/// part could not be run.
///
/// `run` makes a result of whatever is one, also of an error.
pub fn attempt(
    out: &Path,
    results: &mut Results,
    mut run: impl FnMut(&mut Vec<Event>) -> Result<(), VmError>,
) -> Result<(), CheckError> {
    let mut found = Vec::new();
    let ended = vm::twice(
        out,
        || {
            found.clear();
            run(&mut found)
        },
        |error, aside| results.started_twice(&void(error, out, aside)),
    );
    let stopped = match ended {
        Ok(()) => Ok(()),
        Err(VmError::Interrupted(signal)) => Err(CheckError::Interrupted(signal)),
        Err(error) => {
            results.not_run(relative(&error.to_string()));
            return Ok(());
        }
    };
    for event in found {
        results.event(event);
    }
    stopped
}

/// What is said of an attempt that used `out`, and whose files are in `aside` now.
pub(crate) fn void(error: &VmError, out: &Path, aside: &Path) -> String {
    let [out, aside] = [out, aside].map(|path| path.display().to_string());
    let error = error.to_string().replace(&out, &aside);
    relative(&format!(
        "no result, the guest is started once more: {error}\nthe files of this attempt are in {aside}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::parts::{self, Part};
    use report::Report;
    use report::style::Style;
    use std::num::NonZeroUsize;
    use vm::results::Case;
    use vm::signals::Interrupt;

    /// What is reported of a part whose guest finds these cases, and ends so, in each attempt.
    fn reported(
        attempts: Vec<(Vec<Case>, Result<(), VmError>)>,
    ) -> (Result<(), CheckError>, String, report::Part) {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("guest");
        let mut attempts = attempts.into_iter();
        let part = Part::new("part", |results: &mut Results| {
            attempt(&out, results, |found| {
                let (cases, end) = attempts.next().expect("no more attempts");
                found.extend(cases.into_iter().map(Event::Case));
                end
            })
        });
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        let interrupt = Interrupt::default();
        let result = parts::run(vec![part], NonZeroUsize::MIN, &mut report, &interrupt);
        let part = report.parts()[0].clone();
        drop(report);
        assert!(attempts.next().is_none(), "too few attempts");
        (result, String::from_utf8(text).unwrap(), part)
    }

    #[test]
    fn what_a_void_attempt_found_does_not_count() {
        let (result, text, part) = reported(vec![
            (
                vec![Case::pass("a"), Case::fail("b", "")],
                Err(VmError::QemuUnseen),
            ),
            (vec![Case::pass("a"), Case::pass("b")], Ok(())),
        ]);
        result.unwrap();
        let begin = "# part\nTAP version 13\n# no result, the guest is started once more: QEMU was";
        assert!(text.starts_with(begin), "{text}");
        assert!(
            text.contains("/guest.void\nok 1 - a\nok 2 - b\n1..2\n"),
            "{text}"
        );
        assert_eq!((part.totals.passed, part.totals.failed), (2, 0));
        assert_eq!((part.started_twice, part.not_run), (1, None));
    }

    #[test]
    fn a_part_that_could_not_be_run_twice_is_no_result() {
        let (result, text, part) = reported(vec![
            (vec![Case::pass("a")], Err(VmError::QemuUnseen)),
            (vec![Case::fail("a", "")], Err(VmError::MemoryNotShared)),
        ]);
        result.unwrap();
        assert!(!text.contains("ok 1"), "{text}");
        assert!(
            text.contains("\nBail out! the guest's memory is not"),
            "{text}"
        );
        assert_eq!(part.totals, report::Totals::default());
        let why = part.not_run.unwrap();
        assert!(why.starts_with("the guest's memory"), "{why}");
    }

    #[test]
    fn a_result_is_not_tried_again() {
        let (result, text, part) = reported(vec![(vec![Case::fail("a", "")], Ok(()))]);
        result.unwrap();
        assert!(text.contains("\nnot ok 1 - a\n"), "{text}");
        assert_eq!((part.totals.failed, part.started_twice), (1, 0));
    }

    #[test]
    fn a_request_to_stop_is_not_tried_again_and_what_was_found_is_shown() {
        let stopped = Err(VmError::Interrupted("SIGINT"));
        let (result, text, _) = reported(vec![(vec![Case::pass("a")], stopped)]);
        assert!(matches!(result, Err(CheckError::Interrupted("SIGINT"))));
        assert!(text.contains("\nok 1 - a\n"), "{text}");
    }

    #[test]
    fn the_files_of_a_void_attempt_are_named_where_they_are() {
        let [out, aside] = ["/x/guest", "/x/guest.void"].map(Path::new);
        let error = VmError::Io {
            what: "read /x/guest/serial.log".into(),
            error: std::io::ErrorKind::NotFound.into(),
        };
        let text = void(&error, out, aside);
        assert!(text.contains("read /x/guest.void/serial.log"), "{text}");
        assert!(text.ends_with(" are in /x/guest.void"), "{text}");
    }
}
