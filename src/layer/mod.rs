//! How the bytes of a layer become files: kept once, and linked into every root that has the layer.
//!
//! ```text
//! source -> sha256 -> gzip/zstd -> sha256 -> tar members -> objects and members   -> root file systems
//!   wire              decode       diff-id   archive        keeper                   kept, rootfs
//!     \________________________ checkpoint ____________________/
//! ```
//!
//! | part | knows |
//! |---|---|
//! | `queue`, `hash`, `meter` | threads between stages, the two hashes, where CPU time goes |
//! | `decode`, [`archive`] | gzip and zstd; tar members under hard limits |
//! | `keeper`, `members`, `objects`, `base` | a layer as it is kept; what an older tree has of it already |
//! | `room` | what is left of the file system, so that no layer takes the last of it |
//! | `fetch`, `checkpoint` | the one stream through all of these, and how it is frozen and thawed |
//! | `kept`, [`rootfs`] | a kept layer applied to a root: the only code that writes into one |
//!
//! Each stage owns a small explicit state and pulls from the one before it. A few fixed buffers are all
//! the memory there is (about 450 KiB with threads, 150 KiB without; 300 KiB more for zstd), whatever
//! the layer holds. Where there are two cores, reading the wire and hashing the tar run in threads of their own.

pub mod archive;
mod base;
mod checkpoint;
mod codec;
mod decode;
mod fetch;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hash;
mod keeper;
mod kept;
mod members;
mod meter;
mod objects;
mod queue;
mod room;
pub mod rootfs;
mod scratch;

use std::io;
use std::ops::AddAssign;
use std::os::fd::{BorrowedFd, OwnedFd};

pub use crate::image::manifest::Compression;
pub use fetch::{CHECKPOINT_EVERY, Opener, fetch};
pub use kept::Kept;
pub use meter::CpuTimes;
pub use room::reserve;
pub use rootfs::Rootfs;

use rootfs::Warning;

/// What is promised about a layer.
#[derive(Debug, Clone)]
pub struct Layer<'a> {
    /// By its media type.
    pub compression: Compression,
    /// Sha256 of the bytes that the source gives.
    pub wire_digest: [u8; 32],
    /// How many bytes the source gives.
    pub wire_size: u64,
    /// Sha256 of the uncompressed tar.
    pub diff_id: [u8; 32],
    /// For messages: `layer 2/5 sha256:abc…`.
    pub name: &'a str,
}

/// Hears how far a layer is. Called from several threads, once a buffer or a tar member.
pub trait Observer: Sync {
    /// `n` more bytes came from the source.
    fn wire_bytes(&self, n: u64) {
        let _ = n;
    }
    /// `n` more bytes were uncompressed.
    fn unpacked_bytes(&self, n: u64) {
        let _ = n;
    }
    /// `n` more tar members were kept.
    fn entries(&self, n: u64) {
        let _ = n;
    }
    /// An interrupted fetch goes on: `n` bytes of the source need not come again.
    fn spared(&self, n: u64) {
        let _ = n;
    }
    /// What came until now is of no use: it starts over.
    fn starts_over(&self) {}
    /// Size and digest of the wire are right: what is wrong with the layer from now on, nobody on the way has done.
    fn wire_is_right(&self) {}
}

/// What a layer was, and what it cost.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Bytes from the source, without those that a checkpoint spared.
    pub wire_bytes: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// Members of the tar, whiteouts included.
    pub entries: u64,
    /// Bytes that were written: data of files, and the record of the members.
    pub written: u64,
    /// Bytes of data that were not written, because an older file had them.
    pub shared: u64,
    /// What could not be kept; at most one of each kind.
    pub warnings: Vec<Warning>,
    /// What it cost.
    pub cpu: CpuTimes,
}

impl AddAssign for Stats {
    /// Adds another layer's figures.
    fn add_assign(&mut self, other: Stats) {
        self.wire_bytes += other.wire_bytes;
        self.tar_bytes += other.tar_bytes;
        self.entries += other.entries;
        self.written += other.written;
        self.shared += other.shared;
        rootfs::merge(&mut self.warnings, other.warnings);
        self.cpu += other.cpu;
    }
}

/// Whether stages run in threads of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Where there are two cores or more.
    Auto,
    /// Reading and hashing in threads beside.
    Beside,
    /// Everything in the caller's thread.
    One,
}

/// How a layer is fetched.
#[derive(Debug)]
pub struct Options {
    /// Threads.
    pub threads: Threads,
    /// The root of an older tree of the same deployment, on the same file system: what is equal there is not
    /// written again.
    pub base: Option<OwnedFd>,
    /// Whether owners are out of reach. `None`: unless the effective user is root.
    pub rootless: Option<bool>,
    /// A checkpoint is due after so many bytes of the wire.
    pub checkpoint_every: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { threads: Threads::Auto, base: None, rootless: None, checkpoint_every: CHECKPOINT_EVERY }
    }
}

/// How many bytes of a layer an interrupted fetch into `dir` has left that need not be fetched again.
pub fn spared(dir: BorrowedFd<'_>, layer: &Layer<'_>) -> u64 {
    checkpoint::position(dir, layer)
}

/// Removes the checkpoints of a layer that came whole.
///
/// # Errors
/// Those of the system calls.
pub fn forget_checkpoints(dir: BorrowedFd<'_>) -> io::Result<()> {
    checkpoint::forget(dir).map(drop)
}
