// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs with made-up programs in place of virtme-ng, QEMU and the device process.

use super::*;
use crate::error::Cause;
use crate::fake;
use crate::topology::{LinkMode, StTable, Topology, preset};
use fabric::Fabric;
use fabric::trace::{BINARY_FILE, Tap};
use std::cell::RefCell;
use tlp::{Bdf, Mode};

const LONG: Duration = Duration::from_secs(60);

/// A directory with made-up programs and a made-up kernel.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) setup: Setup,
    pub(crate) kernel: Kernel,
}

/// Finds the serial log in virtme-ng's arguments.
const PREAMBLE: &str = r"out=$root/out
for argument; do
	case $argument in *chardev.console.path=*) log=${argument#*chardev.console.path=}; log=${log%%\'*};; esac
done";

/// A device process that is ready and stays until it is ended.
const GOOD_DEVICES: &str = "echo ready; exec sleep 1000";

impl Bench {
    /// `vng` and `devices` are the bodies of shell scripts. In both, `$root` is the bench's directory
    /// and `$out` that of a [`Bench::run`]; in `vng`, `$log` is the serial log.
    pub(crate) fn new(vng: &str, devices: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let script = |name: &str, body: &str| {
            let text = format!("#!/bin/sh\nroot={}\n{PREAMBLE}\n{body}\n", root.display());
            fake::script(root, name, &text)
        };
        let setup = Setup {
            // What stands before vng: --mount sh -c SCRIPT STAND-IN.
            unshare: script("unshare", "shift 5; exec \"$@\""),
            vng: script("vng", vng),
            iasl: "/nowhere/iasl".into(),
            lab: script("lab", devices),
            ready_limit: LONG,
            leave_limit: LONG,
            begin_limit: LONG,
        };
        let build = root.join("kernel");
        fs::create_dir_all(build.join("arch/x86/boot")).unwrap();
        for file in ["arch/x86/boot/bzImage", ".config", "modules.order"] {
            fs::write(build.join(file), "").unwrap();
        }
        Self {
            setup,
            kernel: Kernel::at(&build).unwrap(),
            dir,
        }
    }

    fn run(&self, devices: Option<Devices>, limit: Duration) -> Result<Run, VmError> {
        self.run_with(devices, limit, &Interrupt::default(), &mut |_| {})
    }

    fn run_with(
        &self,
        devices: Option<Devices>,
        limit: Duration,
        interrupt: &Interrupt,
        line: &mut dyn FnMut(&str),
    ) -> Result<Run, VmError> {
        let out = self.dir.path().join("out");
        let vm = Vm {
            devices,
            limit,
            ..self.vm(&out)
        };
        run(&self.setup, &vm, interrupt, line)
    }

    /// A guest without devices.
    fn vm<'a>(&'a self, out: &'a Path) -> Vm<'a> {
        Vm {
            kernel: &self.kernel,
            accel: Accel::Tcg,
            cpus: 1,
            icount: false,
            devices: None,
            devices_end: DevicesEnd::default(),
            append: &[],
            task: Task::Script("true".into()),
            limit: LONG,
            out,
        }
    }
}

/// The end of a guest whose command returned `status`.
fn end(status: u8) -> String {
    format!("echo '[    1.000000] {STATUS_MARK}{status}' >>$log; exit {status}")
}

/// The guest's command begins.
fn begin() -> String {
    format!("echo '[    0.500000] {BEGIN_MARK}' >>$log")
}

/// The fake QEMU's part of a vng script: it stays until the file `seen` exists.
fn qemu(bench_dir: &str, backend: &str) -> String {
    let qemu = format!("{bench_dir}/qemu-system-fake");
    format!("{qemu} --version; {qemu} -kernel bzImage -object {backend} & echo up; wait $!")
}

fn gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[test]
fn lines_and_status_come_back() {
    for status in [0, 3, 255] {
        let vng = format!("echo one; echo two; {}", end(status));
        let bench = Bench::new(&vng, "");
        let mut lines = Vec::new();
        let run = bench
            .run_with(None, LONG, &Interrupt::default(), &mut |line| {
                lines.push(line.to_owned());
            })
            .unwrap();
        assert_eq!(run.status, status);
        assert_eq!(lines, ["one", "two"]);
        assert!(run.serial.ends_with("out/serial.log"));
    }
}

#[test]
fn a_guest_that_died_is_no_status_255() {
    let vng = format!("{}; echo '[    0.6] last words' >>$log; exit 255", begin());
    let error = Bench::new(&vng, "").run(None, LONG).unwrap_err();
    assert!(matches!(error, VmError::GuestDied { .. }), "{error}");
    assert!(error.to_string().contains("last words"), "{error}");
    assert_eq!(error.cause(), Cause::Harness);
}

#[test]
fn a_guest_that_ends_before_its_command_is_a_failure_of_the_harness() {
    let bench = Bench::new(
        "echo '[    0.5] booting' >>$log; echo 'sh: no script' >&2; exit 127",
        "",
    );
    let error = bench.run(None, LONG).unwrap_err();
    assert!(matches!(error, VmError::NotBegun { .. }), "{error}");
    assert!(error.to_string().contains("sh: no script"), "{error}");
    assert_eq!(error.cause(), Cause::Harness);
}

#[test]
fn a_guest_that_hangs_is_a_result_once_its_command_has_begun() {
    for (vng, cause) in [
        ("exec sleep 1000".to_owned(), Cause::Harness),
        (format!("{}; exec sleep 1000", begin()), Cause::Fault),
    ] {
        let bench = Bench::new(&vng, "");
        let error = bench.run(None, Duration::from_millis(500)).unwrap_err();
        assert!(matches!(error, VmError::TimedOut { .. }), "{error}");
        assert_eq!(error.cause(), cause, "{error}");
        let early = error.to_string().contains("command did not begin");
        assert_eq!(early, cause == Cause::Harness, "{error}");
    }
}

#[test]
fn a_guest_whose_command_does_not_begin_is_not_waited_for_until_the_end() {
    let short = Duration::from_millis(300);
    let mut bench = Bench::new("exec sleep 1000", "");
    bench.setup.begin_limit = short;
    let VmError::TimedOut { limit, reached, .. } = bench.run(None, LONG).unwrap_err() else {
        panic!("it ended otherwise");
    };
    assert_eq!((limit, reached), (short, Reached::Boot));

    // One that has begun has the rest of its time.
    let vng = format!("{}; sleep 1; {}", begin(), end(0));
    let mut bench = Bench::new(&vng, "");
    bench.setup.begin_limit = short;
    assert_eq!(bench.run(None, LONG).unwrap().status, 0);
}

#[test]
fn a_shell_need_not_begin() {
    let mut bench = Bench::new("sleep 1", "");
    bench.setup.begin_limit = Duration::from_millis(300);
    let out = bench.dir.path().join("out");
    let vm = Vm {
        task: Task::Shell,
        ..bench.vm(&out)
    };
    let run = run(&bench.setup, &vm, &Interrupt::default(), &mut |_| {}).unwrap();
    assert_eq!(run.status, 0);
}

#[test]
fn the_script_of_a_guest_is_a_file() {
    let script = format!("echo {}", "x".repeat(5000));
    // The last argument is what the guest executes.
    let bench = Bench::new(
        &format!(
            "for last; do :; done; eval \"$last\" 2>/dev/null; {}",
            end(0)
        ),
        "",
    );
    let out = bench.dir.path().join("out");
    let vm = Vm {
        task: Task::Script(script.clone()),
        ..bench.vm(&out)
    };
    let mut lines = Vec::new();
    run(&bench.setup, &vm, &Interrupt::default(), &mut |line| {
        lines.push(line.to_owned());
    })
    .unwrap();
    assert_eq!(lines, [script.strip_prefix("echo ").unwrap()]);
}

#[test]
fn a_status_that_virtme_ng_does_not_confirm_is_lost() {
    let vng = end(3).replace("exit 3", "exit 0");
    let error = Bench::new(&vng, "").run(None, LONG).unwrap_err();
    assert!(
        matches!(error, VmError::StatusLost { status: 3, .. }),
        "{error}"
    );
}

#[test]
fn a_virtme_ng_that_refuses_is_quoted() {
    let bench = Bench::new("echo 'no such kernel' >&2; exit 1", "");
    let error = bench.run(None, LONG).unwrap_err();
    assert!(matches!(error, VmError::NoGuest { .. }), "{error}");
    assert!(error.to_string().contains("no such kernel"), "{error}");
}

#[test]
fn a_program_that_is_missing_is_named() {
    let mut bench = Bench::new("", "");
    bench.setup.unshare = "/nowhere/unshare".into();
    let error = bench.run(None, LONG).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot start /nowhere/unshare: "),
        "{error}"
    );
    bench.setup.lab = "/nowhere/lab".into();
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    assert!(matches!(error, VmError::Start { .. }), "{error}");
}

