//! A destination that is either as it was or whole.
//!
//! A pull into `DIR` keeps its layers in `.NAME.edgepull/work` beside it, on the same file system, and links their
//! files into `.NAME.edgepull/work/tree`: whoever fetches for it writes there, and nowhere else. When everything is
//! verified and durable, one rename makes that visible; until then nobody can see it, and whatever ends the pull
//! leaves `DIR` as it was. The order, which a power cut cannot spoil: data → syncfs → rename → fsync of the parent.
//! A `flock` on a file in the staging directory dies with its holder, so what an ended pull has left there is known
//! to be nobody's: its layers, whole and begun, are where the next pull goes on.

use super::disk::{check_directory, open_directory};
use super::layers::{LAYERS, Layers, PARTIAL};
use crate::error::{Error, Kind, Result};
use crate::layer::rootfs;
use crate::links;
use crate::sandbox::{self, ENDING};
use crate::sys;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Names the directory in the staging directory that holds everything made of what was fetched.
const WORK: &str = "work";
/// Names the tree in it, which becomes the destination.
const TREE: &str = "tree";
/// Where the old tree waits between the two renames of a kernel that cannot exchange.
const REPLACED: &str = "replaced";
/// Names the file that is locked. The process that fetches for this one has a lock of its own, on the staging
/// directory ([`crate::sandbox::Rights::ending`]).
const LOCK: &str = "lock";
/// Names the scratch directory beside the tree.
const SCRATCH: &str = "scratch";

/// A destination under construction. Dropping it without [`Staging::commit`] leaves the layers for the next pull,
/// if there are any, and nothing else.
pub struct Staging {
    destination: PathBuf,
    directory: PathBuf,
    /// Parents of the destination that were not there before, deepest first.
    made: Vec<PathBuf>,
    /// Holds the lock.
    lock: File,
    replace: bool,
    /// What is fetched is of use for the next pull.
    keep: bool,
}

