//! Who the board is: gathers the evidence, lets the rules decide, and keeps both for the user to see.

use super::candidates::{Candidate, Candidates};
use super::cpuinfo::{Cpuinfo, Family};
use super::decide::{self, Refusal, Verdict};
use super::evidence::{Evidence, Origin, Source};
use super::live;
use super::order::Order;
use super::variant::{Name, Platform};
use crate::error::Result;

/// What the command line says about the board.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// `--variant`; `auto` is the same as `None`.
    pub variant: Option<&'a str>,
    /// `--platform`.
    pub platform: Option<&'a Platform>,
    /// The features in `--platform`: what images may require of the system.
    pub features: &'a [String],
    /// `--cpuinfo`: the bytes of a recorded file; at most
    /// [`cpuinfo::MAX_BYTES`](super::cpuinfo::MAX_BYTES) of them are looked at.
    pub cpuinfo: Option<&'a [u8]>,
    /// `--machine`: a recorded `uname -m`.
    pub machine: Option<&'a str>,
}

/// The board, as far as it matters for choosing an image.
#[derive(Clone, Debug)]
pub struct Host {
    /// GOOS of the best candidate; `linux` where there is none.
    pub os: Name,
    /// GOARCH of the best candidate; `None` where no image can run.
    pub architecture: Option<Name>,
    /// Variant of the best candidate; empty where it has none.
    pub variant: Name,
    /// What the board can run, best first; empty where nothing can.
    pub candidates: Candidates,
    /// What was observed, and which of it decided.
    pub evidence: Evidence,
    /// Why no image can run.
    pub refusal: Option<Refusal>,
    /// Holds what the user says that the system has.
    ordered_features: Vec<String>,
}

impl Host {
    /// Detects the board. With a recorded cpuinfo or machine the result depends on these alone; nothing
    /// of the machine edgepull runs on is looked at. Allocates nothing, except for an error's text and a copy of the features.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for options that make no sense. A board that can run
    /// nothing is no error here but a [`refusal`](Host::refusal).
    pub fn detect(inputs: &Inputs<'_>) -> Result<Host> {
        let order = Order::read(inputs.variant, inputs.platform)?;
        let evidence = match (inputs.cpuinfo, inputs.machine) {
            (None, None) => live::observe(),
            (cpuinfo, machine) => recorded(cpuinfo, machine),
        };
        Ok(Host { ordered_features: inputs.features.to_vec(), ..Host::from_evidence(evidence, order) })
    }

    fn from_evidence(mut evidence: Evidence, order: Option<Order<'_>>) -> Host {
        let verdict = decide::decide(&mut evidence);
        let Verdict { candidates, refusal, .. } = match order {
            Some(order) => order.apply(&mut evidence, verdict),
            None => verdict,
        };
        let best = candidates.first().map(|candidate: &Candidate| candidate.platform.clone());
        let (os, architecture, variant) = match best {
            Some(platform) => (platform.os, Some(platform.architecture), platform.variant),
            None => (Platform::new("linux", "", "").os, None, Name::new()),
        };
        Host { os, architecture, variant, candidates, evidence, refusal, ordered_features: Vec::new() }
    }

    /// The features that every core has, as the kernel names them, separated by spaces; `None` where no
    /// evidence lists them.
    pub fn features(&self) -> Option<&str> {
        self.own_cpuinfo()?.features.as_deref()
    }

    /// Whether every core has the feature, by the kernel's name for it or by the one that images use;
    /// `None` where that is unknown.
    pub fn has_feature(&self, name: &str) -> Option<bool> {
        if self.ordered_features.iter().any(|ordered| ordered == name) {
            return Some(true);
        }
        let cpuinfo = self.own_cpuinfo()?;
        let kernels: &[&str] = match name {
            "sse3" => &["pni"], // Prescott New Instructions
            "sse4" => &["sse4_1", "sse4_2"],
            // A 64-bit kernel's names for what every AArch64 core that runs Linux has.
            "neon" if cpuinfo.has("asimd") == Some(true) => &["asimd"],
            "vfp" if cpuinfo.has("fp") == Some(true) => &["fp"],
            _ => &[name],
        };
        kernels.iter().try_fold(true, |all, name| Some(all && cpuinfo.has(name)?))
    }

