//! Chooses which open descriptors a process keeps, and waits for those that have something to read.

use super::check;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Limits how many descriptors are looked at one by one; by default a process can have no more (RLIMIT_NOFILE,
/// getrlimit(2)).
const DESCRIPTORS: RawFd = 1024;
/// Numbers close_range(2), which Linux has had since 5.9, alike on every architecture (asm-generic/unistd.h).
const CLOSE_RANGE: libc::c_long = 436;

/// Waits until at least one of `files` has something to read, or has ended, and returns for each whether it has. It
/// does not look at a `None`.
///
/// # Errors
/// Returns the error of poll(2).
pub fn wait_readable<const N: usize>(files: [Option<BorrowedFd<'_>>; N]) -> io::Result<[bool; N]> {
    // A negative number is passed over.
    let number = |file: Option<BorrowedFd<'_>>| file.map_or(-1, |file| file.as_raw_fd());
    let mut polled = files.map(|file| libc::pollfd { fd: number(file), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: the structures are valid for the call to write to, and as many as it is told.
        match check(unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, -1) }.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|_| polled.map(|one| one.revents != 0)),
        }
    }
}

/// Makes the descriptor `number` stand for the same as `file`, whatever it stood for, by dup2(2). A program that is
/// started inherits it.
///
/// # Errors
/// Returns the error of dup2(2).
pub fn put_at(file: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers only. Whoever owns the number still has a descriptor.
    check(unsafe { libc::dup2(file.as_raw_fd(), number) }.into()).map(drop)
}

/// Lets go of every descriptor but those of `kept`. For another one, which must be for reading only, `again` may open
/// the same file anew, if this process may keep it in that way. Every other number stays a descriptor, for whoever
/// owns it, but of nothing: reading it gives the end of the file, and nothing can be written to it. Before Linux 5.9,
/// numbers from 1024 on stay open.
///
/// The process must have no other threads.
///
/// # Errors
/// Returns the error of socketpair(2) or dup3(2).
pub fn keep_only(kept: &[RawFd], again: &dyn Fn(&File) -> Option<File>) -> io::Result<()> {
    let (nothing, _) = UnixStream::pair()?;
    for number in 0..DESCRIPTORS {
        if number == nothing.as_raw_fd() || kept.contains(&number) {
            continue;
        }
        // SAFETY: this operation takes a number only; what is not open is refused.
        let Ok(flags) = check(unsafe { libc::fcntl(number, libc::F_GETFL) }.into()) else { continue };
        let only_read = flags as libc::c_int & (libc::O_ACCMODE | libc::O_PATH) == libc::O_RDONLY;
        // SAFETY: it is open, and stays so as long as it is borrowed.
        let there = unsafe { BorrowedFd::borrow_raw(number) };
        let copy = only_read.then(|| there.try_clone_to_owned().ok()).flatten().map(File::from);
        let again = copy.and_then(|copy| again(&copy));
        let instead = again.as_ref().map_or(nothing.as_fd(), AsFd::as_fd);
        // SAFETY: both are open. Whoever owns the number has a descriptor still.
        check(unsafe { libc::dup3(instead.as_raw_fd(), number, libc::O_CLOEXEC) }.into())?;
    }
    let (first, last, flags) = (DESCRIPTORS as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint);
    // SAFETY: takes numbers only; nobody here has opened as many. What an older kernel cannot, is left.
    unsafe { libc::syscall(CLOSE_RANGE, first, last, flags) };
    Ok(())
}
