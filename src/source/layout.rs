//! An OCI image layout (image-spec image-layout.md): a directory, or the same files in a tar.
//!
//! What differs between the two is only how a file is opened ([`Files`]). `index.json` lists what is in
//! the layout; a tag is an annotation there, so choosing an image means choosing entries.

use super::archive::Archive;
use super::attached::{self, Search};
use super::{Fetched, Found, Source, read_document, verified};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Index, media_type};
use crate::image::reference::LocalReference;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most tags that an error message lists.
const LISTED_MAX: usize = 20;

/// The most blobs that may be links, where there is Landlock: each is to be named to the kernel.
const LINKED_MAX: usize = 1024;

/// A file of the layout, positioned, and its whole size in bytes.
pub(super) type Opened = (Box<dyn Read + Send>, u64);

/// The files of a layout, by their path in it.
pub(super) trait Files {
    /// Opens the regular file `path` at `offset`; `None` if there is none.
    fn open(&self, path: &str, offset: u64) -> Result<Option<Opened>>;

    /// What is opened later: files, and directories with files.
    fn places(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// One image in a layout.
pub(super) struct Layout {
    files: Box<dyn Files>,
    /// For messages: the path that the user named.
    place: String,
    tag: Option<String>,
}

impl Layout {
    /// The layout in the directory that `reference` names.
    pub(super) fn directory(reference: &LocalReference) -> Result<Layout> {
        let place = reference.path.display().to_string();
        let attributes = std::fs::metadata(&reference.path).map_err(|error| absent(&place, error))?;
        if !attributes.is_dir() {
            return Err(Error::new(Kind::Usage, format!("{place} is no directory"))
                .hint("a layout in a tar file is oci-archive:FILE"));
        }
        Layout::new(Box::new(Directory(reference.path.clone())), place, reference)
    }

    /// The layout in the uncompressed tar file that `reference` names.
    pub(super) fn archive(reference: &LocalReference) -> Result<Layout> {
        let archive = Archive::open(&reference.path)?;
        Layout::new(Box::new(archive), reference.path.display().to_string(), reference)
    }

    fn new(files: Box<dyn Files>, place: String, reference: &LocalReference) -> Result<Layout> {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        let layout = Layout { files, place, tag: reference.tag.clone() };
        let bytes = layout.file("oci-layout")?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("{} is not an OCI layout: no file oci-layout in it", layout.place),
            )
        })?;
        let marker: Marker = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(Kind::BadImage, format!("{}: oci-layout is not valid: {error}", layout.place))
        })?;
        if !marker.version.starts_with("1.") {
            return Err(Error::new(
                Kind::BadImage,
                format!("{}: image layout version {:?} is not 1.x", layout.place, marker.version),
            ));
        }
        Ok(layout)
    }

    /// A document of the layout's own, not addressed by digest.
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let what = format!("{}: {name}", self.place);
        match self.files.open(name, 0)? {
            Some((reader, size)) => read_document(reader, Some(size), Kind::Disk, &what).map(Some),
            None => Ok(None),
        }
    }

    /// Opens a blob whose size is what the descriptor says.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let path = format!("blobs/sha256/{}", descriptor.digest.hex());
        let Some((reader, size)) = self.files.open(&path, offset)? else {
            return Err(Error::new(Kind::NotFound, format!("{} has no {path}", self.place))
                .hint("the layout is not complete; copy the image again, with all platforms"));
        };
        match size == descriptor.size {
            true => Ok(reader),
            false => Err(Error::new(
                Kind::Verification,
                format!("{}: {path} has {size} bytes, its descriptor says {}", self.place, descriptor.size),
            )),
        }
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Fetched> {
        let what = format!("{}: {what} {}", self.place, descriptor.digest);
        let bytes = read_document(self.blob(descriptor, 0)?, Some(descriptor.size), Kind::Disk, &what)?;
        verified(bytes, descriptor, &what)
    }

    /// `index.json`, as it is and as it is read.
    fn index(&self) -> Result<(Vec<u8>, Index)> {
        let bytes = self.file("index.json")?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("{} is not an OCI layout: no file index.json in it", self.place),
            )
        })?;
        let index = Document::parse(media_type::OCI_INDEX, &bytes)
            .map_err(|error| error.context(format_args!("{}: index.json", self.place)))?;
        match index {
            Document::Index(index) => Ok((bytes, index)),
            Document::Manifest(_) => {
                Err(Error::new(Kind::BadImage, format!("{}: index.json is no index", self.place)))
            }
        }
    }

    /// The entries that the reference means, and whether these are all.
    fn choose(&self, mut entries: Vec<Descriptor>) -> Result<(Vec<Descriptor>, bool)> {
        let all = entries.len();
        entries.retain(|entry| !is_attachment(entry));
        let names: BTreeSet<&str> = entries.iter().filter_map(name_of).collect();
        let Some(tag) = &self.tag else {
            if names.len() > 1 {
                return Err(Error::new(
                    Kind::Usage,
                    format!("{} has several images: {}", self.place, listed(&names)),
                )
                .hint("name one: append :TAG"));
            }
            let whole = entries.len() == all;
            return Ok((entries, whole));
        };
        let names = listed(&names);
        let is_exact = |entry: &Descriptor| name_of(entry) == Some(tag);
        // Another tool's whole name that ends so is meant only where nothing is called so.
        let has_exact = entries.iter().any(is_exact);
        let is_meant = |entry: &Descriptor| match has_exact {
            true => is_exact(entry),
            false => name_of(entry).is_some_and(|name| is_tag(name, tag)),
        };
        let chosen: Vec<_> = entries.into_iter().filter(is_meant).collect();
        if chosen.is_empty() {
            let error = Error::new(Kind::NotFound, format!("{} has no image {tag:?}", self.place));
            return Err(match names.is_empty() {
                true => error.hint("its images have no tags; leave :TAG out"),
                false => error.hint(format!("there is {names}")),
            });
        }
        let whole = chosen.len() == all;
        Ok((chosen, whole))
    }
}

