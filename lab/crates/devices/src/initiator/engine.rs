// SPDX-License-Identifier: MIT OR Apache-2.0
//! The copy engine: a worker thread, because DMA must not be done in a region callback.

use super::registers::{Copy, Fault, Registers};
use crate::interrupt::Interrupt;
use fabric::{Error, Requester};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread::{self, JoinHandle},
};

/// A copy on its way.
pub struct Job {
    pub copy: Copy,
    pub requester: Requester,
    /// [`Shared::resets`] when the copy began.
    pub epoch: u64,
}

/// What the engine and the client's accesses share.
#[derive(Debug)]
pub struct Shared {
    pub registers: Registers,
    /// Counts resets: a copy that began before the last one leaves the registers alone.
    pub resets: u64,
}

/// The engine; it ends, after the copy that it is doing, when this value is dropped.
pub struct Engine {
    jobs: Option<mpsc::Sender<Job>>,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    pub fn start(
        name: &str,
        shared: Arc<Mutex<Shared>>,
        interrupt: Arc<Interrupt>,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let worker = thread::Builder::new()
            .name(format!("{name} engine"))
            .spawn(move || {
                for job in queue {
                    let fault = run(&job, &shared);
                    let mut shared = lock(&shared);
                    let raise = shared.resets == job.epoch && shared.registers.end(fault);
                    drop(shared);
                    if raise {
                        interrupt.raise(job.copy.vector.into());
                    }
                }
            })?;
        Ok(Self {
            jobs: Some(jobs),
            worker: Some(worker),
        })
    }

    /// Hands over a copy.
    pub fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // It fails only if the worker panicked, which its log tells.
            if jobs.send(job).is_err() {
                log::error!("the copy engine is gone");
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            log::error!("the copy engine panicked");
        }
    }
}

/// # Panics
/// If another thread panicked while it held the lock.
pub fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("a user of the registers panicked")
}

/// Reads the whole source before it writes, so that a source that cannot be read leaves the
/// destination as it was.
fn run(job: &Job, shared: &Mutex<Shared>) -> Fault {
    let mut data = vec![0; job.copy.len as usize];
    let read = job
        .requester
        .read_all(job.copy.source, &mut data, None, None);
    match read.and_then(|()| write_all(job, &data, shared)) {
        Ok(()) => Fault::None,
        Err(error) => {
            log::debug!("copy of {:#x} bytes: {error}", job.copy.len);
            fault(&error)
        }
    }
}

fn write_all(job: &Job, data: &[u8], shared: &Mutex<Shared>) -> Result<(), Error> {
    let mut done = 0;
    while done < data.len() {
        let addr = job.copy.destination + done as u64;
        let (len, has_hint) = match job.copy.want {
            Some(want) => job.requester.write_hinted(addr, &data[done..], want)?,
            None => (job.requester.write(addr, &data[done..], None)?, false),
        };
        done += len;
        let mut shared = lock(shared);
        if shared.resets == job.epoch {
            shared
                .registers
                .count_write(job.copy.want.is_some() && !has_hint);
        }
    }
    Ok(())
}

fn fault(error: &Error) -> Fault {
    match error {
        // After a reset nobody asks.
        Error::BusMasterOff | Error::Reset => Fault::BusMasterOff,
        Error::Completion { .. } => Fault::SourceRead,
        Error::Request(_) => Fault::BadRequest,
        error => {
            log::error!("{error}");
            Fault::Internal
        }
    }
}
