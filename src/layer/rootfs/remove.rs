//! Removal of what is in the way: files by `unlink`, trees by way of the trash.
//!
//! A tree is renamed into the scratch directory and taken apart there, flat: subdirectories move up
//! beside it and wait their turn, by number. However deep or wide a tree is, this needs one open
//! directory and no memory for paths.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How deep a tree may be that cannot be renamed into the trash (another file system below the root):
/// each level costs an open directory.
const DEPTH_MAX: u32 = 64;

/// Where trees go to be taken apart.
pub(super) struct Trash {
    scratch: OwnedFd,
    /// Sets this trash's names apart from what a killed process has left in the same directory.
    mark: u32,
    /// Not root: directories may need another mode before they let go of what is in them.
    rootless: bool,
}

impl Trash {
    pub(super) fn new(scratch: OwnedFd, rootless: bool) -> Trash {
        let mark = RandomState::new().hash_one(0) as u32;
        Trash { scratch, mark, rootless }
    }

    /// Removes `name` from `parent`, whatever it is. Links are not followed.
    pub(super) fn remove(&self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => self.remove_tree(parent, name),
            other => Ok(other?),
        }
    }

    /// Removes a directory with everything in it.
    pub(super) fn remove_tree(&self, parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        // Most directories that are replaced are empty.
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            other => return Ok(other?),
        }
        let (mut next, mut waiting) = (0u64, 0u64);
        match self.discard(parent, name, waiting) {
            Err(Errno::EXDEV) => return self.remove_in_place(parent, name, DEPTH_MAX),
            other => other?,
        }
        while next <= waiting {
            self.take_apart(next, &mut waiting)?;
            next += 1;
        }
        Ok(())
    }

    /// Moves a directory into the trash, as number `number`.
    fn discard(&self, parent: BorrowedFd<'_>, name: &[u8], number: u64) -> nix::Result<()> {
        // Moving a directory changes its `..`, which takes permission to write to it.
        self.unlock(parent, name)?;
        renameat(parent, name, self.scratch.as_fd(), self.name(number).as_bytes())
    }

    /// Empties a directory of the trash and removes it; its subdirectories get the next numbers.
    fn take_apart(&self, number: u64, waiting: &mut u64) -> io::Result<()> {
        let name = self.name(number);
        let name = name.as_bytes();
        let mut dir = open(self.scratch.as_fd(), name)?;
        loop {
            let gone = each_entry(&mut dir, |at, entry, kind| {
                if kind != Some(Type::Directory) {
                    match unlinkat(at, entry, UnlinkatFlags::NoRemoveDir) {
                        Err(Errno::EISDIR) => {}
                        other => return Ok(other?),
                    }
                }
                *waiting += 1;
                Ok(self.discard(at, entry, *waiting)?)
            })?;
            match unlinkat(self.scratch.as_fd(), name, UnlinkatFlags::RemoveDir) {
                // The listing may miss entries while it loses others: read it again.
                Err(Errno::ENOTEMPTY | Errno::EEXIST) if gone > 0 => {}
                other => return Ok(other?),
            }
        }
    }

    fn remove_in_place(&self, parent: BorrowedFd<'_>, name: &[u8], depth: u32) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or(Errno::ENOTEMPTY)?;
        self.unlock(parent, name)?;
        let mut dir = open(parent, name)?;
        each_entry(&mut dir, |at, entry, _| match unlinkat(at, entry, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => self.remove_in_place(at, entry, depth),
            other => Ok(other?),
        })?;
        Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
    }

    fn name(&self, number: u64) -> heapless::String<40> {
        let mut name = heapless::String::new();
        // "trash-", 8 digits, "-" and 20 digits fit.
        let _ = std::fmt::Write::write_fmt(&mut name, format_args!("trash-{:08x}-{number}", self.mark));
        name
    }

    /// Gives the owner all permissions on a directory (the caller knows that it is one, not a link).
    fn unlock(&self, parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
        if self.rootless {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
        }
        Ok(())
    }
}

/// Empties a directory, however deep or wide: it is its own trash, so this needs little memory and two descriptors.
///
/// # Errors
/// Those of the system calls.
pub fn empty(directory: BorrowedFd<'_>) -> io::Result<()> {
    let trash = Trash::new(directory.try_clone_to_owned()?, true);
    let mut dir = open(directory, b".")?;
    while each_entry(&mut dir, |at, name, _| match trash.remove(at, name) {
        // What was listed may have been moved and taken apart meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    })? > 0
    {}
    Ok(())
}

/// Removes `name` from `directory`, whatever it is and however deep or wide: the directory is its trash.
///
/// # Errors
/// Those of the system calls; none where it is not there.
pub fn remove(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let trash = Trash::new(directory.try_clone_to_owned()?, true);
    match trash.remove(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a directory for listing, without following a link.
pub(super) fn open(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<Dir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(Dir::openat(parent, name, flags, Mode::empty())?)
}

/// Calls `each` for all entries but `.` and `..`. Returns how many there were.
pub(super) fn each_entry(
    dir: &mut Dir,
    mut each: impl FnMut(BorrowedFd<'_>, &[u8], Option<Type>) -> io::Result<()>,
) -> io::Result<u64> {
    let at = dir.as_fd().try_clone_to_owned()?;
    let mut count = 0;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            count += 1;
            each(at.as_fd(), name, entry.file_type())?;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_deeper_than_any_path_goes_and_the_victim_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["root", "scratch", "victim"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("victim/file"), "v").unwrap();
        let root = File::open(dir.path().join("root")).unwrap();
        // Deeper than PATH_MAX allows by name, and than there are descriptors.
        let mut at: OwnedFd = root.try_clone().unwrap().into();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            nix::unistd::symlinkat("/", &at, "link").unwrap();
            at = nix::fcntl::openat(&at, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        symlink(dir.path().join("victim"), dir.path().join("root/d/out")).unwrap();
        let trash = Trash::new(File::open(dir.path().join("scratch")).unwrap().into(), true);
        trash.remove(root.as_fd(), b"d").unwrap();
        trash.remove(root.as_fd(), b"link").unwrap();
        for empty in ["root", "scratch"] {
            assert_eq!(fs::read_dir(dir.path().join(empty)).unwrap().count(), 0, "{empty}");
        }
        assert!(dir.path().join("victim/file").exists());
    }

    #[test]
    fn a_tree_that_cannot_move_goes_in_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::write(dir.path().join("a/b/file"), "x").unwrap();
        let fd: OwnedFd = File::open(dir.path()).unwrap().into();
        Trash::new(fd.try_clone().unwrap(), true).remove_in_place(fd.as_fd(), b"a", DEPTH_MAX).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
