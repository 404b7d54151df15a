// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which guests are booted to test a kernel, and what runs in each.

use super::guest;
use crate::topology::Topology;
use crate::vm::Kernel;

/// A boot of the guest, and the test programs that run in it.
pub struct Boot {
    /// Its name in the report.
    pub part: &'static str,
    /// Directory of its traces and logs.
    pub dir: &'static str,
    /// Its devices.
    pub topology: Topology,
    /// How their names begin.
    pub programs: &'static [&'static str],
    /// The KUnit tests of its start.
    pub kunit: Kunit,
    /// More kernel parameters.
    append: &'static [&'static str],
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
    /// The kernel parameters that run its KUnit tests and no others, and what else it needs.
    pub fn parameters(&self) -> Vec<String> {
        let mut parameters = vec![
            "kunit.enable=1".to_owned(),
            "kunit.autorun=1".to_owned(),
            format!("kunit.filter_glob={}", self.kunit.glob),
        ];
        parameters.extend(self.append.iter().map(|&parameter| parameter.to_owned()));
        parameters
    }
}

/// What is run on a kernel.
pub struct Boots {
    /// Whether it can do what the demos show.
    pub has_demos: bool,
    /// The guests.
    pub boots: &'static [Boot],
}

/// What a kernel can do decides what is run on it.
pub fn of(kernel: &Kernel) -> Boots {
    let (has_demos, boots): (_, &[Boot]) = if !kernel.has("VFIO_PCI_DMABUF") {
        (false, &WITHOUT_DMABUF)
    } else if !kernel.has("PCIE_TPH") {
        (false, &WITHOUT_TPH)
    } else {
        (true, &FULL)
    };
    Boots { has_demos, boots }
}

/// The suites of this project.
const TESTS: Kunit = Kunit {
    glob: "rust_[dp][mc]*",
    names: &["rust_dma_buf: ", "rust_pci_tph: "],
    option: "RUST_DMA_BUF_KUNIT_TEST",
};

static FULL: [Boot; 3] = [
    Boot {
        part: "guest tests",
        dir: "guest",
        topology: Topology::T1Completers,
        programs: &[guest::ALL],
        kunit: TESTS,
        append: &[],
    },
    Boot {
        part: "guest tests in topology T2",
        dir: "guest-t2",
        topology: Topology::T2,
        programs: &guest::EVERYWHERE,
        kunit: Kunit {
            glob: "rust_doctests_kernel.rust_doctest_kernel_dma_buf_*",
            names: &["rust_doctests_kernel: rust_doctest_kernel_dma_buf_"],
            option: "RUST_KERNEL_DOCTESTS",
        },
        append: &[],
    },
    Boot {
        part: "guest tests in topology T3",
        dir: "guest-t3",
        topology: Topology::T3,
        programs: &[guest::EVERYWHERE[0], guest::EVERYWHERE[1], guest::ROOT_PORT],
        kunit: Kunit {
            glob: "rust_doctests_kernel.rust_doctest_kernel_pci_tph_*",
            names: &["rust_doctests_kernel: rust_doctest_kernel_pci_tph_"],
            option: "RUST_KERNEL_DOCTESTS",
        },
        append: &[],
    },
];

static WITHOUT_TPH: [Boot; 1] = [Boot {
    part: "guest tests without TPH",
    dir: "guest",
    topology: Topology::T1,
    programs: &["without-tph"],
    kunit: TESTS,
    // vfio is built in.
    append: &["vfio.enable_unsafe_noiommu_mode=1"],
}];

static WITHOUT_DMABUF: [Boot; 1] = [Boot {
    part: "guest tests without dma-bufs of vfio",
    dir: "guest",
    topology: Topology::T1,
    programs: &["without-dmabuf"],
    kunit: TESTS,
    append: &[],
}];
