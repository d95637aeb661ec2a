//! One request that writes: to the registry itself and never to a mirror of it, in the repository or where the registry
//! has said that an upload goes on (`Location`).
//!
//! No redirect is followed here: the distribution-spec has none for writes, and a body that is streamed can be sent once.

use super::client::Client;
use super::endpoint::{Access, Ask};
use super::http::{Answer, By, Class, Failure};
use super::outcome::{Said, asked_host, is_html, outcome};
use super::url::{leads, shown};
use super::{credentials::Secret, no_registry, promised};
use crate::error::{Error, Kind};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use std::io::Read;
use ureq::SendBody;
use ureq::http::{HeaderName, HeaderValue, Method, Uri, header};

/// One thing to do in the registry.
pub(super) struct Write<'a> {
    pub(super) method: Method,
    pub(super) to: To<'a>,
    /// Request headers, but for those that say how long the body is.
    pub(super) headers: &'a [(HeaderName, &'a str)],
    pub(super) access: &'a Access,
}

/// Where it is to be done.
pub(super) enum To<'a> {
    /// In the repository: what follows `/v2/<repository>/`.
    Path(&'a str),
    /// Where the registry has said.
    Location(&'a Uri),
}

/// What it is given.
pub(super) enum Content<'a> {
    /// Bytes that can be sent again; none for a request without a body.
    Document(&'a [u8]),
    /// Exactly so many bytes, of which none comes twice.
    Stream(&'a mut dyn Read, u64),
}

impl Client {
    /// One try. The answer's status is none of those that stand for "log in" or "try again", except that a 401 to a
    /// [`Content::Stream`] is left to whoever can open it anew ([`super::endpoint::Endpoint::log_in`]).
    pub(super) fn write(&self, write: &Write, content: Content) -> Result<Answer, Failure> {
        let registry = self.registry();
        if !registry.place.push {
            let message = format!("{}: it may not be written to", self.host);
            return Err(Failure::last(
                Error::new(Kind::Usage, message).hint("see the capabilities in hosts.toml"),
            ));
        }
        let answer = match content {
            Content::Document(bytes) => registry.authorized(write.access, &mut |authorization| {
                self.send(write, authorization, &mut |request| request.document(bytes))
            }),
            Content::Stream(reader, length) => {
                let authorization = registry.authorization();
                let authorization = authorization.as_ref().map(Secret::reveal);
                match self.send(write, authorization, &mut |request| request.stream(reader, length))? {
                    answer if answer.status() == 401 && answer.same_origin => Ok(answer),
                    answer => registry.admitted(answer, write.access),
                }
            }
        }?;
        self.network.online();
        Ok(answer)
    }

    /// Asks the registry itself, and never a mirror, for something in the repository, between writes.
    pub(super) fn ask_registry(&self, ask: &Ask) -> Result<Answer, Failure> {
        let answer = self.registry().attempt(ask, &Access::Push { from: None })?;
        self.network.online();
        Ok(Answer { place: self.mirrors().len(), ..answer })
    }

    fn send(
        &self,
        write: &Write,
        authorization: Option<&str>,
        send: &mut dyn FnMut(&Request) -> Result<Answer, Failure>,
    ) -> Result<Answer, Failure> {
        let registry = self.registry();
        match write.to {
            To::Path(path) => registry.decided(&mut |secure| {
                let url = registry.url(secure, path)?;
                send(&Request { client: self, write, url: &url, by: By::User, authorization })
            }),
            To::Location(url) => {
                // It came with an answer, so it is known by now whether there is TLS.
                let same_origin = registry.is_at(url);
                let authorization = authorization.filter(|_| same_origin);
                let answer = send(&Request { client: self, write, url, by: By::Server, authorization })?;
                Ok(Answer { same_origin, ..answer })
            }
        }
    }

    /// Whether the registry has a blob, whole (distribution-spec, "Checking if content exists in the registry"): whether it
    /// says so by the blob's length or digest. Whatever else it answers, that it does not like HEAD, a redirect to a page,
    /// another length, decides nothing: sending the blob does.
    ///
    /// # Errors
    /// Returns what may pass: no answer, or one that asks for patience.
    pub(super) fn has_blob(&self, blob: &Descriptor) -> Result<bool, Failure> {
        let path = format!("blobs/{}", blob.digest);
        let answer = match self.ask_registry(&Ask { method: Method::HEAD, path: &path, headers: &[] }) {
            Err(failure) if failure.class == Class::Final => {
                log::info!("blob {}: {}; sending it decides", blob.digest.short(), failure.error);
                return Ok(false);
            }
            other => other?,
        };
        let length = answer.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let says = match (promised(&answer), length) {
            (Some(digest), None) => digest == blob.digest,
            (Some(digest), Some(length)) => digest == blob.digest && length == blob.size,
            (None, length) => length == Some(blob.size) && !is_html(&answer),
        };
        let has = says && matches!(answer.status(), 200..=299);
        if !has && answer.status() != 404 {
            let length = length.map_or("no length".to_owned(), |length| format!("a length of {length}"));
            log::info!(
                "blob {}: HTTP {} with {length}; sending it decides",
                blob.digest.short(),
                answer.status()
            );
        }
        Ok(has)
    }

    /// Gives an upload up. Whether the registry heard that does not matter: it forgets what nobody ends.
    pub(super) fn cancel(&self, location: &Uri) {
        let access = Access::Push { from: None };
        let write =
            Write { method: Method::DELETE, to: To::Location(location), headers: &[], access: &access };
        match self.write(&write, Content::Document(&[])) {
            Ok(answer) => log::debug!("the upload is given up: {}", outcome(answer)),
            Err(failure) => log::debug!("the upload is left to be forgotten: {}", failure.error),
        }
    }
}

/// A request that lacks its body.
struct Request<'a> {
    client: &'a Client,
    write: &'a Write<'a>,
    url: &'a Uri,
    by: By,
    authorization: Option<&'a str>,
}

impl Request<'_> {
    fn document(&self, bytes: &[u8]) -> Result<Answer, Failure> {
        let (http, Write { method, headers, .. }) = (&self.client.registry().http, self.write);
        // These two have no body, and others a length even where it is 0.
        match *method == Method::GET || *method == Method::DELETE {
            true => http.send(method, self.url, self.by, headers, self.authorization, SendBody::none()),
            false => http.send(method, self.url, self.by, headers, self.authorization, bytes),
        }
    }

    fn stream(&self, reader: &mut dyn Read, length: u64) -> Result<Answer, Failure> {
        let length = length.to_string();
        let mut headers = self.write.headers.to_vec();
        // With it ureq sends the bytes as they are, without it in chunks, which not every registry takes.
        headers.push((header::CONTENT_LENGTH, &length));
        let (http, body) = (&self.client.registry().http, SendBody::from_reader(reader));
        http.send(&self.write.method, self.url, self.by, &headers, self.authorization, body)
    }
}

