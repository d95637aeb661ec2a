//! Writes an image into an OCI archive: the files of an image layout (image-spec image-layout.md) in a tar.
//!
//! The tar grows as `.NAME.edgepull` beside its FILE, one member for each blob, and replaces FILE when it has its last
//! two members, `oci-layout` and `index.json`: FILE is what it was, or whole. What a killed run has left is walked and
//! hashed again; its whole members count as written, and a begun one is gone on with where it broke off. The same
//! image gives the same bytes: members say nothing of when and by whom they were written.

use super::archive::Archive;
use super::entries::{self, INDEX, MARKER, VERSION};
use super::layout::Files;
use super::partial::Partial;
use super::{Attachment, Destination, Fetched, Open, read_document};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Descriptor;
use crate::image::reference::LocalReference;
use crate::links;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use tar::{EntryType, Header};

/// The most blobs of an archive, documents included: 5 MiB of table. An index of 1024 entries (`ENTRIES_MAX`) with 60
/// layers each, of which none is shared, would just fit; with 1024 each (`LAYERS_MAX`) it is refused.
const BLOBS_MAX: usize = 65_536;
/// What a tar consists of, in bytes.
const BLOCK: u64 = 512;
/// Where blobs are in a layout.
const BLOBS: &str = "blobs/sha256/";

/// An archive that an image is written to.
#[derive(Debug)]
pub struct ArchiveWriter {
    /// `None` once it has become FILE.
    partial: Option<Partial>,
    /// Is set when it has its last members, and is durable.
    whole: bool,
    /// FILE, no link.
    path: PathBuf,
    tag: Option<String>,
    /// The sizes of the blobs that are in it.
    blobs: HashMap<Digest, u64>,
    /// Holds what `index.json` is to have besides the image.
    attached: Vec<Attachment>,
    /// Where the next member begins, in bytes.
    end: u64,
}

impl ArchiveWriter {
    /// The archive that is to become the file that `reference` names; the directory of which must be there. What is
    /// there of it is read again.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if FILE is there and no regular file, or is behind another user's link; [`Kind::Busy`]
    /// if another edgepull is writing it; [`Kind::BadImage`] if a killed run has left more than 65,536 blobs
    /// (`BLOBS_MAX`); [`Kind::Disk`] if it cannot be read or written.
    pub fn open(reference: &LocalReference) -> Result<ArchiveWriter> {
        let place = reference.path.display();
        entries::check_name(&place.to_string(), reference.tag.as_deref())?;
        let path = links::resolve(&reference.path)?;
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(Error::new(Kind::Usage, format!("{place} is no regular file"))
                .hint("a layout in a directory is oci:DIR"));
        }
        let partial = Some(Partial::open(&path, false)?);
        let (tag, blobs, attached) = (reference.tag.clone(), HashMap::new(), Vec::new());
        let mut writer = ArchiveWriter { partial, whole: false, path, tag, blobs, attached, end: 0 };
        writer.walk()?;
        Ok(writer)
    }

    fn partial(&self) -> Result<&Partial> {
        let published = || Error::new(Kind::Other, format!("{} is complete already", self.path.display()));
        self.partial.as_ref().filter(|_| !self.whole).ok_or_else(published)
    }

    /// Finds the members that a killed run has left, whole and right, and cuts off what is neither these nor a begun
    /// one.
    fn walk(&mut self) -> Result<()> {
        let length = self.partial()?.length()?;
        while let Some((digest, size)) = self.member(length)? {
            let start = self.end + BLOCK;
            let padded = size.checked_next_multiple_of(BLOCK).filter(|padded| *padded <= length - start);
            let Some(padded) = padded else { return Ok(()) };
            if self.partial()?.digest(start, size)? != digest {
                break;
            }
            self.remember(digest, size, start + padded)?;
        }
        self.partial()?.cut(self.end)
    }

    /// The blob whose header is at the end of the members, in a file of `length` bytes; `None` if there is no header
    /// that is ours to the byte.
    fn member(&self, length: u64) -> Result<Option<(Digest, u64)>> {
        if length - self.end < BLOCK {
            return Ok(None);
        }
        let mut there = Header::new_gnu();
        self.partial()?.read(there.as_mut_bytes(), self.end)?;
        let path = there.path_bytes();
        let hex = path.strip_prefix(BLOBS.as_bytes()).and_then(|hex| std::str::from_utf8(hex).ok());
        let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let (Some(digest), Ok(size)) = (digest, there.entry_size()) else { return Ok(None) };
        let ours = header(&name(&digest), size)?;
        Ok((ours.as_bytes() == there.as_bytes()).then_some((digest, size)))
    }

    /// A blob is in the archive, which goes on at `end`.
    fn remember(&mut self, digest: Digest, size: u64, end: u64) -> Result<()> {
        if self.blobs.len() >= BLOBS_MAX {
            let message = format!("{}: more than {BLOBS_MAX} blobs for one archive", self.path.display());
            return Err(Error::new(Kind::BadImage, message)
                .hint("edgepull's limit BLOBS_MAX; no real image comes near"));
        }
        self.blobs.insert(digest, size);
        self.end = end;
        Ok(())
    }

    /// Puts the header of a blob at the end of the members, unless it is there: then some of the blob's bytes are, too.
    /// Returns how many.
    fn begin(&self, blob: &Descriptor) -> Result<u64> {
        let partial = self.partial()?;
        let length = partial.length()?;
        if self.member(length)? == Some((blob.digest, blob.size)) {
            return Ok((length - self.end - BLOCK).min(blob.size));
        }
        partial.cut(self.end)?;
        partial.write(header(&name(&blob.digest), blob.size)?.as_bytes(), self.end)?;
        Ok(0)
    }

    /// Writes the last two members, and the two empty blocks that end a tar.
    fn end(&self, index: &[u8]) -> Result<()> {
        let partial = self.partial()?;
        partial.cut(self.end)?;
        let mut at = self.end;
        for (name, bytes) in [(MARKER, VERSION), (INDEX, index)] {
            let size = bytes.len() as u64;
            partial.write(header(name, size)?.as_bytes(), at)?;
            partial.write(bytes, at + BLOCK)?;
            at += BLOCK + size.next_multiple_of(BLOCK);
        }
        // What was not written in between is zero, too.
        partial.cut(at + 2 * BLOCK)
    }
}

