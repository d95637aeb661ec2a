//! What documents say in annotations and labels. Parsing them for a pull skips nearly all of it
//! ([`crate::image::manifest`]); here the bytes of a document, which was parsed already, are read again for it.
//!
//! Each map is bounded while it is read, and all that is kept of an image by one [`Room`]. What does not fit is left
//! out, and counted. The most that is in memory at once, while an index is read again, are [`ANNOTATIONS_MAX`] small
//! ones of each of its entries, which take 6 MiB: less than twice what such an index is itself.

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::media_type::{DOCKER_LIST, OCI_INDEX};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The most annotations of one thing, or labels of a config, that are shown. Images of distributions have about 40.
const ANNOTATIONS_MAX: usize = 64;
/// The most bytes of these, names and values together.
const ANNOTATIONS_BYTES_MAX: usize = 16 << 10;
/// The most that is kept of what an image says, until all of it is shown, in bytes of memory, about.
const KEPT_MAX: usize = 1 << 20;
/// What keeping a text, or another small thing, takes beside its bytes.
const KEPT_EACH: usize = 64;

/// Annotations or labels by name.
pub(super) type Words = BTreeMap<String, String>;

/// How much may still be kept.
pub(super) struct Room {
    left: usize,
    left_out: usize,
}

impl Room {
    pub(super) fn new() -> Room {
        Room { left: KEPT_MAX, left_out: 0 }
    }

    /// Is there room for something with so many bytes of text? After the first that does not fit there is none.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes.saturating_add(KEPT_EACH));
        self.left = left.unwrap_or(0);
        self.left_out += usize::from(left.is_none());
        left.is_some()
    }

    /// A text, if there is room for it.
    pub(super) fn text(&mut self, text: Option<String>) -> Option<String> {
        text.filter(|text| self.take(text.len()))
    }

    /// The beginning of a list.
    pub(super) fn list(&mut self, mut list: Vec<String>) -> Vec<String> {
        list.retain(|text| self.take(text.len()));
        list
    }

    /// The first of a map, by name.
    pub(super) fn words(&mut self, bounded: Bounded) -> Words {
        self.left_out += bounded.left_out;
        let mut words = bounded.words;
        words.retain(|name, value| self.take(name.len() + value.len() + KEPT_EACH));
        words
    }

    /// How many things were left out since the last time this was asked.
    pub(super) fn left_out(&mut self) -> usize {
        std::mem::take(&mut self.left_out)
    }
}

/// What an index says, and of each of its entries.
#[derive(serde::Deserialize)]
pub(super) struct IndexNotes {
    #[serde(default)]
    pub(super) annotations: Bounded,
    #[serde(default)]
    pub(super) manifests: Vec<EntryNotes>,
}

#[derive(serde::Deserialize)]
pub(super) struct EntryNotes {
    pub(super) digest: Digest,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    pub(super) annotations: Bounded,
}

impl EntryNotes {
    /// As [`crate::image::manifest::Descriptor::is_index`].
    pub(super) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }
}

/// What a manifest says.
#[derive(serde::Deserialize)]
pub(super) struct ManifestNotes {
    #[serde(default)]
    pub(super) annotations: Bounded,
    #[serde(rename = "artifactType", default)]
    pub(super) artifact_type: Word,
    /// As many as the manifest has.
    #[serde(default)]
    pub(super) layers: Option<Vec<LayerNotes>>,
}

#[derive(serde::Deserialize)]
pub(super) struct LayerNotes {
    #[serde(default)]
    annotations: Option<InToto>,
}

#[derive(serde::Deserialize)]
struct InToto {
    #[serde(rename = "in-toto.io/predicate-type", default)]
    predicate_type: Word,
}

impl LayerNotes {
    /// What this layer of an attestation is (in-toto's predicate type, by BuildKit's annotation).
    pub(super) fn predicate_type(self) -> Option<String> {
        self.annotations?.predicate_type.0
    }
}

/// What a config says beside what [`crate::image::manifest::ImageConfig`] reads.
#[derive(serde::Deserialize)]
pub(super) struct ConfigNotes {
    #[serde(default)]
    config: Option<Labels>,
}

#[derive(serde::Deserialize)]
struct Labels {
    #[serde(rename = "Labels", default)]
    labels: Bounded,
}

impl ConfigNotes {
    pub(super) fn labels(self) -> Bounded {
        self.config.map(|config| config.labels).unwrap_or_default()
    }
}

