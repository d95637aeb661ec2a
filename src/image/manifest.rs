//! The documents of an image: index (manifest list), manifest, config. Only what edgepull uses of them.
//!
//! Everything here comes from the network and is parsed only after its digest was verified. The tables below say what is
//! read (`json.rs`), and with that what is bounded: the document's size ([`DOCUMENT_MAX`]), the length of every string
//! that is kept, and the number of elements of every list, so that 4 MiB of `{},{},…` cannot become 400 MiB of structs.
//!
//! An index is read entry by entry: what makes no sense is [`Unusable`], and ends nothing. What a pull needs of the image
//! that is taken (a digest, a size) has to be there, and the error names it.

use super::digest::Digest;
use super::json::{self, Odd, Shape, Value};
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;

/// The largest manifest, index or config, in bytes (distribution-spec: registries take at least 4 MiB).
pub const DOCUMENT_MAX: u64 = 4 << 20;
/// The most entries of an index. The largest in the field have about a hundred.
pub const ENTRIES_MAX: usize = 1024;
/// The most layers of an image. Overlayfs stops at 500, Docker at 127.
pub const LAYERS_MAX: usize = 1024;
/// The most elements of a list in a config: environment, arguments.
pub const LIST_MAX: usize = 4096;
/// The most elements of a list in a descriptor: urls, features. Real ones have one or two; with [`LIST_MAX`] of them
/// in each of 1024 entries, 4 MiB of empty strings would become 40 MiB.
pub const LABELS_MAX: usize = 16;

/// Media types by name (image-spec media-types.md; Docker Image Manifest V2, Schema 2).
pub mod media_type {
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker's image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// An OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed OCI layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// What every Docker schema 1 manifest starts with.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";
}

/// How a layer's tar is compressed on the wire, going by its media type. What its bytes really are is seen
/// when they come; registries hold layers whose media type is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, one member or several.
    Gzip,
    /// zstd, one frame or several.
    Zstd,
}

/// Points at a blob (image-spec descriptor.md).
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// As written; empty where it was left out.
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Where else a foreign (nondistributable) layer can be had.
    pub urls: Vec<String>,
    /// What an index says that this entry runs on.
    pub platform: Option<PlatformField>,
    /// What an index says that this entry is, where it is no image.
    pub artifact_type: Option<String>,
    /// The few annotations that edgepull reads.
    pub annotations: Option<Annotations>,
}

impl Descriptor {
    /// One that says no more than it must.
    pub fn new(media_type: String, digest: Digest, size: u64) -> Descriptor {
        let (urls, platform, artifact_type, annotations) = (Vec::new(), None, None, None);
        Descriptor { media_type, digest, size, urls, platform, artifact_type, annotations }
    }
}

/// `platform` of an index entry (image-spec image-index.md), as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
// Of edgepull's own files, in which lists lie that are being composed; what others wrote is read by a table.
#[cfg_attr(feature = "publish", derive(serde::Deserialize), serde(default))]
pub struct PlatformField {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// `v6`, `v7`, `v8`…
    pub variant: Option<String>,
    /// Windows builds, mostly.
    #[cfg_attr(feature = "publish", serde(rename = "os.version"))]
    pub os_version: Option<String>,
    /// Required of the OS.
    #[cfg_attr(feature = "publish", serde(rename = "os.features"))]
    pub os_features: Vec<String>,
    /// Required of the CPU (reserved in OCI, used in Docker's lists: `sse4`, `neon`).
    pub features: Vec<String>,
}

/// Annotations that mean something to edgepull; all others are skipped while parsing.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// The tag of an image in an OCI layout (image-spec annotations.md).
    pub ref_name: Option<String>,
    /// The full name of an image in an OCI layout that containerd or Docker has written.
    pub full_name: Option<String>,
    /// `attestation-manifest` marks what BuildKit attaches to an image.
    pub reference_type: Option<String>,
    /// Which version the image is, in the words of who made it (image-spec annotations.md; also a label of configs).
    pub version: Option<String>,
    /// When it was made: RFC 3339.
    pub created: Option<String>,
    /// A signature of the blob, in base64 (cosign's specs/SIGNATURE_SPEC.md).
    pub signature: Option<String>,
    /// What `cosign save` says that an entry of a layout is: `dev.cosignproject.cosign/sigs`, for example.
    pub kind: Option<String>,
    /// What a Sigstore bundle is about (cosign's specs/BUNDLE_SPEC.md).
    pub predicate_type: Option<String>,
}

