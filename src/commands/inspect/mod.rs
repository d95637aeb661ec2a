//! `edgepull inspect`: what an image consists of, and what this board would take of it.
//!
//! Boards have the table. Whoever publishes has more ([`closer`]): all that the documents say, and which boards the
//! image serves.

#[cfg(feature = "publish")]
mod closer;
#[cfg(feature = "publish")]
mod coverage;
#[cfg(feature = "publish")]
mod details;
#[cfg(fuzzing)]
pub mod fuzzing;
mod going_on;
#[cfg(feature = "publish")]
mod notes;
#[cfg(all(test, feature = "publish"))]
mod tests;
#[cfg(feature = "publish")]
mod verbose;

use super::Documents;
use super::report::{Report, bytes};
use crate::error::{Error, Printable, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, Manifest, PlatformField};
use crate::image::reference::Reference;
use crate::image::select::{self, Ask, Entry, Lookup, Selection, Verdict};
use crate::platform::{Host, Platform};
use crate::source::{Fetched, Source};
use closer::Closer;
use going_on::GoingOn;
use serde::Serialize;

/// Where only the table is wanted, nothing is looked at more closely.
#[cfg(not(feature = "publish"))]
mod closer {
    use super::*;

    /// Has nothing to say.
    #[derive(Default, Serialize)]
    pub(super) struct Closer {}

    impl Closer {
        pub(super) fn new(_deeply: bool) -> Closer {
            Closer {}
        }
        pub(super) fn index(&mut self, _: Option<Digest>, _: &Index, _: &[u8]) -> Result<()> {
            Ok(())
        }
        pub(super) fn no_index(&mut self, _: Digest) {}
        pub(super) fn unusable(&mut self, _: &crate::image::manifest::Unusable) -> String {
            String::new()
        }
        pub(super) fn entry(&mut self, _: &Entry, _: Option<&Image>, _: &mut Documents) -> Result<()> {
            Ok(())
        }
        pub(super) fn coverage(&mut self, _: &[Entry]) {}
        pub(super) fn details(&self, _row: usize) -> Option<&Closer> {
            None
        }
        pub(super) fn lines(&self, _: &[Row]) -> Vec<String> {
            Vec::new()
        }
    }
}

/// One line of the table.
struct Row {
    platform: String,
    /// Is as it is written where the entry cannot be used.
    digest: String,
    /// Of the manifest and all it points at; `None` where it was not read.
    size: Option<u64>,
    layers: Option<usize>,
    media_type: String,
    verdict: String,
    is_taken: bool,
    /// Whether the verdict says why it cannot be used.
    is_unusable: bool,
}

/// An image's manifest, and the bytes that it was read from.
type Image = (Box<Manifest>, Vec<u8>);

/// What was found. Of each entry no more is kept than its row, and what [`Closer`] bounds: manifests are read one at
/// a time, and an index has at most [`ENTRIES_MAX`](crate::image::manifest::ENTRIES_MAX) entries.
struct Inspected {
    digest: Digest,
    media_type: String,
    /// Of the document that the image's name stands for, in bytes.
    size: usize,
    rows: Vec<Row>,
    /// Why the board takes none of them, if it takes none.
    refusal: Option<Error>,
    closer: Closer,
}

/// Without a `host`, the exact bytes. `verbose`: people are told as much as programs.
pub fn run(
    image: &Reference,
    host: Option<&Host>,
    verbose: bool,
    source: &mut dyn Source,
    report: &Report,
) -> Result<()> {
    let root = source.root()?;
    let Some(host) = host else {
        return report.bytes(&root.bytes);
    };
    let inspected = inspect(root, host, verbose || report.is_json(), source)?;
    if report.is_json() {
        return report.json(&inspected.as_json(image, host));
    }
    report.text(format_args!("{image}"))?;
    inspected.lines().into_iter().try_for_each(|line| report.text(line))
}

fn inspect(root: Fetched, host: &Host, deeply: bool, source: &mut dyn Source) -> Result<Inspected> {
    let Fetched { bytes, digest, media_type } = root;
    let (mut closer, size) = (Closer::new(deeply), bytes.len());
    let (rows, refusal) = match Document::parse(&media_type, &bytes)? {
        Document::Index(index) => {
            closer.index(None, &index, &bytes)?;
            drop(bytes);
            of_index(index, host, source, &mut closer)?
        }
        Document::Manifest(manifest) => {
            let root = (digest, media_type.as_str());
            of_manifest(root, (manifest, bytes), host, source, &mut closer)?
        }
    };
    Ok(Inspected { digest, media_type, size, rows, refusal, closer })
}