#[test]
fn a_complaint_fails_a_run_that_succeeded() {
    let vng = format!(
        "echo '[    0.5] WARNING: possible circular locking dependency detected' >>$log; {}",
        end(0)
    );
    let error = Bench::new(&vng, "").run(None, LONG).unwrap_err();
    let VmError::Kernel { complaint, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(complaint.line, 1);
    assert!(error.to_string().contains("circular locking"), "{error}");
    assert_eq!(error.cause(), Cause::Fault);
}

#[test]
fn a_log_of_an_earlier_run_does_not_count() {
    let bench = Bench::new("exit 1", "");
    let out = bench.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("serial.log"), format!("{STATUS_MARK}1\n")).unwrap();
    fs::write(out.join(hang::REGISTERS_FILE), "CPU#0").unwrap();
    let error = bench.run(None, LONG).unwrap_err();
    assert!(!out.join(hang::REGISTERS_FILE).exists());
    assert!(matches!(error, VmError::NoGuest { .. }), "{error}");
}

#[test]
fn a_guest_that_hangs_is_killed_with_its_children() {
    let vng = "sleep 1000 & echo $! >$out/child; echo '[    0.5] booting' >>$log; wait";
    let bench = Bench::new(vng, "");
    let error = bench.run(None, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, VmError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("booting"), "{error}");
    let child = fs::read_to_string(bench.dir.path().join("out/child")).unwrap();
    assert!(gone(&child));
}

