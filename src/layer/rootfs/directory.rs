//! The directories at work: open descriptors from the root down to where the current member belongs.
//!
//! Archives go through a tree in order, so the next member is mostly in the same directory or near it:
//! nearly every member costs no lookup at all. An open directory also remembers the times (and, where
//! not root, the mode) that it has to have, and gets them back when it is left. So directory times are
//! right at the end without a list of all directories, whatever is written into them.
//!
//! Each component is opened by itself, without following links. A path that does lead through a link
//! is resolved in the root as a whole, and stands alone: it is forgotten as soon as anything was
//! removed through it, since that may have been part of the way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::path::{bad, common};
use super::resolve::{IMPLIED_MODE, Resolver, file_type};
use super::written::Written;
use crate::layer::archive::Time;
use crate::layer::room::{Phase, Room};

/// Most directories that are kept open: deeper paths leave those near the root.
const OPEN_MAX: usize = 16;
/// What the owner needs to work in a directory.
const OWNER_ALL: u32 = 0o700;

/// Who writes, and what that changes.
#[derive(Debug, Clone, Copy)]
pub(in crate::layer) struct Who {
    pub(in crate::layer) uid: u32,
    pub(in crate::layer) gid: u32,
    /// Not root: no owners, no devices, and permission bits count for us too.
    pub(in crate::layer) rootless: bool,
}

/// An open directory.
pub(super) struct OpenDir {
    fd: OwnedFd,
    stat: FileStat,
    /// Access and modification time that it has to have when it is left.
    times: [TimeSpec; 2],
    /// The times have to be set again.
    dirty: bool,
    /// The mode that it has to have when it is left, where it differs from what we need meanwhile.
    mode_then: Option<u32>,
    /// The written set knows it.
    marked: bool,
    /// Where its path ends in [`Directories::path`].
    end: usize,
}

impl OpenDir {
    pub(super) fn new(fd: OwnedFd, who: Who) -> io::Result<OpenDir> {
        let stat = fstat(&fd)?;
        let times = [
            TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
            TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        ];
        let mut dir = OpenDir { fd, stat, times, dirty: false, mode_then: None, marked: false, end: 0 };
        let mode = dir.stat.st_mode & 0o7777;
        if who.rootless && mode & OWNER_ALL != OWNER_ALL {
            dir.set_mode(mode, who)?;
        }
        Ok(dir)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn inode(&self) -> u64 {
        self.stat.st_ino
    }

    /// Whether files that are made in it may get another group than `who`'s: in a setgid directory, or on a
    /// file system mounted with `grpid`, they get the directory's.
    pub(super) fn gives_group(&self, who: Who) -> bool {
        self.stat.st_gid != who.gid
    }

    /// Its times have to be set again, because something in it changes.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Gives it other times, when it is left.
    pub(super) fn set_time(&mut self, time: Time) {
        self.times = [timespec(time); 2];
        self.dirty = true;
    }

    /// Gives it another owner. `Ok(false)` where it has that already.
    pub(super) fn set_owner(&mut self, uid: u32, gid: u32) -> io::Result<bool> {
        if (self.stat.st_uid, self.stat.st_gid) == (uid, gid) {
            return Ok(false);
        }
        fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        (self.stat.st_uid, self.stat.st_gid) = (uid, gid);
        Ok(true)
    }

    /// Gives it another mode: at once as far as we can go on working in it, the rest when it is left.
    pub(super) fn set_mode(&mut self, mode: u32, who: Who) -> io::Result<()> {
        let now = if who.rootless { mode | OWNER_ALL } else { mode };
        if self.stat.st_mode & 0o7777 != now {
            fchmod(&self.fd, Mode::from_bits_truncate(now))?;
            self.stat.st_mode = self.stat.st_mode & !0o7777 | now;
        }
        self.mode_then = (now != mode).then_some(mode);
        Ok(())
    }

    /// Removes `name`, where that is a file or a device of a lower layer, and a member of this one implies a directory in
    /// its place; says whether it did. Overlayfs shows the directory of the upper layer then, as Docker and podman do. A
    /// link is followed, and a file of the same layer stays in the way.
    fn gives_way(&mut self, name: &[u8], written: &Option<Written>) -> io::Result<bool> {
        let Some(written) = written else { return Ok(false) };
        let stat = fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let is_in_the_way = !matches!(file_type(&stat), SFlag::S_IFDIR | SFlag::S_IFLNK);
        if !is_in_the_way || written.has_name(self.inode(), name)? {
            return Ok(false);
        }
        self.touch();
        unlinkat(self.fd(), name, UnlinkatFlags::NoRemoveDir)?;
        Ok(true)
    }

    /// Makes mode and times what they have to be.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            futimens(&self.fd, &self.times[0], &self.times[1])?;
        }
        if let Some(mode) = self.mode_then.take() {
            fchmod(&self.fd, Mode::from_bits_truncate(mode))?;
        }
        Ok(())
    }
}

