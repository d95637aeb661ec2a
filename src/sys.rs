//! Every raw syscall in one place, each with its fallback for old kernels.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// CPU time, user and system, that the calling thread has used. Zero where the kernel can't say.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write to; nothing else is touched.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

/// Turns the `-1` of a C function into the error behind it.
fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sets an extended attribute of an open file or directory.
///
/// # Errors
/// As `fsetxattr(2)`.
pub fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: `name` ends with NUL, `value` is readable for its length, the descriptor is open.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}

/// Sets an extended attribute of what cannot be opened (symbolic links, devices): `name` in
/// `directory`, through /proc, since no kernel before 6.13 has a call that takes both.
///
/// # Errors
/// As `lsetxattr(2)`; `ENOTSUP` where /proc is not mounted.
pub fn set_xattr_at(directory: BorrowedFd<'_>, name: &[u8], xattr: &CStr, value: &[u8]) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = CString::new(path)?;
    let (value, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end with NUL, `value` is readable for its length.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), xattr.as_ptr(), value, length, 0) };
    match check(result.into()) {
        // The file was made a moment ago: what is missing is /proc.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            Err(io::Error::from_raw_os_error(libc::ENOTSUP))
        }
        other => other.map(drop),
    }
}

/// Whether an open file has an extended attribute.
pub fn has_xattr(file: BorrowedFd<'_>, name: &CStr) -> bool {
    // SAFETY: a buffer of length 0 is not written to; the call only tells the value's length.
    check(unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) } as libc::c_long)
        .is_ok()
}

/// Calls `each` with the names of all extended attributes of an open file. A file system without any
/// has none.
pub fn each_xattr(file: BorrowedFd<'_>, mut each: impl FnMut(&CStr)) {
    // The kernel's limit for the list (XATTR_LIST_MAX) is 64 KiB; most files have none at all.
    // SAFETY: a buffer of length 0 is not written to; the call only tells the list's length.
    let length =
        check(unsafe { libc::flistxattr(file.as_raw_fd(), std::ptr::null_mut(), 0) } as libc::c_long);
    let mut list = match length {
        Ok(length @ 1..) => vec![0u8; length],
        _ => return,
    };
    // SAFETY: the buffer is writable for the length that is given.
    let length =
        check(unsafe { libc::flistxattr(file.as_raw_fd(), list.as_mut_ptr().cast(), list.len()) }
            as libc::c_long);
    let mut rest = &list[..length.unwrap_or(0)];
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        each(name);
        rest = &rest[name.count_bytes() + 1..];
    }
}

/// Removes an extended attribute of an open file.
///
/// # Errors
/// As `fremovexattr(2)`.
pub fn remove_xattr(file: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: `name` ends with NUL.
    check(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) }.into()).map(drop)
}

/// Writes everything of the file system that `file` is on to the disk: `syncfs` (Linux 2.6.39, reports
/// failed writes since 5.8), else `sync`, which reports nothing.
///
/// # Errors
/// As `syncfs(2)`.
pub fn sync_file_system(file: BorrowedFd<'_>) -> io::Result<()> {
    match nix::unistd::syncfs(file) {
        Err(nix::errno::Errno::ENOSYS) => {
            nix::unistd::sync();
            Ok(())
        }
        other => Ok(other?),
    }
}
