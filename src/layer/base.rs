//! An older tree of the same deployment, from which files that did not change are taken over instead of
//! written again: flash wears out, and most of a new layer is often the old one.
//!
//! A file is a candidate where the same path had one of the same size. What comes is compared with it as it
//! streams by. Where owner, mode and time are the same, too, the old file gets one more name; where they are
//! not, its data is shared by a reflink, on file systems that can.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::time::TimeSpec;
use nix::unistd::linkat;

use super::archive::Member;
use super::rootfs::path::split;
use super::rootfs::resolve::{Resolver, file_type};
use crate::sys;

/// How much of the old file is read at once, in bytes.
const BUFFER: usize = 16 * 1024;

/// The older tree.
pub(super) struct Base {
    root: OwnedFd,
    resolver: Resolver,
    /// The directory of the last candidate: files come in the order of their directories.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// This file system can share data between files; `None` until it was tried.
    pub(super) reflinks: Option<bool>,
    buffer: Box<[u8]>,
}

/// A file of the older tree that may be what is coming.
pub(super) struct Candidate {
    pub(super) file: File,
    stat: FileStat,
    name: Vec<u8>,
    /// Owner, mode and time are those of the member: it can be linked to.
    pub(super) same_metadata: bool,
}

impl Base {
    pub(super) fn new(root: OwnedFd) -> Base {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Base { root, resolver: Resolver::default(), parent: None, reflinks: None, buffer }
    }

    /// The old file at `clean`, if it may become `member`. Whatever fails here only means that the file is
    /// written.
    pub(super) fn candidate(&mut self, clean: &[u8], member: &Member) -> Option<Candidate> {
        // Empty files have no data to share, and attributes are not compared.
        if member.size == 0 || member.sparse || !member.xattrs.is_empty() {
            return None;
        }
        let (parent, name) = split(clean);
        if self.parent.as_ref().is_none_or(|(path, _)| path != parent) {
            let directory = self.resolver.directory(self.root.as_fd(), parent, None).ok()?;
            self.parent = Some((parent.to_vec(), directory));
        }
        let directory = self.parent.as_ref()?.1.as_fd();
        let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        if file_type(&stat) != SFlag::S_IFREG || u64::try_from(stat.st_size) != Ok(member.size) {
            return None;
        }
        let same_metadata = has_metadata(&stat, member);
        if !same_metadata && self.reflinks == Some(false) {
            return None;
        }
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_LARGEFILE;
        let file = File::from(openat(directory, name, flags, Mode::empty()).ok()?);
        let mut xattrs = false;
        sys::each_xattr(file.as_fd(), |_| xattrs = true);
        let same = same_file(&stat, &fstat(&file).ok()?);
        (same && !xattrs).then(|| Candidate { file, stat, name: name.to_vec(), same_metadata })
    }

    /// How many bytes of `chunk` the candidate has at `offset`: all of them, or those before the first
    /// difference.
    pub(super) fn equal(&mut self, candidate: &Candidate, offset: u64, chunk: &[u8]) -> io::Result<usize> {
        let mut equal = 0;
        while equal < chunk.len() {
            let most = (chunk.len() - equal).min(BUFFER);
            let read = candidate.file.read_at(&mut self.buffer[..most], offset + equal as u64)?;
            let (old, new) = (&self.buffer[..read], &chunk[equal..equal + read]);
            if read == 0 || old != new {
                return Ok(equal + old.iter().zip(new).take_while(|(old, new)| old == new).count());
            }
            equal += read;
        }
        Ok(equal)
    }

    /// Whether the candidate still begins with what was compared before an interruption: `length` bytes of this CRC.
    /// It is read again, as nothing else tells: its ctime changes with every name that it gets.
    pub(super) fn begins_with(&mut self, candidate: &Candidate, length: u64, crc: u32) -> bool {
        let mut is = crc32fast::Hasher::new();
        let read = self.copy(candidate, length, |bytes| {
            is.update(bytes);
            Ok(())
        });
        read.is_ok() && is.finalize() == crc
    }

    /// Gives the file of the last candidate one more name.
    pub(super) fn link(&self, candidate: &Candidate, at: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
        let (_, directory) = self.parent.as_ref().ok_or(Errno::ENOENT)?;
        linkat(directory, &candidate.name[..], at, name, AtFlags::empty())?;
        let linked = fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        // Somebody who is not edgepull has put another file there meanwhile.
        if same_file(&candidate.stat, &linked) { Ok(()) } else { Err(Errno::ESTALE) }
    }

    /// Gives the first `length` bytes of the candidate to `write`.
    pub(super) fn copy(
        &mut self,
        candidate: &Candidate,
        length: u64,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at = 0;
        while at < length {
            let most = usize::try_from(length - at).unwrap_or(BUFFER).min(BUFFER);
            let read = candidate.file.read_at(&mut self.buffer[..most], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write(&self.buffer[..read])?;
            at += read as u64;
        }
        Ok(())
    }
}

fn same_file(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Whether a file has the mode, owner and time that `member` says.
pub(super) fn has_metadata(stat: &FileStat, member: &Member) -> bool {
    let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    stat.st_mode & 0o7777 == member.mode
        && (stat.st_uid, stat.st_gid) == (member.uid, member.gid)
        && is_time(&mtime, &super::rootfs::timespec(member.mtime))
}

/// Whether `there` is what a file system makes of `time`: some have whole seconds only, and all have a first and a last
/// time, which those beyond become (ext4's last is in 2446, or in 2038; JFFS2's first is in 1970).
fn is_time(there: &TimeSpec, time: &TimeSpec) -> bool {
    // Seconds have 32 bits on some targets.
    let (is, should) = (i128::from(there.tv_sec()), i128::from(time.tv_sec()));
    let beyond = (should > is && is >= i32::MAX.into()) || (should < is && is <= 0);
    there == time || (there.tv_nsec() == 0 && (is == should || beyond))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_the_file_system_cannot_hold_is_the_one_that_it_made_of_it() {
        let time = |seconds, nanos| TimeSpec::new(seconds, nanos);
        let whole = time(1_700_000_000, 0);
        assert!(is_time(&whole, &whole) && is_time(&whole, &time(1_700_000_000, 5)));
        assert!(!is_time(&time(1_700_000_000, 5), &whole) && !is_time(&whole, &time(1_700_000_001, 0)));
        for (end, beyond) in [(i32::MAX as _, i32::MAX as _), (i32::MIN as _, i32::MIN as _), (0, -5)] {
            let nanos = if end == beyond { 1 } else { 0 };
            assert!(is_time(&time(end, 0), &time(beyond, nanos)), "{end} {beyond}");
        }
        assert!(!is_time(&time(0, 0), &time(5, 0)) && !is_time(&time(100, 0), &time(-5, 0)));
    }
}
