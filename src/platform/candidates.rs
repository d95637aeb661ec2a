//! The ordered list of platforms, each with the reason why the board can run it.

use std::fmt::{self, Write};

use super::midr::{Isa, V9_IS_V8_PLUS};
use super::variant::{self, Platform};

/// Most candidates: arm64 v8, v9.0 to v9.9, v8.9 to v8.1, four of 32-bit Arm.
pub const MAX_CANDIDATES: usize = 24;

/// Highest minor number of a variant; the names have one digit.
const MAX_MINOR: u8 = 9;

/// Text of bounded length; what is longer is cut.
pub type Reason = heapless::String<160>;

/// A platform that the board can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What an image's entry has to say.
    pub platform: Platform,
    /// Why the board runs it.
    pub reason: Reason,
}

/// Candidates, best first.
pub type Candidates = heapless::Vec<Candidate, MAX_CANDIDATES>;

/// Appends a candidate, unless it is there already or the list is full.
pub(super) fn push(list: &mut Candidates, platform: Platform, reason: fmt::Arguments<'_>) {
    if !list.iter().any(|candidate| candidate.platform == platform) {
        // MAX_CANDIDATES is the longest list that the rules below can make.
        let _ = list.push(Candidate { platform, reason: text(reason) });
    }
}

/// Formats without allocating; cuts what does not fit.
pub(super) fn text<const N: usize>(arguments: fmt::Arguments<'_>) -> heapless::String<N> {
    struct Cutting<const N: usize>(heapless::String<N>);
    impl<const N: usize> Write for Cutting<N> {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            s.chars().try_for_each(|c| self.0.push(c)).map_err(|_| fmt::Error)
        }
    }
    let mut cutting = Cutting(heapless::String::new());
    // An error only says that the room is full.
    let _ = cutting.write_fmt(arguments);
    cutting.0
}

/// `linux/arm/vN`.
pub(super) fn arm(level: u8) -> Platform {
    Platform::new("linux", "arm", &text::<4>(format_args!("v{level}")))
}

/// `linux/arm64/vN` or `linux/arm64/vN.M`.
pub(super) fn arm64(major: u8, minor: u8) -> Platform {
    Platform::new("linux", "arm64", &text::<8>(format_args!("v{major}.{minor}")))
}

/// 32-bit platforms from `level` (5 to 7) down; `and_v8` puts arm/v8 behind v7, for entries labelled so.
pub(super) fn push_arm(list: &mut Candidates, level: u8, and_v8: bool, why: fmt::Arguments<'_>) {
    push(list, arm(level), why);
    if and_v8 && level == 7 {
        push(list, arm(8), format_args!("every core is ARMv8: entries that are labelled so run in 32 bits"));
    }
    for lower in (5..level).rev() {
        push(list, arm(lower), format_args!("v{level} cores run v{lower} code"));
    }
}

/// The 64-bit variants above v8 that a core of this instruction set runs, highest first.
pub(super) fn push_arm64_above(list: &mut Candidates, isa: Isa, sve2: bool, why: fmt::Arguments<'_>) {
    let v8_minor = match isa {
        Isa::V8(minor) => minor,
        Isa::V9(minor) => {
            // v9 code may use SVE2, which kernels and hypervisors can hide.
            for minor in (0..=minor).rev().filter(|_| sve2) {
                push(list, arm64(9, minor), why);
            }
            (minor + V9_IS_V8_PLUS).min(MAX_MINOR)
        }
        _ => 0,
    };
    for minor in (1..=v8_minor).rev() {
        push(list, arm64(8, minor), why);
    }
}

/// A 64-bit variant that the user ordered, and everything below it down to v8.
pub(super) fn push_arm64_order(list: &mut Candidates, variant: &str, why: fmt::Arguments<'_>) {
    let Some((major, minor)) = variant::arm64_version(variant) else { return };
    let isa = if major == 9 { Isa::V9(minor) } else { Isa::V8(minor) };
    push(list, arm64(major, minor), why);
    let lower = format_args!("a host for {variant} runs it too");
    push_arm64_above(list, isa, true, lower);
    push(list, arm64(8, 0), lower);
}

