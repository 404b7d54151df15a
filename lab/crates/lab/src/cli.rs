// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options of the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use series::SeriesCommand;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use trace::command::TraceCommand;
use trace::number::number;
use vm::serve::ServeArgs;
use vm::topology::{DevicesArgs, TopologyArgs};

/// Emulated PCIe devices with TPH, and a guest that uses them.
#[derive(Debug, Parser)]
#[command(name = "lab", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish a steering tag, watch it arrive, and check every step
    Demo(DemoArgs),
    /// Run every test and print one total
    Check(CheckArgs),
    /// Run the tests of the uAPI on any kernel, case by case
    Conformance(ConformanceArgs),
    /// Run the kernel's own tests of VFIO on the pristine kernel and on ours
    VfioSelftests(VfioSelftestsArgs),
    /// Put faults into the kernel half, one at a time: the test that each names must find it
    Mutants(MutantsArgs),
    /// Measure, and print a table
    Bench(BenchArgs),
    /// Open a shell in the guest, with the devices present
    Shell(ShellArgs),
    /// Show what a trace holds: as text, sums, or a page
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Write the patch series, or check it
    #[command(subcommand)]
    Series(SeriesCommand),
    /// Serve the devices to a QEMU (the other commands do this themselves)
    Devices(ServeArgs),
}

/// The kernel, and where to remember what is known about it.
#[derive(Debug, Args)]
pub struct KernelArgs {
    /// Kernel build directory
    #[arg(long, value_name = "DIR")]
    pub kernel: PathBuf,
    /// Where the answer of the KVM probe is kept
    #[arg(long, value_name = "DIR", default_value = "/tph/cache")]
    pub cache: PathBuf,
}

/// Options of `lab demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kernel: KernelArgs,
    /// Directory for traces and logs
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The repository
    #[arg(long, value_name = "DIR", default_value = "/tph/repo")]
    pub repo: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub publish: Publish,
    /// What drives the initiators
    #[arg(long, value_enum, default_value_t)]
    pub driver: Driver,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub topology: TopologyArgs,
}

/// What drives the initiators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// The driver in the kernel, which imports the accelerator's dma-buf.
    #[default]
    Kernel,
    /// One in user space, by VFIO.
    UserSpace,
}

/// What the demo publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Publish {
    /// 8-bit steering tag
    #[arg(long, value_name = "TAG", default_value = "0xf0", value_parser = number::<u8>)]
    pub st: u8,
    /// Processing hint, 0 to 3
    #[arg(long, value_name = "PH", default_value = "2", value_parser = processing_hint)]
    pub ph: u8,
    /// 16-bit steering tag
    #[arg(long, value_name = "TAG", default_value = "0xbef0", value_parser = number::<u16>)]
    pub ext: u16,
    /// CPU at which a driver in user space steers writes to memory, 0 to 3 (behind a root port)
    #[arg(long, value_name = "CPU", default_value = "1", value_parser = clap::value_parser!(u32).range(..4))]
    pub cpu: u32,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            st: 0xf0,
            ph: 2,
            ext: 0xbef0,
            cpu: 1,
        }
    }
}

/// Options of `lab check`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // Each is a word of the command line.
pub struct CheckArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kernel: KernelArgs,
    /// Directory for traces and logs
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The repository
    #[arg(long, value_name = "DIR", default_value = "/tph/repo")]
    pub repo: PathBuf,
    /// Another kernel's build directory, on which the guest's tests run too; may be repeated
    #[arg(long, value_name = "DIR")]
    pub also_on: Vec<PathBuf>,
    /// How many guests and host tests run at a time [default: three for each two processors, if memory allows]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// The guest's tests only
    #[arg(long)]
    pub guest_only: bool,
    /// Only what answers in minutes: the lab's own tests, and two guests
    #[arg(long, conflicts_with = "all")]
    pub quick: bool,
    /// Everything on every kernel, instead of every case at least once
    #[arg(long)]
    pub all: bool,
    /// What takes long instead: loads, registrations, resets, kills; also on a kernel of one's own
    #[arg(long)]
    pub endurance: bool,
    /// Only the parts whose names contain this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
}

