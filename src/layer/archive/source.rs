//! Exact reads from the uncompressed stream.

use std::io::BufRead;

use super::PATH_MAX;
use crate::error::{Error, Kind, Result};
use crate::layer::queue::skip_buffered;

/// An error about the archive.
pub(super) fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::BadImage, message)
}

/// The archive ends where it may not.
pub(super) fn truncated() -> Error {
    bad("the archive ends in the middle")
}

/// The next bytes there are; empty at the end. Errors come out whole.
pub(super) fn more(source: &mut dyn BufRead) -> Result<&[u8]> {
    source.fill_buf().map_err(|error| Error::from_io(Kind::BadImage, error))
}

/// Reads up to `into.len()` bytes; less only at the end.
pub(super) fn up_to(source: &mut dyn BufRead, into: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        let here = more(source)?;
        if here.is_empty() {
            break;
        }
        let n = here.len().min(into.len() - filled);
        into[filled..filled + n].copy_from_slice(&here[..n]);
        source.consume(n);
        filled += n;
    }
    Ok(filled)
}

/// Reads exactly `into.len()` bytes.
pub(super) fn exactly(source: &mut dyn BufRead, into: &mut [u8]) -> Result<()> {
    if up_to(source, into)? == into.len() { Ok(()) } else { Err(truncated()) }
}

/// Drops up to `length` bytes. Returns how many are missing because the archive ends.
pub(super) fn skip_up_to(source: &mut dyn BufRead, length: u64) -> Result<u64> {
    skip_buffered(source, length).map_err(|error| Error::from_io(Kind::BadImage, error))
}

/// Drops exactly `length` bytes.
pub(super) fn skip(source: &mut dyn BufRead, length: u64) -> Result<()> {
    if skip_up_to(source, length)? == 0 { Ok(()) } else { Err(truncated()) }
}

/// Reads a path of `length` bytes.
pub(super) fn path(source: &mut dyn BufRead, length: u64, into: &mut Vec<u8>) -> Result<()> {
    if length > PATH_MAX as u64 {
        return Err(bad(format!("a path has {length} bytes, more than PATH_MAX, {PATH_MAX}")));
    }
    into.clear();
    into.resize(length as usize, 0);
    exactly(source, into)
}