/// What choosing looks up; nested indexes are shown to the closer look, too.
struct Lookups<'a, 's> {
    documents: &'a mut Documents<'s>,
    closer: &'a mut Closer,
}

impl Lookup for Lookups<'_, '_> {
    fn document(&mut self, descriptor: &Descriptor) -> Result<Document> {
        let document = self.documents.0.manifest(descriptor).and_then(|fetched| {
            let document = Document::parse(&descriptor.media_type, &fetched.bytes)?;
            match &document {
                Document::Index(index) if !index.entries.is_empty() || !index.unusable.is_empty() => {
                    self.closer.index(Some(descriptor.digest), index, &fetched.bytes)?;
                }
                _ => self.closer.no_index(descriptor.digest),
            }
            Ok(document)
        });
        if document.is_err() {
            self.closer.no_index(descriptor.digest);
        }
        document
    }

    fn config_platform(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>> {
        self.documents.config_platform(descriptor)
    }

    fn is_there(&mut self, descriptor: &Descriptor) -> bool {
        self.documents.is_there(descriptor)
    }
}

/// The rows of an index, and why the board takes none of them if it takes none.
fn of_index(
    index: Index,
    host: &Host,
    source: &mut dyn Source,
    closer: &mut Closer,
) -> Result<(Vec<Row>, Option<Error>)> {
    let mut going_on = GoingOn::new(source);
    let documents = &mut Documents(&mut going_on);
    let mut selection = select::select(index, host, Ask::Always, &mut Lookups { documents, closer })?;
    // An error of the place is met again below, where its entry's row is.
    let mut confirmed = super::image::confirm(&mut selection, host, documents).unwrap_or_default();
    let mut refusal = match going_on.ends_a_pull(&selection) {
        Some(error) => Some(error),
        None => selection.taken.is_none().then(|| selection.refusal(host)),
    };
    let cannot_be_told = selection.taken.is_some() && refusal.is_some();
    let documents = &mut Documents(&mut going_on);
    let Selection { mut entries, unusable, .. } = selection;
    closer.coverage(&entries);
    let mut rows = Vec::with_capacity(entries.len() + unusable.len());
    for entry in &mut entries {
        let is_taken = entry.verdict == Verdict::Taken;
        let confirmed = confirmed.take_if(|_| is_taken).map(Ok);
        let mut fetch = || documents.image(&entry.descriptor);
        let image = match entry.platform.as_ref().map(|_| confirmed.unwrap_or_else(&mut fetch)) {
            Some(Ok((fetched, manifest))) => Some((manifest, fetched.bytes)),
            Some(Err(error)) => {
                entry.verdict = Verdict::Unusable(error.message().to_owned());
                if is_taken {
                    refusal.get_or_insert(error);
                }
                None
            }
            None => None,
        };
        closer.entry(entry, image.as_ref(), documents)?;
        let mut row = row(entry, image.as_ref().map(|(manifest, _)| &**manifest));
        if row.is_taken && cannot_be_told {
            row.is_taken = false;
            row.verdict = "runs; whether there is a better one cannot be told".to_owned();
        }
        rows.push(row);
    }
    rows.extend(unusable.into_iter().map(|entry| Row {
        platform: entry.platform.as_ref().map_or_else(|| "-".into(), |field| field.normal().to_string()),
        media_type: closer.unusable(&entry),
        digest: entry.digest,
        size: None,
        layers: None,
        verdict: entry.why,
        is_taken: false,
        is_unusable: true,
    }));
    Ok((rows, refusal))
}

fn row(entry: &Entry, manifest: Option<&Manifest>) -> Row {
    let is_unusable = entry.verdict.unusable().is_some();
    Row {
        platform: match (&entry.platform, &entry.descriptor.platform) {
            (Some(platform), _) => platform.to_string(),
            (None, Some(field)) if is_unusable || entry.verdict == Verdict::NotAnImage => {
                field.normal().to_string()
            }
            (None, _) => "-".into(),
        },
        digest: entry.descriptor.digest.to_string(),
        size: manifest.map(|manifest| total(entry.descriptor.size, manifest)),
        layers: manifest.map(|manifest| manifest.layers.len()),
        media_type: entry.descriptor.media_type.clone(),
        verdict: entry.verdict.text(),
        is_taken: entry.verdict == Verdict::Taken,
        is_unusable,
    }
}

/// As [`of_index`]: a single image is the only entry that there is, and its config labels it.
fn of_manifest(
    (digest, media_type): (Digest, &str),
    image: Image,
    host: &Host,
    source: &mut dyn Source,
    closer: &mut Closer,
) -> Result<(Vec<Row>, Option<Error>)> {
    let config = Documents(source).config(&image.0.config)?;
    let platform = config.platform();
    let refusal = super::image::single_platform(&config, host, false).err();
    let descriptor = Descriptor {
        platform: Some(PlatformField {
            os: config.os,
            architecture: config.architecture,
            variant: config.variant,
            ..PlatformField::default()
        }),
        ..Descriptor::new(media_type.to_owned(), digest, image.1.len() as u64)
    };
    let verdict = if refusal.is_some() { Verdict::Impossible } else { Verdict::Taken };
    let entry = Entry::single(descriptor, platform, verdict);
    closer.coverage(std::slice::from_ref(&entry));
    closer.entry(&entry, Some(&image), &mut Documents(&mut GoingOn::new(source)))?;
    Ok((vec![row(&entry, Some(&image.0))], refusal))
}

/// What a pull fetches. A hostile manifest's sizes do not overflow it.
fn total(own: u64, manifest: &Manifest) -> u64 {
    let parts = manifest.layers.iter().chain([&manifest.config]).map(|part: &Descriptor| part.size);
    parts.fold(own, u64::saturating_add)
}

impl Inspected {
    /// For people, without the image's name.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}  {}", self.digest, shown(&self.media_type))];
        lines.extend(table(&self.rows));
        match (&self.refusal, self.rows.iter().find(|row| row.is_taken)) {
            (Some(refusal), _) => lines.push(refusal.to_string()),
            (None, Some(row)) => lines.push(format!("this board takes {} {}", row.platform, row.digest)),
            (None, None) => {}
        }
        lines.extend(self.closer.lines(&self.rows));
        lines
    }

