//! An initramfs made in memory: the cpio archive that the kernel unpacks as its first root ("newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst). The cpio program would need a folder to
//! read from, and root for the device nodes in it.

use super::image::gzip;

/// File type bits of a mode (stat(2)).
const DIRECTORY: u32 = 0o040000;
const CHARACTER_DEVICE: u32 = 0o020000;
const REGULAR: u32 = 0o100000;
const SYMLINK: u32 = 0o120000;

/// An initramfs in the making. A folder has to come before what stands in it.
pub struct Initramfs {
    archive: Vec<u8>,
    entries: u32,
}

impl Initramfs {
    pub fn new() -> Initramfs {
        Initramfs { archive: Vec::new(), entries: 0 }
    }

    pub fn dir(self, path: &str) -> Initramfs {
        self.entry(path, DIRECTORY | 0o755, (0, 0), b"")
    }

    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Initramfs {
        self.entry(path, REGULAR | mode, (0, 0), content.as_ref())
    }

    pub fn symlink(self, path: &str, target: &str) -> Initramfs {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    pub fn char_device(self, path: &str, major: u32, minor: u32) -> Initramfs {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), b"")
    }

    /// The whole archive, compressed: on a small board the packed and the unpacked one share the memory.
    pub fn compressed(self) -> Vec<u8> {
        gzip(&self.entry("TRAILER!!!", 0, (0, 0), b"").archive)
    }

    fn entry(mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) -> Initramfs {
        self.entries += 1;
        let name = path.trim_start_matches('/');
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        // inode, mode, uid, gid, links, mtime, size, device (2), its own device number (2), name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0];
        self.archive.extend(b"070701");
        for field in fields {
            self.archive.extend(format!("{field:08X}").bytes());
        }
        self.archive.extend(name.bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}
