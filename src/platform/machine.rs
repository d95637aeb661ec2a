//! The kernel's words for a CPU: `armv7l` (`uname -m`), `v7l` (AT_PLATFORM and the model name's suffix),
//! `5TEJ` (`CPU architecture`).
//!
//! All name an architecture version, some a byte order (`l`, `b`), a profile (`m`) or the width of the
//! kernel. They come from `arch_name`, `elf_name` and `proc_arch` in Linux `arch/arm/mm/proc-*.S` and
//! `arch/arm/kernel/setup.c`, and `UTS_MACHINE`, `ELF_PLATFORM` and their compat twins on arm64.

use std::fmt;

use super::variant::{self, Name, Platform};

/// How wide a kernel is, as far as a word tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A 32-bit kernel.
    Bits32,
    /// A 64-bit kernel.
    Bits64,
    /// A 64-bit kernel that shows itself to 32-bit programs (`armv8l`: COMPAT_UTS_MACHINE).
    Compat,
    /// The word does not tell.
    Unknown,
}

/// What one of the kernel's words says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As the kernel wrote it, in lower case.
    pub text: heapless::String<24>,
    /// Architecture version; 0 where the word has none (plain `arm`).
    pub level: u8,
    /// The kernel's width.
    pub width: Width,
    /// True for big-endian kernels.
    pub big_endian: bool,
    /// True for the microcontroller profile.
    pub m_profile: bool,
}

