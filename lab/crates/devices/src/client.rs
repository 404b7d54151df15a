// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vfio-user client that hears when it is refused, for tests of devices and for their drivers
//! without a guest.
//!
//! The client of the crate `vfio_user` reads each reply, but does not look whether it is an error:
//! a mapping or an eventfd that the server refused seems to be there.

use rustix::{
    io::IoSlice,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};
use std::{
    io::{self, Read},
    mem::MaybeUninit,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::Path,
};
use thiserror::Error;

/// Commands of the protocol.
const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const DMA_UNMAP: u16 = 3;
const GET_IRQ_INFO: u16 = 7;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

/// Bytes of a header, and bits of its flags.
const HEADER: usize = 16;
const REPLY: u32 = 1;
const ERROR: u32 = 1 << 5;
/// Flags of a mapping: the device may read and write.
const READ_WRITE: u32 = 0b11;
/// Descriptors of a message, at most.
const MAX_FDS: usize = 16;
/// Bytes in front of the data of an access.
const ACCESS: usize = 16;

/// Why a command was not executed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server refused it.
    #[error("the server refuses vfio-user command {command} with error {error}")]
    Refused {
        /// The command, by number.
        command: u16,
        /// The errno that the server gives; 0 if it gives none.
        error: u32,
    },
    /// The server's answer is none to this command.
    #[error("no answer to vfio-user command {command}: {reply:02x?}")]
    Protocol {
        /// The command, by number.
        command: u16,
        /// The answer.
        reply: Vec<u8>,
    },
}

/// A connection to one function.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// Of the last command.
    id: u16,
    message: Vec<u8>,
}

impl Client {
    /// Connects to the function that is served at `socket`.
    ///
    /// # Errors
    /// If nobody serves there, or in another version of the protocol.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let mut client = Self {
            stream: UnixStream::connect(socket)?,
            id: 0,
            message: vec![],
        };
        let (major, minor) = (0u16, 1u16);
        let version = [
            &major.to_ne_bytes()[..],
            &minor.to_ne_bytes(),
            br#"{"capabilities":{}}"#,
            b"\0",
        ]
        .concat();
        client.call(VERSION, &[&version], &[])?;
        Ok(client)
    }

    /// Maps `size` bytes from `offset` of a file on at `address`, for the device's DMA.
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn dma_map(
        &mut self,
        offset: u64,
        address: u64,
        size: u64,
        file: BorrowedFd<'_>,
    ) -> Result<(), ClientError> {
        let front = words(&[32, READ_WRITE]);
        let range = [offset, address, size].map(u64::to_ne_bytes).concat();
        self.call(DMA_MAP, &[&front, &range], &[file])?;
        Ok(())
    }

    /// Removes the mapping of `size` bytes at `address`.
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn dma_unmap(&mut self, address: u64, size: u64) -> Result<(), ClientError> {
        let range = [address, size].map(u64::to_ne_bytes).concat();
        self.call(DMA_UNMAP, &[&words(&[24, 0]), &range], &[])?;
        Ok(())
    }

    /// How many interrupts of kind `index` the function has.
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn irqs(&mut self, index: u32) -> Result<u32, ClientError> {
        let reply = self.call(GET_IRQ_INFO, &[&words(&[16, 0, index, 0])], &[])?;
        match reply.get(12..16) {
            Some(&[a, b, c, d]) => Ok(u32::from_ne_bytes([a, b, c, d])),
            _ => Err(ClientError::Protocol {
                command: GET_IRQ_INFO,
                reply,
            }),
        }
    }

    /// Connects eventfds to `count` interrupts of kind `index` from `start` on, or does what else
    /// `flags` say (`VFIO_IRQ_SET_*`).
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), ClientError> {
        let request = words(&[20, flags, index, start, count]);
        self.call(SET_IRQS, &[&request], eventfds)?;
        Ok(())
    }

    /// Fills `data` from `offset` of a region on.
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn region_read(
        &mut self,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ClientError> {
        let len = length(data.len())?;
        let access = words(&[region, len]);
        let reply = self.call(REGION_READ, &[&offset.to_ne_bytes(), &access], &[])?;
        match reply.get(ACCESS..) {
            Some(read) if read.len() == data.len() => {
                data.copy_from_slice(read);
                Ok(())
            }
            _ => Err(ClientError::Protocol {
                command: REGION_READ,
                reply,
            }),
        }
    }

    /// Writes `data` from `offset` of a region on.
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn region_write(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ClientError> {
        let access = words(&[region, length(data.len())?]);
        let request = [&offset.to_ne_bytes()[..], &access, data];
        self.call(REGION_WRITE, &request, &[])?;
        Ok(())
    }

    /// Resets the device.
    ///
    /// # Errors
    /// If the server refuses it, or the connection fails.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.call(DEVICE_RESET, &[], &[])?;
        Ok(())
    }

    /// Sends a command and waits for its reply; what follows the reply's header.
    fn call(
        &mut self,
        command: u16,
        request: &[&[u8]],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, ClientError> {
        self.id = self.id.wrapping_add(1);
        let size = HEADER + request.iter().map(|part| part.len()).sum::<usize>();
        self.message.clear();
        self.message.extend(self.id.to_ne_bytes());
        self.message.extend(command.to_ne_bytes());
        self.message.extend(words(&[length(size)?, 0, 0]));
        self.message.extend(request.iter().copied().flatten());
        self.send(fds)?;

        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header)?;
        let word =
            |at| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (size, flags, error) = (word(4), word(8), word(12));
        let rest = usize::try_from(size)
            .ok()
            .and_then(|size| size.checked_sub(HEADER));
        let answers = header[..4] == self.message[..4] && flags & REPLY != 0;
        let Some(rest) = rest.filter(|_| answers) else {
            let reply = header.to_vec();
            return Err(ClientError::Protocol { command, reply });
        };
        let mut reply = vec![0; rest];
        self.stream.read_exact(&mut reply)?;
        if flags & ERROR != 0 {
            return Err(ClientError::Refused { command, error });
        }
        Ok(reply)
    }

    /// Sends the message, with the descriptors at its first byte.
    fn send(&mut self, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            let many = io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors");
            return Err(many.into());
        }
        let mut sent = 0;
        while sent < self.message.len() {
            let rest = [IoSlice::new(&self.message[sent..])];
            sent += sendmsg(&self.stream, &rest, &mut control, SendFlags::empty())
                .map_err(io::Error::from)?;
            control.clear();
        }
        Ok(())
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn length(len: usize) -> Result<u32, ClientError> {
    u32::try_from(len)
        .map_err(|error| ClientError::Io(io::Error::new(io::ErrorKind::InvalidInput, error)))
}