/// x86-64 microarchitecture levels (x86-64 psABI, "Micro-Architecture Levels") and the cpuinfo flags
/// that prove them.
const AMD64_LEVELS: [(&str, &[&str]); 3] = [
    ("v2", &["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"]),
    ("v3", &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"]),
    ("v4", &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
];

/// linux/amd64 and the levels that the flags prove, highest first.
pub(super) fn push_amd64(list: &mut Candidates, has: impl Fn(&str) -> bool, why: fmt::Arguments<'_>) {
    push(list, Platform::new("linux", "amd64", ""), why);
    let proven = AMD64_LEVELS.iter().take_while(|(_, flags)| flags.iter().all(|flag| has(flag))).count();
    for (level, _) in AMD64_LEVELS[..proven].iter().rev() {
        let why = format_args!("the cpuinfo flags have all of x86-64-{level}");
        push(list, Platform::new("linux", "amd64", level), why);
    }
}

/// RISC-V's profiles and the extensions that prove them, of those that a profile makes mandatory and kernels have told
/// since 6.8 (riscv-profiles: RVA22U64 and RVA23U64; arch/riscv/kernel/cpufeature.c).
const RISCV64_PROFILES: [(&str, &[&str]); 2] = [
    ("rva22u64", &["m", "a", "f", "d", "c", "zba", "zbb", "zbs", "zicbom", "zicboz", "zfhmin", "zkt"]),
    (
        "rva23u64",
        &["v", "zvfhmin", "zvbb", "zvkt", "zihintntl", "zicond", "zimop", "zcmop", "zcb", "zfa", "zawrs"],
    ),
];

/// The profiles above the one of all 64-bit RISC-V images that the extensions prove, highest first.
pub(super) fn push_riscv64(list: &mut Candidates, has: impl Fn(&str) -> bool) {
    let proven = RISCV64_PROFILES.iter().take_while(|(_, names)| names.iter().all(|name| has(name))).count();
    for (profile, _) in RISCV64_PROFILES[..proven].iter().rev() {
        let why = format_args!("the isa line of cpuinfo has the extensions of {profile}");
        push(list, Platform::new("linux", "riscv64", profile), why);
    }
}

/// The levels above what all images of the architecture run on, highest first. A profile of RISC-V's runs the ones
/// before it (riscv-profiles: RVA23U64 is a superset of RVA22U64, and that of RVA20U64).
const LEVELS: [(&str, &[&str]); 2] = [("amd64", &["v4", "v3", "v2"]), ("riscv64", &["rva23u64", "rva22u64"])];

/// A platform that the user ordered whose variant is a level, and everything below it.
pub(super) fn push_levels(
    list: &mut Candidates,
    platform: &Platform,
    variant: &str,
    why: fmt::Arguments<'_>,
) {
    push(list, platform.clone(), why);
    let levels = LEVELS.iter().find(|(architecture, _)| platform.architecture == *architecture);
    let lower = levels.map_or(&[][..], |(_, levels)| levels);
    let Some(at) = lower.iter().position(|level| *level == variant) else { return };
    for level in lower[at + 1..].iter().copied().chain([""]) {
        let lower = Platform::new(&platform.os, &platform.architecture, level);
        push(list, lower, format_args!("a host for {variant} runs it too"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &Candidates) -> Vec<String> {
        list.iter().map(|candidate| candidate.platform.to_string()).collect()
    }

    #[test]
    fn a_v9_core_runs_the_v8_editions_it_contains() {
        let mut list = Candidates::new();
        push_arm64_above(&mut list, Isa::V9(1), true, format_args!("x"));
        let want = ["v9.1", "v9", "v8.6", "v8.5", "v8.4", "v8.3", "v8.2", "v8.1"];
        assert_eq!(names(&list), want.map(|v| format!("linux/arm64/{v}")));
    }

    #[test]
    fn a_v9_core_whose_sve2_is_hidden_runs_v8_only() {
        let mut list = Candidates::new();
        push_arm64_above(&mut list, Isa::V9(0), false, format_args!("x"));
        assert_eq!(names(&list)[0], "linux/arm64/v8.5");
    }

    #[test]
    fn an_ordered_level_runs_the_lower_ones() {
        for (ordered, want) in [
            ("linux/amd64", &["linux/amd64"][..]),
            ("linux/amd64/v2", &["linux/amd64/v2", "linux/amd64"]),
            ("linux/amd64/v4", &["linux/amd64/v4", "linux/amd64/v3", "linux/amd64/v2", "linux/amd64"]),
            ("linux/riscv64", &["linux/riscv64"]),
            ("linux/riscv64/rva20u64", &["linux/riscv64"]),
            (
                "linux/riscv64/rva23u64",
                &["linux/riscv64/rva23u64", "linux/riscv64/rva22u64", "linux/riscv64"],
            ),
        ] {
            let mut list = Candidates::new();
            let platform = Platform::parse(ordered).unwrap();
            push_levels(&mut list, &platform, &platform.variant, format_args!("x"));
            assert_eq!(names(&list), want, "{ordered}");
        }
    }

    #[test]
    fn the_longest_list_fits() {
        let mut list = Candidates::new();
        push_arm64_order(&mut list, "v9.9", format_args!("x"));
        push_arm(&mut list, 7, true, format_args!("x"));
        assert_eq!(names(&list).last().unwrap(), "linux/arm/v5");
    }

    #[test]
    fn an_amd64_level_needs_all_lower_ones() {
        let mut list = Candidates::new();
        push_amd64(&mut list, |flag| !flag.starts_with("sse4"), format_args!("x"));
        assert_eq!(names(&list), ["linux/amd64"]);
        let mut list = Candidates::new();
        push_amd64(&mut list, |flag| !flag.starts_with("avx512"), format_args!("x"));
        assert_eq!(names(&list), ["linux/amd64", "linux/amd64/v3", "linux/amd64/v2"]);
    }

    #[test]
    fn a_riscv_profile_needs_all_lower_ones() {
        let mut list = Candidates::new();
        push_riscv64(&mut list, |_| true);
        assert_eq!(names(&list), ["linux/riscv64/rva23u64", "linux/riscv64/rva22u64"]);
        for lacking in ["zkt", "c"] {
            let mut list = Candidates::new();
            push_riscv64(&mut list, |name| name != lacking);
            assert!(list.is_empty());
        }
    }

    #[test]
    fn long_reasons_are_cut_not_lost() {
        assert_eq!(text::<4>(format_args!("{}", "abcdef")), "abcd");
    }
}
