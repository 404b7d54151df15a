// SPDX-License-Identifier: GPL-2.0
//! System calls that need unsafe code.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `_IO(ty, nr)`.
pub const fn io(ty: u8, nr: u32) -> u64 {
    (ty as u64) << 8 | nr as u64
}

/// `_IOW(ty, nr, T)`.
pub const fn iow<T>(ty: u8, nr: u32) -> u64 {
    1 << 30 | (size_of::<T>() as u64) << 16 | io(ty, nr)
}

/// `_IOWR(ty, nr, T)`.
pub const fn iowr<T>(ty: u8, nr: u32) -> u64 {
    3 << 30 | (size_of::<T>() as u64) << 16 | io(ty, nr)
}

fn check(ret: libc::c_int) -> io::Result<i32> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

/// An ioctl whose argument is a number, or none.
pub fn ioctl_val(fd: BorrowedFd<'_>, request: u64, arg: u64) -> io::Result<i32> {
    // SAFETY: A wrong number is an error that the kernel returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, arg) })
}

/// An ioctl that reads and writes a structure.
///
/// # Safety
///
/// The kernel must access no more than `size_of::<T>()` bytes behind `arg`, and leave a valid `T`.
pub unsafe fn ioctl_ref<T: ?Sized>(
    fd: BorrowedFd<'_>,
    request: u64,
    arg: &mut T,
) -> io::Result<i32> {
    let arg: *mut T = arg;
    // SAFETY: By the requirements of this function.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, arg.cast::<libc::c_void>()) })
}

/// Takes all privileges from the calling thread, and from no other: the C library's function of
/// that name takes them from the process.
pub fn drop_privileges() -> io::Result<()> {
    const NOBODY: libc::uid_t = 65534;

    // SAFETY: No pointer is passed.
    let ret = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
