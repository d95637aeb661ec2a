//! The files of a kept layer, by number: the first file of the tar is 0. A file here has its data and its
//! metadata, and no name of the image's: roots link to it.
//!
//! A directory holds [`BUCKET`] of them, `objects/123/45`, for file systems that search theirs from end to end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The directory's name in the layer's.
const NAME: &str = "objects";
/// Files in one directory. ext4 searches each block of one from end to end whenever a name is made, found or
/// removed: with 1000, 100,000 files of 2 kB took a second more of 9.
const BUCKET: u64 = 100;

const DIRECTORY: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// A name with at most 20 digits.
pub(super) type Name = heapless::String<20>;

/// The files of one layer.
pub(super) struct Objects {
    dir: OwnedFd,
    /// The directory of the last one.
    bucket: Option<(u64, OwnedFd)>,
}

impl Objects {
    /// Opens them, or begins with none.
    pub(super) fn open(layer: BorrowedFd<'_>) -> io::Result<Objects> {
        Ok(Objects { dir: subdirectory(layer, NAME, true)?, bucket: None })
    }

    /// Opens what is there.
    pub(super) fn existing(layer: BorrowedFd<'_>) -> io::Result<Objects> {
        Ok(Objects { dir: subdirectory(layer, NAME, false)?, bucket: None })
    }

    /// Where number `number` is, or would be: directory and name. `create` makes the directory.
    pub(super) fn place(&mut self, number: u64, create: bool) -> io::Result<(BorrowedFd<'_>, Name)> {
        let wanted = number / BUCKET;
        if self.bucket.as_ref().is_none_or(|(open, _)| *open != wanted) {
            let dir = subdirectory(self.dir.as_fd(), &name(wanted), create)?;
            self.bucket = Some((wanted, dir));
        }
        let (_, dir) = self.bucket.as_ref().ok_or(Errno::ENOENT)?;
        Ok((dir.as_fd(), name(number % BUCKET)))
    }

    /// Makes number `number` by `make`; what a run that was interrupted left there makes room.
    pub(super) fn make<T>(
        &mut self,
        number: u64,
        mut make: impl FnMut(BorrowedFd<'_>, &str) -> nix::Result<T>,
    ) -> io::Result<T> {
        let (at, name) = self.place(number, true)?;
        match make(at, &name) {
            Err(Errno::EEXIST) => {
                unlinkat(at, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
                Ok(make(at, &name)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes all from number `from` on: files that came only in a run that was interrupted, and whose
    /// bytes were not the layer's.
    pub(super) fn cut(&mut self, from: u64) -> io::Result<()> {
        for number in from.. {
            let removed = self
                .place(number, false)
                .and_then(|(at, name)| Ok(unlinkat(at, name.as_str(), UnlinkatFlags::NoRemoveDir)?));
            match removed {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                other => other?,
            }
        }
        Ok(())
    }
}

fn name(number: u64) -> Name {
    let mut name = Name::new();
    // The largest number has 20 digits.
    let _ = std::fmt::Write::write_fmt(&mut name, format_args!("{number}"));
    name
}

fn subdirectory(at: BorrowedFd<'_>, name: &str, create: bool) -> io::Result<OwnedFd> {
    match openat(at, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) if create => {
            mkdirat(at, name, Mode::S_IRWXU)?;
            Ok(openat(at, name, DIRECTORY, Mode::empty())?)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn numbers_find_their_place_and_are_cut_from_one_on() {
        let home = tempfile::tempdir().unwrap();
        let layer = File::open(home.path()).unwrap();
        let mut objects = Objects::open(layer.as_fd()).unwrap();
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
        for number in (0..203).chain([5]) {
            objects.make(number, |at, name| openat(at, name, flags, Mode::S_IRWXU).map(drop)).unwrap();
        }
        let there = |path: &str| home.path().join("objects").join(path).exists();
        assert!(there("0/0") && there("0/99") && there("1/0") && there("2/2") && !there("2/3"));
        objects.cut(98).unwrap();
        assert!(there("0/97") && !there("0/98") && !there("0/99") && !there("1/0") && !there("2/2"));
        assert!(Objects::existing(layer.as_fd()).unwrap().place(5000, false).is_err());
    }
}
