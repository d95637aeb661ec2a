//! Where an image is written to: the other direction of [`super::Source`], for whoever publishes.
//!
//! An image is written from its leaves up: blobs, then the manifests that point at them, then the index; last it gets
//! its name. So nothing is ever visible whose parts are missing, and what was written before an interruption is found
//! again ([`Destination::has_blob`], [`Destination::has_manifest`]) by the next run.

use super::{Attachment, Fetched};
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::reference::Reference;
use std::io::{Cursor, Read};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Opens a blob's bytes from an offset on. It is called again where a connection broke.
pub type Open<'a> = dyn FnMut(u64) -> Result<Box<dyn Read + Send>> + 'a;

/// Opens what is in memory. Behind its end there is nothing to read, and no error.
pub(super) fn in_memory(bytes: &[u8]) -> impl FnMut(u64) -> Result<Box<dyn Read + Send>> {
    move |offset| {
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        Ok(Box::new(Cursor::new(rest.unwrap_or_default().to_vec())))
    }
}

/// A place that one image is written to.
pub trait Destination {
    /// The files that it has yet to read, and directories with such files.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Returns the descriptors of open files that it writes to.
    fn open_files(&self) -> Vec<RawFd> {
        Vec::new()
    }

    /// The directories that it writes to.
    fn places(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Whether the blob is there, whole.
    fn has_blob(&mut self, blob: &Descriptor) -> Result<bool>;

    /// Takes the blob over from another image's place without its bytes being sent; whether that could be done.
    fn mount(&mut self, _blob: &Descriptor, _from: &Reference) -> Result<bool> {
        Ok(false)
    }

    /// Takes a blob's bytes, `open`'s, and holds them against the descriptor; only then the blob is there. `sent` hears
    /// how many more bytes have come.
    ///
    /// # Errors
    /// [`crate::error::Kind::Verification`] for bytes that are not those which the descriptor promises.
    fn blob(&mut self, blob: &Descriptor, open: &mut Open<'_>, sent: &mut dyn FnMut(u64)) -> Result<()>;

    /// Whether the manifest or index is there.
    fn has_manifest(&mut self, manifest: &Descriptor) -> Result<bool>;

    /// Takes a manifest or index, all parts of which are there. It can be found by its digest.
    fn manifest(&mut self, document: &Fetched) -> Result<()>;

    /// Takes what is attached to `subject`, whose parts are all there, in such a way that it is found there as whatever it
    /// is attached to.
    fn attach(&mut self, attachment: &Attachment, subject: &Digest) -> Result<()>;

    /// Gives the document, which [`Destination::manifest`] has taken, the image's name, and these tags besides, and
    /// then reads back whether it has them. It is visible when this returns, or only when [`Destination::show`] has.
    fn publish(&mut self, document: &Fetched, tags: &[String]) -> Result<()>;

    /// Makes visible what was published, as far as that cannot be left to the process that reads what others send.
    fn show(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_read_from_any_offset_on() {
        let mut open = in_memory(b"config");
        for (offset, rest) in [(3, "fig"), (0, "config"), (5, "g"), (6, ""), (7, ""), (u64::MAX, "")] {
            let mut read = String::new();
            open(offset).unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, rest, "from {offset} on");
        }
    }
}