impl Destination for ArchiveWriter {
    fn files(&self) -> Vec<PathBuf> {
        self.partial.iter().map(|partial| partial.path().to_owned()).collect()
    }

    /// Returns the descriptor of the file beside FILE that is to become it; FILE itself is never written to.
    fn open_files(&self) -> Vec<RawFd> {
        self.partial.iter().map(Partial::as_raw_fd).collect()
    }

    fn has_blob(&mut self, blob: &Descriptor) -> Result<bool> {
        Ok(self.blobs.get(&blob.digest) == Some(&blob.size))
    }

    fn blob(&mut self, blob: &Descriptor, open: &mut Open<'_>, sent: &mut dyn FnMut(u64)) -> Result<()> {
        if self.has_blob(blob)? {
            return Ok(());
        }
        let have = self.begin(blob)?;
        let partial = self.partial()?;
        let start = self.end + BLOCK;
        if let Err(error) = partial.fill(start, have, blob, open, sent) {
            // What is right so far is where the next run goes on.
            let keep = error.kind() != Kind::Verification && partial.length()? > start;
            return if keep { Ok(()) } else { partial.cut(self.end) }.and(Err(error));
        }
        let end = start + blob.size.next_multiple_of(BLOCK);
        partial.cut(end)?;
        self.remember(blob.digest, blob.size, end)
    }

    fn has_manifest(&mut self, manifest: &Descriptor) -> Result<bool> {
        self.has_blob(manifest)
    }

    fn manifest(&mut self, document: &Fetched) -> Result<()> {
        entries::write(self, document)
    }

    fn attach(&mut self, attachment: &Attachment, _subject: &Digest) -> Result<()> {
        entries::write(self, &attachment.document)?;
        self.attached.push(attachment.clone());
        Ok(())
    }

    fn publish(&mut self, document: &Fetched, tags: &[String]) -> Result<()> {
        let place = self.path.display().to_string();
        if !self.has_manifest(&entries::descriptor(document))? {
            let message = format!("{place} has no {}, which was to be named", document.digest);
            return Err(Error::new(Kind::NotFound, message));
        }
        let names = entries::names(&self.tag, tags);
        let mut index = entries::merged(&place, None, document, &names)?;
        for attachment in &self.attached {
            index = entries::attached(&place, Some(&index), attachment)?;
        }
        self.end(&index)?;
        let partial = self.partial()?;
        partial.sync()?;
        let index = match Archive::open(partial.path())?.open(INDEX, 0)? {
            Some((reader, size)) => read_document(reader, Some(size), Kind::Disk, &place)?,
            None => Vec::new(),
        };
        entries::check(&place, &index, document, &names)?;
        self.whole = true;
        Ok(())
    }

    fn show(&mut self) -> Result<()> {
        match self.partial.take() {
            Some(partial) => partial.rename(&self.path),
            None => Ok(()),
        }
    }
}

impl Drop for ArchiveWriter {
    /// A file without a byte is of no use for the next run.
    fn drop(&mut self) {
        let Some(partial) = &self.partial else { return };
        let removed = partial.length().and_then(|length| if length == 0 { partial.remove() } else { Ok(()) });
        if let Err(error) = removed {
            log::warn!("an empty file could not be removed: {error}");
        }
    }
}

fn name(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

/// The header of a file: the same for the same name and size. From 8 GiB on the size is in binary, which all tools read
/// that write it, GNU's first.
fn header(name: &str, size: u64) -> Result<Header> {
    let mut header = Header::new_gnu();
    let named = header.set_path(name);
    named.map_err(|error: io::Error| Error::from_io(Kind::Other, error))?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_beyond_8_gib_has_a_header() {
        let name = name(&Digest::of(b""));
        for size in [0, (8 << 30) - 1, 8 << 30, 1 << 50] {
            assert_eq!(header(&name, size).unwrap().entry_size().unwrap(), size);
        }
    }

    #[test]
    fn the_table_of_blobs_is_bounded() {
        let home = tempfile::tempdir().unwrap();
        let reference = LocalReference { path: home.path().join("image"), tag: None };
        let mut writer = ArchiveWriter::open(&reference).unwrap();
        let mut remember = |number: usize| writer.remember(Digest::of(&number.to_le_bytes()), 0, 0);
        (0..BLOBS_MAX).try_for_each(&mut remember).unwrap();
        let error = remember(BLOBS_MAX).unwrap_err();
        assert!(error.kind() == Kind::BadImage && error.to_string().contains("BLOBS_MAX"), "{error}");
    }
}
