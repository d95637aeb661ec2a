//! Members of an uncompressed tar file, found by walking its headers with seeks.
//!
//! Nothing is unpacked and no table is kept: an archive of images has some dozens of members, and walking
//! over them costs one 512-byte read each. So there is no limit to the number of members, and none is
//! needed for memory. The only member that is ever read into memory on the way is an extension header
//! ([`EXTENSION_MAX`]).

use super::layout::{Files, Opened, absent, open_regular};
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tar::EntryType;

/// The largest PAX or GNU extension header that is read, in bytes.
pub(super) const EXTENSION_MAX: u64 = 1 << 20;

/// An open tar file.
pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    /// For messages: the path that the user named.
    pub(super) place: String,
}

/// What a name in the archive stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    /// A file's bytes.
    File {
        /// Where they start in the archive.
        start: u64,
        /// How many there are.
        size: u64,
    },
    /// A link, with its target as written.
    Link {
        /// Is it a symlink, whose target is relative to its own directory, or a hard link?
        symbolic: bool,
        /// The target.
        target: String,
    },
}

impl Archive {
    /// Opens `path`, which must be a regular, uncompressed file.
    pub(super) fn open(path: &Path) -> Result<Archive> {
        let place = path.display().to_string();
        let Some(file) = open_regular(path)? else {
            return Err(absent(&place, io::Error::from(io::ErrorKind::NotFound)));
        };
        let mut magic = [0; 6];
        let read = file.read_at(&mut magic, 0).map_err(|error| Error::disk(&place, error))?;
        if let Some(tool) = decompressor(&magic[..read]) {
            return Err(Error::new(Kind::Usage, format!("{place} is compressed"))
                .hint(format!("decompress it first: {tool} -dc {place} > image.tar")));
        }
        Ok(Archive { file: Arc::new(file), path: path.to_owned(), place })
    }

    /// Returns its path, by which another process that reads the archive opens it again.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first member of that name; `None` if there is none.
    pub(super) fn find(&self, name: &str) -> Result<Option<Member>> {
        let broken = |error: io::Error| match error.downcast::<Error>() {
            Ok(own) => own.context(&self.place),
            // The tar crate's words for what is in it quote that.
            Err(error) if error.raw_os_error().is_none() => {
                Error::new(Kind::BadImage, format!("{}: not a sound tar file", self.place))
            }
            Err(error) => Error::from_io(Kind::Disk, error).context(&self.place),
        };
        let mut archive = tar::Archive::new(Cursor { file: &self.file, position: 0 });
        let mut long = Long::default();
        for entry in archive.entries_with_seek().map_err(broken)?.raw(true) {
            let mut entry = entry.map_err(broken)?;
            let header = entry.header();
            let kind = header.entry_type();
            if matches!(kind, EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink) {
                long.read(kind, &mut entry, &self.place)?;
                continue;
            }
            let Long { path, link, size } = std::mem::take(&mut long);
            if size.is_some_and(|size| size != entry.size()) {
                return Err(Error::new(
                    Kind::BadImage,
                    format!("{}: a member's size is only in its PAX header", self.place),
                ));
            }
            let path = path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
            if normal(&path) != name.as_bytes() {
                continue;
            }
            return match kind {
                EntryType::Regular | EntryType::Continuous => {
                    Ok(Some(Member::File { start: entry.raw_file_position(), size: entry.size() }))
                }
                EntryType::Link | EntryType::Symlink => {
                    let link =
                        link.or_else(|| entry.header().link_name_bytes().map(|link| link.into_owned()));
                    let target = String::from_utf8(link.unwrap_or_default()).unwrap_or_default();
                    Ok(Some(Member::Link { symbolic: kind == EntryType::Symlink, target }))
                }
                _ => Err(Error::new(Kind::BadImage, format!("{}: {name} is no file", self.place))),
            };
        }
        Ok(None)
    }

    /// Reads a file member from `offset` on.
    pub(super) fn read(&self, start: u64, size: u64, offset: u64) -> Section {
        Section {
            file: self.file.clone(),
            position: start.saturating_add(offset),
            left: size.saturating_sub(offset),
        }
    }
}

impl Files for Archive {
    fn places(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn open(&self, path: &str, offset: u64) -> Result<Option<Opened>> {
        match self.find(path)? {
            Some(Member::File { start, size }) => Ok(Some((Box::new(self.read(start, size, offset)), size))),
            Some(Member::Link { .. }) => {
                Err(Error::new(Kind::BadImage, format!("{}: {path} is a link", self.place)))
            }
            None => Ok(None),
        }
    }
}

/// What extension headers say about the member that follows them.
#[derive(Default)]
struct Long {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Long {
    /// Takes over one extension header (POSIX pax `x`, GNU `L` and `K`).
    fn read(&mut self, kind: EntryType, entry: &mut tar::Entry<impl Read>, place: &str) -> Result<()> {
        if entry.size() > EXTENSION_MAX {
            return Err(Error::new(
                Kind::BadImage,
                format!("{place}: an extension header is larger than 1 MiB"),
            )
            .hint("edgepull's limit EXTENSION_MAX; no real archive comes near"));
        }
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| Error::from_io(Kind::BadImage, error).context(place))?;
        if kind != EntryType::XHeader {
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            *(if kind == EntryType::GNULongName { &mut self.path } else { &mut self.link }) = Some(name);
            return Ok(());
        }
        for record in tar::PaxExtensions::new(&bytes) {
            let record = record.map_err(|error| Error::from_io(Kind::BadImage, error).context(place))?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                b"size" => self.size = record.value().ok().and_then(|size| size.parse().ok()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A member's name without the `./` that some tools put in front.
fn normal(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"./") {
        path = rest;
    }
    path
}

/// The command that decompresses a file that starts with `magic`.
fn decompressor(magic: &[u8]) -> Option<&'static str> {
    [(&b"\x1f\x8b"[..], "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")]
        .into_iter()
        .find_map(|(start, tool)| magic.starts_with(start).then_some(tool))
}

/// Reads a shared file at a position of its own: a file descriptor has only one, and a layer is read
/// while other members are looked up.
struct Cursor<'a> {
    file: &'a File,
    position: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl io::Seek for Cursor<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(position) => Some(position),
            io::SeekFrom::Current(by) => self.position.checked_add_signed(by),
            io::SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// A stretch of a shared file.
pub(super) struct Section {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if read == 0 && wanted > 0 {
            return Err(Error::new(Kind::BadImage, "the archive ends within a member").into());
        }
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
