//! A small image and the descriptors of its parts.

use edgepull::image::digest::Digest;
use edgepull::image::manifest::{Descriptor, media_type};

/// Documents and one layer, each with its bytes.
pub struct Image {
    pub index: Vec<u8>,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
}

impl Image {
    /// One entry, one layer of 100,000 bytes.
    pub fn new() -> Image {
        Image::with_layer((0..100_000u32).map(|at| (at * 7 % 251) as u8).collect())
    }

    pub fn with_layer(layer: Vec<u8>) -> Image {
        let config = format!(
            r#"{{"architecture":"arm","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&layer)
        )
        .into_bytes();
        Image::with_config(config, layer)
    }

    pub fn with_config(config: Vec<u8>, layer: Vec<u8>) -> Image {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media_type::OCI_MANIFEST,
            pointer("application/vnd.oci.image.config.v1+json", &config),
            pointer(media_type::OCI_LAYER, &layer),
        )
        .into_bytes();
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_INDEX,
            pointer(media_type::OCI_MANIFEST, &manifest)
        )
        .into_bytes();
        Image { index, manifest, config, layer }
    }

    pub fn config_descriptor(&self) -> Descriptor {
        descriptor("application/vnd.oci.image.config.v1+json", &self.config)
    }

    pub fn layer_descriptor(&self) -> Descriptor {
        descriptor(media_type::OCI_LAYER, &self.layer)
    }
}

/// A descriptor in JSON.
pub fn pointer(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
}

/// The descriptor of `bytes`.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type.to_owned(), Digest::of(bytes), bytes.len() as u64)
}