impl Staging {
    /// Prepares for `destination`, which must be absent or empty unless `replace`.
    ///
    /// # Errors
    /// Returns [`Kind::Usage`] if it is there and not empty, is no directory, the root directory or a mount point, or
    /// is behind another user's link; [`Kind::Disk`] if the parent cannot be written; [`Kind::Other`] if another
    /// edgepull is pulling into it, or another user owns the staging directory.
    pub fn begin(destination: &Path, replace: bool) -> Result<Staging> {
        let destination = links::resolve(destination)?;
        let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
            return Err(usage(&destination, "is the root directory"));
        };
        let mut staged = std::ffi::OsString::from(".");
        staged.push(name);
        staged.push(".edgepull");
        let directory = parent.join(staged);
        let made = parent.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        if !directory.exists() {
            // Refused before anything is made.
            check_destination(&destination, replace)?;
            fs::create_dir_all(parent).map_err(|error| Error::disk(parent.display(), error))?;
            // Somebody may have been faster, with a link.
            links::resolve(&destination)?;
        }
        let there = fs::metadata(parent).map_err(|error| Error::disk(parent.display(), error))?;
        if let Some(who) = sys::entries_moved_by_others(&there) {
            let (place, parent) = (destination.display(), parent.display());
            log::warn!("others can put something else in the place of {place}, which is in {parent}: {who}");
        }
        let lock = lock(&directory, &destination)?;
        let staging = Staging { destination, directory, made, lock, replace, keep: true };
        staging.recover()?;
        staging.make_work()?;
        staging.clear(true)?;
        check_destination(&staging.destination, replace)?;
        for (name, mode) in [(TREE, 0o755), (SCRATCH, 0o700)] {
            let path = staging.work().join(name);
            fs::DirBuilder::new()
                .mode(mode)
                .create(&path)
                .map_err(|error| Error::disk(path.display(), error))?;
        }
        Ok(staging)
    }

    /// The layers that this pull fetches, and what an interrupted one has left of them.
    pub fn layers(&self) -> Result<Layers> {
        Layers::open(&self.work())
    }

    /// What is fetched is of no use for another pull: the image itself is refused.
    pub fn discard(&mut self) {
        self.keep = false;
    }

    /// Where what is fetched is kept for the next pull, if there is anything.
    pub fn kept(&self) -> Option<&Path> {
        let kept = self.keep && self.layers().is_ok_and(|layers| !layers.is_empty());
        kept.then_some(&self.directory)
    }

    /// Returns the staging directory. Nobody but the holder of the lock writes to it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the directory in it for everything made of what was fetched, which exists.
    pub fn work(&self) -> PathBuf {
        self.directory.join(WORK)
    }

    /// Where the destination is built.
    pub fn tree(&self) -> PathBuf {
        self.work().join(TREE)
    }

    /// An open directory `name` inside the tree, made if needed; `""` is the tree itself.
    pub fn open(&self, name: &str) -> Result<OwnedFd> {
        let path = if name.is_empty() { self.tree() } else { self.tree().join(name) };
        let made = match name {
            "" => Ok(()),
            _ => fs::DirBuilder::new().mode(0o755).create(&path),
        };
        let opened = made.and_then(|()| {
            let directory = open_directory(&path)?;
            // Whatever the umask: a root that only root may enter runs nothing for other users.
            directory.set_permissions(fs::Permissions::from_mode(0o755))?;
            Ok(OwnedFd::from(directory))
        });
        opened.map_err(|error| Error::disk(path.display(), error))
    }

    /// An open scratch directory on the same file system.
    pub fn open_scratch(&self) -> Result<OwnedFd> {
        let path = self.work().join(SCRATCH);
        File::open(&path).map(OwnedFd::from).map_err(|error| Error::disk(path.display(), error))
    }

    /// Makes the tree durable, then visible as the destination, in one step. With `replace`, what was there
    /// is removed afterwards.
    pub fn commit(mut self) -> Result<()> {
        let shown = self.destination.display().to_string();
        let failed = |error| Error::disk(&shown, error);
        sys::sync_file_system(self.lock.as_fd()).map_err(failed)?;
        let tree = self.tree();
        check_directory(&tree).map_err(failed)?;
        match fs::rename(&tree, &self.destination) {
            Ok(()) => {}
            Err(error) if self.replace && is_occupied(&error) => self.exchange(&tree)?,
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(usage(
                    &self.destination,
                    "is a mount point, which cannot be replaced as a whole",
                )
                .hint("name a directory inside it"));
            }
            Err(error) => return Err(failed(error)),
        }
        let parent = self.destination.parent().expect("checked in begin");
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        // Dropping removes the staging directory, with what the destination had before.
        self.keep = false;
        Ok(())
    }

    /// Swaps the tree with what is at the destination.
    fn exchange(&self, tree: &Path) -> Result<()> {
        let failed = |error| Error::disk(self.destination.display(), error);
        match sys::rename_exchange(tree, &self.destination) {
            Ok(()) => Ok(()),
            // Linux before 3.15, or a file system without it: two renames. Between them the destination is
            // absent, never half of one and half of the other; `recover` ends what a cut leaves there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                let aside = self.directory.join(REPLACED);
                fs::rename(&self.destination, &aside).map_err(failed)?;
                fs::rename(tree, &self.destination).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Puts back what a cut between the two renames of [`Staging::exchange`] has left aside.
    fn recover(&self) -> Result<()> {
        let aside = self.directory.join(REPLACED);
        if aside.exists() && !self.destination.exists() {
            fs::rename(&aside, &self.destination)
                .map_err(|error| Error::disk(self.destination.display(), error))?;
        }
        Ok(())
    }

    /// Removes what an ended pull has left; `keep` leaves its layers.
    fn clear(&self, keep: bool) -> Result<()> {
        let cleared = || {
            self.clear_in(&self.directory, &|name| name == LOCK || (keep && name == WORK))?;
            if keep {
                self.clear_in(&self.work(), &|name| name == LAYERS || name == PARTIAL)?;
            }
            Ok(())
        };
        cleared().map_err(|error| Error::disk(self.directory.display(), error))
    }

    fn clear_in(&self, path: &Path, keeps: &dyn Fn(&OsStr) -> bool) -> io::Result<()> {
        let directory = open_directory(path)?;
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            if !keeps(&name) {
                rootfs::remove(directory.as_fd(), name.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Makes the work directory, unless it is there, and moves layers into it that edgepull 0.1 has left beside it.
    fn make_work(&self) -> Result<()> {
        let made = || {
            match fs::DirBuilder::new().mode(0o700).create(self.work()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_directory(&self.work())?,
                other => other?,
            }
            for name in [LAYERS, PARTIAL] {
                let (before, now) = (self.directory.join(name), self.work().join(name));
                if before.exists() && !now.exists() {
                    fs::rename(before, now)?;
                }
            }
            Ok(())
        };
        made().map_err(|error| Error::disk(self.directory.display(), error))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let keep = self.kept().is_some();
        let removed = self.clear(keep).and_then(|()| match keep {
            true => Ok(()),
            false => {
                let removed = fs::remove_file(self.directory.join(LOCK))
                    .and_then(|()| fs::remove_dir(&self.directory).or_else(in_use));
                removed.map_err(|error| Error::disk(self.directory.display(), error))
            }
        });
        if let Err(error) = removed {
            log::warn!("not all of the staging directory could be removed: {error}");
        }
        // After a commit, or with layers kept, they are not empty, and stay.
        self.made.iter().all(|parent| fs::remove_dir(parent).is_ok());
    }
}

/// Refuses what must not be overwritten.
fn check_destination(destination: &Path, replace: bool) -> Result<()> {
    match fs::metadata(destination) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::disk(destination.display(), error)),
        Ok(metadata) if !metadata.is_dir() => Err(usage(destination, "is not a directory")),
        Ok(metadata) if is_mount_point(destination, &metadata) => Err(mount_point(destination)),
        Ok(_) if replace => Ok(()),
        Ok(_) => {
            let mut entries = fs::read_dir(destination).map_err(|e| Error::disk(destination.display(), e))?;
            match entries.next() {
                None => Ok(()),
                Some(_) => {
                    Err(usage(destination, "is not empty").hint("--replace puts the image in its place"))
                }
            }
        }
    }
}

/// Another file system than its parent's? It could not be renamed to.
fn is_mount_point(destination: &Path, metadata: &fs::Metadata) -> bool {
    let parent = destination.parent().and_then(|parent| fs::metadata(parent).ok());
    parent.is_some_and(|parent| parent.dev() != metadata.dev())
}

fn mount_point(destination: &Path) -> Error {
    usage(destination, "is a mount point, which cannot be replaced as a whole")
        .hint("name a directory inside it")
}

/// Between the removal of its lock and its own, another pull may have begun in the directory.
fn in_use(error: io::Error) -> io::Result<()> {
    if is_occupied(&error) { Ok(()) } else { Err(error) }
}

/// Makes the staging directory and locks it.
fn lock(directory: &Path, destination: &Path) -> Result<File> {
    let failed = |error| Error::disk(directory.display(), error);
    let busy = || {
        let message = format!("another edgepull is pulling into {}", destination.display());
        Error::new(Kind::Other, message)
    };
    let started = Instant::now();
    loop {
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let opened = match open_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // its holder has just ended
            other => other.map_err(failed)?,
        };
        check_ours(directory, &opened.metadata().map_err(failed)?)?;
        // Trees in it have the modes of their images. One that was made by hand, or with another umask, may be open.
        opened.set_permissions(fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let path = directory.join(LOCK);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = match options.custom_flags(libc::O_NOFOLLOW).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if started.elapsed() < ENDING => {
                std::thread::sleep(ENDING / 40);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // The holder may have removed it between our open and our lock.
        let locked = file.metadata().map_err(failed)?;
        if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino())) {
            return match sandbox::wait_until_ended(&opened, Some(ENDING)).map_err(failed)? {
                true => Ok(file),
                false => Err(busy()),
            };
        }
    }
}

/// What lies in the staging directory is removed without a question: in a directory like /tmp, where anyone
/// may have put it, it has to be ours alone.
fn check_ours(directory: &Path, metadata: &fs::Metadata) -> Result<()> {
    if metadata.uid() == sys::effective_ids().0 && metadata.mode() & sys::OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Other, format!("{} belongs to somebody else", directory.display()))
        .hint("pull into another directory"))
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST))
}

