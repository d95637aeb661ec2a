//! One image's place in a registry that is written to (distribution-spec, "Push"). Mirrors have no part in it: what is
//! written there would be seen by nobody else, and what they say is there may not be.

use super::client::Client;
use super::endpoint::{Access, Ask};
use super::http::{Answer, Class, Failure};
use super::outcome::{asked_host, outcome};
use super::upload::Upload;
use super::write::{Content, To, Write, location, refused, took};
use super::{ACCEPT, promised, wait_for_randomness};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCUMENT_MAX, Descriptor, media_type};
use crate::image::reference::{Reference, RegistryReference};
use crate::source::{Attachment, Destination, Fetched, Open, Options, entries, too_large};
use std::path::PathBuf;
use ureq::http::{HeaderName, Method, header};

/// Whose referrer the registry takes a manifest for (distribution-spec, "Pushing Manifests with Subject").
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// One image in a registry, to be written.
pub(in crate::source) struct Pusher {
    client: Client,
    image: RegistryReference,
}

impl Pusher {
    /// Finds out whom to ask, and all credentials. Nothing is sent yet.
    pub(in crate::source) fn new(image: &RegistryReference, options: &Options) -> Result<Pusher> {
        if !options.plain_http {
            wait_for_randomness()?;
        }
        Ok(Pusher { client: Client::new(image, options)?, image: image.clone() })
    }

    /// Tries `once` as often as that may help.
    fn tried<T>(&self, what: &str, once: &mut dyn FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut attempts = self.client.attempts();
        loop {
            match once() {
                Ok(done) => return Ok(done),
                Err(failure) => self.client.pause(&mut attempts, failure, what)?,
            }
        }
    }

    fn called(&self, name: &str) -> String {
        format!("manifest {name} of {}", self.image.repository)
    }

    /// Puts a document under `name`, a tag or its digest. A tag that is this document already is left alone: a registry may
    /// refuse to have a tag written again, whatever it is.
    ///
    /// Returns whether the registry says that it has noted to what the document belongs.
    fn put(&self, document: &Fetched, name: &str) -> Result<bool> {
        let what = self.called(name);
        if document.bytes.len() as u64 > DOCUMENT_MAX {
            return Err(too_large(&what));
        }
        if name.parse::<Digest>().is_err() && self.has(name, &document.media_type, &document.digest)? {
            log::info!("{what} is there already");
            return Ok(false);
        }
        let headers = [(header::CONTENT_TYPE, sendable(&document.media_type)?)];
        let (path, access) = (format!("manifests/{name}"), Access::Push { from: None });
        let write = Write { method: Method::PUT, to: To::Path(&path), headers: &headers, access: &access };
        let mut is_refused = false;
        let put = self.tried(&what, &mut || {
            let once = || {
                let answer = self.client.write(&write, Content::Document(&document.bytes))?;
                match answer.status() {
                    200..=299 => {
                        let has_noted = answer.header(OCI_SUBJECT).is_some();
                        took(answer, &document.digest).map(|()| has_noted)
                    }
                    _ => Err(refused(answer)),
                }
            };
            // Busy is no word about the document.
            once().inspect_err(|failure| {
                is_refused = failure.status.is_some_and(|status| status >= 400 && status != 429);
            })
        });
        put.map_err(|error| match is_refused && has_foreign_layers(document) {
            true => error.also_hint(FOREIGN),
            false => error,
        })
    }

    /// Adds a document to the list of `subject`'s referrers that a registry has which does not list them itself
    /// (distribution-spec, "Referrers Tag Schema").
    fn list_referrer(&self, document: &Fetched, subject: &Digest) -> Result<()> {
        let tag = format!("sha256-{}", subject.hex());
        let what = self.called(&tag);
        let (path, headers) = (format!("manifests/{tag}"), accept(media_type::OCI_INDEX)?);
        let ask = Ask { method: Method::GET, path: &path, headers: &headers };
        let before = self.tried(&what, &mut || {
            let answer = self.client.ask_registry(&ask)?;
            match answer.status() {
                200..=299 => self.read(answer).map(Some),
                404 => Ok(None),
                _ => Err(refused(answer)),
            }
        })?;
        let bytes = entries::with_referrer(&what, before.as_deref(), document)?;
        let (digest, media_type) = (Digest::of(&bytes), media_type::OCI_INDEX.to_owned());
        self.put(&Fetched { bytes, digest, media_type }, &tag).map(drop)
    }

