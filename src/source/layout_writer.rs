//! Writes an image into an OCI image layout: a directory (image-spec image-layout.md).
//!
//! Blobs come first, each under its digest as soon as it is verified and durable, so that what has its name is whole.
//! `index.json` is replaced last and at once; until then nobody sees the image, and other images stay as they are.
//! Several may write at a time: the directory is locked (`flock(2)`, which leaves nothing behind) while `index.json`
//! is read and replaced, and a blob while it is written, so that two who want the same one fetch it once.

use super::entries::{self, INDEX, MARKER, VERSION};
use super::layout::Layout;
use super::partial::{self, Partial};
use super::{Attachment, Destination, Fetched, Open, read_document};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::reference::LocalReference;
use crate::links;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A layout that an image is written to.
#[derive(Debug)]
pub struct LayoutWriter {
    root: PathBuf,
    /// `blobs/sha256`.
    blobs: PathBuf,
    tag: Option<String>,
    /// For messages: the path that the user named.
    place: String,
}

impl LayoutWriter {
    /// The layout in the directory that `reference` names. It is made where it is missing, beneath a directory that is
    /// there.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if it is neither empty nor a layout of version 1.x, is no directory, has no parent, or
    /// is behind another user's link; [`Kind::Disk`] if it cannot be read or written.
    pub fn open(reference: &LocalReference) -> Result<LayoutWriter> {
        let root = links::resolve(&reference.path)?;
        let place = reference.path.display().to_string();
        entries::check_name(&place, reference.tag.as_deref())?;
        let blobs = root.join("blobs/sha256");
        let writer = LayoutWriter { root, blobs, tag: reference.tag.clone(), place };
        partial::make_directory(&writer.root).map_err(|error| match error.kind() {
            ErrorKind::NotFound => writer.usage("cannot be made: the directory above it is not there"),
            _ => Error::disk(&writer.place, error),
        })?;
        let _lock = writer.lock()?;
        writer.mark(reference)?;
        for path in [&writer.root.join("blobs"), &writer.blobs] {
            partial::make_directory(path).map_err(|error| Error::disk(path.display(), error))?;
        }
        Ok(writer)
    }

    /// Nobody else changes `index.json` as long as this lives.
    fn lock(&self) -> Result<File> {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&self.root);
        let directory = opened.map_err(|error| match error.kind() {
            ErrorKind::NotADirectory => {
                self.usage("is no directory").hint("a layout in a tar file is oci-archive:FILE")
            }
            _ => Error::disk(&self.place, error),
        })?;
        partial::lock(&directory).map_err(|error| Error::disk(&self.place, error))?;
        Ok(directory)
    }

    /// Makes a layout of an empty directory; what is in another one must be a layout already. This comes before all
    /// else, so that a killed run leaves one or the other.
    fn mark(&self, reference: &LocalReference) -> Result<()> {
        let marker = self.root.join(MARKER);
        match fs::metadata(&marker) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Layout::directory(reference).map(drop).map_err(no_layout),
        }
        let begun = partial::beside(&marker)?;
        for entry in fs::read_dir(&self.root).map_err(|error| Error::disk(&self.place, error))? {
            let entry = entry.map_err(|error| Error::disk(&self.place, error))?;
            if Some(&*entry.file_name()) != begun.file_name() {
                return Err(self
                    .usage("is no OCI layout, and not empty: no file oci-layout in it")
                    .hint("name another directory"));
            }
        }
        partial::replace(&marker, VERSION)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex().to_string())
    }

    /// `index.json` as it is, if there is one. It must not be a link: it will be replaced, and what a link leads to may
    /// not be for everybody.
    fn index(&self) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(INDEX);
        let place = path.display();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::disk(&place, error))?,
        };
        read_document(file, None, Kind::Disk, &place.to_string()).map(Some)
    }

    fn usage(&self, what: &str) -> Error {
        Error::new(Kind::Usage, format!("{} {what}", self.place))
    }
}

impl Destination for LayoutWriter {
    fn places(&self) -> Vec<PathBuf> {
        vec![self.root.clone()]
    }

    /// A file has the blob's name only since it was verified. One with another size is no work of ours, and written
    /// anew; so is a link, which may lead out of the layout.
    fn has_blob(&mut self, blob: &Descriptor) -> Result<bool> {
        let path = self.path(&blob.digest);
        match fs::symlink_metadata(&path) {
            Ok(there) => Ok(there.is_file() && there.len() == blob.size),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::disk(path.display(), error)),
        }
    }

    fn blob(&mut self, blob: &Descriptor, open: &mut Open<'_>, sent: &mut dyn FnMut(u64)) -> Result<()> {
        let path = self.path(&blob.digest);
        let partial = Partial::open(&path, true)?;
        // Whoever was waited for may have written it.
        if self.has_blob(blob)? {
            return partial.remove();
        }
        let have = match partial.length()? {
            more if more > blob.size => partial.cut(0).map(|()| 0)?,
            have => have,
        };
        match partial.fill(0, have, blob, open, sent) {
            Ok(()) => partial.rename(&path),
            // What is right so far is where the next run goes on.
            Err(error) if error.kind() != Kind::Verification && partial.length()? > 0 => Err(error),
            Err(error) => partial.remove().and(Err(error)),
        }
    }

    fn has_manifest(&mut self, manifest: &Descriptor) -> Result<bool> {
        self.has_blob(manifest)
    }

    fn manifest(&mut self, document: &Fetched) -> Result<()> {
        entries::write(self, document)
    }

    fn attach(&mut self, attachment: &Attachment, _subject: &Digest) -> Result<()> {
        entries::write(self, &attachment.document)?;
        let _lock = self.lock()?;
        let index = entries::attached(&self.place, self.index()?.as_deref(), attachment)?;
        partial::replace(&self.root.join(INDEX), &index)
    }

    fn publish(&mut self, document: &Fetched, tags: &[String]) -> Result<()> {
        if !self.has_manifest(&entries::descriptor(document))? {
            let message = format!("{} has no {}, which was to be named", self.place, document.digest);
            return Err(Error::new(Kind::NotFound, message));
        }
        let names = entries::names(&self.tag, tags);
        let _lock = self.lock()?;
        let index = entries::merged(&self.place, self.index()?.as_deref(), document, &names)?;
        partial::replace(&self.root.join(INDEX), &index)?;
        entries::check(&self.place, &self.index()?.unwrap_or_default(), document, &names).map(drop)
    }
}

/// A version of the layout that we don't know, or none, is a wrong DIR rather than a broken image.
fn no_layout(error: Error) -> Error {
    match error.kind() {
        Kind::BadImage => Error::new(Kind::Usage, error.to_string()),
        _ => error,
    }
}
