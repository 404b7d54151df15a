// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test programs of the guest, and which of them several guests have in common.

use vm::Program;

/// One of the tests of RDMA, which are in the repository and not built.
macro_rules! rdma {
    ($name:literal) => {
        Program::in_repository(concat!("tools/testing/selftests/rdma-tph/", $name))
    };
}

/// What exports memory for a program that is not built.
pub const EXPORTER: [(&str, &str); 1] = [("P2P_EXPORTER", "p2p-exporter")];

const BUS_MASTER: Program = Program::built("guest-bus-master");
const RACES: Program = Program::built("guest-races");
const DMA_BUF_TPH: Program = Program::built("guest-dma-buf-tph");
const WHOLE_PATH: Program = Program::built("guest-whole-path");

/// Those that need accelerators of every completer type, and those of a requester that user space owns,
/// an integrated endpoint.
pub const ALL: [Program; 10] = [
    BUS_MASTER,
    Program::built("guest-completers"),
    DMA_BUF_TPH,
    Program::built("guest-lspci"),
    Program::built("guest-memory"),
    RACES,
    WHOLE_PATH,
    Program::built("vfio-tph-integrated-control"),
    REQUESTER_LIFETIME,
    Program::built("vfio-tph-integrated-table"),
];
/// Those among them that are about locking, lifetime or teardown.
pub const ALL_CHECKED: [Program; 3] = [BUS_MASTER, RACES, REQUESTER_LIFETIME];
/// Those among them that need no more than the devices that every topology has, and a driver in user
/// space.
pub const EVERYWHERE: [Program; 3] = [DMA_BUF_TPH, WHOLE_PATH, USER_SPACE_DRIVER];
/// The same behind a root port of each completer type, what needs one, and what needs a redirection
/// elsewhere than on the path. What loads the root port's driver otherwise leaves it as it was, but for
/// the user-space driver's.
pub const BEHIND_ROOT_PORT: [Program; 10] = [
    DMA_BUF_TPH,
    WHOLE_PATH,
    Program::built("root-port-completers"),
    Program::built("root-port-memory"),
    Program::built("acs-redirect-off-path"),
    Program::built("vfio-tph-root-port"),
    USER_SPACE_DRIVER
        .arguments(&["--root-port=0"])
        .titled("vfio-driver, root port that is no completer"),
    USER_SPACE_DRIVER
        .arguments(&["--root-port=1"])
        .titled("vfio-driver, root port of 8-bit tags"),
    USER_SPACE_DRIVER
        .arguments(&["--root-port=2"])
        .titled("vfio-driver, root port of a reserved type"),
    USER_SPACE_DRIVER
        .arguments(&["--root-port=3"])
        .titled("vfio-driver, root port of both"),
];
/// What needs initiators of every kind, for a driver in user space.
pub const USER_SPACE_DRIVER: Program = Program::built("vfio-driver");
/// What can take long of the tests of a requester that user space owns.
pub const REQUESTER_LIFETIME: Program = Program::built("vfio-tph-integrated-lifetime");
/// Those of every kind of requester at the lowest policy level.
pub const LOWEST_LEVEL: Program = Program::built("vfio-tph-lowest-level");

// What needs a guest of its own: a processor, kernel parameters, a kernel or an end of the devices
// that the others cannot do with.
pub const UNTRUSTED_CPU: Program = Program::built("untrusted-cpu");
pub const NO_TPH: Program = Program::built("notph");
pub const REDIRECT_ON_PATH: Program = Program::built("acs-redirect-on-path");
pub const DEVICES_KILLED: Program = Program::built("devices-killed");
pub const WITHOUT_TPH: Program = Program::built("without-tph");
pub const WITHOUT_DMABUF: Program = Program::built("without-dmabuf");

const RDMA_CORE: Program = rdma!("rdma-core-tests");
const RDMA_DEVINFO: Program = rdma!("rdma-devinfo");
/// What writes to the gateways of TLP emulation: see the module `gateways`.
pub const RDMA_GATEWAYS: Program = rdma!("rdma-gateways");
const RDMA_PERFTEST: Program = rdma!("rdma-perftest");

/// The tests of RDMA, which need a topology with an adapter; the third one of T1-adapters has other
/// doorbells, and one vector.
pub const RDMA_ALL: [Program; 8] = [
    RDMA_CORE,
    RDMA_DEVINFO,
    RDMA_HINTS,
    RDMA_GATEWAYS,
    RDMA_PERFTEST,
    RDMA_REGISTRATIONS,
    RDMA_RELOAD,
    RDMA_RELOAD
        .environment(&[("ADAPTER", "2")])
        .titled("rdma-reload, plain adapter"),
];
/// Those among them that are about locking, lifetime or teardown.
pub const RDMA_CHECKED: [Program; 3] = [RDMA_HINTS, RDMA_REGISTRATIONS, RDMA_RELOAD];
/// That which depends on how the adapter keeps tags.
pub const RDMA_HINTS: Program = rdma!("rdma-dma-buf-tph").uses(&EXPORTER);
const RDMA_HINTS_DIRECT: Program = RDMA_HINTS
    .environment(&[("ADAPTER", "1")])
    .titled("rdma-dma-buf-tph, no ST table");
