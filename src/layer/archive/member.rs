//! One member of an archive, as the file system needs it.
//!
//! There is one [`Member`] an archive, and its buffers are used again: in the steady state a member
//! costs no allocation. What a hostile member grew is given back before the next one.

use std::ffi::CStr;

/// Capacity, in bytes or segments, that a buffer keeps for the next member.
const KEEP: usize = 8 * 1024;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberKind {
    /// A regular file, with data.
    #[default]
    File,
    /// Another name of a file: [`Member::link`], a path in the root.
    Hardlink,
    /// [`Member::link`] is its text.
    Symlink,
    /// [`Member::device`] is its number.
    CharDevice,
    /// [`Member::device`] is its number.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// A point in time: seconds since the epoch, and nanoseconds (below 10⁹) after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

/// A stretch of a sparse file that holds data; between the segments there are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// A member of an archive. Paths are as they stand in it: bytes, not yet cleaned.
#[derive(Debug, Default)]
pub struct Member {
    /// What it is.
    pub kind: MemberKind,
    /// Where it belongs.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link; else empty.
    pub link: Vec<u8>,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// Bytes of the file, holes included; 0 for everything that is not a file.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, without ACLs or labels singled out.
    pub xattrs: Xattrs,
    /// Whether `segments` says where the data belongs.
    pub sparse: bool,
    /// The data of a sparse file, in order, without overlap.
    pub segments: Vec<Segment>,
}

impl Member {
    /// What its names, attributes and map take, in bytes.
    pub(in crate::layer) fn weight(&self) -> u64 {
        let Member { path, link, xattrs, segments, .. } = self;
        (path.len() + link.len() + xattrs.bytes.len() + size_of_val(segments.as_slice())) as u64
    }

    /// Forgets the last member, but keeps buffers of ordinary size.
    pub(in crate::layer) fn reset(&mut self) {
        let Member { path, link, xattrs, segments, .. } = self;
        clear(path);
        clear(link);
        clear(segments);
        clear(&mut xattrs.bytes);
        clear(&mut xattrs.ends);
        self.sparse = false;
        self.device = (0, 0);
    }
}

/// Empties `buffer`; what is more than [`KEEP`] is freed.
pub(super) fn clear<T>(buffer: &mut Vec<T>) {
    buffer.clear();
    buffer.shrink_to(KEEP);
}

/// Names and values of extended attributes, in one buffer.
#[derive(Debug, Default)]
pub struct Xattrs {
    /// Name, NUL, value; name, NUL, value; …
    pub(super) bytes: Vec<u8>,
    /// Where each value begins and ends in `bytes`.
    pub(super) ends: Vec<(usize, usize)>,
}

impl Xattrs {
    /// Names and values, in the archive's order.
    pub fn iter(&self) -> impl Iterator<Item = (&CStr, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(value, end)| {
            let name = CStr::from_bytes_until_nul(&self.bytes[start..value]).unwrap_or_default();
            start = end;
            (name, &self.bytes[value..end])
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds one.
    pub(in crate::layer) fn push(&mut self, name: &CStr, value: &[u8]) {
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((start, self.bytes.len()));
    }

    /// Forgets all, as a second extension header replaces the first.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}
