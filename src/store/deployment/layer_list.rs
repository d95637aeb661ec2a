//! Keeps the list of a generation's layers, up to 1024, in a file of its tree, so that the record, which is written
//! anew at each change, stays small.
//!
//! ```text
//! STATE/deployments/NAME/generations/N/layers    a diff-id a line, the lowest layer first
//! ```
//!
//! The record holds their number and that file's digest. Records of version 1 hold the layers themselves, which get
//! their files when such a record is first changed.

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::LAYERS_MAX;
use crate::store::disk;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt::{self, Write};
use std::path::Path;

/// Names the file within the generation's tree.
const NAME: &str = "layers";
/// Counts the bytes of a line: `sha256:`, 64 digits and the line end.
const LINE: usize = 72;

/// Holds the diff-ids of a generation's layers, the lowest first, or the digest of the file that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerList {
    /// Holds the diff-ids themselves, which no file has yet.
    Unwritten(Vec<Digest>),
    /// Stands for diff-ids that are in the file of the generation's tree.
    Written {
        /// Counts the layers.
        count: u32,
        /// Holds the digest of the file's bytes, by which it is checked when it is read.
        digest: Digest,
    },
}

impl LayerList {
    /// Returns how many layers there are.
    pub fn count(&self) -> usize {
        match self {
            LayerList::Unwritten(layers) => layers.len(),
            LayerList::Written { count, .. } => *count as usize,
        }
    }

    /// Puts the diff-ids into the file of `tree`, durably, unless that has been done. If the tree is not there, it
    /// writes nothing, and keeps only their number and the digest.
    ///
    /// # Errors
    /// Returns [`Kind::Disk`] if the file cannot be written.
    pub(super) fn write(&mut self, tree: &Path) -> Result<()> {
        let LayerList::Unwritten(layers) = self else { return Ok(()) };
        let mut text = String::with_capacity(layers.len() * LINE);
        for layer in &*layers {
            let _ = writeln!(text, "{layer}");
        }
        // A generation whose tree somebody has removed is still in the record, until it is pruned.
        if disk::check_directory(tree).is_ok() {
            disk::replace(tree, NAME, text.as_bytes(), disk::PRIVATE)?;
        }
        *self = LayerList::Written { count: layers.len() as u32, digest: Digest::of(text.as_bytes()) };
        Ok(())
    }

    /// Returns the diff-ids, which it reads from the file of `tree` if they are there.
    ///
    /// # Errors
    /// Returns [`Kind::Disk`] if the file cannot be read, or its bytes do not have the digest in the record.
    pub(super) fn read(&self, tree: &Path) -> Result<Vec<Digest>> {
        let (count, digest) = match self {
            LayerList::Unwritten(layers) => return Ok(layers.clone()),
            LayerList::Written { count, digest } => (*count as usize, digest),
        };
        let path = tree.join(NAME);
        let unusable = |why: String| {
            Error::new(Kind::Disk, format!("{}: {why}", path.display()))
                .hint("edgepull verify --repair makes it anew")
        };
        let bytes =
            disk::read(&path, (LAYERS_MAX * LINE) as u64).map_err(|error| unusable(error.to_string()))?;
        let text = std::str::from_utf8(&bytes).ok().filter(|_| Digest::of(&bytes) == *digest);
        let layers: Option<Vec<Digest>> =
            text.and_then(|text| text.lines().map(|line| line.parse().ok()).collect());
        layers
            .filter(|layers| layers.len() == count)
            .ok_or_else(|| unusable("the list of layers is damaged".into()))
    }
}

/// Writes a list without a file as version 1 of the record does, and one with a file as version 2 does.
impl Serialize for LayerList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            count: u32,
            digest: &'a Digest,
        }
        match self {
            LayerList::Unwritten(layers) => layers.serialize(serializer),
            LayerList::Written { count, digest } => Written { count: *count, digest }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for LayerList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LayerList, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            count: u32,
            digest: Digest,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = LayerList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {LAYERS_MAX} diff-ids, or their number and their file's digest")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<LayerList, A::Error> {
                let mut layers = Vec::new();
                while let Some(layer) = seq.next_element()? {
                    if layers.len() == LAYERS_MAX {
                        return Err(de::Error::invalid_length(LAYERS_MAX + 1, &self));
                    }
                    layers.push(layer);
                }
                Ok(LayerList::Unwritten(layers))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LayerList, A::Error> {
                let Written { count, digest } =
                    Written::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(LayerList::Written { count, digest })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn layers(count: usize) -> Vec<Digest> {
        (0..count).map(|at| Digest::of(&at.to_le_bytes())).collect()
    }

    #[test]
    fn as_many_as_a_manifest_may_have_come_back_as_they_were() {
        let tree = tempfile::tempdir().unwrap();
        for count in [0, 1, LAYERS_MAX] {
            let mut list = LayerList::Unwritten(layers(count));
            assert_eq!((list.count(), list.read(tree.path()).unwrap()), (count, layers(count)));
            list.write(tree.path()).unwrap();
            assert!(matches!(list, LayerList::Written { .. }));
            let kept: LayerList = serde_json::from_slice(&serde_json::to_vec(&list).unwrap()).unwrap();
            assert_eq!((kept.count(), kept.read(tree.path()).unwrap()), (count, layers(count)));
        }
    }

    #[test]
    fn one_that_is_not_as_it_was_is_not_believed() {
        let tree = tempfile::tempdir().unwrap();
        let mut list = LayerList::Unwritten(layers(3));
        list.write(tree.path()).unwrap();
        let path = tree.path().join("layers");
        let text = fs::read_to_string(&path).unwrap();
        for damage in
            ["", &text[..72], &text.replacen('0', "1", 1), &format!("{text}\n"), &"x".repeat(80_000)]
        {
            fs::write(&path, damage).unwrap();
            let error = list.read(tree.path()).unwrap_err();
            assert!(error.kind() == Kind::Disk && error.to_string().contains("--repair"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(list.read(tree.path()).unwrap_err().to_string().contains("/layers: "));
    }

    #[test]
    fn more_than_a_manifest_may_have_are_nobody_s() {
        let more = serde_json::to_vec(&layers(LAYERS_MAX + 1)).unwrap();
        let error = serde_json::from_slice::<LayerList>(&more).unwrap_err().to_string();
        assert!(error.contains("1025") && error.contains("at most 1024"), "{error}");
    }
}
