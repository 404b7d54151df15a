// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers by themselves, and a copy whose hint is taken away.

use super::{
    InitiatorConfig,
    registers::{Action, Copy, Fault, MAX_LEN, Registers},
};
use crate::{
    complaints::Complaints,
    device::{Device, Slot},
    function::Function,
};
use fabric::{Completer, Fabric, Iommu, TagSource, Want, Width, trace::Tap};
use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};
use tlp::{Bdf, Hint, MemRequest, Mode, Ph, SteeringTag};
use vfio_bindings::bindings::vfio::VFIO_PCI_CONFIG_REGION_INDEX;
use vfio_user::{DmaMapFlags, ServerBackend};

const ID: Bdf = Bdf::new(0, 0x10, 0);
#[test]
fn the_hint_register() {
    const VECTOR: u16 = 7;
    for (value, wanted) in [
        (0x0000_00f0, None),
        (0x0022_00f0, None), // width 2 is reserved
        (
            0x0012_00f0,
            Some((Ph::Target, TagSource::Literal(0xf0), Width::Bits8)),
        ),
        (
            0x0033_bef0,
            Some((
                Ph::TargetPriority,
                TagSource::Literal(0xbef0),
                Width::Bits16,
            )),
        ),
        (
            0x0131_0003,
            Some((Ph::Requester, TagSource::Entry(3), Width::Bits16)),
        ),
        (
            0x0110_ffff,
            Some((Ph::Bidirectional, TagSource::Entry(0xffff), Width::Bits8)),
        ),
        (
            0x0112_0007,
            Some((Ph::Target, TagSource::Vector(VECTOR), Width::Bits8)),
        ),
        (0x0100_0003, None),
    ] {
        let mut registers = Registers::default();
        registers.write(0x20, 1);
        registers.write(0x24, value);
        registers.write(0x3c, VECTOR.into());
        let want = wanted.map(|(ph, source, width)| Want {
            ph,
            source,
            width,
            exact: true,
        });
        assert_eq!(registers.copy().unwrap().want, want, "{value:#x}");
    }
}

#[test]
fn registers_after_reset() {
    let mut registers = Registers::default();
    for _ in 0..2 {
        for at in (0..0x2000).step_by(4) {
            let expected = match at {
                0x00 => 0x5450_4849,
                0x04 => 1,
                _ => 0,
            };
            assert_eq!(registers.read(at), expected, "register {at:#x}");
        }
        for at in (0..0x2000).step_by(4).filter(|&at| at != 0x28) {
            registers.write(at, 0xffff_ffff);
        }
        registers.reset();
    }
}

#[test]
fn reserved_bits_stay_zero() {
    let mut registers = Registers::default();
    for at in (0..0x2000).step_by(4) {
        assert_eq!(registers.write(at, 0xffff_ffff), Action::None);
    }
    for (at, value) in [
        (0x00, 0x5450_4849),
        (0x04, 1),
        (0x08, 0xffff),
        (0x0c, 0),
        (0x10, u32::MAX),
        (0x14, u32::MAX),
        (0x18, u32::MAX),
        (0x1c, u32::MAX),
        (0x20, u32::MAX),
        (0x24, 0x0133_ffff),
        (0x28, 0),
        (0x2c, 0),
        (0x30, 1),
        (0x34, 0),
        (0x38, 0),
        (0x3c, 0xffff),
        (0x40, 0),
    ] {
        assert_eq!(registers.read(at), value, "register {at:#x}");
    }
}

#[test]
fn a_copy_is_checked() {
    let mut registers = Registers::default();
    let set = |registers: &mut Registers, src: u64, addr: u64, len: u32| {
        for (at, value) in [(0x10, addr), (0x18, src)] {
            registers.write(at, crate::mmio::low(value));
            registers.write(at + 4, crate::mmio::high(value));
        }
        registers.write(0x20, len);
        registers.copy()
    };
    registers.write(0x08, ID.0.into());
    registers.write(0x3c, 3);
    let copy = set(&mut registers, 0x1_0000_0003, 0x38_0000_0800, MAX_LEN);
    assert_eq!(
        copy,
        Some(Copy {
            requester: ID,
            source: 0x1_0000_0003,
            destination: 0x38_0000_0800,
            len: MAX_LEN,
            vector: 3,
            want: None,
        })
    );
    assert_eq!(set(&mut registers, 0, 0, 0), None);
    assert_eq!(set(&mut registers, 0, 0, MAX_LEN + 1), None);
    assert_eq!(set(&mut registers, u64::MAX, 0, 2), None);
    assert_eq!(set(&mut registers, 0, u64::MAX - 2, 4), None);
    assert!(set(&mut registers, u64::MAX, u64::MAX, 1).is_some());
}

