//! `--variant` and `--platform`: what the user orders stands above all evidence.

use super::candidates::{self, Candidates, push};
use super::decide::{self, Verdict};
use super::evidence::{Evidence, Source};
use super::variant::{self, Name, Platform};
use crate::error::{Error, Kind, Result};

/// What the user ordered.
pub(super) struct Order<'a> {
    variant: Option<Name>,
    platform: Option<&'a Platform>,
}

impl<'a> Order<'a> {
    /// Reads the two options; `None` where neither orders anything.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a variant that does not exist, and for two options that disagree.
    pub fn read(variant: Option<&str>, platform: Option<&'a Platform>) -> Result<Option<Order<'a>>> {
        let variant = match variant {
            Some(text) => read_variant(text)?,
            None => None,
        };
        if let (Some(variant), Some(platform)) = (&variant, platform) {
            let is_arm = matches!(platform.architecture.as_str(), "arm" | "arm64");
            if !is_arm || platform.variant != *variant {
                let message =
                    format!("--variant {variant} and --platform {platform} name different platforms");
                return Err(Error::new(Kind::Usage, message).hint("give only one of them"));
            }
        }
        let given = variant.is_some() || platform.is_some();
        Ok(given.then_some(Order { variant, platform }))
    }

    /// The verdict with the order in its place.
    pub fn apply(&self, evidence: &mut Evidence, verdict: Verdict) -> Verdict {
        evidence.decided_by.clear();
        evidence.decided(Source::Order);
        let mut list = Candidates::new();
        match (self.platform, &self.variant) {
            (Some(platform), _) => push_platform(&mut list, platform),
            (None, Some(variant)) => push_variant(&mut list, variant, evidence, verdict.arm_32_bit_kernel),
            (None, None) => return verdict,
        }
        Verdict { candidates: list, refusal: None, ..verdict }
    }
}

/// `auto` is `None`; otherwise the normalized variant.
fn read_variant(text: &str) -> Result<Option<Name>> {
    if text.trim().eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    let arm = Platform::new("linux", "arm", text).variant;
    if matches!(arm.as_str(), "v5" | "v6" | "v7") && !text.trim().is_empty() {
        return Ok(Some(arm));
    }
    let arm64 = Platform::new("linux", "arm64", text).variant;
    if variant::arm64_version(&arm64).is_some() && !text.trim().is_empty() {
        return Ok(Some(arm64));
    }
    let shown = variant::name(text);
    Err(Error::new(Kind::Usage, format!("--variant '{shown}' does not exist"))
        .hint("choose auto, v5, v6, v7, v8, v8.1 to v8.9, or v9 to v9.9"))
}

/// The platform as ordered, and the lower variants of the same architecture.
fn push_platform(list: &mut Candidates, platform: &Platform) {
    let why = format_args!("ordered by --platform {platform}");
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("arm", "v8") => push_arm_v8(list, why),
        ("arm", variant) => candidates::push_arm(list, level(variant), false, why),
        ("arm64", variant) => candidates::push_arm64_order(list, variant, why),
        ("amd64" | "riscv64", variant) => candidates::push_levels(list, platform, variant, why),
        _ => push(list, platform.clone(), why),
    }
    for candidate in list {
        candidate.platform.os = platform.os.clone();
    }
}

fn push_variant(list: &mut Candidates, variant: &str, evidence: &Evidence, arm_32_bit_kernel: bool) {
    let why = format_args!("ordered by --variant {variant}");
    match variant {
        "v5" | "v6" | "v7" => candidates::push_arm(list, level(variant), false, why),
        // Under a 32-bit kernel, v8 can only be the 32-bit side of it.
        "v8" if arm_32_bit_kernel => push_arm_v8(list, why),
        _ => {
            candidates::push_arm64_order(list, variant, why);
            if let Some(proof) = decide::runs_aarch32(evidence) {
                decide::push_aarch32(list, proof);
            }
        }
    }
}

fn push_arm_v8(list: &mut Candidates, why: std::fmt::Arguments<'_>) {
    push(list, candidates::arm(8), why);
    candidates::push_arm(list, 7, false, format_args!("v8 cores run v7 code"));
}

/// `v5` to 5.
fn level(variant: &str) -> u8 {
    match variant {
        "v5" => 5,
        "v6" => 6,
        _ => 7,
    }
}
