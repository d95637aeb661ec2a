//! What those who write a layout have in common: `oci-layout`, and the entries of `index.json` by which images have
//! their names (image-spec image-layout.md).
//!
//! Other images' entries are somebody else's: they are kept as JSON values, with fields that edgepull does not know.

use super::destination::in_memory;
use super::layout::{is_attachment, name_of, names_of};
use super::names;
use super::{Attachment, Destination, Fetched};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCUMENT_MAX, Descriptor, Document, Index, media_type};
use serde::Deserialize;
use serde_json::{Value, json};

/// The file that says that a directory is a layout.
pub(super) const MARKER: &str = "oci-layout";
/// What it says.
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists the images.
pub(super) const INDEX: &str = "index.json";

/// What points at a document.
pub(super) fn descriptor(document: &Fetched) -> Descriptor {
    Descriptor::new(document.media_type.clone(), document.digest, document.bytes.len() as u64)
}

/// Writes a document as a blob, which it is in a layout.
pub(super) fn write(destination: &mut dyn Destination, document: &Fetched) -> Result<()> {
    destination.blob(&descriptor(document), &mut in_memory(&document.bytes), &mut |_| {})
}

/// The names that an image gets: that of the reference, which may be none, and further ones; each once.
pub(super) fn names<'a>(tag: &'a Option<String>, further: &'a [String]) -> Vec<Option<&'a str>> {
    let mut names = vec![tag.as_deref()];
    for tag in further {
        if !names.contains(&Some(tag)) {
            names.push(Some(tag));
        }
    }
    names
}

/// Refuses a name that means something else where it is read.
///
/// # Errors
/// [`Kind::Usage`] for `@N`, which is the Nth image whatever it is called.
pub(super) fn check_name(place: &str, name: Option<&str>) -> Result<()> {
    match name.and_then(names::number) {
        None => Ok(()),
        Some(number) => {
            let message =
                format!("{place}: @{number} is the image with that number, and no name to write one under");
            Err(Error::new(Kind::Usage, message).hint("write a tag or a name behind the path"))
        }
    }
}

/// `index.json` as it is to be: `before`, with an entry for the document under each of `names`. It takes the place of
/// those that had the name; all others stay as they are. `place` is for messages.
///
/// # Errors
/// [`Kind::BadImage`] if `before` is no index, or the result is more than edgepull reads: 4 MiB or 1024 entries.
pub(super) fn merged(
    place: &str,
    before: Option<&[u8]>,
    document: &Fetched,
    names: &[Option<&str>],
) -> Result<Vec<u8>> {
    let media_type = media_type_of(document)?;
    let bytes = changed(&format!("{place}: {INDEX}"), before, |entries| {
        for name in names {
            put(entries, entry(document, &media_type, *name), *name);
        }
    })?;
    let index = check(place, &bytes, document, names)?;
    let named: Vec<(&str, Digest)> =
        (index.entries.iter()).flat_map(|entry| names_of(entry).map(|name| (name, entry.digest))).collect();
    for name in names.iter().flatten() {
        if names::find(name, &named) != [document.digest] {
            let message = format!("{place}: {name:?} is what another image there is called, too");
            return Err(Error::new(Kind::Usage, message).hint("write the whole name, or another one"));
        }
    }
    Ok(bytes)
}

/// An index as it is to be: `before`, after `change` of its entries. `what` is for messages.
fn changed(what: &str, before: Option<&[u8]>, change: impl FnOnce(&mut Vec<Value>)) -> Result<Vec<u8>> {
    let bad = |why: String| Error::new(Kind::BadImage, format!("{what} {why}"));
    let mut index: Value = match before {
        // As it is read: what is no UTF-8 is replaced, and keys may be in another case.
        Some(bytes) => serde_json::from_str(&String::from_utf8_lossy(bytes))
            .map_err(|error| bad(format!("is not valid: {error}")))?,
        None => json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []}),
    };
    let Some(fields) = index.as_object_mut() else { return Err(bad("is no index".to_owned())) };
    let keys: Vec<String> =
        fields.keys().filter(|key| key.eq_ignore_ascii_case("manifests")).cloned().collect();
    let mut lists = keys.iter().filter_map(|key| fields.remove(key)).filter(|list| !list.is_null());
    let list = lists.next().unwrap_or_default();
    if lists.next().is_some() {
        return Err(bad("has two lists of manifests, of which others would take one".to_owned()));
    }
    drop(lists);
    let entries = fields.entry("manifests").or_insert(list);
    // What Go writes for a list that it never made.
    if entries.is_null() {
        *entries = json!([]);
    }
    let Value::Array(entries) = entries else { return Err(bad("is no index".to_owned())) };
    change(entries);
    let bytes = serde_json::to_vec(&index).map_err(|error| bad(format!("cannot be written: {error}")))?;
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err(bad("would be larger than 4 MiB".to_owned())
            .hint("edgepull's limit DOCUMENT_MAX; write to another place"));
    }
    Ok(bytes)
}

