//! Everything that is known of one entry.

use super::notes::{self, EntryNotes, ManifestNotes, Room, Words};
use super::{Documents, Entry, Image};
use crate::error::{Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, ImageConfig, Manifest, PlatformField, Unusable};
use crate::image::select::Verdict;
use serde::Serialize;

/// By which annotation BuildKit's attestation names what it is about.
const ABOUT: &str = "vnd.docker.reference.digest";

/// What an index says of one of its entries in annotations.
#[derive(Default)]
pub(super) struct Noted {
    /// Of a nested index that was not read yet; its entries come to stand here.
    pub(super) index: Option<Digest>,
    pub(super) annotations: Words,
    pub(super) left_out: usize,
}

/// What an entry is, as its index, its manifest and its config say; no name is normalized. Nothing here but what a
/// [`Room`] has let in.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Details {
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) os_version: Option<String>,
    pub(super) os_features: Vec<String>,
    pub(super) features: Vec<String>,
    pub(super) artifact_type: Option<String>,
    /// In bytes, as the index says; `None` where it does not.
    pub(super) manifest_size: Option<u64>,
    /// The index's, about this entry.
    pub(super) annotations: Words,
    pub(super) manifest_annotations: Words,
    pub(super) layer_details: Vec<LayerDetails>,
    pub(super) config: Option<ConfigDetails>,
    /// The digest, as written, of the entry that this one is an attestation about.
    pub(super) attestation_for: Option<String>,
    /// Why something is not known that could be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// How many things are not here, for limits or because they are no text.
    #[serde(skip_serializing_if = "is_none")]
    pub(super) left_out: usize,
}

/// A layer as its manifest has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerDetails {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) foreign: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) predicate_type: Option<String>,
}

/// What an image's config says.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigDetails {
    pub(super) digest: Digest,
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) created: Option<String>,
    pub(super) entrypoint: Vec<String>,
    pub(super) cmd: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
    pub(super) env: Vec<String>,
    /// How many layers it says that there are.
    pub(super) diff_ids: usize,
    pub(super) labels: Words,
}

pub(super) fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Details {
    /// `noted` is what the index says of the entry, `image` what the entry points at, if it is an image; of an
    /// attestation the manifest is read here.
    pub(super) fn of(
        entry: &Entry,
        noted: Noted,
        image: Option<&Image>,
        documents: &mut Documents,
        room: &mut Room,
    ) -> Result<Details> {
        let descriptor = &entry.descriptor;
        let Noted { annotations, left_out, .. } = noted;
        let mut details = Details { manifest_size: Some(descriptor.size), annotations, ..Details::default() };
        details.artifact_type = room.text(descriptor.artifact_type.clone());
        details.label(descriptor.platform.as_ref(), room);
        if let Some((manifest, bytes)) = image {
            let notes = ManifestNotes::read(bytes)?;
            details.manifest(manifest, notes, room);
            let config = config(&manifest.config, documents, room);
            details.config = details.or_problem(config, room)?;
        } else if entry.verdict == Verdict::Attestation {
            details.attestation_for = details.annotations.get(ABOUT).cloned();
            let attestation = attestation(descriptor, documents);
            if let Some((manifest, notes)) = details.or_problem(attestation, room)? {
                details.manifest(&manifest, notes, room);
            }
        }
        details.left_out = left_out + room.left_out();
        Ok(details)
    }

    /// Tells as much as can be told of an entry that cannot be used; `notes` is what its index says of it.
    pub(super) fn of_unusable(entry: &Unusable, notes: EntryNotes, room: &mut Room) -> Details {
        let mut details = Details {
            manifest_size: notes.size,
            annotations: room.words(notes.annotations),
            artifact_type: room.text(notes.artifact_type),
            ..Details::default()
        };
        details.label(entry.platform.as_ref(), room);
        details.left_out = room.left_out();
        details
    }

    fn label(&mut self, field: Option<&PlatformField>, room: &mut Room) {
        let Some(field) = field else { return };
        self.os = room.text(Some(field.os.clone()));
        self.architecture = room.text(Some(field.architecture.clone()));
        self.variant = room.text(field.variant.clone());
        self.os_version = room.text(field.os_version.clone());
        self.os_features = room.list(field.os_features.clone());
        self.features = room.list(field.features.clone());
    }

    fn manifest(&mut self, manifest: &Manifest, notes: ManifestNotes, room: &mut Room) {
        self.manifest_annotations = room.words(notes.annotations);
        if self.artifact_type.is_none() {
            self.artifact_type = room.text(notes.artifact_type);
        }
        for (layer, predicate_type) in manifest.layers.iter().zip(notes.predicate_types) {
            if room.take(layer.media_type.len()) {
                self.layer_details.push(LayerDetails {
                    media_type: layer.media_type.clone(),
                    digest: layer.digest,
                    size: layer.size,
                    foreign: layer.is_foreign() || !layer.urls.is_empty(),
                    predicate_type: room.text(predicate_type),
                });
            }
        }
    }

    /// What is not there, or broken, is told beside all the rest: a pull may never need it.
    fn or_problem<T>(&mut self, result: Result<T>, room: &mut Room) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::BadImage | Kind::Verification) => {
                self.problems.extend(room.text(Some(error.to_string())));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn attestation(descriptor: &Descriptor, documents: &mut Documents) -> Result<(Box<Manifest>, ManifestNotes)> {
    let (fetched, manifest) = documents.image(descriptor)?;
    Ok((manifest, ManifestNotes::read(&fetched.bytes)?))
}

fn config(descriptor: &Descriptor, documents: &mut Documents, room: &mut Room) -> Result<ConfigDetails> {
    let bytes = documents.config_bytes(descriptor)?;
    let config = ImageConfig::parse(&bytes)?;
    let labels = notes::labels(&bytes)?;
    let mut given = |text: String| room.text(Some(text).filter(|text| !text.is_empty()));
    Ok(ConfigDetails {
        digest: descriptor.digest,
        os: given(config.os),
        architecture: given(config.architecture),
        variant: given(config.variant.unwrap_or_default()),
        created: given(config.created.unwrap_or_default()),
        user: given(config.config.user),
        working_dir: given(config.config.working_dir),
        entrypoint: room.list(config.config.entrypoint),
        cmd: room.list(config.config.cmd),
        env: room.list(config.config.env),
        diff_ids: config.rootfs.diff_ids.len(),
        labels: room.words(labels),
    })
}
