//! Signatures as they lie beside an image, in whatever store that has manifests and blobs.
//!
//! | layout | manifest | each signature |
//! |---|---|---|
//! | cosign's first, skopeo's and podman's | tag `sha256-<hex>.sig` | a layer is the payload, its annotation the signature |
//! | OCI 1.1, cosign 3 | any whose `subject` is the digest | a layer is a Sigstore bundle |
//!
//! All of it is somebody's word: who can write to the store can write this. So it is counted and measured here, and
//! believed by nobody before `trust` has verified it.

use super::{Fetched, Source};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{Descriptor, Document, Manifest};
use std::mem;

/// The most signatures of one digest that are looked at. What a manifest has beyond is a reason not to look at any of
/// it: some hundred signatures are no use to anybody.
pub const SIGNATURES_MAX: usize = 64;
/// The largest payload or bundle, and manifest of referrers, in bytes. Payloads have 250, bundles up to 10,000.
pub const PAYLOAD_MAX: u64 = 64 << 10;
/// The longest signature in an annotation, in characters. One of P-384 has 144.
const SIGNATURE_MAX: usize = 1024;
/// The most referrers that are fetched for one digest, from however many pages.
const REFERRERS_MAX: usize = 64;

/// cosign's payload (specs/SIGNATURE_SPEC.md).
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// A referrer that has such payloads, as cosign 2 wrote with `--registry-referrers-mode=oci-1-1`.
const COSIGN_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// What the media types of all versions of Sigstore bundles start with.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The predicate type of `cosign sign`: other bundles are attestations, and no signatures.
pub(crate) const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

/// One thing that says it is a signature.
#[derive(Debug)]
pub enum Attached {
    /// cosign's payload, and its signature in base64.
    SimpleSigning {
        /// The bytes that were signed.
        payload: Vec<u8>,
        /// As in the annotation.
        signature: String,
    },
    /// A Sigstore bundle: JSON.
    Bundle(Vec<u8>),
    /// Something that is none after all, and why.
    Unusable(Error),
}

/// Is told of each; says whether that is enough.
pub type Found<'a> = dyn FnMut(Attached) -> bool + 'a;

/// A search under way.
pub(super) struct Search<'a, 'f> {
    digest: String,
    found: &'a mut Found<'f>,
    /// How many signatures may still come, and be fetched for.
    left: usize,
    referrers_left: usize,
    /// It is enough.
    done: bool,
}

impl<'a, 'f> Search<'a, 'f> {
    pub(super) fn of(digest: &Digest, found: &'a mut Found<'f>) -> Search<'a, 'f> {
        Search {
            digest: digest.to_string(),
            found,
            left: SIGNATURES_MAX,
            referrers_left: REFERRERS_MAX,
            done: false,
        }
    }

    /// Whether it is enough.
    pub(super) fn is_done(&self) -> bool {
        self.done || self.left == 0
    }

    fn offer(&mut self, one: Attached) {
        if !self.is_done() {
            self.left -= 1;
            self.done = (self.found)(one);
        }
    }