    /// Reads a manifest that was asked for by its tag.
    fn read(&self, answer: Answer) -> Result<Vec<u8>, Failure> {
        let content_type = answer.media_type().to_owned();
        self.client.read_manifest(answer, &content_type)
    }

    /// Whether `name` is the document of that digest by what the head of it says. Whatever else is answered, writing it
    /// decides, and nothing is tried again for it.
    fn has(&self, name: &str, media_type: &str, digest: &Digest) -> Result<bool> {
        let (path, headers) = (format!("manifests/{name}"), accept(media_type)?);
        let ask = Ask { method: Method::HEAD, path: &path, headers: &headers };
        Ok(match self.client.ask_registry(&ask) {
            Ok(answer) => matches!(answer.status(), 200..=299) && promised(&answer) == Some(*digest),
            Err(failure) => {
                log::debug!("{}: {}", self.called(name), failure.error);
                false
            }
        })
    }

    /// Reads back what `name` is now, which must be the document.
    fn check(&self, document: &Fetched, name: &str) -> Result<()> {
        let what = self.called(name);
        let (path, headers) = (format!("manifests/{name}"), accept(&document.media_type)?);
        let ask = Ask { method: Method::GET, path: &path, headers: &headers };
        self.tried(&what, &mut || {
            let answer = self.client.ask_registry(&ask)?;
            let host = asked_host(&answer);
            match answer.status() {
                200..=299 => {}
                // Some registries need a moment until all of their parts know it.
                404 | 410 => {
                    let message = format!("{host} does not have what it took: {}", outcome(answer));
                    return Err(Failure::new(Class::Passing, Error::new(Kind::NotFound, message)));
                }
                _ => {
                    let message = format!("{host}: unexpected answer {}", outcome(answer));
                    return Err(Failure::last(Error::new(Kind::Network, message)));
                }
            }
            let says = promised(&answer).unwrap_or(document.digest);
            // Who names another digest has a manifest there, whatever else was sent.
            let bytes = match says == document.digest {
                true => self.read(answer)?,
                false => self.client.read(answer, None, "the answer")?,
            };
            if says == document.digest && bytes == document.bytes {
                return Ok(());
            }
            let has = if says == document.digest { Digest::of(&bytes) } else { says };
            let message = format!("{host}: {} was written, and {has} is there now", document.digest);
            Err(Failure::last(
                Error::new(Kind::Verification, message)
                    .hint("the registry has changed it, or somebody else has written the same name"),
            ))
        })
    }

    /// One try to have a blob mounted.
    fn try_mount(&self, blob: &Descriptor, from: &str) -> Result<bool, Failure> {
        let path = format!("blobs/uploads/?mount={}&from={from}", blob.digest);
        let access = Access::Push { from: Some(from.to_owned()) };
        let write = Write { method: Method::POST, to: To::Path(&path), headers: &[], access: &access };
        let answer = match self.client.write(&write, Content::Document(&[])) {
            // Who may not read there may still write here, which shows when he does. And a registry that is too busy to
            // mount, or has tripped over it, may well take the bytes.
            Err(failure) if failure.error.kind() == Kind::Auth || failure.class == Class::Busy => {
                log::info!("blob {} is not mounted: {}", blob.digest.short(), failure.error);
                return Ok(false);
            }
            other => other?,
        };
        match answer.status() {
            201 => took(answer, &blob.digest).map(|()| true),
            // It would rather have the bytes, and has begun an upload for them, which knows nothing of their size.
            202 => {
                if let Ok(location) = location(&answer) {
                    outcome(answer);
                    self.client.cancel(&location);
                }
                Ok(false)
            }
            _ => {
                log::info!("blob {} is not mounted: {}", blob.digest.short(), outcome(answer));
                Ok(false)
            }
        }
    }
}

