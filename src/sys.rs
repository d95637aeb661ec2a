//! Every raw syscall in one place, each with its fallback for old kernels.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

// --- time and chance ---

/// Seconds since 1970 by the system clock; 0 for what is before, or cannot be asked.
///
/// Not `SystemTime::now`: on 32-bit musl its `time_t` has 32 bits, and it panics from 2038-01-19 on.
pub fn unix_time() -> u64 {
    #[cfg(target_pointer_width = "32")]
    {
        /// Since Linux 5.1, the same number on every 32-bit architecture (asm-generic/unistd.h).
        const CLOCK_GETTIME64: libc::c_long = 403;
        // struct __kernel_timespec: 64 bits each on every architecture.
        let mut time = [0i64; 2];
        // SAFETY: `time` has the size and alignment of a __kernel_timespec for the call to write to.
        let result = unsafe { libc::syscall(CLOCK_GETTIME64, libc::CLOCK_REALTIME, time.as_mut_ptr()) };
        if result == 0 {
            return u64::try_from(time[0]).unwrap_or(0);
        }
        // ENOSYS before 5.1, EPERM of an old seccomp filter: such kernels' time ends in 2038 anyway.
    }
    clock(libc::CLOCK_REALTIME).and_then(|time| u64::try_from(time.tv_sec).ok()).unwrap_or(0)
}

/// Whole seconds since this boot, time asleep included (CLOCK_BOOTTIME, Linux 2.6.39; before, CLOCK_MONOTONIC,
/// which leaves that out): unlike the time of day, nobody sets it. 0 where the kernel can't say.
pub fn seconds_since_boot() -> u64 {
    let time = clock(libc::CLOCK_BOOTTIME).or_else(|| clock(libc::CLOCK_MONOTONIC));
    time.and_then(|time| u64::try_from(time.tv_sec).ok()).unwrap_or(0)
}

/// The kernel's name for this boot (`/proc/sys/kernel/random/boot_id`, a random UUID); `None` without `/proc`.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// What a clock of `clock_gettime(2)` says; `None` where the kernel can't say.
fn clock(id: libc::clockid_t) -> Option<libc::timespec> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write to; nothing else is touched.
    (unsafe { libc::clock_gettime(id, &mut time) } == 0).then_some(time)
}

/// Whether the kernel has random numbers that keys can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Randomness {
    /// It has.
    Ready,
    /// Not yet, as it has gathered too little since it started: getrandom(2) waits.
    NotYet,
    /// Nobody here gives any: no getrandom (Linux before 3.17, or a filter), and no /dev/urandom.
    Missing,
}

/// Asks without waiting.
pub fn randomness() -> Randomness {
    match random_bytes(&mut [0; 1]) {
        Ok(_) => Randomness::Ready,
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Randomness::NotYet,
        Err(_) if Path::new("/dev/urandom").exists() => Randomness::Ready,
        Err(_) => Randomness::Missing,
    }
}