/// An OCI image index or a Docker manifest list.
#[derive(Debug, Clone)]
pub struct Index {
    /// Holds what can be used, in the order of the document.
    pub entries: Vec<Descriptor>,
    /// Holds what cannot, in the order of the document.
    pub unusable: Vec<Unusable>,
    /// The index's own.
    pub annotations: Box<Annotations>,
}

/// An image manifest of either family.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The config.
    pub config: Descriptor,
    /// Bottom layer first.
    pub layers: Vec<Descriptor>,
    /// The manifest's own.
    pub annotations: Annotations,
    /// The digest, as written, of what it is attached to, if it is.
    pub subject: Option<String>,
}

/// What a reference or an index entry can point at.
#[derive(Debug, Clone)]
pub enum Document {
    /// A list of entries to choose from.
    Index(Index),
    /// One image.
    Manifest(Box<Manifest>),
}

impl Descriptor {
    /// Is this an index or a manifest list?
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
    }

    /// Can this be an image manifest? One without a media type is taken for one; what it is shows when it
    /// is parsed.
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), "" | media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST)
            || self.media_type.starts_with(media_type::DOCKER_SCHEMA1)
    }

    /// Does the entry say of itself that it is an artifact? (image-spec descriptor.md, `artifactType`) Registries give
    /// images the type of their config there.
    pub fn is_artifact(&self) -> bool {
        self.artifact_type
            .as_deref()
            .is_some_and(|kind| !matches!(kind, "" | media_type::OCI_CONFIG | media_type::DOCKER_CONFIG))
    }

    /// Is this the config of a container image, and not of some other artifact? Docker has written the last three types, and
    /// takes them (moby, distribution/registry.go, `ImageTypes`); what is in the config decides then.
    pub fn is_image_config(&self) -> bool {
        use media_type::{DOCKER_CONFIG, OCI_CONFIG};
        matches!(
            self.media_type.as_str(),
            "" | OCI_CONFIG | DOCKER_CONFIG | "application/octet-stream" | "application/json" | "text/html"
        )
    }

    /// Does BuildKit's annotation say that this is an attestation and no image?
    pub fn is_attestation(&self) -> bool {
        self.annotations
            .as_ref()
            .is_some_and(|annotations| annotations.reference_type.as_deref() == Some("attestation-manifest"))
    }

    /// Is this a layer that may not be pushed to a registry, and is to be had where its urls say? (image-spec layer.md,
    /// "Non-Distributable Layers"; Docker's foreign layers)
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".rootfs.foreign.")
    }

    /// How this layer is compressed; `None` if it is no layer that edgepull knows.
    pub fn layer_compression(&self) -> Option<Compression> {
        match self.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar" => Some(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Compression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// Lists of short strings in a descriptor.
const LABELS: Shape = Shape::List { of: &Shape::Text, max: LABELS_MAX, limit: "LABELS_MAX" };
/// Lists of strings in a config.
const ARGUMENTS: Shape = Shape::List { of: &Shape::Text, max: LIST_MAX, limit: "LIST_MAX" };

const PLATFORM: Shape = Shape::Object(&[
    ("os", Shape::Text),
    ("architecture", Shape::Text),
    ("variant", Shape::Text),
    ("os.version", Shape::Text),
    ("os.features", LABELS),
    ("features", LABELS),
]);

const ANNOTATIONS: Shape = Shape::Map(&[
    ("org.opencontainers.image.ref.name", Shape::Text),
    ("io.containerd.image.name", Shape::Text),
    ("vnd.docker.reference.type", Shape::Text),
    ("org.opencontainers.image.version", Shape::Text),
    ("org.opencontainers.image.created", Shape::Text),
    ("dev.cosignproject.cosign/signature", Shape::Text),
    ("kind", Shape::Text),
    ("dev.sigstore.bundle.predicateType", Shape::Text),
]);

const DESCRIPTOR: Shape = Shape::Object(&[
    ("mediaType", Shape::Text),
    ("digest", Shape::Text),
    ("size", Shape::Number),
    ("urls", LABELS),
    ("platform", PLATFORM),
    ("artifactType", Shape::Text),
    ("annotations", ANNOTATIONS),
]);

/// The fields of both shapes, to tell an index and a manifest apart by content: a document that could be read as either
/// is the confusion of CVE-2021-41190.
const DOCUMENT: Shape = Shape::Object(&[
    ("schemaVersion", Shape::Number),
    ("mediaType", Shape::Text),
    ("manifests", Shape::List { of: &DESCRIPTOR, max: ENTRIES_MAX, limit: "ENTRIES_MAX" }),
    ("config", DESCRIPTOR),
    ("layers", Shape::List { of: &DESCRIPTOR, max: LAYERS_MAX, limit: "LAYERS_MAX" }),
    ("fsLayers", Shape::Presence),
    ("annotations", ANNOTATIONS),
    ("subject", Shape::Object(&[("digest", Shape::Text)])),
]);

const CONFIG: Shape = Shape::Object(&[
    ("architecture", Shape::Text),
    ("os", Shape::Text),
    ("variant", Shape::Text),
    ("os.version", Shape::Text),
    ("os.features", LABELS),
    ("created", Shape::Text),
    ("config", RUN_CONFIG),
    (
        "rootfs",
        Shape::Object(&[(
            "diff_ids",
            Shape::List { of: &Shape::Text, max: LAYERS_MAX, limit: "LAYERS_MAX" },
        )]),
    ),
]);

const RUN_CONFIG: Shape = Shape::Object(&[
    ("User", Shape::Text),
    ("Env", ARGUMENTS),
    ("Entrypoint", ARGUMENTS),
    ("Cmd", ARGUMENTS),
    ("WorkingDir", Shape::Text),
    ("Labels", ANNOTATIONS),
]);

impl PlatformField {
    /// Returns the platform that it is a label of; `None` where it says too little ([`Platform::labelled`]).
    pub fn platform(&self) -> Option<Platform> {
        Platform::labelled(&self.os, &self.architecture, self.variant.as_deref())
    }

    /// Returns what it names, normalized, whatever it leaves out.
    pub fn normal(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default())
    }

    /// Takes over a label; `None` where there is none, or one that is not an object of strings: what nobody can read is
    /// as good as nothing, and the entry's own config says what it is. Requirements that cannot be read cannot be met.
    fn of(value: Value) -> Option<PlatformField> {
        let is_given = matches!(value, Value::Fields(_));
        let [os, architecture, variant, os_version, os_features, features] = value.fields();
        let is_odd = [&os, &architecture, &variant].iter().any(|value| matches!(value, Value::Odd(_)));
        let required = |list: Value| list.texts().unwrap_or_else(|| vec![UNREADABLE.to_owned()]);
        (is_given && !is_odd).then(|| PlatformField {
            os: os.text().unwrap_or_default(),
            architecture: architecture.text().unwrap_or_default(),
            variant: variant.text(),
            os_version: os_version.text(),
            os_features: required(os_features),
            features: required(features),
        })
    }
}

