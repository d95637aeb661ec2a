//! The documents of an image: index (manifest list), manifest, config. Only what edgepull uses of them.
//!
//! Everything here comes from the network and is parsed only after its digest was verified, under these
//! limits: the document's size ([`DOCUMENT_MAX`]), serde_json's nesting of 128 (what is skipped is skipped
//! without recursion), the length of every string ([`STRING_MAX`]), and the number of elements
//! in every list, so that 4 MiB of `{},{},…` cannot become 400 MiB of structs. serde's derive refuses
//! duplicate keys.

use super::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

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
/// The longest string of a document, in bytes as they are written: what Linux passes to a program in one piece
/// (MAX_ARG_STRLEN), which bounds commands, environment and the history of both. serde quotes a string that it did
/// not expect, at up to six times its length.
pub const STRING_MAX: usize = 128 << 10;

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
#[derive(Debug, Clone, Deserialize)]
pub struct Descriptor {
    /// As written; empty where it was left out.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// The blob's digest.
    pub digest: Digest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Where else a foreign (nondistributable) layer can be had.
    #[serde(default, deserialize_with = "list::<_, _, LABELS_MAX>")]
    pub urls: Vec<String>,
    /// What an index says that this entry runs on.
    #[serde(default)]
    pub platform: Option<PlatformField>,
    /// What an index says that this entry is, where it is no image.
    #[serde(rename = "artifactType", default)]
    pub artifact_type: Option<String>,
    /// The few annotations that edgepull reads.
    #[serde(default)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PlatformField {
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// `v6`, `v7`, `v8`…
    #[serde(default)]
    pub variant: Option<String>,
    /// Windows builds, mostly.
    #[serde(rename = "os.version", default)]
    pub os_version: Option<String>,
    /// Required of the OS.
    #[serde(rename = "os.features", default, deserialize_with = "list::<_, _, LABELS_MAX>")]
    pub os_features: Vec<String>,
    /// Required of the CPU (reserved in OCI, used in Docker's lists: `sse4`, `neon`).
    #[serde(default, deserialize_with = "list::<_, _, LABELS_MAX>")]
    pub features: Vec<String>,
}

/// Annotations that mean something to edgepull; all others are skipped while parsing.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Annotations {
    /// The tag of an image in an OCI layout (image-spec annotations.md).
    #[serde(rename = "org.opencontainers.image.ref.name", default)]
    pub ref_name: Option<String>,
    /// `attestation-manifest` marks what BuildKit attaches to an image.
    #[serde(rename = "vnd.docker.reference.type", default)]
    pub reference_type: Option<String>,
    /// Which version the image is, in the words of who made it (image-spec annotations.md; also a label of configs).
    #[serde(rename = "org.opencontainers.image.version", default)]
    pub version: Option<String>,
    /// When it was made: RFC 3339.
    #[serde(rename = "org.opencontainers.image.created", default)]
    pub created: Option<String>,
    /// A signature of the blob, in base64 (cosign's specs/SIGNATURE_SPEC.md).
    #[serde(rename = "dev.cosignproject.cosign/signature", default)]
    pub signature: Option<String>,
    /// What `cosign save` says that an entry of a layout is: `dev.cosignproject.cosign/sigs`, for example.
    #[serde(default)]
    pub kind: Option<String>,
    /// What a Sigstore bundle is about (cosign's specs/BUNDLE_SPEC.md).
    #[serde(rename = "dev.sigstore.bundle.predicateType", default)]
    pub predicate_type: Option<String>,
}

/// An OCI image index or a Docker manifest list.
#[derive(Debug, Clone)]
pub struct Index {
    /// In the order of the document.
    pub entries: Vec<Descriptor>,
    /// The index's own.
    pub annotations: Annotations,
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

/// Both shapes at once, to tell them apart by content: a document that could be read as either is the
/// confusion of CVE-2021-41190 and is refused.
#[derive(Deserialize)]
struct Either {
    #[serde(rename = "schemaVersion", default)]
    schema_version: Option<u64>,
    #[serde(rename = "mediaType", default)]
    media_type: Option<String>,
    #[serde(default, deserialize_with = "some_list::<_, _, ENTRIES_MAX>")]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default, deserialize_with = "some_list::<_, _, LAYERS_MAX>")]
    layers: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers", default)]
    fs_layers: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Annotations,
    #[serde(default)]
    subject: Option<Subject>,
}

/// What another manifest is attached to; it may be anything, and need not be there.
#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: String,
}

