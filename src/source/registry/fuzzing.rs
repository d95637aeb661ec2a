//! Doors for `fuzz/`: what this room takes apart of a registry's answers and of a user's files, by plain types. Only
//! there in builds with `--cfg fuzzing`; what has to hold of it is said in `fuzz/fuzz_targets/`.

use super::challenge::Challenge;
use super::credentials::{Credential, lookup_in};
use super::hosts::{Place, read_hosts};
use super::{blob, retry, upload, url, write};
use crate::error::Result;
use crate::image::digest::Digest;
use std::path::Path;
use std::time::Duration;
use ureq::http::{HeaderValue, Uri};

/// `WWW-Authenticate`: each challenge's scheme, with the parameters of these names.
pub fn challenges<'n>(header: &str, names: &[&'n str]) -> Vec<(String, Vec<(&'n str, String)>)> {
    let of = |challenge: &Challenge| {
        names.iter().filter_map(|name| Some((*name, challenge.parameter(name)?.to_owned()))).collect()
    };
    Challenge::parse(header).into_iter().map(|challenge| (challenge.scheme.clone(), of(&challenge))).collect()
}

/// `Content-Range`: whether it is `start` to the end of `size` bytes.
pub fn content_range_fits(value: &str, start: u64, size: u64) -> bool {
    blob::content_range_fits(value, start, size)
}

/// `Retry-After`; `now` is in seconds since 1970.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    retry::retry_after(value, now)
}

/// `Range` of an upload: how many bytes the registry has.
pub fn upload_has(range: &str) -> Option<u64> {
    upload::has_until(range)
}

/// `OCI-Chunk-Min-Length`: how many bytes of a blob of `size` go with one request; `None`: all.
pub fn chunk(least: Option<&str>, size: u64) -> Option<u64> {
    upload::chunk(least, size)
}

/// `Location` of an upload that was begun or went on at `base`.
///
/// # Errors
/// Those that the user sees.
pub fn upload_goes_on(base: &Uri, location: &str) -> Result<Uri> {
    let location = HeaderValue::from_str(location).ok();
    write::leads_to(base, location.as_ref())
}

/// Where an upload is closed that went on at `location`.
pub fn upload_ends(location: &Uri, digest: &Digest) -> Option<Uri> {
    upload::closing_url(location, digest)
}

/// An absolute URL.
pub fn absolute(text: &str) -> Option<Uri> {
    url::absolute(text)
}

/// A `Location`, at the URL that was asked.
pub fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    url::resolve(base, reference)
}

/// Whether a URL is https, its host in lower case, and its port.
pub fn origin(url: &Uri) -> Option<(bool, String, u16)> {
    url::Origin::of(url).map(|origin| (origin.secure, origin.host, origin.port))
}

/// A URL as messages show it.
pub fn shown(url: &Uri) -> String {
    url::shown(url)
}

/// A credentials file: what it has for a repository, how that is shown, and the secret in it.
///
/// # Errors
/// Those that the user sees.
pub fn credential(file: &[u8], host: &str, repository: &str) -> Result<Option<(String, String)>> {
    let found = lookup_in(file, Path::new("config.json"), host, repository, &|_| Ok(None))?;
    let shown = format!("{found:?}");
    Ok(found.credential.map(|credential| match credential {
        Credential::Basic(secret) | Credential::Identity(secret) | Credential::Bearer(secret) => {
            (shown, secret.reveal().to_owned())
        }
    }))
}

/// A host of a `hosts.toml`.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// `host[:port]`.
    pub authority: String,
    /// What comes before the repository.
    pub path: String,
    /// Whether it may say what a tag means.
    pub resolve: bool,
}

/// The mirrors that a `hosts.toml` in `/certs.d/r.example` names, and the registry itself.
///
/// # Errors
/// Those that the user sees.
pub fn hosts(text: &str) -> Result<Vec<Host>> {
    let mut registry = Place::registry("r.example", &crate::source::Options::default());
    let mut places = read_hosts(text, Path::new("/certs.d/r.example"), "r.example", &mut registry)?;
    places.push(registry);
    let host = |place: Place| Host { authority: place.authority, path: place.path, resolve: place.resolve };
    Ok(places.into_iter().map(host).collect())
}
