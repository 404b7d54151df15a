// SPDX-License-Identifier: GPL-2.0
//! Owns the accelerator through VFIO and does with it what another process says, so that tests
//! which are written around another library can have a peer to write into.
//!
//! It reads a command a line, and answers each with a line, `ok` and a result or `error`, an errno
//! and a message. Numbers are decimal, bytes hexadecimal:
//!
//! | command | result |
//! |-|-|
//! | `export OFFSET LEN` | file descriptor of a dma-buf of its memory; take it by pidfd_getfd(2) |
//! | `publish FD FLAGS ST EXT PH` | |
//! | `close FD` | |
//! | `memory 0`, `memory 1` | Memory Space Enable: without it the dma-bufs are revoked |
//! | `reset` | |
//! | `write OFFSET BYTES`, `read OFFSET LEN` | of its memory |
//! | `registers OFFSET COUNT` | dwords of its registers |

use dma_buf_tph::pci::{self, CompleterType};
use dma_buf_tph::vfio::{Device, Tph};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Error, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::str::FromStr;

const REGISTERS: u32 = 0;
const MEMORY: u32 = 2;

struct Exporter {
    vfio: Device,
    dmabufs: BTreeMap<i32, OwnedFd>,
}

/// The next word of a command, as what it must be.
fn word<T: FromStr>(words: &mut dyn Iterator<Item = &str>) -> io::Result<T> {
    words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))
}

fn bytes(hex: &str) -> io::Result<Vec<u8>> {
    (0..hex.len())
        .step_by(2)
        .map(|at| {
            hex.get(at..at + 2)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Exporter {
    fn open() -> io::Result<Self> {
        let vfio = Device::open(&pci::Device::accelerator(CompleterType::ExtTph)?)?;
        vfio.set_memory_enable(true)?;
        Ok(Self {
            vfio,
            dmabufs: BTreeMap::new(),
        })
    }

    fn run(&mut self, line: &str) -> io::Result<String> {
        let words = &mut line.split_whitespace() as &mut dyn Iterator<Item = &str>;
        let command: String = word(words)?;
        match command.as_str() {
            "export" => {
                let dmabuf = self.vfio.export(MEMORY, word(words)?, word(words)?)?;
                let fd = dmabuf.as_raw_fd();
                self.dmabufs.insert(fd, dmabuf);
                return Ok(fd.to_string());
            }
            "publish" => self.vfio.publish(Tph {
                dmabuf_fd: word(words)?,
                flags: word(words)?,
                steering_tag: word(words)?,
                steering_tag_ext: word(words)?,
                ph: word(words)?,
            })?,
            "close" => {
                let fd: i32 = word(words)?;
                let closed = self.dmabufs.remove(&fd);
                closed.ok_or_else(|| Error::from_raw_os_error(libc::EBADF))?;
            }
            "memory" => self.vfio.set_memory_enable(word::<u8>(words)? != 0)?,
            "reset" => self.vfio.reset()?,
            "write" => {
                let offset = word(words)?;
                let data = bytes(&word::<String>(words)?)?;
                self.vfio.region(MEMORY)?.write(offset, &data)?;
            }
            "read" => {
                let (offset, len) = (word(words)?, word(words)?);
                let mut data = vec![0; len];
                self.vfio.region(MEMORY)?.read(offset, &mut data)?;
                return Ok(hex(&data));
            }
            "registers" => {
                let (offset, count): (u64, usize) = (word(words)?, word(words)?);
                let registers = self.vfio.region(REGISTERS)?;
                let dwords = (0..count).map(|number| {
                    let [dword] = registers.read_dwords::<1>(offset + 4 * number as u64)?;
                    Ok(dword.to_string())
                });
                return Ok(dwords.collect::<io::Result<Vec<_>>>()?.join(" "));
            }
            _ => return Err(Error::from_raw_os_error(libc::EINVAL)),
        }
        Ok(String::new())
    }
}

fn main() -> io::Result<()> {
    let mut exporter = Exporter::open()?;
    let mut stdout = io::stdout();
    for line in io::stdin().lock().lines() {
        match exporter.run(&line?) {
            Ok(result) => writeln!(stdout, "ok {result}")?,
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                writeln!(stdout, "error {errno} {error}")?;
            }
        }
        stdout.flush()?;
    }
    Ok(())
}
