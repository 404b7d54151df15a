// SPDX-License-Identifier: GPL-2.0
//! Tests of the whole path, from what user space publishes to what arrives at the accelerator, with
//! every processing hint and both namespaces. It needs no more than one accelerator and the two
//! initiators, wherever they sit.
//!
//! That a hint arrived is what the accelerator's registers say (they are described in
//! `lab/crates/devices/src/accelerator`), and what became of its memory.

use dma_buf_tph::initiator::{self, Hint, Initiator};
use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::tap::{self, Test};
use dma_buf_tph::vfio::{Device, TPH_ST, TPH_ST_EXT, Tph};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

const REGISTERS: u32 = 0;
const MEMORY: u32 = 2;
const PAGE: u64 = 4096;
/// Not the start of the buffer, so that an offset that is lost shows.
const OFFSET: u64 = 0x840;
const LEN: usize = 8;

/// Bits 7:4 of a tag (15:12 of a 16-bit one): the accelerator adds what is written.
const ADD: u8 = 0xf0;

/// The memory before a write, and what is written.
const BEFORE: [u32; LEN] = [1, 2, 3, 4, 5, 6, 7, 8];
const SOURCE: [u32; LEN] = [0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700, 0x800];

#[derive(Clone, Copy)]
enum Namespace {
    St,
    Ext,
}

impl Namespace {
    const ALL: [Self; 2] = [Self::St, Self::Ext];

    fn node(self) -> &'static str {
        match self {
            Self::St => initiator::STANDARD,
            Self::Ext => initiator::EXTENDED,
        }
    }

    /// A tag that adds and selects `partition`, 0 to 15.
    fn tag(self, partition: u8) -> u16 {
        match self {
            Self::St => u16::from(ADD | partition),
            Self::Ext => u16::from_be_bytes([ADD | partition, 0x5a]),
        }
    }

    fn hint(self, partition: u8, ph: u8) -> Hint {
        Hint {
            req_type: match self {
                Self::St => initiator::REQ_TPH,
                Self::Ext => initiator::REQ_EXT,
            },
            steering_tag: self.tag(partition),
            ph,
        }
    }

    /// A request that publishes that tag, and a misleading one in the other namespace.
    fn publishing(self, partition: u8, ph: u8) -> Tph {
        let mut tph = Tph {
            steering_tag: 0xff,
            steering_tag_ext: 0xffff,
            ph,
            ..Tph::default()
        };
        match self {
            Self::St => {
                tph.flags = TPH_ST;
                tph.steering_tag = ADD | partition;
            }
            Self::Ext => {
                tph.flags = TPH_ST_EXT;
                tph.steering_tag_ext = self.tag(partition);
            }
        }
        tph
    }
}

/// What the accelerator has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    unhinted: u32,
    ignored: u32,
    partition: [u32; 6],
}

struct Accelerator {
    vfio: Device,
}

impl Accelerator {
    fn open() -> io::Result<Self> {
        let pdev = pci::Device::accelerator(CompleterType::ExtTph)?;
        let vfio = Device::open(&pdev)?;
        vfio.set_memory_enable(true)?;
        Ok(Self { vfio })
    }

    fn counts(&self, partition: u8) -> Counts {
        let registers = self.vfio.region(REGISTERS).unwrap();
        let [unhinted, ignored] = registers.read_dwords(0x10).unwrap();
        let partition = 0x100 + 0x20 * u64::from(partition);
        Counts {
            unhinted,
            ignored,
            partition: registers.read_dwords(partition).unwrap(),
        }
    }

    fn export(&self) -> OwnedFd {
        self.vfio.export(MEMORY, PAGE, PAGE).unwrap()
    }

    fn publish(&self, dmabuf: &OwnedFd, tph: Tph) {
        let dmabuf_fd = dmabuf.as_raw_fd();
        self.vfio.publish(Tph { dmabuf_fd, ..tph }).unwrap();
    }

    /// Lets an initiator write into `dmabuf`; returns the hint that its driver put on the write and
    /// what memory holds then.
    fn written(&self, dmabuf: &OwnedFd, namespace: Namespace) -> (Option<Hint>, [u32; LEN]) {
        let memory = self.vfio.region(MEMORY).unwrap();
        memory.write_dwords(PAGE + OFFSET, &BEFORE).unwrap();

        let initiator = Initiator::open(namespace.node()).unwrap();
        initiator.import(dmabuf.as_fd()).unwrap();
        let source = SOURCE.map(u32::to_le_bytes).concat();
        let hint = initiator.write(OFFSET, &source).unwrap();
        // The read is behind the write, as PCI orders them.
        (hint, memory.read_dwords(PAGE + OFFSET).unwrap())
    }

