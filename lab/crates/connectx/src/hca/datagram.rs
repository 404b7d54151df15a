// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unreliable datagrams.

use super::Hca;
use super::outcome::Outcome;
use crate::cqe::{self, Arrival, Opcode, Sender, Syndrome};
use crate::error::{CopyError, Error};
use crate::ifc::qpc;
use crate::mkey::Access;
use crate::port::{LID, Port};
use crate::qp::{Service, State};
use crate::wqe::{Address, Route, WorkRequest};

/// Bytes of a global route header, for which every datagram leaves room.
const ROUTE: usize = 40;
const ROUTE_LEN: u64 = ROUTE as u64;

impl Hca {
    /// Sends a datagram. It completes well whether it arrives or not.
    pub(super) fn datagram(
        &mut self,
        number: u32,
        request: &WorkRequest,
        address: &Address,
        immediate: Option<u32>,
    ) -> Result<Outcome, Error> {
        let pd = self.field(number, qpc::pd);
        let len = match self
            .scatter_gather()
            .permit(&request.segments, pd, Access::LocalRead)
        {
            Ok(len) if len <= u64::from(Port::MTU) => len,
            Ok(_) => return Ok(Outcome::Failed(Syndrome::LocalLength)),
            Err(why) => {
                log::info!("QP {number}: its own memory: {why}");
                return Ok(Outcome::Failed(Syndrome::LocalProtection));
            }
        };
        // The upper bit stands for the sender's own.
        let qkey = match address.qkey {
            qkey @ 0..0x8000_0000 => qkey,
            _ => self.field(number, qpc::q_key),
        };
        let here = address.lid == LID || address.route.is_some_and(|to| to.gid == Port::gid());
        let listens = self.qps.get(address.qpn).is_some_and(|qp| {
            here && qp.service == Service::Datagram
                && matches!(qp.state, State::Rtr | State::Rts)
                && qpc::q_key.get32(&qp.context) == qkey
        });
        if !listens {
            log::info!("QP {number}: nobody takes a datagram for {address:x?}");
            return Ok(Outcome::Done(len));
        }
        let peer = address.qpn;
        let Some(wqe) = self.consume_receive(peer, request.srqn)? else {
            return Ok(Outcome::Done(len));
        };
        let sg = self.scatter_gather();
        let total = ROUTE_LEN + len;
        let arrived = match sg.permit(&wqe.segments, wqe.pd, Access::LocalWrite) {
            Ok(room) if room < total => Err(Syndrome::LocalLength),
            Err(_) => Err(Syndrome::LocalProtection),
            Ok(_) => {
                let routed = match address.route {
                    Some(route) => sg.write(&wqe.segments, 0, &route_header(&route, len)),
                    None => Ok(()),
                };
                let copied = routed
                    .map_err(CopyError::Target)
                    .and_then(|()| sg.copy(&request.segments, &wqe.segments, ROUTE_LEN, len));
                match copied {
                    Ok(()) => Ok(()),
                    Err(CopyError::Target(error)) => {
                        log::info!("a datagram to QP {peer}: {error}");
                        Err(Syndrome::LocalProtection)
                    }
                    Err(CopyError::Source(error)) => {
                        log::info!("a datagram of QP {number}: {error}");
                        return Ok(Outcome::Failed(Syndrome::LocalProtection));
                    }
                }
            }
        };
        if let Err(why) = arrived {
            self.complete_receive_error(peer, wqe.cqn, wqe.index, why)?;
            self.pending_errors.push(peer);
            return Ok(Outcome::Done(len));
        }
        let sender = Sender {
            qpn: number,
            lid: LID,
            sl: address.sl,
        };
        let arrival = Arrival {
            opcode: match immediate {
                Some(_) => Opcode::ResponderSendImm,
                None => Opcode::ResponderSend,
            },
            bytes: u32::try_from(total).unwrap_or(u32::MAX),
            immediate,
            datagram: Some((sender, address.route.is_some())),
        };
        let entry = cqe::responder(peer, wqe.index, wqe.srqn, &arrival);
        self.post_completion(wqe.cqn, entry, request.solicited)?;
        Ok(Outcome::Done(len))
    }
}

/// A global route header, as it is in front of a datagram of `len` bytes.
fn route_header(route: &Route, len: u64) -> [u8; ROUTE] {
    const VERSION: u32 = 6;
    const TRANSPORT: u8 = 0x1b;
    let mut header = [0; ROUTE];
    let first = VERSION << 28 | u32::from(route.class) << 20 | route.flow;
    header[..4].copy_from_slice(&first.to_be_bytes());
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    header[4..6].copy_from_slice(&len.to_be_bytes());
    header[6] = TRANSPORT;
    header[7] = route.hops;
    header[8..24].copy_from_slice(&Port::gid());
    header[24..].copy_from_slice(&route.gid);
    header
}
