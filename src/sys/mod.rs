//! Every raw syscall in one place, each with its fallback for old kernels.
#![allow(unsafe_code)]

mod board;
mod confine;
mod descriptors;
mod file;
mod mounts;
mod process;
mod seccomp;
mod socket;
mod time;

pub use board::*;
pub use confine::*;
pub use descriptors::*;
pub use file::*;
pub use mounts::*;
pub use process::*;
pub use seccomp::*;
pub use socket::*;
pub use time::*;

use std::io;

/// Turns the `-1` of a C function into the error behind it.
fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
