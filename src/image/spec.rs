//! The file that describes a list, as manifest-tool reads it: YAML, or JSON, which is YAML, too.
//!
//! ```yaml
//! image: registry.example/app:latest
//! tags: ["1.0.0", "1.0"]
//! annotations: {org.opencontainers.image.version: "1.0.0"}
//! manifests:
//!   - image: registry.example/app:armv6
//!     platform: {os: linux, architecture: arm, variant: v6}
//! ```
//!
//! manifest-tool reads `osversion` and `osfeatures`, its documentation and the image-spec write `os.version` and
//! `os.features`: both are taken. A key that nobody knows is warned of, and left alone as it leaves it alone.

use super::manifest::PlatformField;
use super::yaml::{self, Node, Value, wrong};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// The largest such file, in bytes.
pub const SPEC_MAX: u64 = 1 << 20;

/// A list that is to be pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// What it is called.
    pub image: String,
    /// More tags of it.
    pub tags: Vec<String>,
    /// Its own annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its entries.
    pub manifests: Vec<Item>,
}

/// An entry that is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// Where its image is.
    pub image: String,
    /// What it runs on; what is empty is found out.
    pub platform: PlatformField,
}

impl Spec {
    /// Reads a file's `text`.
    ///
    /// # Errors
    /// [`Kind::Usage`] with the line of the mistake.
    pub fn parse(text: &str) -> Result<Spec> {
        let root = yaml::parse(text)?;
        let mut fields = Fields::of(root, "the file")?;
        let spec = Spec {
            image: fields.text("image")?.unwrap_or_default(),
            tags: fields.texts("tags")?,
            annotations: fields.pairs("annotations")?,
            manifests: fields.list("manifests")?.into_iter().map(item).collect::<Result<_>>()?,
        };
        fields.end("");
        match (spec.image.is_empty(), spec.manifests.is_empty()) {
            (true, _) => Err(missing("image", "the list's name")),
            (_, true) => Err(missing("manifests", "the list's entries")),
            _ => Ok(spec),
        }
    }
}

fn missing(key: &str, what: &str) -> Error {
    Error::new(Kind::Usage, format!("{key:?}, {what}, is missing"))
        .hint("image: HOST/REPOSITORY:TAG, then manifests: with an image: and a platform: each")
}

fn item(node: Node) -> Result<Item> {
    let line = node.line;
    let mut fields = Fields::of(node, "an entry of manifests")?;
    let image = fields.text("image")?.unwrap_or_default();
    let platform = match fields.take("platform") {
        Some(node) if !matches!(node.value, Value::Null) => platform(node)?,
        _ => PlatformField::default(),
    };
    fields.end("manifests: ");
    match image.is_empty() {
        true => Err(wrong(line, "an entry of manifests has no image")),
        false => Ok(Item { image, platform }),
    }
}

fn platform(node: Node) -> Result<PlatformField> {
    let mut fields = Fields::of(node, "platform")?;
    let os_features = fields.texts("os.features")?;
    let platform = PlatformField {
        os: fields.text("os")?.unwrap_or_default(),
        architecture: fields.text("architecture")?.unwrap_or_default(),
        variant: fields.text("variant")?,
        os_version: fields.text("os.version")?.or(fields.text("osversion")?),
        os_features: if os_features.is_empty() { fields.texts("osfeatures")? } else { os_features },
        features: fields.texts("features")?,
    };
    fields.end("platform: ");
    Ok(platform)
}

/// The keys of a map that were not asked for yet.
struct Fields(Vec<(String, Node)>);

impl Fields {
    fn of(node: Node, what: &str) -> Result<Fields> {
        match node.value {
            Value::Map(pairs) => Ok(Fields(pairs)),
            _ => Err(wrong(node.line, format_args!("{what} is {}, not a map of keys", node.kind()))),
        }
    }