#[test]
fn where_a_guest_hangs_is_asked() {
    let mut bench = Bench::new("exec sleep 1000", GOOD_DEVICES);
    bench.setup.leave_limit = Duration::from_millis(100);
    let error = bench
        .run(Some(preset::T1.clone().into()), Duration::from_millis(300))
        .unwrap_err()
        .to_string();
    assert!(error.contains("killed, and QEMU does not tell"), "{error}");
}

#[test]
fn a_kernel_that_checks_itself_has_more_time() {
    let mut bench = Bench::new("exec sleep 1000", "");
    let dir = bench.kernel.dir().to_owned();
    fs::write(dir.join(".config"), "CONFIG_PROVE_LOCKING=y\n").unwrap();
    bench.kernel = Kernel::at(&dir).unwrap();
    let given = Duration::from_millis(50);
    let error = bench.run(None, given).unwrap_err();
    let VmError::TimedOut { limit, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(limit, given * bench.kernel.patience());
    assert!(limit > given);
}

#[test]
fn a_panic_explains_a_hang() {
    let vng = "echo '[    0.5] Kernel panic - not syncing: no init' >>$log; exec sleep 1000";
    let error = Bench::new(vng, "")
        .run(None, Duration::from_millis(300))
        .unwrap_err();
    assert!(error.to_string().contains("no init"), "{error}");
}

#[test]
fn a_request_to_stop_ends_everything() {
    let bench = Bench::new(
        "echo $$ >$out/vng; echo up; exec sleep 1000",
        "echo $$ >$out/devices; echo ready; exec sleep 1000",
    );
    let interrupt = Interrupt::default();
    let error = bench
        .run_with(
            Some(preset::T1.clone().into()),
            LONG,
            &interrupt,
            &mut |_| {
                interrupt.request();
            },
        )
        .unwrap_err();
    assert!(matches!(error, VmError::Interrupted("SIGTERM")), "{error}");
    for name in ["vng", "devices"] {
        let pid = fs::read_to_string(bench.dir.path().join("out").join(name)).unwrap();
        assert!(gone(&pid), "{name}");
    }
}

#[test]
fn devices_that_never_listen_stop_the_run() {
    let mut bench = Bench::new("echo >$out/started", "echo waiting >&2; exec sleep 1000");
    bench.setup.ready_limit = Duration::from_millis(300);
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    assert!(matches!(error, VmError::DevicesNotReady { .. }), "{error}");
    assert!(error.to_string().contains("waiting"), "{error}");
    assert!(!bench.dir.path().join("out/started").exists());
}

#[test]
fn the_device_process_gets_the_topology() {
    let bench = Bench::new(
        "",
        "while [ $1 != --topology ]; do shift; done; cp $2 $root/topology.toml; exit 1",
    );
    let topology = Topology {
        mode: LinkMode::Nonflit,
        ..preset::T1_RDMA.clone()
    }
    .with_adapters(|adapter| adapter.st_table = StTable::None);
    let error = bench.run(Some(topology.clone().into()), LONG).unwrap_err();
    assert!(matches!(error, VmError::DevicesDied { .. }), "{error}");
    let given = Topology::read(&bench.dir.path().join("topology.toml"));
    assert_eq!(given.unwrap(), topology);
}

#[test]
fn devices_that_die_at_once_are_quoted() {
    let bench = Bench::new("", "echo 'cannot bind' >&2; exit 1");
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the device process died before it was ready (exit status: 1)"),
        "{text}"
    );
    assert!(text.contains("cannot bind"), "{text}");
}

