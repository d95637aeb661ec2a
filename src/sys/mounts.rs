//! File systems as one process sees them.

use super::check;
use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Numbers open_tree(2), move_mount(2) and mount_setattr(2), alike on every architecture (asm-generic/unistd.h).
const OPEN_TREE: libc::c_long = 428;
const MOVE_MOUNT: libc::c_long = 429;
const MOUNT_SETATTR: libc::c_long = 442;
const AT_RECURSIVE: libc::c_long = 0x8000;
/// Gives OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC and MOVE_MOUNT_F_EMPTY_PATH (linux/mount.h).
const TREE_CLONE: libc::c_int = 1;
const TREE_CLOSE_ON_EXEC: libc::c_int = libc::O_CLOEXEC;
const FROM_EMPTY_PATH: libc::c_int = 4;
const ATTRIBUTE_READ_ONLY: u64 = 0x1;
const ATTRIBUTE_NO_SET_USER_ID: u64 = 0x2;
const ATTRIBUTE_NO_DEVICES: u64 = 0x4;
/// MS_SLAVE, which is as wide as a pointer.
const PROPAGATION_SLAVE: u64 = 1 << 19;
/// Names the directory where proc(5) is mounted.
const PROC: &CStr = c"/proc";
const PROC_SELF: &CStr = c"/proc/self";

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Holds what [`read_only_outside`] has left to this process.
#[derive(Debug)]
pub struct Homes {
    /// Holds the directories that are written to together, in their order, opened by O_PATH. Nothing else leads to
    /// where they can be written to.
    pub together: Vec<File>,
    /// Is `Ok` if only the process's own entries can be seen in /proc. Otherwise root could go by `/proc/PID/root` to
    /// the mounts of a process that has no more rights than it has.
    pub own_proc: io::Result<()>,
}

