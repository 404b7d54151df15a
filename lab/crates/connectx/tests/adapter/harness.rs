// SPDX-License-Identifier: MIT OR Apache-2.0
//! A served adapter with its driver, and pairs of queue pairs on it.

use crate::log_lines;
use connectx::ConnectXConfig;
use connectx_driver::{
    Adapter, Area, Completion, Connection, Cq, CqOptions, Error, Function, GuestMemory, Key, Qp,
    QpOptions, Request, Sge, access, state,
};
use devices::{Endpoint, Hierarchy, Running};
use fabric::trace::{BINARY_FILE, Reader, Record};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tlp::{Bdf, MemRequest, Mode, Tlp};

/// Where guest memory is; most of it is never touched.
const BASE: u64 = 0x1_0000_0000;
const SIZE: u64 = 1 << 30;

/// Command statuses.
pub const BAD_OPCODE: Error = Error::Status(0x02);
pub const BAD_RESOURCE: Error = Error::Status(0x05);
pub const BUSY: Error = Error::Status(0x06);
pub const BAD_QP_STATE: Error = Error::Status(0x10);
pub const BAD_SIZE: Error = Error::Status(0x40);

/// Syndromes of completions.
pub const LOCAL_LENGTH: u8 = 0x01;
pub const LOCAL_OPERATION: u8 = 0x02;
pub const LOCAL_PROTECTION: u8 = 0x04;
pub const FLUSHED: u8 = 0x05;
pub const KEY_CHANGE: u8 = 0x06;
pub const REMOTE_INVALID: u8 = 0x12;
pub const REMOTE_ACCESS: u8 = 0x13;
pub const REMOTE_OPERATION: u8 = 0x14;
pub const RETRY_EXCEEDED: u8 = 0x15;
pub const RNR_EXCEEDED: u8 = 0x16;

/// An adapter and its driver.
pub struct Lab {
    pub adapter: Adapter,
    pub running: Option<Running>,
    pub name: String,
    dir: TempDir,
}

impl Lab {
    /// An adapter that was brought up.
    pub fn new() -> Self {
        Self::up(false)
    }

    /// The same, and every TLP is recorded.
    pub fn recording() -> Self {
        Self::up(true)
    }

    fn up(records: bool) -> Self {
        let mut lab = Self::cold(records);
        lab.adapter.bring_up().unwrap();
        lab
    }

