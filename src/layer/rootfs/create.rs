//! Making what a member says, in the current directory. Nothing that exists is ever written to: it is
//! removed, and another inode takes its name, since the old one may have other names.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};

use super::directory::open_child;
use super::path::{Shown, bad, clean, split};
use super::resolve::file_type;
use super::warning::WarningKind;
use super::{Object, Rootfs};
use crate::layer::archive::{Member, MemberKind, Segment};

impl Rootfs {
    /// Makes `name` by `make`; what has that name already makes room.
    fn replace<T>(
        &mut self,
        name: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> io::Result<T> {
        let top = self.dirs.top();
        top.touch();
        match make(top.fd()) {
            Err(Errno::EEXIST) => {}
            other => return Ok(other?),
        }
        self.trash.remove(top.fd(), name)?;
        let made = make(top.fd());
        self.dirs.removed();
        Ok(made?)
    }

    /// Whether what is made in the current directory gets another group than ours.
    fn other_group(&mut self) -> bool {
        let who = self.metadata.who;
        self.dirs.top().gives_group(who)
    }

    /// A file has its data and its metadata already, and gets a name here.
    pub(super) fn file(
        &mut self,
        name: &[u8],
        member: &Member,
        object: Option<&Object<'_>>,
    ) -> io::Result<()> {
        let Some(object) = object else { return Err(io::ErrorKind::NotFound.into()) };
        let link = |at: BorrowedFd<'_>| linkat(object.dir, object.name, at, name, AtFlags::empty());
        match self.replace(name, link) {
            // As many names as the file system allows: 65,000 on ext4.
            Err(error) if error.raw_os_error() == Some(libc::EMLINK) => self.copy(name, member, object),
            other => other,
        }
    }

    fn copy(&mut self, name: &[u8], member: &Member, object: &Object<'_>) -> io::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut from = File::from(openat(object.dir, object.name, flags, Mode::empty())?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = self.metadata.first_mode(member.mode);
        let mut to = File::from(self.replace(name, |at| openat(at, name, flags, mode))?);
        let whole = [Segment { offset: 0, length: member.size }];
        // Without the holes: they may be larger than any disk.
        let segments = if member.sparse { &member.segments[..] } else { &whole };
        to.set_len(member.size)?;
        for segment in segments {
            self.dirs.room().bytes(segment.length)?;
            from.seek(SeekFrom::Start(segment.offset))?;
            to.seek(SeekFrom::Start(segment.offset))?;
            io::copy(&mut (&mut from).take(segment.length), &mut to)?;
        }
        let other_group = self.other_group();
        self.metadata.file(&to, member, other_group)
    }

    pub(super) fn directory(&mut self, clean: &[u8], name: &[u8], member: &Member) -> io::Result<()> {
        let who = self.metadata.who;
        let mode =
            self.metadata.first_mode(member.mode) | Mode::from_bits_truncate(0o700 * u32::from(who.rootless));
        let top = self.dirs.top();
        let (mut dir, existed) = match mkdirat(top.fd(), name, mode) {
            Ok(()) => {
                top.touch();
                (open_child(top.fd(), name, who)?, false)
            }
            Err(Errno::EEXIST) => match open_child(top.fd(), name, who) {
                Ok(dir) => (dir, true),
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                    self.replace(name, |at| mkdirat(at, name, mode))?;
                    (open_child(self.dirs.top().fd(), name, who)?, false)
                }
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error.into()),
        };
        self.metadata.directory(&mut dir, member, existed)?;
        if let Some(written) = &mut self.written {
            written.insert_directory(dir.inode())?;
        }
        self.dirs.descend(dir, clean, &mut self.written)
    }

    pub(super) fn symlink(&mut self, name: &[u8], member: &Member) -> io::Result<()> {
        if member.link.is_empty() || member.link.contains(&0) {
            return Err(bad("a symbolic link without a target"));
        }
        self.replace(name, |at| symlinkat(&member.link[..], at, name))?;
        self.node_metadata(name, member)
    }

    pub(super) fn node(&mut self, name: &[u8], member: &Member) -> io::Result<()> {
        let (kind, device) = match member.kind {
            MemberKind::CharDevice => (SFlag::S_IFCHR, true),
            MemberKind::BlockDevice => (SFlag::S_IFBLK, true),
            _ => (SFlag::S_IFIFO, false),
        };
        let (major, minor) = member.device;
        let number = makedev(major.into(), minor.into());
        let mode = Mode::from_bits_truncate(member.mode & 0o777);
        let rootless = self.metadata.who.rootless;
        let made = self.replace(name, |at| match device && rootless {
            true if fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() => Err(Errno::EEXIST),
            true => Err(Errno::EPERM),
            false => mknodat(at, name, kind, mode, number),
        });
        match made {
            Err(error) if device && error.raw_os_error() == Some(libc::EPERM) => {
                self.metadata.warnings.add(WarningKind::DeviceSkipped, &member.path);
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => self.node_metadata(name, member),
        }
    }

    fn node_metadata(&mut self, name: &[u8], member: &Member) -> io::Result<()> {
        let other_group = self.other_group();
        self.metadata.node(self.dirs.top().fd(), name, member, other_group)
    }

    /// A hard link. It has no metadata of its own; what its header says may not even be filled in.
    pub(super) fn hardlink(&mut self, name: &[u8], member: &Member) -> io::Result<()> {
        let mut target = std::mem::take(&mut self.target);
        let linked = clean(&member.link, &mut target).and_then(|()| self.link_to(name, &target));
        self.target = target;
        linked
    }

    fn link_to(&mut self, name: &[u8], target: &[u8]) -> io::Result<()> {
        let missing = || bad(format!("a hard link to {}, which is not there", Shown(target)));
        let (parent, target_name) = split(target);
        if target_name.is_empty() {
            return Err(bad("a hard link to the root"));
        }
        let from = match self.dirs.look_up(parent) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) =>
            {
                return Err(missing());
            }
            other => other?,
        };
        // In the root, without following the last component: the inode is one of ours.
        let stat = match fstatat(from.as_fd(), target_name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(missing()),
            other => other?,
        };
        if file_type(&stat) == SFlag::S_IFDIR {
            return Err(bad(format!("a hard link to {}, which is a directory", Shown(target))));
        }
        if let Ok(same) = fstatat(self.dirs.top().fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)
            && (same.st_dev, same.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        let made = self.replace(name, |at| linkat(from.as_fd(), target_name, at, name, AtFlags::empty()));
        match made {
            // It was inside the tree that made room for it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(missing()),
            other => other,
        }
    }
}
