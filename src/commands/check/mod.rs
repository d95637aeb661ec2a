//! `edgepull manifest check`: whether what each entry would run is what its label says.
//!
//! One entry after the other is fetched and unpacked as a pull does it, in the same confined process, into a directory
//! that is gone afterwards; what the layers could not keep there (owners, devices) does not matter here. A layer that an
//! entry has in common with the one before it is not fetched again.

use super::confined::{Question, confined};
use super::plan::Plan;
use super::report::Report;
use super::{Documents, open};
use crate::cli::Options;
use crate::clock::Clock;
use crate::error::{Error, Kind, Printable, Result};
use crate::image::digest::Digest;
use crate::image::label::{self, Checked, Label, Outcome, Written};
use crate::image::manifest::{Descriptor, Document, ImageConfig, Manifest};
use crate::image::program::{self, Programs};
use crate::image::reference::Reference;
use crate::image::select::{self, Verdict};
use crate::layer::rootfs::open_in_root;
use crate::sandbox::Rights;
use crate::source::Source;
use crate::store::temporary::Temporary;
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// What stands for the platform of an entry that has none.
const UNLABELLED: &str = "-";

/// Reports every entry of `image`.
///
/// # Errors
/// [`Kind::BadImage`] where a label is a lie; those of a pull, with the entry's name, where one cannot be read.
pub(super) fn run(image: &Reference, options: &Options, clock: &Arc<Clock>, report: &Report) -> Result<()> {
    let (digest, rows) = look(image, options, clock)?;
    match report.is_json() {
        true => report.json(&as_json(image, digest, &rows))?,
        false => table(&rows).into_iter().try_for_each(|line| report.text(line))?,
    }
    refusal(&rows).map_or(Ok(()), Err)
}

/// The error for an image with a lie in it.
fn refusal(rows: &[Checked]) -> Option<Error> {
    let (message, hint) = match (lies(rows), rows.len()) {
        (0, _) => return None,
        (_, 1) => ("the image is not what its label says".to_owned(), "relabel it as the verdict says"),
        (lies, all) => {
            let message = format!("{lies} of {all} entries are not what their labels say");
            (message, "relabel them as the verdicts say")
        }
    };
    Some(Error::new(Kind::BadImage, message).hint(hint))
}

/// The digest of what `image` names, and its entries in their order.
fn look(image: &Reference, options: &Options, clock: &Arc<Clock>) -> Result<(Digest, Vec<Checked>)> {
    let temporary = Temporary::new()?;
    let mut source = open(image, options, clock)?;
    let writable = vec![temporary.directory()];
    let rights = Rights { writable, readable: source.files(), ..Rights::default() };
    let mut rows = Vec::new();
    let digest = confined(
        rights,
        options,
        clock,
        |line| {
            let told = &mut |row| line.ask(&Question::Checked(row)).map(drop);
            each(&temporary, &mut *source, told)
        },
        |question| {
            if let Question::Checked(row) = question {
                rows.push(row);
            }
            Ok(true)
        },
    )?;
    Ok((digest, rows))
}

/// Tells what became of each entry. The digest of what the source has.
fn each(
    temporary: &Temporary,
    source: &mut dyn Source,
    told: &mut dyn FnMut(Checked) -> Result<()>,
) -> Result<Digest> {
    let root = source.root()?;
    match Document::parse(&root.media_type, &root.bytes)? {
        Document::Manifest(manifest) => {
            let config = Documents(source).config(&manifest.config)?;
            let platform = Written::of(Label::Config, &config).map(|written| written.to_string());
            let outcome = unpacked(temporary, source, &manifest, &config, Label::Config)?;
            told(Checked { platform, digest: root.digest, outcome })?;
        }
        Document::Index(index) => {
            let (entries, unusable) = select::expand(index, &mut Documents(source))?;
            for unusable in unusable {
                let digest = if unusable.digest.is_empty() { "no digest" } else { &unusable.digest };
                log::warn!("an entry ({}) cannot be used: {}", Printable(digest), Printable(&unusable.why));
            }
            let is_usable = |entry: &select::Entry| entry.verdict.unusable().is_none();
            if let (Some(first), false) = (entries.first(), entries.iter().any(is_usable)) {
                let why = first.verdict.text();
                return Err(Error::new(Kind::BadImage, format!("none of its entries can be used: {why}")));
            }
            for select::Entry { descriptor, verdict, .. } in entries {
                let row = row(temporary, source, &descriptor, &verdict)?;
                told(row)?;
            }
        }
    }
    Ok(root.digest)
}

