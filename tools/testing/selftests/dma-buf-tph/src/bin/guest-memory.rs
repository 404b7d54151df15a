// SPDX-License-Identifier: GPL-2.0
//! Tests of an exporter in Rust: dma-bufs of CPU memory, into which the initiator writes.
//!
//! The guest's devices are not below a Root Port here, so the firmware has no tag for them.

use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::memory::Exporter;
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::udmabuf;
use dma_buf_tph::vfio::{Device, TPH_ST, Tph};
use libc::{EBADF, EINVAL};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::{Command, ExitCode};

const PAGE: u32 = 4096;

fn module_users() -> String {
    let modules = std::fs::read_to_string("/proc/modules").unwrap();
    modules
        .lines()
        .find(|line| line.starts_with("rust_tph_memory "))
        .and_then(|line| line.split(' ').nth(2))
        .unwrap_or("not loaded")
        .into()
}

fn written_data_arrives() {
    let exporter = Exporter::open().unwrap();
    let dmabuf = exporter.create(4 * PAGE, 0).unwrap();
    let data: Vec<u8> = (0..3 * PAGE + 5).map(|i| (i % 251) as u8).collect();
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    initiator.import(dmabuf.as_fd()).unwrap();
    assert_eq!(initiator.write(7, &data).unwrap(), None);

    let mut read = vec![0xff; 4 * PAGE as usize];
    exporter.read(dmabuf.as_fd(), 0, &mut read).unwrap();
    let end = 7 + data.len();
    assert!(read[7..end] == data);
    assert!(read[..7].iter().chain(&read[end..]).all(|&byte| byte == 0));
}

fn bad_requests() {
    let exporter = Exporter::open().unwrap();
    assert_errno(exporter.create(0, 0), EINVAL);
    assert_errno(exporter.create((1 << 20) + 1, 0), EINVAL);
    assert_errno(exporter.create(PAGE, u32::MAX), EINVAL);

    let dmabuf = exporter.create(PAGE, 0).unwrap();
    let mut read = [0; 8];
    let past_the_end = exporter.read(dmabuf.as_fd(), u64::from(PAGE) - 7, &mut read);
    assert_errno(past_the_end, EINVAL);
    assert_errno(exporter.read(dmabuf.as_fd(), u64::MAX, &mut read), EINVAL);
    // SAFETY: It is only given to the kernel, which finds that it is not open.
    let closed = unsafe { BorrowedFd::borrow_raw(1 << 20) };
    assert_errno(exporter.read(closed, 0, &mut read), EBADF);
}

fn exporters_know_their_own() {
    let exporter = Exporter::open().unwrap();
    let dmabuf = exporter.create(PAGE, 0).unwrap();
    let foreign = udmabuf::create(1).unwrap();
    let mut read = [0; 8];
    assert_errno(exporter.read(foreign.as_fd(), 0, &mut read), EINVAL);

    let pdev = pci::Device::accelerator(CompleterType::ExtTph).unwrap();
    let publish = Device::open(&pdev).unwrap().publish(Tph {
        dmabuf_fd: dmabuf.as_raw_fd(),
        flags: TPH_ST,
        ..Tph::default()
    });
    assert_errno(publish, EINVAL);
}

fn buffer_outlives_everything_but_the_module() {
    let exporter = Exporter::open().unwrap();
    let idle = module_users();
    let dmabuf = exporter.create(PAGE, 0).unwrap();
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    initiator.import(dmabuf.as_fd()).unwrap();
    drop((exporter, dmabuf));

    let status = Command::new("rmmod")
        .arg("rust_tph_memory")
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(
        !status.success(),
        "the module of a live buffer was unloaded"
    );
    initiator.write(0, &[0x5a; 64]).unwrap();
    drop(initiator);
    assert_eq!(idle, "1", "the open node");

    let status = Command::new("rmmod")
        .arg("rust_tph_memory")
        .status()
        .unwrap();
    assert!(status.success(), "users: {}", module_users());
}

fn main() -> ExitCode {
    let passed = tap::run(vec![
        (
            "memory: written data arrives",
            Box::new(written_data_arrives),
        ),
        ("memory: bad requests", Box::new(bad_requests)),
        (
            "memory: each exporter knows its own buffers",
            Box::new(exporters_know_their_own),
        ),
        (
            "memory: a buffer outlives everything but the module",
            Box::new(buffer_outlives_everything_but_the_module),
        ),
    ]);

    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
