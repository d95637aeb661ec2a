//! An OCI image layout (image-spec image-layout.md): a directory, or the same files in a tar.
//!
//! What differs between the two is only how a file is opened ([`Files`]). `index.json` lists what is in
//! the layout; a tag is an annotation there, so choosing an image means choosing entries.

use super::archive::Archive;
use super::attached::{self, Search};
#[cfg(feature = "publish")]
use super::attached::{SUFFIXES, belongs_to};
#[cfg(feature = "publish")]
use super::{ATTACHMENTS_MAX, Attachment};
use super::{Fetched, Found, Source, names, read_document, verified};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::json::{self, Shape};
use crate::image::manifest::{Descriptor, Document, Index, Unusable, media_type};
use crate::image::reference::LocalReference;
use crate::image::select::LOOKUPS_MAX;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    /// How a reference to it begins.
    transport: &'static str,
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
        Layout::new(Box::new(Directory(reference.path.clone())), "oci", place, reference)
    }

    /// The layout in the uncompressed tar file that `reference` names.
    pub(super) fn archive(reference: &LocalReference) -> Result<Layout> {
        let archive = Archive::open(&reference.path)?;
        Layout::new(Box::new(archive), "oci-archive", reference.path.display().to_string(), reference)
    }

    fn new(
        files: Box<dyn Files>,
        transport: &'static str,
        place: String,
        reference: &LocalReference,
    ) -> Result<Layout> {
        const MARKER: Shape = Shape::Object(&[("imageLayoutVersion", Shape::Text)]);
        let layout = Layout { files, transport, place, tag: reference.tag.clone() };
        let bytes = layout.file("oci-layout")?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("{} is not an OCI layout: no file oci-layout in it", layout.place),
            )
        })?;
        // Others do not even open this file: it is a mark, and what counts is a version that is another.
        let [version] = json::read(&bytes, &MARKER).unwrap_or_default().fields();
        match version.text() {
            Some(version) if !version.starts_with("1.") => Err(Error::new(
                Kind::BadImage,
                format!("{}: image layout version {version:?} is not 1.x", layout.place),
            )),
            _ => Ok(layout),
        }
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
        let path = path_of(descriptor);
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
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] where it may mean several images, [`Kind::NotFound`] where it means none.
    fn choose(&self, index: Index) -> Result<(Vec<Descriptor>, bool)> {
        let places = index.places();
        let Index { mut entries, unusable, .. } = index;
        let place = format!("{}:{}", self.transport, self.place);
        let all = entries.len() + unusable.len();
        if let Some(number) = self.tag.as_deref().and_then(names::number) {
            return match places.iter().position(|place| *place == number) {
                Some(at) => Ok((vec![entries.swap_remove(at)], all == 1)),
                None => Err(Error::new(
                    Kind::NotFound,
                    format!("{place} has no usable entry with number {number}"),
                )),
            };
        }
        // What has neither a name nor a platform may be a signature or a chart, which only its manifest tells.
        let is_bare = |entry: &&Descriptor| names_of(entry).next().is_none() && entry.platform.is_none();
        let bare = entries.iter().filter(is_bare).filter(|_| self.tag.is_none() && entries.len() > 1);
        let about: Vec<Digest> = (bare.take(LOOKUPS_MAX))
            .filter(|entry| self.is_about_another(entry))
            .map(|entry| entry.digest)
            .collect();
        let mut images = Image::among(&entries, &places, &about);
        let mut chosen: Vec<Image> = match &self.tag {
            Some(tag) => {
                let named = images.iter().enumerate();
                let named: Vec<(&str, usize)> =
                    named.flat_map(|(at, image)| image.names.iter().map(move |name| (*name, at))).collect();
                let found = names::find(tag, &named);
                if found.is_empty() {
                    let named_so =
                        |entry: &&Unusable| entry.names().any(|name| names::matches(name, tag).is_some());
                    if let Some(entry) = unusable.iter().find(named_so) {
                        let message = format!("image {tag:?} of {place} cannot be used: {}", entry.why);
                        return Err(Error::new(Kind::BadImage, message));
                    }
                    let names: Vec<String> =
                        images.iter().filter(|image| image.is_named()).map(Image::name).collect();
                    return Err(names::none(&place, tag, &names));
                }
                found.into_iter().map(|at| images[at].clone()).collect()
            }
            None => {
                // A list beside whose name its own entries stand, as ORAS writes them, is one image.
                if images.iter().any(Image::is_named) {
                    let listed = self.listed_in(&entries, &images)?;
                    images.retain(|image| {
                        image.is_named()
                            || !image.entries.iter().all(|at| listed.contains(&entries[*at].digest))
                    });
                }
                images
            }
        };
        chosen.sort_by(|one, other| one.entries.cmp(&other.entries));
        // One image may have several names.
        let digests = |image: &Image| -> BTreeSet<Digest> {
            image.entries.iter().map(|at| entries[*at].digest).collect()
        };
        chosen.dedup_by(|one, other| digests(one) == digests(other));
        match chosen.as_slice() {
            [] => Ok((Vec::new(), false)),
            [image] if image.is_one(&entries) => {
                let whole = image.entries.len() == all;
                Ok((image.entries.iter().map(|at| entries[*at].clone()).collect(), whole))
            }
            [image] => {
                let numbers: Vec<String> =
                    image.entries.iter().map(|at| format!("@{}", places[*at])).collect();
                Err(names::several(&place, &numbers))
            }
            several => Err(names::several(&place, &several.iter().map(Image::name).collect::<Vec<_>>())),
        }
    }

    /// Whether the manifest that `entry` points at is no image, but a signature, a chart or something else about one: its
    /// config is none of an image, or it says what it belongs to (image-spec manifest.md, `subject`). What cannot be read
    /// may be an image.
    fn is_about_another(&self, entry: &Descriptor) -> bool {
        let manifest = self.document(entry, "manifest").ok().and_then(|document| document.image_manifest());
        manifest.is_some_and(|manifest| !manifest.config.is_image_config() || manifest.subject.is_some())
    }

    /// The digests of the entries of the lists that have names.
    fn listed_in(&self, entries: &[Descriptor], images: &[Image]) -> Result<BTreeSet<Digest>> {
        let mut listed = BTreeSet::new();
        for image in images.iter().filter(|image| image.is_named()) {
            for entry in image.entries.iter().map(|at| &entries[*at]).filter(|entry| entry.is_index()) {
                let document = self.document(entry, "manifest")?;
                if let Document::Index(index) = Document::parse(&entry.media_type, &document.bytes)? {
                    listed.extend(index.entries.iter().map(|entry| entry.digest));
                }
            }
        }
        Ok(listed)
    }
}