/// A number from 0 to 1 to spread retries with, from what there is: never waits, never fails.
pub fn any_fraction() -> f64 {
    let mut bytes = [0; 4];
    if random_bytes(&mut bytes).is_err() {
        let nanoseconds = clock(libc::CLOCK_MONOTONIC).map_or(0, |time| time.tv_nsec as u32);
        // Fibonacci hashing: the low bits, which differ most from board to board, decide the high ones.
        bytes = nanoseconds.wrapping_mul(2_654_435_769).to_ne_bytes();
    }
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

/// As many as the buffer holds, or an error: never waits.
fn random_bytes(buffer: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the buffer is writable for the length that is given.
    check(unsafe { libc::syscall(libc::SYS_getrandom, start, length, libc::GRND_NONBLOCK) })
}

// --- file systems ---

/// CPU time, user and system, that the calling thread has used. Zero where the kernel can't say.
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, |time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
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

/// In a thread with a working directory of its own (CLONE_FS, Linux 2.6.16, needs no privilege), so that
/// the process's stays where it is.
fn set_xattr_from_inside(
    directory: BorrowedFd<'_>,
    name: &CStr,
    xattr: &CStr,
    value: &[u8],
) -> io::Result<()> {
    let inside = || {
        // SAFETY: unshare takes flags only; this one concerns nothing but the calling thread.
        check(unsafe { libc::unshare(libc::CLONE_FS) }.into())?;
        nix::unistd::fchdir(directory)?;
        set_link_xattr(name, xattr, value)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
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

/// The effective user and group id.
pub fn effective_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// The most memory that this process has had resident, in KiB (VmHWM of proc_pid_status(5)); `None` without
/// `/proc`.
pub fn peak_resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The same by `getrusage(2)`, which needs no `/proc`, but counts what the process was before `execve`, too:
/// a copy of whoever started it. Never less than the truth.
pub fn peak_resident_kib_by_getrusage() -> u64 {
    // SAFETY: rusage is made of integers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid rusage for the call to write to; nothing else is touched.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    u64::try_from(usage.ru_maxrss).unwrap_or(0)
}

// --- signals ---

/// Says what it means when the processor meets an instruction that it cannot run, before that ends the program
/// (SIGILL; on aarch64 also SIGTRAP), as it would anyway.
///
/// Such an instruction is where the binaries for boards end if edgepull has a bug: the words of the panics that
/// other builds have would take 100 KB (`cross/build-std.toml`). The address is what is left of them.
/// Where the system refuses a handler, the program ends without words.
pub fn explain_traps() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_trap;
    for signal in [libc::SIGILL, libc::SIGTRAP] {
        // SAFETY: sigaction is made of integers, for which zeros are a value; an empty mask is one.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // Once: the second time, in the handler or after it, the signal does what it does without one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and does nothing but what
        // signal-safety(7) allows.
        unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    }
}

/// Neither allocates nor locks.
extern "C" fn on_trap(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel hands over a siginfo_t, which for these signals has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let mut text = heapless::String::<256>::new();
    // What does not fit is left out.
    let _ = writeln!(
        text,
        "edgepull {}: signal {signal} at {address:#x}: a bug of edgepull, or its binary is for another board. \
         What was live is as it was. Please report this line",
        env!("CARGO_PKG_VERSION")
    );
    // SAFETY: `text` is valid for its length; raise(3) ends the program, with the signal that it got.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::raise(signal);
    }
}

// --- network ---

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
    // The kernel doubles what it is given. FORCE (Linux 2.6.14) needs CAP_NET_ADMIN, and ignores rmem_max.
    set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes / 2)
        .or_else(|_| set(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes / 2))?;
    // Older kernels have settled the largest window when they connected, by the small buffer of that moment.
    set(libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes)
}

// --- platform ---

/// AT_PLATFORM of the auxiliary vector (`getauxval(3)`): `v6l`, `v7l`, `v8l`, `aarch64`, `x86_64`.
/// `None` where the kernel gives none, or one that is longer than any known.
pub fn at_platform() -> Option<heapless::String<24>> {
    // SAFETY: getauxval has no preconditions; for an absent entry it returns 0.
    let pointer = unsafe { libc::getauxval(libc::AT_PLATFORM) } as *const libc::c_char;
    if pointer.is_null() {
        return None;
    }
    // SAFETY: a present AT_PLATFORM points to a NUL-terminated string on the initial stack, which the
    // kernel put there and nothing changes (Linux fs/binfmt_elf.c, create_elf_tables).
    let text = unsafe { CStr::from_ptr(pointer) };
    heapless::String::try_from(text.to_str().ok()?).ok()
}

/// AT_HWCAP and AT_HWCAP2 of the auxiliary vector: bits for what the CPU can do, 0 where the kernel gives none.
pub fn hwcap() -> (libc::c_ulong, libc::c_ulong) {
    // SAFETY: getauxval has no preconditions; for an absent entry it returns 0.
    let entry = |kind| unsafe { libc::getauxval(kind) };
    (entry(libc::AT_HWCAP), entry(libc::AT_HWCAP2))
}

