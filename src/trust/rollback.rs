//! Which of two images is the older one: by when it was made, or by its version.
//!
//! | | of the manifest | of the index | of the config |
//! |---|---|---|---|
//! | created | `org.opencontainers.image.created` | the same | `created` |
//! | version | `org.opencontainers.image.version` | the same | the label of that name |
//!
//! The first of these that there is counts. An index's is heeded only where a signature covers the index: anybody can
//! put a signed, old image into an index of today. A label may be inherited from a base image, which is why a label's
//! `created` counts for nothing.
//!
//! Only words of one place are compared, or the new image's of a better one: who moves a tag has the choice among all
//! that was ever signed, and so among the places, too. What an index has said once, a label says no more.

use crate::clock::rfc3339;
use crate::image::manifest::{Annotations, ImageConfig};
use serde::{Deserialize, Deserializer, Serialize};
use std::cmp::Ordering;

/// The longest value that is kept, in bytes.
const VALUE_MAX: usize = 128;
/// The most parts of a version before its `-`, and the most behind.
const PARTS_MAX: usize = 8;
/// The places where an image says its age, those of less weight first.
const PLACES: [&str; 3] = ["the config", "the index", "the manifest"];

/// What must not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Monotonic {
    /// When the image was made (RFC 3339).
    Created,
    /// Its version: as of semver.org, with or without a leading `v`, and of one to eight numbers.
    Version,
}

/// What an image says of its age, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Age {
    /// Gives the time at which it was made (RFC 3339), in at most 128 bytes (`VALUE_MAX`).
    #[serde(deserialize_with = "short")]
    pub created: Option<String>,
    /// Gives its version, in at most 128 bytes (`VALUE_MAX`).
    #[serde(deserialize_with = "short")]
    pub version: Option<String>,
    /// The weight of the place where `created` stands: 2 is the manifest, 1 the index, 0 the config. Records of before
    /// do not know, and whatever comes will do for them.
    pub created_weight: u8,
    /// The same of `version`.
    pub version_weight: u8,
}

/// Reads a value, which counts as absent if it is longer than `VALUE_MAX` bytes, as in [`Age::of`].
fn short<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|value| value.len() <= VALUE_MAX))
}

impl Age {
    /// What manifest, index (`None` where there is none, or its word is nobody's) and config say.
    pub fn of(manifest: &Annotations, index: Option<&Annotations>, config: &ImageConfig) -> Age {
        let first = |field: fn(&Annotations) -> &Option<String>, last: &Option<String>| {
            let places = [last, index.map_or(&None, field), field(manifest)];
            let weight = places.iter().rposition(|value| value.is_some()).unwrap_or_default();
            (places[weight].clone().filter(|value| value.len() <= VALUE_MAX), weight as u8)
        };
        let (created, created_weight) = first(|notes| &notes.created, &config.created);
        let (version, version_weight) = first(|notes| &notes.version, &config.config.labels.version);
        Age { created, version, created_weight, version_weight }
    }
}

