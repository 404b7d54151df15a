// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which guests are booted to test a kernel, and what runs in each.

use super::error::CheckError;
use super::programs;
use std::time::Duration;
use tlp::Ph;
use vm::Arrivals;
use vm::topology::{LinkMode, Topology, preset};
use vm::{DevicesEnd, Kernel, Program};

/// A boot of the guest, and the test programs that run in it.
pub struct Boot {
    /// Its name in the report.
    pub part: &'static str,
    /// Directory of its traces and logs.
    pub dir: &'static str,
    /// Its buses and devices.
    pub topology: Topology,
    /// How many processors it has.
    pub cpus: u8,
    /// What runs in it, in this order.
    pub programs: &'static [Program],
    /// The KUnit tests of its start.
    pub kunit: Option<Kunit>,
    /// What its trace must show.
    pub arrivals: &'static [Arrivals],
    /// The option without which a kernel cannot do it.
    pub needs: Option<&'static str>,
    /// How long it may take, on a plain kernel.
    pub limit: Duration,
    /// How the process that serves its devices is to end.
    pub devices_end: DevicesEnd,
    /// When it is run.
    pub extent: Extent,
    /// Those of its programs that are about locking, lifetime or teardown: what is run on a kernel
    /// that checks itself, beside another one. None if it is not booted there.
    pub checked: &'static [Program],
    /// More kernel parameters.
    append: &'static [&'static str],
}

/// How much is run: what is part of less is part of more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What answers in minutes.
    Quick,
    /// Every case at least once.
    Gate,
    /// Everything, on every kernel.
    All,
}

/// The KUnit tests that run when a guest boots.
pub struct Kunit {
    /// The one pattern that the kernel takes: of the suites, or `SUITE.CASES`.
    glob: &'static str,
    /// How the names of those begin, `SUITE: CASE`, that are ours and must run.
    pub names: &'static [&'static str],
    /// The option with which a kernel has them.
    pub option: &'static str,
}

impl Boot {
    /// What most have in common.
    fn plain() -> Self {
        Self {
            part: "",
            dir: "",
            topology: preset::T1.clone(),
            // So that what runs in parallel can collide.
            cpus: 2,
            programs: &[],
            kunit: None,
            arrivals: &[],
            needs: None,
            limit: Duration::from_secs(10 * 60),
            devices_end: DevicesEnd::WithQemu,
            extent: Extent::Gate,
            checked: &[],
            append: &[],
        }
    }

    /// Whether a test of this name is run in it: one of its programs, or of its KUnit suites.
    fn runs(&self, test: &str) -> bool {
        let mut titles = self.programs.iter().map(Program::title);
        let mut names = self.kunit.iter().flat_map(|kunit| kunit.names);
        titles.any(|title| {
            let test = test.strip_prefix(title);
            test.is_some_and(|test| test.starts_with(": "))
        }) || names.any(|name| test.starts_with(name))
    }

    /// The kernel parameters that run its KUnit tests and no others, and what else it needs.
    pub fn parameters(&self) -> Vec<String> {
        let mut parameters = Vec::new();
        if let Some(kunit) = &self.kunit {
            parameters.extend([
                "kunit.enable=1".to_owned(),
                "kunit.autorun=1".to_owned(),
                format!("kunit.filter_glob={}", kunit.glob),
            ]);
        }
        parameters.extend(self.append.iter().map(|&parameter| parameter.to_owned()));
        parameters
    }
}

/// What is run on a kernel.
pub struct Boots {
    /// Whether it can do what the demos show.
    pub has_demos: bool,
    /// The guests.
    pub boots: Vec<Boot>,
}

/// What a kernel can do decides what is run on it.
pub fn of(kernel: &Kernel) -> Boots {
    let (has_demos, boots) = if !kernel.has("VFIO_PCI_DMABUF") {
        (false, without_dmabuf())
    } else if !kernel.has("PCIE_TPH") {
        (false, without_tph())
    } else {
        (true, full())
    };
    Boots { has_demos, boots }
}

/// The suites of this project.
const TESTS: Kunit = Kunit {
    // ..._buf, ..._tph
    glob: "*_[bt][up][fh]",
    names: &[
        "pcie_tph: ",
        "rust_dma_buf: ",
        "rust_pci_tph: ",
        // That of vfio-pci-core, which runs when it is loaded.
        "rust_vfio_pci_tph: ",
    ],
    option: "RUST_DMA_BUF_KUNIT_TEST",
};

