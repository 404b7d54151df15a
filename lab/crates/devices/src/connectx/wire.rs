// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies in guest memory: command queue, queues and their entries.
//!
//! The kernel has C structures for these (include/linux/mlx5/device.h, qp.h, driver.h).

super::layout::layouts! {
    /// What all commands begin with. Most that name one object do it here.
    request: 0x10 {
        opcode 0x0 0x10;
        op_mod 0x30 0x10;
        number 0x48 0x18;
    }
    /// What all answers begin with. Most that name one object do it here.
    reply: 0x10 {
        status 0x0 0x8;
        syndrome 0x20 0x20;
        number 0x48 0x18;
    }
    /// An entry of the command queue: struct mlx5_cmd_layout.
    queue_entry: 0x40 {
        kind 0x0 0x8;
        inlen 0x20 0x20;
        in_ptr 0x40 0x40;
        input 0x80 0x80;
        output 0x100 0x80;
        out_ptr 0x180 0x40;
        outlen 0x1c0 0x20;
        token 0x1e0 0x8;
        sig 0x1e8 0x8;
        status_own 0x1f8 0x8;
    }
    /// A mailbox of a command: struct mlx5_cmd_prot_block.
    mailbox: 0x240 {
        data 0x0 0x1000;
        next 0x1180 0x40;
        block_num 0x11c0 0x20;
        token 0x11e8 0x8;
    }
    /// An event: struct mlx5_eqe.
    eqe: 0x40 {
        kind 0x8 0x8;
        sub_kind 0x18 0x8;
        data 0x100 0xe0;
        owner 0x1f8 0x8;
    }
    /// A completion: struct mlx5_cqe64.
    cqe: 0x40 {
        slid 0xb0 0x10;
        flags_rqpn 0xc0 0x20;
        srqn 0x108 0x18;
        immediate 0x120 0x20;
        byte_cnt 0x160 0x20;
        timestamp 0x180 0x40;
        sop_drop_qpn 0x1c0 0x20;
        wqe_counter 0x1e0 0x10;
        opcode 0x1f8 0x4;
        owner 0x1ff 0x1;
    }
    /// A completion with an error: struct mlx5_err_cqe.
    err_cqe: 0x40 {
        vendor_err_synd 0x1b0 0x8;
        syndrome 0x1b8 0x8;
        sop_drop_qpn 0x1c0 0x20;
        wqe_counter 0x1e0 0x10;
        opcode 0x1f8 0x4;
        owner 0x1ff 0x1;
    }
}