/// Reads a document for the second time: whatever bounds lists and strings did so the first time.
///
/// # Errors
/// [`Kind::BadImage`].
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::new(Kind::BadImage, error.to_string()))
}

/// Annotations, of which there are at most [`ANNOTATIONS_MAX`].
#[derive(Default)]
pub(super) struct Bounded {
    words: Words,
    left_out: usize,
}

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Bounded, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Bounded;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }
            fn visit_unit<E>(self) -> std::result::Result<Bounded, E> {
                Ok(Bounded::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Bounded, A::Error> {
                let (mut bounded, mut room) = (Bounded::default(), ANNOTATIONS_BYTES_MAX);
                while let Some((name, value)) = map.next_entry::<String, Word>()? {
                    let left = value.0.as_ref().and_then(|text| room.checked_sub(name.len() + text.len()));
                    match (value.0, left) {
                        (Some(text), Some(left)) if bounded.words.len() < ANNOTATIONS_MAX => {
                            bounded.words.insert(name, text);
                            room = left;
                        }
                        _ => bounded.left_out += 1,
                    }
                }
                Ok(bounded)
            }
        }
        from.deserialize_any(Map)
    }
}

/// A string; anything else is `None`, for what annotations hold is checked by nobody.
#[derive(Default)]
pub(super) struct Word(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Word, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Word, E> {
                Ok(Word(Some(text.to_owned())))
            }
            fn visit_bool<E>(self, _: bool) -> std::result::Result<Word, E> {
                Ok(Word(None))
            }
            fn visit_u64<E>(self, _: u64) -> std::result::Result<Word, E> {
                Ok(Word(None))
            }
            fn visit_i64<E>(self, _: i64) -> std::result::Result<Word, E> {
                Ok(Word(None))
            }
            fn visit_f64<E>(self, _: f64) -> std::result::Result<Word, E> {
                Ok(Word(None))
            }
            fn visit_unit<E>(self) -> std::result::Result<Word, E> {
                Ok(Word(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Word, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Word(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Word, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Word(None))
            }
        }
        from.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bounded(annotations: serde_json::Value) -> Bounded {
        parse(annotations.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_no_string_is_left_out() {
        let deep = format!(r#"{{"a":"b","c":{}{}}}"#, "[".repeat(1 << 16), "]".repeat(1 << 16));
        let read: Bounded = parse(deep.as_bytes()).unwrap();
        assert_eq!((read.words.len(), read.left_out), (1, 1), "skipped without recursion");
        let odd = bounded(
            json!({ "a": 1, "b": -1, "c": 1.5, "d": null, "e": true, "f": [[1]], "g": {"h": []}, "i": "" }),
        );
        assert_eq!(
            (odd.words.into_iter().collect::<Vec<_>>(), odd.left_out),
            (vec![("i".into(), "".into())], 7)
        );
        assert_eq!(bounded(json!(null)).words.len(), 0);
    }

    #[test]
    fn a_map_is_bounded_in_number_and_in_bytes() {
        let many = |count: usize, length: usize| {
            let value = "x".repeat(length);
            bounded(
                (0..count)
                    .map(|at| (format!("{at:03}"), json!(value)))
                    .collect::<serde_json::Map<_, _>>()
                    .into(),
            )
        };
        let fits = |read: Bounded| (read.words.len(), read.left_out);
        assert_eq!(fits(many(ANNOTATIONS_MAX, 10)), (ANNOTATIONS_MAX, 0));
        assert_eq!(fits(many(ANNOTATIONS_MAX + 2, 10)), (ANNOTATIONS_MAX, 2));
        assert_eq!(fits(many(2, ANNOTATIONS_BYTES_MAX / 2 - 3)), (2, 0));
        assert_eq!(fits(many(3, ANNOTATIONS_BYTES_MAX / 2 - 3)), (2, 1));
    }

    #[test]
    fn all_together_is_bounded() {
        let mut room = Room::new();
        let text = "x".repeat(10_000);
        let kept = room.list(vec![text.clone(); 200]).len();
        assert_eq!(kept, KEPT_MAX / (text.len() + KEPT_EACH));
        assert_eq!(room.left_out(), 200 - kept);
        assert!(room.text(Some("even the smallest".into())).is_none());
        assert_eq!((room.left_out(), room.left_out()), (1, 0));
    }
}
