//! Where a registry has the signatures of a digest: behind the tag that cosign has given them since its beginning, and
//! among the digest's referrers (distribution-spec, "Listing Referrers"), or where the registry does not know
//! those, behind their tag ("Referrers Tag Schema").

use super::client::Ask;
use super::{ACCEPT, Registry};
use crate::error::{Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::media_type;
use crate::source::attached::Search;
use crate::source::{Fetched, Found, read_document};
use ureq::http::{Method, header};

/// Tells `found` of each, those behind cosign's tag first.
pub(super) fn of(registry: &mut Registry, digest: &Digest, found: &mut Found) -> Result<()> {
    let mut search = Search::of(digest, found);
    let tag = format!("sha256-{}", digest.hex());
    if let Some(manifest) = search.take(optional(registry, &format!("{tag}.sig")))?.flatten() {
        search.manifest(registry, &manifest, false)?;
    }
    if search.is_done() {
        return Ok(());
    }
    let index = match search.take(referrers(registry, digest))?.flatten() {
        Some(index) => Some(index),
        None => search.take(optional(registry, &tag))?.flatten(),
    };
    match index {
        Some(index) => search.referrers(registry, &index),
        None => Ok(()),
    }
}

/// A tag's manifest, if there is one.
fn optional(registry: &Registry, tag: &str) -> Result<Option<Fetched>> {
    match registry.fetch(tag, None) {
        Ok(fetched) => Ok(Some(fetched)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The digest's referrers; `None` where the registry does not know what that is, which registries say in many ways.
fn referrers(registry: &Registry, digest: &Digest) -> Result<Option<Fetched>> {
    let what = format!("referrers of {}", digest.short());
    let path = format!("referrers/{digest}");
    let headers = [(header::ACCEPT, ACCEPT)];
    let client = &registry.client;
    let mut attempts = client.attempts();
    loop {
        let failure = match client.attempt(&Ask { method: Method::GET, path: &path, headers: &headers }) {
            Ok(answer) if answer.status() == 200 => {
                match read_document(answer.into_body(), None, Kind::Network, &what) {
                    Ok(bytes) => return Ok(Some(listed(bytes))),
                    Err(error) if error.kind() == Kind::Network => {
                        super::Failure::new(super::Class::Passing, error)
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(_) => return Ok(None),
            Err(failure) if failure.error.kind() == Kind::Auth => {
                log::debug!("{what}: {}", failure.error);
                return Ok(None);
            }
            Err(failure) => failure,
        };
        client.pause(&mut attempts, failure, &what)?;
    }
}

fn listed(bytes: Vec<u8>) -> Fetched {
    Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::OCI_INDEX.to_owned() }
}
