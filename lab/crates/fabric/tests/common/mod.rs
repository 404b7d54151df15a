// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fabric with one requester and one completer, and its trace.

// Every test binary compiles its own copy and uses a part of it.
#![allow(dead_code)]

use fabric::{
    Completer, Fabric, Iommu, Port, Requester, RequesterEnable, Tph, Want,
    trace::{BINARY_FILE, Options, Reader, Record, Tap},
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tlp::{Bdf, Hint, MemRequest, Mode};

pub const INITIATOR: Bdf = Bdf::new(0, 0x10, 0);
pub const TARGET: Bdf = Bdf::new(0, 0x11, 0);
/// Where BAR 2 of the completer is, and its size.
pub const BAR: u64 = 0x38_0000_0000;
pub const BAR_SIZE: u64 = 0x1_0000;
/// Where guest memory is, and its size.
pub const RAM: u64 = 0x10_0000;
pub const RAM_SIZE: u64 = 0x1_0000;

/// Keeps the writes it gets; reads return the low byte of each offset.
#[derive(Default)]
pub struct Recorder(Mutex<Vec<Write>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub bar: usize,
    pub offset: u64,
    pub hint: Option<Hint>,
    /// Each byte, or none where it is not enabled.
    pub bytes: Vec<Option<u8>>,
}

impl Completer for Recorder {
    fn write(&self, bar: usize, offset: u64, request: &MemRequest, data: &[u8]) {
        let bytes = data
            .iter()
            .enumerate()
            .map(|(at, &byte)| request.is_enabled(at).then_some(byte))
            .collect();
        self.0.lock().unwrap().push(Write {
            bar,
            offset,
            hint: request.hint(),
            bytes,
        });
    }

    fn read(&self, _bar: usize, offset: u64, _request: &MemRequest, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(offset..) {
            *byte = at.to_le_bytes()[0];
        }
    }
}

impl Recorder {
    pub fn take(&self) -> Vec<Write> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub struct Bench {
    pub dir: TempDir,
    pub fabric: Fabric,
    pub initiator: Port,
    pub target: Port,
    pub completer: Arc<Recorder>,
    pub ram: File,
}

impl Bench {
    /// Everything enabled, hints with tags of the initiator's own included; BAR 2 placed, guest
    /// memory mapped for the initiator.
    pub fn new(mode: Mode) -> Self {
        Self::behind(mode, None)
    }

    /// The same, with an IOMMU.
    pub fn behind(mode: Mode, iommu: Option<Arc<dyn Iommu>>) -> Self {
        Self::tapped(mode, iommu, |dir| Tap::create(dir).unwrap())
    }

    /// The same, with the tap that is made for the directory of the trace.
    pub fn tapped(
        mode: Mode,
        iommu: Option<Arc<dyn Iommu>>,
        tap: impl FnOnce(&Path) -> Tap,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tap = tap(dir.path());
        let fabric = match iommu {
            None => Fabric::new(mode, tap),
            Some(iommu) => Fabric::with_iommu(mode, tap, iommu),
        };
        let completer = Arc::new(Recorder::default());
        let initiator = fabric.attach("initiator", INITIATOR, None).unwrap();
        let target = fabric
            .attach("target", TARGET, Some(completer.clone()))
            .unwrap();
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(RAM_SIZE).unwrap();
        initiator
            .map_memory(RAM, RAM_SIZE, ram.try_clone().unwrap(), 0, true)
            .unwrap();
        initiator.set_command(true, true);
        let hints = Tph::own_tags(RequesterEnable::TphAndExtended);
        initiator.set_tph(Some(hints));
        target.set_command(false, true);
        target.set_bar(2, BAR, BAR_SIZE);
        Self {
            dir,
            fabric,
            initiator,
            target,
            completer,
            ram,
        }
    }

    pub fn requester(&self) -> Requester {
        self.initiator.requester(INITIATOR)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join(BINARY_FILE)
    }

    pub fn trace(&self) -> Vec<Record> {
        records(&self.path())
    }

    /// Lets the fabric end, and with it the trace.
    pub fn end(self) -> TempDir {
        self.dir
    }
}

pub fn records(trace: &Path) -> Vec<Record> {
    Reader::open(trace).unwrap().map(Result::unwrap).collect()
}

/// A tap of a trace with this limit.
pub fn limited(dir: &Path, limit: u64) -> Tap {
    let options = Options {
        limit,
        ..Options::default()
    };
    Tap::with(dir, options).unwrap()
}

/// Sends all of `data`; returns the number of TLPs.
pub fn write_all(requester: &Requester, addr: u64, data: &[u8], hint: Option<Hint>) -> usize {
    let want = hint.map(Want::exactly);
    let (mut sent, mut tlps) = (0, 0);
    while sent < data.len() {
        sent += requester
            .write(addr + sent as u64, &data[sent..], want)
            .unwrap();
        tlps += 1;
    }
    tlps
}