impl Source for Layout {
    fn files(&self) -> Vec<PathBuf> {
        self.files.places()
    }

    fn current(&mut self) -> Result<Option<Digest>> {
        self.root().map(|root| Some(root.digest))
    }

    fn root(&mut self) -> Result<Fetched> {
        let (bytes, index) = self.index()?;
        let (chosen, whole) = self.choose(index.entries)?;
        if let [only] = chosen.as_slice() {
            return self.document(only, "manifest");
        }
        if chosen.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("{} has no images", self.place)));
        }
        let bytes = if whole { bytes } else { index_of(&chosen) };
        Ok(Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::OCI_INDEX.to_owned() })
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.document(descriptor, "manifest")
    }

    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched> {
        self.document(descriptor, "config")
    }

    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.blob(descriptor, offset)
    }

    /// By cosign's tag; by what `cosign save` notes, which says not of which image, so that the payload will tell; and
    /// among what has no name and no platform, by its subject.
    fn signatures(&mut self, digest: &Digest, found: &mut Found) -> Result<()> {
        let mut search = Search::of(digest, found);
        let tag = format!("sha256-{}", digest.hex());
        let (_, index) = self.index()?;
        let (named, others): (Vec<_>, Vec<_>) = index.entries.into_iter().partition(|entry| {
            name_of(entry).is_some_and(|name| is_tag(name, &tag) || is_tag(name, &format!("{tag}.sig")))
                || kind_of(entry) == Some(COSIGN_SIGS)
        });
        for entry in named {
            let got = self.document(&entry, "manifest");
            match search.take(got)? {
                Some(listed) if entry.is_index() => search.referrers(self, &listed)?,
                Some(manifest) => search.manifest(self, &manifest, false)?,
                None => {}
            }
        }
        let unnamed = others.into_iter().filter(|entry| name_of(entry).is_none() && kind_of(entry).is_none());
        search.entries(self, unnamed.collect())
    }
}

/// What `cosign save` notes of signatures.
const COSIGN_SIGS: &str = "dev.cosignproject.cosign/sigs";
/// What it notes of everything begins so; the images themselves have one of these.
const COSIGN_KIND: &str = "dev.cosignproject.cosign/";
const COSIGN_IMAGES: [&str; 2] = ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"];

fn kind_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.as_ref()?.kind.as_deref()
}