/// Where an upload goes on: the answer's `Location`.
pub(super) fn location(answer: &Answer) -> Result<Uri, Failure> {
    leads_to(&answer.url, answer.response.headers().get(header::LOCATION)).map_err(Failure::last)
}

/// Where an upload goes on, if the answer says that it goes on elsewhere: without a `Location` it goes on where it was.
pub(super) fn new_location(answer: &Answer) -> Result<Option<Uri>, Failure> {
    match answer.response.headers().contains_key(header::LOCATION) {
        true => location(answer).map(Some),
        false => Ok(None),
    }
}

pub(super) fn leads_to(url: &Uri, location: Option<&HeaderValue>) -> Result<Uri, Error> {
    let wrong = |what: &str| Error::new(Kind::Network, format!("{}: {what}", shown(url)));
    let target = leads(url, location).map_err(|why| wrong(&format!("the upload goes on nowhere: {why}")))?;
    if url.scheme_str() == Some("https") && target.scheme_str() != Some("https") {
        return Err(wrong(&format!("the upload would go on without TLS at {}", shown(&target))).hint(
            "refused: what is protected must not become readable on the way. A registry behind a proxy must be told that \
             it is https",
        ));
    }
    Ok(target)
}

/// Holds against each other what a registry has taken, or has, and what it says that this is.
///
/// # Errors
/// Returns [`Kind::Verification`] if it is something else by the registry's own words, and [`Kind::Network`] if the answer
/// is a page or an error: whoever says that has taken nothing.
pub(super) fn took(answer: Answer, digest: &Digest) -> Result<(), Failure> {
    let (host, given) = (asked_host(&answer), promised(&answer));
    // Read to its end, the connection is free for the next request.
    let said = Said::of(answer);
    match given {
        Some(given) if given != *digest => {
            let message = format!("{host}: {digest} is {given} there, by its own words");
            Err(Failure::last(Error::new(Kind::Verification, message)))
        }
        None if said.is_no_success() => Err(has_not_taken(&host, &said)),
        _ => Ok(()),
    }
}

