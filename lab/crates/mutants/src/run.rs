// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which faults their tests find.

use crate::build::BuildError;
use crate::mutant::Mutant;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vm::results::{Case, Verdict};

/// What builds kernels and runs tests on them.
pub trait Lab {
    /// Why it cannot go on.
    type Error: std::error::Error + 'static;

    /// Builds the kernel with a fault, or without one, and returns its build directory. That it
    /// does not build is the fault's error, not the lab's.
    fn build(&mut self, fault: Option<&str>) -> Result<Result<PathBuf, BuildError>, Self::Error>;

    /// The name of the boot in which a test is run.
    fn boot_of(&self, test: &str) -> Result<String, Self::Error>;

    /// Runs the boot in which `test` is run, on the kernel in `dir`. `name` is the fault's.
    fn boot(&mut self, dir: &Path, test: &str, name: &str) -> Result<Outcome, Self::Error>;
}

/// What became of a boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The results.
    pub cases: Vec<Case>,
    /// What is to be said of a first attempt that was void.
    pub started_twice: Option<String>,
    /// Why there are no results: the kernel does not boot, or the guest could not be run.
    pub not_run: Option<String>,
}

/// How many faults there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Their own test failed.
    pub found: usize,
    /// Their own test passed, or was not run.
    pub missed: usize,
    /// There is no result: no kernel, or no guest.
    pub unknown: usize,
}

impl Counts {
    /// Whether every fault was found.
    #[must_use]
    pub fn is_well(self) -> bool {
        self.found > 0 && self.missed == 0 && self.unknown == 0
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            found,
            missed,
            unknown,
        } = self;
        write!(
            f,
            "{found} found, {missed} not found, {unknown} without a result"
        )
    }
}

/// Why nothing is counted.
#[derive(Debug, thiserror::Error)]
pub enum Error<E: std::error::Error + 'static> {
    /// There is no kernel even without a fault.
    #[error("without a fault: {0}")]
    Build(#[from] BuildError),
    /// Nor a guest.
    #[error("without a fault, in '{boot}': {why}; nothing is counted")]
    NotRun {
        /// The boot.
        boot: String,
        /// What became of it.
        why: String,
    },
    /// A test that could not find anything.
    #[error("{mutant}: without a fault, {found_by} {is}; name a test that passes there")]
    Test {
        /// The fault.
        mutant: String,
        /// Its test.
        found_by: String,
        /// What the test is instead of passed.
        is: State,
    },
    /// Whoever runs guests cannot go on.
    #[error(transparent)]
    Lab(E),
    /// The results cannot be written.
    #[error("the results cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// What became of a fault.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Found,
    Missed(State),
    Unknown(String),
}

/// Runs the kernel without a fault, then with each of `mutants`, and writes TAP and the count to
/// `to`.
pub fn run<L: Lab>(
    lab: &mut L,
    mutants: &[Mutant],
    to: &mut dyn Write,
) -> Result<Counts, Error<L::Error>> {
    without_fault(lab, mutants)?;
    let mut counts = Counts::default();
    writeln!(to, "TAP version 13\n1..{}", mutants.len())?;
    for (index, mutant) in mutants.iter().enumerate() {
        let (fate, notes) = try_one(lab, mutant).map_err(Error::Lab)?;
        let (number, Mutant { name, found_by }) = (index + 1, mutant);
        match fate {
            Fate::Found => {
                counts.found += 1;
                writeln!(to, "ok {number} - {name}: found by {found_by}")?;
            }
            Fate::Missed(is) => {
                counts.missed += 1;
                writeln!(to, "not ok {number} - {name}: not found, {found_by} {is}")?;
            }
            Fate::Unknown(why) => {
                counts.unknown += 1;
                writeln!(to, "not ok {number} - {name}: no result, {why}")?;
            }
        }
        for line in notes.iter().flat_map(|note| note.lines()) {
            writeln!(to, "# {line}")?;
        }
        to.flush()?;
    }
    writeln!(to, "{counts}")?;
    to.flush()?;
    Ok(counts)
}

