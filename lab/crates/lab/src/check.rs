// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs every test, part by part, and prints one total.

pub(crate) mod attempt;
mod boots;
mod child;
mod error;
mod gateways;
mod parts;
pub(crate) mod programs;

use crate::cli::{CheckArgs, Driver, Publish};
use crate::demo;
use boots::{Boot, Boots, Extent, Kunit};
pub use error::CheckError;
use mutants::Outcome;
use parts::{Part, Results};
use report::Report;
pub use report::Totals;
use report::style::{Style, relative};
use report::summary::{self, Summary};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::iter;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;
use vm::results::ktap::Ktap;
use vm::results::libtest::Libtest;
use vm::results::tap::Tap;
use vm::results::{Case, Event, Reader, read_all};
use vm::signals::Interrupt;
use vm::topology::{LinkMode, Topology, preset};
use vm::{
    Accel, Cause, Kernel, Manifest, ManifestError, Program, Reached, Setup, Step, Task, Vm, VmError,
};
use vm::{checkers, guest};

/// Limit for what hangs; building the tests counts.
const HOST_LIMIT: Duration = Duration::from_secs(30 * 60);

/// No arguments.
const NONE: [&str; 0] = [];

/// Uses of the kernel half that its types refuse.
const MISUSE: &str = "tools/testing/selftests/dma-buf-tph/compile-fail";

/// Prints the tables into the first file, and compares them.
const LIST_AND_COMPARE: &str = "mkdir -p \"${1%/*}\" && \
    cargo run --quiet --locked --package connectx --example layouts >\"$1\" && exec \"$2\" \"$3\" \"$1\" \"$4\"";

/// A kernel to run the guest's tests on.
#[derive(Debug)]
pub struct Target {
    /// The kernel.
    pub kernel: Kernel,
    /// How its guests execute.
    pub accel: Accel,
}

/// Runs the host's tests and those of the guest on every target, several parts at a time, and
/// writes TAP and the closing line to `to`. The first target's traces and logs go into the output
/// directory itself, those of each other one into a directory there that has the kernel's name.
/// Leaves the totals as `check.json` in the output directory; [`report::summary`] describes it.
pub fn check(
    setup: &Setup,
    targets: &[Target],
    args: &CheckArgs,
    interrupt: &Interrupt,
    to: &mut dyn Write,
) -> Result<Totals, CheckError> {
    let extent = extent(args);
    let host = Host {
        args,
        extent,
        interrupt,
    };
    let guests: Vec<_> = targets
        .iter()
        .enumerate()
        .map(|(index, Target { kernel, accel })| {
            let name = kernel.name();
            Guest {
                setup,
                repo: &args.repo,
                kernel,
                accel: *accel,
                extent,
                endurance: args.endurance,
                is_first: index == 0,
                out: match index {
                    0 => args.out.clone(),
                    _ => args.out.join(&name),
                },
                name,
                interrupt,
            }
        })
        .collect();
    let mut parts = Vec::new();
    if !args.guest_only && !args.endurance {
        let host = host.parts(targets).into_iter();
        parts.extend(host.map(|part| part.taking_up_to(HOST_LIMIT)));
    }
    for guest in &guests {
        parts.extend(guest.parts());
    }
    if let Some(only) = &args.only {
        let names: Vec<_> = parts.iter().map(|part| part.name().to_owned()).collect();
        parts.retain(|part| part.name().contains(only));
        if parts.is_empty() {
            let only = only.clone();
            return Err(CheckError::NoPart { only, names });
        }
    }
    let jobs = args.jobs.unwrap_or_else(|| {
        let guest = targets
            .iter()
            .map(|target| target.kernel.memory_mib())
            .max();
        jobs(guest.unwrap_or_default())
    });
    summary::clear(&args.out)?;
    let mut report = Report::new(to, Style::of_stdout());
    parts::run(parts, jobs, &mut report, interrupt)?;
    let is_complete = !args.guest_only && !args.quick && !args.endurance && args.only.is_none();
    let kernels = targets.iter().map(|target| &target.kernel);
    let summary = Summary::new(is_complete, kernels, report.parts());
    let not_run = report.parts().iter().filter(|part| part.not_run.is_some());
    let not_run = not_run.count();
    let totals = report.close()?;
    summary.write(&args.out)?;
    match not_run {
        0 => Ok(totals),
        count => Err(CheckError::NotRun(count)),
    }
}

