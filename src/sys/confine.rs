//! What takes rights away from the calling process, for good. Nothing here is undone by anything; a process that is to
//! keep its rights forks first ([`super::fork`]).
//!
//! | feature | from Linux | where it is missing |
//! |---|---|---|
//! | no_new_privs | 3.5 | `EINVAL` |
//! | capabilities, bounding set | 2.6.26 | – |
//! | seccomp filters | 3.5 (arm: 3.8, arm64: 3.19), `CONFIG_SECCOMP_FILTER` | `EINVAL` |
//! | a mount namespace ([`super::read_only_outside`]) | 5.12 | `ENOSYS`; `EPERM` without CAP_SYS_ADMIN |
//! | Landlock | 5.13 (with links from one directory to another: 5.19), `CONFIG_SECURITY_LANDLOCK`, and not left out of `lsm=` | `ENOSYS`, `EOPNOTSUPP` |

use super::check;
use nix::sys::stat::fstat;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Neither a set-user-ID bit nor a file's capabilities give this process, or one that it starts, any right
/// (PR_SET_NO_NEW_PRIVS, prctl(2)).
///
/// # Errors
/// `EINVAL` before Linux 3.5.
pub fn no_new_privileges() -> io::Result<()> {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: this operation takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, on, unused, unused, unused) }.into()).map(drop)
}

/// This process is killed when the thread that forked it ends (PR_SET_PDEATHSIG, prctl(2)).
///
/// # Errors
/// As `prctl(2)`.
pub fn die_with_parent() -> io::Result<()> {
    let signal = libc::SIGKILL as libc::c_ulong;
    // SAFETY: this operation takes a number only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }.into()).map(drop)
}

/// Lets others have the processor and the disk first: nice 19, and the idle class of ioprio_set(2), which the I/O
/// schedulers bfq and mq-deadline heed.
pub fn background() {
    /// IOPRIO_WHO_PROCESS, and IOPRIO_CLASS_IDLE in its place (linux/ioprio.h).
    const WHO_PROCESS: libc::c_long = 1;
    const CLASS_IDLE: libc::c_long = 3 << 13;
    // SAFETY: both take numbers only; 0 is the caller. What is refused leaves the priority as it was.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0 as libc::c_long, CLASS_IDLE);
    }
}

// --- capabilities ---

/// `_LINUX_CAPABILITY_VERSION_3`, and its two structures (linux/capability.h).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability but those of `keep` (numbers of capabilities(7)), of which it keeps what it has; what it
/// starts gets none at all.
///
/// # Errors
/// As `capset(2)`.
pub fn drop_capabilities(keep: &[u8]) -> io::Result<()> {
    // Linux has had 41 for years; a number that this kernel does not know ends the set.
    for capability in 0..64 {
        let number = libc::c_ulong::from(capability as u8);
        // SAFETY: this operation takes a number only. Without CAP_SETPCAP it is refused: then there is nothing to
        // drop that an execve could give, thanks to no_new_privs.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number) };
    }
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityData::default(); 2];
    // SAFETY: version 3 has the kernel write two structures, which are there.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    for (word, data) in data.iter_mut().enumerate() {
        let mask = keep.iter().map(|number| u32::from(*number)).filter(|number| number / 32 == word as u32);
        let mask = mask.fold(0, |mask, number| mask | 1 << (number % 32));
        *data = CapabilityData {
            effective: data.effective & mask,
            permitted: data.permitted & mask,
            inheritable: 0,
        };
    }
    // SAFETY: version 3 has the kernel read two structures, which are there.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

// --- Landlock (Documentation/userspace-api/landlock.rst, linux/landlock.h) ---