#[test]
fn status_through_a_copy() {
    let mut registers = Registers::default();
    assert_eq!(registers.write(0x28, 0), Action::None);
    assert_eq!(registers.write(0x28, 3), Action::None);
    assert_eq!(registers.write(0x28, 1), Action::Copy);
    registers.begin();
    assert_eq!(registers.read(0x2c), 0b001);
    assert_eq!(registers.write(0x28, 1), Action::None);
    assert_eq!(registers.read(0x2c), 0x401);
    registers.count_write(true);
    assert_eq!(registers.read(0x2c), 0x405);
    registers.count_write(false);
    assert!(!registers.end(Fault::None), "the interrupt is not enabled");
    assert_eq!(registers.read(0x2c), 0x406);
    assert_eq!((registers.read(0x34), registers.read(0x38)), (1, 2));

    assert_eq!(
        registers.write(0x30, 1),
        Action::Interrupt,
        "one is pending"
    );
    assert_eq!(registers.write(0x30, 1), Action::None);
    registers.write(0x34, 0);
    assert_eq!(registers.read(0x34), 1);
    registers.write(0x34, 1);
    assert_eq!(registers.read(0x34), 0);

    registers.begin();
    assert_eq!(registers.read(0x2c), 1, "the last copy's bits are gone");
    assert!(registers.end(Fault::SourceRead));
    assert_eq!(registers.read(0x2c), 0x202);
}

/// Keeps the hint of each write.
#[derive(Default)]
struct Hints(Mutex<Vec<Option<Hint>>>);

impl Completer for Hints {
    fn write(&self, _bar: usize, _offset: u64, request: &MemRequest, _data: &[u8]) {
        self.0.lock().unwrap().push(request.hint());
    }

    fn read(&self, _bar: usize, _offset: u64, _request: &MemRequest, _data: &mut [u8]) {}
}

/// Switches the requester off before the second page of a copy is translated: between two TLPs, and
/// with no lock held.
#[derive(Default)]
struct SwitchOff {
    function: OnceLock<Arc<Mutex<Function>>>,
}

/// Where the initiator addresses the peer's BAR, and where that is.
const DEVICE: u64 = 0x1000_0000;
const BAR: u64 = 0xfe00_0000;
const PAGE: u64 = 0x1000;
/// TPH Requester Control.
const CONTROL: u64 = 0x110 + 8;

impl Iommu for SwitchOff {
    fn translate(&self, _requester: Bdf, page: u64) -> io::Result<Option<u64>> {
        if page == DEVICE + PAGE {
            let mut function = self.function.get().unwrap().lock().unwrap();
            function.region_write(VFIO_PCI_CONFIG_REGION_INDEX, CONTROL, &[2, 0])?;
        }
        Ok(Some(BAR + (page - DEVICE)))
    }
}

#[test]
fn a_requester_that_is_switched_off_hints_no_further_tlp() {
    let iommu = Arc::new(SwitchOff::default());
    let fabric = Fabric::with_iommu(Mode::Flit, Tap::discard(), iommu.clone());
    let hints = Arc::new(Hints::default());
    let peer = fabric
        .attach("peer", Bdf::new(0, 0x11, 0), Some(hints.clone()))
        .unwrap();
    peer.set_bar(0, BAR, 4 * PAGE);
    peer.set_command(false, true);

    let slot = Slot {
        name: "initiator",
        bdf: ID,
        mode: Mode::Flit,
        trace_dir: None,
        crash: &Arc::default(),
        complaints: &Complaints::default(),
    };
    let parts = InitiatorConfig::Extended.build(&slot).unwrap();
    let port = fabric.attach("initiator", ID, None).unwrap();
    let mut function = Function::new(
        "initiator",
        parts.config,
        port,
        parts.interrupt,
        parts.model,
    );
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(4 * PAGE).unwrap();
    let (flags, source) = (DmaMapFlags::READ_WRITE, 0x8000);
    function
        .dma_map(flags, 0, source, 4 * PAGE, Some(memory))
        .unwrap();
    function.dma_map(flags, 0, DEVICE, 4 * PAGE, None).unwrap();
    let config = VFIO_PCI_CONFIG_REGION_INDEX;
    function.region_write(config, 4, &[6, 0]).unwrap();
    function.region_write(config, CONTROL, &[2, 3]).unwrap();
    for (at, value) in [
        (0x10, DEVICE),
        (0x18, source),
        (0x20, 2 * PAGE),
        (0x24, 0x0033_bef0),
    ] {
        let value = u32::try_from(value).unwrap();
        function.region_write(0, at, &value.to_le_bytes()).unwrap();
    }
    let function = Arc::new(Mutex::new(function));
    assert!(iommu.function.set(function.clone()).is_ok());
    let access = |at, write: Option<u32>| {
        let mut function = function.lock().unwrap();
        let mut data = write.unwrap_or_default().to_le_bytes();
        match write {
            Some(_) => function.region_write(0, at, &data).unwrap(),
            None => function.region_read(0, at, &mut data).unwrap(),
        }
        u32::from_le_bytes(data)
    };
    access(0x28, Some(1));
    let status = loop {
        match access(0x2c, None) {
            status if status & 1 != 0 => thread::sleep(Duration::from_millis(1)),
            status => break status,
        }
    };
    assert_eq!(status, 0b110, "some had none");
    let seen = hints.0.lock().unwrap();
    let tag = SteeringTag::Ext(0xbef0);
    let hint = Hint {
        ph: Ph::TargetPriority,
        tag,
    };
    let page = usize::try_from(PAGE).unwrap() / 128;
    assert_eq!(seen[..page], vec![Some(hint); page]);
    assert_eq!(seen[page..], vec![None; page]);
}
