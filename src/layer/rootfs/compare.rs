//! Two trees that should be the same, entry by entry: what a root should be, composed a moment ago, and what it
//! is. Files of both are links to the same kept ones, so a file is the same where its inode is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::path::Shown;
use super::remove::{each_entry, open};
use super::resolve::file_type;

/// How deep trees are compared: each level takes two open directories.
const DEPTH_MAX: u32 = 200;

/// Tells `found` of every entry of `is` that is not as in `should`: its path, and how it differs. The times of
/// directories are not compared, as those that no member made have the time when they were made.
///
/// # Errors
/// Those of the system calls.
pub fn compare(
    should: BorrowedFd<'_>,
    is: BorrowedFd<'_>,
    found: &mut dyn FnMut(&str, &str),
) -> io::Result<()> {
    let mut path = Vec::new();
    directories(should, is, &mut path, DEPTH_MAX, found)
}

fn directories(
    should: BorrowedFd<'_>,
    is: BorrowedFd<'_>,
    path: &mut Vec<u8>,
    depth: u32,
    found: &mut dyn FnMut(&str, &str),
) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        // No difference: nothing is known of it. The data of its files is checked where it is kept.
        log::warn!("{}: too deep to be compared", Shown(path));
        return Ok(());
    };
    let (mut expected, mut there) = (open(should, b".")?, open(is, b".")?);
    let length = path.len();
    each_entry(&mut expected, |should, name, _| {
        path.push(b'/');
        path.extend_from_slice(name);
        let compared = entry(should, there.as_fd(), name, path, depth, found);
        path.truncate(length);
        compared
    })?;
    each_entry(&mut there, |_, name, _| {
        if fstatat(should, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) {
            path.push(b'/');
            path.extend_from_slice(name);
            found(&Shown(path).to_string(), "is not of the image");
            path.truncate(length);
        }
        Ok(())
    })?;
    Ok(())
}

fn entry(
    should: BorrowedFd<'_>,
    is: BorrowedFd<'_>,
    name: &[u8],
    path: &mut Vec<u8>,
    depth: u32,
    found: &mut dyn FnMut(&str, &str),
) -> io::Result<()> {
    let expected = fstatat(should, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let there = match fstatat(is, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => {
            found(&Shown(path).to_string(), "is gone");
            return Ok(());
        }
        other => other?,
    };
    let how = match file_type(&expected) {
        kind if kind != file_type(&there) => Some("is something else"),
        SFlag::S_IFREG if expected.st_ino != there.st_ino => Some("is another file"),
        SFlag::S_IFLNK if readlinkat(should, name)? != readlinkat(is, name)? => Some("leads elsewhere"),
        SFlag::S_IFCHR | SFlag::S_IFBLK if expected.st_rdev != there.st_rdev => Some("is another device"),
        _ if owner(&expected) != owner(&there) => Some("has another owner or mode"),
        _ => None,
    };
    if let Some(how) = how {
        found(&Shown(path).to_string(), how);
    } else if file_type(&expected) == SFlag::S_IFDIR {
        let (should, is) = (open(should, name)?, open(is, name)?);
        directories(should.as_fd(), is.as_fd(), path, depth, found)?;
    }
    Ok(())
}

fn owner(stat: &FileStat) -> (u32, u32, u32) {
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    #[test]
    fn every_kind_of_difference_is_named_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let (one, other) = (home.path().join("one"), home.path().join("other"));
        for tree in [&one, &other] {
            fs::create_dir_all(tree.join("dir/deep")).unwrap();
            symlink("target", tree.join("link")).unwrap();
            fs::create_dir(tree.join("kind")).unwrap();
        }
        for name in ["same", "dir/gone", "dir/deep/other"] {
            fs::write(one.join(name), name).unwrap();
            fs::hard_link(one.join(name), other.join(name)).unwrap();
        }
        let differences = || {
            let mut found = Vec::new();
            let open = |path: &Path| File::open(path).unwrap();
            let mut note = |path: &str, how: &str| found.push(format!("{path} {how}"));
            compare(open(&one).as_fd(), open(&other).as_fd(), &mut note).unwrap();
            found.sort();
            found
        };
        assert_eq!(differences(), [""; 0]);
        fs::remove_file(other.join("dir/gone")).unwrap();
        // Made beside the old one, as its inode's number may be given to the next file.
        fs::write(other.join("fresh"), "dir/deep/other").unwrap();
        fs::rename(other.join("fresh"), other.join("dir/deep/other")).unwrap();
        fs::write(other.join("dir/new"), "").unwrap();
        fs::remove_file(other.join("link")).unwrap();
        symlink("elsewhere", other.join("link")).unwrap();
        fs::remove_dir(other.join("kind")).unwrap();
        fs::write(other.join("kind"), "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(other.join("dir/deep"), mode).unwrap();
        assert_eq!(
            differences(),
            [
                "/dir/deep has another owner or mode",
                "/dir/gone is gone",
                "/dir/new is not of the image",
                "/kind is something else",
                "/link leads elsewhere",
            ]
        );
        fs::set_permissions(other.join("dir/deep"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        assert!(differences().contains(&"/dir/deep/other is another file".to_owned()));
    }
}
