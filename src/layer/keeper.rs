//! Members become a kept layer: files by number ([`Objects`]) and a record of all members ([`members`]). Where in
//! a root they belong does not matter yet, so nothing that is written here can be undone by what comes later in the
//! layer: after an interruption, whatever came after the checkpoint is simply cut off.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, umask};

use super::archive::{Member, MemberKind};
use super::base::{Base, Candidate};
use super::codec::{Input, put_bytes, put_number};
use super::members::{self, Totals, Writer};
use super::objects::Objects;
use super::room::{Phase, Room};
use super::rootfs::{self, Metadata, Warning, path};
use crate::error::{Error, Result};
use crate::sys;

/// Most segments of a sparse file in whose middle there can be a checkpoint.
const FROZEN_SEGMENTS_MAX: usize = 4096;
/// Data is handed to the disk after this many bytes, so that a checkpoint does not have to wait for all of it.
const WRITE_OUT: u64 = 1024 * 1024;

/// How it is said on the way out that a checkpoint does not fit what is on disk, or makes no sense.
const UNFIT: io::ErrorKind = io::ErrorKind::InvalidData;

/// Keeps the members of one layer.
pub(super) struct Keeper {
    dir: OwnedFd,
    room: Room,
    objects: Objects,
    log: Writer,
    metadata: Metadata,
    other_group: bool,
    base: Option<Base>,
    totals: Totals,
    /// Bytes of data that an older file had already.
    shared: u64,
    open: Option<Open>,
    clean: Vec<u8>,
}

/// The file whose data is coming.
struct Open {
    crc: crc32fast::Hasher,
    /// Bytes of data that came: for sparse files, without the holes.
    done: u64,
    data: Data,
}

enum Data {
    /// Into a new file; what was handed to the disk ends here.
    New(File, u64),
    /// As long as it is the same as this one's, nowhere.
    Old(Candidate),
}

/// Where a layer is kept, and how.
pub(super) struct Place {
    /// The layer's directory; nobody else's.
    pub(super) dir: OwnedFd,
    /// An older tree of the same image.
    pub(super) base: Option<OwnedFd>,
    /// As [`rootfs::Options::rootless`].
    pub(super) rootless: Option<bool>,
}

impl Keeper {
    /// Begins in an empty directory. Sets the process's umask to 0.
    pub(super) fn new(place: Place) -> Result<Keeper> {
        let made = open_log(place.dir.as_fd(), true).and_then(|file| Keeper::with(place, Writer::new(file)));
        made.map_err(failed)
    }

    fn with(place: Place, log: Writer) -> io::Result<Keeper> {
        umask(Mode::empty());
        let objects = Objects::open(place.dir.as_fd())?;
        let metadata = Metadata::new(place.dir.as_fd(), place.rootless);
        let stat = fstat(&place.dir)?;
        Ok(Keeper {
            room: Room::new(place.dir.as_fd(), Phase::Fetch)?,
            objects,
            log,
            other_group: stat.st_gid != metadata.who.gid,
            metadata,
            base: place.base.map(Base::new),
            totals: Totals::default(),
            shared: 0,
            open: None,
            clean: Vec::new(),
            dir: place.dir,
        })
    }

    /// The next member. For a file, data has to follow.
    pub(super) fn begin(&mut self, member: &Member) -> Result<()> {
        self.totals.entries += 1;
        self.try_begin(member).map_err(|error| rootfs::at_path(&member.path, error))
    }

    fn try_begin(&mut self, member: &Member) -> io::Result<()> {
        // A path that cannot be is refused now, not when the whole layer is here.
        path::clean(&member.path, &mut self.clean)?;
        self.room.entry()?;
        // What its record takes: more than one may be in a gzip bomb.
        self.room.bytes(member.weight())?;
        if member.kind != MemberKind::File {
            return self.log.push(member, 0);
        }
        let data = match self.base.as_mut().and_then(|base| base.candidate(&self.clean, member)) {
            Some(candidate) => Data::Old(candidate),
            None => Data::New(self.new_file(member)?, 0),
        };
        self.open = Some(Open { crc: crc32fast::Hasher::new(), done: 0, data });
        Ok(())
    }

