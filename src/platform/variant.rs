//! Platform names: one spelling for each, whatever the image, the user or the kernel calls it.
//!
//! Registries are full of synonyms (`aarch64`, `armhf`, `arm` + `7`, `arm64` without a variant). Every
//! [`Platform`] is normalized when it is made, so that `==` is the whole comparison everywhere else.
//! The target names are Go's GOOS and GOARCH, as the OCI image-spec wants ("Image Index Specification",
//! `platform`), plus the variants of its table.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// Longest platform name part kept, in bytes. Real ones have at most ten.
pub const MAX_NAME: usize = 32;

/// One part of a platform's name, bounded so that no manifest decides how much is stored.
pub type Name = heapless::String<MAX_NAME>;

/// What an image is for, or what a host can run; always normalized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// GOOS: `linux`, `windows`, `darwin`, ...
    pub os: Name,
    /// GOARCH: `arm`, `arm64`, `amd64`, ...
    pub architecture: Name,
    /// `v5` to `v8` for arm, `v8` and up for arm64, `v2` to `v4` for amd64; empty where there is none.
    pub variant: Name,
}

/// The GOARCH values that images are labelled with.
pub(super) const ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc", "ppc64",
    "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc64", "wasm",
];

/// The GOOS values that images are labelled with.
pub(super) const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];

/// What every refused `--platform` shows.
const EXAMPLES: &str =
    "write it as linux/arm/v6, linux/arm64, linux/amd64 or, for Linux, just arm64 or armhf";

impl Platform {
    /// The normalized platform. Over-long parts are cut and end with `~`, and characters that no name
    /// has become `?` (a manifest must not reach the terminal raw): neither can equal a real name.
    pub fn new(os: &str, arch: &str, variant: &str) -> Platform {
        let os = name(os);
        // Lists made by hand have both in one field: `arm/v7`, `arm64/v8`.
        let (arch, inner) = arch.split_once('/').unwrap_or((arch, ""));
        // What the word for the architecture says itself: `armv7`, `arm/v7`. `armhf` says no more than that something is
        // meant that has an FPU: Debian's v7, Raspbian's v6.
        let says_version = !inner.is_empty() || numbered_architecture(&name(arch)).is_some();
        let (architecture, implied) = architecture(name(arch));
        let inner = normal_variant(&architecture, &name(inner));
        let implied = if inner.is_empty() { implied } else { inner };
        let variant = name(variant);
        let variant = match variant.as_str() {
            "" => implied,
            given => {
                let given = normal_variant(&architecture, given);
                // Of two versions the higher one: code for it is not to be met by a board that has the lower.
                let is_higher = matches!(&*architecture, "arm" | "arm64") && says_version && implied > given;
                if is_higher { implied } else { given }
            }
        };
        let variant = match (architecture.as_str(), variant.as_str()) {
            // The oldest hard-float label: Docker's and containerd's default for plain `arm`.
            ("arm", "") => name("v7"),
            ("arm64", "") => name("v8"),
            // What all images of the architecture are built for where nobody says more.
            ("amd64", "v1") | ("riscv64", "rva20u64") => Name::new(),
            _ => variant,
        };
        let os = if os == "macos" { name("darwin") } else { os };
        Platform { os, architecture, variant }
    }

    /// Reads what a user writes: `OS/ARCH[/VARIANT]`, or an architecture alone, which means Linux.
    ///
    /// # Errors
    /// [`Kind::Usage`] for names that no image has, with examples.
    pub fn parse(text: &str) -> Result<Platform> {
        let text = text.trim();
        let mut parts = text.split('/');
        let (first, second, third) = (parts.next().unwrap_or(""), parts.next(), parts.next());
        if parts.next().is_some() {
            return Err(refused(text, "it has more than three parts"));
        }
        if first.is_empty() || second == Some("") || third == Some("") {
            return Err(refused(text, "a part of it is empty"));
        }
        let platform = match (second, third) {
            (None, _) => Platform::new("linux", first, ""),
            // `arm/v6` and `arm64/v8`: an architecture in the first place, so the system is left out.
            (Some(variant), None) if is_architecture(first) => Platform::new("linux", first, variant),
            (Some(arch), variant) => Platform::new(first, arch, variant.unwrap_or("")),
        };
        if !SYSTEMS.contains(&platform.os.as_str()) {
            return Err(refused(text, format_args!("'{}' is not an operating system", platform.os)));
        }
        if !is_architecture(&platform.architecture) {
            return Err(match SYSTEMS.contains(&platform.architecture.as_str()) {
                true => refused(text, "it has no architecture"),
                false => refused(text, format_args!("'{}' is not an architecture", platform.architecture)),
            });
        }
        if !platform.has_known_variant() {
            let what = format_args!("{} has no variant '{}'", platform.architecture, platform.variant);
            return Err(refused(text, what));
        }
        Ok(platform)
    }

