//! A list of images in the making: its entries, checked, in their order, and the exact bytes that they become.
//!
//! Both families are written as the tools do that people have used so far, byte for byte where that can be seen: the
//! same list of the same images has the same digest, whoever makes it.

use super::digest::Digest;
use super::json::{self, Odd, Shape, Value};
use super::manifest::{
    DOCUMENT_MAX, Descriptor, Document, ENTRIES_MAX, ImageConfig, PlatformField, Unusable, media_type,
};
use crate::error::{Error, Kind, Result};
use crate::platform::{Platform, check_label};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::ser::{PrettyFormatter, Serializer as Writer};
use std::collections::BTreeMap;

/// The most annotations of an entry or a list that are taken over.
const ANNOTATIONS_MAX: usize = 256;

/// Whose media types a list has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// A Docker manifest list.
    #[default]
    Docker,
    /// An OCI image index.
    Oci,
}

impl Family {
    /// The media type of its lists.
    pub fn media_type(self) -> &'static str {
        match self {
            Family::Docker => media_type::DOCKER_LIST,
            Family::Oci => media_type::OCI_INDEX,
        }
    }

    /// Returns the family of a list of these with these annotations, where nobody says another: `docker manifest push` goes
    /// by the first entry, and only OCI's have annotations.
    pub fn of(entries: &[Entry], annotations: &BTreeMap<String, String>) -> Family {
        match entries.first().map(|entry| entry.media_type.as_str()) {
            Some(media_type::OCI_MANIFEST) => Family::Oci,
            _ if !annotations.is_empty() => Family::Oci,
            _ => Family::Docker,
        }
    }
}

/// How a list is written: the order of an entry's keys, and how deep the next level is set in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As `docker manifest push` does it.
    Docker,
    /// As manifest-tool does it.
    ManifestTool,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Of what it points at.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Of what it points at.
    pub digest: Digest,
    /// Of what it points at, in bytes.
    pub size: u64,
    /// What it runs on.
    #[serde(default, with = "platform", skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformField>,
    /// Its own annotations, all of them.
    #[serde(default, deserialize_with = "annotations", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it is, where it is no image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Entry {
    /// Is it what BuildKit attaches to an image, and no image?
    pub fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
    }

    /// What points at it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            platform: self.platform.clone(),
            artifact_type: self.artifact_type.clone(),
            ..Descriptor::new(self.media_type.clone(), self.digest, self.size)
        }
    }

    /// Returns the platform of its label; `None` where it has none, or one that says too little.
    pub fn labelled_platform(&self) -> Option<Platform> {
        self.platform.as_ref().and_then(PlatformField::platform)
    }

    /// Reads the entries of a list, as they are written there; `bytes` were verified, `declared` is their media type.
    /// Returns second what is wrong with those that cannot be used, a sentence for each.
    ///
    /// # Errors
    /// [`Kind::BadImage`] for what is no list, or beyond a limit.
    pub fn of_list(declared: &str, bytes: &[u8]) -> Result<(Vec<Entry>, Vec<String>)> {
        const ANNOTATIONS: Shape = Shape::Pairs { max: ANNOTATIONS_MAX, limit: "ANNOTATIONS_MAX" };
        const LIST: Shape = Shape::Object(&[(
            "manifests",
            Shape::List {
                of: &Shape::Object(&[("annotations", ANNOTATIONS)]),
                max: ENTRIES_MAX,
                limit: "ENTRIES_MAX",
            },
        )]);
        let bad = |message: String| Error::new(Kind::BadImage, message);
        let Document::Index(index) = Document::parse(declared, bytes)? else {
            return Err(bad("it is an image, not a list".to_owned()));
        };
        let list =
            json::read(bytes, &LIST).map_err(|error| bad(format!("the list is not valid: {error}")))?;
        let [listed] = list.fields();
        let listed = listed.needed_list().ok().flatten().unwrap_or_default();
        let places = index.places();
        let usable = listed.into_iter().enumerate().filter(|(place, _)| places.binary_search(place).is_ok());
        let entries = index.entries.into_iter().zip(usable).map(|(descriptor, (_, annotations))| {
            let [annotations] = annotations.fields();
            let annotations = match annotations {
                Value::Pairs(pairs) => pairs,
                Value::Odd(odd @ Odd::TooMany { .. }) => {
                    return Err(bad(format!("the annotations of {} are {odd}", descriptor.digest)));
                }
                _ => BTreeMap::new(),
            };
            let Descriptor { media_type, digest, size, platform, artifact_type, .. } = descriptor;
            if platform.as_ref().is_some_and(|platform| !platform.is_readable()) {
                return Err(bad(format!("the features that {digest} asks for are no list of strings")));
            }
            Ok(Entry { media_type, digest, size, platform, annotations, artifact_type })
        });
        let why = |entry: &Unusable| match (entry.place + 1, entry.digest.as_str(), &entry.why) {
            (number, "", why) => format!("entry {number}: {why}"),
            (number, digest, why) => format!("entry {number} {digest}: {why}"),
        };
        Ok((entries.collect::<Result<_>>()?, index.unusable.iter().map(why).collect()))
    }

    /// What the entry is for: what was said of it (`given`) before what its config says, as manifest-tool and
    /// `docker manifest` do it.
    ///
    /// # Errors
    /// [`Kind::Usage`] where neither says enough, or something that no engine knows.
    pub fn label(&mut self, given: &PlatformField, config: &ImageConfig) -> Result<()> {
        let mut label = given.clone();
        if label.os.is_empty() && label.architecture.is_empty() {
            (label.os, label.architecture) = (config.os.clone(), config.architecture.clone());
        }
        // A variant belongs to its architecture: that of another one says nothing.
        if label.architecture == config.architecture {
            label.variant = label.variant.or_else(|| filled(&config.variant));
        }
        label.os_version = label.os_version.or_else(|| filled(&config.os_version));
        if label.os_features.is_empty() {
            label.os_features.clone_from(&config.os_features);
        }
        publishable(&mut label)?;
        self.platform = Some(label);
        Ok(())
    }
}

