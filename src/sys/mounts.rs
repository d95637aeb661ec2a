//! File systems as one process sees them.

use super::check;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// mount_setattr(2): the same number on every architecture (asm-generic/unistd.h).
const MOUNT_SETATTR: libc::c_long = 442;
const AT_RECURSIVE: libc::c_long = 0x8000;
const ATTRIBUTE_READ_ONLY: u64 = 0x1;
const ATTRIBUTE_NO_SET_USER_ID: u64 = 0x2;
const ATTRIBUTE_NO_DEVICES: u64 = 0x4;
/// MS_SLAVE, which is as wide as a pointer.
const PROPAGATION_SLAVE: u64 = 1 << 19;

/// The largest descriptor that is looked at: edgepull has opened few before it fetches.
const DESCRIPTORS: libc::c_int = 256;

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// From now on this process, in a mount namespace of its own, changes nothing outside of `home`: all else is read-only
/// for it, modes, owners, attributes and times, too, which [`super::only_beneath`] does not rule. In `home` no
/// device can be opened. Directories that are open are closed, as they lead to the mounts of before.
///
/// For a process that ends soon, and needs no directory that it has opened before.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `ENOSYS` before Linux 5.12; `EINVAL` where the root directory is no mount point, as
/// in a chroot(2).
pub fn read_only_outside(home: Option<&Path>) -> io::Result<()> {
    let here = std::env::current_dir()?;
    let home = home.map(|home| CString::new(home.as_os_str().as_bytes())).transpose()?;
    // SAFETY: takes flags only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    // What is unmounted there is unmounted here, or the file system would stay in use; and nothing the other way.
    let apart = MountAttributes { propagation: PROPAGATION_SLAVE, ..MountAttributes::default() };
    set_attributes(c"/", AT_RECURSIVE, &apart)?;
    if let Some(home) = &home {
        let (kind, data) = (std::ptr::null(), std::ptr::null());
        // SAFETY: the paths are strings that end, and this operation takes neither a type nor data.
        check(unsafe { libc::mount(home.as_ptr(), home.as_ptr(), kind, libc::MS_BIND, data) }.into())?;
    }
    // Nothing before this is in the way of the work, if it fails.
    let read_only = MountAttributes { set: ATTRIBUTE_READ_ONLY, ..MountAttributes::default() };
    set_attributes(c"/", AT_RECURSIVE, &read_only)?;
    if let Some(home) = &home {
        let writable = MountAttributes {
            clear: ATTRIBUTE_READ_ONLY,
            set: ATTRIBUTE_NO_DEVICES | ATTRIBUTE_NO_SET_USER_ID,
            ..MountAttributes::default()
        };
        set_attributes(home, 0, &writable)?;
    }
    // It may be beneath `home`.
    std::env::set_current_dir(here)?;
    // In an initramfs there may be no /dev.
    let (nothing, _) = UnixStream::pair()?;
    for descriptor in 0..DESCRIPTORS {
        // SAFETY: stat is made of integers, for which zeros are a value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` is valid for the call to write to; what is not open is refused.
        let known = unsafe { libc::fstat(descriptor, &mut stat) } == 0;
        if known && stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            // SAFETY: both are open. Whoever owns the number has a descriptor still, but of nothing that leads anywhere.
            check(unsafe { libc::dup3(nothing.as_raw_fd(), descriptor, libc::O_CLOEXEC) }.into())?;
        }
    }
    Ok(())
}

fn set_attributes(path: &CStr, flags: libc::c_long, attributes: &MountAttributes) -> io::Result<()> {
    set_sized(path, flags, attributes, size_of::<MountAttributes>())
}

/// `size` is no more than that of the structure.
fn set_sized(path: &CStr, flags: libc::c_long, attributes: &MountAttributes, size: usize) -> io::Result<()> {
    let here = libc::c_long::from(libc::AT_FDCWD);
    // SAFETY: the path is a string that ends; the structure is readable for the size that is given.
    check(unsafe { libc::syscall(MOUNT_SETATTR, here, path.as_ptr(), flags, &raw const *attributes, size) })
        .map(drop)
}

/// Whether this kernel has mount_setattr(2), which refuses what is too small to be read.
#[cfg(test)]
pub fn has_mount_attributes() -> bool {
    set_sized(c"/", 0, &MountAttributes::default(), 0).unwrap_err().raw_os_error() == Some(libc::EINVAL)
}