/// The kernel's form of a time. Where that has 32 bits, times beyond them become the last or first.
pub(in crate::layer) fn timespec(time: Time) -> TimeSpec {
    TimeSpec::new(narrow(time.seconds), time.nanos as _)
}

/// `T` is the C library's `time_t`, which may not be named (its width changes in musl).
fn narrow<T: TryFrom<i64> + From<i32>>(seconds: i64) -> T {
    let end = if seconds < 0 { i32::MIN } else { i32::MAX };
    T::try_from(seconds).unwrap_or_else(|_| T::from(end))
}

/// Opens a directory without following a link; gives itself permission where it has none.
pub(super) fn open_child(parent: BorrowedFd<'_>, name: &[u8], who: Who) -> io::Result<OpenDir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::EACCES) if who.rootless => {
            let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if file_type(&stat) != SFlag::S_IFDIR {
                return Err(Errno::ENOTDIR.into());
            }
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            let mut dir = OpenDir::new(openat(parent, name, flags, Mode::empty())?, who)?;
            dir.mode_then = Some(stat.st_mode & 0o7777);
            Ok(dir)
        }
        other => OpenDir::new(other?, who),
    }
}

/// Whether opening a directory failed by what is there: a file, or a link, which is not followed.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP))
}

/// The way from the root to the current directory.
pub(super) struct Directories {
    root: OpenDir,
    /// The open directories on the way; some near the root may have been left already.
    open: Vec<OpenDir>,
    /// The path of the last one.
    path: Vec<u8>,
    /// The path led through a link: `open` is just the one directory it led to.
    through_link: bool,
    /// Something was removed where the path led through a link.
    stale: bool,
    resolver: Resolver,
    who: Who,
    room: Room,
}

impl Directories {
    pub(super) fn new(root: OwnedFd, resolver: Resolver, who: Who) -> io::Result<Directories> {
        let room = Room::new(root.as_fd(), Phase::Compose)?;
        Ok(Directories {
            room,
            root: OpenDir::new(root, who)?,
            open: Vec::with_capacity(OPEN_MAX),
            path: Vec::new(),
            through_link: false,
            stale: false,
            resolver,
            who,
        })
    }

    /// What is left of the file system.
    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// The current directory.
    pub(super) fn top(&mut self) -> &mut OpenDir {
        self.open.last_mut().unwrap_or(&mut self.root)
    }

    pub(super) fn root(&mut self) -> &mut OpenDir {
        &mut self.root
    }

    /// Something was removed from the current directory.
    pub(super) fn removed(&mut self) {
        self.stale = true;
    }

    /// Makes `parent` (a clean path) the current directory. `Ok(false)` where it does not exist, and
    /// `create` did not ask for it to be made.
    pub(super) fn enter(
        &mut self,
        parent: &[u8],
        create: bool,
        written: &mut Option<Written>,
    ) -> io::Result<bool> {
        if self.through_link {
            if self.path == parent && !self.stale {
                return Ok(true);
            }
            self.leave_to(0)?;
        }
        self.leave_to(common(&self.path, parent))?;
        let mut at = self.open.last().map_or(0, |dir| dir.end);
        while at < parent.len() {
            let start = at + usize::from(at > 0);
            let end =
                parent[start..].iter().position(|byte| *byte == b'/').map_or(parent.len(), |n| start + n);
            match self.step(&parent[start..end], create, written) {
                Ok(Some(dir)) => self.push(dir, &parent[..end], written)?,
                Ok(None) => return Ok(false),
                Err(error) if is_no_directory(&error) => {
                    return self.enter_through_link(parent, create);
                }
                Err(error) => return Err(error),
            }
            at = end;
        }
        Ok(true)
    }