/// How much of it is asked for.
fn extent(args: &CheckArgs) -> Extent {
    match (args.quick, args.all) {
        (true, _) => Extent::Quick,
        (false, false) => Extent::Gate,
        (false, true) => Extent::All,
    }
}

/// The name of the guest in which a test of this name is run, on a kernel of this project.
pub fn boot_of(test: &str) -> Result<&'static str, CheckError> {
    Ok(boots::running(test)?.part)
}

/// Runs the guest in which `test` is run alone, on a kernel that may have a fault: if it does not
/// boot, that is no result.
pub fn boot(
    setup: &Setup,
    repo: &Path,
    target: &Target,
    test: &str,
    out: &Path,
    interrupt: &Interrupt,
) -> Result<Outcome, CheckError> {
    let boot = &boots::running(test)?;
    let guest = Guest {
        setup,
        repo,
        kernel: &target.kernel,
        accel: target.accel,
        extent: Extent::All,
        endurance: false,
        is_first: true,
        name: target.kernel.name(),
        out: out.to_owned(),
        interrupt,
    };
    let steps = guest.steps(boot)?;
    let out = &guest.out.join(boot.dir);
    Results::collect(|results| {
        attempt::attempt(out, results, |found| {
            guest.run(boot, &steps, out, found, is_of_a_test)
        })
    })
}

/// Whether the error is a result.
fn is_result(error: &VmError) -> bool {
    error.cause() == Cause::Fault
}

/// Whether the error is a result of a guest that came as far as its tests.
fn is_of_a_test(error: &VmError) -> bool {
    let before = matches!(
        error,
        VmError::Kernel {
            reached: Reached::Boot,
            ..
        }
    );
    is_result(error) && !before
}

/// How many parts run at a time if nobody says it: three for each two processors, since guests often
/// wait for a device to be reset, as long as there is memory for as many guests of `guest_mib`.
fn jobs(guest_mib: u32) -> NonZeroUsize {
    let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let wanted = processors.saturating_add(processors.get() / 2);
    let guests = vm::memory::available_mib()
        .zip(NonZeroU64::new(guest_mib.into()))
        .and_then(|(available, guest)| usize::try_from(available / guest).ok());
    guests.map_or(wanted, |guests| {
        wanted.min(NonZeroUsize::new(guests).unwrap_or(NonZeroUsize::MIN))
    })
}

/// The tests that need no guest.
struct Host<'a> {
    args: &'a CheckArgs,
    extent: Extent,
    interrupt: &'a Interrupt,
}

