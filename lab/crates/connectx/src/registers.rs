// SPDX-License-Identifier: MIT OR Apache-2.0
//! BAR 0: the initialisation segment, the pages of doorbells (UARs) and the gateways of TLP
//! emulation.
//!
//! Registers are big-endian. What is not listed reads as 0.

use crate::capabilities::{LOG_MAX_CQ, LOG_MAX_QP};
use devices::mmio;
use std::time::Instant;

/// Bytes of the BAR.
pub const BAR_SIZE: u64 = 8 << 20;
/// Numbers of UARs: page N is UAR N, and the first three are the initialisation segment's.
pub const UARS: std::ops::Range<u32> = 3..0x3ff;
/// A register of the lab's own, which no adapter has: \[31:16\] an opcode, \[15:0\] how many of the
/// next commands with it are refused for want of resources. So tests can see what a driver does
/// then.
pub const REFUSE: u64 = 0x3f_f000;
/// First byte of the gateways, and how many there are, of a page each.
pub const GATEWAY_BASE: u64 = 0x40_0000;
pub const GATEWAYS: u64 = 4;
/// First byte of MSI-X.
pub const MSIX_TABLE: u32 = 0x7f_0000;
pub const MSIX_PENDING: u32 = 0x7f_8000;
const PAGE: u64 = 0x1000;
const _: () = assert!(UARS.end as u64 * PAGE <= GATEWAY_BASE);

/// The command queue: 2^5 entries of 2^6 bytes.
pub const LOG_COMMANDS: u32 = 5;
pub const LOG_STRIDE: u32 = 6;

/// 28.40.1000: firmware that is nobody's.
const FW_REV: u32 = 0x28 << 16 | 0x1c;
const FW_SUB: u32 = 1000;
/// Revision of the command interface, which the driver insists on.
const CMDIF_REV: u32 = 5;

/// The state of the interface, beside the address of the command queue.
const NIC_STATE: u32 = 0x700;

/// What a write starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// The driver begins: the command queue is at this address.
    Begin(u64),
    /// Commands: a bit for each entry.
    Commands(u32),
    /// The consumer has come to `consumer` of an EQ, and may want the next event.
    Eq {
        number: u32,
        consumer: u32,
        arm: bool,
    },
    /// A CQ is armed: its next completion, or its next solicited one, is to be an event.
    Cq {
        number: u32,
        consumer: u32,
        solicited: bool,
    },
    /// There is work in a QP's send queue.
    Send(u32),
    /// The next `number` commands with this opcode are refused.
    Refuse { opcode: u16, number: u16 },
}

/// The initialisation segment, and what of doorbells has arrived in part.
#[derive(Debug)]
pub struct Registers {
    queue_high: u32,
    queue_low: u32,
    started: Instant,
    /// First halves of CQ doorbells: UAR and value.
    cq_halves: Vec<(u64, u32)>,
}

impl Registers {
    pub fn new() -> Self {
        Self {
            queue_high: 0,
            queue_low: 0,
            started: Instant::now(),
            cq_halves: vec![],
        }
    }

    pub fn reset(&mut self) {
        self.queue_high = 0;
        self.queue_low = 0;
        self.cq_halves.clear();
    }

    /// Address of the command queue.
    fn queue(&self) -> u64 {
        u64::from(self.queue_high) << 32 | u64::from(self.queue_low & !0xfff)
    }

