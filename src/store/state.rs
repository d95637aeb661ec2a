//! What lies where in the state directory (`--state-dir`), and who may look.
//!
//! | path | mode | what |
//! |---|---|---|
//! | `STATE` | 0755 | `status` is for everybody who knows a deployment's name |
//! | `STATE/lock` | 0600 | [`super::lock`]: who may lock it may hold up every update |
//! | `STATE/layers`, `STATE/partial` | 0700 | the layer store: setuid programs of images that nobody runs any more |
//! | `STATE/deployments`, `…/NAME`, `…/NAME/generations` | 0711 | to be gone through, not listed: programs run from there as any user, but nobody finds an old generation's setuid programs by looking |
//! | `STATE/deployments/NAME/work` | 0700 | a tree that nobody has checked yet |
//! | `STATE/trash` | 0700 | what is being removed; nobody's when the lock is free |

use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// For everybody.
pub const PUBLIC: u32 = 0o755;
/// For its owner to list, for others to go through.
pub const TRAVERSED: u32 = 0o711;
/// For its owner.
pub const PRIVATE: u32 = 0o700;

/// The lock's file.
pub fn lock(state: &Path) -> PathBuf {
    state.join("lock")
}

/// All deployments.
pub fn deployments(state: &Path) -> PathBuf {
    state.join("deployments")
}

/// One deployment.
pub fn deployment(state: &Path, name: &str) -> PathBuf {
    deployments(state).join(name)
}

/// What is being removed.
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

/// Makes the state directory, with the directories above it that are missing.
///
/// # Errors
/// [`crate::error::Kind::Disk`].
pub fn ensure(state: &Path) -> Result<()> {
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
        for (path, wanted) in [(deployments(&state), TRAVERSED), (trash(&state), PRIVATE)] {
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