    fn new_file(&mut self, member: &Member) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = self.metadata.first_mode(member.mode);
        let made = self.objects.make(self.totals.files, |at, name| openat(at, name, flags, mode));
        let file = File::from(made?);
        if member.sparse {
            file.set_len(member.size)?;
        }
        Ok(file)
    }

    /// Whether a file's data is coming.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The next bytes of the file's data.
    pub(super) fn write(&mut self, member: &Member, chunk: &[u8]) -> Result<()> {
        self.try_write(member, chunk).map_err(|error| rootfs::at_path(&member.path, error))
    }

    fn try_write(&mut self, member: &Member, mut chunk: &[u8]) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Err(io::ErrorKind::NotFound.into()) };
        open.crc.update(chunk);
        if let (Data::Old(candidate), Some(base)) = (&open.data, &mut self.base) {
            let equal = base.equal(candidate, open.done, chunk)?;
            open.done += equal as u64;
            chunk = &chunk[equal..];
        }
        if !chunk.is_empty() {
            self.room.bytes(chunk.len() as u64)?;
            if let Data::Old(candidate) = open.data {
                // It is not the old one after all.
                open.data = Data::New(self.copy_of(member, &candidate, open.done)?, 0);
            }
            if let Data::New(file, handed_over) = &mut open.data {
                match member.sparse {
                    false => file.write_all_at(chunk, open.done)?,
                    true => write_sparse(file, member, open.done, chunk, &mut self.room)?,
                }
                open.done += chunk.len() as u64;
                self.totals.written += chunk.len() as u64;
                if open.done - *handed_over >= WRITE_OUT {
                    sys::begin_write_out(file.as_fd(), *handed_over, open.done);
                    *handed_over = open.done;
                }
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// A new file that begins as the old one does.
    fn copy_of(&mut self, member: &Member, candidate: &Candidate, length: u64) -> io::Result<File> {
        let file = self.new_file(member)?;
        if let Some(base) = &mut self.base {
            let mut at = 0;
            let room = &mut self.room;
            base.copy(candidate, length, |bytes| {
                room.bytes(bytes.len() as u64)?;
                file.write_all_at(bytes, at)?;
                at += bytes.len() as u64;
                Ok(())
            })?;
            self.totals.written += length;
        }
        Ok(file)
    }

    /// All of the file's data has come.
    pub(super) fn end(&mut self, member: &Member) -> Result<()> {
        self.try_end(member).map_err(|error| rootfs::at_path(&member.path, error))
    }

    fn try_end(&mut self, member: &Member) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        match open.data {
            Data::New(file, _) => self.metadata.file(&file, member, self.other_group)?,
            Data::Old(candidate) => self.take_over(member, &candidate)?,
        }
        self.totals.files += 1;
        self.log.push(member, open.crc.finalize())
    }

    /// The old file is the new one.
    fn take_over(&mut self, member: &Member, candidate: &Candidate) -> io::Result<()> {
        let Some(base) = &self.base else { return Ok(()) };
        if candidate.same_metadata {
            match self.objects.make(self.totals.files, |at, name| base.link(candidate, at, name)) {
                // Too many names already, or another file system: then its data is copied.
                Err(error) => log::debug!("an old file cannot be linked to: {error}"),
                Ok(()) => {
                    self.shared += member.size;
                    return Ok(());
                }
            }
        }
        let file = match self.reflink(member, candidate)? {
            Some(file) => file,
            None => self.copy_of(member, candidate, member.size)?,
        };
        self.metadata.file(&file, member, self.other_group)
    }

    /// A new file that shares the old one's data; `None` where this file system cannot.
    fn reflink(&mut self, member: &Member, candidate: &Candidate) -> io::Result<Option<File>> {
        if self.base.as_ref().is_none_or(|base| base.reflinks == Some(false)) {
            return Ok(None);
        }
        let file = self.new_file(member)?;
        let shares = sys::reflink(candidate.file.as_fd(), file.as_fd()).is_ok();
        if let Some(base) = &mut self.base {
            base.reflinks = Some(shares);
        }
        if shares {
            self.shared += member.size;
        }
        Ok(shares.then_some(file))
    }

    /// All members have come. The record gets its end; making all of it durable is the caller's business.
    pub(super) fn finish(mut self, tar_bytes: u64) -> Result<Kept> {
        self.totals.tar_bytes = tar_bytes;
        let Keeper { totals, shared, .. } = self;
        let finished = self.objects.cut(totals.files).and_then(|()| self.log.finish(totals));
        let recorded = finished.map_err(failed)?;
        Ok(Kept {
            entries: totals.entries,
            written: totals.written + recorded,
            shared,
            warnings: self.metadata.warnings.into_list(),
        })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Whether there can be a checkpoint here: not within the data of a file whose map is too large for it.
    pub(super) fn can_freeze(&self, member: &Member) -> bool {
        self.open.is_none() || member.segments.len() <= FROZEN_SEGMENTS_MAX
    }

    /// What [`Keeper::thaw`] needs to go on from here. `member` is the one whose data is coming.
    pub(super) fn freeze(&mut self, member: &Member, out: &mut Vec<u8>) -> Result<()> {
        let (length, crc) = self.log.freeze().map_err(failed)?;
        put_number(out, length);
        put_number(out, crc.into());
        for number in [self.totals.entries, self.totals.files, self.totals.written, self.shared] {
            put_number(out, number);
        }
        out.push(u8::from(self.open.is_some()));
        if let Some(open) = &self.open {
            let mut alone = Vec::new();
            members::encode_alone(member, &mut alone);
            put_bytes(out, &alone);
            put_number(out, open.crc.clone().finalize().into());
            put_number(out, open.done);
            out.push(u8::from(matches!(open.data, Data::Old(_))));
        }
        Ok(())
    }

    /// Goes on where [`Keeper::freeze`] was called; with the member whose data is coming, if any. `Ok(None)`
    /// where what is on disk is not what it was then.
    pub(super) fn thaw(place: Place, input: &mut Input<'_>) -> Result<Option<(Keeper, Option<Member>)>> {
        match Keeper::try_thaw(place, input) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | UNFIT) => Ok(None),
            other => other.map(Some).map_err(failed),
        }
    }

    /// [`UNFIT`] where it does not fit.
    fn try_thaw(place: Place, input: &mut Input<'_>) -> io::Result<(Keeper, Option<Member>)> {
        let log = open_log(place.dir.as_fd(), false)?;
        let (length, crc) = (input.number().ok_or(UNFIT)?, input.small().ok_or(UNFIT)?);
        // Durable before the checkpoint was: what is shorter is not what was frozen.
        if log.metadata()?.len() < length {
            return Err(UNFIT.into());
        }
        let mut keeper = Keeper::with(place, Writer::thaw(log, length, crc)?)?;
        for number in [
            &mut keeper.totals.entries,
            &mut keeper.totals.files,
            &mut keeper.totals.written,
            &mut keeper.shared,
        ] {
            *number = input.number().ok_or(UNFIT)?;
        }
        let member = match input.byte().ok_or(UNFIT)? {
            0 => None,
            _ => Some(keeper.thaw_open(input)?),
        };
        Ok((keeper, member))
    }

    /// The file whose data was coming.
    fn thaw_open(&mut self, input: &mut Input<'_>) -> io::Result<Member> {
        let mut parse = || {
            let member = members::decode_alone(input.bytes()?)?;
            let crc = input.small()?;
            let done = input.number().filter(|done| *done <= member.size)?;
            Some((member, crc, done, input.byte()? != 0))
        };
        let (member, crc, done, is_old) = parse().ok_or(UNFIT)?;
        let data = match is_old {
            false => Data::New(self.reopen(&member, done)?, done),
            true => {
                path::clean(&member.path, &mut self.clean).map_err(|_| UNFIT)?;
                let base = self.base.as_mut().ok_or(UNFIT)?;
                let candidate = base.candidate(&self.clean, &member).ok_or(UNFIT)?;
                if !base.begins_with(&candidate, done, crc) {
                    return Err(UNFIT.into());
                }
                Data::Old(candidate)
            }
        };
        // An amount of 0 is right here: only the combination of two hashes asks for it.
        let crc = crc32fast::Hasher::new_with_initial_len(crc, 0);
        self.open = Some(Open { crc, done, data });
        Ok(member)
    }

    /// The file that was being written.
    fn reopen(&mut self, member: &Member, done: u64) -> io::Result<File> {
        let (at, name) = self.objects.place(self.totals.files, false)?;
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
        let open = || openat(at, name.as_str(), flags, Mode::empty());
        let opened = open().or_else(|error| {
            if error != Errno::EACCES {
                return Err(error);
            }
            // The run that was interrupted had ended it, with a mode that keeps its user from writing there.
            fchmodat(at, name.as_str(), Mode::S_IWUSR, FchmodatFlags::FollowSymlink)?;
            open()
        });
        let file = File::from(opened?);
        let length = if member.sparse { member.size } else { done };
        // As above.
        if file.metadata()?.len() < length {
            return Err(UNFIT.into());
        }
        file.set_len(length)?;
        Ok(file)
    }
}