/// Says what to do where a registry does not take a manifest with foreign layers.
const FOREIGN: &str = "the image has foreign layers, which are not sent: a registry takes it only if it allows their urls \
     (distribution: validation.manifests.urls.allow)";

fn has_foreign_layers(document: &Fetched) -> bool {
    document.image_manifest().is_some_and(|manifest| manifest.layers.iter().any(Descriptor::is_foreign))
}

/// What may be answered for a document of that media type.
fn accept(media_type: &str) -> Result<Vec<(HeaderName, &str)>> {
    let own = Some(media_type).filter(|own| !own.is_empty() && !ACCEPT.contains(own));
    let own = own.map(sendable).transpose()?;
    Ok(own.into_iter().chain(ACCEPT).map(|media_type| (header::ACCEPT, media_type)).collect())
}

/// A media type that can stand in a request: an image may say anything.
fn sendable(media_type: &str) -> Result<&str> {
    match media_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        true => Ok(media_type),
        false => Err(Error::new(Kind::BadImage, format!("{media_type:?} is no media type"))),
    }
}

impl Destination for Pusher {
    fn files(&self) -> Vec<PathBuf> {
        self.client.files.clone()
    }

    fn has_blob(&mut self, blob: &Descriptor) -> Result<bool> {
        let what = format!("blob {} of {}", blob.digest.short(), self.image.repository);
        self.tried(&what, &mut || match self.client.has_blob(blob) {
            // It has answered, and that decides nothing.
            Err(failure) if failure.class == Class::Busy => {
                log::info!("{what}: {}; sending it decides", failure.error);
                Ok(false)
            }
            other => other,
        })
    }

    fn mount(&mut self, blob: &Descriptor, from: &Reference) -> Result<bool> {
        let Reference::Registry(from) = from else { return Ok(false) };
        if from.host != self.image.host || from.repository == self.image.repository {
            return Ok(false);
        }
        let what = format!("blob {} of {}", blob.digest.short(), self.image.repository);
        self.tried(&what, &mut || self.try_mount(blob, &from.repository))
    }

    fn blob(&mut self, blob: &Descriptor, open: &mut Open<'_>, sent: &mut dyn FnMut(u64)) -> Result<()> {
        Upload::new(&self.client, blob, open, sent).run()
    }

    fn has_manifest(&mut self, manifest: &Descriptor) -> Result<bool> {
        self.has(&manifest.digest.to_string(), &manifest.media_type, &manifest.digest)
    }

    fn manifest(&mut self, document: &Fetched) -> Result<()> {
        self.put(document, &document.digest.to_string()).map(drop)
    }

    fn attach(&mut self, attachment: &Attachment, subject: &Digest) -> Result<()> {
        let document = &attachment.document;
        match &attachment.tag {
            Some(tag) => self.put(document, tag).map(drop),
            None if self.put(document, &document.digest.to_string())? => Ok(()),
            None => self.list_referrer(document, subject),
        }
    }

    fn publish(&mut self, document: &Fetched, tags: &[String]) -> Result<()> {
        if let Some(wanted) = self.image.digest.filter(|wanted| *wanted != document.digest) {
            let message = format!(
                "{}: the name says {wanted}, the image is {}",
                self.image.repository, document.digest
            );
            return Err(Error::new(Kind::Verification, message));
        }
        let first = self.image.tag.clone().unwrap_or_else(|| document.digest.to_string());
        let mut names = vec![first];
        names.extend(tags.iter().cloned());
        for name in &names {
            self.put(document, name)?;
        }
        names.iter().try_for_each(|name| self.check(document, name))
    }
}
