//! The file that describes a list: whatever aliases it has, its memory is bounded; a mistake is said with its line or
//! its key; and what was read is read again when it is written as JSON.
#![no_main]

use edgepull::image::spec::Spec;
use edgepull_fuzz::{assert_message, fuzz_target, memory};
use serde_json::{Value, json};

/// Of 65,536 nodes and 4 MiB of text, which are the limits, whatever is copied; the vectors that they are in grow.
const MEMORY_MAX: usize = 24 << 20;
/// YAML's longest key in one line, which JSON's are.
const KEY_MAX: usize = 500;

fn as_json(spec: &Spec) -> Value {
    let item = |item: &edgepull::image::spec::Item| {
        let platform = &item.platform;
        json!({ "image": item.image, "platform": {
            "os": platform.os, "architecture": platform.architecture, "variant": platform.variant,
            "os.version": platform.os_version, "os.features": platform.os_features, "features": platform.features,
        }})
    };
    json!({
        "image": spec.image, "tags": spec.tags, "annotations": spec.annotations,
        "manifests": spec.manifests.iter().map(item).collect::<Vec<_>>(),
    })
}

fuzz_target!(|text: &str| {
    let spec = match memory::within(64 * text.len() + MEMORY_MAX, || Spec::parse(text)) {
        Ok(spec) => spec,
        Err(error) => {
            let said = error.to_string();
            assert_message(&said);
            let names_its_place = said.starts_with("line ")
                || said.starts_with("\"image\"")
                || said.starts_with("\"manifests\"");
            assert!(names_its_place, "{said}");
            return;
        }
    };
    assert!(!spec.image.is_empty() && !spec.manifests.is_empty());
    assert!(spec.manifests.iter().all(|item| !item.image.is_empty()));
    // What YAML takes for something else than JSON does is its own: line ends of Unicode, and what cannot be printed.
    let written = as_json(&spec).to_string();
    if written.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && spec.annotations.keys().all(|key| key.len() < KEY_MAX)
    {
        assert_eq!(Spec::parse(&written).expect("JSON is YAML"), spec);
    }
});