impl Host<'_> {
    fn parts<'a>(&'a self, targets: &'a [Target]) -> Vec<Part<'a>> {
        let kernel = &targets[0].kernel;
        let mut parts = vec![Part::new(
            "host tests: cargo test",
            |results: &mut Results| self.lab(results),
        )];
        if self.extent >= Extent::Gate {
            parts.push(Part::new(
                "host tests: scripts/selftest",
                |results: &mut Results| self.script("selftest", NONE, results),
            ));
            parts.push(Part::new(
                format!("misuse that must not compile on {}", kernel.name()),
                |results: &mut Results| self.misuse(kernel, results),
            ));
            parts.push(Part::new(
                format!("the ConnectX model's tables against {}", kernel.name()),
                |results: &mut Results| self.layouts(kernel, results),
            ));
            // How they are built depends little on the kernel.
            let kernels = match self.extent {
                Extent::All => targets,
                Extent::Quick | Extent::Gate => &targets[..1],
            };
            parts.push(Part::new(
                "modules built out of tree",
                |results: &mut Results| self.modules(kernels, results),
            ));
        }
        if self.extent == Extent::All {
            parts.push(Part::new(
                "host tests: the patch series",
                |results: &mut Results| self.script("series", ["check", "--quick"], results),
            ));
            parts.push(Part::new(
                "host tests: scripts/docs check-lab",
                |results: &mut Results| self.script("docs", ["check-lab"], results),
            ));
        }
        parts
    }

    fn lab(&self, results: &mut Results) -> Result<(), CheckError> {
        let mut command = Command::new("cargo");
        command
            .args(["test", "--workspace", "--locked", "--no-fail-fast"])
            .args(["--color", "never"])
            .current_dir(self.args.repo.join("lab"));
        if self.extent >= Extent::Gate {
            // `make check` has what they need in its toolbox.
            command.args(["--", "--include-ignored"]);
        }
        child::run(
            "cargo test",
            &mut command,
            HOST_LIMIT,
            &mut Libtest::default(),
            results,
            self.interrupt,
        )
    }

    /// Runs one of the repository's scripts, which prints TAP.
    fn script<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
        results: &mut Results,
    ) -> Result<(), CheckError> {
        let name = format!("scripts/{name}");
        let mut command = Command::new(self.args.repo.join(&name));
        command.args(arguments).current_dir(&self.args.repo);
        self.tap(&name, &mut command, results)
    }

    fn tap(
        &self,
        name: &str,
        command: &mut Command,
        results: &mut Results,
    ) -> Result<(), CheckError> {
        child::run(
            name,
            command,
            HOST_LIMIT,
            &mut Tap::new(name),
            results,
            self.interrupt,
        )
    }

    /// The structures of the ConnectX model, compared with those in the headers of `kernel`.
    fn layouts(&self, kernel: &Kernel, results: &mut Results) -> Result<(), CheckError> {
        let work = self.args.out.join("layouts");
        let mut command = Command::new("sh");
        command
            .args(["-c", LIST_AND_COMPARE, "layouts"])
            .arg(work.with_extension("list"))
            .arg(self.args.repo.join("scripts/layouts"))
            .arg(kernel.dir())
            .arg(work)
            .current_dir(self.args.repo.join("lab"));
        self.tap("scripts/layouts", &mut command, results)
    }

    /// The modules, built out of tree for every kernel, and for what is none for them.
    fn modules(&self, targets: &[Target], results: &mut Results) -> Result<(), CheckError> {
        let out = self.args.out.join("modules");
        let kernels = targets.iter().map(|target| target.kernel.dir());
        self.script(
            "modules-check",
            iter::once(out.as_path()).chain(kernels),
            results,
        )
    }

    /// What the types of the kernel half must refuse, compiled against `kernel`.
    fn misuse(&self, kernel: &Kernel, results: &mut Results) -> Result<(), CheckError> {
        let misuse = self.args.repo.join(MISUSE);
        let out = self.args.out.join("compile-fail");
        self.script("compile-fail", [kernel.dir(), &misuse, &out], results)
    }
}

/// The tests on one kernel.
struct Guest<'a> {
    setup: &'a Setup,
    repo: &'a Path,
    kernel: &'a Kernel,
    accel: Accel,
    /// How much is run.
    extent: Extent,
    /// Whether what takes long is run, instead.
    endurance: bool,
    /// Whether no other kernel's tests were run before.
    is_first: bool,
    name: String,
    out: PathBuf,
    interrupt: &'a Interrupt,
}

/// A demo.
struct Demo {
    name: &'static str,
    driver: Driver,
    topology: Topology,
    extent: Extent,
}

/// The demos: those that `make demo`, `demo-rdma` and `demo-vfio` are, and their variants, of which the
/// boots claim the same by what arrives.
fn demos() -> [Demo; 8] {
    use Driver::{Kernel, UserSpace};
    use Extent::{All, Gate};
    let demo = |name, driver, topology: &Topology, extent| Demo {
        name,
        driver,
        topology: topology.clone(),
        extent,
    };
    let nonflit = Topology {
        mode: LinkMode::Nonflit,
        ..preset::T1.clone()
    };
    [
        demo("demo-flit", Kernel, &preset::T1, Gate),
        demo("demo-rdma", Kernel, &preset::T1_RDMA, Gate),
        demo("demo-vfio-t3", UserSpace, &preset::T3, Gate),
        demo("demo-nonflit", Kernel, &nonflit, All),
        demo("demo-t2", Kernel, &preset::T2, All),
        demo("demo-t3", Kernel, &preset::T3, All),
        demo("demo-rdma-t3", Kernel, &preset::T3_RDMA, All),
        demo("demo-vfio-t2", UserSpace, &preset::T2, All),
    ]
}

