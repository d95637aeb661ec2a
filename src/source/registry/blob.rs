//! A blob as one unbroken stream, over a link that breaks.
//!
//! Where a connection ends too early, the rest is asked for anew by a closed range (`bytes=N-M`: some
//! blob stores refuse open ones), starting at the registry, because the signed URL of a redirect may have
//! expired. As long as bytes keep coming, and not too few of them for the time ([`super::pace`]), it never gives up.

use super::body::BodyStream;
use super::client::Client;
use super::endpoint::Ask;
use super::http::{Answer, Class, Failure};
use super::no_registry;
use super::outcome::{asked_host, outcome};
use super::retry::Attempts;
use super::url::{absolute, shown};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use std::io::{self, Read};
use std::sync::Arc;
use ureq::http::{Method, Uri, header};

/// How much is read at once of what is only skipped, in bytes.
const SKIP_BUFFER: usize = 16 << 10;
/// The most urls of a foreign layer that are tried.
const URLS_MAX: usize = 8;

/// Reads one blob.
pub(super) struct BlobReader {
    client: Arc<Client>,
    digest: Digest,
    size: u64,
    /// Where to ask, best first; `None` is the registry.
    places: Vec<Option<Uri>>,
    /// The next byte to deliver.
    position: u64,
    body: Option<Open>,
    attempts: Attempts,
    /// Ranges were answered wrongly, and not by a mirror, which is left for that: ask for the whole and skip.
    no_ranges: bool,
}

/// A body that is being read.
struct Open {
    stream: BodyStream,
    /// Who gives it ([`Answer::place`]).
    place: usize,
}

/// Why a place did not give the blob.
enum Miss {
    /// It does not have it: ask the next place.
    Absent(Error),
    /// Anything else.
    Failed(Failure),
}

impl BlobReader {
    /// Asks for the blob from byte `offset` on, and waits for the answer's head.
    pub(super) fn open(client: Arc<Client>, descriptor: &Descriptor, offset: u64) -> Result<BlobReader> {
        let elsewhere = descriptor.urls.iter().take(URLS_MAX).filter_map(|url| absolute(url)).map(Some);
        let mut places: Vec<_> = elsewhere.chain([None]).collect();
        if !descriptor.is_foreign() {
            places.rotate_right(1);
        }
        let attempts = client.attempts();
        let mut reader = BlobReader {
            client,
            digest: descriptor.digest,
            size: descriptor.size,
            places,
            position: offset,
            body: None,
            attempts,
            no_ranges: false,
        };
        if offset > reader.size {
            let message = format!("{}: offset {offset} is beyond its {} bytes", reader.what(), reader.size);
            return Err(Error::new(Kind::Other, message));
        }
        if offset < reader.size {
            reader.connect()?;
        }
        Ok(reader)
    }

    fn what(&self) -> String {
        format!("blob {} of {}", self.digest.short(), self.client.repository)
    }

    /// Opens a body at `position`, however many tries and places that takes.
    fn connect(&mut self) -> Result<()> {
        loop {
            let error = match self.ask(self.places.first().cloned().flatten()) {
                Ok(()) => return Ok(()),
                Err(Miss::Absent(error)) => error.context(self.what()),
                Err(Miss::Failed(failure)) => match self.wait(failure) {
                    Ok(()) => continue,
                    Err(error) => error,
                },
            };
            if self.places.len() == 1 || !matches!(error.kind(), Kind::NotFound | Kind::Network) {
                return Err(error);
            }
            log::info!("{error}; trying elsewhere");
            self.places.remove(0);
            self.attempts.elsewhere(self.client.waited());
            self.no_ranges = false;
        }
    }

    fn wait(&mut self, failure: Failure) -> Result<()> {
        let what = self.what();
        self.client.pause(&mut self.attempts, failure, &what)
    }

    /// One try at one place.
    fn ask(&mut self, elsewhere: Option<Uri>) -> Result<(), Miss> {
        let range = format!("bytes={}-{}", self.position, self.size - 1);
        let ranged = self.position > 0 && !self.no_ranges;
        let headers = [(header::RANGE, range.as_str())];
        let headers = if ranged { &headers[..] } else { &[] };
        let answer = match &elsewhere {
            Some(url) => self.client.attempt_elsewhere(url, headers),
            None => {
                let path = format!("blobs/{}", self.digest);
                self.client.attempt(&Ask { method: Method::GET, path: &path, headers })
            }
        };
        let answer = answer.map_err(Miss::Failed)?;
        match answer.status() {
            200 => {
                self.check_length(&answer).map_err(Miss::Failed)?;
                let skip = self.position;
                self.take_body(answer);
                if skip > 0 {
                    log::info!("{}: ranges are not served: skipping {skip} bytes", self.what());
                    self.skip(skip).map_err(Miss::Failed)?;
                }
                Ok(())
            }
            206 if ranged => {
                let given = answer.header(header::CONTENT_RANGE).unwrap_or_default();
                match content_range_fits(given, self.position, self.size) {
                    true => {
                        self.take_body(answer);
                        Ok(())
                    }
                    false => Err(Miss::Failed(self.wrong_range(answer))),
                }
            }
            416 if ranged => Err(Miss::Failed(self.wrong_range(answer))),
            404 | 410 => Err(Miss::Absent(self.absent(answer))),
            _ => {
                let message = format!("{}: unexpected answer {}", asked_host(&answer), outcome(answer));
                let error = Error::new(Kind::Network, message);
                Err(match elsewhere {
                    Some(_) => Miss::Absent(error),
                    None => Miss::Failed(Failure::last(error)),
                })
            }
        }
    }

