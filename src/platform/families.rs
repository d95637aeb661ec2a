//! Board families, from the oldest to the newest: for the question which boards an image serves, asked anywhere.
//!
//! Each has a representative: what a board of the family records of itself, as little as is needed. It becomes a
//! [`Host`] by [`Host::detect`], like every recording that is given with `--cpuinfo` and `--machine`: there is no second
//! set of rules that could say anything else than a board does. Of boards that differ, the representative is the least
//! capable, so what is said of a family holds for all of it.

use super::host::{Host, Inputs};

/// Boards that choose alike.
#[derive(Debug)]
pub struct Family {
    /// What they have in common, in at most 15 characters.
    pub name: &'static str,
    /// Some that people know, in at most 33 characters.
    pub boards: &'static str,
    /// The representative's `/proc/cpuinfo`; empty where `uname -m` says all that is known.
    cpuinfo: &'static str,
    /// The representative's `uname -m`.
    machine: &'static str,
}

impl Family {
    /// The representative.
    pub fn host(&self) -> Host {
        let cpuinfo = Some(self.cpuinfo.as_bytes()).filter(|bytes| !bytes.is_empty());
        let inputs = Inputs { cpuinfo, machine: Some(self.machine), ..Inputs::default() };
        Host::detect(&inputs).expect("only options can be wrong")
    }
}

/// The least ARMv8 core that also runs 32-bit programs, under a 64-bit kernel.
const CORTEX_A53: &str = "Features: fp asimd evtstrm crc32 cpuid\nCPU implementer: 0x41\nCPU architecture: 8\n\
    CPU part: 0xd03\n";

/// All of them, the oldest first.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "ARMv5",
        boards: "Kirkwood NAS, i.MX28, AT91SAM9",
        cpuinfo: "Features: swp half thumb fastmult edsp java\nCPU implementer: 0x41\nCPU architecture: 5TEJ\n\
            CPU part: 0x926\n",
        machine: "armv5tejl",
    },
    Family {
        name: "ARMv6",
        boards: "Raspberry Pi 1, Zero, Zero W",
        cpuinfo: "Features: half thumb fastmult vfp edsp java tls\nCPU implementer: 0x41\nCPU architecture: 7\n\
            CPU part: 0xb76\n",
        machine: "armv6l",
    },
    // Its cores are Cortex-A9 like others, but hard floats are not among its features.
    Family {
        name: "ARMv7, no VFP",
        boards: "Broadcom Northstar routers",
        cpuinfo: "Features: swp half thumb fastmult edsp tls\nCPU implementer: 0x41\nCPU architecture: 7\n\
            CPU part: 0xc09\n",
        machine: "armv7l",
    },
    // What an entry asks for by `features`.
    Family {
        name: "ARMv7, no NEON",
        boards: "Tegra 2, Armada 370 and XP",
        cpuinfo: "Features: half thumb fastmult vfp edsp vfpv3 vfpv3d16 tls\nCPU implementer: 0x41\n\
            CPU architecture: 7\nCPU part: 0xc09\n",
        machine: "armv7l",
    },
    Family {
        name: "ARMv7",
        boards: "Raspberry Pi 2, BeagleBone, i.MX6",
        cpuinfo: "Features: half thumb fastmult vfp edsp neon vfpv3 tls\nCPU implementer: 0x41\n\
            CPU architecture: 7\nCPU part: 0xc08\n",
        machine: "armv7l",
    },
    Family {
        name: "ARMv8, 32-bit",
        boards: "Raspberry Pi 3, 4, 32-bit kernel",
        cpuinfo: "Features: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 crc32\nCPU implementer: 0x41\n\
            CPU architecture: 7\nCPU part: 0xd03\n",
        machine: "armv7l",
    },
    // `linux32 uname -m`, which is how a recording says that the userland is 32-bit.
    Family {
        name: "ARMv8, mixed",
        boards: "Raspberry Pi 4, 32-bit userland",
        cpuinfo: CORTEX_A53,
        machine: "armv8l",
    },
    Family {
        name: "ARMv8, 64-bit",
        boards: "Raspberry Pi 3, 4, Zero 2; RK3399",
        cpuinfo: CORTEX_A53,
        machine: "aarch64",
    },
    // What an entry asks for by its variant.
    Family {
        name: "ARMv8.2, 64-bit",
        boards: "Raspberry Pi 5, RK3588, Orin",
        cpuinfo: "Features: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid\nCPU implementer: 0x41\n\
            CPU architecture: 8\nCPU part: 0xd05\n",
        machine: "aarch64",
    },
    Family {
        name: "Arm 64-bit only",
        boards: "ThunderX, A64FX, Apple M1",
        cpuinfo: "Features: fp asimd evtstrm aes crc32\nCPU implementer: 0x43\nCPU architecture: 8\n\
            CPU part: 0x0a1\n",
        machine: "aarch64",
    },
    Family { name: "RISC-V, 64-bit", boards: "VisionFive 2, LicheePi 4A", cpuinfo: "", machine: "riscv64" },
    Family { name: "x86-64", boards: "every 64-bit PC", cpuinfo: "", machine: "x86_64" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_runs_what_its_boards_run() {
        let listed = |family: &Family| {
            let host = family.host();
            assert!(host.refusal.is_none(), "{}: {:?}", family.name, host.refusal);
            let names = host.candidates.iter().map(|candidate| candidate.platform.to_string());
            names.map(|name| name.replace("linux/", "")).collect::<Vec<_>>().join(" ")
        };
        let seen: Vec<_> = FAMILIES.iter().map(|family| (family.name, listed(family))).collect();
        for ((name, seen), (expected, list)) in seen.iter().zip([
            ("ARMv5", "arm/v5"),
            ("ARMv6", "arm/v6 arm/v5"),
            ("ARMv7, no VFP", "arm/v5"),
            ("ARMv7, no NEON", "arm/v7 arm/v6 arm/v5"),
            ("ARMv7", "arm/v7 arm/v6 arm/v5"),
            ("ARMv8, 32-bit", "arm/v7 arm/v8 arm/v6 arm/v5"),
            ("ARMv8, mixed", "arm/v7 arm/v8 arm/v6 arm/v5 arm64/v8"),
            ("ARMv8, 64-bit", "arm64/v8 arm/v7 arm/v8 arm/v6 arm/v5"),
            ("ARMv8.2, 64-bit", "arm64/v8 arm64/v8.2 arm64/v8.1 arm/v7 arm/v8 arm/v6 arm/v5"),
            ("Arm 64-bit only", "arm64/v8"),
            ("RISC-V, 64-bit", "riscv64"),
            ("x86-64", "amd64 386"),
        ]) {
            assert_eq!((*name, seen.as_str()), (expected, list));
        }
        assert_eq!(seen.len(), 12);
    }

    #[test]
    fn what_the_names_say_of_features_is_so() {
        let has = |name: &str, feature: &str| {
            let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
            family.host().has_feature(feature)
        };
        assert_eq!([has("ARMv7, no VFP", "vfp"), has("ARMv7, no NEON", "vfp")], [Some(false), Some(true)]);
        assert_eq!([has("ARMv7, no NEON", "neon"), has("ARMv7", "neon")], [Some(false), Some(true)]);
        assert_eq!([has("ARMv8, 32-bit", "neon"), has("ARMv8, mixed", "neon")], [Some(true), Some(true)]);
    }

    #[test]
    fn the_names_have_room_in_a_picture_of_100_columns() {
        for family in FAMILIES {
            assert!(family.name.len() <= 15 && family.boards.len() <= 33, "{family:?}");
        }
    }
}