/// Holds a label against the names that engines know. Its variant becomes theirs where it is another word for it, as
/// `armv6l` and `armv8` are, which manifest-tool's first lists and the talks about them have; that is told.
///
/// # Errors
/// [`Kind::Usage`] for a label that no engine knows.
pub fn publishable(label: &mut PlatformField) -> Result<()> {
    let variant = label.variant.as_deref().unwrap_or_default();
    if let Some(known) = check_label(&label.os, &label.architecture, variant)? {
        log::warn!("the variant {variant:?} of {}/{} is published as {known}", label.os, label.architecture);
        label.variant = Some(known.to_string());
    }
    Ok(())
}

fn filled(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// Annotations, a bounded number of them; `null` is none.
fn annotations<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let annotations = Option::<BTreeMap<String, String>>::deserialize(from)?.unwrap_or_default();
    match annotations.len() > ANNOTATIONS_MAX {
        true => {
            Err(D::Error::custom(format!("more than {ANNOTATIONS_MAX} annotations (limit ANNOTATIONS_MAX)")))
        }
        false => Ok(annotations),
    }
}

/// `platform`, in the order of Go's structs.
mod platform {
    use super::*;

    pub(super) struct Written<'a>(pub(super) &'a PlatformField);

    impl Serialize for Written<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let PlatformField { os, architecture, variant, os_version, os_features, features } = self.0;
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("architecture", architecture)?;
            map.serialize_entry("os", os)?;
            let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
            if filled(os_version) {
                map.serialize_entry("os.version", os_version)?;
            }
            if !os_features.is_empty() {
                map.serialize_entry("os.features", os_features)?;
            }
            if filled(variant) {
                map.serialize_entry("variant", variant)?;
            }
            if !features.is_empty() {
                map.serialize_entry("features", features)?;
            }
            map.end()
        }
    }

    pub(super) fn serialize<S: Serializer>(
        field: &Option<PlatformField>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        field.as_ref().map(Written).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PlatformField>, D::Error> {
        Option::deserialize(from)
    }
}

/// A list in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Whose media type it has.
    pub family: Family,
    /// Its entries: images in their order, then attestations.
    entries: Vec<Entry>,
    /// Its own annotations.
    annotations: BTreeMap<String, String>,
}

impl List {
    /// A list of these entries; attestations come last, whatever their place was.
    ///
    /// # Errors
    /// [`Kind::Usage`] for two images that run on the same, none at all, and annotations where there can be none.
    pub fn new(family: Family, entries: Vec<Entry>, annotations: BTreeMap<String, String>) -> Result<List> {
        if family == Family::Docker && !annotations.is_empty() {
            return Err(
                Error::new(Kind::Usage, "a Docker manifest list has no annotations").hint("--type oci")
            );
        }
        if entries.len() > ENTRIES_MAX {
            return Err(Error::new(
                Kind::Usage,
                format!("more than {ENTRIES_MAX} entries (limit ENTRIES_MAX)"),
            ));
        }
        let (attestations, images): (Vec<Entry>, Vec<Entry>) =
            entries.into_iter().partition(Entry::is_attestation);
        if images.is_empty() {
            return Err(Error::new(Kind::Usage, "the list would have no image"));
        }
        if let Some((first, second)) = images.iter().enumerate().find_map(|(at, entry)| {
            images[..at].iter().find(|other| are_for_the_same(other, entry)).map(|other| (other, entry))
        }) {
            let platform = first.platform.as_ref().map(shown).unwrap_or_default();
            return Err(Error::new(
                Kind::Usage,
                format!("two entries for {platform}: {} and {}", first.digest, second.digest),
            )
            .hint("a board takes one of them, and nobody can say which"));
        }
        Ok(List { family, entries: images.into_iter().chain(attestations).collect(), annotations })
    }

