//! The features that the kernel tells every program in its auxiliary vector, for the time before /proc is
//! mounted: AT_HWCAP and AT_HWCAP2 have one bit for each name that `/proc/cpuinfo` has under `Features`.

use super::cpuinfo::Features;
use libc::c_ulong;

/// A 32-bit program's AT_HWCAP from bit 0 on (Linux arch/arm/include/uapi/asm/hwcap.h, names as in
/// arch/arm/kernel/setup.c; 64-bit kernels give their 32-bit programs the same).
const ARM: [&str; 28] = [
    "swp",
    "half",
    "thumb",
    "26bit",
    "fastmult",
    "fpa",
    "vfp",
    "edsp",
    "java",
    "iwmmxt",
    "crunch",
    "thumbee",
    "neon",
    "vfpv3",
    "vfpv3d16",
    "tls",
    "vfpv4",
    "idiva",
    "idivt",
    "vfpd32",
    "lpae",
    "evtstrm",
    "fphp",
    "asimdhp",
    "asimddp",
    "asimdfhm",
    "asimdbf16",
    "i8mm",
];
/// A 32-bit program's AT_HWCAP2.
const ARM_2: [&str; 7] = ["aes", "pmull", "sha1", "sha2", "crc32", "sb", "ssbs"];
/// A 64-bit program's AT_HWCAP (arch/arm64/include/uapi/asm/hwcap.h).
const ARM64: [&str; 32] = [
    "fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "atomics", "fphp", "asimdhp", "cpuid",
    "asimdrdm", "jscvt", "fcma", "lrcpc", "dcpop", "sha3", "sm3", "sm4", "asimddp", "sha512", "sve",
    "asimdfhm", "dit", "uscat", "ilrcpc", "flagm", "ssbs", "sb", "paca", "pacg",
];
/// A 64-bit program's AT_HWCAP2, as far as [`super::extensions`] asks.
const ARM64_2: [&str; 20] = [
    "dcpodp",
    "sve2",
    "sveaes",
    "svepmull",
    "svebitperm",
    "svesha3",
    "svesm4",
    "flagm2",
    "frint",
    "svei8mm",
    "svef32mm",
    "svef64mm",
    "svebf16",
    "i8mm",
    "bf16",
    "dgh",
    "rng",
    "bti",
    "mte",
    "ecv",
];

/// The names of the bits that are set; `None` where none is, for no Arm kernel of this century says that.
pub(super) fn features(hwcap: c_ulong, hwcap2: c_ulong, bits_32: bool) -> Option<Features> {
    let tables: [(c_ulong, &[&str]); 2] =
        if bits_32 { [(hwcap, &ARM), (hwcap2, &ARM_2)] } else { [(hwcap, &ARM64), (hwcap2, &ARM64_2)] };
    let mut list = Features::new();
    for (word, names) in tables {
        for (_, name) in names.iter().enumerate().filter(|(bit, _)| word >> bit & 1 == 1) {
            let gap = if list.is_empty() { "" } else { " " };
            // All names together are a tenth of the room.
            let _ = list.push_str(gap).and_then(|()| list.push_str(name));
        }
    }
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_named_as_in_cpuinfo() {
        let read = |hwcap, hwcap2, bits_32| features(hwcap, hwcap2, bits_32).map(|list| list.to_string());
        // What booted boards said in both places.
        for (hwcap, hwcap2, bits_32, printed) in [
            (0x1d7, 0, true, "swp half thumb fastmult vfp edsp java"),
            (0x81d6, 0, true, "half thumb fastmult vfp edsp java tls"),
            (
                0x3fb8d6,
                0,
                true,
                "half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm",
            ),
            (
                0x3fb0d6,
                0x1f,
                true,
                "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm aes pmull \
                 sha1 sha2 crc32",
            ),
            (0x8ff, 0, false, "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"),
            (
                0x415fff,
                0,
                false,
                "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm fcma dcpop sve",
            ),
            (0x1002, 0x000a_6001, false, "asimd asimdrdm dcpodp i8mm bf16 bti ecv"),
        ] {
            assert_eq!(read(hwcap, hwcap2, bits_32).as_deref(), Some(printed));
        }
        // An ARM926 without VFP: what decides that it gets no hard-float image.
        assert_eq!(read(0x197, 0, true).as_deref(), Some("swp half thumb fastmult edsp java"));
        assert_eq!(read(0, 0, true), None);
        assert!(read(c_ulong::MAX, c_ulong::MAX, true).is_some_and(|all| all.ends_with("ssbs")));
        assert!(read(c_ulong::MAX, c_ulong::MAX, false).is_some_and(|all| all.ends_with("ecv")));
    }
}
