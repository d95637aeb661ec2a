//! From an image that somebody wants in a list to the entries that it becomes.

use super::Documents;
use crate::error::{Error, Kind, Printable, Result};
use crate::image::compose::Entry;
use crate::image::manifest::{Document, ENTRIES_MAX, ImageConfig, Manifest, PlatformField, media_type};
use crate::image::select::{LOOKUPS_MAX, NESTING_MAX};
use crate::platform::Platform;
use crate::source::{Fetched, Source};
use std::collections::BTreeMap;

/// Says what becomes of the entries of a list that are not where the list is: a layout or an archive may have some only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incomplete {
    /// They are left out, with a warning each.
    LeftOut,
    /// They are an error.
    Refused,
}

/// The entries that an image becomes: one, or, where it is a list itself, those of that list. Of these only what is for
/// `given`, if something is given. Entries whose digests cannot be checked are left out, with a warning each.
///
/// # Errors
/// Returns those of the source; [`Kind::NotFound`] where the list has nothing for `given`, or is incomplete; [`Kind::Usage`] where
/// nobody says what an image is for.
pub(super) fn entries(
    source: &mut dyn Source,
    given: &PlatformField,
    incomplete: Incomplete,
) -> Result<Vec<Entry>> {
    let root = source.root()?;
    match Document::parse(&root.media_type, &root.bytes)? {
        Document::Manifest(manifest) => {
            let mut entry = pointing_at(&root, &manifest);
            entry.label(given, &Documents(source).config(&manifest.config)?)?;
            Ok(vec![entry])
        }
        Document::Index(_) => {
            let mut lift = Lift { source, incomplete, lists: 0, entries: Vec::new() };
            lift.list(&root, 1)?;
            chosen(lift.entries, given)
        }
    }
}

/// The entry of an image that nothing has pointed at yet.
fn pointing_at(root: &Fetched, manifest: &Manifest) -> Entry {
    let by_config = match manifest.config.media_type.as_str() {
        media_type::OCI_CONFIG => media_type::OCI_MANIFEST,
        _ => media_type::DOCKER_MANIFEST,
    };
    let media_type = match root.media_type.as_str() {
        known @ (media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST) => known,
        _ => by_config,
    };
    Entry {
        media_type: media_type.to_owned(),
        digest: root.digest,
        size: root.bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
        artifact_type: None,
    }
}

/// Takes lists apart. However few bytes they are, lists of lists of one list would be a billion entries: both are counted.
struct Lift<'a> {
    source: &'a mut dyn Source,
    incomplete: Incomplete,
    lists: usize,
    entries: Vec<Entry>,
}

impl Lift<'_> {
    /// Puts the entries of a list, and of the lists in it, behind the others; what has no label gets that of its config.
    fn list(&mut self, list: &Fetched, depth: usize) -> Result<()> {
        let (entries, unusable) = Entry::of_list(&list.media_type, &list.bytes)?;
        for why in unusable {
            log::warn!("{} is left out: {}", list.digest, Printable(&why));
        }
        for mut entry in entries {
            let descriptor = entry.descriptor();
            if !self.source.has(&descriptor) {
                self.lacks(&entry)?;
                continue;
            }
            if descriptor.is_index() {
                self.count_list(depth)?;
                let nested = self.source.manifest(&descriptor)?;
                self.list(&nested, depth + 1)?;
                continue;
            }
            if self.entries.len() == ENTRIES_MAX {
                let message = format!("more than {ENTRIES_MAX} entries (limit ENTRIES_MAX)");
                return Err(Error::new(Kind::BadImage, message));
            }
            let may_be_image =
                descriptor.is_manifest() && !descriptor.is_artifact() && !entry.is_attestation();
            if entry.labelled_platform().is_none() && may_be_image {
                self.label(&mut entry)?;
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Labels an entry by its config. What is no image, or says nowhere what it runs on, stays without a label: no board
    /// takes it.
    fn label(&mut self, entry: &mut Entry) -> Result<()> {
        let labelled =
            config(self.source, entry).and_then(|config| entry.label(&PlatformField::default(), &config));
        match labelled {
            Err(error) if matches!(error.kind(), Kind::BadImage | Kind::Usage) => {
                log::warn!("{} has no platform: {error}; it is taken over as it is", entry.digest);
                Ok(())
            }
            other => other,
        }
    }

    /// Says that an entry is not there.
    fn lacks(&self, entry: &Entry) -> Result<()> {
        let platform = entry.labelled_platform().map(|platform| format!(" ({platform})")).unwrap_or_default();
        let message = format!("the list is incomplete: {}{platform} is not there", entry.digest);
        match self.incomplete {
            Incomplete::LeftOut => {
                log::warn!("{message}; it is left out");
                Ok(())
            }
            Incomplete::Refused => {
                Err(Error::new(Kind::NotFound, message).hint("--ignore-missing leaves it out"))
            }
        }
    }

    /// One more, in one that lies so deep.
    fn count_list(&mut self, depth: usize) -> Result<()> {
        self.lists += 1;
        let message = match () {
            () if depth == NESTING_MAX => {
                format!("indexes are nested deeper than {NESTING_MAX} (limit NESTING_MAX)")
            }
            () if self.lists > LOOKUPS_MAX => {
                format!("more than {LOOKUPS_MAX} indexes in it (limit LOOKUPS_MAX)")
            }
            () => return Ok(()),
        };
        Err(Error::new(Kind::BadImage, message))
    }
}

/// The config of an entry's image.
fn config(source: &mut dyn Source, entry: &Entry) -> Result<ImageConfig> {
    let mut documents = Documents(source);
    let (_, manifest) = documents.image(&entry.descriptor())?;
    documents.config(&manifest.config)
}

/// Of several images those that are for what is given; and what is attached to them.
fn chosen(lifted: Vec<Entry>, given: &PlatformField) -> Result<Vec<Entry>> {
    if given.os.is_empty() && given.architecture.is_empty() {
        return Ok(lifted);
    }
    let variant = given.variant.as_deref().unwrap_or_default();
    let wanted = Platform::new(&given.os, &given.architecture, variant);
    let (attestations, images): (Vec<Entry>, Vec<Entry>) =
        lifted.into_iter().partition(Entry::is_attestation);
    let there_is = images.iter().filter_map(Entry::labelled_platform).map(|platform| platform.to_string());
    let there_is = there_is.collect::<Vec<_>>().join(", ");
    let images: Vec<Entry> =
        images.into_iter().filter(|entry| entry.labelled_platform().as_ref() == Some(&wanted)).collect();
    if images.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("it is a list without {wanted}; it has {there_is}")));
    }
    let about_one = |entry: &Entry| {
        let about = entry.annotations.get("vnd.docker.reference.digest");
        about.is_some_and(|digest| images.iter().any(|image| image.digest.to_string() == *digest))
    };
    let attestations: Vec<Entry> = attestations.into_iter().filter(about_one).collect();
    Ok(images.into_iter().chain(attestations).collect())
}
