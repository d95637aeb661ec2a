//! `edgepull inspect`: what an image consists of, and what this board would take of it.

use super::Documents;
use super::report::{Report, bytes};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, Manifest};
use crate::image::reference::Reference;
use crate::image::select::{self, Entry, Lookup, Selection, Verdict};
use crate::platform::Host;
use crate::source::{Fetched, Source};
use serde_json::{Value, json};
use std::io::Write;

/// One line of the table.
struct Row {
    platform: String,
    digest: Digest,
    /// Of the manifest and all it points at; `None` where it was not read.
    size: Option<u64>,
    layers: Option<usize>,
    media_type: String,
    verdict: String,
    is_taken: bool,
}

/// Without a `host`, the exact bytes.
pub fn run(image: &Reference, host: Option<&Host>, source: &mut dyn Source, report: &Report) -> Result<()> {
    let root = source.root()?;
    let Some(host) = host else {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&root.bytes).and_then(|()| out.flush());
        return written.map_err(|error| Error::from_io(Kind::Other, error).context("standard output"));
    };
    let (rows, refusal) = match Document::parse(&root.media_type, &root.bytes)? {
        Document::Index(index) => of_index(index, host, source)?,
        Document::Manifest(manifest) => of_manifest(&root, &manifest, host, source)?,
    };
    if report.is_json() {
        return report.json(&as_json(image, &root, &rows, host, refusal.as_ref()));
    }
    report.text(format_args!("{image}"))?;
    report.text(format_args!("{}  {}", root.digest, shown(&root.media_type)))?;
    for line in table(&rows) {
        report.text(line)?;
    }
    match (refusal, rows.iter().find(|row| row.is_taken)) {
        (Some(refusal), _) => report.text(format_args!("{refusal}")),
        (None, Some(row)) => report.text(format_args!("this board takes {} {}", row.platform, row.digest)),
        (None, None) => Ok(()),
    }
}

/// The rows of an index, and why the board takes none of them if it takes none.
fn of_index(index: Index, host: &Host, source: &mut dyn Source) -> Result<(Vec<Row>, Option<Error>)> {
    let mut documents = Documents(source);
    let selection = select::select(index, host, &mut documents)?;
    let refusal = selection.taken.is_none().then(|| selection.refusal(host));
    let Selection { entries, .. } = selection;
    let rows = entries.iter().map(|entry| row(entry, &mut documents)).collect::<Result<_>>()?;
    Ok((rows, refusal))
}

fn row(entry: &Entry, documents: &mut Documents) -> Result<Row> {
    let is_image = entry.platform.is_some();
    let manifest = match is_image.then(|| documents.document(&entry.descriptor)).transpose()? {
        Some(Document::Manifest(manifest)) => Some(manifest),
        _ => None,
    };
    Ok(Row {
        platform: entry.platform.as_ref().map_or_else(|| "-".into(), ToString::to_string),
        digest: entry.descriptor.digest,
        size: manifest.as_ref().map(|manifest| total(entry.descriptor.size, manifest)),
        layers: manifest.map(|manifest| manifest.layers.len()),
        media_type: entry.descriptor.media_type.clone(),
        verdict: entry.verdict.text(),
        is_taken: entry.verdict == Verdict::Taken,
    })
}

fn of_manifest(
    root: &Fetched,
    manifest: &Manifest,
    host: &Host,
    source: &mut dyn Source,
) -> Result<(Vec<Row>, Option<Error>)> {
    let platform = Documents(source).config(&manifest.config)?.platform();
    let refusal = select::check_single(&platform, host).err();
    let verdict = if refusal.is_some() { Verdict::Impossible } else { Verdict::Taken };
    let row = Row {
        platform: platform.to_string(),
        digest: root.digest,
        size: Some(total(root.bytes.len() as u64, manifest)),
        layers: Some(manifest.layers.len()),
        media_type: root.media_type.clone(),
        verdict: verdict.text(),
        is_taken: verdict == Verdict::Taken,
    };
    Ok((vec![row], refusal))
}

/// What a pull fetches. A hostile manifest's sizes do not overflow it.
fn total(own: u64, manifest: &Manifest) -> u64 {
    let parts = manifest.layers.iter().chain([&manifest.config]).map(|part: &Descriptor| part.size);
    parts.fold(own, u64::saturating_add)
}

fn table(rows: &[Row]) -> Vec<String> {
    let header = ["", "PLATFORM", "DIGEST", "SIZE", "LAYERS", "MEDIA TYPE", ""].map(str::to_owned);
    let mut cells = vec![header];
    cells.extend(rows.iter().map(|row| {
        [
            if row.is_taken { "*" } else { "" }.to_owned(),
            row.platform.clone(),
            format!("sha256:{}", row.digest.short()),
            row.size.map_or_else(|| "-".into(), bytes),
            row.layers.map_or_else(|| "-".into(), |layers| layers.to_string()),
            shown(&row.media_type),
            row.verdict.clone(),
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

fn as_json(image: &Reference, root: &Fetched, rows: &[Row], host: &Host, refusal: Option<&Error>) -> Value {
    let entries: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "platform": if row.platform == "-" { None } else { Some(&row.platform) },
                "digest": row.digest,
                "size": row.size,
                "layers": row.layers,
                "mediaType": row.media_type,
                "verdict": row.verdict,
                "taken": row.is_taken,
            })
        })
        .collect();
    json!({
        "image": image.to_string(),
        "digest": root.digest,
        "mediaType": root.media_type,
        "entries": entries,
        "board": host.candidates.iter().map(|c| c.platform.to_string()).collect::<Vec<_>>(),
        "refusal": refusal.map(ToString::to_string),
    })
}
