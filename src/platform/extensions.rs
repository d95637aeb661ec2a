//! Which version of the 64-bit Arm architecture the features prove, for cores that [`super::midr`] does not know.
//!
//! A version counts only if every feature is there that it makes mandatory and that kernels tell programs of (Arm ARM,
//! "Armv8-A architecture extensions" and "Armv9-A architecture extensions"; Linux
//! Documentation/arch/arm64/elf_hwcaps.rst), and every one that compilers take for granted with `-march`, which is `ssbs`
//! besides. A kernel that hides one, or is too old to tell it, makes the board less than it is: an image for too little
//! runs.

use super::midr::Isa;

/// The features that a version adds to the one before it, from v8.1 on.
const V8: [&[&str]; 6] = [
    &["asimd", "crc32", "atomics", "asimdrdm"],
    &["dcpop"],
    &["jscvt", "fcma", "lrcpc", "paca", "pacg"],
    &["asimddp", "dit", "flagm", "ilrcpc", "uscat"],
    &["dcpodp", "flagm2", "frint", "sb", "ssbs", "bti"],
    &["bf16", "i8mm", "ecv"],
];
/// The features that v9.0 adds to v8.5, and v9.1 to v9.0 and v8.6.
const V9: [&[&str]; 2] = [&["sve", "sve2"], &["svebf16", "svei8mm"]];
/// The minor number of the v8 in v9.0.
const V9_STARTS: usize = 5;
/// The minor number of the v8 from which a core with half-precision arithmetic has its multiply-add, too (FEAT_FHM).
const FHM: usize = 4;

/// The highest version that the features prove, v9.1 at most.
pub(super) fn proven(has: impl Fn(&str) -> bool) -> Isa {
    let all = |names: &[&str]| names.iter().all(|name| has(name));
    let follows =
        |&(at, names): &(usize, &&[&str])| all(names) && (at + 1 < FHM || !has("asimdhp") || has("asimdfhm"));
    let v8 = V8.iter().enumerate().take_while(follows).count();
    let most = (v8 + 1).saturating_sub(V9_STARTS).min(V9.len());
    match V9[..most].iter().take_while(|names| all(names)).count() {
        0 => Isa::V8(v8 as u8),
        versions => Isa::V9((versions - 1) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(features: &str) -> Isa {
        proven(|name| features.split(' ').any(|feature| feature == name))
    }

    #[test]
    fn boards_whose_cores_are_known_are_proven_no_higher() {
        // Features of recorded boards, what they prove, and what the core is by its manual.
        let m1 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop \
                  sha3 asimddp sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp flagm2 frint";
        let m2 = format!("{m1} i8mm bf16 bti ecv");
        let n2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop \
                  sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp sve2 sveaes \
                  svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svebf16 i8mm bf16 bti";
        for (board, features, proven, core) in [
            ("Cortex-A53", "fp asimd evtstrm aes crc32 cpuid", Isa::V8(0), Isa::V8(0)),
            ("ThunderX", "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics cpuid", Isa::V8(0), Isa::V8(0)),
            ("ThunderX2", "fp asimd evtstrm aes crc32 atomics cpuid asimdrdm", Isa::V8(1), Isa::V8(1)),
            (
                "Cortex-A76",
                "fp asimd crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
                Isa::V8(2),
                Isa::V8(2),
            ),
            (
                "Kunpeng 920",
                "fp asimd crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma dcpop asimddp asimdfhm",
                Isa::V8(2),
                Isa::V8(2),
            ),
            ("Apple M1", m1, Isa::V8(4), Isa::V8(4)),
            ("Apple M2", &m2, Isa::V8(6), Isa::V8(6)),
            ("Neoverse-N2", n2, Isa::V9(0), Isa::V9(0)),
            ("Neoverse-N2, with ecv", &format!("{n2} ecv"), Isa::V9(1), Isa::V9(1)),
            // A kernel that hides pointer authentication: Neoverse-V2 of an Nvidia Grace.
            ("without PAuth", &n2.replace(" paca pacg", ""), Isa::V8(2), Isa::V9(0)),
            ("without SVE2", &n2.replace("sve2", "sve1"), Isa::V8(5), Isa::V9(0)),
            (
                "a kernel before Linux 4.3",
                "fp asimd evtstrm aes pmull sha1 sha2 crc32",
                Isa::V8(0),
                Isa::V8(2),
            ),
            ("a 32-bit view", "half thumb neon vfpv4 asimdhp asimddp crc32", Isa::V8(0), Isa::V8(2)),
            ("nothing", "", Isa::V8(0), Isa::V8(0)),
        ] {
            assert_eq!(of(features), proven, "{board}");
            assert!(proven.rank() <= core.rank(), "{board}");
        }
    }

    #[test]
    fn each_feature_is_needed_for_its_version_and_all_above() {
        let chain = V8.concat();
        let all: Vec<&str> = [&chain[..], &V9.concat(), &["fphp", "asimdhp", "asimdfhm"]].concat();
        assert_eq!(of(&all.join(" ")), Isa::V9(1));
        let without = |name: &str| {
            let rest: Vec<_> = all.iter().copied().filter(|feature| *feature != name).collect();
            of(&rest.join(" "))
        };
        for (at, names) in V8.iter().enumerate() {
            for name in *names {
                // Without v8.6 there is v9.0 still.
                let want = if at == V9_STARTS { Isa::V9(0) } else { Isa::V8(at as u8) };
                assert_eq!(without(name), want, "{name}");
            }
        }
        assert_eq!(without("sve"), Isa::V8(6));
        assert_eq!(without("sve2"), Isa::V8(6));
        assert_eq!(without("svebf16"), Isa::V9(0));
        assert_eq!(without("asimdfhm"), Isa::V8(3));
    }
}