    /// As [`Host::has_feature`], but `None` unless this is an Arm machine: another's list of features
    /// says nothing about the board that an image was ordered for.
    pub fn has_arm_feature(&self, name: &str) -> Option<bool> {
        self.own_cpuinfo().filter(|cpuinfo| cpuinfo.family() == Family::Arm)?.has(name)
    }

    /// Whether the user has said what to take, by `--platform` or `--variant`.
    pub fn is_ordered(&self) -> bool {
        self.evidence.decided_by.contains(&Source::Order)
    }

    fn own_cpuinfo(&self) -> Option<&Cpuinfo> {
        self.evidence.own_cpuinfo()
    }
}

/// Evidence about another machine.
fn recorded(cpuinfo: Option<&[u8]>, machine: Option<&str>) -> Evidence {
    let origin = if cpuinfo.is_some() { Origin::Recorded } else { Origin::NotAsked };
    let mut evidence = Evidence::new(origin);
    if let Some(bytes) = cpuinfo {
        evidence.cpuinfo = Cpuinfo::parse(bytes);
    }
    evidence.machine = machine.map(|machine| {
        let mut kept = heapless::String::new();
        // What is longer than the room is no machine that exists; the rest of it is not missed.
        for c in machine.trim().chars().take(64) {
            let _ = kept.push(if c.is_ascii_graphic() { c } else { '?' });
        }
        kept
    });
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::evidence::Userland;

    const ARM32: &str = "linux/arm/v7 linux/arm/v8 linux/arm/v6 linux/arm/v5";

    /// A live board; what a real one cannot be made to say is said here.
    fn board(cores: &[&str], machine: &str) -> Evidence {
        let mut evidence = Evidence::new(Origin::Live);
        let fields = cores.iter().map(|core| {
            let (implementer, part) = core.split_once('/').unwrap();
            format!("Features: fp asimd\nCPU implementer: {implementer}\nCPU architecture: 8\nCPU part: {part}\n\n")
        });
        evidence.cpuinfo = Cpuinfo::parse(fields.collect::<String>().as_bytes());
        evidence.machine = Some(machine.try_into().unwrap());
        evidence
    }

    fn installed(bits: u8, machine: u16) -> Option<Userland> {
        Some(Userland { bits, big_endian: false, machine, file: "/proc/1/exe" })
    }

    #[test]
    fn features_by_the_names_that_images_use() {
        let features = |cpuinfo: &str, machine| {
            let inputs =
                Inputs { cpuinfo: Some(cpuinfo.as_bytes()), machine: Some(machine), ..Default::default() };
            Host::detect(&inputs).unwrap()
        };
        let a53 =
            features("Features\t: fp asimd crc32\nCPU implementer\t: 0x41\nCPU part\t: 0xd03\n", "aarch64");
        let a9 =
            features("Features\t: half thumb vfp\nCPU implementer\t: 0x41\nCPU part\t: 0xc09\n", "armv7l");
        let pc = features("vendor_id\t: GenuineIntel\nflags\t\t: fpu pni sse4_1\n", "x86_64");
        assert_eq!(
            ["neon", "vfp", "aes"].map(|name| a53.has_feature(name)),
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(["neon", "vfp"].map(|name| a9.has_feature(name)), [Some(false), Some(true)]);
        assert_eq!(["sse3", "sse4"].map(|name| pc.has_feature(name)), [Some(true), Some(false)]);
    }

    fn list(evidence: Evidence) -> String {
        let host = Host::from_evidence(evidence, None);
        let names: Vec<_> = host.candidates.iter().map(|candidate| candidate.platform.to_string()).collect();
        names.join(" ")
    }

    #[test]
    fn arm_behind_arm64_only_where_the_kernel_says_so() {
        for (probe, want) in
            [(Some(true), format!("linux/arm64/v8 {ARM32}")), (Some(false), "linux/arm64/v8".into())]
        {
            let mut evidence = board(&["0x41/0xd03"], "aarch64");
            evidence.aarch32_probe = probe;
            assert_eq!(list(evidence), want);
        }
        // A seccomp filter forbids the question: the core could, but the kernel may be built without.
        assert_eq!(list(board(&["0x41/0xd03"], "aarch64")), "linux/arm64/v8");
    }

    #[test]
    fn an_old_kernel_that_accepts_everything_is_not_believed() {
        let mut evidence = board(&["0x43/0x0a1"], "aarch64");
        evidence.aarch32_probe = Some(true);
        assert_eq!(list(evidence), "linux/arm64/v8");
    }

    #[test]
    fn an_unknown_core_is_asked_through_the_kernel() {
        let mut evidence = board(&["0x41/0xd46"], "aarch64");
        evidence.aarch32_probe = Some(true);
        let got = list(evidence);
        assert!(got.starts_with("linux/arm64/v8 ") && got.ends_with(ARM32), "{got}");
    }

    #[test]
    fn a_32_bit_userland_on_a_64_bit_kernel_comes_first_and_says_so() {
        let mut evidence = board(&["0x41/0xd03"], "aarch64");
        evidence.userland = installed(32, 40);
        let host = Host::from_evidence(evidence.clone(), None);
        assert_eq!(list(evidence), format!("{ARM32} linux/arm64/v8"));
        let reason = host.candidates[0].reason.as_str();
        assert!(reason.contains("userland is 32-bit (/proc/1/exe)"), "{reason}");
        assert!(host.candidates.last().unwrap().reason.contains("the kernel is 64-bit"));
        assert!(host.evidence.decided_by.contains(&Source::Userland));
    }

    #[test]
    fn a_64_bit_userland_keeps_arm64_first() {
        let mut evidence = board(&["0x41/0xd03"], "aarch64");
        evidence.userland = installed(64, 183);
        evidence.aarch32_probe = Some(true);
        assert_eq!(list(evidence.clone()), format!("linux/arm64/v8 {ARM32}"));
        // Even when edgepull itself was started through linux32.
        evidence.machine = Some("armv8l".try_into().unwrap());
        assert_eq!(list(evidence), format!("linux/arm64/v8 {ARM32}"));
    }

    #[test]
    fn at_platform_can_lower_but_not_raise() {
        let mut evidence = board(&[], "armv7l");
        evidence.at_platform = Some("v6l".try_into().unwrap());
        assert_eq!(list(evidence), "linux/arm/v6 linux/arm/v5");
        let mut evidence = board(&[], "armv6l");
        evidence.at_platform = Some("v7l".try_into().unwrap());
        assert_eq!(list(evidence), "linux/arm/v6 linux/arm/v5");
    }

    #[test]
    fn x86_follows_its_userland_too() {
        let mut evidence = board(&[], "x86_64");
        evidence.userland = installed(32, 3);
        assert_eq!(list(evidence), "linux/386 linux/amd64");
    }

    #[test]
    fn byte_order_comes_from_programs_where_uname_is_silent() {
        let mut evidence = board(&[], "mips");
        assert_eq!(list(evidence.clone()), "linux/mips");
        evidence.userland = installed(32, 8);
        assert_eq!(list(evidence), "linux/mipsle");
        let mut evidence = board(&["0x41/0xd03"], "aarch64");
        evidence.userland = Some(Userland { bits: 64, big_endian: true, machine: 183, file: "/bin/sh" });
        let host = Host::from_evidence(evidence, None);
        assert!(host.refusal.unwrap().contains("/bin/sh is big-endian"));
    }
}