/// Whether an entry is something about an image: a signature, an attestation, a list of them.
pub(super) fn is_attachment(entry: &Descriptor) -> bool {
    let by_kind =
        kind_of(entry).is_some_and(|kind| kind.starts_with(COSIGN_KIND) && !COSIGN_IMAGES.contains(&kind));
    let by_type =
        entry.artifact_type.as_deref().is_some_and(|kind| !kind.is_empty() && attached::is_signature(kind));
    let by_name = name_of(entry).and_then(|name| name.rsplit(':').next()).is_some_and(|tag| {
        let hex = tag.strip_prefix("sha256-").and_then(|rest| rest.get(..64));
        hex.is_some_and(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
    });
    by_kind || by_type || by_name
}

pub(super) fn name_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.as_ref()?.ref_name.as_deref()
}

/// A `ref.name` is the tag itself (image-spec annotations.md), or a whole name as containerd writes it.
fn is_tag(name: &str, tag: &str) -> bool {
    name == tag || name.strip_suffix(tag).is_some_and(|rest| rest.ends_with(':'))
}

/// `a, b, c`, within [`LISTED_MAX`].
pub(super) fn listed(names: &BTreeSet<&str>) -> String {
    let shown: Vec<_> = names.iter().take(LISTED_MAX).map(|name| name.escape_debug().to_string()).collect();
    let more = names.len().saturating_sub(LISTED_MAX);
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// An index of some entries of `index.json`, with the fields that choosing among them needs.
fn index_of(entries: &[Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a> {
        #[serde(rename = "schemaVersion")]
        schema_version: u8,
        #[serde(rename = "mediaType")]
        media_type: &'a str,
        manifests: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(rename = "mediaType")]
        media_type: &'a str,
        digest: Digest,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<Platform<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        annotations: Option<Annotations<'a>>,
    }
    #[derive(Serialize)]
    struct Platform<'a> {
        architecture: &'a str,
        os: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<&'a str>,
        #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
        os_version: Option<&'a str>,
        #[serde(rename = "os.features", skip_serializing_if = "<[_]>::is_empty")]
        os_features: &'a [String],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        features: &'a [String],
    }
    #[derive(Serialize)]
    struct Annotations<'a> {
        #[serde(rename = "vnd.docker.reference.type")]
        reference_type: &'a str,
    }
    let manifests = entries
        .iter()
        .map(|entry| Entry {
            media_type: &entry.media_type,
            digest: entry.digest,
            size: entry.size,
            platform: entry.platform.as_ref().map(|platform| Platform {
                architecture: &platform.architecture,
                os: &platform.os,
                variant: platform.variant.as_deref(),
                os_version: platform.os_version.as_deref(),
                os_features: &platform.os_features,
                features: &platform.features,
            }),
            annotations: (entry.annotations.as_ref())
                .and_then(|annotations| annotations.reference_type.as_deref())
                .map(|reference_type| Annotations { reference_type }),
        })
        .collect();
    let index = Written { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    serde_json::to_vec(&index).expect("strings and numbers only")
}

/// The error of a path that the user named and that cannot be opened.
pub(super) fn absent(place: &str, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(Kind::NotFound, format!("{place}: no such file or directory")),
        _ => Error::disk(place, error),
    }
}

/// A layout's files in a directory.
struct Directory(PathBuf);

impl Files for Directory {
    fn open(&self, path: &str, offset: u64) -> Result<Option<Opened>> {
        let path = self.0.join(path);
        let place = path.display();
        let Some(mut file) = open_regular(&path)? else { return Ok(None) };
        let size = file.metadata().map_err(|error| Error::disk(&place, error))?.len();
        file.seek(SeekFrom::Start(offset)).map_err(|error| Error::disk(&place, error))?;
        Ok(Some((Box::new(file), size)))
    }

    /// Some tools make layouts whose blobs, or whose directory of blobs, are links to where they have them.
    fn places(&self) -> Vec<PathBuf> {
        let blobs = self.0.join("blobs/sha256");
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().flatten();
        let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
        let links: Vec<PathBuf> = links.map(|entry| entry.path()).take(LINKED_MAX).collect();
        [self.0.clone(), self.0.join("index.json"), blobs].into_iter().chain(links).collect()
    }
}

/// Opens `path` for reading without waiting for the writer of a fifo; only regular files are taken.
pub(super) fn open_regular(path: &Path) -> Result<Option<std::fs::File>> {
    let place = path.display();
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::disk(place, error)),
    };
    match file.metadata().map_err(|error| Error::disk(&place, error))?.is_file() {
        true => Ok(Some(file)),
        false => Err(Error::new(Kind::Usage, format!("{place} is no regular file"))),
    }
}