    fn as_json<'a>(&'a self, image: &Reference, host: &Host) -> impl Serialize + use<'a> {
        Told {
            image: image.to_string(),
            digest: self.digest,
            media_type: &self.media_type,
            size: self.size,
            entries: Entries(self),
            board: host.candidates.iter().map(|candidate| candidate.platform.to_string()).collect(),
            refusal: self.refusal.as_ref().map(ToString::to_string),
            closer: &self.closer,
        }
    }
}

fn table(rows: &[Row]) -> Vec<String> {
    let header = ["", "PLATFORM", "DIGEST", "SIZE", "LAYERS", "MEDIA TYPE", ""].map(str::to_owned);
    let mut cells = vec![header];
    cells.extend(rows.iter().map(|row| {
        [
            if row.is_taken { "*" } else { "" }.to_owned(),
            Printable(&row.platform).to_string(),
            Printable(&row.digest).to_string().chars().take(DIGEST_SHOWN_MAX).collect(),
            row.size.map_or_else(|| "-".into(), bytes),
            row.layers.map_or_else(|| "-".into(), |layers| layers.to_string()),
            shown(&row.media_type),
            Printable(&row.verdict).to_string(),
        ]
    }));
    let widths: Vec<usize> = (0..7)
        .map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    let line = |row: &[String; 7]| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect()
}

/// How many characters of a digest are in the table: its algorithm, and what tells it from others.
const DIGEST_SHOWN_MAX: usize = "sha256:".len() + 12;

/// The most characters of a media type in the table; the longest of those that are known has 73.
const MEDIA_TYPE_MAX: usize = 80;

/// For a terminal, which must not obey what an index says.
fn shown(media_type: &str) -> String {
    let visible = |character: char| if character.is_control() { '?' } else { character };
    match media_type {
        "" => "(no media type)".to_owned(),
        given => given.chars().take(MEDIA_TYPE_MAX).map(visible).collect(),
    }
}

/// For programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    image: String,
    digest: Digest,
    media_type: &'a str,
    size: usize,
    entries: Entries<'a>,
    board: Vec<String>,
    refusal: Option<String>,
    #[serde(flatten)]
    closer: &'a Closer,
}

struct Entries<'a>(&'a Inspected);

impl Serialize for Entries<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows.iter().enumerate().map(|(at, row)| ToldEntry {
            platform: Some(row.platform.as_str()).filter(|platform| *platform != "-"),
            digest: &row.digest,
            size: row.size,
            layers: row.layers,
            media_type: &row.media_type,
            verdict: &row.verdict,
            taken: row.is_taken,
            unusable: row.is_unusable.then_some(row.verdict.as_str()),
            details: self.0.closer.details(at),
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldEntry<'a, D: Serialize> {
    platform: Option<&'a str>,
    digest: &'a str,
    size: Option<u64>,
    layers: Option<usize>,
    media_type: &'a str,
    verdict: &'a str,
    taken: bool,
    /// Why it cannot be used, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<&'a str>,
    #[serde(flatten)]
    details: Option<D>,
}
