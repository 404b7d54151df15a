// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lab devices`, as whoever runs a guest sees it.

use connectx_driver::{Adapter, Function, GuestMemory};
use fabric::trace::{BINARY_FILE, HEADER_LEN, Reader, Record, Snaplen};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vm::signals::Interrupt;
use vm::topology::{Devices, preset};
use vm::{Cause, DeviceProcess, DevicesEnd, Setup, VmError};

/// Where guest memory is.
const BASE: u64 = 0x1_0000_0000;
const SIZE: u64 = 1 << 30;

/// What serves an adapter, leaving its log in `out`.
fn start(out: &Path) -> DeviceProcess {
    start_with(preset::T1_RDMA.clone().into(), out)
}

fn start_with(devices: Devices, out: &Path) -> DeviceProcess {
    let setup = Setup {
        lab: env!("CARGO_BIN_EXE_lab").into(),
        ..Setup::new().unwrap()
    };
    let interrupt = Interrupt::default();
    DeviceProcess::start(&setup, devices, DevicesEnd::default(), out, &interrupt).unwrap()
}

/// Waits until it has ended, and says why.
fn why_ended(process: &mut DeviceProcess) -> VmError {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = process.ended().unwrap() {
            return process.died("while the guest ran", status);
        }
        assert!(Instant::now() < deadline, "it goes on");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_process_ends_with_a_device_s_complaint_while_its_client_stays() {
    let out = tempfile::tempdir().unwrap();
    let mut process = start(out.path());
    let placed = process.placed();
    let socket = placed.topology.adapter().unwrap().socket(&placed.dir);
    let memory = GuestMemory::new(BASE, SIZE).unwrap();
    let mut adapter = Adapter::new(Function::connect(&socket).unwrap(), &memory);
    adapter.bring_up().unwrap();
    adapter.alloc_pd().unwrap();
    // The process may be gone before the driver gets its answer, and then the driver panics.
    let _ = catch_unwind(AssertUnwindSafe(|| adapter.tear_down()));
    let error = why_ended(&mut process);
    assert!(
        matches!(error, VmError::DevicesComplained { .. }),
        "{error}"
    );
    assert_eq!(error.cause(), Cause::Fault);
    let text = error.to_string();
    assert!(text.starts_with("endpoint "), "{text}");
    assert!(text.contains("the driver tears down and leaves"), "{text}");
    let log = std::fs::read_to_string(out.path().join("devices.log")).unwrap();
    assert!(log.contains("tears down and leaves"), "{log}");
}

#[test]
fn a_trace_has_as_much_of_each_packet_as_is_asked_for() {
    let out = tempfile::tempdir().unwrap();
    let devices = Devices {
        snaplen: Some(Snaplen::HEADERS),
        ..Devices::from(preset::T1_RDMA.clone())
    };
    let mut process = start_with(devices, out.path());
    let placed = process.placed();
    let socket = placed.topology.adapter().unwrap().socket(&placed.dir);
    let memory = GuestMemory::new(BASE, SIZE).unwrap();
    let mut adapter = Adapter::new(Function::connect(&socket).unwrap(), &memory);
    adapter.bring_up().unwrap();
    adapter.tear_down().unwrap();
    drop(adapter);
    process.leave(Duration::from_secs(60)).unwrap();
    let reader = Reader::open(&out.path().join(BINARY_FILE)).unwrap();
    let records: Vec<Record> = reader.map(Result::unwrap).collect();
    assert!(records.iter().any(|record| record.missing > 0));
    let headers = Snaplen::HEADERS.bytes() as usize - HEADER_LEN;
    for record in records {
        assert!(record.bytes.len() <= headers, "{record}");
    }
}