    /// Reads a platform with the features that its system is said to have, as containerd writes them:
    /// `linux(+gpu)/arm64`. Without parentheses it is as [`Platform::parse`].
    ///
    /// # Errors
    /// [`Kind::Usage`], also for a version in the parentheses, which no image for Linux has.
    pub fn parse_with_features(text: &str) -> Result<(Platform, Vec<String>)> {
        let Some((os, rest)) = text.split_once('(') else { return Ok((Platform::parse(text)?, Vec::new())) };
        let Some((inner, rest)) = rest.split_once(')') else {
            return Err(refused(text, "a parenthesis is open"));
        };
        let Some(features) = inner.strip_prefix('+') else {
            return Err(refused(text, "in the parentheses stand features, as in linux(+gpu)/arm64"));
        };
        let features: Vec<String> = features.split('+').map(str::to_owned).collect();
        if features.iter().any(String::is_empty) {
            return Err(refused(text, "a feature is empty"));
        }
        Ok((Platform::parse(&format!("{os}{rest}"))?, features))
    }

    /// Writes the platform with these features, as [`Platform::parse_with_features`] reads it.
    pub fn with_features(&self, features: &[String]) -> String {
        let name = self.to_string();
        match (features, name.split_once('/')) {
            ([], _) | (_, None) => name,
            (_, Some((os, rest))) => format!("{os}(+{})/{rest}", features.join("+")),
        }
    }

    /// Reads the platform of a label or of a config; `None` where that does not say an architecture, as in images of Docker
    /// before 0.6. Without an OS it is Linux: the only one then, and what containerd's matcher makes of it on every board
    /// that edgepull is for.
    pub fn labelled(os: &str, architecture: &str, variant: Option<&str>) -> Option<Platform> {
        let os = if os.is_empty() { "linux" } else { os };
        (!architecture.is_empty()).then(|| Platform::new(os, architecture, variant.unwrap_or_default()))
    }

    /// True for `unknown/unknown`, the label of entries that are no image but attestations about one.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }

    /// True where the variant is one that the architecture can have.
    fn has_known_variant(&self) -> bool {
        match (self.architecture.as_str(), self.variant.as_str()) {
            ("arm", variant) => matches!(variant, "v5" | "v6" | "v7" | "v8"),
            ("arm64", variant) => arm64_version(variant).is_some(),
            ("amd64", variant) => matches!(variant, "" | "v2" | "v3" | "v4"),
            _ => true,
        }
    }
}

/// What somebody has written, for a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{variant}"),
        }
    }
}

/// Major and minor number of an arm64 variant: `v8` is (8, 0), `v9.2` is (9, 2).
pub fn arm64_version(variant: &str) -> Option<(u8, u8)> {
    let digits = variant.strip_prefix('v')?;
    let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    match (major, minor.as_bytes()) {
        ("8", [minor @ b'0'..=b'9']) => Some((8, minor - b'0')),
        ("9", [minor @ b'0'..=b'9']) => Some((9, minor - b'0')),
        _ => None,
    }
}

/// True for a name that some image's `architecture` has, after normalization.
pub fn is_architecture(text: &str) -> bool {
    let (architecture, _) = architecture(name(text));
    ARCHITECTURES.contains(&architecture.as_str())
}

/// Lower case, bounded, printable.
pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::new();
    for c in text.trim().chars() {
        let c = if c.is_ascii_graphic() && c != '/' { c.to_ascii_lowercase() } else { '?' };
        if name.push(c).is_err() {
            name.pop();
            // Always fits: one byte was just taken away.
            let _ = name.push('~');
            break;
        }
    }
    name
}

/// The GOARCH for a name from GNU triplets, Debian, Docker or `uname -m`, and the variant it implies.
fn architecture(given: Name) -> (Name, Name) {
    let (architecture, variant) = match given.as_str() {
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", ""),
        "x86_64" | "x86-64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "armhf" | "armhfp" => ("arm", "v7"),
        // Debian's armel is ARMv5TE with soft floats. containerd reads it as v6, which would let a
        // hard-float v6 image stand for it, and hide the only image that a v5 board has.
        "armel" => ("arm", "v5"),
        "ppc64el" => ("ppc64le", ""),
        "mipsel" => ("mipsle", ""),
        "mips64el" => ("mips64le", ""),
        "loongarch64" => ("loong64", ""),
        other => return numbered_architecture(other).unwrap_or((given, Name::new())),
    };
    (name(architecture), name(variant))
}

