//! The few ways in which the state directory changes. Each leaves the old or the new state, and is
//! durable when it returns, so that a power cut can undo no more than the one that was going on: what a cut
//! leaves is what a kill leaves between two system calls, and those are tested one by one.

use crate::error::{Error, Kind, Result};
use crate::layer::rootfs;
use crate::store::state;
use crate::sys;
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

/// Reads the file at `path`, if it holds at most `max` bytes and nobody but root and this process's user can have
/// written them. It does not follow a link at `path`, and does not wait for the other end of a named pipe.
///
/// # Errors
/// Returns [`io::ErrorKind::InvalidData`] if it is no regular file, or is larger; an [`Error`] of [`Kind::Disk`]
/// inside an [`io::Error`] if another user owns it or may write to it; else the error of the system call that failed.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let unusable = || {
        let message = format!("it is no file of at most {max} bytes");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    if !metadata.is_file() {
        return Err(unusable());
    }
    if let Some(who) = sys::written_by_others(&metadata) {
        let error = Error::new(Kind::Disk, format!("{who}, so it is not believed"));
        let hint = "if what is in it is right, chown it to the user who runs edgepull, and chmod go-w";
        return Err(error.hint(hint).into());
    }
    let mut bytes = Vec::new();
    match file.take(max + 1).read_to_end(&mut bytes)? as u64 > max {
        true => Err(unusable()),
        false => Ok(bytes),
    }
}

/// What is at `path` is a directory itself, and does not lead to one: another process has made it.
pub fn check_directory(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => Ok(()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// Opens a directory that is one itself: a link is refused, and so is a named pipe, which could make us wait.
///
/// # Errors
/// Returns the error of open(2): ENOTDIR for anything else than a directory.
pub fn open_directory(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Gives a file's mode by which its owner alone reads it, as records hold commands.
pub const PRIVATE: u32 = 0o600;
/// Gives a file's mode by which everybody reads it.
pub const PUBLIC: u32 = 0o644;

/// Replaces the file `name` of `directory` by one with these `bytes` and this `mode`, durably; after a cut it is the
/// old one or the new one.
pub fn replace(directory: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let replaced = || {
        let new = beside(directory, name)?;
        step();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn what_others_may_have_written_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("record");
        replace(home.path(), "record", b"ours", PRIVATE).unwrap();
        let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for trusted in [0o600, 0o644, 0o755] {
            mode(trusted);
            assert_eq!(read(&path, 4).unwrap(), b"ours");
        }
        let refused = |what: &str| {
            let error = Error::disk(path.display(), read(&path, 4).unwrap_err()).to_string();
            assert!(error.contains(what) && error.contains("chmod go-w"), "{error}");
        };
        for (distrusted, what) in [(0o666, "its mode 666"), (0o620, "its mode 620"), (0o602, "its mode 602")]
        {
            mode(distrusted);
            refused(what);
        }
        mode(0o600);
        // Only root can give a file away.
        if chown(&path, Some(7), None).is_ok() {
            refused("it belongs to user 7");
        }
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("it");
        let refused = |max| read(&path, max).unwrap_err().kind();
        replace(home.path(), "it", b"12345", PUBLIC).unwrap();
        assert_eq!(refused(4), io::ErrorKind::InvalidData);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(refused(4), io::ErrorKind::InvalidData);
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(refused(4), io::ErrorKind::InvalidData);
        symlink("/etc/passwd", home.path().join("link")).unwrap();
        assert!(read(&home.path().join("link"), 1 << 20).is_err());
    }
}
