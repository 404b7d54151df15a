// SPDX-License-Identifier: GPL-2.0
//! Tests of an exporter in Rust: dma-bufs of CPU memory, into which the initiator writes.
//!
//! The guest's devices are not below a root port here, so the firmware has no tag for them. Where
//! they are, `root-port-memory` looks at the tags.

use dma_buf_tph::initiator::{self, Initiator};
use dma_buf_tph::memory::Exporter;
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, assert_errno};
use dma_buf_tph::udmabuf;
use dma_buf_tph::vfio::{Device, TPH_ST, Tph};
use libc::{EBADF, EINVAL, ENODEV};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::{Command, ExitCode};
use std::sync::Barrier;
use std::thread;

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

fn revoked() {
    let exporter = Exporter::open().unwrap();
    let dmabuf = exporter.create(PAGE, 0).unwrap();
    let attached = Initiator::open(initiator::STANDARD).unwrap();
    attached.import(dmabuf.as_fd()).unwrap();
    attached.write(0, &[0x5a; 4]).unwrap();
    exporter.revoke(dmabuf.as_fd()).unwrap();
    assert_errno(attached.write(0, &[0; 4]), ENODEV);
    attached.release().unwrap();
    assert_errno(attached.import(dmabuf.as_fd()), ENODEV);
    exporter.revoke(dmabuf.as_fd()).unwrap();

    let mut read = [0; 4];
    exporter.read(dmabuf.as_fd(), 0, &mut read).unwrap();
    assert_eq!(read, [0x5a; 4]);
    let foreign = udmabuf::create(1).unwrap();
    assert_errno(exporter.revoke(foreign.as_fd()), EINVAL);
}

fn revoked_in_mid_transfer() {
    const LEN: u32 = 8 * PAGE;

    let exporter = Exporter::open().unwrap();
    let initiator = Initiator::open(initiator::STANDARD).unwrap();
    for _ in 0..20 {
        let dmabuf = exporter.create(LEN, 0).unwrap();
        initiator.import(dmabuf.as_fd()).unwrap();
        let started = Barrier::new(2);
        let after = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                started.wait();
                (1..=u8::MAX)
                    .cycle()
                    .find_map(|byte| initiator.write(0, &[byte; LEN as usize]).err())
                    .unwrap()
            });
            started.wait();
            exporter.revoke(dmabuf.as_fd()).unwrap();
            // The writer may not know it yet, but nothing arrives any more.
            let mut after = vec![0; LEN as usize];
            exporter.read(dmabuf.as_fd(), 0, &mut after).unwrap();
            assert_errno::<()>(Err(writer.join().unwrap()), ENODEV);
            after
        });
        let mut end = vec![0; LEN as usize];
        exporter.read(dmabuf.as_fd(), 0, &mut end).unwrap();
        assert!(after == end, "a write arrived after the revocation");
        assert!(end.iter().all(|&byte| byte == end[0]), "half a write");
        initiator.release().unwrap();
    }
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
    tap::run(vec![
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
            "memory: what was revoked is out of reach, for good",
            Box::new(revoked),
        ),
        (
            "memory: revoked in mid-transfer",
            Box::new(revoked_in_mid_transfer),
        ),
        (
            "memory: a buffer outlives everything but the module",
            Box::new(buffer_outlives_everything_but_the_module),
        ),
    ])
}