impl Guest<'_> {
    fn parts(&self) -> Vec<Part<'_>> {
        if self.endurance {
            return self.endurance_parts();
        }
        let Boots { has_demos, boots } = boots::of(self.kernel);
        let demos = demos().into_iter().filter(|_| has_demos);
        let demos = demos.filter(|demo| self.shows(demo)).map(|demo| {
            let name = demo.name;
            let run = move |results: &mut Results| self.demo(&demo, results);
            let limit = demo::LIMIT * self.kernel.patience();
            self.part(name, run).taking_up_to(limit)
        });
        let boots = boots
            .into_iter()
            .filter(|boot| self.wants(boot))
            .map(|boot| self.boot(boot, None));
        demos.chain(boots).collect()
    }

    /// Whether a demo is part of what is run.
    fn shows(&self, demo: &Demo) -> bool {
        let can = demo.driver == Driver::Kernel || self.kernel.has(boots::VFIO_TPH);
        // How a link encodes does not depend on the kernel.
        let again = !self.is_first && demo.topology.mode != LinkMode::default();
        let wanted = self.is_first || self.extent == Extent::All;
        can && wanted && !again && demo.extent <= self.extent
    }

    /// Whether a boot is part of what is run.
    fn wants(&self, boot: &Boot) -> bool {
        boot.extent <= self.extent && !self.programs_of(boot).is_empty()
    }

    /// What of a boot is run: on a kernel beside the first one that checks itself, what its checks are
    /// for.
    fn programs_of(&self, boot: &Boot) -> &'static [Program] {
        let is_beside = !self.is_first && checkers::has_any(self.kernel);
        if is_beside && self.extent < Extent::All {
            boot.checked
        } else {
            boot.programs
        }
    }

    fn endurance_parts(&self) -> Vec<Part<'_>> {
        let kills = 1..=boots::KILLS;
        boots::endurance()
            .into_iter()
            .map(|boot| self.boot(boot, None))
            .chain(kills.map(|time| self.boot(boots::kill(), Some(time))))
            .collect()
    }

    /// A boot, once or for the nth `time`.
    fn boot(&self, boot: Boot, time: Option<usize>) -> Part<'_> {
        let (mut name, mut dir) = (boot.part.to_owned(), boot.dir.to_owned());
        if let Some(time) = time {
            name = format!("{name}, time {time}");
            dir = format!("{dir}-{time}");
        }
        let limit = boot.limit * self.kernel.patience();
        let run = move |results: &mut Results| self.programs(&boot, &dir, results);
        self.part(&name, run).taking_up_to(limit)
    }

    fn part<'a>(
        &self,
        name: &str,
        run: impl FnOnce(&mut Results) -> Result<(), CheckError> + Send + 'a,
    ) -> Part<'a> {
        Part::new(format!("{name} on {}", self.name), run)
    }

    fn demo(&self, demo: &Demo, results: &mut Results) -> Result<(), CheckError> {
        let out = &self.out.join(demo.name);
        let plan = demo::Plan {
            kernel: self.kernel,
            accel: self.accel,
            publish: Publish::default(),
            driver: demo.driver,
            topology: &demo.topology,
            out,
            repo: self.repo,
        };
        attempt::attempt(out, results, |found| {
            let cases = match demo::record(self.setup, &plan, self.interrupt) {
                Ok(recorded) => demo::cases(&recorded, &plan),
                Err(demo::DemoError::Vm(error)) if error.cause() != Cause::Fault => {
                    return Err(error);
                }
                Err(error) => vec![Case::fail(demo.name, relative(&error.to_string()))],
            };
            found.extend(cases.into_iter().map(Event::Case));
            Ok(())
        })
    }

    fn programs(&self, boot: &Boot, dir: &str, results: &mut Results) -> Result<(), CheckError> {
        if let Some(option) = boot.needs
            && !self.kernel.has(option)
        {
            results.case(Case::skip(boot.part, lacks(option)));
            return Ok(());
        }
        let out = &self.out.join(dir);
        match self.steps(boot) {
            Ok(steps) => attempt::attempt(out, results, |found| {
                self.run(boot, &steps, out, found, is_result)
            }),
            Err(error) => {
                results.not_run(relative(&error.to_string()));
                Ok(())
            }
        }
    }

    /// Runs the programs of a boot; an error is none of its results, which `is_result` decides.
    fn run(
        &self,
        boot: &Boot,
        steps: &[Step],
        out: &Path,
        found: &mut Vec<Event>,
        is_result: fn(&VmError) -> bool,
    ) -> Result<(), VmError> {
        let checkers = checkers::step(self.kernel, out)
            .map_err(|error| VmError::io(format!("write to {}", out.display()), error))?;
        let steps = steps.iter().cloned().chain(checkers);
        let mut reader = guest::Programs::new(steps.collect());
        let parameters = boot.parameters();
        let parameters: Vec<_> = parameters.iter().map(String::as_str).collect();
        let vm = Vm {
            kernel: self.kernel,
            accel: self.accel,
            cpus: boot.cpus,
            icount: false,
            devices: Some(boot.topology.clone().into()),
            devices_end: boot.devices_end,
            append: &parameters,
            task: Task::Script(reader.script()),
            limit: boot.limit,
            out,
        };
        let run = vm::run(self.setup, &vm, self.interrupt, &mut |line| {
            found.extend(reader.line(line));
        });
        // What somebody stopped did not fail to come to its end.
        if !matches!(run, Err(VmError::Interrupted(_))) {
            found.extend(reader.end());
        }
        let clean = "the guest ended well and its kernel log holds no complaint";
        let clean = match run {
            Ok(_) => Case::pass(clean),
            Err(error) if is_result(&error) => Case::fail(clean, relative(&error.to_string())),
            Err(error) => return Err(error),
        };
        let arrivals = boot.arrivals.iter().map(|claim| claim.case(out));
        let writes_to_gateways = self.programs_of(boot).contains(&programs::RDMA_GATEWAYS);
        let gateways = writes_to_gateways.then(|| gateways::case(out));
        let cases = iter::once(clean).chain(arrivals).chain(gateways);
        found.extend(cases.map(Event::Case));
        if let Some(kunit) = &boot.kunit {
            found.extend(if self.kernel.has(kunit.option) {
                kunit_events(kunit, out)
            } else {
                let names = kunit.names.iter();
                let suite = |name: &&str| name.trim_end_matches(": ").to_owned();
                names
                    .map(|name| Event::Case(Case::skip(suite(name), lacks(kunit.option))))
                    .collect()
            });
        }
        Ok(())
    }

    /// What runs the programs of a boot.
    fn steps(&self, boot: &Boot) -> Result<Vec<Step>, ManifestError> {
        let built = Manifest::of_build(&self.setup.lab)?;
        let programs = self.programs_of(boot).iter();
        programs
            .map(|program| program.step(&built, self.repo))
            .collect()
    }
}

