//! The machines: what QEMU is told for each, and what edgepull has to find out there. All of it has been
//! booted; what does not come by itself has its reason beside it.

use std::time::Duration;

use crate::harness::{Disk, Model};

const VIRTIO_NETWORK: &str = "virtio-net-device,netdev=net";
const VIRTIO_DISK: Disk = Disk::Virtio("virtio-blk-device");

/// What the 64-bit machines have in common.
const ARM64: Model = Model {
    name: "aarch64",
    qemu: "qemu-system-aarch64",
    machine: &["-M", "virt", "-cpu", "cortex-a53"],
    memory: 128,
    fixed_memory: false,
    least_memory: 64,
    kernel: "cloud-arm64",
    append: "",
    network: VIRTIO_NETWORK,
    disk: VIRTIO_DISK,
    userland: "busybox-arm64",
    binary: "aarch64",
    limit: Duration::from_secs(900),
};

/// An ARM926EJ-S. The kernel is our own: no package has one for a board that QEMU knows.
pub static ARMV5: Machine = Machine {
    model: Model {
        name: "armv5",
        qemu: "qemu-system-arm",
        // The machine has no source of randomness; without one TLS waits 15 s for the kernel's first numbers.
        machine: &["-M", "versatilepb", "-cpu", "arm926", "-device", "virtio-rng-pci"],
        append: "rng_core.default_quality=1000",
        memory: 128,
        least_memory: 24,
        kernel: "versatile",
        // Without romfile= it looks for a boot ROM that the package of QEMU does not have.
        network: "virtio-net-pci,netdev=net,romfile=",
        disk: Disk::Virtio("virtio-blk-pci"),
        userland: "busybox-armel",
        binary: "armv5",
        ..ARM64
    },
    candidates: &["linux/arm/v5"],
    evidence: &[
        ("/evidence/cores/0/name", "ARM926"),
        ("/evidence/at_platform", "v5l"),
        ("/evidence/machine", "armv5tejl"),
    ],
    takes: "v5",
    falls_back_to: None,
    traps_unaligned: &["ldr", "ldm", "ldrd"],
};

/// An ARM1176: the Raspberry Pi 1 A+. Slow: its network is USB, some 0.2 MB/s.
pub static ARMV6: Machine = Machine {
    model: Model {
        name: "armv6",
        qemu: "qemu-system-arm",
        // Without icount its timer loses a tick for ever where the host is busy.
        machine: &["-M", "raspi1ap", "-icount", "shift=auto"],
        memory: 512,
        fixed_memory: true,
        least_memory: 64,
        kernel: "rpi",
        // QEMU's model has no power domains, and the kernel waits for them.
        append: "initcall_blacklist=bcm2835_power_driver_init",
        network: "usb-net,netdev=net",
        disk: Disk::SdCard,
        userland: "busybox-armel",
        binary: "armv6",
        limit: Duration::from_secs(3600),
    },
    candidates: &["linux/arm/v6", "linux/arm/v5"],
    evidence: &[
        ("/evidence/cores/0/name", "ARM1176"),
        ("/evidence/at_platform", "v6l"),
        ("/evidence/machine", "armv6l"),
    ],
    takes: "v6",
    falls_back_to: Some("v5"),
    traps_unaligned: &["ldm", "ldrd"],
};

/// A Cortex-A7.
pub static ARMV7: Machine = Machine {
    model: Model {
        name: "armv7",
        qemu: "qemu-system-arm",
        machine: &["-M", "virt", "-cpu", "cortex-a7"],
        least_memory: 64,
        kernel: "armmp",
        userland: "busybox-armel",
        binary: "armv7",
        ..ARM64
    },
    candidates: &["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"],
    evidence: &[
        ("/evidence/cores/0/name", "Cortex-A7"),
        ("/evidence/at_platform", "v7l"),
        ("/evidence/machine", "armv7l"),
    ],
    takes: "v7",
    falls_back_to: Some("v6"),
    traps_unaligned: &[],
};

/// A Cortex-A53.
pub static AARCH64: Machine = Machine {
    model: ARM64,
    candidates: &["linux/arm64/v8", "linux/arm/v7", "linux/arm/v8", "linux/arm/v6", "linux/arm/v5"],
    evidence: &[
        ("/evidence/cores/0/name", "Cortex-A53"),
        ("/evidence/aarch32_probe", "true"),
        ("/evidence/userland/bits", "64"),
        ("/evidence/at_platform", "aarch64"),
        ("/evidence/machine", "aarch64"),
    ],
    takes: "arm64",
    falls_back_to: Some("v7"),
    traps_unaligned: &[],
};

/// The same with a 32-bit userland, as Raspberry Pi OS had it for years.
pub static AARCH64_32: Machine = Machine {
    model: Model { name: "aarch64-32", userland: "busybox-armel", binary: "armv7", ..ARM64 },
    candidates: &["linux/arm/v7", "linux/arm/v8", "linux/arm/v6", "linux/arm/v5", "linux/arm64/v8"],
    evidence: &[
        ("/evidence/cores/0/name", "Cortex-A53"),
        ("/evidence/userland/bits", "32"),
        ("/evidence/at_platform", "v8l"),
        ("/evidence/machine", "aarch64"),
    ],
    takes: "v7",
    falls_back_to: Some("v6"),
    traps_unaligned: &[],
};

/// A Fujitsu A64FX, which cannot run 32-bit programs.
pub static AARCH64_64ONLY: Machine = Machine {
    model: Model {
        name: "aarch64-64only",
        // The older interrupt controller, which `virt` has by itself, is nothing for this CPU.
        machine: &["-M", "virt,gic-version=3", "-cpu", "a64fx"],
        ..ARM64
    },
    candidates: &["linux/arm64/v8", "linux/arm64/v8.2", "linux/arm64/v8.1"],
    evidence: &[
        ("/evidence/cores/0/name", "A64FX"),
        ("/evidence/aarch32_probe", "false"),
        ("/evidence/at_platform", "aarch64"),
        ("/evidence/machine", "aarch64"),
    ],
    takes: "arm64",
    falls_back_to: None,
    traps_unaligned: &[],
};

/// A machine, and what is true on it.
pub struct Machine {
    pub model: Model,
    /// What edgepull has to find that it can run, best first.
    pub candidates: &'static [&'static str],
    /// Some of the evidence that it has to see: a place in `platform --json`, and what stands there.
    pub evidence: &'static [(&'static str, &'static str)],
    /// The program of examples/hello that it has to take.
    pub takes: &'static str,
    /// The program that it takes where that entry is missing.
    pub falls_back_to: Option<&'static str>,
    /// The loads that this machine does not do from any address: the subject of [`super::alignment`].
    pub traps_unaligned: &'static [&'static str],
}