impl Word {
    /// Orders from the least capable; what no image is made for comes first.
    pub fn rank(&self) -> u8 {
        if self.big_endian || self.m_profile { 0 } else { self.level }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What `uname -m` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// An Arm kernel.
    Arm(Word),
    /// Another kernel that images exist for, by its GOARCH.
    Other(Name),
    /// A word that nothing is known by.
    Unknown,
}

/// Reads `uname -m`.
pub fn machine(text: &str) -> Machine {
    if let Some(word) = word(text) {
        return Machine::Arm(word);
    }
    match Platform::new("linux", text, "").architecture {
        arm if arm.starts_with("arm") => Machine::Unknown,
        other if variant::is_architecture(&other) => Machine::Other(other),
        _ => Machine::Unknown,
    }
}

/// Reads `armv7l`, `v7l`, `aarch64`, `armv5teb`, `armv7ml`, `aarch64_be`, `armebv5`, `arm`.
pub fn word(given: &str) -> Option<Word> {
    let text = lower(given)?;
    let make = |level, width, big_endian, m_profile| {
        Some(Word { text: text.clone(), level, width, big_endian, m_profile })
    };
    match text.as_str() {
        "aarch64" | "arm64" => return make(8, Width::Bits64, false, false),
        "aarch64_be" | "arm64_be" => return make(8, Width::Bits64, true, false),
        "arm" => return make(0, Width::Bits32, false, false),
        "armeb" | "armbe" => return make(0, Width::Bits32, true, false),
        _ => {}
    }
    let (rest, eb) = match text.strip_prefix("armeb") {
        Some(rest) => (rest, true),
        None => (text.strip_prefix("arm").unwrap_or(&text), false),
    };
    let rest = rest.strip_prefix('v')?.as_bytes();
    let (&digit, suffix) = rest.split_first()?;
    let level = digit.checked_sub(b'0').filter(|level| (1..=8).contains(level))?;
    if !suffix.iter().all(|c| b"abefhjklmtz-".contains(c)) || suffix.len() > 6 {
        return None;
    }
    let width = if level == 8 { Width::Compat } else { Width::Bits32 };
    make(level, width, eb || suffix.ends_with(b"b"), suffix.starts_with(b"m"))
}

/// Reads the field `CPU architecture`: `7`, `5TEJ`, `7M`, `8`, `AArch64`.
pub fn architecture_field(given: &str) -> Option<Word> {
    let text = lower(given)?;
    if text.starts_with("aarch64") {
        return word(&text);
    }
    let (&digit, suffix) = text.as_bytes().split_first()?;
    let level = digit.checked_sub(b'0').filter(|level| (1..=9).contains(level))?;
    if !suffix.iter().all(|c| b".aejklmtz0123456789-".contains(c))
        || suffix.first().is_some_and(u8::is_ascii_digit)
    {
        return None;
    }
    // A 64-bit kernel always prints 8 (fs/proc: arch/arm64/kernel/cpuinfo.c), a 32-bit one never.
    let width = if level >= 8 { Width::Bits64 } else { Width::Bits32 };
    let m_profile = suffix.contains(&b'm');
    Some(Word { level: level.min(8), width, big_endian: false, m_profile, text })
}

/// Reads the suffix in brackets of a model name, `ARM926EJ-S rev 5 (v5l)`; where it has none, the
/// `ARMv6` in front, which the same kernel table gives.
pub fn model_suffix(model: &str) -> Option<Word> {
    let bracketed = model.split('(').skip(1).filter_map(|rest| rest.split_once(')'));
    // The kernel always puts the byte order behind; `(v2)` is some maker's edition.
    let ends = |word: &Word| word.text.ends_with(['l', 'b']) || word.text.starts_with("aarch64");
    let suffix = bracketed.filter_map(|(inside, _)| word(inside)).filter(ends).last();
    suffix.or_else(|| {
        let first = model.split([' ', '-']).next().unwrap_or("");
        let version = first
            .get(..5)
            .filter(|name| name.get(..4).is_some_and(|arm| arm.eq_ignore_ascii_case("armv")))?;
        // An AArch64 kernel says ARMv8 to both widths.
        word(version).map(|w| if w.level == 8 { Word { width: Width::Unknown, ..w } } else { w })
    })
}

fn lower(given: &str) -> Option<heapless::String<24>> {
    let mut text = heapless::String::new();
    for c in given.trim().chars() {
        text.push(c.to_ascii_lowercase()).ok()?;
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(text: &str) -> Option<u8> {
        word(text).map(|word| word.rank())
    }

    #[test]
    fn uname_words_have_a_version() {
        for (text, want) in [
            ("armv4tl", 4),
            ("armv5tejl", 5),
            ("ARMv6l", 6),
            ("armv7l\n", 7),
            ("v7l", 7),
            ("armv8l", 8),
            ("aarch64", 8),
        ] {
            assert_eq!(rank(text), Some(want), "{text}");
        }
        for none in
            ["", "armhf", "armv", "armv9", "v", "vax", "x86_64", "v7 l", "armv7l-extra-words", "\u{e9}"]
        {
            assert_eq!(rank(none), None, "{none}");
        }
    }

    #[test]
    fn big_endian_and_microcontrollers_rank_below_everything() {
        for text in ["armv5teb", "armv7b", "v8b", "aarch64_be", "armebv7l", "armeb", "armv7ml", "v7ml"] {
            assert_eq!(rank(text), Some(0), "{text}");
        }
    }

    #[test]
    fn widths_are_those_that_the_word_proves() {
        let width = |text| word(text).unwrap().width;
        assert_eq!(width("armv7l"), Width::Bits32);
        assert_eq!(width("aarch64"), Width::Bits64);
        assert_eq!(width("armv8l"), Width::Compat);
        assert_eq!(architecture_field("8").unwrap().width, Width::Bits64);
        assert_eq!(architecture_field("7").unwrap().width, Width::Bits32);
    }

    #[test]
    fn the_architecture_field_has_many_forms() {
        for (text, want) in
            [("4T", 4), ("5TEJ", 5), ("6TEJ", 6), ("7", 7), ("8", 8), ("AArch64", 8), ("7M", 0)]
        {
            assert_eq!(architecture_field(text).map(|word| word.rank()), Some(want), "{text}");
        }
        for none in ["", "?(11)", "undefined/unknown", "17", "0"] {
            assert_eq!(architecture_field(none), None, "{none}");
        }
    }

    #[test]
    fn a_model_name_ends_in_a_word() {
        let suffix = |text| model_suffix(text).map(|word| word.text.as_str().to_owned());
        assert_eq!(suffix("ARM926EJ-Sid(wb) rev 5 (v5l)").as_deref(), Some("v5l"));
        assert_eq!(suffix("Feroceon 88F6282 rev 1 (v5l) @ 2 GHz").as_deref(), Some("v5l"));
        assert_eq!(suffix("AArch64 Processor rev 2 (aarch64)").as_deref(), Some("aarch64"));
        assert_eq!(suffix("ARMv6-compatible processor rev 7").as_deref(), Some("armv6"));
        assert_eq!(suffix("Example board (v2)"), None, "an edition is no architecture");
        assert_eq!(suffix("Intel(R) Atom(TM)"), None);
        assert_eq!(suffix("ab\u{e9}\u{e9}\u{e9}"), None);
    }

    #[test]
    fn other_machines_get_their_goarch() {
        assert_eq!(machine("x86_64"), Machine::Other(variant::name("amd64")));
        assert_eq!(machine("riscv64"), Machine::Other(variant::name("riscv64")));
        assert_eq!(machine("armhf"), Machine::Unknown, "no kernel says so");
        assert_eq!(machine("vax"), Machine::Unknown);
    }
}
