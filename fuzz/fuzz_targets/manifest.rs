//! Indexes and manifests: no document can be read as both (CVE-2021-41190), whoever announces it, and none takes many
//! times its own size.
#![no_main]

use edgepull::image::manifest::{Document, ENTRIES_MAX, LAYERS_MAX, media_type};
use edgepull_fuzz::{assert_message, fuzz_target, memory};

const ANNOUNCED: [&str; 6] = [
    "",
    media_type::OCI_INDEX,
    media_type::DOCKER_LIST,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_MANIFEST,
    "application/json",
];

fuzz_target!(|data: &[u8]| {
    let mut seen = [false; 2];
    for announced in ANNOUNCED {
        // The most is a string of control characters that nobody expected, quoted twice.
        let limit = 32 * data.len() + 16 * 1024;
        match memory::within(limit, || Document::parse(announced, data)) {
            Ok(Document::Index(index)) => {
                assert!(index.entries.len() <= ENTRIES_MAX);
                assert!(!announced.contains(".image.manifest.") && announced != media_type::DOCKER_MANIFEST);
                seen[0] = true;
            }
            Ok(Document::Manifest(manifest)) => {
                assert!(manifest.layers.len() <= LAYERS_MAX);
                assert!(!announced.contains(".index.") && !announced.contains(".list."));
                seen[1] = true;
            }
            Err(error) => assert_message(&error.to_string()),
        }
    }
    assert_ne!(seen, [true; 2], "an index for some, an image for others");
});
