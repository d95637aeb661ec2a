//! Sockets.

use super::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the kernel take from the peer of a connected TCP socket, before it is read, at most `bytes` (its overhead
/// counts, and one segment may go beyond); where `net.core.rmem_max` is lower, twice that.
///
/// `TCP_WINDOW_CLAMP` alone is no such limit: it is for the window, which the kernel renews as long as the buffer
/// has room, and the buffer grows by itself up to `net.ipv4.tcp_rmem`'s last number, often 6 MiB and more. That it
/// grows no more is what `SO_RCVBUF` is for.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn limit_receive_buffer(socket: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    let set = |level, name, value: libc::c_int| {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` is a c_int, as each of these options takes, and outlives the call.
        let result =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
        check(result.into()).map(drop)
    };
    // The kernel doubles what it is given.
    set(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes / 2)?;
    // Older kernels have settled the largest window when they connected, by the small buffer of that moment.
    set(libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes)
}

/// Says how long a call on a socket may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Does not wait: the call fails with `EAGAIN` if it would have to.
    Never,
    /// Waits as long as the socket's time-out allows.
    AsSet,
}

impl Wait {
    fn flags(self) -> libc::c_int {
        match self {
            Wait::Never => libc::MSG_DONTWAIT,
            Wait::AsSet => 0,
        }
    }
}

/// Receives what the peer of a connected socket has sent, and returns how many bytes; 0 is its end.
///
/// # Errors
/// Returns the error of recv(2).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let received =
        unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), wait.flags()) };
    usize::try_from(received).map_err(|_| io::Error::last_os_error())
}

/// Sends to the peer of a connected socket, and returns how many of the bytes the kernel took. There is no SIGPIPE.
///
/// # Errors
/// Returns the error of send(2).
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], wait: Wait) -> io::Result<usize> {
    let flags = wait.flags() | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most as many bytes as there are.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