/// The tests of all `mutants` pass on the kernel without a fault.
fn without_fault<L: Lab>(lab: &mut L, mutants: &[Mutant]) -> Result<(), Error<L::Error>> {
    let boots = mutants
        .iter()
        .map(|mutant| lab.boot_of(&mutant.found_by))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::Lab)?;
    let dir = lab.build(None).map_err(Error::Lab)??;
    let mut results: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for (Mutant { name, found_by }, boot) in mutants.iter().zip(&boots) {
        let cases = match results.entry(boot) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let outcome = lab.boot(&dir, found_by, "no-fault").map_err(Error::Lab)?;
                if let Some(why) = outcome.not_run {
                    let (boot, why) = (boot.clone(), first_line(&why).to_owned());
                    return Err(Error::NotRun { boot, why });
                }
                entry.insert(outcome.cases)
            }
        };
        let is = state(cases, found_by);
        if is != State::Passed {
            return Err(Error::Test {
                mutant: name.clone(),
                found_by: found_by.clone(),
                is,
            });
        }
    }
    Ok(())
}

/// What became of a fault, and what else is to be said.
fn try_one<L: Lab>(lab: &mut L, mutant: &Mutant) -> Result<(Fate, Vec<String>), L::Error> {
    let Mutant { name, found_by } = mutant;
    let dir = match lab.build(Some(name))? {
        Ok(dir) => dir,
        Err(error) => return Ok((Fate::Unknown(error.to_string()), Vec::new())),
    };
    let outcome = lab.boot(&dir, found_by, name)?;
    let mut notes: Vec<_> = outcome.started_twice.into_iter().collect();
    if let Some(why) = outcome.not_run {
        return Ok((Fate::Unknown(first_line(&why).to_owned()), notes));
    }
    let fate = match state(&outcome.cases, found_by) {
        State::Failed => Fate::Found,
        is => Fate::Missed(is),
    };
    let others = outcome
        .cases
        .into_iter()
        .filter(|other| matches!(other.verdict, Verdict::Fail(_)) && other.name != *found_by);
    notes.extend(others.map(|other| format!("another test failed: {}", other.name)));
    let mut said = HashSet::new();
    notes.retain(|note| said.insert(note.clone()));
    Ok((fate, notes))
}

/// What an error says; what follows is the end of a log.
fn first_line(why: &str) -> &str {
    why.lines().next().unwrap_or_default()
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It failed.
    Failed,
    /// It passed.
    Passed,
    /// It was skipped.
    Skipped,
    /// It has no result.
    NotRun,
}

impl Display for State {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "failed",
            Self::Passed => "passed",
            Self::Skipped => "was skipped",
            Self::NotRun => "was not run",
        })
    }
}