    /// Opens, or makes, a directory in the current one.
    fn step(&mut self, name: &[u8], create: bool, written: &Option<Written>) -> io::Result<Option<OpenDir>> {
        let who = self.who;
        let top = self.top();
        match open_child(top.fd(), name, who) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if create && is_no_directory(&error) && top.gives_way(name, written)? => {}
            other => return other.map(Some),
        }
        if !create {
            return Ok(None);
        }
        self.room.entry()?;
        let top = self.top();
        mkdirat(top.fd(), name, Mode::from_bits_truncate(IMPLIED_MODE))?;
        top.touch();
        let mut dir = open_child(top.fd(), name, who)?;
        if !who.rootless {
            dir.set_owner(who.uid, who.gid)?;
        }
        dir.set_mode(IMPLIED_MODE, who)?;
        Ok(Some(dir))
    }

    fn enter_through_link(&mut self, parent: &[u8], create: bool) -> io::Result<bool> {
        self.leave_to(0)?;
        let room = create.then_some(&mut self.room);
        let found = match self.resolver.directory(self.root.fd(), parent, room) {
            // Neither there nor below a file is anything to hide.
            Err(error) if !create && matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Ok(false);
            }
            other => other.map_err(|error| match error.raw_os_error() {
                Some(libc::ENOTDIR) => bad("its parent is not a directory"),
                Some(libc::ELOOP) => bad("its parent leads through too many links"),
                _ => error,
            })?,
        };
        let mut dir = open_child(found.as_fd(), b".", self.who)?;
        dir.end = parent.len();
        self.open.push(dir);
        self.path.clear();
        self.path.extend_from_slice(parent);
        self.through_link = true;
        Ok(true)
    }

    /// Makes `dir`, which is `name` in the current directory, the current one.
    pub(super) fn descend(
        &mut self,
        mut dir: OpenDir,
        clean: &[u8],
        written: &mut Option<Written>,
    ) -> io::Result<()> {
        // A way through a link is one directory and no more.
        if self.through_link { dir.leave() } else { self.push(dir, clean, written) }
    }

    fn push(&mut self, mut dir: OpenDir, path: &[u8], written: &mut Option<Written>) -> io::Result<()> {
        if self.open.len() == OPEN_MAX {
            let mut first = self.open.remove(0);
            first.leave()?;
            if let (Some(written), false) = (written, first.marked) {
                written.insert_directory(first.inode())?;
            }
        }
        dir.end = path.len();
        self.open.push(dir);
        self.path.clear();
        self.path.extend_from_slice(path);
        Ok(())
    }

    /// Leaves all directories deeper than the first `end` bytes of the path.
    fn leave_to(&mut self, end: usize) -> io::Result<()> {
        while let Some(mut dir) = self.open.pop_if(|dir| dir.end > end) {
            dir.leave()?;
        }
        self.path.truncate(self.open.last().map_or(0, |dir| dir.end));
        if self.open.is_empty() {
            (self.through_link, self.stale) = (false, false);
        }
        Ok(())
    }

    /// Leaves all directories, the root too.
    pub(super) fn leave_all(&mut self) -> io::Result<()> {
        self.leave_to(0)?;
        self.root.leave()
    }

    /// Tells the written set that something was written in the current directory: in this one, and so
    /// in all above it.
    pub(super) fn mark(&mut self, written: &mut Written) -> io::Result<()> {
        if self.through_link {
            return self.mark_ancestors(written);
        }
        for dir in self.open.iter_mut().rev().take_while(|dir| !dir.marked) {
            written.insert_directory(dir.inode())?;
            dir.marked = true;
        }
        Ok(())
    }

    /// The same where the directories above are not on the path: they are found by way of `..`.
    fn mark_ancestors(&mut self, written: &mut Written) -> io::Result<()> {
        let root = self.root.inode();
        let Some(dir) = self.open.last_mut().filter(|dir| !dir.marked) else { return Ok(()) };
        let mut inode = dir.inode();
        let mut at = dir.fd.try_clone()?;
        // Where something was written before, all above is known, too.
        while inode != root && !written.has_directory(inode)? {
            written.insert_directory(inode)?;
            at = openat(&at, "..", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            inode = fstatat(&at, "", AtFlags::AT_EMPTY_PATH)?.st_ino;
        }
        dir.marked = true;
        Ok(())
    }

    /// The directory at `path` for a lookup, without making it current.
    pub(super) fn look_up(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        if !self.through_link && self.path == path {
            return self.top().fd.try_clone();
        }
        self.resolver.directory(self.root.fd(), path, None)
    }
}
