# SPDX-License-Identifier: GPL-2.0
"""Reliable connections within one adapter, by pyverbs."""

import time

from pyverbs.addr import AHAttr, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.libibverbs_enums import (ibv_access_flags, ibv_mtu, ibv_qp_attr_mask, ibv_qp_state,
                                      ibv_qp_type, ibv_wc_status, ibv_wr_opcode)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

ACCESS = (ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE |
          ibv_access_flags.IBV_ACCESS_REMOTE_READ)
PATIENCE = 30
# Requests that a send queue takes.
DEPTH = 16


class Failed(Exception):
    """A work request failed; its argument is the status of its completion."""


class Loop:
    """Two queue pairs of one adapter that are each other's peers, and a buffer to write from."""

    def __init__(self, name, length=1 << 16):
        self.context = Context(name=name)
        self.pd = PD(self.context)
        self.cq = CQ(self.context, 64)
        self.source = MR(self.pd, length, ACCESS)
        init = QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RC, scq=self.cq, rcq=self.cq,
                          cap=QPCap(max_send_wr=DEPTH, max_recv_wr=16))
        self.qps = [QP(self.pd, init) for _ in range(2)]
        self.connect()

    def connect(self):
        """Connects the queue pairs, again if one of them has failed."""
        for qp in self.qps:
            qp.modify(QPAttr(qp_state=ibv_qp_state.IBV_QPS_RESET), ibv_qp_attr_mask.IBV_QP_STATE)
        port = self.context.query_port(1)
        for qp, peer in (self.qps, self.qps[::-1]):
            route = GlobalRoute(dgid=self.context.query_gid(1, 0), sgid_index=0)
            address = AHAttr(dlid=port.lid, port_num=1, is_global=1, gr=route)
            attr = QPAttr(port_num=1)
            attr.qp_access_flags = ACCESS
            attr.dest_qp_num = peer.qp_num
            attr.path_mtu = ibv_mtu.IBV_MTU_4096
            attr.min_rnr_timer, attr.timeout = 12, 14
            attr.retry_cnt = attr.rnr_retry = 7
            attr.max_rd_atomic = attr.max_dest_rd_atomic = 1
            attr.ah_attr = address
            qp.to_rts(attr)

    def write(self, data, key, addr):
        """An RDMA write of `data`; waits until it has ended."""
        self.source.write(data, len(data))
        self.post(len(data), key, addr)
        self.wait()

    def post(self, length, key, addr):
        """An RDMA write of the first bytes of the source; does not wait."""
        work = SendWR(opcode=ibv_wr_opcode.IBV_WR_RDMA_WRITE, num_sge=1,
                      sg=[SGE(self.source.buf, length, self.source.lkey)])
        work.set_wr_rdma(key, addr)
        self.qps[0].post_send(work)

    def wait(self):
        """Waits for a completion."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            count, completions = self.cq.poll()
            if count:
                if completions[0].status != ibv_wc_status.IBV_WC_SUCCESS:
                    raise Failed(completions[0].status)
                return
        raise TimeoutError(f"no completion after {PATIENCE} s")

    def close(self):
        """Ends it all."""
        for each in (*self.qps, self.source, self.cq, self.pd, self.context):
            each.close()