    /// Takes what was got, and tells of what is broken or gone. Where the link or the disk fails, the search does.
    pub(super) fn take<T>(&mut self, got: Result<T>) -> Result<Option<T>> {
        match got {
            Ok(got) => Ok(Some(got)),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Verification | Kind::BadImage) => {
                self.offer(Attached::Unusable(error));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The signatures of a manifest; where it is a referrer, it has to be one of the digest's.
    pub(super) fn manifest(
        &mut self,
        source: &mut dyn Source,
        fetched: &Fetched,
        is_referrer: bool,
    ) -> Result<()> {
        let manifest = match Document::parse(&fetched.media_type, &fetched.bytes) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => return self.unusable(format!("{} is an index", fetched.digest)),
            Err(error) => {
                return self
                    .take::<()>(Err(error.context(format_args!("manifest {}", fetched.digest))))
                    .map(drop);
            }
        };
        if is_referrer && manifest.subject.as_ref() != Some(&self.digest) {
            return self.unusable(format!("{} belongs to another image", fetched.digest));
        }
        self.layers(source, *manifest)
    }

    fn layers(&mut self, source: &mut dyn Source, manifest: Manifest) -> Result<()> {
        if manifest.layers.len() > SIGNATURES_MAX {
            let count = manifest.layers.len();
            return self.unusable(format!("{count} signatures in one manifest (limit SIGNATURES_MAX)"));
        }
        for mut layer in manifest.layers {
            let is_payload = layer.media_type == SIMPLE_SIGNING;
            if !is_payload && !layer.media_type.starts_with(BUNDLE) {
                continue;
            }
            if self.is_done() {
                break;
            }
            let signature = layer.annotations.as_mut().and_then(|notes| notes.signature.take());
            if is_payload && signature.as_ref().is_none_or(|text| text.len() > SIGNATURE_MAX) {
                self.unusable(format!("payload {} has no signature", layer.digest))?;
                continue;
            }
            let Some(payload) = self.small(source, layer)? else { continue };
            self.offer(match signature.filter(|_| is_payload) {
                Some(signature) => Attached::SimpleSigning { payload, signature },
                None => Attached::Bundle(payload),
            });
        }
        Ok(())
    }

    /// A blob within [`PAYLOAD_MAX`], from this store and no other.
    fn small(&mut self, source: &mut dyn Source, mut descriptor: Descriptor) -> Result<Option<Vec<u8>>> {
        if !self.fits(&descriptor)? {
            return Ok(None);
        }
        descriptor.urls = Vec::new();
        // Where a config can be had, so can any small blob.
        let got = source.config(&descriptor);
        Ok(self.take(got)?.map(|fetched| fetched.bytes))
    }

    fn fits(&mut self, descriptor: &Descriptor) -> Result<bool> {
        if descriptor.size <= PAYLOAD_MAX {
            return Ok(true);
        }
        let Descriptor { digest, size, .. } = descriptor;
        self.unusable(format!("{digest} of {size} bytes is too large for a signature (limit PAYLOAD_MAX)"))?;
        Ok(false)
    }

    fn unusable(&mut self, why: String) -> Result<()> {
        self.offer(Attached::Unusable(Error::new(Kind::Verification, why)));
        Ok(())
    }

    /// The signatures of those that a referrers index lists (distribution-spec, "Listing Referrers").
    pub(super) fn referrers(&mut self, source: &mut dyn Source, index: &Fetched) -> Result<()> {
        match Document::parse(&index.media_type, &index.bytes) {
            Ok(Document::Index(mut index)) => self.entries(source, mem::take(&mut index.entries)),
            Ok(Document::Manifest(_)) => self.unusable("the list of referrers is no index".to_owned()),
            Err(error) => self.take::<()>(Err(error.context("referrers"))).map(drop),
        }
    }

    /// The same of a list that was read before.
    pub(super) fn entries(&mut self, source: &mut dyn Source, entries: Vec<Descriptor>) -> Result<()> {
        let may_sign = |entry: &Descriptor| {
            let note = entry.annotations.as_ref().and_then(|notes| notes.predicate_type.as_deref());
            entry.is_manifest()
                && entry.platform.is_none()
                && note.is_none_or(|note| note == COSIGN_SIGN)
                && entry.artifact_type.as_deref().is_none_or(is_signature)
        };
        for entry in entries.into_iter().filter(may_sign) {
            if self.is_done() || self.referrers_left == 0 {
                break;
            }
            self.referrers_left -= 1;
            if self.fits(&entry)? {
                let got = source.manifest(&entry);
                if let Some(manifest) = self.take(got)? {
                    self.manifest(source, &manifest, true)?;
                }
            }
        }
        Ok(())
    }
}

/// How cosign's tags for what belongs to a digest end: signatures, attestations, lists of what is in it
/// (cosign's specs/SIGNATURE_SPEC.md, "Storage").
#[cfg(feature = "publish")]
pub(super) const SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

/// Whether the document says of itself that it belongs to `digest`.
#[cfg(feature = "publish")]
pub(super) fn belongs_to(document: &Fetched, digest: &Digest) -> bool {
    let subject = document.image_manifest().and_then(|manifest| manifest.subject);
    subject.is_some_and(|subject| subject == digest.to_string())
}

/// Whether an artifact type is that of signatures.
pub(super) fn is_signature(artifact_type: &str) -> bool {
    artifact_type.is_empty() || artifact_type == COSIGN_ARTIFACT || artifact_type.starts_with(BUNDLE)
}
