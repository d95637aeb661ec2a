//! What documents say in annotations and labels. Parsing them for a pull skips nearly all of it
//! ([`crate::image::manifest`]); here the bytes of a document, which was parsed already, are read again for it, by the
//! same reader ([`json`]): what is odd ends nothing here that it did not end there.
//!
//! Each map is bounded while it is read, and all that is kept of an image by one [`Room`]. What does not fit is left
//! out, and counted. The most that is in memory at once, while an index is read again, are [`ANNOTATIONS_MAX`] small
//! ones of each of its entries, which take 6 MiB: less than twice what such an index is itself.

use crate::error::{Error, Kind, Result};
use crate::image::json::{self, Shape, Value};
use crate::image::manifest::{ENTRIES_MAX, LAYERS_MAX};
use std::collections::BTreeMap;

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

const WORDS: Shape = Shape::Words { max: ANNOTATIONS_MAX, bytes: ANNOTATIONS_BYTES_MAX };

/// What an index says, and of each of its entries.
pub(super) struct IndexNotes {
    pub(super) annotations: Bounded,
    /// Holds as many as the index has, whether these can be used or not.
    pub(super) entries: Vec<EntryNotes>,
}

/// Holds what an index says of an entry.
#[derive(Default)]
pub(super) struct EntryNotes {
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    /// In bytes.
    pub(super) size: Option<u64>,
    pub(super) annotations: Bounded,
}

impl IndexNotes {
    /// Reads an index.
    ///
    /// # Errors
    /// Returns [`Kind::BadImage`] for what is no JSON.
    pub(super) fn read(bytes: &[u8]) -> Result<IndexNotes> {
        const ENTRY: Shape = Shape::Object(&[
            ("mediaType", Shape::Text),
            ("artifactType", Shape::Text),
            ("size", Shape::Number),
            ("annotations", WORDS),
        ]);
        const INDEX: Shape = Shape::Object(&[
            ("annotations", WORDS),
            ("manifests", Shape::List { of: &ENTRY, max: ENTRIES_MAX, limit: "ENTRIES_MAX" }),
        ]);
        let [annotations, manifests] = read(bytes, &INDEX)?.fields();
        let entry = |entry: Value| {
            let [media_type, artifact_type, size, annotations] = entry.fields();
            EntryNotes {
                media_type: media_type.text(),
                artifact_type: artifact_type.text(),
                size: size.needed_number().unwrap_or_default(),
                annotations: Bounded::of(annotations),
            }
        };
        let entries = list(manifests).into_iter().map(entry).collect();
        Ok(IndexNotes { annotations: Bounded::of(annotations), entries })
    }
}

/// What a manifest says.
pub(super) struct ManifestNotes {
    pub(super) annotations: Bounded,
    pub(super) artifact_type: Option<String>,
    /// Says what each layer of an attestation is (in-toto's predicate type, by BuildKit's annotation); as many as the manifest
    /// has layers.
    pub(super) predicate_types: Vec<Option<String>>,
}

impl ManifestNotes {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Returns [`Kind::BadImage`] for what is no JSON.
    pub(super) fn read(bytes: &[u8]) -> Result<ManifestNotes> {
        const LAYER: Shape =
            Shape::Object(&[("annotations", Shape::Map(&[("in-toto.io/predicate-type", Shape::Text)]))]);
        const MANIFEST: Shape = Shape::Object(&[
            ("annotations", WORDS),
            ("artifactType", Shape::Text),
            ("layers", Shape::List { of: &LAYER, max: LAYERS_MAX, limit: "LAYERS_MAX" }),
        ]);
        let [annotations, artifact_type, layers] = read(bytes, &MANIFEST)?.fields();
        let predicate_type = |layer: Value| {
            let [annotations] = layer.fields();
            let [predicate_type] = annotations.fields();
            predicate_type.text()
        };
        Ok(ManifestNotes {
            annotations: Bounded::of(annotations),
            artifact_type: artifact_type.text(),
            predicate_types: list(layers).into_iter().map(predicate_type).collect(),
        })
    }
}

/// Reads the labels of a config, which [`crate::image::manifest::ImageConfig`] passes over but for a few.
///
/// # Errors
/// Returns [`Kind::BadImage`] for what is no JSON.
pub(super) fn labels(bytes: &[u8]) -> Result<Bounded> {
    const CONFIG: Shape = Shape::Object(&[("config", Shape::Object(&[("Labels", WORDS)]))]);
    let [config] = read(bytes, &CONFIG)?.fields();
    let [labels] = config.fields();
    Ok(Bounded::of(labels))
}

fn read(bytes: &[u8], shape: &'static Shape) -> Result<Value> {
    json::read(bytes, shape).map_err(|error| Error::new(Kind::BadImage, error.to_string()))
}

/// The elements of a list; none of anything else.
fn list(value: Value) -> Vec<Value> {
    value.needed_list().ok().flatten().unwrap_or_default()
}

/// Annotations, of which there are at most [`ANNOTATIONS_MAX`].
#[derive(Default)]
pub(super) struct Bounded {
    words: Words,
    left_out: usize,
}

impl Bounded {
    fn of(value: Value) -> Bounded {
        match value {
            Value::Words { kept, left_out } => Bounded { words: kept, left_out },
            // As a whole it is one thing that is not shown.
            Value::Odd(_) => Bounded { words: Words::new(), left_out: 1 },
            _ => Bounded::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bounded(annotations: serde_json::Value) -> Bounded {
        let text = json!({ "annotations": annotations }).to_string();
        ManifestNotes::read(text.as_bytes()).unwrap().annotations
    }

    #[test]
    fn what_is_no_string_is_left_out() {
        let deep =
            format!(r#"{{"annotations":{{"a":"b","c":{}{}}}}}"#, "[".repeat(1 << 16), "]".repeat(1 << 16));
        let read = ManifestNotes::read(deep.as_bytes()).unwrap().annotations;
        assert_eq!((read.words.len(), read.left_out), (1, 1), "skipped without recursion");
        let odd = bounded(
            json!({ "a": 1, "b": -1, "c": 1.5, "d": null, "e": true, "f": [[1]], "g": {"h": []}, "i": "" }),
        );
        assert_eq!(
            (odd.words.into_iter().collect::<Vec<_>>(), odd.left_out),
            (vec![("i".into(), "".into())], 7)
        );
        for (annotations, left_out) in [(json!(null), 0), (json!([1]), 1), (json!("x"), 1), (json!(5), 1)] {
            let read = bounded(annotations);
            assert_eq!((read.words.len(), read.left_out), (0, left_out));
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_counts_as_in_go() {
        let text =
            b"{\"annotations\":{\"x\":\"y\"},\"Annotations\":{\"a\":\"1\",\"a\":\"\xff\",\"A\":\"2\"}}";
        let read = ManifestNotes::read(text).unwrap().annotations;
        let words: Vec<_> = read.words.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!((words, read.left_out), (vec![("A", "2"), ("a", "\u{fffd}")], 0));
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
