// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of blocks that costs few system calls, and of which no block is lost when the process is
//! killed.
//!
//! New blocks are stored into one of two buffers in a mapping of the file's far end. When it is
//! full, most of it is written to its place, in one piece and aligned, since that is what file
//! systems do fast. The other buffer goes on with the rest, and one store makes it the current one.
//! [`finish`] takes the buffers away: then the file is its blocks and nothing else.
//!
//! A mapping of the whole file would do without the second copy, but costs more: each of its pages
//! is a fault, and is zeroed before it is filled (measured on ext4, over a file that was allocated:
//! one and a half times the time for blocks of 176 and of 560 bytes). Its pages would have to be
//! allocated beforehand, too, since a store to one for which the disk has no room kills the
//! process; and what a file system that copies on write has allocated is not where that store goes.
//!
//! | at | what |
//! |-|-|
//! | 0 | what is in its place |
//! | | a hole |
//! | [`TAIL`] bytes from the end | the buffers |
//! | 16 bytes from the end | [`MARK`], number of the current buffer |
//!
//! | in a buffer, at | what |
//! |-|-|
//! | 0 | what comes next, up to a block that begins with four bytes 0 |
//! | [`BASE_AT`] | its place in the file |
//! | [`FIRST_AT`] | where in the buffer the first block begins |

use std::{
    fs::File,
    io::{self, Chain, Cursor, Read, Seek, SeekFrom, Take},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};
use vm_memory::{AtomicAccess, Bytes, FileOffset, MmapRegion, VolatileMemory, WriteVolatile};

const PAGE: usize = 0x1000;
/// Bytes of a buffer.
const BUFFER: usize = 512 << 10;
/// Bytes of a full buffer that are written to their place; no block is longer than what remains.
const PIECE: usize = BUFFER - (64 << 10);
const BASE_AT: usize = BUFFER - 16;
const FIRST_AT: usize = BUFFER - 8;
/// Bytes of the file that are mapped.
const TAIL: usize = 2 * BUFFER + PAGE;
const MARK_AT: usize = TAIL - 16;
const CURRENT_AT: usize = TAIL - 8;
const MARK: u64 = u64::from_le_bytes(*b"rust-tph");

/// The blocks of a file, in order.
pub type Blocks = Chain<Take<File>, Cursor<Vec<u8>>>;

/// The file, while blocks are appended.
pub struct Append {
    file: Arc<File>,
    tail: MmapRegion,
    /// Where in the file the tail is.
    tail_at: u64,
    /// Number of the buffer, its place in the file, and what is in it.
    current: usize,
    base: u64,
    end: usize,
    /// Where the first block behind the piece begins, seen from there.
    next_first: u64,
}

