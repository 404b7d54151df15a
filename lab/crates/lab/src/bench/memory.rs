// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory the device takes: as much as is registered asks for, however much is transferred.

use super::device::{Device, resident};
use super::report::{Measurement, float};
use connectx_driver::{Connection, Key, QpOptions, Receive, Request, Segment, Umr, access};
use rustix::process::Pid;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const REGISTERED: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Translations that a request loads: those of 256 MiB.
const LOADED: usize = 1 << 16;
const TRANSFERRED: u64 = 1 << 30;
const MESSAGE: u32 = 1 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub fn measure(device: &mut Device) -> Result<Vec<Measurement>> {
    let (mut qp, mut cq, pd) = device.loopback()?;
    let adapter = &mut device.adapter;
    let umr_qp = QpOptions {
        receive: Receive::Nowhere,
        ..QpOptions::new(QpOptions::UMR, pd, cq.number)
    };
    let mut umr_qp = adapter.create_qp(umr_qp)?;
    adapter.connect(&umr_qp, &Connection::to(0))?;
    let all = adapter.create_key(&Key::physical(pd, access::ALL))?;
    let buffer = adapter.memory.pages(u64::from(MESSAGE) * 2);
    let key = adapter.register(pd, access::ALL, &buffer)?;
    let area = adapter.memory.pages(REGISTERED);
    let pages = area.page_list();

    let pid = device.pid();
    let before = resident(pid);
    let adapter = &mut device.adapter;
    let pool = adapter.create_key(&Key::pooled(pd, REGISTERED / PAGE))?;
    let registered = peak_during(pid, || {
        // As the kernel's driver does: the table in parts, and with the first one all else.
        for (part, pages) in pages.chunks(LOADED).enumerate().skip(1) {
            let first = (part * LOADED) as u64;
            let umr = Umr::load(pool, Umr::CHECK_FREE, first, pages);
            adapter.post_umr(&mut umr_qp, all, &umr);
            well(cq.wait())?;
        }
        let (start, front) = (area.addr(), &pages[..LOADED]);
        let umr = Umr::enable(pool, pd, access::ALL, start, REGISTERED, 12, front);
        adapter.post_umr(&mut umr_qp, all, &umr);
        well(cq.wait())
    })?;
    let transferred = peak_during(pid, || {
        for _ in 0..TRANSFERRED / u64::from(MESSAGE) {
            let addr = buffer.addr();
            let len = MESSAGE;
            let write = Request::write(key, addr + u64::from(MESSAGE));
            adapter.post(&mut qp, &write.data(Segment { key, addr, len }));
            well(cq.wait())?;
        }
        Ok(())
    })?;
    adapter.destroy_key(pool)?;
    let after = resident(pid);

    let table = REGISTERED / PAGE * 8;
    let row = |name: &str, bytes: u64| {
        Measurement::new("Memory of the device process", name, float(bytes), "B")
    };
    Ok(vec![
        row("before", before),
        row("registering 1 GiB, peak", registered)
            .compared_with(format!("before, and a table of {table} B")),
        row("transferring 1 GiB, peak", transferred).compared_with("registering 1 GiB"),
        row("after deregistering", after).compared_with("before"),
    ])
}

fn well(completion: connectx_driver::Completion) -> Result<()> {
    if completion.opcode == connectx_driver::Completion::SENT {
        return Ok(());
    }
    Err(format!("a request failed: {completion:x?}").into())
}

/// The most memory that was seen while `work` ran and after it.
fn peak_during(pid: Pid, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            loop {
                // Asked before the last look, so that this comes after the end.
                let last = done.load(Ordering::Acquire);
                peak = peak.max(resident(pid));
                if last {
                    return peak;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let worked = work();
        done.store(true, Ordering::Release);
        let peak = sampler.join().map_err(|_| "the sampler panicked")?;
        worked.map(|()| peak)
    })
}
