//! The body of an answer, as a stream whose errors carry an [`crate::error::Error`].
//!
//! A stall ends a connection, and a server that drips a byte before each would never stall. So there is a least rate, over
//! a time so long that no link in use is slower. It counts the time that is waited for bytes, and not that in which
//! nobody asks for any because a disk is busy.

use super::http::{Failure, Http};
use std::io::{self, Read};
use std::time::{Duration, Instant};
use ureq::BodyReader;
use ureq::http::Uri;

/// What a blob's connection has to give at least, in bytes, in the time of [`crate::source::Options::slow`].
const LEAST: u64 = 64 << 10;

/// A body.
pub(super) struct BodyStream {
    reader: BodyReader<'static>,
    http: Http,
    url: Uri,
    /// What has to come in one such time: [`LEAST`], or all.
    least: u64,
    /// How much has come in this one, and how long that was waited for.
    came: u64,
    waited: Duration,
}

impl BodyStream {
    /// A document, a token, an error: all of it has to come in that time.
    pub(super) fn new(reader: BodyReader<'static>, http: Http, url: Uri) -> BodyStream {
        BodyStream { reader, http, url, least: u64::MAX, came: 0, waited: Duration::ZERO }
    }

    /// The same as a blob, which may be large.
    pub(super) fn blob(self) -> BodyStream {
        BodyStream { least: LEAST, ..self }
    }

    /// Reads on; an end is [`Ok`] with 0.
    pub(super) fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        if !self.waited.is_zero() && self.waited >= self.http.slow() {
            if self.came < self.least {
                let message = format!("only {} bytes in {:?}", self.came, self.http.slow());
                return Err(self.http.too_slow(message, &self.url));
            }
            (self.came, self.waited) = (0, Duration::ZERO);
        }
        self.http.reads_on();
        let asked = Instant::now();
        let read = self.reader.read(buffer).map_err(|error| self.http.broken_body(error, &self.url))?;
        self.waited += asked.elapsed();
        self.came += read as u64;
        Ok(read)
    }

    /// The body has ended before its time.
    pub(super) fn too_short(&self) -> Failure {
        self.http.broken_body(io::ErrorKind::UnexpectedEof.into(), &self.url)
    }
}

impl Read for BodyStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_on(buffer).map_err(|failure| failure.error.into())
    }
}