impl Append {
    /// Makes the file at `path`, replacing an older one. It has room for `room` bytes.
    pub fn create(path: &Path, room: u64) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        let tail_at = room.next_multiple_of(PAGE as u64);
        // A store to a page for which the disk has no room would kill the process.
        file.write_all_at(&vec![0; TAIL], tail_at)?;
        let file = Arc::new(file);
        let offset = FileOffset::from_arc(file.clone(), tail_at);
        let tail = MmapRegion::from_file(offset, TAIL).map_err(io::Error::other)?;
        let this = Self {
            file,
            tail,
            tail_at,
            current: 0,
            base: 0,
            end: 0,
            next_first: 0,
        };
        this.store(MARK, MARK_AT)?;
        Ok(this)
    }

    /// Bytes of all blocks.
    pub fn len(&self) -> u64 {
        self.base + self.end as u64
    }

    /// Appends one block of whole DWs, which is put together from `head`, `body` and `end`, which
    /// is its length as in any block of pcapng; returns where in the file it is.
    ///
    /// Its first DW is not 0, and is stored last: who finds that finds the whole block. After an
    /// error the file has the blocks that it had.
    pub fn append(&mut self, head: &[u8], body: &[u8], end: [u8; 4]) -> io::Result<u64> {
        let len = head.len() + body.len() + end.len();
        let Some((&first, head)) = head.split_first_chunk::<4>() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let room = self.tail_at.saturating_sub(self.len());
        if len as u64 > room || len > (BUFFER - PIECE) / 2 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.end + len + first.len() > BASE_AT {
            self.turn()?;
        }
        let (at, from) = (self.len(), self.current * BUFFER + self.end);
        let behind = from + first.len() + head.len();
        // An older block may have been where the next one is to begin.
        let mut last = [0; 8];
        last[..end.len()].copy_from_slice(&end);
        self.write(head, from + first.len())?;
        self.write(body, behind)?;
        self.write(&last, behind + body.len())?;
        self.store(u32::from_ne_bytes(first), from)?;
        if self.end < PIECE {
            self.next_first = (self.end + len).saturating_sub(PIECE) as u64;
        }
        self.end += len;
        Ok(at)
    }

    /// Changes bytes of the newest block.
    pub fn amend(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let within = at.checked_sub(self.base).map(usize::try_from);
        match within {
            Some(Ok(within)) => self.write(bytes, self.current * BUFFER + within),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Writes the piece of the full buffer to its place, and goes on with the other one.
    fn turn(&mut self) -> io::Result<()> {
        self.write_back(PIECE)?;
        let (from, to) = (self.current * BUFFER, (1 - self.current) * BUFFER);
        let base = self.base + PIECE as u64;
        let mut rest = vec![0; self.end - PIECE];
        let tail = self.tail.as_volatile_slice();
        let read = tail.read_slice(&mut rest, from + PIECE);
        read.map_err(io::Error::other)?;
        self.write(&rest, to)?;
        self.write(&[0; 4], to + rest.len())?;
        self.store(base, to + BASE_AT)?;
        self.store(self.next_first, to + FIRST_AT)?;
        self.store(1 - self.current as u64, CURRENT_AT)?;
        (self.current, self.base, self.end) = (1 - self.current, base, rest.len());
        Ok(())
    }

    /// Writes the first `len` bytes of the buffer to their place.
    fn write_back(&self, len: usize) -> io::Result<()> {
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(self.base))?;
        let bytes = self.tail.get_slice(self.current * BUFFER, len);
        let bytes = bytes.map_err(io::Error::other)?;
        file.write_all_volatile(&bytes).map_err(io::Error::other)
    }

    fn write(&self, bytes: &[u8], at: usize) -> io::Result<()> {
        let tail = self.tail.as_volatile_slice();
        tail.write_slice(bytes, at).map_err(io::Error::other)
    }

    /// Stores a number behind everything that was stored so far.
    fn store<T: AtomicAccess>(&self, value: T, at: usize) -> io::Result<()> {
        let tail = self.tail.as_volatile_slice();
        tail.store(value, at, Ordering::Release)
            .map_err(io::Error::other)
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        let written = self.write_back(self.end);
        if let Err(error) = written.and_then(|()| self.file.set_len(self.len())) {
            log::warn!("cannot finish the trace: {error}");
        }
    }
}

/// The blocks of the file at `path`, whether or not it is finished.
pub fn read(path: &Path) -> io::Result<Blocks> {
    let file = File::open(path)?;
    let (base, rest) = contents(&file)?;
    Ok(file.take(base).chain(Cursor::new(rest)))
}

/// Finishes the file at `path`, if its process was killed before it did.
pub fn finish(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let (base, rest) = contents(&file)?;
    file.write_all_at(&rest, base)?;
    file.set_len(base + rest.len() as u64)
}

/// How many bytes are in their place, and the blocks that follow them.
fn contents(file: &File) -> io::Result<(u64, Vec<u8>)> {
    contents_by(file, |bytes, at| file.read_exact_at(bytes, at))
}

