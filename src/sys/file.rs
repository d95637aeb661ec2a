//! Files, their attributes, and what they are on.

use super::check;
use std::ffi::{CStr, CString};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
/// `directory`. No kernel before 6.13 has a call that takes both, so it goes through /proc, or, where
/// that is not mounted, through a working directory.
///
/// # Errors
/// As `lsetxattr(2)`.
pub fn set_xattr_at(directory: BorrowedFd<'_>, name: &[u8], xattr: &CStr, value: &[u8]) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    match set_link_xattr(&CString::new(path)?, xattr, value) {
        // The file was made a moment ago: what is missing is /proc.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            set_xattr_from_inside(directory, &CString::new(name)?, xattr, value)
        }
        other => other,
    }
}

fn set_link_xattr(path: &CStr, xattr: &CStr, value: &[u8]) -> io::Result<()> {
    let (value, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end with NUL, `value` is readable for its length.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), xattr.as_ptr(), value, length, 0) };
    check(result.into()).map(drop)
}

/// Gives the calling thread a working directory and a umask of its own.
///
/// # Errors
/// Returns those of unshare(2), which allows that to everybody.
pub(crate) fn own_directory_and_umask() -> io::Result<()> {
    // SAFETY: unshare takes flags only; this one concerns nothing but the calling thread.
    check(unsafe { libc::unshare(libc::CLONE_FS) }.into()).map(drop)
}

/// In a thread with a working directory of its own (CLONE_FS, Linux 2.6.16, needs no privilege), so that
/// the process's stays where it is.
fn set_xattr_from_inside(
    directory: BorrowedFd<'_>,
    name: &CStr,
    xattr: &CStr,
    value: &[u8],
) -> io::Result<()> {
    let inside = || {
        own_directory_and_umask()?;
        nix::unistd::fchdir(directory)?;
        set_link_xattr(name, xattr, value)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

/// Holds the bits of a mode that let others than the owner write. The group's bits cover an access control list
/// (acl(5)).
pub const OTHERS_WRITE: u32 = 0o022;

/// Returns whether `user` is root or this process's own user, who may put anything where this process looks.
pub fn is_trusted(user: u32) -> bool {
    user == 0 || user == super::effective_ids().0
}

/// Says in words why others than root and this process's user can write to a file or directory, or returns `None` if
/// nobody can. The group's bits of a mode cover an access control list, too (acl(5)).
pub fn written_by_others(metadata: &Metadata) -> Option<String> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    match () {
        () if !is_trusted(owner) => Some(format!("it belongs to user {owner}")),
        () if mode & OTHERS_WRITE != 0 => Some(format!("its mode {mode:o} lets other users write to it")),
        () => None,
    }
}

/// Says in words why others than root and this process's user can rename or remove entries that they do not own in a
/// directory, or returns `None` if nobody can: in /tmp, the sticky bit (inode(7)) leaves that to each entry's owner.
pub fn entries_moved_by_others(directory: &Metadata) -> Option<String> {
    const STICKY: u32 = 0o1000;
    match is_trusted(directory.uid()) && directory.mode() & STICKY != 0 {
        true => None,
        false => written_by_others(directory),
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

/// The room on the file system that `path` is on, in bytes: what may still be written by whoever asks, and all of
/// it (`statvfs(3)`).
///
/// # Errors
/// As `statvfs(3)`.
pub fn room(path: &Path) -> io::Result<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    // The block counts and the size have different widths on 32-bit targets.
    let number = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    let size = number(stat.fragment_size().into());
    let (free, all) = (number(stat.blocks_available().into()), number(stat.blocks().into()));
    Ok((free.saturating_mul(size), all.saturating_mul(size)))
}

/// Has the kernel begin to write bytes `from` to `to` of a file to the disk, without waiting (`sync_file_range(2)`,
/// Linux 2.6.17). Where it cannot, they are written later.
pub fn begin_write_out(file: BorrowedFd<'_>, from: u64, to: u64) {
    // `off64_t` is the same on every target: neither value comes near its end.
    let (from, length) = (from as libc::off64_t, to.saturating_sub(from) as libc::off64_t);
    // SAFETY: takes numbers only, and a descriptor that is open.
    unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Lets `to`, which is empty, share the data of `from` (`FICLONE`, ioctl_ficlone(2), Linux 4.5; btrfs, XFS,
/// bcachefs).
///
/// # Errors
/// As `ioctl_ficlone(2)`: most file systems cannot.
pub fn reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: this request takes a descriptor as its argument; both are open.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) }.into()).map(drop)
}

/// Swaps two paths of one file system in one step (renameat2 with RENAME_EXCHANGE, Linux 3.15).
///
/// ENOSYS on older kernels and EINVAL on file systems that cannot: the caller knows what to do instead.
pub fn rename_exchange(one: &Path, other: &Path) -> io::Result<()> {
    let (one, other) = (c_string(one)?, c_string(other)?);
    // Not libc::renameat2: musl has had it only since 1.2.6.
    // SAFETY: both are NUL-terminated strings that live across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_s_attribute_without_proc() {
        use std::os::fd::AsFd;
        let home = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", home.path().join("link")).unwrap();
        let directory = std::fs::File::open(home.path()).unwrap();
        let here = std::env::current_dir().unwrap();
        // Whether this user and this file system may or not: it must be the same by both ways. A wrong
        // directory would be ENOENT, as the link is nowhere else.
        let outcome = |result: io::Result<()>| result.map_err(|error| error.raw_os_error());
        let (directory, xattr) = (directory.as_fd(), c"trusted.edgepull");
        let by_proc = outcome(set_xattr_at(directory, b"link", xattr, b"1"));
        let from_inside = outcome(set_xattr_from_inside(directory, c"link", xattr, b"2"));
        assert_ne!(by_proc, Err(Some(libc::ENOENT)));
        assert_eq!(from_inside, by_proc);
        assert_eq!(std::env::current_dir().unwrap(), here);
    }
}
