//! Whiteouts (image-spec, layer.md): how a layer hides what the layers below it left.
//!
//! `.wh.NAME` hides NAME, `.wh..wh..opq` everything in its directory. Both are about lower layers only,
//! wherever in the archive they stand; what this layer wrote, the [`Written`] set knows. A directory
//! with something of this layer in it stays, and is emptied of the rest.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::directory::{Who, open_child};
use super::path::bad;
use super::remove::{Trash, each_entry, open};
use super::resolve::file_type;
use super::written::Written;

/// What whiteouts' names begin with.
const PREFIX: &[u8] = b".wh.";
/// How many directories that stay may be inside each other in what a whiteout hides: each level costs
/// an open directory.
const WHITEOUT_DEPTH_MAX: u32 = 128;

/// A name that is not a file's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// Hides this name.
    Name(&'a [u8]),
    /// Hides all.
    Opaque,
    /// A file that aufs keeps for itself (`.wh..wh.plnk`, …): nothing for us.
    Private,
}

/// Whether a member's name is a whiteout.
///
/// # Errors
/// [`crate::error::Kind::BadImage`] where it hides no name, the directory itself, or its parent.
pub(super) fn parse(name: &[u8]) -> io::Result<Option<Whiteout<'_>>> {
    let Some(hidden) = name.strip_prefix(PREFIX) else { return Ok(None) };
    Ok(Some(match hidden {
        b".wh..opq" => Whiteout::Opaque,
        private if private.starts_with(PREFIX) => Whiteout::Private,
        b"" | b"." | b".." => return Err(bad("a whiteout that hides no file")),
        hidden => Whiteout::Name(hidden),
    }))
}

/// What hiding needs.
pub(super) struct Hide<'a> {
    pub(super) written: &'a mut Written,
    pub(super) trash: &'a Trash,
    pub(super) who: Who,
}

impl Hide<'_> {
    /// Hides `name` in the directory `at`, whose inode is `inode`.
    pub(super) fn name(&mut self, at: BorrowedFd<'_>, inode: u64, name: &[u8]) -> io::Result<()> {
        self.hide(at, inode, name, WHITEOUT_DEPTH_MAX)
    }

    /// Hides everything in the directory `at`.
    pub(super) fn all(&mut self, at: BorrowedFd<'_>, inode: u64) -> io::Result<()> {
        self.empty(at, inode, WHITEOUT_DEPTH_MAX)
    }

    fn hide(&mut self, at: BorrowedFd<'_>, inode: u64, name: &[u8], depth: u32) -> io::Result<()> {
        let stat = match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        if file_type(&stat) != SFlag::S_IFDIR {
            return match self.written.has_name(inode, name)? {
                true => Ok(()),
                false => Ok(unlinkat(at, name, UnlinkatFlags::NoRemoveDir)?),
            };
        }
        if !self.written.has_directory(stat.st_ino)? {
            return self.trash.remove_tree(at, name);
        }
        let depth = depth.checked_sub(1).ok_or_else(|| {
            bad(format!("a whiteout goes deeper than WHITEOUT_DEPTH_MAX, {WHITEOUT_DEPTH_MAX} directories"))
        })?;
        let mut dir = open_child(at, name, self.who)?;
        dir.touch();
        self.empty(dir.fd(), dir.inode(), depth)?;
        dir.leave()
    }

    /// Once is enough: what comes into it afterwards is this layer's. A layer may say it for each of its files, and
    /// would have the directory listed as often.
    fn empty(&mut self, at: BorrowedFd<'_>, inode: u64, depth: u32) -> io::Result<()> {
        if self.written.is_emptied(inode)? {
            return Ok(());
        }
        let mut listing = open(at, b".")?;
        each_entry(&mut listing, |at, name, _| self.hide(at, inode, name, depth))?;
        self.written.insert_emptied(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_whiteouts() {
        assert_eq!(parse(b"file").unwrap(), None);
        assert_eq!(parse(b".wh").unwrap(), None);
        assert_eq!(parse(b".wh.file").unwrap(), Some(Whiteout::Name(b"file")));
        assert_eq!(parse(b".wh....").unwrap(), Some(Whiteout::Name(b"...")));
        assert_eq!(parse(b".wh..wh..opq").unwrap(), Some(Whiteout::Opaque));
        assert_eq!(parse(b".wh..wh.plnk").unwrap(), Some(Whiteout::Private));
        assert_eq!(parse(b".wh..wh.aufs").unwrap(), Some(Whiteout::Private));
        for hostile in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(parse(hostile).is_err(), "{hostile:?}");
        }
    }
}
