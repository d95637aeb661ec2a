//! The closer look: all that the documents say ([`details`](super::details)), and whom the image serves
//! ([`coverage`](super::coverage)).

use super::coverage::{self, Served};
use super::details::{Details, Noted};
use super::notes::{self, Bounded, EntryNotes, IndexNotes, ManifestNotes, Room, Words};
use super::{Documents, Entry, Image, Row, details, verbose};
use crate::error::Result;
use crate::image::digest::Digest;
use serde::Serialize;

/// What it has found. All that images say and that is kept here is bounded by one [`Room`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Closer {
    /// Are details wanted? If not, only the coverage is.
    #[serde(skip)]
    deeply: bool,
    #[serde(skip)]
    room: Room,
    /// Of the document that the image's name stands for.
    annotations: Words,
    /// How many of these are not here, for limits.
    #[serde(skip_serializing_if = "details::is_none")]
    left_out: usize,
    coverage: Vec<Served>,
    /// Of the entries of all indexes, in the order in which [`select`](crate::image::select) expands them. Empty where
    /// there is no index.
    #[serde(skip)]
    notes: Vec<Noted>,
    /// Of the rows, in their order.
    #[serde(skip)]
    details: Vec<Details>,
}

impl Closer {
    pub(super) fn new(deeply: bool) -> Closer {
        Closer {
            deeply,
            room: Room::new(),
            annotations: Words::new(),
            left_out: 0,
            coverage: Vec::new(),
            notes: Vec::new(),
            details: Vec::new(),
        }
    }

    /// Reads an index again: the one that the image's name stands for, or a nested one with the digest `nested`.
    pub(super) fn index(&mut self, nested: Option<Digest>, bytes: &[u8]) -> Result<()> {
        if !self.deeply {
            return Ok(());
        }
        let notes: IndexNotes = notes::parse(bytes)?;
        let at = match nested {
            None => {
                self.whole(notes.annotations);
                0..0
            }
            Some(_) => match self.notes.iter().position(|noted| noted.index == nested) {
                Some(at) => at..at + 1,
                None => return Ok(()),
            },
        };
        let room = &mut self.room;
        let noted = |entry: EntryNotes| Noted {
            index: entry.is_index().then_some(entry.digest),
            annotations: room.words(entry.annotations),
            left_out: room.left_out(),
        };
        let noted: Vec<Noted> = notes.manifests.into_iter().map(noted).collect();
        self.notes.splice(at, noted);
        Ok(())
    }

    /// Looks at the next entry that is no index.
    pub(super) fn entry(
        &mut self,
        entry: &Entry,
        image: Option<&Image>,
        documents: &mut Documents,
    ) -> Result<()> {
        if !self.deeply {
            return Ok(());
        }
        if let (true, Some((_, bytes))) = (self.notes.is_empty(), image) {
            self.whole(notes::parse::<ManifestNotes>(bytes)?.annotations);
        }
        let noted = self.notes.get_mut(self.details.len()).map(std::mem::take).unwrap_or_default();
        self.details.push(Details::of(entry, noted, image, documents, &mut self.room)?);
        Ok(())
    }

    /// Keeps what the document says of itself that the image's name stands for.
    fn whole(&mut self, annotations: Bounded) {
        self.annotations = self.room.words(annotations);
        self.left_out = self.room.left_out();
    }

    /// Asks for all families of boards what they take of these.
    pub(super) fn coverage(&mut self, entries: &[Entry]) {
        self.coverage = coverage::of(entries);
    }

    /// `None` where none are wanted.
    pub(super) fn details(&self, row: usize) -> Option<&Details> {
        self.details.get(row)
    }

    /// For people: what there is to say below the table.
    pub(super) fn lines(&self, rows: &[Row]) -> Vec<String> {
        let index = (!self.notes.is_empty()).then_some((&self.annotations, self.left_out));
        let mut lines = verbose::lines(index, rows, &self.details);
        lines.push(String::new());
        lines.push("coverage:".into());
        lines.extend(coverage::lines(&self.coverage));
        lines
    }
}