/// Options of `lab conformance`.
#[derive(Debug, Args)]
pub struct ConformanceArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kernel: KernelArgs,
    /// Directory for traces and logs
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Options of `lab vfio-selftests`.
#[derive(Debug, Args)]
pub struct VfioSelftestsArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kernel: KernelArgs,
    /// Build directory of the pristine kernel
    #[arg(long, value_name = "DIR")]
    pub pristine: PathBuf,
    /// tools/testing/selftests/vfio of the pristine kernel
    #[arg(long, value_name = "DIR")]
    pub source: PathBuf,
    /// Directory with the tests that were built of it
    #[arg(long, value_name = "DIR")]
    pub programs: PathBuf,
    /// Directory for traces and logs
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Options of `lab mutants`.
#[derive(Debug, Args)]
pub struct MutantsArgs {
    /// Directory with the faults, as patches
    #[arg(long, value_name = "DIR")]
    pub faults: PathBuf,
    /// What builds a kernel: `PROGRAM build [FAULT]` prints its build directory
    #[arg(long, value_name = "PROGRAM")]
    pub builder: PathBuf,
    /// The repository
    #[arg(long, value_name = "DIR", default_value = "/tph/repo")]
    pub repo: PathBuf,
    /// Where the answer of the KVM probe is kept
    #[arg(long, value_name = "DIR", default_value = "/tph/cache")]
    pub cache: PathBuf,
    /// Directory for traces and logs
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which faults [default: all]
    #[arg(value_name = "FAULT")]
    pub names: Vec<String>,
}

/// Options of `lab bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Kernel build directory; without it nothing is measured in a guest
    #[arg(long, value_name = "DIR")]
    pub kernel: Option<PathBuf>,
    /// Directory for the JSON and logs
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Options of `lab shell`.
#[derive(Debug, Args)]
pub struct ShellArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kernel: KernelArgs,
    /// Directory for traces and logs
    #[arg(long, value_name = "DIR", default_value = "/tph/repo/out/shell")]
    pub out: PathBuf,
    /// How many processors the guest has
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    pub cpus: u8,
    /// Run this command in the guest instead, and end
    #[arg(long, value_name = "COMMAND")]
    pub run: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub devices: DevicesArgs,
}

fn processing_hint(text: &str) -> Result<u8, String> {
    match number(text)? {
        ph @ 0..=3 => Ok(ph),
        _ => Err("a processing hint has two bits: 0, 1, 2 or 3".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use vm::topology::{LinkMode, preset};

    fn demo(options: &[&str]) -> Result<DemoArgs, String> {
        let fixed = ["lab", "demo", "--kernel", "/k", "--out", "/o"];
        match Cli::try_parse_from(fixed.iter().chain(options)) {
            Ok(Cli {
                command: Command::Demo(args),
            }) => Ok(args),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_demo_has_defaults() {
        let args = demo(&[]).unwrap();
        assert_eq!(args.publish, Publish::default());
        assert_eq!(args.topology.topology(), *preset::T1);
        assert_eq!(args.driver, Driver::Kernel);
    }

    #[test]
    fn a_driver_in_user_space_is_chosen() {
        let args = demo(&["--driver", "user-space", "--cpu", "3"]).unwrap();
        assert_eq!((args.driver, args.publish.cpu), (Driver::UserSpace, 3));
        assert!(demo(&["--cpu", "4"]).is_err(), "the guest has no more");
    }

    #[test]
    fn tags_are_decimal_or_hexadecimal() {
        let args = demo(&["--st", "7", "--ext", "0x1234", "--mode", "nonflit"]).unwrap();
        assert_eq!((args.publish.st, args.publish.ext), (7, 0x1234));
        assert_eq!(args.topology.topology().mode, LinkMode::Nonflit);
    }

    #[test]
    fn a_topology_that_is_not_there_is_refused_with_those_that_are() {
        assert!(demo(&["--topology", "t9"]).unwrap_err().contains("t3"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(demo(&["--st", "0x100"]).unwrap_err().contains("8 bits"));
        assert!(demo(&["--ext", "65536"]).unwrap_err().contains("16 bits"));
        assert!(demo(&["--ph", "4"]).unwrap_err().contains("two bits"));
        assert!(demo(&["--st", "tag"]).unwrap_err().contains("such as"));
    }
}
