//! The only code that writes into a root file system.
//!
//! A member's path is cleaned as text first. Its parent becomes the current directory
//! (an open descriptor, reached without leaving the root), and the last component is then only ever used by
//! itself, relative to that descriptor, by calls that don't follow links. So nothing outside the root
//! can be touched or read, whatever links an image makes.
//!
//! The root must be nobody else's meanwhile: a fresh directory that other users can't enter.

mod compare;
mod create;
mod directory;
mod metadata;
pub(super) mod path;
mod remove;
pub(super) mod resolve;
mod warning;
mod whiteout;
mod written;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::stat::{Mode, umask};

pub use compare::compare;
pub use remove::{empty, remove};
pub use resolve::open_in_root;
pub use warning::{Warning, WarningKind, merge};

pub(super) use directory::timespec;
pub(super) use metadata::Metadata;

use super::archive::{Member, MemberKind};
use crate::error::{Error, Kind, Result};
use directory::Directories;
use path::{Shown, bad, clean, split};
use remove::Trash;
use resolve::Resolver;
use whiteout::{Hide, Whiteout};
use written::Written;

/// How a root is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether owners and devices are out of reach. `None`: unless the effective user is root.
    pub rootless: Option<bool>,
    /// Resolve links by a walk, as on kernels without `openat2`.
    pub emulate_openat2: bool,
}

/// A regular file that is there already, with its data and its metadata, and gets a name in the root. It is on
/// the same file system.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The directory that it is in.
    pub dir: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a str,
}

/// A root file system that layers are applied to, lowest first.
pub struct Rootfs {
    dirs: Directories,
    metadata: Metadata,
    trash: Trash,
    scratch: OwnedFd,
    /// How many layers were begun.
    layers: u32,
    /// What the current layer wrote; not needed for the lowest.
    written: Option<Written>,
    entries: u64,
    /// The member's path and a hard link's target, cleaned.
    clean: Vec<u8>,
    target: Vec<u8>,
}

/// What became of a root.
#[derive(Debug)]
pub struct Summary {
    /// Members of all layers, whiteouts included.
    pub entries: u64,
    /// What could not be kept; at most one of each kind.
    pub warnings: Vec<Warning>,
}

impl Rootfs {
    /// Begins to fill `dir`, an empty directory. `scratch` is another one on the same file system, for
    /// what is being removed; it is empty again at the end. Sets the process's umask to 0.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn open(dir: OwnedFd, scratch: OwnedFd, options: Options) -> Result<Rootfs> {
        umask(Mode::empty());
        let metadata = Metadata::new(dir.as_fd(), options.rootless);
        let who = metadata.who;
        let resolver = Resolver { emulate: options.emulate_openat2 };
        let made = || {
            let dirs = Directories::new(dir, resolver, who)?;
            let trash = Trash::new(scratch.try_clone()?, who.rootless);
            io::Result::Ok((dirs, trash))
        };
        let (dirs, trash) = made().map_err(|error| Error::disk("the root file system", error))?;
        Ok(Rootfs {
            dirs,
            metadata,
            trash,
            scratch,
            layers: 0,
            written: None,
            entries: 0,
            clean: Vec::new(),
            target: Vec::new(),
        })
    }

    /// The next layer begins: whiteouts hide what was written until now.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn begin_layer(&mut self) -> Result<()> {
        self.layers += 1;
        self.written = match self.layers {
            1 => None,
            _ => {
                let scratch = self.scratch.try_clone();
                Some(Written::new(scratch.map_err(|error| Error::disk("the root file system", error))?))
            }
        };
        Ok(())
    }

    /// Makes what `member` says. A file is not made, but linked to: `object`.
    ///
    /// # Errors
    /// [`Kind::BadImage`] for members that make no sense, [`Kind::Disk`] for failed file system calls, each
    /// with the member's path.
    pub fn apply(&mut self, member: &Member, object: Option<&Object<'_>>) -> Result<()> {
        self.entries += 1;
        let mut path = std::mem::take(&mut self.clean);
        let placed = clean(&member.path, &mut path).and_then(|()| self.place(&path, member, object));
        self.clean = path;
        placed.map_err(|error| at_path(&member.path, error))
    }

    fn place(&mut self, clean: &[u8], member: &Member, object: Option<&Object<'_>>) -> io::Result<()> {
        let (parent, name) = split(clean);
        if name.is_empty() {
            return match member.kind {
                MemberKind::Directory => self.metadata.directory(self.dirs.root(), member, true),
                _ => Err(bad("the root can only be a directory")),
            };
        }
        if let Some(whiteout) = whiteout::parse(name)? {
            return self.hide(parent, &whiteout);
        }
        self.dirs.room().entry()?;
        self.dirs.enter(parent, true, &mut self.written)?;
        match member.kind {
            MemberKind::File => self.file(name, member, object)?,
            MemberKind::Hardlink => self.hardlink(name, member)?,
            MemberKind::Symlink => self.symlink(name, member)?,
            MemberKind::Directory => self.directory(clean, name, member)?,
            MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => self.node(name, member)?,
        }
        if let Some(written) = &mut self.written {
            if member.kind != MemberKind::Directory {
                written.insert_name(self.dirs.top().inode(), name)?;
            }
            self.dirs.mark(written)?;
        }
        Ok(())
    }

    fn hide(&mut self, parent: &[u8], whiteout: &Whiteout<'_>) -> io::Result<()> {
        // Below the lowest layer there is nothing, and in a directory that is not there neither.
        if self.written.is_none() || !self.dirs.enter(parent, false, &mut self.written)? {
            return Ok(());
        }
        let Some(written) = &mut self.written else { return Ok(()) };
        let mut hide = Hide { written, trash: &self.trash, who: self.metadata.who };
        let top = self.dirs.top();
        match whiteout {
            Whiteout::Private => return Ok(()),
            Whiteout::Name(name) => {
                top.touch();
                hide.name(top.fd(), top.inode(), name)?;
            }
            Whiteout::Opaque => {
                top.touch();
                hide.all(top.fd(), top.inode())?;
            }
        }
        self.dirs.removed();
        Ok(())
    }

    /// The current layer is complete: directories get their times and modes.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn finish_layer(&mut self) -> Result<()> {
        self.written = None;
        self.dirs.leave_all().map_err(|error| Error::disk("the root file system", error))
    }

    /// All layers are complete. Making them durable is the business of whoever makes them visible.
    ///
    /// # Errors
    /// [`Kind::Disk`].
    pub fn finish(mut self) -> Result<Summary> {
        self.finish_layer()?;
        Ok(Summary { entries: self.entries, warnings: self.metadata.warnings.into_list() })
    }

    /// What could not be kept so far; at most one of each kind.
    pub fn warnings(&self) -> &[Warning] {
        self.metadata.warnings.list()
    }

    /// The directory that is being filled.
    pub fn root(&mut self) -> std::os::fd::BorrowedFd<'_> {
        self.dirs.root().fd()
    }
}

/// Says which member failed, unless the failure is not the member's but its source's.
pub(super) fn at_path(path: &[u8], error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) if matches!(own.kind(), Kind::BadImage | Kind::Disk) => own.context(Shown(path)),
        Ok(own) => own,
        // Cleaned paths are short enough; the kernel's limit is for the way through links.
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
            Error::new(Kind::BadImage, format!("{}: the path is too long for the kernel", Shown(path)))
        }
        Err(error) => Error::disk(Shown(path), error),
    }
}