    fn take(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    /// An empty text is none.
    fn text(&mut self, key: &str) -> Result<Option<String>> {
        let text = self.take(key).map(|node| text(node, key)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn list(&mut self, key: &str) -> Result<Vec<Node>> {
        match self.take(key) {
            None | Some(Node { value: Value::Null, .. }) => Ok(Vec::new()),
            Some(Node { value: Value::List(items), .. }) => Ok(items),
            Some(node) => Err(wrong(node.line, format_args!("{key} is {}, not a list", node.kind()))),
        }
    }

    fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        self.list(key)?.into_iter().map(|node| text(node, key)).collect()
    }

    fn pairs(&mut self, key: &str) -> Result<BTreeMap<String, String>> {
        match self.take(key) {
            None | Some(Node { value: Value::Null, .. }) => Ok(BTreeMap::new()),
            Some(node) => {
                let pairs = Fields::of(node, key)?.0.into_iter();
                pairs.map(|(name, node)| Ok((name, text(node, key)?))).collect()
            }
        }
    }

    /// Warns of what nobody has asked for.
    fn end(self, place: &str) {
        for (key, node) in self.0 {
            log::warn!("line {}: {place}{key:?} means nothing here; is it misspelt?", node.line);
        }
    }
}

fn text(node: Node, key: &str) -> Result<String> {
    match node.value {
        Value::Scalar(text) => Ok(text),
        Value::Null => Ok(String::new()),
        _ => Err(wrong(node.line, format_args!("{key} has {}, not a text", node.kind()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_tool_s_documented_file_is_read() {
        let spec = Spec::parse(
            "image: myprivreg:5000/someimage:latest\ntags: [\"1.0.0\", \"1.0\", 1]\nmanifests:\n  -\n    \
             image: myprivreg:5000/someimage:arm64\n    platform:\n      architecture: arm64\n      os: linux\n  -\n    \
             image: myprivreg:5000/someimage:nano\n    platform:\n      architecture: amd64\n      os: windows\n      \
             os.version: 10.0.17763.2300\n      os.features: [win32k]\n      features: [sse4]\n",
        )
        .unwrap();
        assert_eq!(spec.image, "myprivreg:5000/someimage:latest");
        assert_eq!(spec.tags, ["1.0.0", "1.0", "1"]);
        let platform = &spec.manifests[1].platform;
        assert_eq!(
            (platform.os.as_str(), platform.os_version.as_deref()),
            ("windows", Some("10.0.17763.2300"))
        );
        assert_eq!(
            (&platform.os_features, &platform.features),
            (&vec!["win32k".into()], &vec!["sse4".into()])
        );
        assert_eq!(spec.manifests[0].platform.variant, None);
    }

    #[test]
    fn json_and_go_s_spelling_of_keys_are_read() {
        let text = r#"{"image": "h/a", "annotations": {"k": "v"}, "manifests":
            [{"image": "h/b", "platform": {"os": "windows", "osversion": "10", "osfeatures": ["x"]}}, {"image": "h/c"}]}"#;
        let spec = Spec::parse(text).unwrap();
        assert_eq!(spec.annotations["k"], "v");
        assert_eq!(spec.manifests[0].platform.os_version.as_deref(), Some("10"));
        assert_eq!(spec.manifests[0].platform.os_features, ["x"]);
        assert_eq!(spec.manifests[1].platform, PlatformField::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, named) in [
            ("", "line 1: the file is nothing"),
            ("manifests: [{image: a}]", "\"image\", the list's name, is missing"),
            ("image: a\nmanifests: []", "\"manifests\", the list's entries, is missing"),
            ("image: a\nmanifests:\n  image: b", "manifests is a map, not a list"),
            ("image: a\nmanifests:\n- platform: {os: linux}", "line 3: an entry of manifests has no image"),
            (
                "image: a\nmanifests:\n- image: b\n  platform: linux/arm",
                "line 4: platform is a text, not a map",
            ),
            ("image: [a]\nmanifests: [{image: b}]", "line 1: image has a list, not a text"),
            ("image: a\ntags: v1\nmanifests: [{image: b}]", "line 2: tags is a text, not a list"),
        ] {
            let error = Spec::parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(named), "{text:?}: {error}");
        }
    }
}