#[cfg(feature = "publish")]
impl PlatformField {
    /// Whether the features that it asks for could be read, so that it can be written again.
    pub fn is_readable(&self) -> bool {
        !self.os_features.iter().chain(&self.features).any(|feature| feature == UNREADABLE)
    }
}

/// Stands for required features that are no list of at most [`LABELS_MAX`] strings.
const UNREADABLE: &str = "(features that cannot be read)";

impl Annotations {
    fn of(value: Value) -> Annotations {
        let [ref_name, full_name, reference_type, version, created, signature, kind, predicate_type] =
            value.fields().map(Value::text);
        Annotations { ref_name, full_name, reference_type, version, created, signature, kind, predicate_type }
    }
}

impl Descriptor {
    /// Reads a descriptor by itself.
    ///
    /// # Errors
    /// Returns [`Kind::BadImage`] for what is no JSON, or has no digest or size that can be used.
    pub fn read(bytes: &[u8]) -> Result<Descriptor> {
        let value = json::read(bytes, &DESCRIPTOR)
            .map_err(|error| bad(format!("descriptor is not valid: {error}")))?;
        Descriptor::of(value).map_err(|unusable| bad(format!("descriptor {}", unusable.why)))
    }

    /// Takes over a descriptor that has a digest and a size; or says why it cannot be used.
    fn of(value: Value) -> Result<Descriptor, Box<Unusable>> {
        let instead = match &value {
            Value::Fields(_) => None,
            Value::Odd(odd) => Some(odd.to_string()),
            _ => Some("null".to_owned()),
        };
        let [media_type, digest, size, urls, platform, artifact_type, annotations] = value.fields();
        let platform = PlatformField::of(platform);
        let written = digest.clone().text().unwrap_or_default();
        let has = |part: &'static str| move |odd: Odd| format!("it has a {part} that is {odd}");
        let parts = || -> Result<(String, Digest, u64), String> {
            if let Some(instead) = instead {
                return Err(format!("it is {instead}"));
            }
            let media_type = media_type.needed_text().map_err(has("media type"))?.unwrap_or_default();
            let digest = digest.needed_text().map_err(has("digest"))?.ok_or("it has no digest")?;
            let digest = digest.parse().map_err(|_| unchecked(&digest))?;
            let size = size.needed_number().map_err(has("size"))?.ok_or("it has no size")?;
            Ok((media_type, digest, size))
        };
        match parts() {
            Ok((media_type, digest, size)) => Ok(Descriptor {
                media_type,
                digest,
                size,
                urls: urls.texts().unwrap_or_default(),
                platform,
                artifact_type: artifact_type.text(),
                annotations: matches!(annotations, Value::Fields(_)).then(|| Annotations::of(annotations)),
            }),
            Err(why) => Err(Box::new(Unusable {
                digest: written.chars().take(DIGEST_SHOWN_MAX).collect(),
                platform,
                place: 0,
                annotations: Annotations::of(annotations),
                why,
            })),
        }
    }
}

