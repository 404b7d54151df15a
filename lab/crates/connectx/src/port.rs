// SPDX-License-Identifier: MIT OR Apache-2.0
//! The InfiniBand port: its context, its tables, and its registers.

use crate::ifc::{
    access_register_in, hca_vport_context, pmtu_reg, ptys_reg, pvlc_reg, query_hca_vport_gid_in,
    query_hca_vport_pkey_in,
};
use crate::status::Status;

/// Its local identifier; that of the subnet manager, too, which there is none of.
pub const LID: u16 = 1;
/// GUID of the port and the node, locally administered.
const GUID: u64 = 0x0254_50ff_fe00_0001;
/// Entries of its tables.
const GIDS: u64 = 8;
const PKEYS: u64 = 128;
/// The partition that everybody is in.
const DEFAULT_PKEY: u16 = 0xffff;
const LINK_UP: u64 = 5;
const ACTIVE: u64 = 4;
const WIDTH_4X: u64 = 1 << 2;
const SPEED_EDR: u64 = 1 << 5;
const VLS: u64 = 1;

/// Bytes of the description of the node.
const NODE_DESC: usize = 64;

/// The port.
#[derive(Debug)]
pub struct Port {
    description: [u8; NODE_DESC],
}

/// Names of registers.
const HOST_ENDIANNESS: u64 = 0x7004;
const NODE_DESCRIPTION: u64 = 0x6001;
const PTYS: u64 = 0x5004;
const PMTU: u64 = 0x5003;
const PVLC: u64 = 0x500f;

impl Port {
    /// Bytes of a packet.
    pub const MTU: u16 = 4096;

    pub fn new() -> Self {
        let mut description = [0; NODE_DESC];
        let text = b"rust-tph lab";
        description[..text.len()].copy_from_slice(text);
        Self { description }
    }

    /// Its first GID, which is the only one: that of the port on the local subnet.
    pub fn gid() -> [u8; 16] {
        ((0xfe80u128 << 112) | u128::from(GUID)).to_be_bytes()
    }

    /// Its context.
    pub fn context() -> Vec<u8> {
        use hca_vport_context as port;
        let mut context = vec![0; port::LAYOUT.len];
        for (field, value) in [
            (port::port_physical_state, LINK_UP),
            (port::vport_state, ACTIVE),
            (port::system_image_guid, GUID),
            (port::port_guid, GUID),
            (port::node_guid, GUID),
            // All may be changed, else ib_cm does not attach.
            (port::cap_mask1_field_select, 0xffff_ffff),
            (port::lid, LID.into()),
            (port::sm_lid, LID.into()),
        ] {
            field.set(&mut context, value);
        }
        context
    }

    /// QUERY_HCA_VPORT_GID: the entry that is asked for.
    pub fn gid_entry(input: &[u8]) -> Result<Vec<u8>, Status> {
        match query_hca_vport_gid_in::gid_index.get(input) {
            0 => Ok(Self::gid().to_vec()),
            1..GIDS => Ok(vec![0; 16]),
            _ => Err(Status::BadIndex),
        }
    }

    /// QUERY_HCA_VPORT_PKEY: the entry that is asked for.
    pub fn pkey_entry(input: &[u8]) -> Result<Vec<u8>, Status> {
        let pkey = match query_hca_vport_pkey_in::pkey_index.get(input) {
            0 => DEFAULT_PKEY,
            1..PKEYS => 0,
            _ => return Err(Status::BadIndex),
        };
        Ok(u32::from(pkey).to_be_bytes().to_vec())
    }

    /// ACCESS_REG: the register as it is afterwards.
    pub fn access(&mut self, input: &[u8]) -> Result<Vec<u8>, Status> {
        const WRITE: u64 = 0;
        let writes = access_register_in::op_mod.get(input) == WRITE;
        let data = &input[access_register_in::LAYOUT.len..];
        let register = |len, values: &[_]| {
            let mut bytes = vec![0; len];
            for &(field, value) in values {
                crate::layout::Field::set(field, &mut bytes, value);
            }
            bytes
        };
        Ok(match access_register_in::register_id.get(input) {
            // The host is little-endian; nothing depends on it here.
            HOST_ENDIANNESS => data.to_vec(),
            NODE_DESCRIPTION => {
                if writes {
                    let text = data.get(..NODE_DESC).ok_or(Status::InputLength)?;
                    self.description.copy_from_slice(text);
                }
                self.description.to_vec()
            }
            // The rest is what the link is: writes are not obeyed.
            PTYS => register(
                ptys_reg::LAYOUT.len,
                &[
                    (ptys_reg::local_port, 1),
                    (ptys_reg::ib_link_width_capability, WIDTH_4X),
                    (ptys_reg::ib_proto_capability, SPEED_EDR),
                    (ptys_reg::ib_link_width_admin, WIDTH_4X),
                    (ptys_reg::ib_proto_admin, SPEED_EDR),
                    (ptys_reg::ib_link_width_oper, WIDTH_4X),
                    (ptys_reg::ib_proto_oper, SPEED_EDR),
                ],
            ),
            PMTU => register(
                pmtu_reg::LAYOUT.len,
                &[
                    (pmtu_reg::local_port, 1),
                    (pmtu_reg::max_mtu, Self::MTU.into()),
                    (pmtu_reg::admin_mtu, Self::MTU.into()),
                    (pmtu_reg::oper_mtu, Self::MTU.into()),
                ],
            ),
            PVLC => register(
                pvlc_reg::LAYOUT.len,
                &[
                    (pvlc_reg::local_port, 1),
                    (pvlc_reg::vl_hw_cap, VLS),
                    (pvlc_reg::vl_admin, VLS),
                    (pvlc_reg::vl_operational, VLS),
                ],
            ),
            register => {
                log::info!("a register {register:#x} that the device has not got");
                return Err(Status::BadParameter);
            }
        })
    }
}