/// The same numbers on every architecture (asm-generic/unistd.h).
const LANDLOCK_CREATE_RULESET: libc::c_long = 444;
const LANDLOCK_ADD_RULE: libc::c_long = 445;
const LANDLOCK_RESTRICT_SELF: libc::c_long = 446;
const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// Rights to write of the first two versions: to files, to remove and make each kind of entry, and to link or rename
/// from one directory into another.
const WRITES: u64 = 1 << 1 | ((1 << 14) - (1 << 4));
/// To read a file, and to list a directory.
const READ_FILE: u64 = 1 << 2;
const READS: u64 = READ_FILE | 1 << 3;
/// To run a file.
const EXECUTE: u64 = 1 << 0;
/// To truncate, since version 3; devices' own operations, since 5.
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// To wait for TCP connections, since version 4.
const BIND_TCP: u64 = 1 << 0;
/// Of all these, what a file and its link have: to read it, to write to it, to truncate it, and to link it elsewhere.
const LINKED: u64 = READS | 1 << 1 | 1 << 13 | TRUNCATE;
/// Sockets by abstract names, and signals, of and to those outside, since version 6.
const SCOPES: u64 = 0b11;

/// Older kernels read only the first field, or the first two.
#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of this kernel's Landlock.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where there is none.
pub fn landlock_version() -> io::Result<usize> {
    let (none, zero) = (std::ptr::null::<RulesetAttributes>(), 0usize);
    // SAFETY: with this flag the call takes no structure, and says its version.
    check(unsafe { libc::syscall(LANDLOCK_CREATE_RULESET, none, zero, CREATE_RULESET_VERSION) })
}

/// What [`only_beneath`] leaves: places as open directories, or files.
pub struct Beneath<'a> {
    /// Here files are read, written, made and removed.
    pub writable: Vec<BorrowedFd<'a>>,
    /// Here they are read, linked, and written to where they are: Landlock lets nobody link a file to where he has more
    /// rights over it than where it is.
    pub linked: Option<BorrowedFd<'a>>,
    /// Here they are read. Each is closed when the kernel knows it.
    pub readable: &'a mut dyn Iterator<Item = OwnedFd>,
}

/// From now on this process reads, writes, makes and removes files only beneath these places, and runs none. Needs
/// [`no_new_privileges`]. What is open stays so, and what a file is called, its size, mode and times can still be seen.
///
/// Landlock does not rule modes, owners, attributes and times: [`super::read_only_outside`].
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` where there is no Landlock; also `EOPNOTSUPP` for its first version, under which nothing
/// can be linked from one directory into another, as edgepull does.
pub fn only_beneath(places: Beneath<'_>) -> io::Result<()> {
    let version = landlock_version()?;
    if version < 2 {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let since = |first: usize, rights: u64| if version >= first { rights } else { 0 };
    let writes = WRITES | since(3, TRUNCATE);
    let attributes = RulesetAttributes {
        handled_access_fs: writes | READS | EXECUTE | since(5, IOCTL_DEV),
        handled_access_net: since(4, BIND_TCP),
        scoped: since(6, SCOPES),
    };
    let size = size_of::<u64>() * (1 + usize::from(version >= 4) + usize::from(version >= 6));
    let unused: libc::c_uint = 0;
    // SAFETY: the structure is readable for the size that is given, and older kernels are given no more than they know.
    let ruleset =
        check(unsafe { libc::syscall(LANDLOCK_CREATE_RULESET, &raw const attributes, size, unused) })?;
    // SAFETY: a new descriptor, which nobody else has.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset as libc::c_int) };
    let allow = |place: BorrowedFd<'_>, rights: u64| {
        let is_directory = fstat(place)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        // A file has no right to be listed.
        let allowed_access = if is_directory { rights } else { rights & READ_FILE };
        let rule = PathBeneath { allowed_access, parent_fd: place.as_raw_fd() };
        // SAFETY: the structure is the one that this kind of rule has; both descriptors are open.
        check(unsafe {
            let rule = &raw const rule;
            libc::syscall(LANDLOCK_ADD_RULE, ruleset.as_raw_fd(), RULE_PATH_BENEATH, rule, unused)
        })
        .map(drop)
    };
    places.writable.iter().try_for_each(|place| allow(*place, writes | READS))?;
    places.linked.iter().try_for_each(|place| allow(*place, (writes | READS) & LINKED))?;
    for place in places.readable {
        allow(place.as_fd(), READS)?;
    }
    // SAFETY: takes a descriptor and flags only.
    check(unsafe { libc::syscall(LANDLOCK_RESTRICT_SELF, ruleset.as_raw_fd(), unused) }).map(drop)
}