/// The longest name of a digest's algorithm that is told, in characters.
const ALGORITHM_SHOWN_MAX: usize = 32;

/// Says why a digest that could not be read is of no use.
fn unchecked(digest: &str) -> String {
    let algorithm = digest.split_once(':').map(|(algorithm, _)| algorithm);
    let is_named = |algorithm: &&str| {
        let is_plain = algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte));
        *algorithm != "sha256" && !algorithm.is_empty() && is_plain && algorithm.len() <= ALGORITHM_SHOWN_MAX
    };
    match algorithm.filter(is_named) {
        Some(algorithm) => format!("its digest cannot be checked: it is of {algorithm}, not sha256"),
        None => "its digest cannot be checked".to_owned(),
    }
}

/// How much of a digest that cannot be used is kept, in characters: sha512's have 135.
const DIGEST_SHOWN_MAX: usize = 160;

/// An entry of an index that cannot be used, whatever it is.
#[derive(Debug, Clone)]
pub struct Unusable {
    /// Its digest as it is written, but for what is beyond 160 characters; empty where there is none.
    pub digest: String,
    /// Holds what it says that it runs on, where that can be read.
    pub platform: Option<PlatformField>,
    /// Its place among all entries of its index, from 0 on; 0 where it is in none.
    pub place: usize,
    /// Its annotations, where these can be read.
    annotations: Annotations,
    /// Why, as a sentence that begins with "it" or "its".
    pub why: String,
}

impl Index {
    /// Returns the places of the entries that can be used, in their order: among all of the index, from 0 on.
    pub fn places(&self) -> Vec<usize> {
        let all = self.entries.len() + self.unusable.len();
        (0..all).filter(|place| self.unusable.iter().all(|entry| entry.place != *place)).collect()
    }
}

impl Unusable {
    /// The names that it would have as an image of a layout.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [&self.annotations.full_name, &self.annotations.ref_name]
            .into_iter()
            .filter_map(|name| name.as_deref())
    }
}

impl Document {
    /// Parses verified `bytes`. `declared` is the media type that whoever pointed here gave (descriptor or Content-Type;
    /// empty if none); the document's own `mediaType` and its content must agree with it.
    ///
    /// # Errors
    /// Returns [`Kind::BadImage`] for what is no JSON, is neither an index nor a manifest, or is both; for a manifest whose
    /// config or layers have no usable digest and size; and for lists beyond their limits.
    pub fn parse(declared: &str, bytes: &[u8]) -> Result<Document> {
        if declared.starts_with(media_type::DOCKER_SCHEMA1) {
            return Err(schema1());
        }
        let value = object(bytes, &DOCUMENT, "manifest")?;
        let [version, own, manifests, config, layers, fs_layers, annotations, subject] = value.fields();
        if fs_layers != Value::Missing || version == Value::Number(1) {
            return Err(schema1());
        }
        let own = own.text().unwrap_or_default();
        if is_manifest_type(&own)
            && is_manifest_type(declared)
            && is_index_type(&own) != is_index_type(declared)
        {
            return Err(bad(format!("the manifest says it is {own:?}, but was announced as {declared:?}")));
        }
        // A type that is none of a manifest says nothing against one that is.
        let says_nothing = own.is_empty() || (!is_manifest_type(&own) && is_manifest_type(declared));
        let media_type = if says_nothing { declared } else { &own };
        if !own.is_empty() && !declared.is_empty() && own != declared {
            let how = match is_manifest_type(&own) && is_manifest_type(declared) {
                true => "both mean the same",
                false => "what is in it decides",
            };
            log::info!("{} was announced as {declared:?}: {how}", shown(&own));
        }
        let annotations = Annotations::of(annotations);
        let has = |value: &Value| *value != Value::Missing;
        if has(&manifests) && (has(&config) || has(&layers)) {
            return Err(bad("the manifest is both an index and an image".into())
                .hint("refused: different tools would run different things (CVE-2021-41190)"));
        }
        let within = |name: &'static str| move |odd: Odd| bad(format!("{name} of the manifest is {odd}"));
        // Go writes `null` for a list that it never made.
        let document = if has(&manifests) || (is_index_type(media_type) && !has(&config) && !has(&layers)) {
            let listed = manifests.needed_list().map_err(within("manifests"))?.unwrap_or_default();
            let (mut entries, mut unusable) = (Vec::with_capacity(listed.len()), Vec::new());
            for (place, entry) in listed.into_iter().enumerate() {
                match Descriptor::of(entry) {
                    Ok(entry) => entries.push(entry),
                    Err(entry) => unusable.push(Unusable { place, ..*entry }),
                }
            }
            Document::Index(Index { entries, unusable, annotations: annotations.into() })
        } else if has(&config) {
            let needed = |what: &str, value| {
                Descriptor::of(value).map_err(|entry| bad(format!("{what}: {}", entry.why)))
            };
            let layers = layers.needed_list().map_err(within("layers"))?.unwrap_or_default();
            let numbered = layers.into_iter().enumerate();
            Document::Manifest(Box::new(Manifest {
                config: needed("the manifest's config", config)?,
                layers: numbered
                    .map(|(at, layer)| needed(&format!("the manifest's layer {}", at + 1), layer))
                    .collect::<Result<_>>()?,
                annotations,
                subject: match subject {
                    Value::Fields(_) => {
                        let [digest] = subject.fields();
                        Some(digest.text().unwrap_or_default())
                    }
                    _ => None,
                },
            }))
        } else {
            return Err(bad(format!("{} is neither an index nor an image manifest", shown(media_type))));
        };
        let is_index = matches!(document, Document::Index(_));
        if is_manifest_type(media_type) && is_index != is_index_type(media_type) {
            return Err(bad(format!(
                "the manifest's content is not what its media type {media_type:?} says"
            )));
        }
        Ok(document)
    }
}