    /// An adapter that has got no command yet.
    pub fn cold(records: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        log_lines::keep();
        let name = format!("nic{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(&name);
        let running = devices::serve(&Hierarchy {
            mode: Mode::Flit,
            iommu: None,
            crash: Arc::default(),
            trace_dir: records.then(|| dir.path().to_owned()),
            trace_limit: fabric::trace::DEFAULT_LIMIT,
            trace_snaplen: None,
            endpoints: vec![Endpoint {
                name: name.clone(),
                socket: socket.clone(),
                bdf: Bdf::new(0, 0x10, 0),
                path: "pcie.0/00:10.0".into(),
                device: Box::new(ConnectXConfig::default()),
            }],
        });
        let memory = GuestMemory::new(BASE, SIZE).unwrap();
        let adapter = Adapter::new(Function::connect(&socket).unwrap(), &memory);
        Self {
            adapter,
            running: Some(running.unwrap()),
            name,
            dir,
        }
    }

    /// What was recorded until now.
    pub fn trace(&self) -> Vec<Record> {
        let reader = Reader::open(&self.dir.path().join(BINARY_FILE)).unwrap();
        reader.map(Result::unwrap).collect()
    }

    /// Every memory request that was recorded, and whether it is a write.
    pub fn requests(&self) -> Vec<(MemRequest, bool)> {
        let trace = self.trace();
        let requests = trace.iter().filter_map(|record| match record.tlp() {
            Ok(Tlp::MemWrite(request, _)) => Some((request, true)),
            Ok(Tlp::MemRead(request)) => Some((request, false)),
            _ => None,
        });
        requests.collect()
    }

    /// Waits until the device has done what it was rung for before: a command comes after one
    /// request of each queue pair.
    pub fn settle(&mut self) {
        for _ in 0..8 {
            self.adapter.simple(0x10a, 0).unwrap();
        }
    }

    /// One end of a connection, with all that belongs to it.
    pub fn end(&mut self, service: u8) -> End {
        self.end_with(service, |_| {})
    }

    /// The same with other options.
    pub fn end_with(&mut self, service: u8, change: impl FnOnce(&mut QpOptions)) -> End {
        let adapter = &mut self.adapter;
        let pd = adapter.alloc_pd().unwrap();
        let cq = adapter.create_cq(CqOptions::default()).unwrap();
        let mut options = QpOptions::new(service, pd, cq.number);
        change(&mut options);
        let qp = adapter.create_qp(options).unwrap();
        let area = self.adapter.memory.pages(0x1_0000);
        let key = self.adapter.register(pd, access::ALL, &area).unwrap();
        End {
            qp,
            cq,
            pd,
            key,
            area,
        }
    }

    /// Two ends that are connected.
    pub fn pair(&mut self, service: u8) -> (End, End) {
        let (a, b) = (self.end(service), self.end(service));
        self.join(&a, &b, |_| {});
        (a, b)
    }

    /// Connects two ends.
    pub fn join(&mut self, a: &End, b: &End, change: impl Fn(&mut Connection)) {
        for (from, to) in [(a, b), (b, a)] {
            let mut connection = Connection::to(to.qp.number);
            change(&mut connection);
            self.adapter.connect(&from.qp, &connection).unwrap();
        }
    }

    /// Connects two ends again that were connected before.
    pub fn join_again(&mut self, a: &mut End, b: &mut End) {
        for end in [&mut *a, &mut *b] {
            self.adapter.to_reset(&mut end.qp).unwrap();
        }
        self.join(a, b, |_| {});
    }

    /// Posts a request and waits for its completion.
    pub fn run(&mut self, end: &mut End, request: &Request) -> Completion {
        self.adapter.post(&mut end.qp, request);
        end.cq.wait()
    }

    /// Posts a request, which must end well.
    pub fn run_well(&mut self, end: &mut End, request: &Request) -> Completion {
        let completion = self.run(end, request);
        assert_eq!(completion.opcode, Completion::SENT, "{completion:x?}");
        completion
    }

    /// Posts a request, which must fail, and so must the queue pair.
    pub fn run_badly(&mut self, end: &mut End, request: &Request) -> u8 {
        let completion = self.run(end, request);
        assert_eq!(completion.opcode, Completion::SEND_ERROR, "{completion:x?}");
        assert_eq!(self.state(end), state::ERROR);
        completion.syndrome
    }

    /// The state of a queue pair.
    pub fn state(&mut self, end: &End) -> u32 {
        self.adapter.qp_state(&end.qp).unwrap()
    }

    /// The queue pair by which the driver changes keys: it, and the key of its domain for all
    /// memory.
    pub fn umr(&mut self) -> (End, u32) {
        let end = self.end_with(QpOptions::UMR, |options| {
            options.receive = connectx_driver::Receive::Nowhere;
        });
        let all = Key::physical(end.pd, access::ALL);
        let key = self.adapter.create_key(&all).unwrap();
        let nobody = Connection::to(0);
        self.adapter.connect(&end.qp, &nobody).unwrap();
        (end, key)
    }
}

/// One end of a connection: a queue pair with its own completion queue, domain, memory, and a key
/// for that which allows everything.
pub struct End {
    pub qp: Qp,
    pub cq: Cq,
    pub pd: u32,
    pub key: u32,
    pub area: Area,
}

impl End {
    /// A part of its memory.
    pub fn sge(&self, offset: u64, len: u32) -> Sge {
        Sge {
            key: self.key,
            addr: self.area.addr() + offset,
            len,
        }
    }

    /// Posts a receive request for a part of its memory.
    pub fn receive(&mut self, offset: u64, len: u32) {
        let sge = self.sge(offset, len);
        self.qp.post_receive(&[sge]);
    }

    /// The address of a part of its memory.
    pub fn at(&self, offset: u64) -> u64 {
        self.area.addr() + offset
    }
}

/// Bytes that are not the same everywhere.
pub fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let mut value = seed;
    let mut next = || {
        value = value.wrapping_mul(5).wrapping_add(seed | 1);
        value
    };
    (0..len).map(|_| next()).collect()
}

/// So many cases of a property. A case that hangs takes seconds, so not many smaller ones are
/// tried.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_shrink_iters: 50,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Some words, mostly zeros and small numbers, as in what makes sense.
pub fn words(count: Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![4 => Just(0u32), 2 => 0u32..8, 1 => any::<u32>()];
    let words = prop::collection::vec(word, count);
    words.prop_map(|words| words.iter().flat_map(|word| word.to_be_bytes()).collect())
}