fn usage(path: &Path, what: &str) -> Error {
    Error::new(Kind::Usage, format!("{} {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(staging: &Staging, text: &str) {
        fs::write(staging.tree().join("file"), text).unwrap();
    }

    #[test]
    fn nothing_shows_before_the_commit_and_nothing_stays_after_a_failure() {
        let home = tempfile::tempdir().unwrap();
        let destination = home.path().join("new/deep");
        let staging = Staging::begin(&destination, false).unwrap();
        write(&staging, "half");
        assert!(!destination.exists());
        drop(staging);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "its parent was not there before either");

        let staging = Staging::begin(&destination, false).unwrap();
        write(&staging, "whole");
        staging.commit().unwrap();
        assert_eq!(fs::read_to_string(destination.join("file")).unwrap(), "whole");
        assert_eq!(fs::read_dir(home.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_is_replaced_only_on_demand_and_only_whole() {
        let home = tempfile::tempdir().unwrap();
        let destination = home.path().join("root");
        fs::create_dir(&destination).unwrap();
        fs::write(destination.join("old"), "old").unwrap();
        assert_eq!(Staging::begin(&destination, false).err().unwrap().kind(), Kind::Usage);

        let staging = Staging::begin(&destination, true).unwrap();
        write(&staging, "new");
        drop(staging);
        assert_eq!(fs::read_to_string(destination.join("old")).unwrap(), "old");

        let staging = Staging::begin(&destination, true).unwrap();
        write(&staging, "new");
        staging.commit().unwrap();
        assert_eq!(fs::read_dir(&destination).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(destination.join("file")).unwrap(), "new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "the old tree is gone too");
    }

    #[test]
    fn what_a_killed_pull_left_is_cleared_and_a_running_one_is_not() {
        let home = tempfile::tempdir().unwrap();
        let destination = home.path().join("root");
        let running = Staging::begin(&destination, false).unwrap();
        let error = Staging::begin(&destination, false).err().unwrap();
        assert!(error.to_string().contains("another edgepull"), "{error}");
        drop(running);

        // As Staging makes it; a directory that others may write to would be refused.
        fs::DirBuilder::new().mode(0o700).create(home.path().join(".root.edgepull")).unwrap();
        let left = home.path().join(".root.edgepull/tree/a/b");
        fs::create_dir_all(&left).unwrap();
        let staging = Staging::begin(&destination, false).unwrap();
        assert!(!left.exists());
        staging.commit().unwrap();
    }

    #[test]
    fn a_cut_between_two_renames_loses_nothing() {
        let home = tempfile::tempdir().unwrap();
        let destination = home.path().join("root");
        let aside = home.path().join(".root.edgepull/replaced");
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&aside).unwrap();
        fs::write(aside.join("old"), "old").unwrap();
        assert!(Staging::begin(&destination, false).is_err(), "it is there again, and not empty");
        assert_eq!(fs::read_to_string(destination.join("old")).unwrap(), "old");
    }

    #[test]
    fn layers_that_the_version_before_had_begun_go_on() {
        let home = tempfile::tempdir().unwrap();
        let staged = home.path().join(".root.edgepull");
        fs::DirBuilder::new().mode(0o700).create(&staged).unwrap();
        for path in ["layers/sha256/aa", "partial/sha256/bb", "tree", "scratch"] {
            fs::create_dir_all(staged.join(path)).unwrap();
        }
        fs::write(staged.join("lock"), "").unwrap();
        let staging = Staging::begin(&home.path().join("root"), false).unwrap();
        let names: Vec<_> = fs::read_dir(&staged).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "the lock, and what is worked in: {names:?}");
        let layers = staging.layers().unwrap();
        assert!(layers.whole().join("aa").is_dir() && layers.partial().join("bb").is_dir());
        assert!(staging.kept().is_some());
    }

    #[test]
    fn a_staging_directory_that_somebody_else_prepared_is_not_emptied() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("file"), "v").unwrap();
        let staged = home.path().join(".root.edgepull");
        std::os::unix::fs::symlink(&victim, &staged).unwrap();
        assert!(Staging::begin(&home.path().join("root"), false).is_err());
        fs::remove_file(&staged).unwrap();
        fs::rename(&victim, &staged).unwrap();
        fs::set_permissions(&staged, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Staging::begin(&home.path().join("root"), false).err().unwrap();
        assert!(error.to_string().contains("somebody else"), "{error}");
        assert!(staged.join("file").exists());
    }

    #[test]
    fn nobody_else_enters_what_is_on_its_way() {
        let home = tempfile::tempdir().unwrap();
        let staged = home.path().join(".root.edgepull");
        fs::create_dir(&staged).unwrap();
        fs::set_permissions(&staged, fs::Permissions::from_mode(0o755)).unwrap();
        let staging = Staging::begin(&home.path().join("root"), false).unwrap();
        assert_eq!(fs::metadata(&staged).unwrap().mode() & 0o7777, 0o700);
        drop(staging);
    }

    #[test]
    fn an_empty_directory_a_link_and_a_file_as_destination() {
        let home = tempfile::tempdir().unwrap();
        let real = home.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let staging = Staging::begin(&link, false).unwrap();
        write(&staging, "x");
        staging.commit().unwrap();
        assert!(real.join("file").exists(), "the link's target was filled, the link stays");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Staging::begin(&file, true).err().unwrap().to_string().contains("not a directory"));
    }
}