    /// A write arrives with this hint.
    #[track_caller]
    fn arrives(&self, dmabuf: &OwnedFd, namespace: Namespace, partition: u8, ph: u8) {
        let before = self.counts(partition);
        let (hint, memory) = self.written(dmabuf, namespace);
        let after = self.counts(partition);

        assert_eq!(hint, Some(namespace.hint(partition, ph)));
        assert_eq!(memory, std::array::from_fn(|i| BEFORE[i] + SOURCE[i]));
        let extended = u32::from(matches!(namespace, Namespace::Ext)) << 16;
        let [writes, reserved, low, high, ..] = before.partition;
        let expected = Counts {
            partition: [
                writes + 1,
                reserved,
                low + 4 * LEN as u32,
                high,
                u32::from(namespace.tag(partition)) | extended,
                u32::from(ph),
            ],
            ..before
        };
        assert_eq!(after, expected);
    }

    /// A write arrives without a hint.
    #[track_caller]
    fn arrives_plain(&self, dmabuf: &OwnedFd, namespace: Namespace) {
        let before = self.counts(0xf);
        let (hint, memory) = self.written(dmabuf, namespace);
        let after = self.counts(0xf);

        assert_eq!(hint, None);
        assert_eq!(memory, SOURCE);
        let unhinted = before.unhinted + 1;
        assert_eq!(after, Counts { unhinted, ..before });
    }

    fn one_namespace(&self, namespace: Namespace, ph: u8) {
        let dmabuf = self.export();
        let partition = 4 + ph;
        self.publish(&dmabuf, namespace.publishing(partition, ph));
        self.arrives(&dmabuf, namespace, partition, ph);
    }

    fn both_namespaces(&self) {
        let dmabuf = self.export();
        let both = Tph {
            flags: TPH_ST | TPH_ST_EXT,
            steering_tag_ext: Namespace::Ext.tag(2),
            ..Namespace::St.publishing(1, 3)
        };
        self.publish(&dmabuf, both);
        self.arrives(&dmabuf, Namespace::St, 1, 3);
        self.arrives(&dmabuf, Namespace::Ext, 2, 3);
    }

    fn other_namespace(&self) {
        for (published, asked) in [
            (Namespace::St, Namespace::Ext),
            (Namespace::Ext, Namespace::St),
        ] {
            let dmabuf = self.export();
            self.publish(&dmabuf, published.publishing(3, 1));
            self.arrives_plain(&dmabuf, asked);
        }
    }

    fn nothing(&self) {
        for namespace in Namespace::ALL {
            self.arrives_plain(&self.export(), namespace);
        }
    }

    fn changes(&self) {
        let dmabuf = self.export();
        for namespace in Namespace::ALL {
            self.publish(&dmabuf, namespace.publishing(8, 1));
            self.arrives(&dmabuf, namespace, 8, 1);
            self.publish(&dmabuf, namespace.publishing(9, 2));
            self.arrives(&dmabuf, namespace, 9, 2);
            self.publish(&dmabuf, Tph::default());
            self.arrives_plain(&dmabuf, namespace);
        }
    }
}

fn main() -> ExitCode {
    let accelerator = match Accelerator::open() {
        Ok(accelerator) => accelerator,
        Err(error) => {
            println!("Bail out! {error}");
            return ExitCode::FAILURE;
        }
    };
    let a = &accelerator;
    let one =
        |namespace, ph| -> Box<dyn Fn() + '_> { Box::new(move || a.one_namespace(namespace, ph)) };
    let tests: Vec<Test<'_>> = vec![
        ("8-bit tag with PH 0 arrives", one(Namespace::St, 0)),
        ("8-bit tag with PH 1 arrives", one(Namespace::St, 1)),
        ("8-bit tag with PH 2 arrives", one(Namespace::St, 2)),
        ("8-bit tag with PH 3 arrives", one(Namespace::St, 3)),
        ("16-bit tag with PH 0 arrives", one(Namespace::Ext, 0)),
        ("16-bit tag with PH 1 arrives", one(Namespace::Ext, 1)),
        ("16-bit tag with PH 2 arrives", one(Namespace::Ext, 2)),
        ("16-bit tag with PH 3 arrives", one(Namespace::Ext, 3)),
        (
            "of two tags each requester sends its own",
            Box::new(|| a.both_namespaces()),
        ),
        (
            "a tag of the other namespace is not sent",
            Box::new(|| a.other_namespace()),
        ),
        (
            "nothing published: the data arrives without a hint",
            Box::new(|| a.nothing()),
        ),
        (
            "changed and withdrawn tags take effect with the next write",
            Box::new(|| a.changes()),
        ),
    ];

    tap::run(tests)
}
