// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device says that it can do: the pages of QUERY_HCA_CAP.
//!
//! A capability that is not set here is 0, which keeps the parts of the driver off that the model
//! has no counterpart for.

use crate::ifc::{atomic_caps, cmd_hca_cap, query_hca_cap_out, tlp_dev_emu_capabilities};
use crate::registers;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Numbers that the capabilities promise, as powers of two.
pub const LOG_MAX_QP: u8 = 16;
pub const LOG_MAX_CQ: u8 = 16;
pub const LOG_MAX_SRQ: u8 = 16;
pub const LOG_MAX_PD: u8 = 16;
pub const LOG_MAX_XRCD: u8 = 8;
pub const LOG_MAX_MKEY: u8 = 20;
pub const LOG_MAX_QUEUE: u8 = 15;
pub const MAX_CQ_LOG: u32 = 16;
pub const MAX_EQ_LOG: u32 = 22;
pub const MAX_EQS: u16 = 64;
const _: () = assert!(query_hca_cap_out::capability.width == 8 * PAGE);

/// Numbers of pages.
const GENERAL: u16 = 0;
const ATOMIC: u16 = 3;
const TLP_EMULATION: u16 = 0x2a;

/// What an adapter says that it can do, beyond what the drivers insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Atomics of 8 bytes.
    pub atomic: bool,
    /// No doorbells of low latency: the UMR queue pair rings an ordinary one.
    pub latency_sensitive_disable: bool,
}

/// All that there is.
impl Default for Profile {
    fn default() -> Self {
        Self {
            atomic: true,
            latency_sensitive_disable: false,
        }
    }
}

/// The capabilities; the general ones are what the driver has made of them.
#[derive(Debug)]
pub struct Capabilities {
    profile: Profile,
    general: Vec<u8>,
}

impl Capabilities {
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            general: general(profile),
        }
    }

    /// The page for `op_mod` of QUERY_HCA_CAP: the number, and whether the current values are
    /// meant.
    pub fn page(&self, op_mod: u16) -> Vec<u8> {
        let (page, current) = (op_mod >> 1, op_mod & 1 != 0);
        match page {
            GENERAL if current => self.general.clone(),
            GENERAL => general(self.profile),
            ATOMIC => atomic(),
            TLP_EMULATION => tlp_emulation(),
            _ => vec![0; PAGE],
        }
    }

    /// SET_HCA_CAP.
    pub fn set(&mut self, op_mod: u16, values: &[u8]) {
        if op_mod >> 1 == GENERAL {
            self.general = values.to_vec();
            self.general.resize(PAGE, 0);
        }
    }
}

fn general(profile: Profile) -> Vec<u8> {
    use cmd_hca_cap as cap;
    let values = [
        (cap::page_request_disable, 1),
        (cap::log_max_srq_sz, LOG_MAX_QUEUE.into()),
        (cap::log_max_qp_sz, LOG_MAX_QUEUE.into()),
        (cap::log_max_qp, LOG_MAX_QP.into()),
        (cap::log_max_srq, LOG_MAX_SRQ.into()),
        (cap::log_max_cq_sz, MAX_CQ_LOG.into()),
        (cap::log_max_cq, LOG_MAX_CQ.into()),
        (cap::log_max_eq_sz, MAX_EQ_LOG.into()),
        (cap::log_max_mkey, LOG_MAX_MKEY.into()),
        (cap::log_max_eq, 4),
        // Else memory regions of 256 MiB and more would be made without UMR.
        (cap::umr_extended_translation_offset, 1),
        (cap::log_max_klm_list_size, 16),
        (cap::log_max_ra_req_qp, 4),
        (cap::log_max_ra_res_qp, 4),
        // An InfiniBand port of one function.
        (cap::ib_virt, 1),
        (cap::port_type, 0),
        (cap::num_ports, 1),
        (cap::local_ca_ack_delay, 15),
        (cap::log_max_msg, 30),
        (cap::atomic, profile.atomic.into()),
        (cap::cq_resize, 1),
        (cap::cq_moderation, 1),
        // On-demand paging: else the driver registers no dma-bufs.
        (cap::pg, 1),
        (cap::block_lb_mc, 1),
        // Else mlx5_ib does not load.
        (cap::xrc, 1),
        (cap::ud, 1),
        (cap::uc, 1),
        (cap::rc, 1),
        (cap::log_pg_sz, 12),
        // No BlueFlame, but the offsets of doorbells are made from its size.
        (cap::log_bf_reg_size, 9),
        (cap::max_wqe_sz_sq, 1024),
        (cap::max_wqe_sz_rq, 512),
        (cap::mkey_pcie_tph, 1),
        (cap::log_max_pd, LOG_MAX_PD.into()),
        (cap::log_max_xrcd, LOG_MAX_XRCD.into()),
        (cap::tlp_device_emulation_manager, 1),
        (
            cap::qp_latency_sensitive_disable,
            profile.latency_sensitive_disable.into(),
        ),
        (cap::max_num_eqs, MAX_EQS.into()),
    ];
    page(&values)
}

/// Compare-and-swap and fetch-and-add of 8 bytes.
fn atomic() -> Vec<u8> {
    page(&[
        (atomic_caps::atomic_req_8B_endianness_mode, 1),
        (atomic_caps::atomic_operations, 3),
        (atomic_caps::atomic_size_qp, 8),
    ])
}

fn tlp_emulation() -> Vec<u8> {
    page(&[
        (tlp_dev_emu_capabilities::log_tlp_rsp_gw_page_stride, 0),
        (
            tlp_dev_emu_capabilities::tlp_rsp_gw_num_pages,
            registers::GATEWAYS,
        ),
        (
            tlp_dev_emu_capabilities::tlp_rsp_gw_pages_bar_offset,
            registers::GATEWAY_BASE,
        ),
    ])
}

fn page(values: &[(crate::layout::Field, u64)]) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    for &(field, value) in values {
        field.set(&mut page, value);
    }
    page
}
