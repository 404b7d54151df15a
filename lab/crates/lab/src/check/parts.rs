// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs parts of the check at the same time, and reports them one after another.

use super::error::CheckError;
use mutants::Outcome;
use report::Report;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use vm::results::{Case, Event, Verdict};
use vm::signals::Interrupt;

/// A part of the check, which depends on no other one.
pub struct Part<'a> {
    name: String,
    /// How long it may take, by which is known what to begin with.
    longest: Duration,
    run: Run<'a>,
}

type Run<'a> = Box<dyn FnOnce(&mut Results) -> Result<(), CheckError> + Send + 'a>;

impl<'a> Part<'a> {
    /// The part `name`, which is what `run` does.
    pub fn new(
        name: impl Into<String>,
        run: impl FnOnce(&mut Results) -> Result<(), CheckError> + Send + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            longest: Duration::ZERO,
            run: Box::new(run),
        }
    }

    /// The same, which may take this long; it must see to that itself.
    pub fn taking_up_to(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Takes the results of one running part.
pub struct Results {
    part: usize,
    to: Sender<Letter>,
    failed: bool,
}

/// What a part has to say.
enum News {
    Event(Event),
    /// A guest had to be started once more; why, and where the files of the first attempt are.
    StartedTwice(String),
    /// It could not be run, and why.
    NotRun(String),
    /// It took this long.
    Ended(Duration),
}

/// Of which part, or why it cannot go on.
type Letter = (usize, Result<News, CheckError>);

impl Results {
    /// The results of something that is run alone.
    pub fn collect(
        run: impl FnOnce(&mut Results) -> Result<(), CheckError>,
    ) -> Result<Outcome, CheckError> {
        let (to, news) = channel();
        let mut results = Self {
            part: 0,
            to,
            failed: false,
        };
        run(&mut results)?;
        drop(results);
        let mut outcome = Outcome::default();
        for (_, news) in news {
            match news? {
                News::Event(Event::Case(case)) => outcome.cases.push(case),
                News::StartedTwice(why) => outcome.started_twice = Some(why),
                News::NotRun(why) => outcome.not_run = Some(why),
                News::Event(Event::Note(_)) | News::Ended(_) => {}
            }
        }
        Ok(outcome)
    }

    /// Takes what a test said.
    pub fn event(&mut self, event: Event) {
        self.failed |=
            matches!(&event, Event::Case(case) if matches!(case.verdict, Verdict::Fail(_)));
        self.send(Ok(News::Event(event)));
    }

    /// Takes a result.
    pub fn case(&mut self, case: Case) {
        self.event(Event::Case(case));
    }

    /// A guest had to be started once more: what is to be said about the first attempt.
    pub fn started_twice(&mut self, why: &str) {
        self.send(Ok(News::StartedTwice(why.to_owned())));
    }

    /// The part could not be run, which is no result.
    pub fn not_run(&mut self, why: String) {
        self.send(Ok(News::NotRun(why)));
    }

    /// Whether a test of this part failed.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn send(&self, news: Result<News, CheckError>) {
        // Nobody listens any more when the check has failed; then all parts are asked to stop.
        let _ = self.to.send((self.part, news));
    }
}

/// Runs `parts`, up to `jobs` at a time, those first that may take longest, so that none of them is left
/// running alone at the end; reports them in the same order: the first one that has not ended as it goes,
/// those behind it when it is their turn. If one cannot go on, or the report cannot be written, the others
/// are asked to stop.
pub fn run(
    mut parts: Vec<Part<'_>>,
    jobs: NonZeroUsize,
    report: &mut Report<'_>,
    interrupt: &Interrupt,
) -> Result<(), CheckError> {
    parts.sort_by_key(|part| Reverse(part.longest));
    let names: Vec<_> = parts.iter().map(|part| part.name.clone()).collect();
    let waiting = Mutex::new(parts.into_iter().enumerate());
    let (to, news) = channel();
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(names.len()) {
            let (to, waiting) = (to.clone(), &waiting);
            scope.spawn(move || work(waiting, &to));
        }
        // The news end when the last part does.
        drop(to);
        let reported = in_order(&names, &news, report);
        if reported.is_err() {
            interrupt.request();
        }
        reported
    })
}

/// Runs one waiting part after the other, until one cannot go on.
fn work<'a>(waiting: &Mutex<impl Iterator<Item = (usize, Part<'a>)>>, to: &Sender<Letter>) {
    loop {
        // A statement of its own: the lock is for taking a part, not for running it.
        let next = waiting.lock().expect("no thread panics with it").next();
        let Some((part, Part { run, .. })) = next else {
            return;
        };
        let mut results = Results {
            part,
            to: to.clone(),
            failed: false,
        };
        let start = Instant::now();
        let ended = run(&mut results);
        let goes_on = ended.is_ok();
        results.send(ended.map(|()| News::Ended(start.elapsed())));
        if !goes_on {
            return;
        }
    }
}

