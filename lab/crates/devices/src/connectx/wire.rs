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
    /// What a work request begins with: struct mlx5_wqe_ctrl_seg.
    control: 0x10 {
        opmod 0x0 0x8;
        wqe_index 0x8 0x10;
        opcode 0x18 0x8;
        qpn 0x20 0x18;
        ds 0x3a 0x6;
        fence 0x58 0x3;
        signalled 0x5c 0x1;
        solicited 0x5e 0x1;
        general 0x60 0x20;
    }
    /// Where a datagram goes: struct mlx5_av.
    address: 0x30 {
        qkey 0x0 0x20;
        extended 0x40 0x1;
        dqpn 0x48 0x18;
        sl 0x64 0x4;
        mlid 0x69 0x7;
        rlid 0x70 0x10;
        tclass 0xd0 0x8;
        hop_limit 0xd8 0x8;
        grh 0xe1 0x1;
        flow_label 0xec 0x14;
        rgid 0x100 0x80;
    }
    /// The peer's shared receive queue: struct mlx5_wqe_xrc_seg.
    xrc: 0x10 {
        xrc_srqn 0x8 0x18;
    }
    /// The target of an RDMA request: struct mlx5_wqe_raddr_seg.
    remote: 0x10 {
        raddr 0x0 0x40;
        rkey 0x40 0x20;
    }
    /// struct mlx5_wqe_atomic_seg.
    atomic: 0x10 {
        swap_add 0x0 0x40;
        compare 0x40 0x40;
    }
    /// A piece of memory, or inline data: struct mlx5_wqe_data_seg.
    data: 0x10 {
        is_inline 0x0 0x1;
        byte_count 0x1 0x1f;
        lkey 0x20 0x20;
        addr 0x40 0x40;
    }
    /// struct mlx5_wqe_umr_ctrl_seg; the flags are its first byte.
    umr: 0x30 {
        inline_list 0x0 0x1;
        check 0x1 0x2;
        has_offset 0x3 0x1;
        xlt_octowords 0x20 0x10;
        xlt_offset 0x30 0x10;
        mkey_mask 0x40 0x40;
        xlt_offset_47_16 0x80 0x20;
    }
    /// What a request of a shared receive queue begins with: struct mlx5_wqe_srq_next_seg.
    srq_next: 0x10 {
        next_wqe_index 0x10 0x10;
    }
}