    fn take_body(&mut self, answer: Answer) {
        let place = answer.place;
        self.client.gives(self.digest, place);
        self.body = Some(Open { stream: answer.into_body(), place });
    }

    fn absent(&self, answer: Answer) -> Error {
        let place = asked_host(&answer);
        Error::new(Kind::NotFound, format!("{place} does not have it: {}", outcome(answer)))
    }

    /// The answer to a range is not that range: the next try asks for the whole, or somebody who can do better.
    fn wrong_range(&mut self, answer: Answer) -> Failure {
        let given =
            answer.header(header::CONTENT_RANGE).unwrap_or("none").chars().take(80).collect::<String>();
        let asked = format!("bytes {}-{}/{}", self.position, self.size - 1, self.size);
        let message = format!(
            "{}: HTTP {} to a range: expected {asked}, got {given:?}",
            asked_host(&answer),
            answer.status()
        );
        let failure = Failure::new(Class::Passing, Error::new(Kind::Network, message));
        let failure = self.client.broke_off(answer.place, failure);
        self.no_ranges |= failure.class == Class::Passing;
        failure
    }

    /// A whole blob's `Content-Length` is known beforehand: what lies about it isn't worth downloading.
    fn check_length(&self, answer: &Answer) -> Result<(), Failure> {
        let given = answer.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        match given {
            Some(given) if given != self.size && (given == 0 || is_text_or_json(answer)) => {
                let message = format!("{}: its answer is not the blob", shown(&answer.url));
                Err(self.client.broke_off(answer.place, no_registry(message)))
            }
            Some(given) if given != self.size => {
                let error = Error::new(
                    Kind::Verification,
                    format!("{} has {given} bytes, its descriptor says {}", shown(&answer.url), self.size),
                );
                Err(self.client.wrong(answer.place, error))
            }
            _ => Ok(()),
        }
    }

    /// Reads and forgets `left` bytes of a fresh body. They are no progress.
    fn skip(&mut self, mut left: u64) -> Result<(), Failure> {
        let mut buffer = [0; SKIP_BUFFER];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(SKIP_BUFFER).min(SKIP_BUFFER);
            left -= self.read_body(&mut buffer[..wanted])? as u64;
        }
        Ok(())
    }

    /// Reads from the open body; its end is a failure here. A failed body is closed.
    fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let open = self.body.as_mut().expect("a body is open");
        let failure = match open.stream.read_on(buffer) {
            Ok(0) => open.stream.too_short(),
            Ok(read) => return Ok(read),
            Err(failure) => failure,
        };
        let place = open.place;
        self.body = None;
        Err(self.client.broke_off(place, failure))
    }

    /// After the last byte: nothing may follow. Reading the end also frees the connection for others.
    fn finish(&mut self) -> io::Result<usize> {
        let Some(mut open) = self.body.take() else { return Ok(0) };
        // An error now is no loss: all bytes are there, and their digest is checked by the reader.
        match open.stream.read(&mut [0]) {
            Ok(1..) => {
                let message =
                    format!("{} is longer than the {} bytes its descriptor says", self.what(), self.size);
                Err(Error::new(Kind::Verification, message).into())
            }
            _ => Ok(0),
        }
    }
}

/// Whether the answer is for a person, or about an error: a login page, or what a proxy says instead of what it has blocked.
fn is_text_or_json(answer: &Answer) -> bool {
    let media_type = answer.media_type().to_ascii_lowercase();
    media_type.starts_with("text/") || media_type.contains("json")
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.position == self.size {
            return self.finish();
        }
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        loop {
            if self.body.is_none() {
                self.connect()?;
            }
            match self.read_body(&mut buffer[..wanted]) {
                Ok(read) => {
                    self.position += read as u64;
                    self.attempts.came(read as u64, self.client.waited());
                    return Ok(read);
                }
                Err(failure) => self.wait(failure)?,
            }
        }
    }
}

/// Is this `Content-Range` exactly `start` to the end of `size` bytes? The total may be unknown (`*`).
pub(super) fn content_range_fits(value: &str, start: u64, size: u64) -> bool {
    let parse = || {
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total_fits = total == "*" || number(total)? == size;
        Some(number(first)? == start && number(last)?.checked_add(1)? == size && total_fits)
    };
    parse().unwrap_or(false)
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_is_exactly_what_was_asked_for() {
        for (value, fits) in [
            ("bytes 5-9/10", true),
            ("bytes 5-9/*", true),
            ("bytes 4-9/10", false),
            ("bytes 5-8/10", false),
            ("bytes 5-9/11", false),
            ("bytes 5-10/10", false),
            ("bytes +5-9/10", false),
            ("bytes 5-9", false),
            ("bytes */10", false),
            ("5-9/10", false),
            ("bytes=5-9/10", false),
            ("items 5-9/10", false),
            ("bytes 5-18446744073709551615/10", false),
            ("bytes 5-99999999999999999999/10", false),
            ("", false),
        ] {
            assert_eq!(content_range_fits(value, 5, 10), fits, "{value:?}");
        }
    }
}
