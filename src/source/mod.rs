//! Where an image's bytes come from. Every source answers the same three questions; none knows what
//! happens to the answers.

use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCUMENT_MAX, Descriptor};
use std::io::Read;

/// The bytes of an index, manifest or config, whose digest was verified.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// What the source says they are (Content-Type or descriptor); empty if it says nothing.
    pub media_type: String,
}

/// A place that has one image, perhaps for several platforms.
pub trait Source {
    /// What the reference names: an index or a manifest.
    fn root(&mut self) -> Result<Fetched>;

    /// The index or manifest that an entry of an index points at.
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Fetched>;

    /// The image config.
    fn config(&mut self, descriptor: &Descriptor) -> Result<Fetched>;

    /// A layer's bytes as they are stored, from byte `offset` on. They are not verified here: whoever
    /// reads them hashes them anyway. The reader survives dropped connections; its errors carry an
    /// [`Error`] ([`Error::from_io`]).
    fn layer(&mut self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;
}

/// Reads a document of `size` bytes (unknown: `None`) whole, within [`DOCUMENT_MAX`].
fn read_document(reader: &mut dyn Read, size: Option<u64>, what: &str) -> Result<Vec<u8>> {
    let too_large = || {
        Error::new(Kind::BadImage, format!("{what} is larger than 4 MiB"))
            .hint("edgepull's limit DOCUMENT_MAX; no real manifest comes near")
    };
    if size.is_some_and(|size| size > DOCUMENT_MAX) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut limited = reader.take(DOCUMENT_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(|error| Error::from_io(Kind::Network, error).context(what))?;
    match bytes.len() as u64 > DOCUMENT_MAX {
        true => Err(too_large()),
        false => Ok(bytes),
    }
}

/// Holds `bytes` against the descriptor that pointed at them.
fn verified(bytes: Vec<u8>, descriptor: &Descriptor, what: &str) -> Result<Fetched> {
    let digest = Digest::of(&bytes);
    if digest != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(Error::new(
            Kind::Verification,
            format!(
                "{what}: expected {} of {} bytes, got {digest} of {} bytes",
                descriptor.digest,
                descriptor.size,
                bytes.len()
            ),
        ));
    }
    Ok(Fetched { bytes, digest, media_type: descriptor.media_type.clone() })
}
