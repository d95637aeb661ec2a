//! A blob's bytes on their way to the registry: hashed as they go, and held against the descriptor before the last of them
//! leaves.
//!
//! They are never kept. Where the registry has to be sent some of them again, they are read again, from the source; and
//! because what it has is not always what a hash ends at, the hash is set back to the beginning of the chunk and reads on
//! from there.

use super::http::Failure;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::source::Open;
use sha2::{Digest as _, Sha256};
use std::io::{self, ErrorKind, Read};

/// How much is read at once of what the registry has already, in bytes.
const SKIP_BUFFER: usize = 16 << 10;

/// A blob's bytes.
pub(super) struct Payload<'a> {
    blob: &'a Descriptor,
    open: &'a mut Open<'a>,
    /// Hears of every byte once, however often it is sent.
    sent: &'a mut dyn FnMut(u64),
    told: u64,
    reader: Option<Box<dyn Read + Send>>,
    place: Place,
    /// Where the chunk begins that is being sent.
    mark: Place,
    /// Why the source did not give what was asked of it, while a request was waiting for that.
    failed: Option<Error>,
}

/// A place in the blob.
#[derive(Clone, Default)]
struct Place {
    /// In bytes from its beginning.
    offset: u64,
    /// Of all bytes before.
    hash: Sha256,
}

impl<'a> Payload<'a> {
    /// Nothing is opened yet.
    pub(super) fn new(
        blob: &'a Descriptor,
        open: &'a mut Open<'a>,
        sent: &'a mut dyn FnMut(u64),
    ) -> Payload<'a> {
        let (place, mark) = (Place::default(), Place::default());
        Payload { blob, open, sent, told: 0, reader: None, place, mark, failed: None }
    }

    /// Goes to `offset`, where a chunk begins. At the blob's end all of it has been verified.
    pub(super) fn go_to(&mut self, offset: u64) -> Result<()> {
        if self.reader.is_none() || offset != self.place.offset {
            if offset < self.mark.offset {
                self.mark = Place::default();
            }
            self.place = self.mark.clone();
            self.reader = Some((self.open)(self.place.offset)?);
            self.skip_to(offset)?;
        }
        self.mark = self.place.clone();
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) -> Result<()> {
        let mut buffer = [0; SKIP_BUFFER];
        while self.place.offset < offset {
            let left = usize::try_from(offset - self.place.offset).unwrap_or(SKIP_BUFFER);
            self.read(&mut buffer[..left.min(SKIP_BUFFER)])?;
        }
        match self.blob.size {
            0 => self.verify(),
            _ => Ok(()),
        }
    }

    /// The next `length` bytes, for one request.
    pub(super) fn piece<'p>(&'p mut self, length: u64) -> Piece<'p, 'a> {
        Piece { payload: self, left: length }
    }

    /// The failure of a request: the source's, where that is what it has failed by.
    pub(super) fn blame(&mut self, failure: Failure) -> Failure {
        self.failed.take().map_or(failure, Failure::last)
    }

    /// Reads and hashes at least one byte, which there must be.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.read_source(buffer)?;
        if read == 0 {
            let message = format!("there are only {} bytes of it", self.place.offset);
            return Err(self.wrong(message));
        }
        self.place.hash.update(&buffer[..read]);
        self.place.offset += read as u64;
        if self.place.offset == self.blob.size {
            self.verify()?;
        }
        Ok(read)
    }

    fn read_source(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let reader = self.reader.as_mut().expect("somebody has gone to a place");
        loop {
            match reader.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other.map_err(|error| Error::from_io(Kind::Other, error)),
            }
        }
    }

    /// At the blob's end: nothing may follow, and it must be the right one.
    fn verify(&mut self) -> Result<()> {
        if self.read_source(&mut [0])? > 0 {
            return Err(self.wrong("there are more".to_owned()));
        }
        let digest = Digest(self.place.hash.clone().finalize().into());
        match digest == self.blob.digest {
            true => Ok(()),
            false => Err(self.wrong(format!("its bytes are those of {digest}"))),
        }
    }

    fn wrong(&self, message: String) -> Error {
        let Descriptor { digest, size, .. } = self.blob;
        Error::new(Kind::Verification, format!("expected {digest} of {size} bytes: {message}"))
            .hint("nothing wrong was written: the registry has no such blob from this")
    }
}