/// Reads a document that has to be a JSON object; `what` is for messages.
fn object(bytes: &[u8], shape: &'static Shape, what: &str) -> Result<Value> {
    match json::read(bytes, shape) {
        Ok(value @ Value::Fields(_)) => Ok(value),
        Ok(_) => Err(bad(format!("{what} is not valid: it is no object"))),
        Err(error) => Err(bad(format!("{what} is not valid: {error}"))),
    }
}

/// Says what bytes look like that no digest names yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// An index or an image manifest; perhaps one that [`Document::parse`] refuses.
    Manifest,
    /// A Docker schema 1 manifest.
    Schema1,
    /// Something else: a page, an error, nothing.
    Neither,
}

/// Looks at bytes that are said to be a manifest of the type `declared`.
pub fn look(declared: &str, bytes: &[u8]) -> Look {
    const SHAPE: Shape = Shape::Object(&[
        ("schemaVersion", Shape::Number),
        ("manifests", Shape::Presence),
        ("config", Shape::Presence),
        ("layers", Shape::Presence),
        ("fsLayers", Shape::Presence),
    ]);
    let Ok(value @ Value::Fields(_)) = json::read(bytes, &SHAPE) else { return Look::Neither };
    let [version, manifests, config, layers, fs_layers] = value.fields();
    let is_schema1 = declared.starts_with(media_type::DOCKER_SCHEMA1);
    match [manifests, config, layers].iter().any(|field| *field != Value::Missing) {
        _ if fs_layers != Value::Missing || version == Value::Number(1) || is_schema1 => Look::Schema1,
        true => Look::Manifest,
        // An index without entries, as Go writes it.
        false if is_index_type(declared) && version == Value::Number(2) => Look::Manifest,
        false => Look::Neither,
    }
}

