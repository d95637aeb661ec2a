//! A layer that is on its way, frozen: all that a new process needs to go on in the middle of it, when this one
//! was killed, the power failed, or the board was started again.
//!
//! The order in which things become durable: what the members so far are made of, and their record → `syncfs`
//! → the checkpoint → `fdatasync`. So a checkpoint never counts on anything that may be lost. There are two
//! slots, written in turn, each with a sequence number and a checksum: a cut in the middle of writing one
//! leaves the other. A checkpoint that is damaged, from another version, or does not fit the layer or what is
//! on disk is no error: the layer starts over.
//!
//! ```text
//! magic · sequence · length · digests and size of the layer · payload (as in fetch.rs) · CRC-32 of all before
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Layer;
use super::codec::{Input, put_number};
use crate::sys;

/// Changes with every change of what is in a checkpoint.
const MAGIC: &[u8; 16] = b"edgepull frozen2";
const SLOTS: [&str; 2] = ["checkpoint.0", "checkpoint.1"];
/// The largest checkpoint that is read, in bytes. The window of inflate takes 32 KiB of an ordinary one's
/// 34; a member at the limits of what it may have adds its path and attributes.
const CHECKPOINT_MAX: u64 = 512 * 1024;

/// Whose checkpoint it is.
fn identity(layer: &Layer<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&layer.wire_digest);
    out.extend_from_slice(&layer.diff_id);
    put_number(out, layer.wire_size);
}

/// A checkpoint to be written.
pub(super) struct Checkpoint {
    sequence: u64,
    bytes: Vec<u8>,
}

impl Checkpoint {
    /// Begins number `sequence` of a layer; the payload is for the caller to append.
    pub(super) fn begin(sequence: u64, layer: &Layer<'_>) -> Checkpoint {
        let mut bytes = Vec::with_capacity(36 * 1024);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        identity(layer, &mut bytes);
        Checkpoint { sequence, bytes }
    }

    /// Where the payload goes.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes everything of the layer durable, then this.
    pub(super) fn write(mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let crc = crc32fast::hash(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        sys::sync_file_system(dir)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let name = SLOTS[(self.sequence % 2) as usize];
        let file = File::from(openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all_at(&self.bytes, 0)?;
        // What an older, longer one has left behind it would spoil the checksum.
        file.set_len(self.bytes.len() as u64)?;
        file.sync_data()?;
        match self.sequence {
            // Their names have to last, too.
            0 | 1 => File::from(dir.try_clone_to_owned()?).sync_all(),
            _ => Ok(()),
        }
    }
}

/// A checkpoint that was read.
pub(super) struct Found {
    pub(super) sequence: u64,
    bytes: Vec<u8>,
    payload: usize,
}

impl Found {
    /// The newest that is whole and this layer's.
    pub(super) fn newest(dir: BorrowedFd<'_>, layer: &Layer<'_>) -> Option<Found> {
        let slots = SLOTS.iter().filter_map(|name| Found::read(dir, name, layer));
        slots.max_by_key(|found| found.sequence)
    }

    fn read(dir: BorrowedFd<'_>, name: &str, layer: &Layer<'_>) -> Option<Found> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(dir, name, flags, Mode::empty()).ok()?);
        let mut bytes = Vec::new();
        file.take(CHECKPOINT_MAX + 1).read_to_end(&mut bytes).ok()?;
        Found::parse(bytes, layer)
    }

    fn parse(mut bytes: Vec<u8>, layer: &Layer<'_>) -> Option<Found> {
        if bytes.len() as u64 > CHECKPOINT_MAX {
            return None;
        }
        let end = bytes.len().checked_sub(4)?;
        let crc = u32::from_le_bytes(bytes[end..].try_into().ok()?);
        bytes.truncate(end);
        if crc32fast::hash(&bytes) != crc {
            return None;
        }
        let mut input = Input(&bytes);
        if input.array()? != *MAGIC {
            return None;
        }
        let sequence = u64::from_le_bytes(input.array()?);
        let mut should = Vec::new();
        identity(layer, &mut should);
        if input.take(should.len())? != should {
            return None;
        }
        let payload = bytes.len() - input.0.len();
        Some(Found { sequence, bytes, payload })
    }

    pub(super) fn payload(&self) -> Input<'_> {
        Input(&self.bytes[self.payload..])
    }
}

/// Removes the checkpoints of a layer that no longer needs them. Whether there were any.
pub(super) fn forget(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let mut any = false;
    for name in SLOTS {
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => {}
            other => any |= other.map(|()| true)?,
        }
    }
    Ok(any)
}

/// Whether there is one, whatever it is worth.
pub(super) fn any(dir: BorrowedFd<'_>) -> bool {
    let is_there = |name| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
    SLOTS.into_iter().any(is_there)
}

/// How many bytes of a layer need not be fetched again, if it goes on from its checkpoint.
pub(super) fn position(dir: BorrowedFd<'_>, layer: &Layer<'_>) -> u64 {
    let found = Found::newest(dir, layer);
    found.and_then(|found| super::fetch::position_of(&mut found.payload())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    const LAYER: Layer<'_> = Layer {
        compression: super::super::Compression::None,
        wire_digest: [1; 32],
        wire_size: 1000,
        diff_id: [2; 32],
        name: "layer 1/1",
    };

    fn write(dir: &File, sequence: u64, payload: &[u8]) {
        let mut checkpoint = Checkpoint::begin(sequence, &LAYER);
        checkpoint.payload().extend_from_slice(payload);
        checkpoint.write(dir.as_fd()).unwrap();
    }

    fn newest(dir: &File, layer: &Layer<'_>) -> Option<(u64, Vec<u8>)> {
        Found::newest(dir.as_fd(), layer).map(|found| (found.sequence, found.payload().0.to_vec()))
    }

    #[test]
    fn the_newest_whole_one_counts_whatever_became_of_the_other() {
        let home = tempfile::tempdir().unwrap();
        let dir = File::open(home.path()).unwrap();
        assert_eq!(newest(&dir, &LAYER), None);
        write(&dir, 0, &[7; 900]);
        write(&dir, 1, b"one");
        write(&dir, 2, b"two");
        assert_eq!(newest(&dir, &LAYER), Some((2, b"two".to_vec())));
        let slot = home.path().join("checkpoint.0");
        let whole = std::fs::read(&slot).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&slot, &whole[..end]).unwrap();
            assert_eq!(newest(&dir, &LAYER), Some((1, b"one".to_vec())), "torn at {end}");
            let mut changed = whole.clone();
            changed[end] ^= 1;
            std::fs::write(&slot, &changed).unwrap();
            assert_eq!(newest(&dir, &LAYER), Some((1, b"one".to_vec())), "changed at {end}");
        }
    }

    #[test]
    fn another_layers_checkpoint_does_not_fit() {
        let home = tempfile::tempdir().unwrap();
        let dir = File::open(home.path()).unwrap();
        write(&dir, 3, b"x");
        assert!(newest(&dir, &LAYER).is_some());
        for other in [
            Layer { wire_digest: [3; 32], ..LAYER },
            Layer { diff_id: [3; 32], ..LAYER },
            Layer { wire_size: 999, ..LAYER },
        ] {
            assert_eq!(newest(&dir, &other), None, "{other:?}");
        }
    }

    #[test]
    fn an_endless_file_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let dir = File::open(home.path()).unwrap();
        File::create(home.path().join("checkpoint.1")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(newest(&dir, &LAYER), None);
    }
}
