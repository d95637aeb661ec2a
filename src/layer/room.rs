//! The room that is left where a layer is written. Nobody says beforehand what a layer unpacks to: some KB of
//! gzip or zstd may become a disk full. So the file system is asked while files are written, and a layer that
//! would take the last of it ends before it does.
//!
//! It is asked again at the latest after [`LOOK_EVERY`] bytes, and after half of what is left: what this process
//! writes cannot go beyond the reserve between two looks. Inodes count as bytes do, where a file system has a
//! limit of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::statvfs::fstatvfs;

use crate::error::{Error, Kind, Result};

/// What stays free on the file system after a fetch, for the tree's directories, for the record, and for everybody
/// else there: a twentieth of it, but not more than so many bytes.
pub const RESERVE_MAX: u64 = 16 << 20;
/// The same for inodes.
pub const INODES_RESERVE_MAX: u64 = 1024;
/// After so many bytes at the latest the file system is asked again.
const LOOK_EVERY: u64 = 1 << 20;
/// What an entry of a directory counts, in bytes, whatever it is: a directory takes that much, a file of no bytes
/// less.
const ENTRY_COST: u64 = 4096;

/// How many bytes stay free on a file system of `all` bytes.
pub fn reserve(all: u64) -> u64 {
    (all / 20).min(RESERVE_MAX)
}

/// Who writes: the reserve is for what comes after the fetch, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Layers are fetched: the whole reserve stays.
    Fetch,
    /// The tree is made of them: a quarter of it stays.
    Compose,
}

impl Phase {
    fn of(self, reserve: u64) -> u64 {
        match self {
            Phase::Fetch => reserve,
            Phase::Compose => reserve / 4,
        }
    }
}

/// Looks after the room of one file system.
pub(super) struct Room {
    place: OwnedFd,
    phase: Phase,
    /// What may be written before the next look.
    left: u64,
    /// What was asked for, for the message.
    written: u64,
}

impl Room {
    /// That of the file system that `place` is on.
    pub(super) fn new(place: BorrowedFd<'_>, phase: Phase) -> std::io::Result<Room> {
        Ok(Room { place: place.try_clone_to_owned()?, phase, left: 0, written: 0 })
    }

    /// One more entry is about to be made.
    ///
    /// # Errors
    /// [`Kind::Disk`] where that would leave less than the reserve.
    pub(super) fn entry(&mut self) -> Result<()> {
        self.take(ENTRY_COST)
    }

    /// So many more bytes are about to be written.
    ///
    /// # Errors
    /// [`Kind::Disk`] where that would leave less than the reserve.
    pub(super) fn bytes(&mut self, bytes: u64) -> Result<()> {
        self.written += bytes;
        self.take(bytes)
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.look(bytes),
        }
    }

    /// Asks the file system.
    fn look(&mut self, bytes: u64) -> Result<()> {
        // Where it cannot say, a full disk shows when it is written to.
        let Ok(stat) = fstatvfs(self.place.as_fd()) else { return Ok(()) };
        // Block counts have different widths on 32-bit targets.
        let number = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let size = number(stat.fragment_size().into());
        let scaled = |blocks: u128| number(blocks).saturating_mul(size);
        let (free, all) = (scaled(stat.blocks_available().into()), scaled(stat.blocks().into()));
        let (nodes, all_nodes) = (number(stat.files_available().into()), number(stat.files().into()));
        let mut most = LOOK_EVERY;
        // 0 of all: a file system without such a limit, as ramfs has none of either and btrfs none of inodes.
        if all > 0 {
            let reserve = self.phase.of(reserve(all));
            let usable = free.saturating_sub(reserve);
            if usable < bytes {
                return Err(self.full(format!("{} kB are free", free / 1000), reserve / 1000, "kB"));
            }
            most = most.min(usable / 2);
        }
        if all_nodes > 0 {
            let reserve = self.phase.of((all_nodes / 20).min(INODES_RESERVE_MAX));
            let usable = nodes.saturating_sub(reserve);
            if usable == 0 {
                return Err(self.full(format!("{nodes} inodes are free"), reserve, "inodes"));
            }
            most = most.min((usable / 2).saturating_mul(ENTRY_COST));
        }
        self.left = most.saturating_sub(bytes);
        Ok(())
    }

    fn full(&self, free: String, reserve: u64, unit: &str) -> Error {
        let written = self.written / 1000;
        let message = format!(
            "the file system is nearly full: {free} after {written} kB were written, and {reserve} {unit} stay in reserve"
        );
        Error::new(Kind::Disk, message).hint("free some room and run the same command again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_reserve_is_a_twentieth_up_to_a_limit() {
        assert_eq!(reserve(0), 0);
        assert_eq!(reserve(2000), 100);
        assert_eq!(reserve(1 << 40), RESERVE_MAX);
        assert_eq!(Phase::Compose.of(reserve(2000)), 25);
    }

    #[test]
    fn what_is_more_than_there_is_is_refused_before_it_is_written() {
        let home = tempfile::tempdir().unwrap();
        let directory = File::open(home.path()).unwrap();
        let mut room = Room::new(directory.as_fd(), Phase::Fetch).unwrap();
        room.bytes(1).unwrap();
        assert!(room.left < LOOK_EVERY, "asked");
        let error = room.bytes(1 << 60).unwrap_err();
        assert_eq!(error.kind(), Kind::Disk);
        assert!(error.to_string().starts_with("the file system is nearly full: "), "{error}");
    }

    #[test]
    fn where_there_is_no_limit_nothing_is_refused() {
        // procfs has neither blocks nor inodes.
        let directory = File::open("/proc").unwrap();
        let mut room = Room::new(directory.as_fd(), Phase::Fetch).unwrap();
        room.bytes(1 << 60).unwrap();
        room.entry().unwrap();
    }
}