/// The same with the adapters of T1-adapters that are not of the common kind.
pub const RDMA_ADAPTERS: [Program; 3] = [
    RDMA_HINTS_DIRECT,
    RDMA_HINTS
        .environment(&[("ADAPTER", "2")])
        .titled("rdma-dma-buf-tph, plain adapter"),
    RDMA_HINTS
        .environment(&[("ADAPTER", "3")])
        .titled("rdma-dma-buf-tph, 8-bit tags"),
];
/// Those that depend on where the adapter is, for T3-adapters.
pub const RDMA_BEHIND_ROOT_PORT: [Program; 3] = [RDMA_CORE, RDMA_HINTS, RDMA_HINTS_DIRECT];
/// Those that need nothing of this project's in the kernel.
pub const RDMA_STOCK: [Program; 4] = [RDMA_CORE, RDMA_DEVINFO, RDMA_PERFTEST, RDMA_GATEWAYS];

// They take long, or need a guest of their own.
pub const RDMA_RELOAD: Program = rdma!("rdma-reload");
pub const RDMA_REGISTRATIONS: Program = rdma!("rdma-registrations").uses(&EXPORTER);
pub const ADAPTER_IDLE: Program = rdma!("adapter-idle");
pub const ADAPTER_KILLED: Program = rdma!("adapter-killed");

// Those of the demos.
pub const DEMO: Program = Program::built("p2p-demo");
pub const USER_SPACE_DEMO: Program = Program::built("vfio-demo");
pub const RDMA_DEMO: Program = rdma!("demo-rdma").uses(&EXPORTER);

/// Those with the cases of the contract that user space can see, which skip what the kernel lacks.
pub const CONFORMANCE: [Program; 3] = [
    conformance("guest-completers"),
    conformance("guest-dma-buf-tph"),
    conformance("guest-races"),
];

const fn conformance(name: &'static str) -> Program {
    Program::built(name).environment(&[("DMA_BUF_TPH_CONFORMANCE", "1")])
}

/// A program prints this line to have the device process killed in mid-transfer.
pub const KILL_DEVICES: &str = "# kill the device process";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::boots;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use vm::File;

    fn repo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
    }

    /// The binaries of the package with the guest's programs, as cargo names them.
    fn binaries() -> BTreeSet<String> {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .current_dir(repo().join("lab"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages
            .iter()
            .find(|package| package["name"] == "dma-buf-tph")
            .unwrap();
        let targets = package["targets"].as_array().unwrap().iter();
        targets
            .filter(|target| target["kind"][0] == "bin")
            .map(|target| target["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The programs of the repository's tests of RDMA, as paths in the repository.
    fn executables() -> BTreeSet<String> {
        let folder = "tools/testing/selftests/rdma-tph";
        fs::read_dir(repo().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| {
                let metadata = entry.metadata().unwrap();
                metadata.is_file() && metadata.permissions().mode() & 1 != 0
            })
            .map(|entry| format!("{folder}/{}", entry.file_name().display()))
            .collect()
    }

    /// All that is run somewhere.
    fn run() -> impl Iterator<Item = Program> {
        let boots = boots::all().into_iter().flat_map(|boot| boot.programs);
        let boots = boots.copied();
        boots
            .chain([DEMO, USER_SPACE_DEMO, RDMA_DEMO])
            .chain(CONFORMANCE)
    }

    #[test]
    fn every_program_is_run_and_every_name_is_that_of_one() {
        let (mut built, mut in_repository) = (BTreeSet::new(), BTreeSet::new());
        for program in run() {
            for file in program.used().chain([program.file()]) {
                match file {
                    File::Built(name) => built.insert(name.to_owned()),
                    File::InRepository(path) => in_repository.insert(path.to_owned()),
                };
            }
        }
        assert_eq!(built, binaries());
        assert_eq!(in_repository, executables());
    }

    #[test]
    fn no_two_programs_of_a_boot_have_one_title() {
        for boot in boots::all() {
            let mut titles = BTreeMap::new();
            for program in boot.programs {
                let other = titles.insert(program.title(), program);
                assert_eq!(other, None, "{}: {}", boot.part, program.title());
            }
            assert!(!titles.is_empty(), "{} runs no program", boot.part);
        }
    }

    #[test]
    fn what_a_program_of_the_repository_uses_is_found_by_that_variable() {
        let lib = repo().join("tools/testing/selftests/rdma-tph/lib/exporter.py");
        let lib = fs::read_to_string(lib).unwrap();
        for (variable, _) in EXPORTER {
            assert!(lib.contains(&format!("environ.get(\"{variable}\"")));
        }
        for program in run() {
            if let File::InRepository(path) = program.file() {
                let text = fs::read_to_string(repo().join(path)).unwrap();
                let uses = text.contains("import exporter") || text.contains("from exporter");
                assert_eq!(program.used().count() == 1, uses, "{path}");
            }
        }
    }
}
