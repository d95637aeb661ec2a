//! Resolves links in the paths that a user names, and refuses those of other users.
//!
//! In a directory that others may write to, /tmp for one, anybody can put a link where root is about to write: `pull
//! --replace /tmp/root` would then put an image in the place of whatever the link leads to. The kernel refuses such
//! links in sticky directories that everybody may write to, if fs.protected_symlinks is on (proc_sys_fs(5), Linux
//! 3.6), and nowhere else. So a path that is written to is first followed here, one name after the other.
//!
//! A link is followed if root or this process's user owns it, or nobody else can have put it there. Names that are no
//! links are not checked: whoever owns a directory of the path can move it away at any time, and have something else
//! there.

use crate::error::{Error, Kind, Result};
use crate::sys;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Limits how many links are followed in one path, as the kernel does (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Returns a path without links, `.` and `..`, so that its parent and name are those on disk. The end of `path` need
/// not exist; if it is a link, that is followed, too.
///
/// # Errors
/// Returns [`Kind::Usage`] for a link that another user has put there, and for `..` behind a name that does not
/// exist; [`Kind::Disk`] if the path cannot be followed.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    resolve_as(path, sys::effective_ids().0)
}

/// Does what [`resolve`] does, for a user with this id.
fn resolve_as(path: &Path, user: u32) -> Result<PathBuf> {
    let failed = |error| Error::disk(path.display(), error);
    let absolute = std::path::absolute(path).map_err(failed)?;
    let mut real = PathBuf::from("/");
    // The names that are left, the next one last.
    let mut names: Vec<OsString> = Vec::new();
    push(&mut names, &absolute);
    let mut links = 0;
    while let Some(name) = names.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let metadata = match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                names.push(name);
                return missing(path, real, names);
            }
            other => other.map_err(failed)?,
        };
        if !metadata.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(failed(io::Error::from_raw_os_error(libc::ELOOP)));
        }
        let directory = fs::metadata(&real).map_err(failed)?;
        if !is_to_be_followed(&metadata, &directory, user) {
            return Err(refused(path, &next, metadata.uid()));
        }
        let target = fs::read_link(&next).map_err(failed)?;
        // A link never changes, but may have made way for another one.
        let again = fs::symlink_metadata(&next).map_err(failed)?;
        if identity(&again) != identity(&metadata) {
            names.push(name);
            continue;
        }
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        push(&mut names, &target);
    }
    Ok(real)
}

/// Puts the names of a path before those that are left.
fn push(names: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    });
    names.extend(parts.map(OsStr::to_owned));
}

/// Returns the path whose last `names` do not exist, or an error if `..` is one of them.
fn missing(path: &Path, real: PathBuf, names: Vec<OsString>) -> Result<PathBuf> {
    match names.iter().any(|name| name == "..") {
        true => {
            let message = format!("{} leads back (..) out of a directory that is not there", path.display());
            Err(Error::new(Kind::Usage, message))
        }
        false => Ok(names.into_iter().rev().fold(real, |real, name| real.join(name))),
    }
}

fn is_to_be_followed(link: &Metadata, directory: &Metadata, user: u32) -> bool {
    let is_ours = |metadata: &Metadata| metadata.uid() == 0 || metadata.uid() == user;
    is_ours(link) || is_ours(directory) && directory.mode() & sys::OTHERS_WRITE == 0
}

/// Returns what tells a link from another one of the same name.
fn identity(link: &Metadata) -> (u64, u64, u32, i64, i64) {
    (link.dev(), link.ino(), link.uid(), link.ctime(), link.ctime_nsec())
}

fn refused(path: &Path, link: &Path, owner: u32) -> Error {
    let (path, link) = (path.display(), link.display());
    let message = format!("{path}: {link} is a link that another user (uid {owner}) has put there");
    Error::new(Kind::Usage, message)
        .hint("name the directory that is meant without a link, or remove the link")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    struct Place {
        _home: tempfile::TempDir,
        path: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().canonicalize().unwrap();
            fs::create_dir(path.join("real")).unwrap();
            Place { _home: home, path }
        }

        fn at(&self, rest: &str) -> PathBuf {
            self.path.join(rest)
        }
    }

    #[test]
    fn paths_are_followed_as_the_kernel_follows_them() {
        let place = Place::new();
        fs::create_dir_all(place.at("real/deep/er")).unwrap();
        symlink("real/deep", place.at("relative")).unwrap();
        symlink(place.at("real"), place.at("absolute")).unwrap();
        symlink("../absolute/deep/../deep", place.at("real/chain")).unwrap();
        symlink("loop", place.at("loop")).unwrap();
        fs::write(place.at("file"), "").unwrap();
        for path in [
            "real",
            "relative/er",
            "absolute/chain/er/..",
            "real/./deep//er/",
            "relative/../chain",
            "file",
            "",
        ] {
            let path = place.at(path);
            assert_eq!(resolve(&path).unwrap(), fs::canonicalize(&path).unwrap(), "{path:?}");
        }
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
        assert_eq!(resolve(Path::new("/../..")).unwrap(), Path::new("/"));
        assert_eq!(resolve(Path::new("src")).unwrap(), fs::canonicalize("src").unwrap());
        assert_eq!(resolve(&place.at("relative/new/er")).unwrap(), place.at("real/deep/new/er"));
        symlink("real/new", place.at("dangling")).unwrap();
        assert_eq!(resolve(&place.at("dangling/er")).unwrap(), place.at("real/new/er"));
        for (path, reason, kind) in [
            ("none/../x", "leads back", Kind::Usage),
            ("none/..", "leads back", Kind::Usage),
            // In the words of a C library, of which glibc's and musl's have these in common.
            ("loop/x", "symbolic link", Kind::Disk),
            ("file/x", "not a directory", Kind::Disk),
        ] {
            let error = resolve(&place.at(path)).unwrap_err();
            let text = error.to_string().to_lowercase();
            assert!(error.kind() == kind && text.contains(reason), "{path}: {error}");
        }
    }

    /// Looks with another user's id, so that whoever runs this is somebody else. Root would always be trusted, so the
    /// link is given away if root runs this.
    #[test]
    fn a_link_is_followed_only_if_nobody_else_can_have_put_it_there() {
        let place = Place::new();
        symlink("real", place.at("link")).unwrap();
        let (ours, is_root) = (sys::effective_ids().0, sys::effective_ids().0 == 0);
        if is_root {
            lchown(place.at("link"), Some(65533), None).unwrap();
        }
        let mode = |mode| fs::set_permissions(&place.path, fs::Permissions::from_mode(mode)).unwrap();
        let link_is = if is_root { 65533 } else { ours };
        for (directory, user, followed) in [
            (0o1777, link_is, true),
            (0o1777, 65532, false),
            (0o777, 65532, false),
            (0o775, 65532, false),
            (0o757, 65532, false),
            // Root's directory, in which nobody else makes a link.
            (0o755, 65532, is_root),
        ] {
            mode(directory);
            for path in ["link", "link/", "link/new", "link/../link"] {
                let path = place.at(path);
                let resolved = resolve_as(&path, user);
                assert_eq!(resolved.is_ok(), followed, "{directory:o}, {user}, {path:?}: {resolved:?}");
                if let Err(error) = resolved {
                    assert_eq!(error.kind(), Kind::Usage);
                    let (error, link) = (error.to_string(), place.at("link").display().to_string());
                    assert!(error.contains(&link) && error.contains(&link_is.to_string()), "{error}");
                }
            }
        }
    }
}
