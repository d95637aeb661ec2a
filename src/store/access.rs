//! Closes a state directory to all users but its owner, and finds out what others have linked to while it was open.
//!
//! The released version 0.1.0 made directories that every user of the board could go through ([`super::state`] has the
//! table of both). Whoever takes the lock closes them: `STATE/deployments` at once, and what is below when it has been
//! looked through for links, the deployment's own directory last. So a run that is cut in between leaves a directory
//! open whose parent is closed, and the next run begins again.
//!
//! A failure to close a directory ends no run: a board whose file system refuses a mode is to be updated all the
//! same, and is warned about at each run. A directory that another user owns, or can write to after all, does end it
//! ([`check`]).

use super::state;
use crate::error::{Error, Kind, Result};
use crate::sys;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Holds the bits of a mode that let other users do anything.
const OTHERS: u32 = 0o077;
/// Limits how many files one walk counts the names of, at some 150 bytes each; further walks count the rest.
const COUNTED_MAX: usize = 8192;
/// Limits how many files with names elsewhere get a warning of their own.
const TOLD_MAX: usize = 20;
/// Limits how many levels of directories are looked through: each costs an open directory.
const DEPTH_MAX: u32 = 64;

/// Takes from the modes of what is in `state`, which is locked, the bits that let other users enter, and warns about
/// files with links elsewhere.
pub fn close(state: &Path) {
    // It may be a link to where there is more room.
    let state = &fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    withdraw(state, sys::OTHERS_WRITE);
    for name in ["layers", "partial"] {
        withdraw(&state.join(name), OTHERS);
    }
    withdraw(&state::trash(state), OTHERS);
    withdraw(&state::deployments(state), OTHERS);
    let open: Vec<PathBuf> =
        directories(&state::deployments(state)).filter(|path| has(path, OTHERS)).collect();
    if open.is_empty() {
        return;
    }
    log::warn!(
        "until now other users of this board could enter {}: edgepull verify finds files that they have changed, \
         unless size, time and CRC-32 are the same",
        state::deployments(state).display()
    );
    match foreign_links(state, COUNTED_MAX) {
        None => {
            log::warn!("the trees are too deep to be looked through for links that other users have made")
        }
        Some(found) => found.tell(),
    }
    for deployment in open {
        for file in ["record", "pending"] {
            withdraw(&deployment.join(file), OTHERS);
        }
        for below in directories(&deployment.join("generations")) {
            withdraw(&below, OTHERS);
        }
        for below in directories(&deployment) {
            withdraw(&below, OTHERS);
        }
        withdraw(&deployment, OTHERS);
    }
}

/// Lists the directories in `path`, or none if it cannot be read.
fn directories(path: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn has(path: &Path, bits: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_symlink() && metadata.mode() & bits != 0)
}

/// Takes `bits` from the mode of `path`, durably, unless nothing is there or it is a link. A failure is only warned
/// about.
fn withdraw(path: &Path, bits: u32) {
    if !has(path, bits) {
        return;
    }
    let withdrawn = || {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let open = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let mode = open.metadata()?.mode() & 0o7777 & !bits;
        open.set_permissions(fs::Permissions::from_mode(mode))?;
        open.sync_all()
    };
    if let Err(error) = withdrawn() {
        log::warn!("{} stays open to other users of this board: {error}", path.display());
    }
}

/// Refuses `path` if it is no directory, or if another user owns it or may write to it: that user could replace
/// whatever edgepull has written there. It accepts a path where nothing is, and a link to such a directory that root
/// or this process's user owns.
///
/// # Errors
/// Returns [`Kind::Disk`] for a directory that is refused, or cannot be looked at.
pub fn check_writers(path: &Path) -> Result<()> {
    let failed = |error| Error::disk(path.display(), error);
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let directory = match found.is_symlink() && sys::is_trusted(found.uid()) {
        true => fs::metadata(path).map_err(failed)?,
        false => found,
    };
    let why = match directory.is_dir() {
        true => sys::written_by_others(&directory),
        false => Some("it is no directory".to_owned()),
    };
    match why {
        None => Ok(()),
        Some(why) => Err(Error::new(Kind::Disk, format!("{}: {why}, so it is not used", path.display()))
            .hint("other users could have written to the state directory: move it away, and deploy anew")),
    }
}

