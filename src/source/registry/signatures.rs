//! Where a registry has the signatures of a digest: behind the tag that cosign has given them since its beginning, and
//! among the digest's referrers (distribution-spec, "Listing Referrers"), or where the registry does not know
//! those, behind their tag ("Referrers Tag Schema").

use super::endpoint::Ask;
use super::http::{Answer, Failure};
use super::url::{Origin, resolve};
use super::{ACCEPT, Registry};
use crate::error::{Kind, Result};
use crate::image::digest::Digest;
#[cfg(feature = "publish")]
use crate::image::manifest::Document;
use crate::image::manifest::media_type;
use crate::source::attached::Search;
#[cfg(feature = "publish")]
use crate::source::attached::{SUFFIXES, belongs_to};
#[cfg(feature = "publish")]
use crate::source::{ATTACHMENTS_MAX, Attachment, Source};
use crate::source::{Fetched, Found};
use ureq::http::{Method, header};

/// The most pages that a list of referrers is read from.
const PAGES_MAX: usize = 16;

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
    let mut path = format!("referrers/{digest}");
    for page in 0..PAGES_MAX {
        let Some((index, next)) = search.take(referrers(registry, digest, &path))?.flatten() else {
            if page == 0
                && let Some(index) = search.take(optional(registry, &tag))?.flatten()
            {
                search.referrers(registry, &index)?;
            }
            break;
        };
        search.referrers(registry, &index)?;
        match next {
            Some(query) if !search.is_done() => path = format!("referrers/{digest}?{query}"),
            _ => break,
        }
    }
    Ok(())
}

/// Fetches everything that is attached to `digest`: what stands behind cosign's tags, and the referrers.
#[cfg(feature = "publish")]
pub(super) fn attachments(registry: &mut Registry, digest: &Digest) -> Result<Vec<Attachment>> {
    let mut found = Vec::new();
    let tag = format!("sha256-{}", digest.hex());
    for suffix in SUFFIXES {
        let tag = format!("{tag}{suffix}");
        if let Some(document) = optional(registry, &tag)? {
            found.push(Attachment { document, tag: Some(tag) });
        }
    }
    let mut path = format!("referrers/{digest}");
    let mut entries = Vec::new();
    for page in 0..PAGES_MAX {
        let (index, next) = match referrers(registry, digest, &path)? {
            Some((index, next)) => (Some(index), next),
            None if page == 0 => (optional(registry, &tag)?, None),
            None => (None, None),
        };
        let Some(index) = index else { break };
        if let Document::Index(index) = Document::parse(&index.media_type, &index.bytes)
            .map_err(|error| error.context(format_args!("referrers of {digest}")))?
        {
            entries.extend(index.entries);
        }
        match next {
            Some(query) if entries.len() < ATTACHMENTS_MAX => path = format!("referrers/{digest}?{query}"),
            _ => break,
        }
    }
    if found.len() + entries.len() > ATTACHMENTS_MAX {
        let count = found.len() + entries.len();
        log::warn!(
            "{digest} has {count} attachments or more, of which {ATTACHMENTS_MAX} are taken (limit ATTACHMENTS_MAX)"
        );
        entries.truncate(ATTACHMENTS_MAX - found.len());
    }
    for entry in entries {
        let document = registry.manifest(&entry)?;
        match belongs_to(&document, digest) {
            true => found.push(Attachment { document, tag: None }),
            false => log::info!("{} is listed as a referrer of {digest}, and is none", entry.digest),
        }
    }
    Ok(found)
}

/// A tag's manifest, if there is one.
fn optional(registry: &Registry, tag: &str) -> Result<Option<Fetched>> {
    match registry.fetch(tag, None) {
        Ok(fetched) => Ok(Some(fetched)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Fetches a page of the digest's referrers, and the query for the next one; `None` where the registry does not know what
/// that is, which registries say in many ways, 501 among them.
///
/// # Errors
/// Returns [`Kind::Network`] for an answer that is no manifest at all, such as a login page: it says nothing of the image.
fn referrers(registry: &Registry, digest: &Digest, path: &str) -> Result<Option<(Fetched, Option<String>)>> {
    let what = format!("referrers of {}", digest.short());
    let mut attempts = registry.client.attempts();
    loop {
        let failure = match try_referrers(registry, path) {
            Ok(page) => return Ok(page),
            Err(failure) if failure.error.kind() == Kind::Auth || failure.status == Some(501) => {
                log::debug!("{what}: {}", failure.error);
                return Ok(None);
            }
            Err(failure) => failure,
        };
        registry.client.pause(&mut attempts, failure, &what)?;
    }
}

/// One try.
fn try_referrers(registry: &Registry, path: &str) -> Result<Option<(Fetched, Option<String>)>, Failure> {
    let headers = ACCEPT.map(|media_type| (header::ACCEPT, media_type));
    let client = &registry.client;
    let answer = client.attempt(&Ask { method: Method::GET, path, headers: &headers })?;
    if answer.status() != 200 {
        return Ok(None);
    }
    let next = next(&answer);
    let bytes = client.read_manifest(answer, media_type::OCI_INDEX)?;
    Ok(Some((listed(bytes), next)))
}

/// The query by which the next page is asked for (`Link: <…>; rel="next"`, RFC 8288). Nothing else of the link counts: it
/// is the same list, at the same place.
fn next(answer: &Answer) -> Option<String> {
    let (target, parameters) =
        answer.header(header::LINK)?.trim_start().strip_prefix('<')?.split_once('>')?;
    let is_next = |one: &str| matches!(one.trim(), "rel=next" | r#"rel="next""#);
    let next = resolve(&answer.url, target).filter(|_| parameters.split(';').any(is_next))?;
    let is_here = Origin::of(&next) == Origin::of(&answer.url) && next.path() == answer.url.path();
    next.query().filter(|_| is_here).map(str::to_owned)
}

fn listed(bytes: Vec<u8>) -> Fetched {
    Fetched { digest: Digest::of(&bytes), bytes, media_type: media_type::OCI_INDEX.to_owned() }
}