/// Why what needs an option of the kernel's is skipped.
fn lacks(option: &str) -> String {
    format!("this kernel has no CONFIG_{option}")
}

/// What ran when the guest with its log in `out` started.
fn kunit_events(kunit: &Kunit, out: &Path) -> Vec<Event> {
    let log = fs::read(out.join("serial.log")).unwrap_or_default();
    read_all(&mut Ktap::new(kunit.names), &String::from_utf8_lossy(&log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm::log::Complaint;

    fn panic(reached: Reached) -> VmError {
        VmError::Kernel {
            reached,
            complaint: Complaint {
                line: 1,
                text: "Kernel panic".into(),
            },
            log: "serial.log".into(),
        }
    }

    #[test]
    fn a_kernel_that_does_not_boot_fails_the_check_and_finds_no_fault() {
        assert!(is_result(&panic(Reached::Boot)));
        assert!(!is_of_a_test(&panic(Reached::Boot)));
        assert!(is_of_a_test(&panic(Reached::Command)));
    }

    #[test]
    fn what_the_harness_failed_is_no_result_for_either() {
        for error in [VmError::QemuUnseen, VmError::Interrupted("SIGINT")] {
            assert!(!is_result(&error) && !is_of_a_test(&error), "{error}");
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_skipped_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("arch/x86/boot")).unwrap();
        for file in ["arch/x86/boot/bzImage", ".config", "modules.order"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let (setup, kernel) = (Setup::new().unwrap(), Kernel::at(dir.path()).unwrap());
        let guest = Guest {
            setup: &setup,
            repo: dir.path(),
            kernel: &kernel,
            accel: Accel::Tcg,
            extent: Extent::All,
            endurance: false,
            is_first: true,
            name: "old".into(),
            out: dir.path().join("out"),
            interrupt: &Interrupt::default(),
        };
        let boot = boots::all().into_iter().find(|boot| boot.needs.is_some());
        let boot = boot.unwrap();
        let outcome = Results::collect(|results| guest.programs(&boot, "dir", results)).unwrap();
        let why = format!("this kernel has no CONFIG_{}", boot.needs.unwrap());
        assert_eq!(outcome.cases, [Case::skip(boot.part, why)]);
        assert!(!guest.out.exists());
    }
}
