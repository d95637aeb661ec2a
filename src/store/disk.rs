//! The few ways in which the state directory changes. Each leaves the old or the new state, and is
//! durable when it returns, so that a power cut can undo no more than the one that was going on: what a cut
//! leaves is what a kill leaves between two system calls, and those are tested one by one.

use crate::error::{Error, Result};
use crate::layer::rootfs;
use crate::store::state;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where a test stops a run, as a kill would; nothing otherwise.
#[cfg(not(test))]
fn step() {}
#[cfg(test)]
use super::deployment::step;

/// What is written, or linked, before it is renamed to `name`. A cut may leave it; the next one replaces it.
fn beside(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let path = directory.join(format!("{name}.new"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(path),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |error| Error::disk(path.display(), error)
}

/// What the file at `path` holds, if that is at most `max` bytes. Nothing there can make us wait, or lead
/// elsewhere.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    if !file.metadata()?.is_file() || file.take(max + 1).read_to_end(&mut bytes)? as u64 > max {
        let message = format!("it is no file of at most {max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// What is at `path` is a directory itself, and does not lead to one: another process has made it.
pub fn check_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// The file `name` has `bytes`, or what it had before.
pub fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let replaced = || {
        let new = beside(directory, name)?;
        step();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        step();
        let written = file.write_all(bytes);
        step();
        let renamed = written.and_then(|()| file.sync_all()).and_then(|()| {
            step();
            fs::rename(&new, directory.join(name))
        });
        // On a full disk the room is needed.
        renamed.inspect_err(|_| drop(fs::remove_file(&new)))?;
        step();
        sync(directory)
    };
    replaced().map_err(failed(&directory.join(name)))
}

/// The link `name` leads to `target`, or where it led before.
pub fn link(directory: &Path, name: &str, target: &str) -> Result<()> {
    let path = directory.join(name);
    let linked = || {
        if !fs::read_link(&path).is_ok_and(|there| there == Path::new(target)) {
            let new = beside(directory, name)?;
            step();
            symlink(target, &new)?;
            step();
            fs::rename(&new, &path)?;
            step();
        }
        // Even if it led there: whoever has renamed it may have been killed before this.
        sync(directory)
    };
    linked().map_err(failed(&path))
}

/// There is no file or link `name`.
pub fn unlink(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    let unlinked = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        step();
        sync(directory)
    };
    unlinked().map_err(failed(&path))
}

/// A whole directory gets its place. What is in it has to be durable already.
pub fn place(tree: &Path, place: &Path) -> Result<()> {
    let placed = || {
        check_directory(tree)?;
        fs::rename(tree, place)?;
        step();
        for end in [place, tree] {
            sync(end.parent().unwrap_or(Path::new("/")))?;
        }
        Ok(())
    };
    placed().map_err(failed(place))
}

/// A directory that nothing names any more goes, by way of the trash, so that it is never seen half gone. That
/// need not be durable: whatever a cut leaves, here or in the trash, is found by the next run.
pub fn discard(tree: &Path, trash: &Path, name: &str) -> Result<()> {
    state::make(trash, state::PRIVATE)?;
    empty(trash)?;
    fs::rename(tree, trash.join(name)).map_err(failed(tree))?;
    step();
    empty(trash)
}

/// Empties the trash, if there is one.
pub fn empty(trash: &Path) -> Result<()> {
    let emptied = || match File::open(trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => rootfs::empty(other?.as_fd()),
    };
    emptied().map_err(failed(trash))
}

fn sync(directory: &Path) -> io::Result<()> {
    state::sync(directory)?;
    step();
    Ok(())
}