/// `armv7l`, `armv6hf`, `arm32v7`, `arm64v8`: architecture and variant in one word.
///
/// `armv8` becomes `arm` v8, although some use it for arm64: `armv8l` is what a 64-bit kernel tells
/// 32-bit programs, so the word stands for 32-bit code; as arm64 it could be run where it cannot.
fn numbered_architecture(text: &str) -> Option<(Name, Name)> {
    let (architecture, variant) = match text {
        _ if text.starts_with("arm64v") => ("arm64", &text[5..]),
        _ if text.starts_with("arm32v") => ("arm", &text[5..]),
        _ if text.starts_with("armv") => ("arm", &text[3..]),
        _ => return None,
    };
    let variant = normal_variant(architecture, variant);
    let known = match architecture {
        "arm64" => arm64_version(&variant).is_some(),
        _ => matches!(variant.as_str(), "v4" | "v5" | "v6" | "v7" | "v8"),
    };
    known.then(|| (name(architecture), variant))
}

/// `7`, `7l`, `v7-a`, `V7`, `armv7l` to `v7`; `8.0` to `v8`; `rva22` to `rva22u64`. What is not a version with a
/// little-endian suffix stays as it is and so equals nothing: `v7b` is big-endian, `v7m` a microcontroller.
fn normal_variant(architecture: &str, text: &str) -> Name {
    match architecture {
        "arm" if matches!(text, "armhf" | "armhfp") => return name("v7"),
        "arm" if text == "armel" => return name("v5"),
        "arm" | "arm64" | "amd64" => {}
        "riscv64" if matches!(text, "rva20" | "rva22" | "rva23") => return name(&format!("{text}u64")),
        _ => return name(text),
    }
    // The whole word of `uname -m`, and of the talks that showed manifest-tool: `"variant": "armv6l"`, `"armv8"`.
    let word = text.strip_prefix("arm").filter(|rest| architecture != "amd64" && rest.starts_with('v'));
    let bare = word.unwrap_or(text);
    let bare = bare.strip_prefix('v').unwrap_or(bare);
    let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let (version, suffix) = bare.split_at(end);
    let harmless = matches!(
        suffix,
        "" | "l"
            | "a"
            | "-a"
            | "al"
            | "t"
            | "te"
            | "tel"
            | "tej"
            | "tejl"
            | "tl"
            | "hf"
            | "hl"
            | "k"
            | "z"
            | "kz"
            | "zk"
            | "neon"
    );
    if version.is_empty() || !harmless {
        return name(text);
    }
    let mut normal = name("v");
    let version = version.strip_suffix(".0").unwrap_or(version);
    match normal.push_str(version) {
        Ok(()) => normal,
        Err(_) => name(text),
    }
}