/// Refuses a state directory in which another user owns, or may write to, one of the directories that edgepull writes
/// to.
///
/// # Errors
/// Returns the errors of [`check_writers`].
pub fn check(state: &Path) -> Result<()> {
    for name in ["status", "trash", "layers", "layers/sha256", "partial", "partial/sha256", "deployments"] {
        check_writers(&state.join(name))?;
    }
    Ok(())
}

/// Refuses a state directory that another user owns: that user could replace whatever edgepull has written there.
///
/// # Errors
/// Returns [`Kind::Disk`] if root and this process's user do not own it, or it cannot be looked at.
pub fn check_owner(state: &Path) -> Result<()> {
    let failed = |error| Error::disk(state.display(), error);
    let (owner, own) = (fs::metadata(state).map_err(failed)?.uid(), sys::effective_ids().0);
    if sys::is_trusted(owner) {
        return Ok(());
    }
    let message = format!("{} belongs to user {owner}, and this is user {own}", state.display());
    Err(Error::new(Kind::Disk, message).hint("run edgepull as its owner, or chown it and all that is in it"))
}

/// Holds the files of the state directory that have more names (hard links) than can be found in it.
struct ForeignLinks {
    /// Counts all of them.
    count: usize,
    /// Holds the first `TOLD_MAX` of them.
    told: Vec<File>,
}

/// Describes a file by how many names it has, in the state directory and in all.
struct File {
    /// Holds one of its names in the state directory.
    path: PathBuf,
    inode: u64,
    /// Counts its names in the state directory.
    here: u64,
    /// Counts all of its names (`st_nlink`, stat(2)).
    links: u64,
}

impl ForeignLinks {
    fn tell(&self) {
        for file in &self.told {
            log::warn!(
                "{} has {} names outside of the state directory: somebody has linked to it, and can run or change it as \
                 long as they are there; find / -xdev -inum {} shows them",
                file.path.display(),
                file.links - file.here,
                file.inode
            );
        }
        if self.count > self.told.len() {
            log::warn!("and {} more files have such names", self.count - self.told.len());
        }
    }
}

/// Looks for files of `state` with names elsewhere. Returns `None` if directories are nested too deeply
/// (`DEPTH_MAX`).
///
/// Each walk counts the names of the `counted_max` files with the lowest inode numbers that no walk before has
/// counted, so that memory does not grow with the trees.
fn foreign_links(state: &Path, counted_max: usize) -> Option<ForeignLinks> {
    let mut found = ForeignLinks { count: 0, told: Vec::new() };
    let mut counted_to = None;
    loop {
        // Sorted by device and inode number. Trees are walked much in the order in which they were made, so that most new
        // ones come last.
        let mut files: Vec<((u64, u64), File)> = Vec::new();
        let mut dropped = false;
        let whole = walk(state, DEPTH_MAX, &mut |path, metadata| {
            let key = (metadata.dev(), metadata.ino());
            if !metadata.is_file() || metadata.nlink() < 2 || Some(key) <= counted_to {
                return;
            }
            let at = match files.binary_search_by(|(known, _)| known.cmp(&key)) {
                Ok(at) => return files[at].1.here += 1,
                Err(at) => at,
            };
            if files.len() == counted_max {
                dropped = true;
                // The highest makes room for a lower one, and a later walk counts it.
                if at == files.len() {
                    return;
                }
                files.pop();
            }
            files.insert(
                at,
                (key, File { path: path.to_owned(), inode: key.1, here: 1, links: metadata.nlink() }),
            );
        });
        if !whole {
            return None;
        }
        let last = files.last().map(|(key, _)| *key);
        for (_, file) in files.into_iter().filter(|(_, file)| file.links > file.here) {
            found.count += 1;
            if found.told.len() < TOLD_MAX {
                found.told.push(file);
            }
        }
        match last {
            Some(last) if dropped => counted_to = Some(last),
            _ => return Some(found),
        }
    }
}

