//! One blob's upload (distribution-spec, "Pushing blobs"), over a link that breaks.
//!
//! | what fails | how it goes on |
//! |---|---|
//! | a connection, the registry for a while | the registry is asked what it has of the upload, and gets the rest |
//! | it has less than a chunk, or more | from there: 416 is an answer to that, too |
//! | it does not know the upload any more | anew, if the blob is not there by now |
//! | the token has expired | a new one; the bytes that it was sent with are sent again |
//! | it takes no PATCH | all in one PUT, which after a break begins anew |
//!
//! As long as the registry has ever more of the blob, and not too little for the time, it never gives up. The
//! registry decides how much it keeps of a chunk that broke: distribution 2.8 forgets the whole upload then, as its
//! Location holds a place that is not the right one any more, and begins anew with the next try.

use super::client::Client;
use super::endpoint::Access;
use super::http::{Answer, Class, Failure};
use super::outcome::{Said, asked_host, outcome, passing};
use super::payload::Payload;
use super::retry::Attempts;
use super::url::{shown, with_query};
use super::write::{Content, To, Write, has_not_taken, location, new_location, refused, took};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::source::Open;
use std::fmt;
use ureq::http::{HeaderName, Method, Uri, header};

/// What one request carries, in bytes, which is what a broken connection costs at most. A blob that is no larger goes
/// with the closing PUT: two requests less.
const CHUNK: u64 = 8 << 20;
/// What is announced before it is sent, in bytes: more than that. Of less the answer is heard in any case, because servers
/// read what is on its way before they close a connection (Go's this much).
const ANNOUNCED: u64 = 256 << 10;
/// The least that a chunk must have, if the registry minds, in bytes. It may be any: nothing is kept of a chunk.
const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// What a chunk is.
const OCTETS: (HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");
/// What is wanted of the registry.
const ACCESS: Access = Access::Push { from: None };

/// One blob on its way.
pub(super) struct Upload<'a> {
    client: &'a Client,
    blob: &'a Descriptor,
    payload: Payload<'a>,
    /// Where the upload goes on; `None`: it has to be begun.
    location: Option<Uri>,
    /// How many bytes the registry has of this upload, and the most that it ever had of any.
    has: u64,
    most: u64,
    chunk: u64,
    /// In one piece.
    whole: bool,
    /// Something has failed: the registry may have more or less of it than is known here.
    unsure: bool,
    /// All was sent: the registry may have made a blob of it, and its answer was lost.
    closing: bool,
    /// The token is new, and nothing has been taken with it yet.
    fresh: bool,
    /// Chunks are announced (`Expect: 100-continue`, RFC 9110, 10.1.1), so that a registry can refuse one before it is sent:
    /// who has an answer before he has read it often closes the connection, by which that answer gets lost. Who says
    /// nothing to it gets the chunk after a second.
    expects: bool,
    attempts: Attempts,
}

