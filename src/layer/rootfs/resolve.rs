//! Paths through symbolic links, without ever leaving the root.
//!
//! | way | needs | else |
//! |---|---|---|
//! | `openat2` with `RESOLVE_IN_ROOT`, the kernel resolves | Linux 5.6, not forbidden by seccomp | the walk |
//! | walk of our own, one component at a time | Linux 2.6.39 (`O_PATH`, empty path in `fstatat`) | |
//!
//! Both treat the root as a process would after `chroot`: absolute links start at it, `..` stops at
//! it. The walk asks before each step what the component is, and opens with `O_NOFOLLOW`; nobody else
//! writes into the root meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};

use crate::layer::room::Room;

/// Most symbolic links on one way (the kernel's `MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;
/// Most bytes that are left to walk, links' targets put in.
const REST_MAX: usize = 2 * 4096;
/// Mode of directories that no member made.
pub(super) const IMPLIED_MODE: u32 = 0o755;

/// Resolves paths in a root, by the kernel where it can.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::layer) struct Resolver {
    /// Walk, even where the kernel could resolve.
    pub(super) emulate: bool,
}

impl Resolver {
    /// The directory at `path`, as an `O_PATH` descriptor. With `create`, missing directories are made
    /// on the way, also where a link points, as long as there is room.
    pub(in crate::layer) fn directory(
        &mut self,
        root: BorrowedFd<'_>,
        path: &[u8],
        create: Option<&mut Room>,
    ) -> io::Result<OwnedFd> {
        if !self.emulate {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            match self.kernel(root, path, flags) {
                Err(Errno::ENOENT) if create.is_some() => {}
                Err(error) if unusable(error) => {}
                other => return Ok(other?),
            }
        }
        match walk(root, path, create)? {
            (directory, None) => Ok(directory),
            _ => Err(Errno::ENOTDIR.into()),
        }
    }

    /// Opens the regular file at `path`.
    fn file(&mut self, root: BorrowedFd<'_>, path: &[u8]) -> io::Result<File> {
        if !self.emulate {
            match self.kernel_file(root, path) {
                Err(error) if error.raw_os_error().is_some_and(|errno| unusable(Errno::from_raw(errno))) => {}
                other => return other,
            }
        }
        let (directory, Some(name)) = walk(root, path, None)? else { return Err(Errno::EISDIR.into()) };
        regular(&fstatat(directory.as_fd(), &name[..], AtFlags::AT_SYMLINK_NOFOLLOW)?)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        Ok(openat(directory.as_fd(), &name[..], flags, Mode::empty())?.into())
    }

    fn kernel_file(&mut self, root: BorrowedFd<'_>, path: &[u8]) -> io::Result<File> {
        // Nothing but a regular file may be opened: devices and pipes do things when they are.
        let probe = self.kernel(root, path, OFlag::O_PATH | OFlag::O_CLOEXEC)?;
        regular(&fstatat(probe.as_fd(), "", AtFlags::AT_EMPTY_PATH)?)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_LARGEFILE;
        Ok(self.kernel(root, path, flags)?.into())
    }

    fn kernel(&mut self, root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let path = if path.is_empty() { b"." } else { path };
        openat2(root, path, how).inspect_err(|error| self.emulate |= *error == Errno::ENOSYS)
    }
}

/// Whether `openat2` has said nothing of the path: unknown, forbidden by seccomp, confused by a rename elsewhere
/// (`EAGAIN`, openat2(2)); or too many links, which the kernel counts twice where it has to begin anew, as it does
/// under pressure of memory (Linux fs/namei.c, path_openat).
fn unusable(error: Errno) -> bool {
    matches!(error, Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN | Errno::ELOOP)
}