/// Calls `each` with everything below `path`, and passes over what disappears meanwhile. Returns false if some of it
/// is more than `depth` levels down, or a directory cannot be read.
fn walk(path: &Path, depth: u32, each: &mut dyn FnMut(&Path, &Metadata)) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    let entries = match fs::read_dir(path) {
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
        Ok(entries) => entries,
    };
    let mut whole = true;
    for entry in entries.flatten() {
        let (path, metadata) = (entry.path(), entry.metadata());
        let Ok(metadata) = metadata else { continue };
        each(&path, &metadata);
        whole &= !metadata.is_dir() || walk(&path, depth, each);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a state directory with the modes of version 0.1.0: two generations share five files.
    fn released() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for name in ["layers/sha256/00/objects/0", "partial/sha256", "trash"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for number in [1, 2] {
            let root = at(&format!("deployments/web/generations/{number}/rootfs/bin"));
            fs::create_dir_all(&root).unwrap();
            for name in 0..5 {
                let object = at(&format!("layers/sha256/00/objects/0/{name}"));
                if number == 1 {
                    fs::write(&object, "x").unwrap();
                }
                fs::hard_link(&object, root.join(format!("file{name}"))).unwrap();
            }
        }
        fs::create_dir_all(at("deployments/web/work")).unwrap();
        fs::write(at("deployments/web/record"), "{}").unwrap();
        for (name, mode) in [
            ("deployments", 0o711),
            ("deployments/web", 0o711),
            ("deployments/web/generations", 0o711),
            ("deployments/web/generations/1", 0o711),
            ("deployments/web/generations/2", 0o711),
            ("deployments/web/record", 0o644),
            ("layers", 0o700),
            ("", 0o775),
        ] {
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        home
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_released_state_directory_is_closed() {
        let home = released();
        let at = |name: &str| home.path().join(name);
        close(home.path());
        for name in ["", "/generations", "/generations/1", "/generations/2", "/work"] {
            assert_eq!(mode(&at(&format!("deployments/web{name}"))), 0o700, "{name}");
        }
        assert_eq!(mode(&at("deployments")), 0o700);
        assert_eq!(mode(&at("deployments/web/record")), 0o600);
        assert_eq!(mode(home.path()), 0o755, "status is for every user");
        let root = at("deployments/web/generations/1/rootfs");
        assert_eq!(mode(&root), mode(&at("deployments/web/generations/1/rootfs/bin")), "as in the image");
    }

    #[test]
    fn names_that_others_have_made_are_found_however_few_are_counted_at_a_time() {
        let home = released();
        let elsewhere = tempfile::tempdir_in(home.path().parent().unwrap()).unwrap();
        let object = |name: u32| home.path().join(format!("layers/sha256/00/objects/0/{name}"));
        for counted_max in [1, 2, 3, 100] {
            assert_eq!(foreign_links(home.path(), counted_max).unwrap().count, 0, "{counted_max}");
        }
        for name in [1, 4] {
            fs::hard_link(object(name), elsewhere.path().join(format!("mine{name}"))).unwrap();
        }
        for counted_max in [1, 2, 3, 100] {
            let found = foreign_links(home.path(), counted_max).unwrap();
            assert_eq!((found.count, found.told.len()), (2, 2), "{counted_max}");
            for file in found.told {
                assert_eq!((file.here, file.links), (3, 4), "{}", file.path.display());
            }
        }
    }

    #[test]
    fn a_tree_that_is_too_deep_is_said_to_be_and_closed_all_the_same() {
        let home = released();
        let deep = format!("deployments/web/generations/1/rootfs/{}", "d/".repeat(DEPTH_MAX as usize));
        fs::create_dir_all(home.path().join(deep)).unwrap();
        assert!(foreign_links(home.path(), COUNTED_MAX).is_none());
        close(home.path());
        assert_eq!(mode(&home.path().join("deployments/web")), 0o700);
    }

    #[test]
    fn a_cut_in_between_is_made_good_by_the_next_run() {
        let home = released();
        withdraw(&state::deployments(home.path()), OTHERS);
        close(home.path());
        assert_eq!(mode(&home.path().join("deployments/web/generations/1")), 0o700);
        assert_eq!(mode(&home.path().join("deployments/web")), 0o700);
    }

    #[test]
    fn a_state_directory_that_is_reached_by_a_link_is_closed_too() {
        let home = released();
        let link = tempfile::tempdir().unwrap();
        let link = link.path().join("state");
        std::os::unix::fs::symlink(home.path(), &link).unwrap();
        close(&link);
        assert_eq!((mode(home.path()), mode(&home.path().join("deployments/web"))), (0o755, 0o700));
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_leads_nobody_to_what_is_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("layers")).unwrap();
        close(home.path());
        assert_eq!(mode(elsewhere.path()), 0o755);
    }
}