    /// Its entries: images in their order, then attestations.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes that are pushed.
    ///
    /// # Errors
    /// [`Kind::Usage`] where no registry would take them: more than [`DOCUMENT_MAX`].
    pub fn bytes(&self, style: Style) -> Result<Vec<u8>> {
        let indent: &[u8] = match style {
            Style::Docker => b"   ",
            Style::ManifestTool => b"  ",
        };
        let mut bytes = Vec::new();
        let mut writer = Writer::with_formatter(&mut bytes, PrettyFormatter::with_indent(indent));
        Written { list: self, style }.serialize(&mut writer).expect("strings and numbers only");
        match bytes.len() as u64 > DOCUMENT_MAX {
            true => Err(Error::new(Kind::Usage, "the list is larger than 4 MiB (limit DOCUMENT_MAX)")),
            false => Ok(bytes),
        }
    }
}

/// As a message calls a platform.
fn shown(field: &PlatformField) -> String {
    let platform = field.normal().to_string();
    match &field.os_version {
        Some(version) => format!("{platform} of version {version:?}"),
        None => platform,
    }
}

/// Would an engine have to choose between them?
fn are_for_the_same(one: &Entry, other: &Entry) -> bool {
    let (Some(one), Some(other)) = (&one.platform, &other.platform) else { return false };
    let sorted = |field: &PlatformField| {
        let mut features: Vec<String> = field.os_features.iter().chain(&field.features).cloned().collect();
        features.sort();
        (features, field.os_version.clone().unwrap_or_default())
    };
    one.normal() == other.normal() && sorted(one) == sorted(other)
}

/// The list, in the order of the tool's keys.
struct Written<'a> {
    list: &'a List,
    style: Style,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let List { family, entries, annotations } = self.list;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schemaVersion", &2)?;
        map.serialize_entry("mediaType", family.media_type())?;
        let entries: Vec<_> =
            entries.iter().map(|entry| WrittenEntry { entry, style: self.style, family: *family }).collect();
        map.serialize_entry("manifests", &entries)?;
        if !annotations.is_empty() {
            map.serialize_entry("annotations", annotations)?;
        }
        map.end()
    }
}

struct WrittenEntry<'a> {
    entry: &'a Entry,
    style: Style,
    family: Family,
}