/// Makes the failure of an answer that says by its status that something was taken, and by its body that it is a page or an
/// error.
pub(super) fn has_not_taken(host: &str, said: &Said) -> Failure {
    no_registry(format!("{host} does not take it: its answer is no registry's: {said}"))
}

const REPOSITORY: &str = "with some registries a repository has to be made before it is written to";
const TAG: &str = "the tag may be one that cannot be written again: choose another";
const PARTS: &str = "it lacks something that the manifest names: copy the image whole, or only what there is of it (--platform)";

/// The failure that an answer stands for by which the registry does not take something. What it refuses for its content
/// is a bad image ([`Kind::BadImage`]): nothing that passes.
pub(super) fn refused(answer: Answer) -> Failure {
    let (host, status) = (asked_host(&answer), answer.status());
    let said = Said::of(answer);
    let (kind, hint) = match (status, said.code()) {
        (200..=299, _) => return has_not_taken(&host, &said),
        (301 | 302 | 303 | 307 | 308, _) => {
            (Kind::Network, "a write follows no redirect: write the name of the host that it leads to")
        }
        (400..=499, "MANIFEST_BLOB_UNKNOWN" | "MANIFEST_UNKNOWN") => (Kind::BadImage, PARTS),
        (409 | 412, _) => (Kind::Usage, TAG),
        // Amazon's says so of a tag that is there and cannot be written again.
        (400, "TAG_INVALID" | "TAG_IMMUTABLE") => (Kind::BadImage, TAG),
        (404, _) => (Kind::NotFound, REPOSITORY),
        (405, _) => (Kind::Network, "it is read-only, or a cache of another registry: write to that one"),
        (413, _) => (
            Kind::BadImage,
            "it, or a proxy before it, limits how large a request may be (nginx: client_max_body_size)",
        ),
        (400 | 406 | 411 | 414..=417 | 422 | 431, _) => (Kind::BadImage, ""),
        _ => (Kind::Network, ""),
    };
    let error = Error::new(kind, format!("{host} does not take it: {said}"));
    let error = if hint.is_empty() { error } else { error.hint(hint) };
    Failure { status: Some(status), ..Failure::last(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_never_goes_on_without_tls() {
        let leads = |from: &str, to: Option<&'static str>| {
            let to = to.map(HeaderValue::from_static);
            leads_to(&from.parse().unwrap(), to.as_ref()).map(|url| url.to_string())
        };
        let from = "https://r.example/v2/a/blobs/uploads/";
        assert_eq!(
            leads(from, Some("x?_state=1")).unwrap(),
            "https://r.example/v2/a/blobs/uploads/x?_state=1"
        );
        assert_eq!(leads(from, Some("https://store.example/x")).unwrap(), "https://store.example/x");
        for (to, part) in [
            (Some("http://r.example/v2/x"), "without TLS at http://r.example/v2/x"),
            (Some("ftp://r.example/x"), "nowhere"),
            (None, "nowhere"),
        ] {
            let error = leads(from, to).unwrap_err();
            assert_eq!(error.kind(), Kind::Network);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(
            leads("http://localhost:5000/", Some("http://localhost:5000/x")).unwrap(),
            "http://localhost:5000/x"
        );
    }
}