/// An image of a layout: the entries that have one name, or one entry that has none.
#[derive(Clone)]
struct Image<'a> {
    /// In full before the tag alone.
    names: Vec<&'a str>,
    /// Its entries' places among those that can be used.
    entries: Vec<usize>,
    /// Its first entry's number among all.
    number: usize,
}

impl<'a> Image<'a> {
    /// Finds all images among `entries`, whose places are `places`, without those that are `about` images. Entries
    /// without a name are one image for several platforms.
    fn among(entries: &'a [Descriptor], places: &[usize], about: &[Digest]) -> Vec<Image<'a>> {
        let mut images: Vec<Image> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let names: Vec<&str> = names_of(entry).collect();
            let is_image = (entry.is_index() || entry.is_manifest()) && !about.contains(&entry.digest);
            if is_attachment(entry) || !is_image || (names.is_empty() && entry.is_artifact()) {
                continue;
            }
            let same = images.iter_mut().find(|image| image.names.first() == names.first());
            match same {
                Some(image) => image.entries.push(at),
                None => images.push(Image { names, entries: vec![at], number: places[at] }),
            }
        }
        images
    }

    fn is_named(&self) -> bool {
        !self.names.is_empty()
    }

    /// Returns what a user writes to mean this one.
    fn name(&self) -> String {
        self.names.first().map_or_else(|| format!("@{}", self.number), |name| (*name).to_owned())
    }

    /// Whether its entries are for different platforms, as far as labels say: then a board chooses among them.
    fn is_one(&self, entries: &[Descriptor]) -> bool {
        let mut seen: Vec<&Descriptor> = Vec::new();
        self.entries.iter().map(|at| &entries[*at]).all(|entry| {
            let is_same =
                |other: &&&Descriptor| other.platform == entry.platform && other.digest != entry.digest;
            let is_new = entry.is_attestation() || !seen.iter().any(|other| is_same(&other));
            seen.push(entry);
            is_new
        })
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
        let (chosen, whole) = self.choose(index)?;
        if let [only] = chosen.as_slice() {
            return self.document(only, "manifest");
        }
        if chosen.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("{} has no images", self.place)));
        }
        let bytes = if whole { bytes } else { index_of(&chosen) };
        Ok(Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::OCI_INDEX.to_owned() })
    }

    fn has(&mut self, descriptor: &Descriptor) -> bool {
        // What cannot be opened is there, and reading it says why it cannot.
        !matches!(self.files.open(&path_of(descriptor), 0), Ok(None))
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

    #[cfg(feature = "publish")]
    fn attachments(&mut self, digest: &Digest) -> Result<Vec<Attachment>> {
        attachments(self, digest)
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

/// Finds what is attached to a digest, in a layout: behind cosign's tags, or what says so itself.
#[cfg(feature = "publish")]
fn attachments(layout: &Layout, digest: &Digest) -> Result<Vec<Attachment>> {
    let prefix = format!("sha256-{}", digest.hex());
    let tag_of = |entry: &Descriptor| {
        let name = name_of(entry)?;
        let tags = SUFFIXES.iter().map(|suffix| format!("{prefix}{suffix}"));
        tags.into_iter().find(|tag| is_tag(name, tag))
    };
    let (_, index) = layout.index()?;
    let mut found: Vec<Attachment> = Vec::new();
    for entry in &index.entries {
        let tag = tag_of(entry);
        let may_refer = name_of(entry).is_none() && entry.platform.is_none() && entry.is_manifest();
        if tag.is_none() && !may_refer {
            continue;
        }
        let document = layout.document(entry, "manifest")?;
        if tag.is_some() || belongs_to(&document, digest) {
            if found.len() == ATTACHMENTS_MAX {
                log::warn!(
                    "{digest} has more than {ATTACHMENTS_MAX} attachments, which are left out (limit ATTACHMENTS_MAX)"
                );
                break;
            }
            found.push(Attachment { document, tag });
        }
    }
    Ok(found)
}

/// The path of a blob in a layout (image-spec image-layout.md, "Blobs").
fn path_of(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
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

/// The names of an image, the full one first.
pub(super) fn names_of(entry: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = entry.annotations.as_ref();
    let full = annotations.and_then(|annotations| annotations.full_name.as_deref());
    let name = annotations.and_then(|annotations| annotations.ref_name.as_deref());
    full.into_iter().chain(name).filter(|name| !name.is_empty())
}

/// A `ref.name` is the tag itself (image-spec annotations.md), or a whole name.
fn is_tag(name: &str, tag: &str) -> bool {
    name == tag || name.strip_suffix(tag).is_some_and(|rest| rest.ends_with(':'))
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