impl Document {
    /// Parses verified `bytes`. `declared` is the media type that whoever pointed here gave (descriptor or
    /// Content-Type; empty if none); the document's own `mediaType` and its content must agree with it.
    pub fn parse(declared: &str, bytes: &[u8]) -> Result<Document> {
        if declared.starts_with(media_type::DOCKER_SCHEMA1) {
            return Err(schema1());
        }
        let either: Either = parse(bytes, "manifest")?;
        if either.fs_layers.is_some() || either.schema_version == Some(1) {
            return Err(schema1());
        }
        let own = either.media_type.as_deref().unwrap_or_default();
        if !own.is_empty() && is_manifest_type(declared) && own != declared {
            return Err(bad(format!("the manifest says it is {own:?}, but was announced as {declared:?}")));
        }
        let media_type = if own.is_empty() { declared } else { own };
        let document = match (either.manifests, either.config, either.layers) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(bad("the manifest is both an index and an image".into())
                    .hint("refused: different tools would run different things (CVE-2021-41190)"));
            }
            (Some(entries), None, None) => {
                Document::Index(Index { entries, annotations: either.annotations })
            }
            (None, Some(config), layers) => Document::Manifest(Box::new(Manifest {
                config,
                layers: layers.unwrap_or_default(),
                annotations: either.annotations,
                subject: either.subject.map(|subject| subject.digest),
            })),
            (None, None, _) => {
                return Err(bad(format!("{} is neither an index nor an image manifest", shown(media_type))));
            }
        };
        let is_index = matches!(document, Document::Index(_));
        let says_index = matches!(media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST);
        if is_manifest_type(media_type) && is_index != says_index {
            return Err(bad(format!(
                "the manifest's content is not what its media type {media_type:?} says"
            )));
        }
        Ok(document)
    }
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
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ImageConfig {
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// CPU variant.
    #[serde(default)]
    pub variant: Option<String>,
    /// Windows builds, mostly.
    #[cfg(feature = "publish")]
    #[serde(rename = "os.version", default)]
    pub os_version: Option<String>,
    /// Required of the OS.
    #[cfg(feature = "publish")]
    #[serde(rename = "os.features", default, deserialize_with = "list::<_, _, LABELS_MAX>")]
    pub os_features: Vec<String>,
    /// When it was made: RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// What to run and how.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// The layers' uncompressed digests.
    #[serde(default)]
    pub rootfs: RootfsField,
}

/// `rootfs` of a config.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RootfsField {
    /// Bottom layer first.
    #[serde(default, deserialize_with = "list::<_, _, LAYERS_MAX>")]
    pub diff_ids: Vec<Digest>,
}

/// `config` of a config: the execution parameters.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    #[serde(rename = "User", default, deserialize_with = "or_default")]
    pub user: String,
    /// `NAME=VALUE`.
    #[serde(rename = "Env", default, deserialize_with = "list::<_, _, LIST_MAX>")]
    pub env: Vec<String>,
    /// Comes before `Cmd`.
    #[serde(rename = "Entrypoint", default, deserialize_with = "list::<_, _, LIST_MAX>")]
    pub entrypoint: Vec<String>,
    /// Default arguments, or the whole command where there is no entrypoint.
    #[serde(rename = "Cmd", default, deserialize_with = "list::<_, _, LIST_MAX>")]
    pub cmd: Vec<String>,
    /// Where it starts.
    #[serde(rename = "WorkingDir", default, deserialize_with = "or_default")]
    pub working_dir: String,
    /// The few labels that edgepull reads.
    #[serde(rename = "Labels", default, deserialize_with = "or_default")]
    pub labels: Annotations,
}

impl RunConfig {
    /// The command line that the image runs: entrypoint, then cmd.
    pub fn args(&self) -> impl Iterator<Item = &str> {
        self.entrypoint.iter().chain(&self.cmd).map(String::as_str)
    }
}

impl ImageConfig {
    /// Parses verified `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        parse(bytes, "image config")
    }

    /// The platform that the image was built for, normalized.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref().unwrap_or_default())
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    if !has_short_strings(bytes) {
        return Err(bad(format!("{what} has a string of more than STRING_MAX, {STRING_MAX} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|error| bad(format!("{what} is not valid: {error}")))
}

/// Whether no string of a JSON document is longer than [`STRING_MAX`]; nothing is said of what is no JSON.
fn has_short_strings(bytes: &[u8]) -> bool {
    let (mut begun, mut escaped) = (None, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (begun, byte) {
            (Some(begin), _) if at - begin > STRING_MAX + 1 => return false,
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(_), b'"') => begun = None,
            (None, b'"') => begun = Some(at),
            _ => {}
        }
    }
    true
}

/// A list of at most `MAX` elements; `null` and a missing key are the empty list.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Ok(some_list::<D, T, MAX>(from)?.unwrap_or_default())
}

/// As [`list`], but tells `null` from the empty list.
fn some_list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    struct Bounded<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Option<Vec<T>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX} elements")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = seq.next_element()? {
                if elements.len() == MAX {
                    return Err(serde::de::Error::invalid_length(MAX + 1, &self));
                }
                elements.push(element);
            }
            Ok(Some(elements))
        }
    }
    from.deserialize_any(Bounded::<T, MAX>(PhantomData))
}

/// `null` is the default value, as Go writes it for empty strings and structs behind pointers.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_string_that_nobody_expects_is_not_quoted_in_full() {
        let with = |length: usize| format!(r#"{{"schemaVersion":"{}\""}}"#, "\x7f".repeat(length - 2));
        assert!(refusal("", &with(STRING_MAX)).contains("invalid type"));
        assert!(refusal("", &with(STRING_MAX)).len() < 10_000);
        assert!(refusal("", &with(STRING_MAX + 1)).contains("STRING_MAX"));
        // One that is skipped is one all the same.
        let data = format!(r#"{{"x":"{}"}}"#, "y".repeat(STRING_MAX + 1));
        assert!(ImageConfig::parse(data.as_bytes()).unwrap_err().to_string().contains("STRING_MAX"));
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
        assert!(refusal(DOCKER_LIST, &typed).contains("announced as"));
        assert!(refusal("", "{}").contains("neither"));
        assert!(refusal("", r#"{"manifests":[],"manifests":[]}"#).contains("duplicate field"));
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
        assert!(Document::parse("", urls(LABELS_MAX).as_bytes()).is_ok());
        assert!(refusal("", &urls(LABELS_MAX + 1)).contains("at most 16"));
        let many = vec![descriptor(); ENTRIES_MAX + 1].join(",");
        assert!(refusal("", &format!(r#"{{"manifests":[{many}]}}"#)).contains("at most 1024"));
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
