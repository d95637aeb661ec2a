//! Names, in one place, every path of the state directory (`--state-dir`), and says who may use each.
//!
//! | path | mode | what it holds |
//! |---|---|---|
//! | `STATE` | 0755 | what is below; never writable by others |
//! | `STATE/status`, `STATE/status/NAME` | 0755, 0644 | what every user may know of a deployment ([`super::deployment::Public`]) |
//! | `STATE/lock` | 0600 | [`super::lock`]: who may lock it may hold up every update |
//! | `STATE/clock` | 0644 | [`super::clock`] |
//! | `STATE/turns` | 0600 | [`super::turns`] |
//! | `STATE/layers`, `STATE/partial` | 0700 | the layer store |
//! | `STATE/deployments` and each directory that edgepull makes below it | 0700 | records, which have commands in them, and trees |
//! | `STATE/trash` | 0700 | trees that are being removed |
//!
//! Trees keep the modes of their images, set-user-ID programs and files that everybody may write to included, and their
//! files are links to the layer store's, which all generations share. So the directories above a tree admit the owner of
//! the state directory alone, as Docker's and containerd's do since CVE-2021-41091 and CVE-2021-41103. Programs of other
//! users run from a tree through a mount of it. The released version 0.1.0 had 0711 in the place of most of these 0700:
//! `store::access` closes them.

use crate::error::{Error, Result};
use crate::links;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Gives a directory's mode by which everybody lists it.
pub const PUBLIC: u32 = 0o755;
/// Gives a directory's mode by which its owner alone enters it.
pub const PRIVATE: u32 = 0o700;

/// Returns the path of the file that is locked.
pub fn lock(state: &Path) -> PathBuf {
    state.join("lock")
}

/// Returns the directory of all deployments.
pub fn deployments(state: &Path) -> PathBuf {
    state.join("deployments")
}

/// Returns the directory of one deployment.
pub fn deployment(state: &Path, name: &str) -> PathBuf {
    deployments(state).join(name)
}

/// Returns the directory of what every user may know, with one file for each deployment.
pub fn status(state: &Path) -> PathBuf {
    state.join("status")
}

/// Returns the directory of trees that are being removed.
pub fn trash(state: &Path) -> PathBuf {
    state.join("trash")
}

/// Makes a directory of `mode`, whatever the umask, unless it is there; its parents must be. A new one is
/// durable when this returns.
///
/// # Errors
/// [`crate::error::Kind::Disk`].
pub fn make(path: &Path, mode: u32) -> Result<()> {
    let made = || {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync(Path::new(".")),
            Some(parent) => sync(parent),
            None => Ok(()),
        }
    };
    made().map_err(|error| Error::disk(path.display(), error))
}

/// Makes a directory of `mode`, whatever the umask, in one that is open, and opens it. Nothing may have that name.
///
/// # Errors
/// Returns the error of the system call that failed, such as `EEXIST`.
pub fn make_at(directory: &OwnedFd, name: &str, mode: u32) -> io::Result<OwnedFd> {
    mkdirat(directory, name, Mode::S_IRWXU)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = File::from(openat(directory, name, flags, Mode::empty())?);
    made.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(OwnedFd::from(made))
}

/// Makes the state directory, with the directories above it that are missing.
///
/// # Errors
/// Returns [`crate::error::Kind::Usage`] if it is behind another user's link, and [`crate::error::Kind::Disk`] if it
/// cannot be made.
pub fn ensure(state: &Path) -> Result<()> {
    links::resolve(state)?;
    if let Some(parent) = state.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        ensure(parent)?;
    }
    make(state, PUBLIC)
}

/// Makes durable what was made, renamed or removed in a directory.
///
/// # Errors
/// Those of the system calls.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_their_modes_whatever_the_umask() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("var/lib/edgepull");
        ensure(&state).unwrap();
        ensure(&state).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (path, wanted) in [(status(&state), PUBLIC), (trash(&state), PRIVATE)] {
            make(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
        }
        assert_eq!(mode(&state), PUBLIC);
        // What is there keeps the mode that its owner gave it.
        fs::set_permissions(&state, fs::Permissions::from_mode(0o750)).unwrap();
        ensure(&state).unwrap();
        assert_eq!(mode(&state), 0o750);
        let error = make(&state.join("no/such"), PRIVATE).unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
    }
}
