// SPDX-License-Identifier: GPL-2.0
//! At the lowest policy level no user gets a tag onto the wire, whatever it tries. The lab looks at
//! the trace of all that, too: no write to the accelerator has a hint there.

use dma_buf_tph::accelerator::{Accelerator, PUBLISHED};
use dma_buf_tph::engine;
use dma_buf_tph::pci;
use dma_buf_tph::requester::{
    CONTROL, DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, EXTENDED, Entry, FROM_TABLE, FROM_USER,
    INTERRUPT_VECTOR, Requester, Resolved, ST, Source, TABLE, Written, level,
};
use dma_buf_tph::tap::{self, assert_errno};
use libc::{EINVAL, EOPNOTSUPP};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// The page of BAR 0 with the MSI-X table, and its entries.
const MSIX: u64 = 0x1000;
const VECTORS: usize = 4;
const TAG: u16 = PUBLISHED.steering_tag as u16;

/// Why an initiator has no entry of an ST table to send, if it has none: its STATUS.
fn no_table(id: u16) -> Option<&'static str> {
    match id {
        pci::INITIATOR_NO_TABLE => Some("error 3"),
        pci::INITIATOR_MSIX => Some("error 6"),
        _ => None,
    }
}

/// Neither the table nor a register lets the device send a hint.
#[track_caller]
fn writes_without_a_tag(requester: &Requester, accelerator: &Accelerator, id: u16) {
    let from_user = requester.write_to(accelerator, FROM_USER).unwrap();
    assert_eq!(from_user, Written::Dropped);
    let from_table = requester.write_to(accelerator, FROM_TABLE);
    match no_table(id) {
        Some(status) => {
            let error = from_table.unwrap_err().to_string();
            assert!(error.ends_with(status), "{error}");
        }
        None => assert_eq!(from_table.unwrap(), Written::Dropped),
    }

    // Again, through a mapping of the registers.
    requester.write_to(accelerator, FROM_USER).unwrap();
    let registers = requester.vfio.region(engine::BAR).unwrap();
    let page = registers.page(0).unwrap();
    let [hint] = page.read(engine::HINT as usize);
    assert_ne!(hint, 0);
    for hint in [hint, hint | 2 << 20] {
        page.write(engine::HINT as usize, &[hint]);
        page.write(engine::DOORBELL as usize, &[1]);
        assert!(engine::end(&registers).unwrap(), "{hint:#x} is dropped");
    }
}

/// What belongs to the table is refused, and who asks for a tag gets none.
#[track_caller]
fn no_entry(requester: &Requester, accelerator: &Accelerator, id: u16, opted_in: bool) {
    let dmabuf = Source::of(accelerator.dmabuf.as_fd());
    assert_errno(requester.probe(ST), EOPNOTSUPP);
    for flags in [0, EXTENDED] {
        for source in [
            Source::None,
            dmabuf,
            Source::Cpu(0),
            Source::Literal(TAG.into()),
        ] {
            requester.assert_refused(flags, &[Entry::new(0, source)], EOPNOTSUPP);
        }
        assert_errno(requester.resolve(flags, Source::Cpu(0)), EOPNOTSUPP);
        let resolved = requester.resolve(flags, dmabuf);
        if flags == EXTENDED && id == pci::INITIATOR {
            assert_errno(resolved, EOPNOTSUPP);
        } else if opted_in {
            let (steering_tag, ph) = (0, PUBLISHED.ph);
            assert_eq!(resolved.unwrap(), Resolved { steering_tag, ph });
        } else {
            assert_errno(resolved, EINVAL);
        }
    }
    requester.write(TABLE, &TAG.to_le_bytes()).unwrap();
    requester.write(CONTROL + 2, &[0xff; 4]).unwrap();
    if no_table(id).is_none() {
        requester.assert_table(&[]);
    }
}

/// Tags in the MSI-X table, which user space can map.
fn write_msix_table(requester: &Requester) {
    const VECTOR_CONTROL: usize = 12;

    let table = requester
        .vfio
        .region(engine::BAR)
        .unwrap()
        .page(MSIX)
        .unwrap();
    for vector in 0..VECTORS {
        table.write(16 * vector + VECTOR_CONTROL, &[u32::from(TAG) << 16 | 1]);
    }
}

fn no_tag(id: u16) {
    let accelerator = Accelerator::open().unwrap();
    let pdev = pci::Device::find_behind(id, false).unwrap();
    let requester = Requester::open_device(pdev, level::NO_ST).unwrap();
    let everything = |opted_in| {
        for mode in [0, INTERRUPT_VECTOR, DEVICE_SPECIFIC, 7] {
            for enable in [0, ENABLE, 2 << 8, ENABLE_EXT] {
                requester.control(mode | enable).unwrap();
                // In the order in which a byte at a time arrives, too.
                requester
                    .write(CONTROL + 1, &[(enable >> 8) as u8])
                    .unwrap();
                requester.write(CONTROL, &[mode as u8]).unwrap();
                no_entry(&requester, &accelerator, id, opted_in);
                writes_without_a_tag(&requester, &accelerator, id);
            }
        }
        if id == pci::INITIATOR_MSIX {
            write_msix_table(&requester);
            writes_without_a_tag(&requester, &accelerator, id);
        }
    };
    everything(false);
    requester.opt_in().unwrap();
    everything(true);
    requester.vfio.reset().unwrap();
    everything(true);
    requester.vfio.function_level_reset().unwrap();
    everything(true);
}

fn main() -> ExitCode {
    tap::run(vec![
        (
            "a requester of 8-bit tags",
            Box::new(|| no_tag(pci::INITIATOR)),
        ),
        (
            "a requester of 16-bit tags",
            Box::new(|| no_tag(pci::INITIATOR_EXT)),
        ),
        (
            "a requester with interrupt vector mode",
            Box::new(|| no_tag(pci::INITIATOR_IV)),
        ),
        (
            "a requester with its ST table in the MSI-X table",
            Box::new(|| no_tag(pci::INITIATOR_MSIX)),
        ),
        (
            "a requester without an ST table",
            Box::new(|| no_tag(pci::INITIATOR_NO_TABLE)),
        ),
    ])
}
