// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies in guest memory: command queue, queues and their entries.
//!
//! The kernel has C structures for these (include/linux/mlx5/device.h and qp.h), whose members are
//! bytes at least: a field may be a part of one. What all commands begin with is in mlx5_ifc.h.

crate::layout::layouts! {
    /// What all commands begin with. Most that name one object do it here.
    request: 0x10 in mlx5_ifc_destroy_cq_in_bits {
        opcode 0x0 0x10;
        op_mod 0x30 0x10;
        number 0x48 0x18 of cqn;
    }
    /// What all answers begin with. Most that name one object do it here.
    reply: 0x10 in mlx5_ifc_create_cq_out_bits {
        status 0x0 0x8;
        syndrome 0x20 0x20;
        number 0x48 0x18 of cqn;
    }
    /// An entry of the command queue.
    queue_entry: 0x40 in mlx5_cmd_layout {
        kind 0x0 0x8 of type;
        inlen 0x20 0x20;
        in_ptr 0x40 0x40;
        input 0x80 0x80 of in;
        output 0x100 0x80 of out;
        out_ptr 0x180 0x40;
        outlen 0x1c0 0x20;
        token 0x1e0 0x8;
        sig 0x1e8 0x8;
        status_own 0x1f8 0x8;
    }
    /// A mailbox of a command.
    mailbox: 0x240 in mlx5_cmd_prot_block {
        data 0x0 0x1000;
        next 0x1180 0x40;
        block_num 0x11c0 0x20;
        token 0x11e8 0x8;
    }
    /// An event.
    eqe: 0x40 in mlx5_eqe {
        kind 0x8 0x8 of type;
        sub_kind 0x18 0x8 of sub_type;
        data 0x100 0xe0;
        owner 0x1f8 0x8;
    }
    /// A completion.
    cqe: 0x40 in mlx5_cqe64 {
        slid 0xb0 0x10;
        flags_rqpn 0xc0 0x20;
        srqn 0x108 0x18 of srqn;
        immediate 0x120 0x20;
        byte_cnt 0x160 0x20;
        sop_drop_qpn 0x1c0 0x20;
        wqe_counter 0x1e0 0x10;
        opcode 0x1f8 0x4 of op_own;
        owner 0x1ff 0x1 of op_own;
    }
    /// A completion with an error.
    err_cqe: 0x40 in mlx5_err_cqe {
        vendor_err_synd 0x1b0 0x8;
        syndrome 0x1b8 0x8;
        sop_drop_qpn 0x1c0 0x20 of s_wqe_opcode_qpn;
        wqe_counter 0x1e0 0x10;
        opcode 0x1f8 0x4 of op_own;
        owner 0x1ff 0x1 of op_own;
    }
    /// What a work request begins with.
    control: 0x10 in mlx5_wqe_ctrl_seg {
        opmod 0x0 0x8 of opmod_idx_opcode;
        wqe_index 0x8 0x10 of opmod_idx_opcode;
        opcode 0x18 0x8 of opmod_idx_opcode;
        qpn 0x20 0x18 of qpn_ds;
        ds 0x3a 0x6 of qpn_ds;
        fence 0x58 0x3 of fm_ce_se;
        signalled 0x5c 0x1 of fm_ce_se;
        solicited 0x5e 0x1 of fm_ce_se;
        general 0x60 0x20 of imm;
    }
    /// Where a datagram goes.
    address: 0x30 in mlx5_av {
        qkey 0x0 0x20 of key.qkey.qkey;
        extended 0x40 0x1 of dqp_dct;
        dqpn 0x48 0x18 of dqp_dct;
        sl 0x64 0x4 of stat_rate_sl;
        mlid 0x69 0x7 of fl_mlid;
        rlid 0x70 0x10;
        tclass 0xd0 0x8;
        hop_limit 0xd8 0x8;
        grh 0xe1 0x1 of grh_gid_fl;
        flow_label 0xec 0x14 of grh_gid_fl;
        rgid 0x100 0x80;
    }
    /// The peer's shared receive queue.
    xrc: 0x10 in mlx5_wqe_xrc_seg {
        xrc_srqn 0x8 0x18 of xrc_srqn;
    }
    /// The target of an RDMA request.
    remote: 0x10 in mlx5_wqe_raddr_seg {
        raddr 0x0 0x40;
        rkey 0x40 0x20;
    }
    /// The operands of an atomic.
    atomic: 0x10 in mlx5_wqe_atomic_seg {
        swap_add 0x0 0x40;
        compare 0x40 0x40;
    }
    /// A piece of memory, or inline data.
    data: 0x10 in mlx5_wqe_data_seg {
        is_inline 0x0 0x1 of byte_count;
        byte_count 0x1 0x1f of byte_count;
        lkey 0x20 0x20;
        addr 0x40 0x40;
    }
    /// What is changed of a memory key.
    umr: 0x30 in mlx5_wqe_umr_ctrl_seg {
        inline_list 0x0 0x1 of flags;
        check 0x1 0x2 of flags;
        has_offset 0x3 0x1 of flags;
        xlt_octowords 0x20 0x10;
        xlt_offset 0x30 0x10;
        mkey_mask 0x40 0x40;
        xlt_offset_47_16 0x80 0x20;
    }
    /// What a request of a shared receive queue begins with.
    srq_next: 0x10 in mlx5_wqe_srq_next_seg {
        next_wqe_index 0x10 0x10;
    }
}