/// Lets this process, in a mount namespace of its own, change nothing outside of these directories from now on, and
/// open no device anywhere: all else is read-only for it, with its modes, owners, attributes and times, which
/// [`super::only_beneath`] does not restrict.
///
/// Each directory of `apart` is found by its path, as before. Those of `together` have one mount, as files can only be
/// linked and renamed within one, and are reached by the descriptors that are returned and in no other way: by their
/// paths they are read-only. That mount begins at the deepest directory that all of them are in; each directory
/// between that one and them, itself included, has a read-only mount of itself on top, onto which `..` leads, too
/// (path_resolution(7); `handle_dots` in fs/namei.c steps onto whatever is mounted on a parent).
///
/// ```text
/// STATE                        writable, and on top of it: STATE, read-only
/// STATE/deployments            on top of it: itself, read-only
/// STATE/deployments/NAME       on top of it: itself, read-only
/// STATE/deployments/NAME/work  one of `together`
/// ```
///
/// Paths have to be absolute and without links. Descriptors that are open lead to the mounts of before
/// ([`super::keep_only`]).
///
/// # Errors
/// Returns `EPERM` without CAP_SYS_ADMIN, `ENOSYS` before Linux 5.12, and `EINVAL` if the root directory is no mount
/// point, as in a chroot(2). Then all directories are as they were.
pub fn read_only_outside(apart: &[PathBuf], together: &[PathBuf]) -> io::Result<Homes> {
    let here = std::env::current_dir()?;
    // SAFETY: takes flags only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    // What is unmounted there is unmounted here, or the file system would stay in use; and nothing the other way.
    let slave = MountAttributes { propagation: PROPAGATION_SLAVE, ..MountAttributes::default() };
    set_attributes(c"/", AT_RECURSIVE, &slave)?;
    let mut mounted = Vec::new();
    let homes = mount(apart, together, &mut mounted).inspect_err(|_| {
        for path in mounted.iter().rev() {
            // SAFETY: the path is a string that ends. It was mounted here, by this process.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    })?;
    // It may be beneath one of them.
    std::env::set_current_dir(here)?;
    Ok(homes)
}

/// Mounts as [`read_only_outside`] says, and adds the paths of its mounts to `mounted`, so that they can be taken
/// back.
fn mount(apart: &[PathBuf], together: &[PathBuf], mounted: &mut Vec<CString>) -> io::Result<Homes> {
    let mut bind = |path: &Path| {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (kind, data) = (std::ptr::null(), std::ptr::null());
        // SAFETY: the paths are strings that end, and this operation takes neither a type nor data.
        check(unsafe { libc::mount(path.as_ptr(), path.as_ptr(), kind, libc::MS_BIND, data) }.into())?;
        mounted.push(path);
        Ok::<_, io::Error>(())
    };
    let mut writable = Vec::new();
    let mut opened = Vec::new();
    if let Some(common) = common(together) {
        bind(common)?;
        writable.push(place(common)?);
        opened = together.iter().map(|path| place(path)).collect::<io::Result<_>>()?;
        covers(common, together).into_iter().try_for_each(&mut bind)?;
    }
    // What is within another one is written to by that one's mount.
    let outer = |path: &&PathBuf| !apart.iter().any(|other| path != &other && path.starts_with(other));
    for path in apart.iter().filter(outer) {
        bind(path)?;
        writable.push(place(path)?);
    }
    let closed =
        MountAttributes { set: ATTRIBUTE_READ_ONLY | ATTRIBUTE_NO_DEVICES, ..MountAttributes::default() };
    set_attributes(c"/", AT_RECURSIVE, &closed)?;
    let home = MountAttributes {
        clear: ATTRIBUTE_READ_ONLY,
        set: ATTRIBUTE_NO_DEVICES | ATTRIBUTE_NO_SET_USER_ID,
        ..MountAttributes::default()
    };
    for root in &writable {
        let empty_path = libc::c_long::from(libc::AT_EMPTY_PATH);
        set_sized(root.as_raw_fd(), c"", empty_path, &home, size_of::<MountAttributes>())?;
    }
    Ok(Homes { together: opened, own_proc: own_proc() })
}

/// Puts a directory over /proc in which there is only `self`. If /proc is not mounted, it does nothing.
fn own_proc() -> io::Result<()> {
    let here = libc::AT_FDCWD;
    let flags = TREE_CLONE | TREE_CLOSE_ON_EXEC;
    // SAFETY: the path is a string that ends.
    let tree = match check(unsafe { libc::syscall(OPEN_TREE, here, PROC_SELF.as_ptr(), flags) }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    // SAFETY: a new descriptor, which nobody else has.
    let tree = unsafe { OwnedFd::from_raw_fd(tree as libc::c_int) };
    let (kind, options) = (c"tmpfs", c"size=4k,nr_inodes=4,mode=555");
    let restricted = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: all of these are strings that end, which this file system takes.
    let made = unsafe {
        libc::mount(kind.as_ptr(), PROC.as_ptr(), kind.as_ptr(), restricted, options.as_ptr().cast())
    };
    check(made.into())?;
    let filled = || {
        // SAFETY: both paths are strings that end, and the descriptor is open.
        check(unsafe { libc::mkdir(PROC_SELF.as_ptr(), 0o555) }.into())?;
        check(unsafe {
            let from = tree.as_raw_fd();
            libc::syscall(MOVE_MOUNT, from, c"".as_ptr(), here, PROC_SELF.as_ptr(), FROM_EMPTY_PATH)
        })?;
        let read_only = MountAttributes { set: ATTRIBUTE_READ_ONLY, ..MountAttributes::default() };
        set_attributes(PROC, 0, &read_only)
    };
    filled().inspect_err(|_| {
        // SAFETY: the path is a string that ends; it is what was mounted above.
        unsafe { libc::umount2(PROC.as_ptr(), libc::MNT_DETACH) };
    })
}

/// Returns the deepest directory that all of these are in.
fn common(paths: &[PathBuf]) -> Option<&Path> {
    let parents = paths.iter().map(|path| path.parent().unwrap_or(path));
    parents.reduce(|common, path| {
        common.ancestors().find(|ancestor| path.starts_with(ancestor)).unwrap_or(Path::new("/"))
    })
}

/// Lists every directory above one of `paths` up to `common`, which is the last; deeper ones come before those that
/// they are in.
fn covers<'a>(common: &Path, paths: &'a [PathBuf]) -> Vec<&'a Path> {
    let above = |path: &'a PathBuf| path.ancestors().skip(1).take_while(|one| one.starts_with(common));
    let mut covers: Vec<&Path> = paths.iter().flat_map(above).collect();
    covers.sort_by_key(|path| std::cmp::Reverse((path.components().count(), *path)));
    covers.dedup();
    covers
}

/// Opens a directory by O_PATH, which allows no more than to name it.
fn place(path: &Path) -> io::Result<File> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn set_attributes(path: &CStr, flags: libc::c_long, attributes: &MountAttributes) -> io::Result<()> {
    set_sized(libc::AT_FDCWD, path, flags, attributes, size_of::<MountAttributes>())
}

/// `size` is no more than that of the structure.
fn set_sized(
    at: libc::c_int,
    path: &CStr,
    flags: libc::c_long,
    attributes: &MountAttributes,
    size: usize,
) -> io::Result<()> {
    let at = libc::c_long::from(at);
    // SAFETY: the path is a string that ends; the structure is readable for the size that is given.
    check(unsafe { libc::syscall(MOUNT_SETATTR, at, path.as_ptr(), flags, &raw const *attributes, size) })
        .map(drop)
}

/// Whether this kernel has mount_setattr(2), which refuses what is too small to be read.
#[cfg(test)]
pub fn has_mount_attributes() -> bool {
    let none = MountAttributes::default();
    set_sized(libc::AT_FDCWD, c"/", 0, &none, 0).unwrap_err().raw_os_error() == Some(libc::EINVAL)
}