/// What became of the test `name`: a failure counts most.
fn state(cases: &[Case], name: &str) -> State {
    let mut is = State::NotRun;
    for case in cases.iter().filter(|case| case.name == name) {
        match case.verdict {
            Verdict::Fail(_) => return State::Failed,
            Verdict::Pass => is = State::Passed,
            Verdict::Skip(_) => is = State::Skipped,
        }
    }
    is
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[derive(Debug, thiserror::Error)]
    #[error("no boot")]
    struct NoBoot;

    /// What a boot comes to, one after the other; the first is that of no fault.
    #[derive(Default)]
    struct Fake {
        boots: VecDeque<Outcome>,
        broken: Option<&'static str>,
        asked: Vec<String>,
    }

    impl Lab for Fake {
        type Error = NoBoot;

        fn build(&mut self, fault: Option<&str>) -> Result<Result<PathBuf, BuildError>, NoBoot> {
            let name = fault.unwrap_or("nothing");
            self.asked.push(format!("build {name}"));
            Ok(if self.broken == Some(name) {
                Err(BuildError::Failed("x.rs: error".into()))
            } else {
                Ok("/build".into())
            })
        }

        fn boot_of(&self, test: &str) -> Result<String, NoBoot> {
            let program = test.split_once(": ").map(|(program, _)| program);
            match program.ok_or(NoBoot)? {
                "u" => Ok("other".into()),
                _ => Ok("guest tests".into()),
            }
        }

        fn boot(&mut self, _: &Path, test: &str, name: &str) -> Result<Outcome, NoBoot> {
            self.asked.push(format!("boot {test} {name}"));
            Ok(self.boots.pop_front().expect("a boot more than planned"))
        }
    }

    fn well(cases: Vec<Case>) -> Outcome {
        Outcome {
            cases,
            ..Outcome::default()
        }
    }

    fn good() -> Outcome {
        well(vec![Case::pass("t: a"), Case::pass("t: b")])
    }

    /// A guest that could not be run, also when it was started once more.
    fn not_run(why: &str) -> Outcome {
        Outcome {
            started_twice: Some("no result: stopped\nfiles".into()),
            not_run: Some(why.into()),
            ..Outcome::default()
        }
    }

    fn mutant(name: &str) -> Mutant {
        Mutant {
            name: name.into(),
            found_by: "t: a".into(),
        }
    }

    fn run_all(fake: &mut Fake, names: &[&str]) -> Result<(Counts, String), Error<NoBoot>> {
        let mutants: Vec<_> = names.iter().map(|name| mutant(name)).collect();
        let mut text = Vec::new();
        let counts = run(fake, &mutants, &mut text)?;
        Ok((counts, String::from_utf8(text).unwrap()))
    }

    fn one(boots: impl Into<VecDeque<Outcome>>) -> (Counts, String) {
        let mut fake = Fake {
            boots: boots.into(),
            ..Fake::default()
        };
        fake.boots.push_front(good());
        let result = run_all(&mut fake, &["m"]).unwrap();
        assert!(fake.boots.is_empty(), "not all boots were made");
        result
    }

    #[test]
    fn a_fault_is_found_by_its_own_test() {
        let bad = well(vec![Case::fail("t: a", "why"), Case::fail("t: b", "why")]);
        let (counts, text) = one([bad]);
        assert_eq!(
            text,
            "TAP version 13\n1..1\nok 1 - m: found by t: a\n\
             # another test failed: t: b\n1 found, 0 not found, 0 without a result\n"
        );
        assert!(counts.is_well());
    }

    /// A boot may have several results of one name.
    #[test]
    fn what_is_to_be_said_is_said_once_and_in_order() {
        let failed = ["t: c", "t: b", "t: c", "t: a", "t: b"];
        let (_, text) = one([well(failed.map(|name| Case::fail(name, "why")).into())]);
        assert!(
            text.contains(
                "ok 1 - m: found by t: a\n\
                 # another test failed: t: c\n# another test failed: t: b\n1 found"
            ),
            "{text}"
        );
    }

    #[test]
    fn another_tests_failure_is_said_and_does_not_count() {
        let other = well(vec![Case::pass("t: a"), Case::fail("t: b", "why")]);
        let (counts, text) = one([other]);
        assert!(
            text.contains("not ok 1 - m: not found, t: a passed\n"),
            "{text}"
        );
        assert!(text.contains("\n# another test failed: t: b\n"), "{text}");
        assert_eq!((counts.missed, counts.is_well()), (1, false));
    }

    #[test]
    fn a_test_that_is_not_run_or_skipped_finds_nothing() {
        let (counts, text) = one([well(vec![Case::fail("t", "status 139")])]);
        assert!(
            text.contains("t: a was not run\n# another test failed: t\n"),
            "{text}"
        );
        assert_eq!(counts.missed, 1);
        let (counts, text) = one([well(vec![Case::skip("t: a", "no device")])]);
        assert!(text.contains("t: a was skipped"), "{text}");
        assert_eq!(counts.missed, 1);
    }

    #[test]
    fn a_guest_that_was_started_once_more_says_so_and_counts() {
        let found = Outcome {
            started_twice: Some("no result: stopped\nfiles".into()),
            ..well(vec![Case::fail("t: a", "why")])
        };
        let (counts, text) = one([found]);
        assert!(
            text.contains("found by t: a\n# no result: stopped\n# files\n"),
            "{text}"
        );
        assert!(counts.is_well());
    }

    #[test]
    fn a_guest_that_was_not_run_says_so_and_finds_nothing() {
        let (counts, text) = one([not_run("the guest died\n  its log")]);
        assert!(
            text.contains("not ok 1 - m: no result, the guest died\n# no result: stopped\n"),
            "{text}"
        );
        let unknown = Counts {
            unknown: 1,
            ..Counts::default()
        };
        assert_eq!((counts, counts.is_well()), (unknown, false));
    }

    /// Whatever it says before: a void run's results are none.
    #[test]
    fn the_results_of_a_guest_that_was_not_run_do_not_count() {
        let stopped = Outcome {
            cases: vec![Case::fail("t: a", "the guest ended before it did")],
            ..not_run("stopped")
        };
        assert_eq!(one([stopped]).0.found, 0);
    }

    #[test]
    fn a_fault_that_does_not_build_is_an_error_of_its_own() {
        let mut fake = Fake {
            boots: [good(), well(vec![Case::fail("t: a", "")])].into(),
            broken: Some("bad"),
            ..Fake::default()
        };
        let (counts, text) = run_all(&mut fake, &["bad", "m"]).unwrap();
        assert!(
            text.contains("not ok 1 - bad: no result, x.rs: error\n"),
            "{text}"
        );
        assert_eq!((counts.found, counts.unknown), (1, 1));
    }

    #[test]
    fn the_run_without_a_fault_is_made_first_and_once_for_a_boot() {
        let other = || well(vec![Case::pass("u: a")]);
        let mut fake = Fake {
            boots: [good(), other(), good(), good(), other()].into(),
            ..Fake::default()
        };
        let mut mutants = ["m", "n", "o"].map(mutant);
        mutants[1].found_by = "t: b".into();
        mutants[2].found_by = "u: a".into();
        run(&mut fake, &mutants, &mut Vec::new()).unwrap();
        let asked = [
            "build nothing",
            "boot t: a no-fault",
            "boot u: a no-fault",
            "build m",
            "boot t: a m",
            "build n",
            "boot t: b n",
            "build o",
            "boot u: a o",
        ];
        assert_eq!(fake.asked, asked);
    }

    #[test]
    fn a_test_that_no_boot_runs_is_an_error_before_anything_is_built() {
        let mut fake = Fake::default();
        let mut mutants = [mutant("m")];
        mutants[0].found_by = "t".into();
        let error = run(&mut fake, &mutants, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Error::Lab(NoBoot)), "{error}");
        assert_eq!(fake.asked, [""; 0]);
    }

    #[test]
    fn a_test_that_does_not_pass_without_a_fault_ends_it() {
        for (boot, is) in [
            (well(vec![Case::fail("t: a", "why")]), "failed"),
            (well(vec![Case::skip("t: a", "no device")]), "was skipped"),
            (well(vec![Case::pass("t: b")]), "was not run"),
        ] {
            let mut fake = Fake {
                boots: [boot].into(),
                ..Fake::default()
            };
            let error = run_all(&mut fake, &["m"]).unwrap_err().to_string();
            let begin = format!("m: without a fault, t: a {is};");
            assert!(error.starts_with(&begin), "{error}");
            assert_eq!(fake.asked.len(), 2);
        }
    }

    #[test]
    fn a_guest_that_was_not_run_without_a_fault_counts_nothing() {
        let mut fake = Fake {
            boots: [not_run("panic\n  log")].into(),
            ..Fake::default()
        };
        let error = run_all(&mut fake, &["m"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "without a fault, in 'guest tests': panic; nothing is counted"
        );
        assert_eq!(fake.asked.len(), 2);
    }

    #[test]
    fn a_kernel_that_does_not_build_without_a_fault_counts_nothing() {
        let mut fake = Fake {
            broken: Some("nothing"),
            ..Fake::default()
        };
        let error = run_all(&mut fake, &["m"]).unwrap_err().to_string();
        assert_eq!(error, "without a fault: x.rs: error");
    }
}
