//! Owner, mode, extended attributes and times, in the order in which the kernel keeps them: `chown`
//! clears setuid bits and file capabilities, so it comes first; times come last, after everything that
//! changes them.
//!
//! Calls whose result is known beforehand are left out: with umask 0, a file that root makes has its
//! mode, owner and group already, unless they are unusual. Without root, owner and group go into a
//! note that tools for rootless containers read (`user.rootlesscontainers`, as umoci writes it).

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid};

use super::directory::{OpenDir, Who, timespec};
use super::path::bad;
use super::warning::{WarningKind, Warnings};
use crate::error::Error;
use crate::layer::archive::{Member, MemberKind};
use crate::sys;

/// Protocol buffer `{uint32 uid = 1; uint32 gid = 2}` (rootlesscontainers.proto).
const OWNER_NOTE: &CStr = c"user.rootlesscontainers";
/// Mode bits that creation may not set, or that a change of owner clears.
const SPECIAL: u32 = 0o7000;

/// Sets metadata, and counts what could not be set.
pub(in crate::layer) struct Metadata {
    pub(in crate::layer) who: Who,
    /// New files may get another mode than they are made with: a default ACL is somewhere above.
    inexact: bool,
    pub(in crate::layer) warnings: Warnings,
}

impl Metadata {
    /// For files in `dir`, and below it. `rootless` as in [`super::Options`].
    pub(in crate::layer) fn new(dir: BorrowedFd<'_>, rootless: Option<bool>) -> Metadata {
        let rootless = rootless.unwrap_or_else(|| !geteuid().is_root());
        let who = Who { uid: geteuid().as_raw(), gid: getegid().as_raw(), rootless };
        let inexact = sys::has_xattr(dir, c"system.posix_acl_default");
        Metadata { who, inexact, warnings: Warnings::default() }
    }

    /// The mode to make a file with, before [`Metadata::file`].
    pub(in crate::layer) fn first_mode(&self, mode: u32) -> Mode {
        Mode::from_bits_truncate(if self.who.rootless { 0o600 } else { mode & !SPECIAL })
    }

    /// A regular file that was just made and filled.
    pub(in crate::layer) fn file(
        &mut self,
        file: &File,
        member: &Member,
        other_group: bool,
    ) -> io::Result<()> {
        let fd = file.as_fd();
        let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
        if self.who.rootless {
            // Needs write permission, which the file's own mode may take away.
            self.note_owner(fd, member)?;
            self.xattrs(member, |name, value| sys::set_xattr(fd, name, value))?;
            fchmod(fd, Mode::from_bits_truncate(member.mode))?;
        } else {
            if self.foreign(member, other_group) && !self.owned(fchown(fd, Some(uid), Some(gid)))? {
                self.note_owner(fd, member)?;
            }
            if self.inexact || member.mode & SPECIAL != 0 {
                fchmod(fd, Mode::from_bits_truncate(member.mode))?;
            }
            self.xattrs(member, |name, value| sys::set_xattr(fd, name, value))?;
        }
        let time = timespec(member.mtime);
        Ok(futimens(fd, &time, &time)?)
    }

    /// An open directory; `existed` when a lower layer made it, whose attributes then go.
    pub(super) fn directory(&mut self, dir: &mut OpenDir, member: &Member, existed: bool) -> io::Result<()> {
        if existed {
            remove_other_xattrs(dir.fd(), member);
        }
        if self.who.rootless || !self.owned(dir.set_owner(member.uid, member.gid).map(drop))? {
            self.note_owner(dir.fd(), member)?;
        }
        dir.set_mode(member.mode, self.who)?;
        self.xattrs(member, |name, value| sys::set_xattr(dir.fd(), name, value))?;
        dir.set_time(member.mtime);
        Ok(())
    }