impl Monotonic {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Monotonic::Created => "created",
            Monotonic::Version => "version",
        }
    }

    /// Whether an image may follow the `current` one (`None` where there is none yet): it may be as old, but no older.
    ///
    /// # Errors
    /// Why not, in words: also where either says nothing, or nothing that can be compared.
    pub fn allows(self, new: &Age, current: Option<&Age>) -> Result<(), String> {
        let (new, place) = self.value(new).map_err(|why| format!("the image {why}"))?;
        let Some(current) = current else { return self.order(new, new).map(drop) };
        let (current, better) = self.value(current).map_err(|why| format!("what is current {why}"))?;
        if place < better {
            let says = |weight: u8| PLACES[usize::from(weight).min(PLACES.len() - 1)];
            let (name, place, better) = (self.name(), says(place), says(better));
            return Err(format!("{place} says its {name}, where for what is current {better} does"));
        }
        match self.order(new, current)? {
            Ordering::Less => {
                let (new, current) = (new.escape_debug(), current.escape_debug());
                let name = self.name();
                Err(format!("the image is older than what is current: {name} {new}, not {current}"))
            }
            _ => Ok(()),
        }
    }

    /// What an image says, and the weight of where.
    fn value(self, age: &Age) -> Result<(&str, u8), String> {
        let (value, weight) = match self {
            Monotonic::Created => (&age.created, age.created_weight),
            Monotonic::Version => (&age.version, age.version_weight),
        };
        let value = value.as_deref().ok_or_else(|| format!("does not say its {}", self.name()))?;
        Ok((value, weight))
    }

    fn order(self, new: &str, current: &str) -> Result<Ordering, String> {
        fn both<T>(
            read: impl Fn(&str) -> Option<T>,
            values: [&str; 2],
            what: &str,
        ) -> Result<[T; 2], String> {
            let [new, current] = values.map(|value| {
                read(value).ok_or_else(|| format!("{:?} is no {what}", value.escape_debug().to_string()))
            });
            Ok([new?, current?])
        }
        match self {
            Monotonic::Created => both(rfc3339::parse, [new, current], "time since 1970")
                .map(|[new, current]| new.cmp(&current)),
            Monotonic::Version => {
                both(Version::parse, [new, current], "version").map(|[new, current]| new.cmp(&current))
            }
        }
    }
}

/// A version's parts, in the order of their weight (semver.org, 11).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    /// Missing ones are 0.
    numbers: [u64; PARTS_MAX],
    stage: Stage,
}

/// `-rc.1` comes before nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Before(Vec<Part>),
    Release,
}

/// Numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let text = text.strip_prefix('v').unwrap_or(text);
        // What was built how has no weight.
        let text = text.split('+').next()?;
        let (release, stage) = match text.split_once('-') {
            Some((release, before)) => {
                let parts: Option<Vec<_>> = before.split('.').take(PARTS_MAX + 1).map(part).collect();
                (release, Stage::Before(parts.filter(|parts| parts.len() <= PARTS_MAX)?))
            }
            None => (text, Stage::Release),
        };
        let mut numbers = [0; PARTS_MAX];
        for (at, part) in release.split('.').enumerate() {
            *numbers.get_mut(at)? = number(part)?;
        }
        Some(Version { numbers, stage })
    }
}