/// The same, with what is to read the file.
fn contents_by(
    file: &File,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<(u64, Vec<u8>)> {
    loop {
        let end = file.metadata()?.len();
        match contents_of(end, &mut read) {
            // Its process has finished it meanwhile.
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && file.metadata()?.len() != end => {}
            result => return result,
        }
    }
}

/// The same, of a file of `end` bytes.
fn contents_of(
    end: u64,
    read: &mut impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<(u64, Vec<u8>)> {
    let Some(tail_at) = end.checked_sub(TAIL as u64) else {
        return Ok((end, vec![]));
    };
    // A finished file may have any payload there, but ends with the length of its last block. That
    // is not 0 as the upper half of a buffer's number is.
    if number(read, tail_at + MARK_AT as u64)? != MARK
        || number(read, tail_at + CURRENT_AT as u64)? > 1
    {
        return Ok((end, vec![]));
    }
    let mut buffer = vec![0; BUFFER];
    loop {
        let found @ (number, base, first) = current(read, tail_at)?;
        read(&mut buffer, tail_at + number * BUFFER as u64)?;
        // The buffer may have been filled anew while it was read, and even be the current one
        // again: not for the same place in the file, though, and that is stored before it becomes
        // current.
        if current(read, tail_at)? == found {
            if base > tail_at {
                let what = "it says of a place behind its end that it belongs there: it is damaged";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            buffer.truncate(extent(&buffer[..BASE_AT], first));
            return Ok((base, buffer));
        }
    }
}

/// The number of the current buffer, its place in the file, and where in it the first block begins.
fn current(
    read: &mut impl FnMut(&mut [u8], u64) -> io::Result<()>,
    tail_at: u64,
) -> io::Result<(u64, u64, u64)> {
    let current = number(read, tail_at + CURRENT_AT as u64)?.min(1);
    let at = tail_at + current * BUFFER as u64;
    let base = number(read, at + BASE_AT as u64)?;
    Ok((current, base, number(read, at + FIRST_AT as u64)?))
}

/// The number at `at` of the file.
fn number(read: &mut impl FnMut(&mut [u8], u64) -> io::Result<()>, at: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    read(&mut bytes, at)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Where in `buffer` the blocks end of which one begins at `first`.
fn extent(buffer: &[u8], first: u64) -> usize {
    let mut at = usize::try_from(first).unwrap_or(usize::MAX);
    while let Some(&[a, b, c, d, rest @ ..]) =
        buffer.get(at..).and_then(|rest| rest.first_chunk::<8>())
        && [a, b, c, d] != [0; 4]
    {
        // What has no length is no block of ours.
        at += u32::from_le_bytes(rest).max(8) as usize;
    }
    at.min(buffer.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};
    use tempfile::TempDir;

    const ROOM: u64 = 4 << 20;

    fn file() -> (TempDir, PathBuf, Append) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blocks");
        let file = Append::create(&path, ROOM).unwrap();
        (dir, path, file)
    }

    /// A block as pcapng has it: type, length, contents.
    fn block(number: u32, len: u32) -> Vec<u8> {
        let dws = (2..len / 4).map(|at| number ^ at);
        let dws = [number, len].into_iter().chain(dws);
        dws.flat_map(u32::to_le_bytes).collect()
    }

    /// Appends a block that is in one piece.
    fn whole(file: &mut Append, block: &[u8]) -> io::Result<u64> {
        let (head, end) = block.split_last_chunk().unwrap();
        file.append(head, &[], *end)
    }

    fn found(path: &Path) -> Vec<u8> {
        let mut found = vec![];
        read(path).unwrap().read_to_end(&mut found).unwrap();
        found
    }

    #[test]
    fn every_block_is_there_at_once() {
        let (_dir, path, mut file) = file();
        let mut expected = vec![];
        assert!(found(&path).is_empty());
        for number in 1..900 {
            let block = block(number, number % 50 * 80 + 80);
            let (head, rest) = block.split_at(8);
            let (body, end) = rest.split_last_chunk().unwrap();
            let at = file.append(head, body, *end).unwrap();
            assert_eq!(at, expected.len() as u64);
            expected.extend(block);
            assert!(found(&path) == expected, "after block {number}");
        }
        assert!(expected.len() > 3 * BUFFER);
        assert_eq!(file.len(), expected.len() as u64);

        // The process is killed.
        let left = path.with_extension("left");
        fs::copy(&path, &left).unwrap();
        assert!(found(&left) == expected);
        for _ in 0..2 {
            finish(&left).unwrap();
            assert!(fs::read(&left).unwrap() == expected);
        }
        // It ends well.
        drop(file);
        assert!(fs::read(&path).unwrap() == expected);
        assert!(found(&path) == expected);
    }

    #[test]
    fn what_is_read_belongs_together_though_blocks_are_appended_meanwhile() {
        let (_dir, path, mut file) = file();
        let opened = File::open(&path).unwrap();
        let mut expected = vec![];
        let mut number = 0;
        let mut append = |file: &mut Append, base: usize| {
            while file.base < (base * PIECE) as u64 {
                number += 1;
                let block = block(number, 4096);
                whole(file, &block).unwrap();
                expected.extend(block);
            }
        };
        append(&mut file, 1);
        // Two turns, and the buffer that was the current one is that again.
        let mut turned = false;
        let (base, rest) = contents_by(&opened, |bytes, at| {
            if bytes.len() != BUFFER || turned {
                return opened.read_exact_at(bytes, at);
            }
            turned = true;
            let (front, back) = bytes.split_at_mut(BUFFER / 2);
            opened.read_exact_at(front, at)?;
            append(&mut file, 3);
            opened.read_exact_at(back, at + front.len() as u64)
        })
        .unwrap();
        assert!(turned);
        assert_eq!(base, 3 * PIECE as u64);
        assert!(expected.ends_with(&rest));
        assert_eq!(base + rest.len() as u64, expected.len() as u64);
    }

    #[test]
    fn the_file_may_be_finished_while_it_is_read() {
        for reads in 0..9 {
            let (_dir, path, mut file) = file();
            let expected = block(1, 4096);
            whole(&mut file, &expected).unwrap();
            let opened = File::open(&path).unwrap();
            let mut file = Some(file);
            let mut done = 0;
            let (base, rest) = contents_by(&opened, |bytes, at| {
                if done == reads {
                    file = None;
                }
                done += 1;
                opened.read_exact_at(bytes, at)
            })
            .unwrap();
            assert!(file.is_none(), "{reads}");
            let mut found = fs::read(&path).unwrap();
            assert!(found == expected);
            found.truncate(usize::try_from(base).unwrap());
            assert!([found, rest].concat() == expected, "{reads}");
        }
        let (_dir, path, _file) = file();
        let opened = File::open(&path).unwrap();
        let eof = |_: &mut [u8], _| Err(io::ErrorKind::UnexpectedEof.into());
        assert!(contents_by(&opened, eof).is_err(), "it has not changed");
    }

    #[test]
    fn a_block_may_end_with_the_piece() {
        let (_dir, path, mut file) = file();
        let block = block(1, 4096);
        let mut expected = vec![];
        for _ in 0..3 * BUFFER / 4096 {
            whole(&mut file, &block).unwrap();
            expected.extend_from_slice(&block);
            assert!(found(&path) == expected);
        }
    }

    #[test]
    fn the_newest_block_can_be_amended() {
        let (_dir, path, mut file) = file();
        let (first, mut second) = (block(1, 8), block(2, 16));
        whole(&mut file, &first).unwrap();
        let at = whole(&mut file, &second).unwrap();
        file.amend(at + 9, &[0x55]).unwrap();
        second[9] = 0x55;
        assert_eq!(found(&path), [first, second].concat());
    }

    #[test]
    fn the_room_is_not_exceeded() {
        let (_dir, path, mut file) = file();
        let block = block(1, 4096);
        for _ in 0..ROOM / 4096 {
            whole(&mut file, &block).unwrap();
        }
        let error = whole(&mut file, &block).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(found(&path).len() as u64, ROOM);
        let (_dir, _, mut file) = self::file();
        let long = vec![1; BUFFER - PIECE];
        assert!(whole(&mut file, &long).is_err());
    }

    #[test]
    fn a_damaged_end_is_refused_and_left_as_it_is() {
        let (_dir, path, mut file) = file();
        whole(&mut file, &block(1, 4096)).unwrap();
        let damaged = path.with_extension("damaged");
        for base in [ROOM + 1, u64::MAX] {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() - TAIL + BASE_AT;
            bytes[at..at + 8].copy_from_slice(&base.to_le_bytes());
            fs::write(&damaged, &bytes).unwrap();
            let errors = [read(&damaged).err(), finish(&damaged).err()];
            for error in errors {
                assert_eq!(error.unwrap().kind(), io::ErrorKind::InvalidData);
            }
            assert!(fs::read(&damaged).unwrap() == bytes);
        }
    }

    #[test]
    fn a_finished_file_may_end_with_any_payload() {
        let (_dir, path, mut file) = file();
        for number in 1..=400 {
            whole(&mut file, &block(number, 4096)).unwrap();
        }
        let mut last = block(1, 64);
        last[64 - 16..64 - 4].copy_from_slice(b"rust-tph\0\0\0\0");
        last[64 - 4..].copy_from_slice(&64u32.to_le_bytes());
        whole(&mut file, &last).unwrap();
        drop(file);
        let expected = fs::read(&path).unwrap();
        assert!(expected.len() > TAIL && expected.ends_with(&last));
        finish(&path).unwrap();
        assert!(fs::read(&path).unwrap() == expected && found(&path) == expected);
    }

    #[test]
    fn any_other_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        for len in [0, 5, TAIL, 2 * TAIL] {
            let bytes = vec![7; len];
            fs::write(&path, &bytes).unwrap();
            finish(&path).unwrap();
            assert!(fs::read(&path).unwrap() == bytes && found(&path) == bytes);
        }
    }
}
