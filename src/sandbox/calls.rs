//! The system calls that the confined process makes, on each architecture, with Rust's standard library, musl or glibc
//! below. A call that is not here is answered as by a kernel that does not have it.
//!
//! What is left out on purpose: to run a program, to make a process, to signal or trace one, to mount, to change the
//! root, users, namespaces, time, modules, keys; all sockets but those of the internet.

use crate::sys::{Rule, When};
use libc::*;

/// Lists calls that are allowed whatever their arguments, and are made so often that they are compared first.
pub(super) const FREQUENT: &[c_long] =
    &[SYS_read, SYS_write, SYS_openat, SYS_futex, SYS_recvfrom, SYS_lseek, SYS_pread64, SYS_pwrite64];

/// Lists calls that are allowed whatever their arguments.
pub(super) const ALWAYS: &[c_long] = &[
    // Data.
    SYS_readv,
    SYS_writev,
    SYS_dup,
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
    SYS_getsockname,
    SYS_getpeername,
    SYS_ppoll,
    SYS_pselect6,
];

/// What only this architecture has, or calls so.
#[cfg(target_arch = "aarch64")]
pub(super) const OWN: &[c_long] = &[SYS_newfstatat, SYS_sync_file_range, SYS_rseq];

/// What only this architecture has, or calls so: it has the calls from before the `at` family, too.
#[cfg(target_arch = "x86_64")]
pub(super) const OWN: &[c_long] = &[
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
    SYS_poll,
];
#[cfg(target_arch = "aarch64")]
pub(super) const OLD: &[c_long] = &[];

/// Lists the operations of fcntl(2) on descriptors that are allowed. There are no signals to others (F_SETOWN,
/// F_SETSIG), no locks and no leases among them.
const DESCRIPTORS: &[u32] =
    &[F_DUPFD as u32, F_DUPFD_CLOEXEC as u32, F_GETFD as u32, F_SETFD as u32, F_GETFL as u32, F_SETFL as u32];

/// Lists the kinds of files that mknod(2) may make. Sockets are not in a tar, and regular files are made by opening
/// them.
const NODES: &[u32] = &[S_IFCHR, S_IFBLK, S_IFIFO];

/// Holds the bits of a socket's type that are flags.
const SOCKET_FLAGS: u32 = (SOCK_CLOEXEC | SOCK_NONBLOCK) as u32;
const INTERNET: When = When::Is(0, &[AF_INET as u32, AF_INET6 as u32]);

/// Holds the flags of clone(2) by which a new thread gets namespaces of its own, is traced, or gets another parent.
const APART: u32 = (CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_PTRACE
    | CLONE_PARENT) as u32;

/// Lists sockets' time-outs, with 32-bit and 64-bit times (asm-generic/socket.h), and the size of the receive buffer.
const TIMEOUTS: &[u32] = &[SO_RCVTIMEO as u32, SO_SNDTIMEO as u32, 20, 21, 66, 67, SO_RCVBUF as u32];
const SOCKET: When = When::Is(1, &[SOL_SOCKET as u32]);

/// Allowed with such arguments only.
pub(super) const SOMETIMES: &[Rule] = &[
    // The lock that says that this process has not ended stays as it is: neither let go nor replaced.
    (SYS_close, &[When::NotHeld(0)]),
    (SYS_dup3, &[When::NotHeld(1)]),
    #[cfg(not(target_arch = "aarch64"))]
    (SYS_dup2, &[When::NotHeld(1)]),
    // Locks are let go by whoever closes a file, not in other ways: one that is shared with the parent stays.
    (SYS_flock, &[When::Is(1, &[LOCK_EX as u32, (LOCK_EX | LOCK_NB) as u32])]),
    (SYS_mknodat, &[When::Masked(2, S_IFMT, NODES)]),
    #[cfg(not(target_arch = "aarch64"))]
    (SYS_mknod, &[When::Masked(1, S_IFMT, NODES)]),
    // No memory with code that was not there before. glibc loads libraries for its resolver.
    (SYS_mprotect, &[When::Lacks(2, PROT_EXEC as u32)]),
    #[cfg(all(not(target_arch = "arm"), target_env = "musl"))]
    (SYS_mmap, &[When::Lacks(2, PROT_EXEC as u32)]),
    #[cfg(all(not(target_arch = "arm"), not(target_env = "musl")))]
    (SYS_mmap, &[]),
    #[cfg(all(target_arch = "arm", target_env = "musl"))]
    (SYS_mmap2, &[When::Lacks(2, PROT_EXEC as u32)]),
    #[cfg(all(target_arch = "arm", not(target_env = "musl")))]
    (SYS_mmap2, &[]),
    // Threads, no processes.
    (SYS_clone, &[When::Has(0, CLONE_THREAD as u32), When::Lacks(0, APART)]),
    // A working directory of one thread's own, no namespaces.
    (SYS_unshare, &[When::Is(0, &[CLONE_FS as u32])]),
    // TCP and UDP: neither raw sockets nor the kernel's other protocols (MPTCP, SCTP, UDP-Lite, DCCP).
    (
        SYS_socket,
        &[
            INTERNET,
            When::Masked(1, !SOCKET_FLAGS, &[SOCK_STREAM as u32]),
            When::Is(2, &[0, IPPROTO_TCP as u32]),
        ],
    ),
    (
        SYS_socket,
        &[
            INTERNET,
            When::Masked(1, !SOCKET_FLAGS, &[SOCK_DGRAM as u32]),
            When::Is(2, &[0, IPPROTO_UDP as u32]),
        ],
    ),
    (SYS_getsockopt, &[SOCKET, When::Is(2, TIMEOUTS)]),
    (SYS_getsockopt, &[SOCKET, When::Is(2, &[SO_ERROR as u32])]),
    (SYS_setsockopt, &[SOCKET, When::Is(2, TIMEOUTS)]),
    (
        SYS_setsockopt,
        &[
            When::Is(1, &[IPPROTO_TCP as u32]),
            When::Is(2, &[TCP_NODELAY as u32, TCP_WINDOW_CLAMP as u32, TCP_FASTOPEN_CONNECT as u32]),
        ],
    ),
    // libc's resolvers: errors of the way, and IPv4 by sockets for IPv6.
    (SYS_setsockopt, &[When::Is(1, &[IPPROTO_IP as u32]), When::Is(2, &[IP_RECVERR as u32])]),
    (
        SYS_setsockopt,
        &[When::Is(1, &[IPPROTO_IPV6 as u32]), When::Is(2, &[IPV6_RECVERR as u32, IPV6_V6ONLY as u32])],
    ),
    // Reflinks; what can be read from a socket; non-blocking.
    (SYS_ioctl, &[When::Is(1, &[0x4004_9409, 0x541b, 0x5421])]),
    // A thread's name.
    (SYS_prctl, &[When::Is(0, &[PR_SET_NAME as u32])]),
    // Its own end, by abort(3) and raise(3).
    (SYS_tgkill, &[When::Own(0)]),
    (SYS_tkill, &[When::Own(0)]),
    (SYS_fcntl, &[When::Is(1, DESCRIPTORS)]),
    #[cfg(target_arch = "arm")]
    (SYS_fcntl64, &[When::Is(1, DESCRIPTORS)]),
    // Its own limits, to be read.
    (SYS_prlimit64, &[When::Own(0), When::Null(2)]),
];