fn row(
    temporary: &Temporary,
    source: &mut dyn Source,
    descriptor: &Descriptor,
    verdict: &Verdict,
) -> Result<Checked> {
    let (digest, label) = (descriptor.digest, descriptor.platform.as_ref());
    let platform = label.map(|label| Written::of_field(label).to_string());
    let outcome = match verdict {
        Verdict::Attestation => Outcome::Unchecked("an attestation".into()),
        Verdict::NotAnImage => Outcome::Unchecked("not an image".into()),
        Verdict::Unusable(why) => Outcome::Unchecked(why.clone()),
        _ => {
            let name = format!("entry {} {digest}", platform.as_deref().unwrap_or(UNLABELLED));
            log::info!("{name}");
            match entry(temporary, source, descriptor, Label::Entry(label)) {
                // An image that is not all there says nothing about the others.
                Err(error) if error.kind() == Kind::NotFound => {
                    Outcome::Unchecked(error.message().to_owned())
                }
                outcome => outcome.map_err(|error| error.context(name))?,
            }
        }
    };
    Ok(Checked { platform, digest, outcome })
}

/// Fetches the image that `manifest` points at, unpacks it into `temporary` and holds it against `label`. This is work for
/// the confined process.
///
/// # Errors
/// Those of a pull: what cannot be read is no lie.
pub(super) fn entry(
    temporary: &Temporary,
    source: &mut dyn Source,
    manifest: &Descriptor,
    label: Label<'_>,
) -> Result<Outcome> {
    let mut documents = Documents(source);
    let (_, manifest) = documents.image(manifest)?;
    if !manifest.config.is_image_config() {
        return Ok(Outcome::Unchecked("no container image".into()));
    }
    let config = documents.config(&manifest.config)?;
    unpacked(temporary, source, &manifest, &config, label)
}

fn unpacked(
    temporary: &Temporary,
    source: &mut dyn Source,
    manifest: &Manifest,
    config: &ImageConfig,
    label: Label<'_>,
) -> Result<Outcome> {
    label::check(label, config, &mut || programs(temporary, source, manifest, config))
}

/// What the image runs.
fn programs(
    temporary: &Temporary,
    source: &mut dyn Source,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Programs> {
    let diff_ids = &config.rootfs.diff_ids;
    let layers = temporary.layers(diff_ids)?;
    Plan::new(manifest, config, &layers, &[])?.fetch(source, None, &Report::quiet())?;
    let (root, scratch) = temporary.root()?;
    let again = root.try_clone().map_err(|error| Error::disk("the root", error))?;
    layers.compose(diff_ids, again, scratch)?;
    let open = |path: &Path| open_in_root(root.as_fd(), path);
    Ok(program::read(&config.config, &open))
}

/// How many entries lie.
fn lies(rows: &[Checked]) -> usize {
    rows.iter().filter(|row| matches!(row.outcome, Outcome::Lies(_))).count()
}

/// One line for each entry, and one more for each further lie.
fn table(rows: &[Checked]) -> Vec<String> {
    let mut lines = vec![["PLATFORM".to_owned(), "DIGEST".to_owned(), "VERDICT".to_owned()]];
    for row in rows {
        let mut first = Some((row.platform.as_deref().unwrap_or(UNLABELLED), row.digest.short()));
        for verdict in verdicts(&row.outcome) {
            let (platform, digest) = match first.take() {
                Some((platform, digest)) => (Printable(platform).to_string(), format!("sha256:{digest}")),
                None => Default::default(),
            };
            lines.push([platform, digest, Printable(&verdict).to_string()]);
        }
    }
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    let line =
        |[platform, digest, verdict]: &[String; 3]| format!("{platform:first$}  {digest:second$}  {verdict}");
    lines.iter().map(line).collect()
}

fn verdicts(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Fits(files) => vec![format!("fits: {}", files.join(", "))],
        Outcome::Lies(lies) => lies.iter().map(|lie| format!("LIE: {lie}")).collect(),
        Outcome::Unchecked(why) => vec![format!("not checked: {why}")],
    }
}

fn as_json(image: &Reference, digest: Digest, rows: &[Checked]) -> Value {
    let entry = |row: &Checked| {
        let (verdict, files, why) = match &row.outcome {
            Outcome::Fits(files) => ("fits", files.as_slice(), &[][..]),
            Outcome::Lies(lies) => ("lie", &[][..], lies.as_slice()),
            Outcome::Unchecked(why) => ("unchecked", &[][..], std::slice::from_ref(why)),
        };
        json!({
            "platform": row.platform,
            "digest": row.digest,
            "verdict": verdict,
            "files": files,
            "why": why,
        })
    };
    let entries: Vec<Value> = rows.iter().map(entry).collect();
    json!({ "image": image.to_string(), "digest": digest, "entries": entries, "lies": lies(rows) })
}

#[cfg(test)]
mod tests;
