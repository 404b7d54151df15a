// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of memory keys by work requests (UMR).

use super::Hca;
use super::outcome::Outcome;
use crate::cqe::Syndrome;
use crate::error::Error;
use crate::mkey::Access;
use crate::qp::Service;
use crate::wqe::{DataSegment, Umr};

impl Hca {
    /// A change of a memory key.
    pub(super) fn update_mkey(
        &mut self,
        umr: &Umr,
        list: &[DataSegment],
        pd: u32,
        service: Service,
    ) -> Outcome {
        let privileged = service == Service::Umr;
        let sg = self.scatter_gather();
        let mut bytes = vec![0; usize::try_from(16 * umr.octowords).unwrap_or(0)];
        let permitted = self.mkeys.get(umr.key >> 8).is_some_and(|mkey| {
            match mkey.permit_update(umr, pd, privileged) {
                Ok(()) => true,
                Err(why) => {
                    log::warn!("mkey {:#x} cannot be changed so: {why}", umr.key >> 8);
                    false
                }
            }
        });
        if !permitted {
            return Outcome::Failed(Syndrome::MemoryWindowBind);
        }
        let listed = sg.permit(list, pd, Access::LocalRead);
        if listed.is_ok_and(|len| len < bytes.len() as u64) {
            return Outcome::Failed(Syndrome::LocalQpOperation);
        }
        let read = listed
            .map_err(Error::from)
            .and_then(|_| sg.read(list, 0, &mut bytes));
        if let Err(error) = read {
            log::warn!("the translations cannot be read: {error}");
            return Outcome::Failed(Syndrome::LocalProtection);
        }
        if let Some(mkey) = self.mkeys.get_mut(umr.key >> 8) {
            mkey.update(umr, &bytes);
        }
        Outcome::Done(0)
    }
}
