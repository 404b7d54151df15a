// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this crate assumes about flit mode beyond the evidence in the one public capture.
//!
//! The capture (see `tests/codec/capture.rs`) shows a 64-bit memory write with an 8-bit tag: its
//! type code, DW0, DW1, the address DWs, and OHC-B with HV = 1. What else [`crate::Mode::Flit`]
//! needs is a constant here, with the evidence there is, so that a better capture corrects it in
//! one place. Two open-source programs are cited; neither is a capture: the crate `rtlp-lib` 0.5.1
//! (BSD-3-Clause), and "the exerciser", a model in C++ on GitHub
//! (`pcie-6-0-packet-generator-and-exerciser/PCIe-6.0-Packet-Generator-Exerciser`), read for facts.
//!
//! Fields that are 0 in the capture only show that they exist: Tag\[13:8\] is where the exerciser
//! has it, TC, TS and Attr where `rtlp-lib` has them. For EP in bit 7 of byte 6 and for AT in the
//! low bits of the address there is nothing more; both are written 0 and refused when set.
//!
//! Byte numbers count from the first wire byte of the DW concerned, bit 0 is a byte's least
//! significant.

/// Type code of a 32-bit memory read. Both programs agree.
pub const TYPE_MRD32: u8 = 0x03;
/// Type code of a 64-bit memory read. The exerciser has it; `rtlp-lib` does not know the packet.
pub const TYPE_MRD64: u8 = 0x20;
/// Type code of a 32-bit memory write. Both programs agree.
pub const TYPE_MWR32: u8 = 0x40;
/// Type code of a completion without data. The exerciser has it; same as in non-flit mode.
pub const TYPE_CPL: u8 = 0x0a;
/// Type code of a completion with data. The exerciser has it; same as in non-flit mode.
pub const TYPE_CPLD: u8 = 0x4a;

/// OHC-A of a request: the byte with the last DW's enables in bits 7:4 and the first DW's in 3:0.
/// Both programs agree. The other bytes are PASID and flags in `rtlp-lib`; this crate keeps them 0.
/// That no OHC-A means all enables fits the capture, which has none.
pub const OHC_A_BYTE_ENABLES: usize = 3;

/// OHC-B: the byte of ST\[7:0\]. Shown by the capture.
pub const OHC_B_ST_LOW: usize = 2;
/// OHC-B: the byte of ST\[15:8\]. No evidence: it is the neighbour of ST\[7:0\] in a big-endian
/// field.
pub const OHC_B_ST_HIGH: usize = 1;
/// OHC-B: the byte of PH\[7:6\] HV\[5:4\] AMA\[3:1\] AV\[0\]. The capture shows PH and HV; AMA and
/// AV are 0 in it, so where one ends and the other begins is a guess from the order it prints them
/// in.
pub const OHC_B_FLAGS: usize = 3;
/// OHC-B: the byte that is reserved. No evidence beyond being 0 in the capture.
pub const OHC_B_RESERVED: usize = 0;

/// HV: no hint. No evidence, by analogy with the requester enable field of the TPH control
/// register, where 0 is disabled, 1 is TPH, 3 is Extended TPH and 2 is reserved.
pub const HV_NONE: u8 = 0b00;
/// HV: PH and an 8-bit ST. Shown by the capture.
pub const HV_ST: u8 = 0b01;
/// HV: PH and a 16-bit ST. No evidence, by the analogy of [`HV_NONE`].
pub const HV_EXTENDED: u8 = 0b11;

/// Completion DW1: the bit of byte 2 (above Tag\[13:8\]) that holds LowerAddress\[6\]. From the
/// exerciser, as are the completer ID in bytes 0-1 and the tag where requests have it.
pub const CPL_LOWER_ADDRESS_6: u8 = 1 << 6;
/// Completion DW2: LowerAddress\[5:2\] starts at this bit of byte 2, above ByteCount\[11:8\]; the
/// requester ID is in bytes 0-1. From the exerciser.
pub const CPL_LOWER_ADDRESS_5_2_SHIFT: u32 = 4;
/// OHC-A of a completion: the byte with the completion status in bits 2:0. From the exerciser; the
/// codes are taken to be those of non-flit mode (the exerciser knows but two). Bytes 0 and 1
/// (destination and completer segment) stay 0.
pub const OHC_A_CPL_STATUS: usize = 3;
/// OHC-A of a completion: LowerAddress\[1:0\] starts at this bit of the status byte. From the
/// exerciser. That a missing OHC-A means success and LowerAddress\[1:0\] = 0 is a guess.
pub const OHC_A_CPL_LOWER_ADDRESS_SHIFT: u32 = 3;
