//! Doors for `fuzz/`: what is read of documents for the second time, by plain types. Only there in builds with
//! `--cfg fuzzing`; what has to hold of it is said in `fuzz/fuzz_targets/`.

use super::notes::{self, Bounded, IndexNotes, ManifestNotes, Room, Words};
use crate::error::Result;

/// What was kept, and how many things were left out.
#[derive(Debug, Default)]
pub struct Kept {
    /// The document's own annotations, or labels.
    pub own: Words,
    /// Those of its entries.
    pub entries: Vec<Words>,
    /// What its layers are, or it is itself.
    pub kinds: Vec<String>,
    /// What there was no room for.
    pub left_out: usize,
}

fn kept(own: Bounded, entries: Vec<Bounded>, kinds: Vec<String>) -> Kept {
    let mut room = Room::new();
    let own = room.words(own);
    let entries = entries.into_iter().map(|words| room.words(words)).collect();
    let kinds = room.list(kinds);
    Kept { own, entries, kinds, left_out: room.left_out() }
}

/// An index.
///
/// # Errors
/// Those that the user sees.
pub fn index(bytes: &[u8]) -> Result<Kept> {
    let IndexNotes { annotations, entries } = IndexNotes::read(bytes)?;
    let entries = entries.into_iter().map(|entry| entry.annotations).collect();
    Ok(kept(annotations, entries, Vec::new()))
}

/// A manifest.
///
/// # Errors
/// Those that the user sees.
pub fn manifest(bytes: &[u8]) -> Result<Kept> {
    let ManifestNotes { annotations, artifact_type, predicate_types } = ManifestNotes::read(bytes)?;
    let kinds = artifact_type.into_iter().chain(predicate_types.into_iter().flatten());
    Ok(kept(annotations, Vec::new(), kinds.collect()))
}

/// A config.
///
/// # Errors
/// Those that the user sees.
pub fn config(bytes: &[u8]) -> Result<Kept> {
    Ok(kept(notes::labels(bytes)?, Vec::new(), Vec::new()))
}