/// One request's share of a blob, without an end before its end: ureq would wait for the rest for ever.
pub(super) struct Piece<'p, 'a> {
    payload: &'p mut Payload<'a>,
    left: u64,
}

impl Read for Piece<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let payload = &mut *self.payload;
        let read = payload.read(&mut buffer[..most]).map_err(|error| {
            payload.failed = Some(error);
            io::Error::other("there is no more to send")
        })?;
        self.left -= read as u64;
        if let Some(news) = payload.place.offset.checked_sub(payload.told).filter(|news| *news > 0) {
            payload.told += news;
            (payload.sent)(news);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = b"0123456789abcdef";

    fn blob(bytes: &[u8], size: usize) -> Descriptor {
        Descriptor::new(String::new(), Digest::of(bytes), size as u64)
    }

    /// Sends `pieces` (offset, length) of `given`, which should be `blob`; what was sent, and how often it was opened where.
    fn send(
        blob: &Descriptor,
        given: &'static [u8],
        pieces: &[(u64, u64)],
    ) -> (Result<Vec<u8>>, Vec<u64>, u64) {
        let (mut opened, mut told) = (Vec::new(), 0);
        let mut open = |offset: u64| {
            opened.push(offset);
            Ok(Box::new(&given[offset as usize..]) as Box<dyn Read + Send>)
        };
        let mut sent = |bytes| told += bytes;
        let mut payload = Payload::new(blob, &mut open, &mut sent);
        let mut bytes = Vec::new();
        let mut all = || {
            for (offset, length) in pieces {
                payload.go_to(*offset)?;
                if let Err(error) = payload.piece(*length).read_to_end(&mut bytes) {
                    return Err(payload.failed.take().unwrap_or_else(|| Error::from_io(Kind::Other, error)));
                }
            }
            payload.go_to(blob.size)
        };
        let result = all();
        drop(payload);
        (result.map(|()| bytes), opened, told)
    }

    #[test]
    fn a_source_is_opened_once_where_nothing_breaks() {
        let (sent, opened, told) = send(&blob(BYTES, 16), BYTES, &[(0, 6), (6, 6), (12, 4)]);
        assert_eq!((sent.unwrap().as_slice(), opened, told), (BYTES, vec![0], 16));
    }

    #[test]
    fn the_hash_stays_right_wherever_it_goes_on() {
        // Within the chunk that broke; at its beginning; in one long before; all anew.
        for (again, opened_at) in [(8, 6), (6, 6), (3, 0), (0, 0)] {
            let pieces = [(0, 6), (6, 6), (again, 16 - again)];
            let (sent, opened, told) = send(&blob(BYTES, 16), BYTES, &pieces);
            assert_eq!(&sent.unwrap()[12..], &BYTES[again as usize..], "from {again}");
            assert_eq!((opened, told), (vec![0, opened_at], 16), "from {again}");
        }
    }

    #[test]
    fn what_is_not_the_blob_never_leaves_whole() {
        for (given, part) in [
            (&BYTES[..15], "only 15 bytes"),
            (b"0123456789abcdefg", "there are more"),
            (b"0123456789abcdeF", "its bytes are those of sha256:"),
        ] {
            let (sent, _, told) = send(&blob(BYTES, 16), given, &[(0, 16)]);
            let error = sent.unwrap_err();
            assert_eq!(error.kind(), Kind::Verification);
            assert!(error.to_string().contains(part), "{error}");
            assert!(told < 16, "{part}: {told}");
        }
    }

    #[test]
    fn an_empty_blob_is_verified_too() {
        assert_eq!(send(&blob(b"", 0), b"", &[(0, 0)]).0.unwrap(), b"");
        assert_eq!(send(&blob(b"", 0), b"x", &[(0, 0)]).0.unwrap_err().kind(), Kind::Verification);
        assert_eq!(send(&blob(b"x", 0), b"", &[(0, 0)]).0.unwrap_err().kind(), Kind::Verification);
    }
}