impl<'a> Upload<'a> {
    /// Nothing is sent yet.
    pub(super) fn new(
        client: &'a Client,
        blob: &'a Descriptor,
        open: &'a mut Open<'a>,
        sent: &'a mut dyn FnMut(u64),
    ) -> Upload<'a> {
        Upload {
            client,
            blob,
            payload: Payload::new(blob, open, sent),
            location: None,
            has: 0,
            most: 0,
            chunk: CHUNK,
            whole: false,
            unsure: false,
            closing: false,
            fresh: false,
            expects: true,
            attempts: client.attempts(),
        }
    }

    fn what(&self) -> String {
        format!("blob {} of {}", self.blob.digest.short(), self.client.repository)
    }

    /// Sends it, however many tries that takes.
    pub(super) fn run(mut self) -> Result<()> {
        loop {
            let failure = match self.step() {
                Ok(true) => return Ok(()),
                Ok(false) => continue,
                Err(failure) => self.payload.blame(failure),
            };
            self.unsure = true;
            // Who may not write may not give up either.
            if failure.class == Class::Final && failure.error.kind() != Kind::Auth {
                self.cancel();
            }
            let what = self.what();
            self.client.pause(&mut self.attempts, failure, &what)?;
        }
    }

    /// The next request or two; whether the registry has the blob now.
    fn step(&mut self) -> Result<bool, Failure> {
        if self.unsure && self.find_out()? {
            return Ok(true);
        }
        match self.location.clone() {
            None => self.begin().map(|()| false),
            Some(location) if self.whole => self.put_whole(&location),
            Some(location) if self.has < self.blob.size => self.patch(&location).map(|()| false),
            Some(location) => self.close(&location).map(|()| true),
        }
    }

    fn write(&self, method: Method, to: To, content: Content) -> Result<Answer, Failure> {
        self.client.write(&Write { method, to, headers: &[], access: &ACCESS }, content)
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let answer = self.write(Method::POST, To::Path("blobs/uploads/"), Content::Document(&[]))?;
        if answer.status() != 202 {
            return Err(refused(answer));
        }
        self.location = Some(location(&answer)?);
        self.has = 0;
        match chunk(answer.header(OCI_CHUNK_MIN_LENGTH), self.blob.size) {
            Some(chunk) => self.chunk = chunk,
            None => self.whole = true,
        }
        outcome(answer);
        Ok(())
    }

    /// Sends the next `length` bytes; `None`: another try may be better at once, by a new token or without `Expect`.
    fn stream(
        &mut self,
        method: Method,
        url: &Uri,
        headers: &[(HeaderName, &str)],
        length: u64,
    ) -> Result<Option<Answer>, Failure> {
        self.payload.go_to(self.has).map_err(Failure::last)?;
        let expect = [(header::EXPECT, "100-continue")];
        let headers = [headers, &expect[..usize::from(self.expects && length > ANNOUNCED)]].concat();
        let write = Write { method, to: To::Location(url), headers: &headers, access: &ACCESS };
        let answer = match length {
            0 => self.client.write(&write, Content::Document(&[])),
            _ => self.client.write(&write, Content::Stream(&mut self.payload.piece(length), length)),
        };
        // Perhaps it, or a proxy before it, cannot cope with the one way.
        self.expects ^= answer.is_err();
        let answer = answer?;
        match answer.status() {
            401 if self.fresh => return Err(self.client.registry().denied(answer, &ACCESS)),
            401 => {
                log::info!("{}: the registry wants a new token", self.what());
                self.client.registry().log_in(answer, &ACCESS)?;
                self.fresh = true;
            }
            417 if self.expects => self.expects = false,
            _ => return Ok(Some(answer)),
        }
        self.unsure = true;
        Ok(None)
    }

    fn patch(&mut self, url: &Uri) -> Result<(), Failure> {
        let (start, length) = (self.has, self.chunk.min(self.blob.size - self.has));
        let range = format!("{start}-{}", start + length - 1);
        let headers = [(header::CONTENT_RANGE, range.as_str()), OCTETS];
        let answer = match self.stream(Method::PATCH, url, &headers, length) {
            Err(failure) if failure.status == Some(501) && self.most == 0 => {
                self.without_patch(&failure.error);
                return Ok(());
            }
            other => other?,
        };
        let Some(answer) = answer else { return Ok(()) };
        match answer.status() {
            200..=299 => self.taken(answer, start + length),
            400 | 404 | 405 | 415 if self.most == 0 => {
                self.without_patch(&outcome(answer));
                Ok(())
            }
            // Its place, or all of it, is not what we thought.
            404 | 410 | 416 => Err(passing(answer)),
            _ => Err(refused(answer)),
        }
    }

    /// The registry takes no PATCH.
    fn without_patch(&mut self, why: &dyn fmt::Display) {
        log::info!("{}: no PATCH is taken ({why}); sending it in one piece", self.what());
        self.cancel();
        self.whole = true;
    }

    /// The registry has taken a chunk, of which `end` is the end; or only the beginning of it.
    fn taken(&mut self, answer: Answer, end: u64) -> Result<(), Failure> {
        let range = answer.header(header::RANGE);
        match range.map_or(Some(end), has_until).filter(|has| *has > self.has && *has <= end) {
            Some(has) => {
                let next = new_location(&answer)?;
                let (host, is_told) = (asked_host(&answer), range.is_some());
                let said = Said::of(answer);
                if !is_told && said.is_no_success() {
                    return Err(has_not_taken(&host, &said));
                }
                self.location = next.or(self.location.take());
                self.now_has(has);
                Ok(())
            }
            None => {
                let range = range.unwrap_or_default().chars().take(80).collect::<String>();
                let message = format!(
                    "{}: it was sent the bytes {} to {end}, and says that it has {range:?}",
                    asked_host(&answer),
                    self.has
                );
                Err(Failure::new(Class::Passing, Error::new(Kind::Network, message)))
            }
        }
    }

    fn now_has(&mut self, bytes: u64) {
        self.has = bytes;
        if bytes > self.most {
            self.attempts.came(bytes - self.most, self.client.waited());
            self.most = bytes;
            self.fresh = false;
        }
    }

    fn put_whole(&mut self, location: &Uri) -> Result<bool, Failure> {
        let url = self.end_of(location)?;
        self.closing = true;
        match self.stream(Method::PUT, &url, &[OCTETS], self.blob.size)? {
            Some(answer) => self.closed(answer).map(|()| true),
            None => Ok(false),
        }
    }

    fn close(&mut self, location: &Uri) -> Result<(), Failure> {
        let url = self.end_of(location)?;
        // What a registry says that it has could be all of it before all of it was read here.
        self.payload.go_to(self.blob.size).map_err(Failure::last)?;
        self.closing = true;
        let answer = self.write(Method::PUT, To::Location(&url), Content::Document(&[]))?;
        self.closed(answer)
    }

    fn end_of(&self, location: &Uri) -> Result<Uri, Failure> {
        closing_url(location, &self.blob.digest).ok_or_else(|| {
            let message = format!("{} is not a URL that can be written to", shown(location));
            Failure::last(Error::new(Kind::Network, message))
        })
    }

    fn closed(&self, answer: Answer) -> Result<(), Failure> {
        match answer.status() {
            // 202 would say that it is not done.
            200 | 201 | 203 | 204 => took(answer, &self.blob.digest),
            404 | 410 | 416 => Err(passing(answer)),
            _ => Err(refused(answer)),
        }
    }

    /// After a failure: asks what the registry has; whether that is the blob.
    fn find_out(&mut self) -> Result<bool, Failure> {
        if self.closing && self.client.has_blob(self.blob)? {
            log::info!("{}: the registry has it", self.what());
            return Ok(true);
        }
        let status = match self.location.clone().filter(|_| !self.whole) {
            Some(location) => self.status(&location)?,
            None => None,
        };
        (self.unsure, self.closing) = (false, false);
        match status {
            Some((location, has)) => {
                log::info!("{}: the registry has {has} bytes; going on there", self.what());
                self.location = Some(location);
                self.now_has(has);
            }
            None => {
                if self.location.is_some() {
                    log::info!("{}: the upload cannot go on; beginning anew", self.what());
                }
                self.location = None;
            }
        }
        Ok(false)
    }

    /// Where the upload goes on, and how many bytes the registry has of it; `None` where that cannot be had
    /// (distribution-spec, "Resuming a blob upload").
    fn status(&self, at: &Uri) -> Result<Option<(Uri, u64)>, Failure> {
        let answer = self.write(Method::GET, To::Location(at), Content::Document(&[]))?;
        if !matches!(answer.status(), 200..=204) {
            log::debug!("{}: no status of the upload: {}", self.what(), outcome(answer));
            return Ok(None);
        }
        let has = answer.header(header::RANGE).and_then(has_until).filter(|has| *has <= self.blob.size);
        let next = new_location(&answer)?.unwrap_or_else(|| at.clone());
        outcome(answer);
        Ok(has.map(|has| (next, has)))
    }

    fn cancel(&mut self) {
        if let Some(location) = self.location.take() {
            self.client.cancel(&location);
        }
    }
}

/// How many bytes of a blob of `size` one request carries, where a registry wants `least` at least; `None`: all.
pub(super) fn chunk(least: Option<&str>, size: u64) -> Option<u64> {
    let chunk = least.and_then(|least| least.parse().ok()).unwrap_or(0).max(CHUNK);
    Some(chunk).filter(|chunk| *chunk < size)
}

/// Where an upload is closed: at its place, with the digest of the blob.
pub(super) fn closing_url(location: &Uri, digest: &Digest) -> Option<Uri> {
    with_query(location, &format!("digest={digest}"))
}

/// How many bytes there are by a `Range` of an upload: `0-N` has N + 1. Nothing at all is `0-0`, too: no registry has
/// exactly one byte.
pub(super) fn has_until(range: &str) -> Option<u64> {
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    match last.bytes().all(|byte| byte.is_ascii_digit()) {
        true => last.parse::<u64>().ok().and_then(|last| last.checked_add(u64::from(last != 0))),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads() {
        for (range, has) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("0-00", Some(0)),
            ("1-9", None),
            ("0-", None),
            ("0-+9", None),
            ("-9", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(has_until(range), has, "{range:?}");
        }
    }
}