    /// Something that cannot be opened and was just made: a link, a device, a pipe.
    pub(super) fn node(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        member: &Member,
        other_group: bool,
    ) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
        if self.who.rootless {
            self.drop_owner(member);
        } else if self.foreign(member, other_group) {
            let nofollow = AtFlags::AT_SYMLINK_NOFOLLOW;
            if !self.owned(fchownat(at, name, Some(uid), Some(gid), nofollow))? {
                self.drop_owner(member);
            }
        }
        if member.kind != MemberKind::Symlink && (self.inexact || member.mode & SPECIAL != 0) {
            // Follows links, but this is none: it was made a moment ago, and it is no symlink.
            fchmodat(at, name, Mode::from_bits_truncate(member.mode), FchmodatFlags::FollowSymlink)?;
        }
        self.xattrs(member, |xattr, value| sys::set_xattr_at(at, name, xattr, value))?;
        let time = timespec(member.mtime);
        Ok(utimensat(at, name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Whether a new file has another owner or group than `member` says.
    fn foreign(&self, member: &Member, other_group: bool) -> bool {
        other_group || (member.uid, member.gid) != (self.who.uid, self.who.gid)
    }

    /// Whether a change of owner succeeded. It may not even for root: in a user namespace ids have to
    /// be mapped (`EINVAL`), and not all file systems have owners (`EPERM`).
    fn owned(&self, result: Result<(), impl Into<io::Error>>) -> io::Result<bool> {
        match result.map_err(Into::into) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Notes owner and group where they are not ours (which the image calls 0).
    fn note_owner(&mut self, file: BorrowedFd<'_>, member: &Member) -> io::Result<()> {
        if (member.uid, member.gid) == (0, 0) {
            return Ok(());
        }
        let mut note = heapless::Vec::<u8, 12>::new();
        for (tag, id) in [(0x08, member.uid), (0x10, member.gid)] {
            if id != 0 {
                // A tag and five bytes of seven bits for each of two fields: 12 bytes are enough.
                let _ = note.push(tag);
                varint(id, &mut note);
            }
        }
        match sys::set_xattr(file, OWNER_NOTE, &note) {
            Err(error) if refusal(&error, OWNER_NOTE, member.kind).is_some() => self.drop_owner(member),
            other => other?,
        }
        Ok(())
    }

    fn drop_owner(&mut self, member: &Member) {
        if (member.uid, member.gid) != (0, 0) {
            self.warnings.add(WarningKind::OwnershipDropped, &member.path);
        }
    }

    /// Sets the member's extended attributes by `set`.
    fn xattrs(
        &mut self,
        member: &Member,
        mut set: impl FnMut(&CStr, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        for (name, value) in member.xattrs.iter() {
            if of_host(name) {
                self.warnings.add(WarningKind::XattrOfHost, &member.path);
                continue;
            }
            match set(name, value) {
                Ok(()) => self.inexact |= name == c"system.posix_acl_default",
                Err(error) => match refusal(&error, name, member.kind) {
                    Some(kind) => self.warnings.add(kind, &member.path),
                    // ENOSPC too: an inode's room for attributes is small.
                    None => {
                        let name = name.to_string_lossy();
                        if let Some(libc::EINVAL | libc::ERANGE) = error.raw_os_error() {
                            return Err(bad(format!("the extended attribute {name:?} is malformed")));
                        }
                        return Err(Error::disk(format_args!("extended attribute {name:?}"), error).into());
                    }
                },
            }
        }
        Ok(())
    }
}

/// Says why the attribute `name` of something of `kind` was refused, where that is no failure. The kernel's error is the
/// same for all that it does not permit (xattr(7); `xattr_permission` in fs/xattr.c, `cap_inode_setxattr` in
/// security/commoncap.c).
fn refusal(error: &io::Error, name: &CStr, kind: MemberKind) -> Option<WarningKind> {
    let name = name.to_bytes();
    match error.raw_os_error()? {
        libc::ENOTSUP => Some(WarningKind::XattrUnsupported),
        libc::EPERM | libc::EACCES if name.starts_with(b"user.") && !has_user_xattrs(kind) => {
            Some(WarningKind::XattrOnNode)
        }
        libc::EPERM | libc::EACCES if takes_sys_admin(name) => Some(WarningKind::XattrSysAdmin),
        libc::EPERM | libc::EACCES => Some(WarningKind::XattrForbidden),
        _ => None,
    }
}

/// Whether `user.*` attributes exist on something of that kind: permission bits say who may write them.
fn has_user_xattrs(kind: MemberKind) -> bool {
    matches!(kind, MemberKind::File | MemberKind::Hardlink | MemberKind::Directory)
}

/// Whether the attribute is for holders of CAP_SYS_ADMIN on the machine itself, whoever owns the file.
fn takes_sys_admin(name: &[u8]) -> bool {
    name.starts_with(b"trusted.") || name.starts_with(b"security.") && name != b"security.capability"
}

/// Attributes that mean something only where the image was made: labels of its SELinux policy, its
/// NFS, and overlayfs' own marks, which would change what a later mount shows.
fn of_host(name: &CStr) -> bool {
    let name = name.to_bytes();
    name == b"security.selinux"
        || name == b"system.nfs4_acl"
        || name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
}

/// A lower layer's attributes don't shine through an upper layer's directory.
fn remove_other_xattrs(dir: BorrowedFd<'_>, member: &Member) {
    sys::each_xattr(dir, |name| {
        if !of_host(name) && !member.xattrs.iter().any(|(kept, _)| kept == name) {
            // What we may not remove is not the image's.
            if let Err(error) = sys::remove_xattr(dir, name) {
                log::debug!("extended attribute {name:?} of a directory stays: {error}");
            }
        }
    });
}

/// Protocol buffers' base-128 number.
fn varint(mut number: u32, into: &mut heapless::Vec<u8, 12>) {
    while number >= 0x80 {
        let _ = into.push(number as u8 | 0x80);
        number >>= 7;
    }
    let _ = into.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_owner_note() {
        for (number, bytes) in
            [(0, &[0][..]), (127, &[127]), (1000, &[0xe8, 7]), (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 15])]
        {
            let mut out = heapless::Vec::new();
            varint(number, &mut out);
            assert_eq!(&out[..], bytes, "{number}");
        }
    }
}