/// `personality(2)`: how a 64-bit kernel shows itself to 32-bit programs.
const PER_LINUX32: libc::c_ulong = 0x0008;

/// What the probe's child says by its exit status.
const RUNS: i32 = 0;
const REFUSES: i32 = 1;
const CANNOT_TELL: i32 = 2;

/// Whether a 64-bit Arm kernel runs AArch32 programs: it accepts PER_LINUX32 only then (Linux 4.7 and
/// later), and only a kernel with CONFIG_COMPAT shows another machine afterwards. `None` where the
/// kernel or a seccomp filter does not let us ask. The personality belongs to a child, which ends.
pub fn kernel_runs_aarch32() -> Option<bool> {
    other_machine_in_32_bits(b"aarch64")
}

fn other_machine_in_32_bits(native: &[u8]) -> Option<bool> {
    // SAFETY: the child calls nothing but personality, uname and _exit, which are async-signal-safe,
    // and touches no lock and no heap, so that other threads of the parent do not matter.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return None;
    }
    if child == 0 {
        let status = probe(native);
        // SAFETY: _exit has no preconditions and runs no destructors of the parent's.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    loop {
        // SAFETY: `child` is ours and not waited for yet; `status` outlives the call.
        match unsafe { libc::waitpid(child, &mut status, 0) } {
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => return None,
            _ => break,
        }
    }
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, RUNS) => Some(true),
        (true, REFUSES) => Some(false),
        _ => None,
    }
}

/// The child's part.
fn probe(native: &[u8]) -> i32 {
    // SAFETY: personality takes a number and changes only this process.
    if unsafe { libc::personality(PER_LINUX32) } == -1 {
        let refused = io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
        return if refused { REFUSES } else { CANNOT_TELL };
    }
    // SAFETY: utsname is made of byte arrays, for which zeros are a value; uname fills it.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `names` is a valid utsname for the whole call.
    if unsafe { libc::uname(&mut names) } == -1 {
        return CANNOT_TELL;
    }
    let machine = names.machine.iter().take_while(|&&c| c != 0).map(|&c| c as u8);
    if machine.eq(native.iter().copied()) { REFUSES } else { RUNS }
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

    #[test]
    fn the_clock_is_that_of_the_standard_library() {
        let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let ours = unix_time();
        assert!((before..before + 60).contains(&ours), "{before} {ours}");
    }

    #[test]
    fn a_running_system_has_random_numbers() {
        assert_eq!(randomness(), Randomness::Ready);
        let numbers: Vec<f64> = (0..8).map(|_| any_fraction()).collect();
        assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)), "{numbers:?}");
        assert!(numbers.windows(2).any(|pair| pair[0] != pair[1]), "{numbers:?}");
    }

    #[test]
    fn peak_memory_by_both_ways() {
        let (proc, getrusage) = (peak_resident_kib().unwrap(), peak_resident_kib_by_getrusage());
        // At least what it is (the kernel counts in batches of pages), and in the same unit: what started
        // the tests was no larger than this.
        assert!(getrusage * 2 > proc && getrusage < 1024 * proc, "{proc} {getrusage}");
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn the_probe_sees_the_other_machine_and_leaves_ours_alone() {
        let machine = || nix::sys::utsname::uname().unwrap().machine().to_owned();
        let before = machine();
        // An x86-64 kernel calls itself i686 there; a seccomp filter may forbid the question.
        assert_ne!(other_machine_in_32_bits(b"x86_64"), Some(false));
        // What it answers is compared: after the switch this is the machine's own name.
        assert_ne!(other_machine_in_32_bits(b"i686"), Some(true));
        assert_eq!(machine(), before);
    }

    #[test]
    fn at_platform_is_a_word() {
        if let Some(platform) = at_platform() {
            assert!(platform.chars().all(|c| c.is_ascii_graphic()), "{platform}");
        }
    }
}