    /// Reads any bytes, all at one time.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let micros = self.started.elapsed().as_micros();
        // Those of `mmio` are little-endian.
        mmio::read(offset, data, |at| self.register(at, micros).swap_bytes());
    }

    /// A register, `micros` microseconds after the device was made.
    fn register(&self, offset: usize, micros: u128) -> u32 {
        // Counters wrap.
        #[allow(clippy::cast_possible_truncation)]
        let (low, high) = (micros as u32, (micros >> 32) as u32);
        match offset {
            // Once more in the health buffer, in which there is no error.
            0x000 | 0x230 => FW_REV,
            0x004 => CMDIF_REV << 16 | FW_SUB,
            0x010 => self.queue_high,
            // Bits 10:8, the state of the interface, are 0: it is up.
            0x014 => self.queue_low & !0xfff | LOG_COMMANDS << 4 | LOG_STRIDE,
            0x1000 => high,
            0x1004 => low,
            // The health counter: a second is ten beats.
            0x1010 => low / 100_000,
            _ => 0,
        }
    }

    /// Writes 4 or 8 bytes; other writes are ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> [Action; 2] {
        let (words, rest) = data.as_chunks::<4>();
        if !offset.is_multiple_of(4) || !rest.is_empty() || words.len() > 2 {
            log::debug!("ignored a write of {} bytes at {offset:#x}", data.len());
            return [Action::None; 2];
        }
        let mut words = (offset..).step_by(4).zip(words);
        [words.next(), words.next()].map(|word| {
            word.map_or(Action::None, |(at, word)| {
                self.write_register(at, u32::from_be_bytes(*word))
            })
        })
    }

    fn write_register(&mut self, offset: u64, value: u32) -> Action {
        match offset {
            0x010 => self.queue_high = value,
            // With a state of the interface it is that which the driver means.
            0x014 if value & NIC_STATE != 0 => log::info!("the driver sets the state {value:#x}"),
            0x014 => {
                self.queue_low = value;
                return Action::Begin(self.queue());
            }
            0x018 => return Action::Commands(value),
            REFUSE => {
                let [opcode_high, opcode_low, high, low] = value.to_be_bytes();
                return Action::Refuse {
                    opcode: u16::from_be_bytes([opcode_high, opcode_low]),
                    number: u16::from_be_bytes([high, low]),
                };
            }
            _ if (u64::from(UARS.start) * PAGE..u64::from(UARS.end) * PAGE).contains(&offset) => {
                return self.doorbell(offset / PAGE, offset % PAGE, value);
            }
            _ => {}
        }
        Action::None
    }

    /// A doorbell of 64 bits may come as two halves; the second one rings.
    fn doorbell(&mut self, uar: u64, offset: u64, value: u32) -> Action {
        match offset {
            0x20 => {
                self.cq_halves.retain(|&(of, _)| of != uar);
                self.cq_halves.push((uar, value));
                Action::None
            }
            0x24 => {
                let Some(at) = self.cq_halves.iter().position(|&(of, _)| of == uar) else {
                    return Action::None;
                };
                let (_, first) = self.cq_halves.swap_remove(at);
                let number = value & 0xff_ffff;
                if !can_be("CQ", number, LOG_MAX_CQ) {
                    return Action::None;
                }
                Action::Cq {
                    number,
                    consumer: first & 0xff_ffff,
                    // "Next" is command 0, "next solicited" is 1.
                    solicited: first >> 24 & 1 != 0,
                }
            }
            0x40 | 0x48 => Action::Eq {
                number: value >> 24,
                consumer: value & 0xff_ffff,
                arm: offset == 0x40,
            },
            // Four registers of 512 bytes; a work request's second word holds the number.
            0x800.. if offset % 0x100 == 4 && can_be("QP", value >> 8, LOG_MAX_QP) => {
                Action::Send(value >> 8)
            }
            _ => Action::None,
        }
    }
}

