// SPDX-License-Identifier: GPL-2.0
//! At the lowest policy level no user gets a tag onto the wire, whatever it tries. The lab looks at
//! the trace of all that, too: no write to the accelerator has a hint there.

use dma_buf_tph::accelerator::Accelerator;
use dma_buf_tph::engine;
use dma_buf_tph::pci;
use dma_buf_tph::requester::{
    CONTROL, DEVICE_SPECIFIC, ENABLE, ENABLE_EXT, EXTENDED, Entry, FROM_TABLE, FROM_USER,
    INTERRUPT_VECTOR, Requester, Resolved, ST, Source, TABLE, Written, level,
};
use dma_buf_tph::tap::{self, assert_errno};
use libc::EOPNOTSUPP;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// The page of BAR 0 with the MSI-X table, and its entries.
const MSIX: u64 = 0x1000;
const VECTORS: usize = 4;
const TAG: u16 = 0xf4;

/// Whether an initiator has an ST table that it can read.
fn has_table(id: u16) -> bool {
    ![pci::INITIATOR_MSIX, pci::INITIATOR_NO_TABLE].contains(&id)
}

/// Neither the table nor a register lets the device send a hint.
#[track_caller]
fn writes_without_a_tag(requester: &Requester, accelerator: &Accelerator, id: u16) {
    let from_user = requester.write_to(accelerator, FROM_USER).unwrap();
    assert_eq!(from_user, Written::Dropped);
    match requester.write_to(accelerator, FROM_TABLE) {
        Ok(from_table) => assert_eq!(from_table, Written::Dropped),
        // The device has no such entry.
        Err(_) if !has_table(id) => (),
        Err(error) => panic!("{error}"),
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

/// What belongs to the table is refused.
#[track_caller]
fn no_entry(requester: &Requester, accelerator: &Accelerator, id: u16) {
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
        if let Ok(Resolved { steering_tag, .. }) = requester.resolve(flags, dmabuf) {
            assert_eq!(steering_tag, 0);
        }
    }
    requester.write(TABLE, &TAG.to_le_bytes()).unwrap();
    requester.write(CONTROL + 2, &[0xff; 4]).unwrap();
    if has_table(id) {
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
    let everything = || {
        for mode in [0, INTERRUPT_VECTOR, DEVICE_SPECIFIC, 7] {
            for enable in [0, ENABLE, 2 << 8, ENABLE_EXT] {
                requester.control(mode | enable).unwrap();
                // In the order in which a byte at a time arrives, too.
                requester
                    .write(CONTROL + 1, &[(enable >> 8) as u8])
                    .unwrap();
                requester.write(CONTROL, &[mode as u8]).unwrap();
                no_entry(&requester, &accelerator, id);
                writes_without_a_tag(&requester, &accelerator, id);
            }
        }
        if id == pci::INITIATOR_MSIX {
            write_msix_table(&requester);
            writes_without_a_tag(&requester, &accelerator, id);
        }
    };
    everything();
    requester.opt_in().unwrap();
    everything();
    requester.vfio.reset().unwrap();
    everything();
    requester.vfio.function_level_reset().unwrap();
    everything();
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
