//! Limits what a container may do, by the part of a runtime bundle's `config.json` that no image decides.
//!
//! It is what podman 4.3 gives by default ([containers.conf], `seccomp.json` of containers-common), with the differences
//! that the table in `docs/security.md` has, each with its reason. `systemd/app` says the same in its own words for
//! deployments, whose `config.json` may have been written by an older edgepull; `board-tests/guests.rs` holds the two
//! against each other.
//!
//! [containers.conf]: https://github.com/containers/common/blob/main/docs/containers.conf.5.md

use serde_json::{Value, json};

/// Lists the capabilities that a container's root keeps: podman's `default_capabilities`. Docker adds AUDIT_WRITE,
/// MKNOD and NET_RAW, and with the last one a container that shares the board's network reads all of its traffic.
pub const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Lists files and directories that are empty in a container: those of podman 4.3, and `powercap`, whose counters
/// give away what others compute (CVE-2020-8694).
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
];

/// Lists paths that nobody writes to in a container, which are those of podman 4.3.
pub const READ_ONLY_PATHS: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Lists system calls that are not permitted (EPERM). Most need a capability that no container has; the others lead
/// to parts of the kernel that few programs ever reach.
const REFUSED: [&str; 46] = [
    "_sysctl",
    "acct",
    "bpf",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "get_kernel_syms",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "lookup_dcookie",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "perf_event_open",
    "process_madvise",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
    "vmsplice",
    "vserver",
];

/// Lists system calls that this kernel does not have, as far as a container can see (ENOSYS), so that libraries do
/// without. The kernel's keys belong to users, and the board's root is the container's root; `clone3` has its flags
/// in memory, where no filter reads them.
const ABSENT: [&str; 7] =
    ["add_key", "clone3", "io_uring_enter", "io_uring_register", "io_uring_setup", "keyctl", "request_key"];

/// Gives `EPERM`, `EINVAL` and `ENOSYS` of asm-generic/errno.h, alike on all architectures that edgepull is for.
const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

/// Gives `CLONE_NEWUSER` (linux/sched.h).
const CLONE_NEWUSER: u64 = 0x1000_0000;
/// Gives `AF_NETLINK` and its protocol `NETLINK_AUDIT` (linux/socket.h, linux/netlink.h).
const NETLINK: u64 = 16;
const NETLINK_AUDIT: u64 = 9;
/// Gives the operations that type into a terminal (asm-generic/ioctls.h, ioctl_console(2)), as a container may have
/// been started on the board's console.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// Masks the half of an argument that the kernel looks at if it takes an `int`.
const INT: u64 = 0xffff_ffff;

/// Makes the filter of system calls (config-linux.md, Seccomp) for images of `architecture`. It allows everything
/// else, so that the board's libseccomp only has to know names, and leaves out those that it does not know.
pub fn seccomp(architecture: &str) -> Value {
    // Programs of all other architectures than crun's own and these are killed.
    let architectures: &[&str] = match architecture {
        "arm" | "arm64" => &["SCMP_ARCH_ARM", "SCMP_ARCH_AARCH64"],
        "386" | "amd64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        _ => &[],
    };
    let refuse = |names: &[&str], error: u32, arguments: &[Value]| {
        let mut rule = json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": error });
        if !arguments.is_empty() {
            rule["args"] = arguments.into();
        }
        rule
    };
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": architectures,
        "syscalls": [
            refuse(&REFUSED, EPERM, &[]),
            refuse(&ABSENT, ENOSYS, &[]),
            refuse(&["clone", "unshare"], EPERM, &[argument(0, CLONE_NEWUSER, CLONE_NEWUSER)]),
            refuse(&["socket"], EINVAL, &[argument(0, INT, NETLINK), argument(2, INT, NETLINK_AUDIT)]),
            refuse(&["ioctl"], EPERM, &[argument(1, INT, TIOCSTI)]),
            refuse(&["ioctl"], EPERM, &[argument(1, INT, TIOCLINUX)]),
        ],
    })
}

/// Makes the condition that argument `index` is `value` in the bits of `mask`.
fn argument(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}