fn in_order(
    names: &[String],
    news: &Receiver<Letter>,
    report: &mut Report<'_>,
) -> Result<(), CheckError> {
    let mut kept: Vec<VecDeque<News>> = names.iter().map(|_| VecDeque::new()).collect();
    for (current, name) in names.iter().enumerate() {
        report.begin(name)?;
        let took = loop {
            match kept[current].pop_front() {
                Some(News::Event(event)) => report.event(&event)?,
                Some(News::StartedTwice(why)) => report.started_twice(&why)?,
                Some(News::NotRun(why)) => report.not_run(why),
                Some(News::Ended(took)) => break took,
                None => {
                    // None comes only if the part panicked, which the scope of its thread tells.
                    let Ok((part, next)) = news.recv() else {
                        return Ok(());
                    };
                    kept[part].push_back(next?);
                }
            }
        };
        report.end(took)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::style::Style;
    use std::io;
    use std::sync::Barrier;
    use std::sync::mpsc;

    fn jobs(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    fn reported(parts: Vec<Part<'_>>, number: usize) -> (Result<(), CheckError>, String) {
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        let result = run(parts, jobs(number), &mut report, &Interrupt::default());
        drop(report);
        (result, String::from_utf8(text).unwrap())
    }

    #[test]
    fn parts_run_at_once_and_are_reported_in_their_order() {
        let both = &Barrier::new(2);
        let (first_may_end, second_has_ended) = mpsc::channel();
        let parts = vec![
            Part::new("one", move |results: &mut Results| {
                both.wait();
                second_has_ended.recv().unwrap();
                results.case(Case::pass("a"));
                Ok(())
            }),
            Part::new("two", |results: &mut Results| {
                both.wait();
                results.case(Case::fail("b", "why"));
                assert!(results.failed());
                first_may_end.send(()).unwrap();
                Ok(())
            }),
        ];
        let (result, text) = reported(parts, 2);
        result.unwrap();
        assert_eq!(
            text,
            "# one\nTAP version 13\nok 1 - a\n1..1\n\n\
             # two\nTAP version 13\nnot ok 1 - b\n#   why\n1..1\n\n"
        );
    }

    #[test]
    fn what_may_take_longest_begins_first() {
        let begun = Mutex::new(Vec::new());
        let part = |name: &'static str, minutes: u64| {
            let begun = &begun;
            Part::new(name, move |results: &mut Results| {
                begun.lock().unwrap().push(name);
                results.case(Case::pass(name));
                Ok(())
            })
            .taking_up_to(Duration::from_secs(minutes * 60))
        };
        let (result, text) = reported(vec![part("a", 5), part("b", 20), part("c", 5)], 1);
        result.unwrap();
        assert_eq!(*begun.lock().unwrap(), ["b", "a", "c"]);
        let cases: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("ok 1 - "))
            .collect();
        assert_eq!(cases, ["b", "a", "c"]);
    }

    #[test]
    fn what_is_run_alone_has_its_results_collected() {
        let outcome = Results::collect(|results| {
            results.started_twice("once more");
            results.event(Event::Note("a note".into()));
            results.case(Case::pass("a"));
            results.case(Case::fail("b", "why"));
            Ok(())
        });
        let expected = Outcome {
            cases: vec![Case::pass("a"), Case::fail("b", "why")],
            started_twice: Some("once more".into()),
            not_run: None,
        };
        assert_eq!(outcome.unwrap(), expected);
        let outcome = Results::collect(|results| {
            results.not_run("why".into());
            Ok(())
        });
        assert_eq!(outcome.unwrap().not_run.as_deref(), Some("why"));
        let stopped = Results::collect(|_| Err(CheckError::Interrupted("SIGTERM")));
        assert!(matches!(stopped, Err(CheckError::Interrupted("SIGTERM"))));
    }

    #[test]
    fn no_more_run_at_once_than_asked_for() {
        let running = Mutex::new(());
        let alone = |results: &mut Results| {
            let _guard = running.try_lock().expect("no other part runs");
            results.case(Case::pass("alone"));
            Ok(())
        };
        let parts = ["a", "b", "c"].map(|name| Part::new(name, alone)).into();
        let (result, text) = reported(parts, 1);
        result.unwrap();
        assert_eq!(text.matches("ok 1 - alone").count(), 3, "{text}");
    }

    #[test]
    fn one_that_cannot_go_on_stops_the_others() {
        let interrupt = Interrupt::default();
        let parts = vec![
            Part::new("waits", |_: &mut Results| {
                while interrupt.signal().is_none() {
                    thread::yield_now();
                }
                Err(CheckError::Interrupted("SIGTERM"))
            }),
            Part::new("fails", |_: &mut Results| {
                Err(CheckError::Io(io::Error::other("disk")))
            }),
            Part::new("never begins", |_: &mut Results| panic!("it began")),
        ];
        let mut text = Vec::new();
        let mut report = Report::new(&mut text, Style::default());
        let result = run(parts, jobs(2), &mut report, &interrupt);
        assert!(matches!(result, Err(CheckError::Io(_))), "{result:?}");
    }

    #[test]
    fn a_report_that_cannot_be_written_stops_them() {
        struct Full;
        impl io::Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let interrupt = Interrupt::default();
        let parts = vec![Part::new("waits", |_: &mut Results| {
            while interrupt.signal().is_none() {
                thread::yield_now();
            }
            Ok(())
        })];
        let mut full = Full;
        let mut report = Report::new(&mut full, Style::default());
        let result = run(parts, jobs(1), &mut report, &interrupt);
        assert!(matches!(result, Err(CheckError::Io(_))), "{result:?}");
    }
}
