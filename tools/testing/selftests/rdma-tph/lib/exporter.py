# SPDX-License-Identifier: GPL-2.0
"""The accelerator, whose memory is exported: a process that owns it through VFIO."""

import ctypes
import os
import subprocess

ST, ST_EXT = 1, 2
PIDFD_GETFD = 438
PROGRAM = os.environ.get("P2P_EXPORTER", "p2p-exporter")


class Buffer:
    """A dma-buf of the accelerator's memory."""

    def __init__(self, exporter, offset, length):
        self.exporter, self.offset, self.length = exporter, offset, length
        self.remote_fd = int(exporter.say("export", offset, length))
        pidfd = os.pidfd_open(exporter.process.pid)
        self.fd = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, self.remote_fd, 0)
        error = ctypes.get_errno()
        os.close(pidfd)
        if self.fd < 0:
            raise OSError(error, os.strerror(error))

    def publish(self, st=None, ext=None, ph=0):
        """Publishes tags; none makes a namespace invalid."""
        flags = (ST if st is not None else 0) | (ST_EXT if ext is not None else 0)
        self.exporter.say("publish", self.remote_fd, flags, st or 0, ext or 0, ph)

    def write(self, data, at=0):
        """Writes its memory, as the accelerator's owner."""
        self.exporter.say("write", self.offset + at, data.hex())

    def read(self, length, at=0):
        """Reads its memory, as the accelerator's owner."""
        return bytes.fromhex(self.exporter.say("read", self.offset + at, length))

    def close(self):
        """Closes the dma-buf on both sides."""
        os.close(self.fd)
        self.exporter.say("close", self.remote_fd)


class Exporter:
    """The accelerator."""

    def __init__(self):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, *words):
        """Sends a command; its result."""
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        kind, _, rest = answer.partition(" ")
        if kind != "ok":
            errno = rest.partition(" ")[0]
            raise OSError(int(errno) if errno.isdigit() else 5, f"{words}: {answer}")
        return rest

    def export(self, offset, length):
        """A dma-buf of `length` bytes of its memory from `offset` on; both in whole pages."""
        return Buffer(self, offset, length)

    def set_memory_enable(self, on):
        """Without it the dma-bufs are revoked."""
        self.say("memory", int(on))

    def last(self, partition):
        """Of the last hinted write to a partition: how many there were, tag, whether it is a 16-bit one,
        processing hint."""
        base = 0x100 + 0x20 * partition
        dwords = [int(dword) for dword in self.say("registers", base, 6).split()]
        return dwords[0], dwords[4] & 0xffff, bool(dwords[4] >> 16), dwords[5]

    def unhinted(self):
        """Number of writes without a hint."""
        return int(self.say("registers", 0x10, 1))

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()