fn part(text: &str) -> Option<Part> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => number(text).map(Part::Number),
        false => fits.then(|| Part::Word(text.to_owned())),
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(created: Option<&str>, version: Option<&str>) -> Age {
        Age { created: created.map(str::to_owned), version: version.map(str::to_owned), ..Age::default() }
    }

    #[test]
    fn versions_in_the_order_of_semver_org() {
        let rising = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "v1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.0.1",
            "v1.2",
            "1.2.10",
            "2",
            "2026.11.22",
        ];
        for (at, one) in rising.iter().enumerate() {
            for (other_at, other) in rising.iter().enumerate() {
                let order = Version::parse(one).unwrap().cmp(&Version::parse(other).unwrap());
                assert_eq!(order, at.cmp(&other_at), "{one} and {other}");
            }
        }
        assert_eq!(Version::parse("v1"), Version::parse("1.0.0+build.7"));
        for bad in [
            "",
            "v",
            "1.",
            ".1",
            "1..2",
            "latest",
            "1.x",
            "+1",
            "-1",
            "1.-2",
            "1.0-",
            "1.0-a..b",
            "1.0-ä",
            "1.2.3.4.5.6.7.8.9",
            "1-1.2.3.4.5.6.7.8.9",
            "99999999999999999999",
            "vv1",
            " 1",
            "1 ",
        ] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn as_old_will_do_and_older_will_not() {
        let old = age(Some("2026-01-01T00:00:00Z"), Some("v1.9.0"));
        let new = age(Some("2026-01-01T02:00:00.5+01:00"), Some("1.10.0"));
        for rule in [Monotonic::Created, Monotonic::Version] {
            assert_eq!(rule.allows(&new, Some(&old)), Ok(()));
            assert_eq!(rule.allows(&old, Some(&old)), Ok(()));
            assert_eq!(rule.allows(&old, None), Ok(()));
            let why = rule.allows(&old, Some(&new)).unwrap_err();
            assert!(why.contains("older") && why.contains(rule.name()), "{why}");
        }
    }

    #[test]
    fn who_says_nothing_or_nonsense_is_refused() {
        let good = age(Some("2026-01-01T00:00:00Z"), Some("1"));
        let bad = [
            age(None, None),
            age(Some("yesterday"), Some("latest")),
            age(Some("0001-01-01T00:00:00Z"), Some("")),
        ];
        for rule in [Monotonic::Created, Monotonic::Version] {
            for bad in &bad {
                assert!(rule.allows(bad, None).is_err(), "{bad:?}");
                assert!(rule.allows(bad, Some(&good)).is_err(), "{bad:?}");
                assert!(rule.allows(&good, Some(bad)).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_worse_place_is_not_compared_with_a_better_one() {
        let placed = |weight: u8, value: &str| Age {
            created_weight: weight,
            version_weight: weight,
            ..age(Some(&format!("{value}-01-01T00:00:00Z")), Some(value))
        };
        for rule in [Monotonic::Created, Monotonic::Version] {
            for (new, current) in [(0, 1), (0, 2), (1, 2), (0, 200)] {
                // However new it says it is: the label may be the base image's.
                let why = rule.allows(&placed(new, "2026"), Some(&placed(current, "2001"))).unwrap_err();
                assert!(why.starts_with(PLACES[usize::from(new)]) && why.contains(rule.name()), "{why}");
                assert_eq!(rule.allows(&placed(current, "2026"), Some(&placed(new, "2001"))), Ok(()));
                let older = rule.allows(&placed(current, "2001"), Some(&placed(new, "2026")));
                assert!(older.unwrap_err().contains("older"));
            }
        }
        // A record of before says nothing of places.
        let record: Age =
            serde_json::from_str(r#"{"created":"2026-01-01T00:00:00Z","version":"1"}"#).unwrap();
        assert_eq!(record, age(Some("2026-01-01T00:00:00Z"), Some("1")));
        // One of somebody else's has no more room than an image's.
        let long = format!(r#"{{"created":"{0}","version":"{0}"}}"#, "9".repeat(129));
        assert_eq!(serde_json::from_str::<Age>(&long).unwrap(), Age::default());
        let kept: Age = serde_json::from_slice(&serde_json::to_vec(&placed(1, "2026")).unwrap()).unwrap();
        assert_eq!(kept, placed(1, "2026"));
    }

    #[test]
    fn the_manifest_s_word_goes_before_the_index_s_and_the_config_s() {
        let notes = |version: &str| Annotations { version: Some(version.into()), ..Annotations::default() };
        let none = Annotations::default();
        let config =
            br#"{"created":"2026-01-01T00:00:00Z","config":{"Labels":{"org.opencontainers.image.version":"3",
            "org.opencontainers.image.created":"2025-01-01T00:00:00Z","x":"y"}}}"#;
        let config = ImageConfig::parse(config).unwrap();
        let version = |manifest: &Annotations, index: Option<&Annotations>| {
            let age = Age::of(manifest, index, &config);
            (age.version.unwrap(), PLACES[usize::from(age.version_weight)])
        };
        let says = |version: &str, place| (version.to_owned(), place);
        assert_eq!(version(&notes("1"), Some(&notes("2"))), says("1", "the manifest"));
        assert_eq!(version(&none, Some(&notes("2"))), says("2", "the index"));
        assert_eq!(version(&none, Some(&none)), says("3", "the config"));
        assert_eq!(version(&none, None), says("3", "the config"));
        let age = Age::of(&none, None, &config);
        assert_eq!(
            age.created.as_deref(),
            Some("2026-01-01T00:00:00Z"),
            "a base image's label counts for nothing"
        );
        assert_eq!(Age::of(&notes(&"9".repeat(129)), None, &config).version, None);
    }
}
