//! The closer look: all that the documents say ([`details`](super::details)), and whom the image serves
//! ([`coverage`](super::coverage)).

use super::coverage::{self, Served};
use super::details::{Details, Noted};
use super::notes::{Bounded, EntryNotes, IndexNotes, ManifestNotes, Room, Words};
use super::{Documents, Entry, Image, Row, details, verbose};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::manifest::{Index, Unusable};
use serde::Serialize;
use std::collections::VecDeque;

/// The most characters that are told of the media type of an entry that cannot be used.
const MEDIA_TYPE_KEPT_MAX: usize = 160;

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
    /// Does the image's name stand for an index?
    #[serde(skip)]
    is_index: bool,
    /// Of the entries of all indexes that can be used, in the order in which [`select`](crate::image::select) expands them. Empty where
    /// there is no index.
    #[serde(skip)]
    notes: Vec<Noted>,
    /// Of those that cannot, in the order in which it finds them.
    #[serde(skip)]
    unusable: VecDeque<EntryNotes>,
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
            is_index: false,
            notes: Vec::new(),
            unusable: VecDeque::new(),
            details: Vec::new(),
        }
    }

    /// Reads an index again: the one that the image's name stands for, or a nested one with the digest `nested`, whose
    /// entries come to stand in its place.
    pub(super) fn index(&mut self, nested: Option<Digest>, index: &Index, bytes: &[u8]) -> Result<()> {
        if !self.deeply {
            return Ok(());
        }
        let notes = IndexNotes::read(bytes)?;
        let at = match nested {
            None => {
                self.is_index = true;
                self.whole(notes.annotations);
                0..0
            }
            Some(_) => match self.notes.iter().position(|noted| noted.index == nested) {
                Some(at) => at..at + 1,
                None => return Ok(()),
            },
        };
        let mut used = index.entries.iter();
        let mut unusable = index.unusable.iter().map(|entry| entry.place).peekable();
        let mut noted = Vec::with_capacity(index.entries.len());
        for (place, entry) in notes.entries.into_iter().enumerate() {
            if unusable.next_if_eq(&place).is_some() {
                self.unusable.push_back(entry);
            } else if let Some(descriptor) = used.next() {
                noted.push(Noted {
                    index: descriptor.is_index().then_some(descriptor.digest),
                    annotations: self.room.words(entry.annotations),
                    left_out: self.room.left_out(),
                });
            }
        }
        self.notes.splice(at, noted);
        Ok(())
    }

    /// Takes note that the next nested index with this digest is an entry itself, as it cannot be used.
    pub(super) fn no_index(&mut self, digest: Digest) {
        if let Some(noted) = self.notes.iter_mut().find(|noted| noted.index == Some(digest)) {
            noted.index = None;
        }
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
        if let (false, Some((_, bytes))) = (self.is_index, image) {
            self.whole(ManifestNotes::read(bytes)?.annotations);
        }
        let noted = self.notes.get_mut(self.details.len()).map(std::mem::take).unwrap_or_default();
        self.details.push(Details::of(entry, noted, image, documents, &mut self.room)?);
        Ok(())
    }

    /// Looks at the next entry that cannot be used, and returns the media type that its index gives it; it is empty where
    /// none is known. All others have to be looked at before.
    pub(super) fn unusable(&mut self, entry: &Unusable) -> String {
        let mut notes = self.unusable.pop_front().unwrap_or_default();
        let media_type = notes.media_type.take().unwrap_or_default();
        if self.deeply {
            self.details.push(Details::of_unusable(entry, notes, &mut self.room));
        }
        media_type.chars().take(MEDIA_TYPE_KEPT_MAX).collect()
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
        let index = self.is_index.then_some((&self.annotations, self.left_out));
        let mut lines = verbose::lines(index, rows, &self.details);
        lines.push(String::new());
        lines.push("coverage:".into());
        lines.extend(coverage::lines(&self.coverage));
        lines
    }
}
