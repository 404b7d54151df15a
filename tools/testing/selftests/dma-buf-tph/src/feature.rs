// SPDX-License-Identifier: GPL-2.0
//! What `VFIO_DEVICE_FEATURE_DMA_BUF_TPH` is in the running kernel.
//!
//! In a kernel of this project that is known, and whatever is missing is a failure. In a
//! conformance run, which is on any kernel, it is found out, and what is missing is a reason to
//! skip.

use crate::pci::{self, CompleterType};
use crate::tap;
use crate::vfio::{Device, GET, PROBE};
use std::env;
use std::io;
use std::sync::OnceLock;

/// The environment variable that makes it a conformance run.
const CONFORMANCE: &str = "DMA_BUF_TPH_CONFORMANCE";

/// Numbers that it may have: the first one that the series under discussion used, and what may be
/// free by the time that a kernel takes it.
const NUMBERS: std::ops::RangeInclusive<u32> = 13..=31;

/// The feature.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its number.
    pub number: u32,
    /// Whether it can be read back, and asked what the device completes.
    pub has_get: bool,
}

/// That of this tree's include/uapi/linux/vfio.h.
const OURS: Feature = Feature {
    number: 14,
    has_get: true,
};

static FEATURE: OnceLock<Result<Feature, String>> = OnceLock::new();

/// Whether this is a conformance run.
pub fn is_conformance() -> bool {
    env::var_os(CONFORMANCE).is_some()
}

/// Ends the test, since the kernel lacks something: skipped in a conformance run, else failed.
///
/// # Panics
///
/// Always; a skipped test is known by what the panic carries.
pub fn lacks(what: &str) -> ! {
    if is_conformance() {
        tap::skip(format!("this kernel lacks {what}"));
    }
    panic!("this kernel lacks {what}");
}

/// Finds the feature in a conformance run, while neither of the devices that `search` asks is
/// open.
pub fn find() {
    if !is_conformance() {
        return;
    }
    FEATURE.get_or_init(|| match search() {
        Ok(Some(feature)) => {
            let get = if feature.has_get { "with" } else { "without" };
            println!("# DMA_BUF_TPH is feature {}, {get} GET", feature.number);
            Ok(feature)
        }
        Ok(None) => Err(format!(
            "VFIO_DEVICE_FEATURE_DMA_BUF_TPH: no feature of {} to {} behaves as it",
            NUMBERS.start(),
            NUMBERS.end()
        )),
        Err(error) => Err(format!("a usable vfio-pci ({error})")),
    });
}

/// The feature; in a conformance run after [`find`].
///
/// # Panics
///
/// As [`lacks`] if there is none, and if nobody has looked for it.
pub fn feature() -> Feature {
    if !is_conformance() {
        return OURS;
    }
    match FEATURE.get().expect("find() comes first") {
        Ok(feature) => *feature,
        Err(what) => lacks(what),
    }
}

/// It is the one whose PROBE succeeds on a completer of hints, and fails on a device that is none.
///
/// The completer is not the one that the tests work with, which another process may have open.
fn search() -> io::Result<Option<Feature>> {
    let completer = Device::open(&pci::Device::accelerator(CompleterType::Tph)?)?;
    let other = Device::open(&pci::Device::accelerator(CompleterType::None)?)?;
    let probe = |device: &Device, number, operation: u32| {
        device.feature(number | PROBE | operation, 8, &mut []).err()
    };
    for number in NUMBERS {
        let refused = probe(&other, number, 0).and_then(|error| error.raw_os_error());
        if probe(&completer, number, 0).is_none() && refused == Some(libc::EOPNOTSUPP) {
            let has_get = probe(&completer, number, GET).is_none();
            return Ok(Some(Feature { number, has_get }));
        }
    }
    Ok(None)
}