/// `index.json` as it is to be: `before`, with an entry for something that is attached to an image, once.
///
/// # Errors
/// Returns those of [`merged`].
pub(super) fn attached(place: &str, before: Option<&[u8]>, attachment: &Attachment) -> Result<Vec<u8>> {
    let document = &attachment.document;
    if let Some(tag) = &attachment.tag {
        return merged(place, before, document, &[Some(tag)]);
    }
    with_referrer(&format!("{place}: {INDEX}"), before, document)
}

/// An index as it is to be: `before`, with an entry for `document`, which says itself to what it belongs, once. The entry
/// has what the document says of itself (distribution-spec, "Pushing Manifests with Subject"). `what` is for messages.
///
/// # Errors
/// Returns those of [`merged`].
pub(super) fn with_referrer(what: &str, before: Option<&[u8]>, document: &Fetched) -> Result<Vec<u8>> {
    let mut new = entry(document, &media_type_of(document)?, None);
    let own: Value = serde_json::from_slice(&document.bytes).unwrap_or_default();
    // image-spec manifest.md, "Guidelines for Artifact Usage"
    let kinds = [&own["artifactType"], &own["config"]["mediaType"]];
    if let Some(kind) = kinds.into_iter().find(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty())) {
        new["artifactType"] = kind.clone();
    }
    if own["annotations"].is_object() {
        new["annotations"] = own["annotations"].clone();
    }
    changed(what, before, |entries| {
        if !entries.iter().any(|entry| entry["digest"] == new["digest"]) {
            entries.push(new);
        }
    })
}

/// Checks that `index.json` can be read and has the document under each of `names`. Returns it.
///
/// # Errors
/// [`Kind::BadImage`] if it cannot; [`Kind::Verification`] if it has not.
pub(super) fn check(place: &str, bytes: &[u8], document: &Fetched, names: &[Option<&str>]) -> Result<Index> {
    let index = Document::parse(media_type::OCI_INDEX, bytes)
        .map_err(|error| error.context(format_args!("{place}: {INDEX}")))?;
    let Document::Index(index) = index else {
        return Err(Error::new(Kind::BadImage, format!("{place}: {INDEX} is no index")));
    };
    let has = |name: &Option<&str>| {
        let mut entries = index.entries.iter();
        entries.any(|entry| entry.digest == document.digest && name_of(entry) == *name)
    };
    match names.iter().all(has) {
        true => Ok(index),
        false => Err(Error::new(
            Kind::Verification,
            format!("{place}: {INDEX} does not name {} as it should", document.digest),
        )),
    }
}

/// The first entry of that name becomes `new`; further ones, an image's other platforms, go.
fn put(entries: &mut Vec<Value>, new: Value, name: Option<&str>) {
    let mut new = Some(new);
    entries.retain_mut(|entry| match (has_name(entry, name), new.take()) {
        (false, unused) => {
            new = unused;
            true
        }
        (true, Some(new)) => {
            *entry = new;
            true
        }
        (true, None) => false,
    });
    entries.extend(new);
}

/// Whether an entry is an image of that name. What has none may also be something about another image, such as a
/// signature, which must not be lost.
fn has_name(entry: &Value, name: Option<&str>) -> bool {
    let Ok(entry) = Descriptor::read(entry.to_string().as_bytes()) else { return false };
    let full_name = entry.annotations.as_ref().and_then(|annotations| annotations.full_name.as_deref());
    match full_name.filter(|full_name| !full_name.is_empty()) {
        // containerd's other annotation is the tag alone, which other images have, too.
        Some(full_name) => name == Some(full_name),
        None => {
            name_of(&entry) == name && (name.is_some() || !(entry.is_artifact() || is_attachment(&entry)))
        }
    }
}

fn entry(document: &Fetched, media_type: &str, name: Option<&str>) -> Value {
    let mut entry = json!({"mediaType": media_type, "digest": document.digest, "size": document.bytes.len()});
    if let Some(name) = name {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    entry
}

/// What the document says it is, or else its source. An entry must have a media type (image-spec descriptor.md), so
/// where neither says anything, its shape tells.
fn media_type_of(document: &Fetched) -> Result<String> {
    #[derive(Deserialize)]
    struct Own {
        #[serde(rename = "mediaType", default)]
        media_type: String,
    }
    let parsed = Document::parse(&document.media_type, &document.bytes)?;
    let own = serde_json::from_slice(&document.bytes).map(|own: Own| own.media_type).unwrap_or_default();
    Ok(match (own.is_empty(), document.media_type.is_empty(), parsed) {
        (false, _, _) => own,
        (true, false, _) => document.media_type.clone(),
        (true, true, Document::Index(_)) => media_type::OCI_INDEX.to_owned(),
        (true, true, Document::Manifest(_)) => media_type::OCI_MANIFEST.to_owned(),
    })
}