/// A layer that is kept.
pub(super) struct Kept {
    pub(super) entries: u64,
    pub(super) written: u64,
    pub(super) shared: u64,
    pub(super) warnings: Vec<Warning>,
}

fn open_log(dir: BorrowedFd<'_>, create: bool) -> io::Result<File> {
    let how = if create { OFlag::O_CREAT | OFlag::O_EXCL } else { OFlag::empty() };
    let flags = how | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
    Ok(openat(dir, members::NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

fn failed(error: io::Error) -> Error {
    Error::disk("a kept layer", error)
}

/// Writes data that stands at `offset` of all data of a sparse file to the places where it belongs.
fn write_sparse(
    file: &File,
    member: &Member,
    offset: u64,
    mut chunk: &[u8],
    room: &mut Room,
) -> io::Result<()> {
    let mut skipped = 0;
    for segment in &member.segments {
        let end = skipped + segment.length;
        if end > offset && !chunk.is_empty() {
            let within = offset.saturating_sub(skipped);
            let most = usize::try_from(segment.length - within).unwrap_or(usize::MAX).min(chunk.len());
            // A byte among holes takes a block.
            room.entry()?;
            file.write_all_at(&chunk[..most], segment.offset + within)?;
            chunk = &chunk[most..];
        }
        skipped = end;
    }
    if chunk.is_empty() { Ok(()) } else { Err(path::bad("its data is longer than its sparse map")) }
}
