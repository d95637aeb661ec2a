//! The system calls that the confined process makes, on each architecture, with Rust's standard library, musl or glibc
//! below. A call that is not here is answered as by a kernel that does not have it.
//!
//! What is left out on purpose: to run a program, to make a process, to signal or trace one, to mount, to change the
//! root, users, namespaces, time, modules, keys; all sockets but those of the internet.

use crate::sys::When;
use libc::*;

/// Allowed whatever the arguments: the most frequent first.
pub(super) const ALWAYS: &[c_long] = &[
    // Data.
    SYS_read,
    SYS_write,
    SYS_openat,
    SYS_close,
    SYS_futex,
    SYS_recvfrom,
    SYS_lseek,
    SYS_pread64,
    SYS_pwrite64,
    SYS_readv,
    SYS_writev,
    SYS_dup,
    SYS_dup3,
    SYS_flock,
    SYS_fallocate,
    SYS_copy_file_range,
    // Names and what they stand for.
    SYS_fstat,
    SYS_statx,
    SYS_openat2,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_faccessat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_symlinkat,
    SYS_linkat,
    SYS_unlinkat,
    SYS_renameat,
    SYS_renameat2,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_utimensat,
    SYS_ftruncate,
    SYS_umask,
    SYS_getcwd,
    SYS_fchdir,
    SYS_fsetxattr,
    SYS_lsetxattr,
    SYS_fgetxattr,
    SYS_flistxattr,
    SYS_fremovexattr,
    // The disk.
    SYS_fsync,
    SYS_fdatasync,
    SYS_sync,
    SYS_syncfs,
    SYS_statfs,
    SYS_fstatfs,
    // Memory.
    SYS_brk,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    // Threads, and the end.
    SYS_set_robust_list,
    SYS_sigaltstack,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_exit,
    SYS_exit_group,
    // Who and when.
    SYS_getpid,
    SYS_getppid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_uname,
    SYS_sysinfo,
    SYS_getrusage,
    SYS_getrandom,
    SYS_gettimeofday,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    // The network.
    SYS_connect,
    SYS_bind,
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_recvmsg,
    SYS_recvmmsg,
    SYS_shutdown,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_getsockname,
    SYS_getpeername,
    SYS_ppoll,
    SYS_pselect6,
];

/// What only this architecture has, or calls so.
#[cfg(target_arch = "aarch64")]
pub(super) const OWN: &[c_long] = &[SYS_mmap, SYS_newfstatat, SYS_sync_file_range, SYS_rseq];

/// What only this architecture has, or calls so: it has the calls from before the `at` family, too.
#[cfg(target_arch = "x86_64")]
pub(super) const OWN: &[c_long] = &[
    SYS_mmap,
    SYS_newfstatat,
    SYS_sync_file_range,
    SYS_rseq,
    SYS_stat,
    SYS_lstat,
    SYS_chown,
    SYS_lchown,
    SYS_utimes,
    SYS_select,
    SYS_time,
];

/// What only this architecture has, or calls so: 32-bit sizes, users and times have got wider ones beside them.
#[cfg(target_arch = "arm")]
pub(super) const OWN: &[c_long] = &[
    SYS_mmap2,
    SYS__llseek,
    SYS_fstat64,
    SYS_fstatat64,
    SYS_stat64,
    SYS_lstat64,
    SYS_ftruncate64,
    SYS_statfs64,
    SYS_fstatfs64,
    SYS_chown32,
    SYS_lchown32,
    SYS_fchown32,
    SYS_getuid32,
    SYS_geteuid32,
    SYS_getgid32,
    SYS_getegid32,
    SYS__newselect,
    SYS_send,
    SYS_recv,
    // asm-generic/unistd.h: clock_gettime64, clock_getres_time64, clock_nanosleep_time64, utimensat_time64,
    // pselect6_time64, ppoll_time64, recvmmsg_time64, futex_time64.
    403,
    406,
    407,
    412,
    413,
    414,
    417,
    422,
    // asm/unistd.h: sync_file_range2; set_tls, for threads.
    341,
    0x000f_0005,
];

/// What those architectures have that are older than the `at` family of calls.
#[cfg(not(target_arch = "aarch64"))]
pub(super) const OLD: &[c_long] = &[
    SYS_open,
    SYS_access,
    SYS_readlink,
    SYS_mkdir,
    SYS_rmdir,
    SYS_unlink,
    SYS_rename,
    SYS_link,
    SYS_symlink,
    SYS_chmod,
    SYS_mknod,
    SYS_dup2,
    SYS_poll,
];
#[cfg(target_arch = "aarch64")]
pub(super) const OLD: &[c_long] = &[];

/// What is done with descriptors, by fcntl(2).
const DESCRIPTORS: &[u32] =
    &[F_DUPFD as u32, F_DUPFD_CLOEXEC as u32, F_GETFD as u32, F_SETFD as u32, F_GETFL as u32, F_SETFL as u32];

/// Allowed with such arguments only.
pub(super) const SOMETIMES: &[(c_long, When)] = &[
    // Threads, no processes.
    (SYS_clone, When::Has(0, CLONE_THREAD as u32)),
    // A working directory of one thread's own, no namespaces.
    (SYS_unshare, When::Is(0, &[CLONE_FS as u32])),
    (SYS_socket, When::Is(0, &[AF_INET as u32, AF_INET6 as u32])),
    // Reflinks; what can be read from a socket; non-blocking; a terminal, and its size.
    (SYS_ioctl, When::Is(1, &[0x4004_9409, 0x541b, 0x5421, 0x5401, 0x5413])),
    // A thread's name.
    (SYS_prctl, When::Is(0, &[PR_SET_NAME as u32])),
    // Its own end, by abort(3) and raise(3).
    (SYS_tgkill, When::Own(0)),
    (SYS_tkill, When::Own(0)),
    // Descriptors: no signals of what becomes of them (F_SETOWN, F_SETSIG), which whoever likes would get.
    (SYS_fcntl, When::Is(1, DESCRIPTORS)),
    #[cfg(target_arch = "arm")]
    (SYS_fcntl64, When::Is(1, DESCRIPTORS)),
    // Its own limits.
    (SYS_prlimit64, When::Own(0)),
];
