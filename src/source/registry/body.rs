//! The body of an answer, as a stream whose errors carry an [`crate::error::Error`].

use super::http::{Failure, Http};
use std::io::{self, Read};
use ureq::BodyReader;
use ureq::http::Uri;

/// A body.
pub(super) struct BodyStream {
    reader: BodyReader<'static>,
    http: Http,
    url: Uri,
}

impl BodyStream {
    /// Wraps the body of an answer of `url`, which came over a connection of `http`.
    pub(super) fn new(reader: BodyReader<'static>, http: Http, url: Uri) -> BodyStream {
        BodyStream { reader, http, url }
    }

    /// Reads on; an end is [`Ok`] with 0.
    pub(super) fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.http.reads_on();
        let read = self.reader.read(buffer).map_err(|error| self.http.broken_body(error, &self.url))?;
        self.http.came(read);
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