/// Those of a kernel without TPH in the PCI core.
const TESTS_WITHOUT_TPH: Kunit = Kunit {
    names: &["rust_dma_buf: ", "rust_pci_tph: "],
    ..TESTS
};

/// Those in the drivers of the adapter, which run when these are loaded: once in a boot.
const MLX5_TESTS: Kunit = Kunit {
    glob: "rust_mlx5_*",
    names: &["rust_mlx5_st: ", "rust_mlx5_ib_tph: "],
    option: "MLX5_DMABUF_TPH_KUNIT_TEST",
};

/// The kernel crate's examples for these files.
const fn doctests(glob: &'static str, names: &'static [&'static str]) -> Kunit {
    Kunit {
        glob,
        names,
        option: "RUST_KERNEL_DOCTESTS",
    }
}

/// The root port sends what peers below it send each other (requests, completions) to the host bridge.
/// That includes no peers below a switch, which the root port does not see.
const REDIRECT: [&str; 1] = ["pci=config_acs=11xx@0000:00:10.0"];

/// The option with which user space can own TPH requesters.
pub const VFIO_TPH: &str = "VFIO_PCI_TPH";

/// What the boots with initiators of every kind have in common.
fn requesters() -> Boot {
    Boot {
        topology: preset::T1_REQUESTERS.clone(),
        // The firmware does not know all tags of CPU 2 and 3.
        cpus: 4,
        needs: Some(VFIO_TPH),
        ..Boot::plain()
    }
}

/// Everything, on a kernel of this project.
fn full() -> Vec<Boot> {
    let boots = [of_initiators(), of_other_guests(), of_rdma()];
    boots.into_iter().flatten().collect()
}

/// The first guest in which a test of this name is run, on a kernel of this project.
pub fn running(test: &str) -> Result<Boot, CheckError> {
    full()
        .into_iter()
        .find(|boot| boot.runs(test))
        .ok_or_else(|| CheckError::NoBoot(test.to_owned()))
}

/// Drivers in the kernel and in user space, with initiators and accelerators.
fn of_initiators() -> Vec<Boot> {
    vec![
        Boot {
            part: "guest tests",
            dir: "guest",
            topology: preset::T1_COMPLETERS.clone(),
            programs: &programs::ALL,
            kunit: Some(TESTS),
            extent: Extent::Quick,
            checked: &programs::ALL_CHECKED,
            ..Boot::plain()
        },
        Boot {
            part: "guest tests in topology T1 with requesters of every kind",
            dir: "guest-requesters",
            programs: &[programs::USER_SPACE_DRIVER],
            ..requesters()
        },
        Boot {
            part: "guest tests in topology T2, links in non-flit mode",
            dir: "guest-t2",
            topology: Topology {
                mode: LinkMode::Nonflit,
                ..preset::T2_REQUESTERS.clone()
            },
            programs: &programs::EVERYWHERE,
            arrivals: &[Arrivals::Hinted(&[8, 16])],
            ..requesters()
        },
        Boot {
            part: "guest tests in topology T3",
            dir: "guest-t3",
            topology: preset::T3_REQUESTERS.clone(),
            programs: &programs::BEHIND_ROOT_PORT,
            arrivals: &[
                Arrivals::Hinted(&[8, 16]),
                // Its exporter of CPU memory wants the target's hint, a driver in user space none.
                Arrivals::InMemoryForEachCpu {
                    cpus: 2,
                    ph: Ph::Target,
                },
                Arrivals::InMemoryForEachCpu {
                    cpus: 4,
                    ph: Ph::Bidirectional,
                },
            ],
            append: &REDIRECT,
            ..requesters()
        },
    ]
}

/// What needs a guest of its own.
fn of_other_guests() -> Vec<Boot> {
    vec![
        Boot {
            part: "guest tests at the lowest policy level",
            dir: "guest-lowest-level",
            programs: &[programs::LOWEST_LEVEL],
            arrivals: &[Arrivals::WithoutHint],
            ..requesters()
        },
        Boot {
            part: "guest tests with a processor that is not trusted",
            dir: "guest-untrusted",
            topology: preset::T1_UNTRUSTED.clone(),
            programs: &[programs::UNTRUSTED_CPU],
            arrivals: &[Arrivals::None],
            ..Boot::plain()
        },
        Boot {
            part: "guest tests with pci=notph",
            dir: "guest-notph",
            programs: &[programs::NO_TPH],
            arrivals: &[Arrivals::WithoutHint],
            append: &["pci=notph"],
            ..Boot::plain()
        },
        Boot {
            part: "guest tests in topology T4 with ACS redirect",
            dir: "guest-t4-redirect",
            topology: preset::T4.clone(),
            programs: &[programs::REDIRECT_ON_PATH],
            append: &REDIRECT,
            ..Boot::plain()
        },
        Boot {
            part: "guest tests with a device process that is killed",
            dir: "guest-killed",
            programs: &[programs::DEVICES_KILLED],
            kunit: Some(doctests(
                "rust_doctests_kernel.rust_doctest_kernel_dma_buf_*",
                &["rust_doctests_kernel: rust_doctest_kernel_dma_buf_"],
            )),
            devices_end: DevicesEnd::KilledAfter(programs::KILL_DEVICES),
            checked: &[programs::DEVICES_KILLED],
            ..Boot::plain()
        },
    ]
}

/// The drivers of the RDMA adapter.
fn of_rdma() -> Vec<Boot> {
    vec![
        Boot {
            part: "RDMA tests",
            dir: "rdma",
            topology: preset::T1_ADAPTERS.clone(),
            programs: &programs::RDMA_ALL,
            checked: &programs::RDMA_CHECKED,
            ..Boot::plain()
        },
        Boot {
            part: "RDMA tests with adapters of other kinds",
            dir: "rdma-adapters",
            topology: preset::T1_ADAPTERS.clone(),
            programs: &programs::RDMA_ADAPTERS,
            kunit: Some(MLX5_TESTS),
            extent: Extent::Quick,
            ..Boot::plain()
        },
        Boot {
            part: "RDMA tests in topology T3",
            dir: "rdma-t3",
            topology: preset::T3_ADAPTERS.clone(),
            programs: &programs::RDMA_BEHIND_ROOT_PORT,
            // Its adapters are enabled for both, and send those of 16 bits.
            arrivals: &[Arrivals::Hinted(&[16])],
            ..Boot::plain()
        },
        Boot {
            part: "RDMA tests with an adapter that is killed",
            dir: "rdma-killed",
            topology: preset::T1_RDMA.clone(),
            programs: &[programs::ADAPTER_KILLED],
            kunit: Some(doctests(
                "rust_doctests_kernel.rust_doctest_kernel_pci_tph_*",
                &["rust_doctests_kernel: rust_doctest_kernel_pci_tph_"],
            )),
            devices_end: DevicesEnd::KilledAfter(programs::KILL_DEVICES),
            checked: &[programs::ADAPTER_KILLED],
            ..Boot::plain()
        },
    ]
}

fn without_tph() -> Vec<Boot> {
    vec![
        Boot {
            part: "guest tests without TPH",
            dir: "guest",
            programs: &[programs::WITHOUT_TPH],
            kunit: Some(TESTS_WITHOUT_TPH),
            arrivals: &[Arrivals::WithoutHint],
            // vfio is built in.
            append: &["vfio.enable_unsafe_noiommu_mode=1"],
            ..Boot::plain()
        },
        Boot {
            part: "RDMA tests without TPH",
            dir: "rdma",
            topology: preset::T1_RDMA.clone(),
            programs: &programs::RDMA_STOCK,
            extent: Extent::All,
            ..Boot::plain()
        },
    ]
}

fn without_dmabuf() -> Vec<Boot> {
    vec![
        Boot {
            part: "guest tests without dma-bufs of vfio",
            dir: "guest",
            programs: &[programs::WITHOUT_DMABUF],
            ..Boot::plain()
        },
        // The table of steering tags is that in C.
        Boot {
            part: "RDMA tests without Rust in topology T3",
            dir: "rdma-t3",
            topology: preset::T3_RDMA.clone(),
            programs: &programs::RDMA_STOCK,
            extent: Extent::All,
            ..Boot::plain()
        },
    ]
}

/// What takes long, on a kernel that need not be this project's.
pub fn endurance() -> Vec<Boot> {
    vec![
        Boot {
            part: "RDMA tests",
            dir: "rdma",
            topology: preset::T1_RDMA.clone(),
            programs: &programs::RDMA_STOCK,
            ..Boot::plain()
        },
        Boot {
            part: "drivers that are loaded 50 times",
            dir: "reload",
            topology: preset::T1_RDMA.clone(),
            programs: const { &[programs::RDMA_RELOAD.environment(&[("RDMA_CYCLES", "50")])] },
            limit: Duration::from_secs(20 * 60),
            ..Boot::plain()
        },
        Boot {
            part: "ten minutes without work",
            dir: "idle",
            topology: preset::T1_RDMA.clone(),
            programs: const { &[programs::ADAPTER_IDLE.environment(&[("RDMA_IDLE", "600")])] },
            limit: Duration::from_secs(15 * 60),
            ..Boot::plain()
        },
        Boot {
            part: "100000 registrations",
            dir: "registrations",
            topology: preset::T1_RDMA.clone(),
            programs: const {
                &[programs::RDMA_REGISTRATIONS.environment(&[("RDMA_REGISTRATIONS", "100000")])]
            },
            needs: Some("VFIO_PCI_DMABUF_TPH"),
            limit: Duration::from_secs(60 * 60),
            ..Boot::plain()
        },
        Boot {
            part: "10000 resets of a requester that user space owns",
            dir: "requester-cycles",
            programs: const { &[programs::REQUESTER_LIFETIME.environment(&[("VFIO_CYCLES", "10000")])] },
            needs: Some(VFIO_TPH),
            limit: Duration::from_secs(120 * 60),
            ..Boot::plain()
        },
    ]
}

/// How often the process of the adapter is killed then, at another moment each time.
pub const KILLS: usize = 100;

/// A boot of which the process of the adapter is killed.
pub fn kill() -> Boot {
    Boot {
        part: "an adapter that is killed",
        dir: "killed",
        topology: preset::T1_RDMA.clone(),
        programs: &[programs::ADAPTER_KILLED],
        devices_end: DevicesEnd::KilledAfter(programs::KILL_DEVICES),
        ..Boot::plain()
    }
}

/// All that can be booted, on whatever kernel.
#[cfg(test)]
pub fn all() -> Vec<Boot> {
    let boots = [
        full(),
        without_tph(),
        without_dmabuf(),
        endurance(),
        vec![kill()],
    ];
    boots.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mutants::Mutant;
    use std::collections::BTreeSet;
    use std::path::Path;
    use vm::Program;

    #[test]
    fn the_gate_runs_every_program() {
        let programs = |boots: &[Boot], extent| -> BTreeSet<_> {
            let boots = boots.iter().filter(|boot| boot.extent <= extent);
            let programs = boots.flat_map(|boot| boot.programs);
            programs.map(Program::title).collect()
        };
        let boots = [full(), without_tph(), without_dmabuf()];
        let boots: Vec<_> = boots.into_iter().flatten().collect();
        let of_gate = programs(&boots, Extent::Gate);
        assert_eq!(of_gate, programs(&boots, Extent::All));
        let of_quick = programs(&boots, Extent::Quick);
        assert!(of_quick.is_subset(&of_gate) && of_quick.len() < of_gate.len());
    }

    #[test]
    fn what_is_run_on_a_kernel_that_checks_itself_is_of_the_boot() {
        for boot in all() {
            for program in boot.checked {
                assert!(boot.programs.contains(program), "{}", program.title());
            }
        }
    }

    #[test]
    fn what_only_a_kernel_that_checks_itself_has_is_run_there() {
        let doctests = full().into_iter().filter(|boot| {
            let kunit = boot.kunit.as_ref();
            kunit.is_some_and(|kunit| kunit.option == "RUST_KERNEL_DOCTESTS")
        });
        let doctests: Vec<_> = doctests.collect();
        assert_eq!(doctests.len(), 2);
        for boot in doctests {
            assert!(!boot.checked.is_empty(), "{}", boot.part);
        }
    }

    fn dir(test: &str) -> Option<&'static str> {
        running(test).ok().map(|boot| boot.dir)
    }

    #[test]
    fn a_guest_is_found_by_the_program_or_the_suite_of_a_test() {
        assert_eq!(dir("vfio-tph-root-port: a"), Some("guest-t3"));
        assert_eq!(dir("rust_mlx5_st: a"), Some("rdma-adapters"));
        let first = dir("guest-dma-buf-tph: case 3: a");
        assert_eq!(first, Some("guest"), "of three");
    }

    #[test]
    fn a_test_that_no_guest_runs_is_an_error() {
        for test in ["guest-dma-buf", "guest-dma-buf-tph", "guest-dma: a", ""] {
            let error = running(test).err().map(|error| error.to_string());
            let error = error.unwrap_or_default();
            assert!(
                error.starts_with(&format!("no guest runs '{test}'")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_test_that_must_find_a_fault_is_run_in_a_guest() {
        let faults = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../scripts/mutants.d");
        for Mutant { name, found_by } in Mutant::read_all(&faults, &[]).unwrap() {
            assert!(running(&found_by).is_ok(), "{name}: {found_by}");
        }
    }
}