fn is_index_type(name: &str) -> bool {
    matches!(name, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

fn is_manifest_type(name: &str) -> bool {
    use media_type::*;
    matches!(name, OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST)
}

fn shown(media_type: &str) -> String {
    match media_type {
        "" => "the document".to_owned(),
        other => format!("a document of media type {other:?}"),
    }
}

fn bad(message: String) -> Error {
    Error::new(Kind::BadImage, message)
}

fn schema1() -> Error {
    bad("this is a Docker schema 1 manifest, which cannot be verified by digest".into())
        .hint("push the image again with any tool of this decade (docker, podman, skopeo, buildah)")
}

/// An image config (image-spec config.md).
#[derive(Debug, Clone, Default)]
pub struct ImageConfig {
    /// GOARCH.
    pub architecture: String,
    /// GOOS.
    pub os: String,
    /// CPU variant.
    pub variant: Option<String>,
    /// Windows builds, mostly.
    #[cfg(feature = "publish")]
    pub os_version: Option<String>,
    /// Required of the OS.
    #[cfg(feature = "publish")]
    pub os_features: Vec<String>,
    /// When it was made: RFC 3339.
    pub created: Option<String>,
    /// What to run and how.
    pub config: RunConfig,
    /// The layers' uncompressed digests.
    pub rootfs: RootfsField,
}

/// `rootfs` of a config.
#[derive(Debug, Clone, Default)]
pub struct RootfsField {
    /// Bottom layer first.
    pub diff_ids: Vec<Digest>,
}

/// `config` of a config: the execution parameters.
#[derive(Debug, Clone, Default)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    pub user: String,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Comes before `Cmd`.
    pub entrypoint: Vec<String>,
    /// Default arguments, or the whole command where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// The few labels that edgepull reads.
    pub labels: Annotations,
}

impl RunConfig {
    fn of(value: Value) -> Result<RunConfig> {
        let is =
            |name: &'static str| move |odd: Odd| bad(format!("config.{name} of the image config is {odd}"));
        let [user, env, entrypoint, cmd, working_dir, labels] = value.fields();
        let list = |value: Value, name| -> Result<Vec<String>> {
            let list = value.needed_list().map_err(is(name))?.unwrap_or_default();
            let texts = list.into_iter().map(|value| value.needed_text().map(Option::unwrap_or_default));
            texts
                .collect::<Result<_, _>>()
                .map_err(|odd| bad(format!("an element of config.{name} of the image config is {odd}")))
        };
        Ok(RunConfig {
            user: user.needed_text().map_err(is("User"))?.unwrap_or_default(),
            env: list(env, "Env")?,
            entrypoint: list(entrypoint, "Entrypoint")?,
            cmd: list(cmd, "Cmd")?,
            working_dir: working_dir.needed_text().map_err(is("WorkingDir"))?.unwrap_or_default(),
            labels: Annotations::of(labels),
        })
    }

    /// The command line that the image runs: entrypoint, then cmd.
    pub fn args(&self) -> impl Iterator<Item = &str> {
        self.entrypoint.iter().chain(&self.cmd).map(String::as_str)
    }
}

impl ImageConfig {
    /// Parses verified `bytes`.
    ///
    /// # Errors
    /// Returns [`Kind::BadImage`] for what is no JSON object, and for a field that a pull needs and cannot use.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        let value = object(bytes, &CONFIG, "image config")?;
        let is = |name: &'static str| move |odd: Odd| bad(format!("{name} of the image config is {odd}"));
        let [architecture, os, variant, os_version, os_features, created, run, rootfs] = value.fields();
        let [diff_ids] = rootfs.fields();
        let diff_ids = diff_ids.needed_list().map_err(is("rootfs.diff_ids"))?.unwrap_or_default();
        let diff_id = |value: Value| match value.needed_text().map_err(is("a diff_id"))? {
            Some(text) => text.parse(),
            None => Err(bad("a diff_id of the image config is null".into())),
        };
        let config = ImageConfig {
            architecture: architecture.needed_text().map_err(is("architecture"))?.unwrap_or_default(),
            os: os.needed_text().map_err(is("os"))?.unwrap_or_default(),
            variant: variant.needed_text().map_err(is("variant"))?,
            #[cfg(feature = "publish")]
            os_version: os_version.text(),
            #[cfg(feature = "publish")]
            os_features: os_features.texts().unwrap_or_default(),
            created: created.text(),
            config: RunConfig::of(run)?,
            rootfs: RootfsField { diff_ids: diff_ids.into_iter().map(diff_id).collect::<Result<_>>()? },
        };
        #[cfg(not(feature = "publish"))]
        drop((os_version, os_features));
        Ok(config)
    }

    /// Returns the platform that the image was built for; `None` where it says too little ([`Platform::labelled`]).
    pub fn platform(&self) -> Option<Platform> {
        Platform::labelled(&self.os, &self.architecture, self.variant.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::STRING_MAX;
    use super::media_type::*;
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor() -> String {
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{D}","size":3}}"#)
    }

    fn refusal(declared: &str, text: &str) -> String {
        let error = Document::parse(declared, text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::BadImage);
        error.to_string()
    }

    fn index(text: &str) -> Index {
        match Document::parse("", text.as_bytes()).unwrap() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("{text}"),
        }
    }

    #[test]
    fn a_limit_holds_for_what_is_kept() {
        let long = "y".repeat(STRING_MAX + 1);
        // Nobody uses these.
        for text in [
            format!(
                r#"{{"x":"{long}","config":{{"Labels":{{"metadata":"{long}"}}}},"history":[{{"created_by":"{long}"}}]}}"#
            ),
            format!(
                r#"{{"os":"linux","config":{{"Labels":{{"org.opencontainers.image.version":"{long}"}}}}}}"#
            ),
        ] {
            let config = ImageConfig::parse(text.as_bytes()).unwrap();
            assert_eq!(config.config.labels.version, None);
        }
        let data = format!(r#"{{"manifests":[{{"digest":"{D}","size":3,"data":"{long}"}}]}}"#);
        assert_eq!(index(&data).entries.len(), 1);
        // What is used is named, and not quoted.
        let env = format!(r#"{{"config":{{"Env":["{long}"]}}}}"#);
        let error = ImageConfig::parse(env.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("config.Env") && error.contains("STRING_MAX") && error.len() < 200, "{error}");
    }

    /// Every field in turn is missing, of another type, empty, and huge, in the second of three entries.
    #[test]
    fn an_odd_entry_ends_no_index() {
        let whole = [
            ("mediaType", format!("{OCI_MANIFEST:?}")),
            ("digest", format!("{D:?}")),
            ("size", "3".to_owned()),
            ("urls", "[]".to_owned()),
            ("platform", r#"{"os":"linux","architecture":"arm","variant":"v6"}"#.to_owned()),
            ("artifactType", r#""application/x""#.to_owned()),
            ("annotations", r#"{"org.opencontainers.image.version":"1"}"#.to_owned()),
        ];
        let huge = format!("{:?}", "x".repeat(1 << 20));
        let many = format!("[{}0]", "0,".repeat(5000));
        let number = "9".repeat(5000);
        let odd =
            ["null", r#""""#, "5", "-1", "1e999", "0.5", "[]", "{}", "true", "[null,[],{}]", r#""\ud800""#];
        let odd = odd.into_iter().chain([huge.as_str(), many.as_str(), number.as_str()]);
        let entry = |place: usize, value: Option<&str>| {
            let fields = whole.iter().enumerate().filter_map(|(at, (name, right))| {
                let value = if at == place { value? } else { right };
                Some(format!("{name:?}:{value}"))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        };
        let right = entry(usize::MAX, None);
        for value in odd.map(Some).chain([None]) {
            for (place, (field, _)) in whole.iter().enumerate() {
                let text = format!(r#"{{"manifests":[{right},{},{right}]}}"#, entry(place, value));
                let index = index(&text);
                let used = index.entries.iter().filter(|entry| entry.platform.is_some() && entry.size == 3);
                assert!(used.count() >= 2, "{field} {value:.20?}");
                assert_eq!(index.entries.len() + index.unusable.len(), 3);
                if matches!(*field, "digest" | "size") && value != Some("5") {
                    assert_eq!(index.unusable.len(), 1, "{field} {value:.20?}");
                }
            }
            let text = format!(r#"{{"manifests":[{right},{},{right}]}}"#, value.unwrap_or("{}"));
            assert_eq!(index(&text).entries.len(), 2);
        }
        let sha512 = format!(r#"{{"manifests":[{{"digest":"sha512:{}","size":3}}]}}"#, "a".repeat(128));
        let unusable = &index(&sha512).unusable[0];
        assert!(
            unusable.digest.starts_with("sha512:a")
                && unusable.why == "its digest cannot be checked: it is of sha512, not sha256"
        );
        for odd in ["", "sha256:0", "sha256", ":0", "sha\\u001b:0", &format!("{}:0", "a".repeat(33))] {
            let text = format!(r#"{{"manifests":[{{"digest":"{odd}","size":3}}]}}"#);
            assert_eq!(index(&text).unusable[0].why, "its digest cannot be checked", "{odd}");
        }
    }

    #[test]
    fn a_type_of_its_own_that_is_none_hides_no_contradiction() {
        let index = r#"{"mediaType":"x","manifests":[]}"#;
        assert!(refusal(OCI_MANIFEST, index).contains("not what its media type"));
        assert!(matches!(Document::parse(OCI_INDEX, index.as_bytes()), Ok(Document::Index(_))));
    }

    #[test]
    fn an_odd_config_or_layer_is_named() {
        let of = |config: &str, layer: &str| {
            refusal("", &format!(r#"{{"config":{config},"layers":[{},{layer}]}}"#, descriptor()))
        };
        let right = descriptor();
        assert!(of("5", &right).contains("the manifest's config: it is a number"));
        assert!(of(r#"{"size":3}"#, &right).contains("the manifest's config: it has no digest"));
        assert!(of(&right, "null").contains("the manifest's layer 2: it is null"));
        assert!(
            of(&right, &format!(r#"{{"digest":"{D}","size":"3"}}"#))
                .contains("layer 2: it has a size that is a string")
        );
        assert!(
            of(&right, r#"{"digest":"md5:0","size":3}"#)
                .contains("layer 2: its digest cannot be checked: it is of md5")
        );
    }

    #[test]
    fn json_as_go_reads_it() {
        let text = format!(
            r#"{{"Manifests":null,"MANIFESTS":[],"manifests":[{{"Digest":"x","DIGEST":"{D}","size":1,"Size":3,"size":null,
            "annotations":{{"ORG.opencontainers.image.version":"no"}}}}]}}"#
        );
        let entries = index(&text).entries;
        assert_eq!((entries.len(), entries[0].size), (1, 3));
        assert_eq!(
            entries[0].annotations.as_ref().unwrap().version,
            None,
            "the case of an annotation counts"
        );
        let config =
            [&br#"{"os":"l"#[..], b"\xe9", br#"x","created":"\udc00!","config":{"User":"x\ud800"}}"#]
                .concat();
        let config = ImageConfig::parse(&config).unwrap();
        assert!(
            config.os == "l\u{fffd}x"
                && config.created.unwrap().ends_with('!')
                && config.config.user.starts_with('x')
        );
        for text in ["", "{", "[]", "null", "5", r#"{"a":1}x"#, r#"{"a":1}{}"#, r#"{"a":1,}"#] {
            assert!(refusal("", text).contains("not valid"), "{text}");
        }
    }

    #[test]
    fn tells_index_from_manifest_by_content() {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor());
        for declared in [OCI_INDEX, DOCKER_LIST, "", "application/json"] {
            assert!(
                matches!(Document::parse(declared, index.as_bytes()), Ok(Document::Index(_))),
                "{declared}"
            );
        }
        let manifest = format!(r#"{{"schemaVersion":2,"config":{0},"layers":[{0},{0}]}}"#, descriptor());
        let Ok(Document::Manifest(manifest)) = Document::parse(OCI_MANIFEST, manifest.as_bytes()) else {
            panic!()
        };
        assert_eq!(manifest.layers.len(), 2);
        assert_eq!(manifest.layers[0].layer_compression(), Some(Compression::Gzip));
    }

    #[test]
    fn confusions_are_refused() {
        let both = format!(r#"{{"manifests":[{0}],"config":{0},"layers":[{0}]}}"#, descriptor());
        assert!(refusal("", &both).contains("both an index and an image"));
        let index = format!(r#"{{"manifests":[{}]}}"#, descriptor());
        assert!(refusal(OCI_MANIFEST, &index).contains("not what its media type"));
        let typed = format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        assert!(
            Document::parse(DOCKER_LIST, typed.as_bytes()).is_ok(),
            "the other family's, and means the same"
        );
        assert!(refusal(OCI_MANIFEST, &typed).contains("announced as"));
        assert!(refusal("", "{}").contains("neither"));
        let in_other_case = format!(r#"{{"Manifests":[],"config":{}}}"#, descriptor());
        assert!(refusal("", &in_other_case).contains("both an index and an image"));
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        let declared = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert!(refusal(declared, "{}").contains("schema 1"));
        assert!(refusal("", r#"{"schemaVersion":1,"fsLayers":[]}"#).contains("schema 1"));
    }

    #[test]
    fn lists_are_bounded_and_nesting_too() {
        let urls = |count| {
            let urls = vec![r#""""#; count].join(",");
            format!(
                r#"{{"config":{0},"layers":[{{"digest":"{D}","size":3,"urls":[{urls}]}}]}}"#,
                descriptor()
            )
        };
        let kept = |count| match Document::parse("", urls(count).as_bytes()).unwrap() {
            Document::Manifest(manifest) => manifest.layers[0].urls.len(),
            Document::Index(_) => panic!(),
        };
        assert_eq!((kept(LABELS_MAX), kept(LABELS_MAX + 1)), (LABELS_MAX, 0));
        let many = vec![descriptor(); ENTRIES_MAX + 1].join(",");
        assert!(
            refusal("", &format!(r#"{{"manifests":[{many}]}}"#))
                .contains("more than 1024 elements (limit ENTRIES_MAX)")
        );
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert!(refusal("", &deep).contains("neither"), "skipped without recursion");
    }

    #[test]
    fn a_config_with_go_s_nulls() {
        let text = format!(
            r#"{{"architecture":"arm","os":"linux","variant":"v6",
                "config":{{"User":null,"Env":null,"Entrypoint":["/a"],"Cmd":["b"],"WorkingDir":""}},
                "rootfs":{{"type":"layers","diff_ids":["{D}"]}},"history":[{{"empty_layer":true}}]}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.args().collect::<Vec<_>>(), ["/a", "b"]);
        assert_eq!(config.rootfs.diff_ids.len(), 1);
        assert!(ImageConfig::parse(br#"{"config":null}"#).unwrap().config.env.is_empty());
    }
}