#[test]
fn devices_that_die_stop_the_guest() {
    let bench = Bench::new(
        "echo $$ >$out/vng; exec sleep 1000",
        "echo ready; while [ ! -s $out/vng ]; do sleep 0.1; done; echo 'bad request' >&2; exit 1",
    );
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the device process died while the guest ran"),
        "{text}"
    );
    assert!(text.contains("bad request"), "{text}");
    assert_eq!(error.cause(), Cause::Harness);
    let vng = fs::read_to_string(bench.dir.path().join("out/vng")).unwrap();
    assert!(gone(&vng));
}

#[test]
fn a_complaint_of_a_device_ends_the_run_and_is_its_first_line() {
    let bench = Bench::new(
        "echo $$ >$out/vng; exec sleep 1000",
        "echo ready; while [ ! -s $out/vng ]; do sleep 0.1; done
        echo 'complaint: endpoint a: lost a write'; echo 'more words' >&2; exit 2",
    );
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    assert!(
        matches!(error, VmError::DevicesComplained { .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.starts_with("endpoint a: lost a write (said"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(error.cause(), Cause::Fault);
    let vng = fs::read_to_string(bench.dir.path().join("out/vng")).unwrap();
    assert!(gone(&vng));
}

#[test]
fn a_complaint_before_the_devices_are_ready_is_heard() {
    let bench = Bench::new("", "echo 'complaint: panicked'; sleep 0.3; exit 101");
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    assert!(
        matches!(error, VmError::DevicesComplained { .. }),
        "{error}"
    );
    assert_eq!(error.cause(), Cause::Fault);
}

#[test]
fn a_complaint_of_a_device_explains_a_guest_that_died() {
    for (complain, cause) in [
        ("echo 'complaint: lost a write'", Cause::Fault),
        ("true", Cause::Harness),
    ] {
        let vng = format!("{}; touch $out/../left; exit 255", begin());
        let devices = leaving(&format!("sleep 0.3; {complain}; exit 2"));
        let error = Bench::new(&vng, &devices)
            .run(Some(preset::T1.clone().into()), LONG)
            .unwrap_err();
        assert_eq!(error.cause(), cause, "{error}");
        let died = matches!(error, VmError::GuestDied { .. });
        assert_eq!(died, cause == Cause::Harness, "{error}");
    }
}

/// A run with a fake QEMU, which is there until lab can have seen it.
fn with_qemu(backend: &str, devices: &str, leave_limit: Duration) -> (Bench, Result<Run, VmError>) {
    with_qemu_until(DevicesEnd::WithQemu, backend, devices, leave_limit)
}

/// The same, with another end of the devices.
fn with_qemu_until(
    devices_end: DevicesEnd,
    backend: &str,
    devices: &str,
    leave_limit: Duration,
) -> (Bench, Result<Run, VmError>) {
    let mut bench = Bench::new("", devices);
    bench.setup.leave_limit = leave_limit;
    let dir = bench.dir.path();
    fake::script(
        dir,
        "qemu-system-fake",
        &format!(
            "#!/bin/sh\n[ $# -gt 1 ] || exit\nwhile [ ! -e {}/seen ]; do sleep 0.1; done\nsleep 0.1\n",
            dir.display()
        ),
    );
    let text = format!(
        "#!/bin/sh\nroot={0}\n{PREAMBLE}\n{1}\ntouch {0}/left\n{2}\n",
        dir.display(),
        qemu(&dir.display().to_string(), backend),
        end(0)
    );
    fake::script(dir, "vng", &text);
    let seen = RefCell::new(dir.join("seen"));
    let out = dir.join("out");
    let vm = Vm {
        devices: Some(preset::T1.clone().into()),
        devices_end,
        ..bench.vm(&out)
    };
    let result = run(&bench.setup, &vm, &Interrupt::default(), &mut |_| {
        File::create(&*seen.borrow()).unwrap();
    });
    (bench, result)
}

const SHARED: &str = "memory-backend-memfd,id=mem,size=1024M,share=on";

/// Devices that end when the fake QEMU has gone.
fn leaving(with: &str) -> String {
    format!("echo ready; while [ ! -e $out/../left ]; do sleep 0.1; done; {with}")
}

#[test]
fn a_run_with_devices_succeeds() {
    let (_bench, result) = with_qemu(SHARED, &leaving("exit 0"), LONG);
    let run = result.unwrap();
    assert_eq!(run.status, 0);
    assert!(run.devices_peak > 0);
    assert!(run.qemu_peak > 0);
}

#[test]
fn memory_that_is_not_shared_is_refused() {
    let private = SHARED.replace("share=on", "share=off");
    let (_bench, result) = with_qemu(&private, GOOD_DEVICES, LONG);
    let error = result.unwrap_err();
    assert!(matches!(error, VmError::MemoryNotShared), "{error}");
}

#[test]
fn devices_that_fail_at_the_end_fail_the_run() {
    let (_bench, result) = with_qemu(SHARED, &leaving("echo 'lost a write' >&2; exit 1"), LONG);
    let error = result.unwrap_err();
    assert!(matches!(error, VmError::DevicesDied { .. }), "{error}");
    assert!(error.to_string().contains("lost a write"), "{error}");
}

#[test]
fn devices_that_are_to_be_killed_are_killed() {
    // What the fake QEMU's script prints when it has started.
    let at = DevicesEnd::KilledAfter("up");
    let devices = "trap 'kill -KILL $$' USR1; echo ready; while :; do sleep 0.1; done";
    let (_bench, result) = with_qemu_until(at, SHARED, devices, LONG);
    assert_eq!(result.unwrap().status, 0);
}

#[test]
fn devices_that_are_to_be_killed_must_not_end_otherwise() {
    let at = DevicesEnd::KilledAfter("never said");
    let (_bench, result) = with_qemu_until(at, SHARED, &leaving("exit 0"), LONG);
    let error = result.unwrap_err();
    assert!(matches!(error, VmError::DevicesNotKilled(_)), "{error}");
    assert!(error.to_string().contains("'never said'"), "{error}");

    // They heard it, and nobody looked at them in mid-transfer.
    let heard = DevicesEnd::KilledAfter("up");
    let devices = leaving("exit 0").replace("echo ready", "trap : USR1; echo ready");
    let (_bench, result) = with_qemu_until(heard, SHARED, &devices, LONG);
    let error = result.unwrap_err();
    assert!(matches!(error, VmError::DevicesNotKilled("up")), "{error}");
    assert_eq!(error.cause(), Cause::Fault);

    let bench = Bench::new("exec sleep 1000", "echo ready; exit 1");
    let out = bench.dir.path().join("out");
    let vm = Vm {
        devices: Some(preset::T1.clone().into()),
        devices_end: at,
        ..bench.vm(&out)
    };
    let error = run(&bench.setup, &vm, &Interrupt::default(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, VmError::DevicesDied { .. }), "{error}");
}

#[test]
fn devices_that_stay_behind_are_ended() {
    let devices = format!("echo $$ >$out/devices; {GOOD_DEVICES}");
    let (bench, result) = with_qemu(SHARED, &devices, Duration::from_millis(300));
    let error = result.unwrap_err();
    assert!(matches!(error, VmError::DevicesStay { .. }), "{error}");
    let pid = fs::read_to_string(bench.dir.path().join("out/devices")).unwrap();
    assert!(gone(&pid));
}

#[test]
fn a_success_without_a_visible_qemu_proves_nothing() {
    let bench = Bench::new(&end(0), GOOD_DEVICES);
    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    assert!(matches!(error, VmError::QemuUnseen), "{error}");
}

#[test]
fn a_trace_gets_its_text_however_the_run_ends() {
    let devices = "cp $root/left.pcapng $out/trace.pcapng; echo ready; exec sleep 1000";
    let bench = Bench::new(&end(0), devices);
    let live = tempfile::tempdir().unwrap();
    let id = Bdf::new(0, 0x10, 0);
    let fabric = Fabric::new(Mode::Flit, Tap::create(live.path()).unwrap());
    let port = fabric.attach("sender", id, None).unwrap();
    port.set_command(true, false);
    port.requester(id).write(0x1000, &[0; 8], None).unwrap();
    let left = bench.dir.path().join("left.pcapng");
    fs::copy(live.path().join(BINARY_FILE), left).unwrap();

    let error = bench
        .run(Some(preset::T1.clone().into()), LONG)
        .unwrap_err();
    assert!(matches!(error, VmError::QemuUnseen), "{error}");
    let out = bench.dir.path().join("out");
    let text = fs::read_to_string(out.join(trace::TEXT_FILE)).unwrap();
    assert!(text.starts_with("# 1: sender -> nobody"), "{text}");
    assert!(fs::metadata(out.join(BINARY_FILE)).unwrap().len() < 1000);

    bench.run(None, LONG).unwrap();
    for name in [BINARY_FILE, trace::TEXT_FILE] {
        assert!(!out.join(name).exists(), "{name} is of an earlier run");
    }
}

#[test]
fn a_trace_that_cannot_be_read_is_an_error() {
    let devices = leaving("echo nonsense >$out/trace.pcapng; exit 0");
    let (_bench, run) = with_qemu(SHARED, &devices, LONG);
    let error = run.unwrap_err();
    assert!(error.to_string().contains("trace.pcapng"), "{error}");
    assert_eq!(error.cause(), Cause::Fault);
}
