//! A layer that is kept whole: applied to a root as often as wanted, without its tar, and checked.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::Stats;
use super::archive::{Member, MemberKind};
use super::base::has_metadata;
use super::members::{self, Reader, Totals};
use super::objects::Objects;
use super::queue;
use super::rootfs::{Object, Rootfs};
use crate::error::{Error, Kind, Result};
use crate::sys;

/// A kept layer.
pub struct Kept {
    dir: OwnedFd,
    reader: Reader,
    totals: Totals,
}

impl Kept {
    /// Opens the layer in `dir`. `Ok(None)` where there is none that is whole: its record is missing, was
    /// not finished, is damaged, or can have been written by another user.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn open(dir: OwnedFd) -> Result<Option<Kept>> {
        let file = match open_file(dir.as_fd(), members::NAME) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Something else than a file, or a link: as good as nothing.
            Err(error) if is_no_file(&error) => return Ok(None),
            other => other.map_err(|error| Error::disk("a kept layer", error))?,
        };
        let metadata = file.metadata().map_err(|error| Error::disk("a kept layer", error))?;
        if let Some(who) = sys::written_by_others(&metadata) {
            log::warn!("a kept layer counts as lost, as others may have written its record: {who}");
            return Ok(None);
        }
        let whole = Reader::open(file)?;
        Ok(whole.map(|(reader, totals)| Kept { dir, reader, totals }))
    }

    /// What is in it. Nothing of that was fetched, or written.
    pub fn stats(&self) -> Stats {
        Stats { entries: self.totals.entries, tar_bytes: self.totals.tar_bytes, ..Stats::default() }
    }

    /// Bytes of its data that were written when it was fetched.
    pub fn written(&self) -> u64 {
        self.totals.written
    }

    /// Applies it to a root, on top of what is there. Files are not copied: they get one more name.
    ///
    /// # Errors
    /// [`Kind::BadImage`] for members that make no sense where they are, [`Kind::Disk`].
    pub fn apply(mut self, root: &mut Rootfs) -> Result<()> {
        let mut objects = Objects::existing(self.dir.as_fd()).map_err(damaged)?;
        let (mut member, mut files) = (Member::default(), 0);
        root.begin_layer()?;
        while self.reader.next(&mut member)?.is_some() {
            if member.kind == MemberKind::File {
                let (dir, name) = objects.place(files, false).map_err(damaged)?;
                root.apply(&member, Some(&Object { dir, name: name.as_str() }))?;
                files += 1;
            } else {
                root.apply(&member, None)?;
            }
        }
        root.finish_layer()
    }

    /// Holds every file against what was recorded when it came: data, size, owner, mode and time. `found` hears of
    /// each that differs, and how.
    ///
    /// # Errors
    /// [`Kind::Disk`], where not even that can be said.
    pub fn check(mut self, rootless: bool, mut found: impl FnMut(&Member, &str)) -> Result<()> {
        let mut objects = Objects::existing(self.dir.as_fd()).map_err(damaged)?;
        let (mut member, mut files) = (Member::default(), 0);
        let mut buffer = vec![0; queue::BUFFER_SIZE];
        while let Some(crc) = self.reader.next(&mut member)? {
            if member.kind != MemberKind::File {
                continue;
            }
            let opened = objects.place(files, false).and_then(|(at, name)| open_file(at, name.as_str()));
            files += 1;
            match opened.and_then(|file| differs(&file, &member, crc, rootless, &mut buffer)) {
                Ok(None) => {}
                Ok(Some(how)) => found(&member, how),
                Err(error) if error.kind() == io::ErrorKind::NotFound => found(&member, "its data is gone"),
                Err(error) => found(&member, &format!("it cannot be read: {error}")),
            }
        }
        Ok(())
    }
}

/// Opens what has to be a file to read it: nothing there can make us wait, or lead elsewhere.
fn open_file(at: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags =
        OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
    let file = File::from(openat(at, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file")),
    }
}

fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

fn damaged(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::new(Kind::Disk, "files of a kept layer are gone").hint(
            "edgepull verify --repair fetches them again; what no generation has yet, edgepull gc makes go",
        ),
        _ => Error::disk("a kept layer", error),
    }
}

/// How `file` is not what `member` says.
fn differs(
    file: &File,
    member: &Member,
    crc: u32,
    rootless: bool,
    buffer: &mut [u8],
) -> io::Result<Option<&'static str>> {
    let mut stat = fstat(file)?;
    if u64::try_from(stat.st_size) != Ok(member.size) {
        return Ok(Some("its size differs"));
    }
    if rootless {
        (stat.st_uid, stat.st_gid) = (member.uid, member.gid);
    }
    if crc_of(file, member, buffer)? != crc {
        return Ok(Some("its content differs"));
    }
    Ok((!has_metadata(&stat, member)).then_some("its owner, mode or time differs"))
}

/// The CRC of a file's data; of a sparse file's without the holes.
fn crc_of(file: &File, member: &Member, buffer: &mut [u8]) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut stretch = |offset: u64, length: u64| {
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact_at(&mut buffer[..most], at)?;
            crc.update(&buffer[..most]);
            at += most as u64;
        }
        io::Result::Ok(())
    };
    match member.sparse {
        false => stretch(0, member.size)?,
        true => member.segments.iter().try_for_each(|segment| stretch(segment.offset, segment.length))?,
    }
    Ok(crc.finalize())
}
