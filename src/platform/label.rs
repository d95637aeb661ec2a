//! Labels that are to be published: only names that engines know, written as they write them.

use super::variant::{ARCHITECTURES, Name, Platform, SYSTEMS, arm64_version, is_architecture, shown};
use crate::error::{Error, Kind, Result};

/// Holds the parts of a label, as they are to be published, against the names that there are. Returns the variant's name
/// where `variant` is another word for it.
///
/// # Errors
/// [`Kind::Usage`] for one that engines do not know, or know by another name, with what is meant, most likely.
pub fn check_label(os: &str, architecture: &str, variant: &str) -> Result<Option<Name>> {
    let meant = Platform::new(os, architecture, variant);
    let written = match variant {
        "" => format!("{os}/{architecture}"),
        variant => format!("{os}/{architecture}/{variant}"),
    };
    let known = SYSTEMS.contains(&meant.os.as_str()) && is_architecture(&meant.architecture);
    let is_exact = os == meant.os.as_str()
        && architecture == meant.architecture.as_str()
        // What is implied need not be written; `v1` of amd64 is what no variant means.
        && (variant == meant.variant.as_str() || variant.is_empty() || (architecture, variant) == ("amd64", "v1"));
    if known && is_exact && has_published_variant(architecture, variant) {
        return Ok(None);
    }
    let is_known = os == meant.os.as_str() && architecture == meant.architecture.as_str();
    if known && is_known && !meant.variant.is_empty() && has_published_variant(architecture, &meant.variant) {
        return Ok(Some(meant.variant));
    }
    let wrong = |hint: String| {
        Error::new(Kind::Usage, format!("platform '{}' is none that engines know", shown(&written)))
            .hint(hint)
    };
    if known && has_published_variant(&meant.architecture, &meant.variant) && meant.to_string() != written {
        return Err(wrong(format!("write {meant}")));
    }
    let os = nearest(&meant.os, SYSTEMS.iter().copied());
    let architecture = nearest(&meant.architecture, ARCHITECTURES.iter().copied());
    let variants = variants(architecture.unwrap_or_default());
    Err(wrong(match (os, architecture) {
        (None, _) => format!("the operating systems are {}", SYSTEMS.join(", ")),
        (_, None) => format!("the architectures are {}", ARCHITECTURES.join(", ")),
        (Some(os), Some(architecture)) if (os, architecture) != (&*meant.os, &*meant.architecture) => {
            let guess = Platform::new(os, architecture, &meant.variant);
            match has_published_variant(architecture, &guess.variant) {
                true => format!("is {guess} meant?"),
                false => format!("is {os}/{architecture} meant?"),
            }
        }
        (_, Some(architecture)) if variants.is_empty() => format!("{architecture} has no variants"),
        (_, Some(architecture)) => format!("the variants of {architecture} are {}", variants.join(", ")),
    }))
}

/// The variants that images are labelled with (image-spec image-index.md, "Platform Variants"; GOARM64, GOAMD64, GOPPC64
/// and the others of Go, by which builders name them).
fn variants(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "arm" => &["v5", "v6", "v7", "v8"],
        "arm64" => &["v8", "v8.1 to v8.9", "v9", "v9.1 to v9.9"],
        "amd64" => &["v1", "v2", "v3", "v4"],
        "386" | "mips" | "mipsle" | "mips64" | "mips64le" => &["softfloat", "hardfloat", "sse2"],
        "ppc64" | "ppc64le" => &["power8", "power9", "power10"],
        "riscv64" => &["rva20u64", "rva22u64", "rva23u64"],
        _ => &[],
    }
}

fn has_published_variant(architecture: &str, variant: &str) -> bool {
    match architecture {
        "arm64" => variant.is_empty() || arm64_version(variant).is_some(),
        _ => variant.is_empty() || variants(architecture).contains(&variant),
    }
}

/// The name that has at most two letters more, fewer or other than `text`; the first of the nearest.
fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (distance(text, name), name)).filter(|(distance, name)| {
        // Two of `arm`'s letters are not a slip.
        *distance <= 2 && *distance < name.len().min(text.len()).saturating_sub(1).max(1)
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_published_by_the_names_that_engines_know() {
        for good in [
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm",
            "linux/arm64",
            "linux/arm64/v8",
            "linux/arm64/v9.2",
            "linux/amd64/v1",
            "linux/amd64/v3",
            "windows/amd64",
            "linux/riscv64",
            "linux/386",
            "linux/mips64le/softfloat",
        ] {
            assert!(label(good).is_ok(), "{good}: {}", label(good).unwrap_err());
        }
        for (bad, hint) in [
            ("linux/armv7", "write linux/arm/v7"),
            ("linux/armhf", "write linux/arm/v7"),
            ("linux/aarch64", "write linux/arm64/v8"),
            ("Linux/arm/v7", "write linux/arm/v7"),
            ("linux/x86_64", "write linux/amd64"),
            ("macos/arm64", "write darwin/arm64/v8"),
            ("linx/arm/v7", "is linux/arm/v7 meant?"),
            ("linux/rscv64", "is linux/riscv64 meant?"),
            ("linux/amd46", "is linux/amd64 meant?"),
            ("linux/arm/v9", "the variants of arm are v5, v6, v7, v8"),
            ("linux/riscv64/v7", "the variants of riscv64 are rva20u64"),
            ("linux/s390x/z10", "s390x has no variants"),
            ("toaster/arm", "the operating systems are aix"),
            ("linux/toaster", "the architectures are 386"),
            ("unknown/unknown", "the operating systems"),
            ("/arm", "the operating systems"),
            ("linux/", "the architectures"),
        ] {
            let error = label(bad).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(hint), "{bad}: {error}");
        }
    }

    #[test]
    fn another_word_for_a_variant_is_published_as_that_variant() {
        for (written, published) in [
            ("linux/arm/armv6l", "v6"),
            ("linux/arm/armv7", "v7"),
            ("linux/arm/armv8", "v8"),
            ("linux/arm/7", "v7"),
            ("linux/arm/v7l", "v7"),
            ("linux/arm64/armv8", "v8"),
            ("linux/arm64/8", "v8"),
            ("linux/amd64/2", "v2"),
            ("linux/riscv64/rva22", "rva22u64"),
        ] {
            assert_eq!(label(written).unwrap().as_deref(), Some(published), "{written}");
        }
        for (exact, wrong) in [("linux/arm/v7", "linux/arm/v7m"), ("linux/arm64/v8.2", "linux/arm64/armv7")] {
            assert_eq!(label(exact).unwrap(), None);
            label(wrong).unwrap_err();
        }
    }

    fn label(text: &str) -> Result<Option<Name>> {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        check_label(&next(), &next(), &next())
    }
}
