// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies that are so long that others send, and gates close, between their runs.

use fabric::{CopyError, End, Error, Fabric, Iommu, MAX_RUN, PAGE_SIZE, Port, trace::Tap};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};
use tlp::{Bdf, Mode};

const ID: Bdf = Bdf::new(0, 0x10, 0);
const SOURCE: u64 = 0x1000_0000;
const TARGET: u64 = 0x2000_0000;
/// Bytes of either.
const SIZE: u64 = 4 * MAX_RUN as u64;

/// Guest memory of [`SIZE`] bytes at `addr`, with `bytes` in it.
fn memory(port: &Port, addr: u64, bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    let mapped = file.try_clone().unwrap();
    port.map_memory(addr, SIZE, mapped, 0, true).unwrap();
    file
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn bytes() -> Vec<u8> {
    // No two runs, pages or DWs of the same.
    let word = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (1..=SIZE / 8)
        .flat_map(|at| word(at).to_le_bytes())
        .collect()
}

fn end(addr: u64) -> End {
    End {
        addr,
        want: None,
        object: None,
    }
}

#[test]
fn a_copy_of_several_runs_is_whole() {
    let bytes = bytes();
    for (from, to) in [(0, 0), (1, 6), (0xffd, 3), (2, 0xfff)] {
        for len in [MAX_RUN - 1, MAX_RUN, MAX_RUN + 1, 3 * MAX_RUN + 0x777] {
            let fabric = Fabric::new(Mode::Flit, Tap::discard());
            let port = fabric.attach("function", ID, None).unwrap();
            memory(&port, SOURCE, &bytes);
            let target = memory(&port, TARGET, &[]);
            port.set_command(true, false);
            let ends = [SOURCE + from as u64, TARGET + to as u64].map(end);
            let requester = port.requester(ID);
            requester.copy(ends[0], ends[1], len as u64).unwrap();
            let mut expected = vec![0; bytes.len()];
            expected[to..to + len].copy_from_slice(&bytes[from..from + len]);
            assert!(contents(&target) == expected, "{len} from {from} to {to}");
        }
    }
}

/// Turns bus mastering off as soon as it is asked.
#[derive(Default)]
struct Off(OnceLock<Port>);

impl Iommu for Off {
    fn translate(&self, _requester: Bdf, _page: u64) -> io::Result<Option<u64>> {
        self.0.get().unwrap().set_command(false, false);
        Ok(None)
    }
}

#[test]
fn a_copy_stops_between_two_runs() {
    let bytes = bytes();
    let off = Arc::new(Off::default());
    let fabric = Fabric::with_iommu(Mode::Flit, Tap::discard(), off.clone());
    let port = fabric.attach("function", ID, None).unwrap();
    memory(&port, SOURCE, &bytes);
    // The IOMMU is asked when the second run begins.
    port.map_device(SOURCE + SIZE, PAGE_SIZE, false).unwrap();
    let target = memory(&port, TARGET, &[]);
    port.set_command(true, false);
    let requester = port.requester(ID);
    assert!(off.0.set(port).is_ok());
    let run = MAX_RUN - 5;
    let from = end(SOURCE + SIZE - run as u64);
    let copied = requester.copy(from, end(TARGET + 5), 2 * run as u64);
    assert!(
        matches!(copied, Err(CopyError::Source(Error::BusMasterOff))),
        "{copied:?}"
    );
    let mut expected = vec![0; bytes.len()];
    expected[5..5 + run].copy_from_slice(&bytes[bytes.len() - run..]);
    assert!(contents(&target) == expected, "the first run and no more");
}