/// The one error of [`Platform::parse`].
fn refused(text: &str, why: impl fmt::Display) -> Error {
    Error::new(Kind::Usage, format!("platform '{}': {why}", shown(text))).hint(EXAMPLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(os: &str, arch: &str, variant: &str) -> String {
        Platform::new(os, arch, variant).to_string()
    }

    #[test]
    fn synonyms_get_one_name() {
        for (arch, variant, want) in [
            ("i686", "", "linux/386"),
            ("x86_64", "v1", "linux/amd64"),
            ("amd64", "2", "linux/amd64/v2"),
            ("aarch64", "", "linux/arm64/v8"),
            ("arm64", "8", "linux/arm64/v8"),
            ("arm64", "v8.0", "linux/arm64/v8"),
            ("arm64", "v8.2", "linux/arm64/v8.2"),
            ("arm64", "9.0", "linux/arm64/v9"),
            ("arm", "", "linux/arm/v7"),
            ("arm", "6l", "linux/arm/v6"),
            ("arm", "5TE", "linux/arm/v5"),
            ("ARM", "V7-A", "linux/arm/v7"),
            ("armhf", "", "linux/arm/v7"),
            ("armhf", "v6", "linux/arm/v6"),
            ("armel", "", "linux/arm/v5"),
            ("armv5tejl", "", "linux/arm/v5"),
            ("armv6l", "", "linux/arm/v6"),
            ("armv7l", "", "linux/arm/v7"),
            ("armv7", "v7", "linux/arm/v7"),
            ("armv7", "v6", "linux/arm/v7"),
            ("arm/v7", "v6", "linux/arm/v7"),
            ("arm/v6", "v7", "linux/arm/v7"),
            ("armv7l", "v5", "linux/arm/v7"),
            ("arm64/v8", "v8.2", "linux/arm64/v8.2"),
            ("arm64/v9", "v8", "linux/arm64/v9"),
            ("aarch64", "v7", "linux/arm64/v7"),
            ("arm", "armhf", "linux/arm/v7"),
            ("arm", "armel", "linux/arm/v5"),
            ("armv8", "", "linux/arm/v8"),
            ("armv8l", "", "linux/arm/v8"),
            ("arm32v6", "", "linux/arm/v6"),
            ("arm64v8", "", "linux/arm64/v8"),
            ("ppc64el", "", "linux/ppc64le"),
            ("riscv64", "", "linux/riscv64"),
            ("riscv64", "rva20u64", "linux/riscv64"),
            ("riscv64", "rva22", "linux/riscv64/rva22u64"),
            ("arm", "armv6l", "linux/arm/v6"),
            ("arm", "ARMv7", "linux/arm/v7"),
            ("arm", "armv7l", "linux/arm/v7"),
            ("arm", "armv8", "linux/arm/v8"),
            ("arm64", "armv8", "linux/arm64/v8"),
            ("arm64", "armv8-a", "linux/arm64/v8"),
            ("arm64", "armv8.2-a", "linux/arm64/v8.2"),
            ("arm/v7", "", "linux/arm/v7"),
            ("arm/v6", "", "linux/arm/v6"),
            ("arm64/v8", "", "linux/arm64/v8"),
            ("arm/v7", "v7", "linux/arm/v7"),
            ("amd64/v2", "", "linux/amd64/v2"),
        ] {
            assert_eq!(normal("Linux", arch, variant), want, "{arch} {variant}");
        }
        assert_eq!(normal("macOS", "arm64", ""), "darwin/arm64/v8");
    }

    #[test]
    fn what_is_not_a_little_endian_application_core_equals_nothing() {
        for (arch, variant) in [
            ("armv7b", ""),
            ("armv7ml", ""),
            ("armeb", ""),
            ("arm", "v7b"),
            ("arm", "v7m"),
            ("arm", "v77777"),
            ("arm", "armv7b"),
            ("arm", "armv7m"),
            ("arm", "arm64v8"),
            ("arm/v7b", ""),
        ] {
            let odd = Platform::new("linux", arch, variant);
            for variant in ["v5", "v6", "v7", "v8"] {
                assert_ne!(odd, Platform::new("linux", "arm", variant));
            }
        }
    }

    #[test]
    fn long_and_hostile_names_are_cut_and_cleaned() {
        let long = Platform::new("linux", &"a".repeat(100_000), "v7\u{1b}[2J\n");
        assert_eq!(long.architecture.len(), MAX_NAME);
        assert!(long.architecture.ends_with('~'));
        assert_eq!(long.variant, "v7?[2j");
        assert_eq!(Platform::new("linux", "arm/v7/x", "").variant, "v7?x");
        assert_eq!(
            Platform::new("linux", &format!("arm{}", "é".repeat(40)), "").architecture.len(),
            MAX_NAME
        );
    }

    #[test]
    fn users_may_write_it_short() {
        for (text, want) in [
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm64", "linux/arm64/v8"),
            ("arm64", "linux/arm64/v8"),
            ("armhf", "linux/arm/v7"),
            ("arm/v6", "linux/arm/v6"),
            (" linux/amd64 ", "linux/amd64"),
            ("windows/amd64", "windows/amd64"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn a_wrong_platform_is_a_usage_error_that_says_what_is_wrong() {
        for (text, what) in [
            ("", "empty"),
            ("linux/", "empty"),
            ("linux", "no architecture"),
            ("linux/arm/v6/x", "more than three"),
            ("linux/z80", "'z80' is not an architecture"),
            ("amiga/arm64", "'amiga' is not an operating system"),
            ("linux/arm/v4", "no variant 'v4'"),
            ("linux/arm64/v7", "no variant 'v7'"),
        ] {
            let error = Platform::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
            assert!(error.to_string().contains(what), "{text}: {error}");
            assert!(error.to_string().contains("linux/arm/v6"), "{text}: {error}");
        }
    }

    #[test]
    fn features_of_the_system_stand_in_parentheses() {
        for (text, platform, features) in [
            ("linux(+gpu)/arm64", "linux/arm64/v8", &["gpu"][..]),
            ("linux(+a+b)/arm/v6", "linux/arm/v6", &["a", "b"]),
            ("arm/v6", "linux/arm/v6", &[]),
        ] {
            let (parsed, found) = Platform::parse_with_features(text).unwrap();
            assert_eq!((parsed.to_string().as_str(), found.join(",")), (platform, features.join(",")));
            let written = parsed.with_features(&found);
            assert_eq!(Platform::parse_with_features(&written).unwrap(), (parsed, found), "{written}");
        }
        for text in ["linux(+gpu/arm64", "linux(gpu)/arm64", "linux(10.0+a)/arm64", "linux(+)/arm64", "(+a)"]
        {
            assert_eq!(Platform::parse_with_features(text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn attestations_are_known_by_their_label() {
        assert!(Platform::new("unknown", "unknown", "").is_unknown());
        assert!(!Platform::new("linux", "arm64", "").is_unknown());
    }
}