impl Serialize for WrittenEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Entry { media_type, digest, size, platform, annotations, artifact_type } = self.entry;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("mediaType", media_type)?;
        // distribution's Descriptor has the size first, image-spec's the digest.
        let is_image_spec_s = self.style == Style::ManifestTool && self.family == Family::Oci;
        if is_image_spec_s {
            map.serialize_entry("digest", digest)?;
        }
        map.serialize_entry("size", size)?;
        if !is_image_spec_s {
            map.serialize_entry("digest", digest)?;
        }
        if !annotations.is_empty() {
            map.serialize_entry("annotations", annotations)?;
        }
        if let Some(platform) = platform {
            map.serialize_entry("platform", &platform::Written(platform))?;
        }
        if let Some(kind) = artifact_type {
            map.serialize_entry("artifactType", kind)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str) -> Entry {
        let mut parts = platform.split('/');
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Entry {
            media_type: media_type::OCI_MANIFEST.into(),
            digest: Digest::of(platform.as_bytes()),
            size: 478,
            platform: Some(PlatformField {
                os: next(),
                architecture: next(),
                variant: Some(next()).filter(|variant| !variant.is_empty()),
                ..Default::default()
            }),
            annotations: BTreeMap::new(),
            artifact_type: None,
        }
    }

    fn list(family: Family, entries: Vec<Entry>) -> List {
        List::new(family, entries, BTreeMap::new()).unwrap()
    }

    #[test]
    fn docker_s_bytes() {
        let mut windows = entry("windows/amd64");
        let platform = windows.platform.as_mut().unwrap();
        (platform.os_version, platform.os_features) = (Some("1.2".into()), vec!["a".into(), "b".into()]);
        let bytes = list(Family::Docker, vec![windows]).bytes(Style::Docker).unwrap();
        let digest = Digest::of(b"windows/amd64");
        let want = format!(
            "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.docker.distribution.manifest.list.v2+json\",\n   \
             \"manifests\": [\n      {{\n         \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n         \
             \"size\": 478,\n         \"digest\": \"{digest}\",\n         \"platform\": {{\n            \
             \"architecture\": \"amd64\",\n            \"os\": \"windows\",\n            \"os.version\": \"1.2\",\n            \
             \"os.features\": [\n               \"a\",\n               \"b\"\n            ]\n         }}\n      }}\n   ]\n}}"
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut attestation = entry("unknown/unknown");
        attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        attestation.annotations.insert("vnd.docker.reference.digest".into(), Digest::of(b"x").to_string());
        let mut artifact = entry("linux/riscv64");
        artifact.artifact_type = Some("application/x".into());
        let entries = vec![attestation.clone(), entry("linux/arm/v6"), artifact.clone()];
        for (family, style) in [(Family::Oci, Style::ManifestTool), (Family::Docker, Style::Docker)] {
            let bytes = list(family, entries.clone()).bytes(style).unwrap();
            let (read, unusable) = Entry::of_list(family.media_type(), &bytes).unwrap();
            assert_eq!(unusable, [""; 0]);
            assert_eq!(
                read,
                [entry("linux/arm/v6"), artifact.clone(), attestation.clone()],
                "attestations last"
            );
        }
    }

    #[test]
    fn duplicates_are_refused_however_they_are_written() {
        let refusal = |entries| List::new(Family::Oci, entries, BTreeMap::new()).unwrap_err().to_string();
        assert!(
            refusal(vec![entry("linux/arm64"), entry("linux/arm64/v8")])
                .contains("two entries for linux/arm64/v8")
        );
        let of = |version: &str| {
            let mut entry = entry("windows/amd64");
            entry.platform.as_mut().unwrap().os_version = Some(version.into());
            entry
        };
        assert!(refusal(vec![of("1"), of("1")]).contains("of version \"1\""));
        assert_eq!(list(Family::Oci, vec![of("1"), of("2")]).entries().len(), 2);
        assert!(refusal(vec![]).contains("no image"));
    }

    #[test]
    fn annotations_need_an_index() {
        let annotations = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let new = |family| List::new(family, vec![entry("linux/arm/v6")], annotations.clone());
        assert!(new(Family::Docker).unwrap_err().to_string().contains("--type oci"));
        let bytes = new(Family::Oci).unwrap().bytes(Style::ManifestTool).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["annotations"]["k"], "v");
    }

    #[test]
    fn a_label_is_what_was_said_and_then_what_the_config_says() {
        let label = |given: &str, config: &str| {
            let mut entry = entry("x/y");
            let mut parts = given.split('/').map(str::to_owned);
            let given = PlatformField {
                os: parts.next().unwrap_or_default(),
                architecture: parts.next().unwrap_or_default(),
                variant: parts.next(),
                ..Default::default()
            };
            let labelled = entry.label(&given, &ImageConfig::parse(config.as_bytes()).unwrap());
            labelled.map(|()| shown(entry.platform.as_ref().unwrap()))
        };
        let v6 = r#"{"os":"linux","architecture":"arm","variant":"v6"}"#;
        assert_eq!(label("", v6).unwrap(), "linux/arm/v6");
        assert_eq!(label("linux/arm", v6).unwrap(), "linux/arm/v6");
        assert_eq!(label("linux/arm/v7", v6).unwrap(), "linux/arm/v7");
        assert_eq!(label("linux/amd64", v6).unwrap(), "linux/amd64", "not amd64/v6");
        let windows =
            r#"{"os":"windows","architecture":"amd64","os.version":"10.0.1","os.features":["win32k"]}"#;
        assert_eq!(label("", windows).unwrap(), "windows/amd64 of version \"10.0.1\"");
        assert!(label("linux", v6).unwrap_err().to_string().contains("architectures"));
        assert!(label("", "{}").unwrap_err().to_string().contains("platform '/'"));
        assert!(label("linux/armv6", "{}").unwrap_err().to_string().contains("write linux/arm/v6"));
    }

    #[test]
    fn lists_of_others_are_bounded() {
        let many: BTreeMap<String, String> =
            (0..=ANNOTATIONS_MAX).map(|n| (n.to_string(), "x".into())).collect();
        let many = serde_json::to_string(&many).unwrap();
        let text = format!(
            r#"{{"manifests":[{{"mediaType":"","digest":"{}","size":1,"annotations":{many}}}]}}"#,
            Digest::of(b"")
        );
        let error = Entry::of_list("", text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("ANNOTATIONS_MAX"), "{error}");
        assert!(Entry::of_list("", br#"{"config":{}}"#).is_err());
    }
}