/// Whether there can be an object with this number: doorbells have room for 24 bits, and the
/// numbers of this kind have `bits`.
fn can_be(kind: &str, number: u32, bits: u8) -> bool {
    let can_be = number >> bits == 0;
    if !can_be {
        log::warn!("a doorbell of {kind} {number}, which there cannot be");
    }
    can_be
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(registers: &Registers, offset: u64) -> u32 {
        let mut data = [0; 4];
        registers.read(offset, &mut data);
        u32::from_be_bytes(data)
    }

    #[test]
    fn the_driver_finds_a_healthy_interface() {
        let registers = Registers::new();
        assert_eq!(read(&registers, 0x004) >> 16, 5);
        assert_eq!(read(&registers, 0x014), 0x56);
        assert_eq!(read(&registers, 0x1fc), 0, "initialized");
        let mut byte = [0xff];
        for (offset, what) in [(0x238, "rfr, severity"), (0x23d, "syndrome")] {
            registers.read(offset, &mut byte);
            assert_eq!(byte, [0], "{what}");
        }
    }

    #[test]
    fn the_timer_never_goes_back() {
        let registers = Registers::new();
        let now = || {
            let mut data = [0; 8];
            registers.read(0x1000, &mut data);
            u64::from_be_bytes(data)
        };
        let mut last = 0;
        // The lowest byte carries every 256 us: many times meanwhile.
        while last < 50_000 {
            let now = now();
            assert!(now >= last, "{now:#x} after {last:#x}");
            last = now;
        }
        assert!(u128::from(last) <= registers.started.elapsed().as_micros());
    }

    #[test]
    fn the_command_queue_is_where_the_driver_put_it() {
        let mut registers = Registers::new();
        registers.write(0x10, &1u32.to_be_bytes());
        let begun = registers.write(0x14, &0x2345_6000u32.to_be_bytes());
        assert_eq!(begun, [Action::Begin(0x1_2345_6000), Action::None]);
        let state = registers.write(0x14, &0x2345_6100u32.to_be_bytes());
        assert_eq!(state, [Action::None; 2]);
        assert_eq!(read(&registers, 0x014), 0x2345_6056);
        let rung = registers.write(0x18, &0x8000_0001u32.to_be_bytes());
        assert_eq!(rung, [Action::Commands(0x8000_0001), Action::None]);
        registers.reset();
        assert_eq!(registers.queue(), 0);
    }

    #[test]
    fn doorbells_ring_whole_or_in_halves() {
        let mut registers = Registers::new();
        let words = |high: u32, low: u32| (u64::from(high) << 32 | u64::from(low)).to_be_bytes();
        let cq = Action::Cq {
            number: 7,
            consumer: 0x12,
            solicited: true,
        };
        assert_eq!(
            registers.write(0x3020, &words(0x1100_0012, 7)),
            [Action::None, cq]
        );
        registers.write(0x3020, &0x1100_0012u32.to_be_bytes());
        registers.write(0x4020, &0x2000_0013u32.to_be_bytes());
        assert_eq!(
            registers.write(0x3024, &7u32.to_be_bytes()),
            [cq, Action::None]
        );
        assert_eq!(
            registers.write(0x3024, &7u32.to_be_bytes()),
            [Action::None; 2],
            "half of one"
        );
        for register in [0x800, 0x900, 0xa00, 0xc00, 0xd00] {
            assert_eq!(
                registers.write(0x3000 + register, &words(0x0000_2508, 0x0034_5603)),
                [Action::None, Action::Send(0x3456)]
            );
        }
        let eq = |arm| Action::Eq {
            number: 3,
            consumer: 9,
            arm,
        };
        assert_eq!(
            registers.write(0x3040, &0x0300_0009u32.to_be_bytes())[0],
            eq(true)
        );
        assert_eq!(
            registers.write(0x3048, &0x0300_0009u32.to_be_bytes())[0],
            eq(false)
        );
    }

    #[test]
    fn a_number_that_no_object_can_have_rings_nobody() {
        let mut registers = Registers::new();
        for number in [0xffffu32, 0x1_0000, 0xff_ffff] {
            let there = number == 0xffff;
            let send = registers.write(0x3804, &(number << 8).to_be_bytes())[0];
            assert_eq!(send == Action::Send(number), there, "{send:x?}");
            assert_eq!(send == Action::None, !there, "{send:x?}");
            registers.write(0x3020, &[0; 4]);
            let cq = registers.write(0x3024, &number.to_be_bytes())[0];
            assert_eq!(cq != Action::None, there, "{cq:x?}");
            assert!(registers.cq_halves.is_empty());
        }
    }

    #[test]
    fn refusals_can_be_asked_for() {
        let mut registers = Registers::new();
        let refuse = Action::Refuse {
            opcode: 0x200,
            number: 3,
        };
        assert_eq!(
            registers.write(REFUSE, &0x0200_0003u32.to_be_bytes()),
            [refuse, Action::None]
        );
    }

    #[test]
    fn what_is_no_register_is_ignored() {
        let mut registers = Registers::new();
        for (offset, len) in [(0x18, 1), (0x18, 2), (0x1a, 4), (0x18, 12), (0x400_0000, 4)] {
            assert_eq!(
                registers.write(offset, &vec![0xff; len]),
                [Action::None; 2],
                "{len} at {offset:#x}"
            );
        }
    }
}