fn regular(stat: &FileStat) -> io::Result<()> {
    match file_type(stat) {
        SFlag::S_IFREG => Ok(()),
        SFlag::S_IFDIR => Err(Errno::EISDIR.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The type bits of a file's mode.
pub(in crate::layer) fn file_type(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Walks `path` from `root`: to a directory (`None`), or to the directory and name of something else.
fn walk(
    root: BorrowedFd<'_>,
    path: &[u8],
    mut create: Option<&mut Room>,
) -> io::Result<(OwnedFd, Option<Vec<u8>>)> {
    let step = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = |at: BorrowedFd<'_>, name: &[u8]| openat(at, name, step, Mode::empty());
    let identity =
        |at: BorrowedFd<'_>| fstatat(at, "", AtFlags::AT_EMPTY_PATH).map(|stat| (stat.st_dev, stat.st_ino));
    let mut at = open(root, b".")?;
    let mut rest = path.to_vec();
    let mut links = 0;
    while !rest.is_empty() {
        let slash = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let tail = rest.split_off((slash + 1).min(rest.len()));
        let name = &rest[..slash];
        match name {
            b"" | b"." => {}
            b".." => {
                if identity(at.as_fd())? != identity(root)? {
                    at = open(at.as_fd(), b"..")?;
                }
            }
            name => {
                let stat = match (fstatat(at.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW), &mut create) {
                    (Err(Errno::ENOENT), Some(room)) => {
                        room.entry()?;
                        mkdirat(at.as_fd(), name, Mode::from_bits_truncate(IMPLIED_MODE))?;
                        fstatat(at.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?
                    }
                    (other, _) => other?,
                };
                match file_type(&stat) {
                    SFlag::S_IFDIR => at = open(at.as_fd(), name)?,
                    SFlag::S_IFLNK => {
                        links += 1;
                        let mut target = readlinkat(at.as_fd(), name)?.into_vec();
                        if links > LINKS_MAX || target.len() + tail.len() > REST_MAX {
                            return Err(Errno::ELOOP.into());
                        }
                        if target.starts_with(b"/") {
                            at = open(root, b".")?;
                        }
                        target.push(b'/');
                        target.extend_from_slice(&tail);
                        rest = target;
                        continue;
                    }
                    _ if tail.iter().all(|byte| *byte == b'/') => return Ok((at, Some(name.to_vec()))),
                    _ => return Err(Errno::ENOTDIR.into()),
                }
            }
        }
        rest = tail;
    }
    Ok((at, None))
}

/// Opens a regular file in a finished root for reading; links on the way and at its end are followed
/// as after `chroot`. Neither devices nor pipes nor anything outside the root is opened.
///
/// # Errors
/// As `open(2)`; `InvalidInput` for what is no regular file.
pub fn open_in_root(root: BorrowedFd<'_>, path: impl AsRef<Path>) -> io::Result<File> {
    Resolver { emulate: false }.file(root, path.as_ref().as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::room::Phase;
    use nix::sys::stat::fstat;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A root beside a secret that must not be found.
    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::write(path.join("secret"), "secret").unwrap();
        fs::create_dir_all(path.join("root/usr/lib/deep")).unwrap();
        fs::write(path.join("root/usr/lib/libc"), "libc").unwrap();
        fs::write(path.join("root/secret"), "inside").unwrap();
        for (link, target) in [
            ("lib", "usr/lib"),
            ("abs", "/usr/lib"),
            ("usr/lib/deep/abs", "/usr/lib"),
            ("up", "../../../usr/lib"),
            ("usr/lib/deep/back", "../../../../../secret"),
            ("chain", "up/deep/../../../abs/"),
            ("loop", "loop"),
            ("ping", "pong"),
            ("pong", "ping"),
            ("out", "/../secret"),
            ("magic", "/proc/self/root/etc/passwd"),
            ("tolibc", "chain/libc"),
            ("dangling", "made/by/link"),
        ] {
            symlink(target, path.join("root").join(link)).unwrap();
        }
        nix::unistd::mkfifo(&path.join("root/fifo"), Mode::S_IRWXU).unwrap();
        let fd = File::open(path.join("root")).unwrap().into();
        (dir, fd)
    }

    fn both() -> [Resolver; 2] {
        [Resolver { emulate: false }, Resolver { emulate: true }]
    }

    #[test]
    fn files_are_found_inside_and_never_outside() {
        let (_dir, root) = root();
        for mut resolver in both() {
            let emulate = resolver.emulate;
            let mut read = |path: &str| {
                let mut text = String::new();
                let mut file = resolver.file(root.as_fd(), path.as_bytes()).map_err(|e| e.raw_os_error())?;
                file.read_to_string(&mut text).unwrap();
                Ok(text)
            };
            for path in [
                "usr/lib/libc",
                "/usr/lib/libc",
                "lib/libc",
                "abs/libc",
                "up/libc",
                "chain/libc",
                "tolibc",
                "lib/deep/abs/libc",
            ] {
                assert_eq!(read(path).as_deref(), Ok("libc"), "{path}, emulated: {emulate}");
            }
            for path in ["secret", "../secret", "out", "usr/lib/deep/back", "lib/deep/back", "/../../secret"]
            {
                assert_eq!(read(path).as_deref(), Ok("inside"), "{path}, emulated: {emulate}");
            }
            for (path, errno) in [
                ("loop", Some(Errno::ELOOP)),
                ("ping/x", Some(Errno::ELOOP)),
                ("nothing", Some(Errno::ENOENT)),
                ("magic", Some(Errno::ENOENT)),
                ("dangling", Some(Errno::ENOENT)),
                ("secret/x", Some(Errno::ENOTDIR)),
                ("usr", Some(Errno::EISDIR)),
                ("..", Some(Errno::EISDIR)),
                ("fifo", None),
            ] {
                assert_eq!(read(path), Err(errno.map(|e| e as i32)), "{path}, emulated: {emulate}");
            }
        }
    }

    /// The kernel does not vouch for a `..` while anybody on the machine renames anything: openat2(2), `EAGAIN`.
    #[test]
    fn renames_elsewhere_change_nothing() {
        let (_dir, root) = root();
        let elsewhere = tempfile::tempdir().unwrap();
        let (one, other) = (elsewhere.path().join("one"), elsewhere.path().join("other"));
        fs::write(&one, "").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(&one, &other).unwrap();
                    fs::rename(&other, &one).unwrap();
                }
            });
            let failed = (0..5_000).find_map(|_| {
                let file = open_in_root(root.as_fd(), "usr/lib/deep/back").err();
                file.or_else(|| Resolver::default().directory(root.as_fd(), b"chain", None).err())
            });
            done.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn directories_are_the_same_either_way() {
        let (dir, root) = root();
        for mut resolver in both() {
            let mut inode = |path: &str| {
                let directory = resolver.directory(root.as_fd(), path.as_bytes(), None)?;
                io::Result::Ok(fstat(directory)?.st_ino)
            };
            let lib = inode("usr/lib").unwrap();
            for path in ["lib", "abs", "up", "chain", "usr/lib/deep/..", "../../../lib"] {
                assert_eq!(inode(path).unwrap(), lib, "{path}");
            }
            assert_eq!(inode("").unwrap(), fstat(root.as_fd()).unwrap().st_ino);
            assert_eq!(inode("../..").unwrap(), fstat(root.as_fd()).unwrap().st_ino);
            assert!(inode("secret").is_err() && inode("loop").is_err() && inode("dangling").is_err());
        }
        for mut resolver in both() {
            let made = dir.path().join("root/made");
            let mut room = Room::new(root.as_fd(), Phase::Compose).unwrap();
            resolver.directory(root.as_fd(), b"dangling/deeper", Some(&mut room)).unwrap();
            assert!(made.join("by/link/deeper").is_dir());
            fs::remove_dir_all(made).unwrap();
        }
    }
}
