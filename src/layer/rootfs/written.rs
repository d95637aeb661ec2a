//! What the current layer has written: whiteouts hide only what lower layers left.
//!
//! Two kinds of keys, both as 64-bit keyed hashes: the name of anything in its directory (directory's
//! inode number and name), and a directory (its own inode number) that the layer wrote, or in which it
//! wrote something, however deep. Hashes are keyed at random for every layer, so that nobody can make
//! names that collide; by chance, a million names do so with probability 10⁻⁷, and then a hidden file
//! would stay.
//!
//! Memory is one page-sized handful of [`RECENT`] keys. Fuller than that, they move to a hash table in
//! an unlinked file beside the root: pages of 512 keys, found by the highest bits of the key, so that
//! both moving the keys and enlarging the table walk the file from front to back.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use crate::layer::scratch;

/// Keys kept in memory, 32 KiB of them.
const RECENT: usize = 4096;
/// Keys in a page of the file.
const SLOTS: usize = 512;
const PAGE: usize = SLOTS * 8;
/// Pages of the first table; every enlargement multiplies them by 4.
const FIRST_BITS: u32 = 5;
const SPILL_NAME: &str = "written";
/// Sets the keys of emptied directories apart: no name is a number.
const EMPTIED: u64 = 1;

/// The set of names and directories that the current layer has written.
pub(super) struct Written {
    scratch: OwnedFd,
    hasher: RandomState,
    /// An open-addressing table with 0 for free; never more than half full.
    recent: Box<[u64]>,
    recent_count: usize,
    spill: Option<Spill>,
}

/// The table in the file.
struct Spill {
    file: File,
    /// It has 2^bits pages.
    bits: u32,
    count: u64,
}

impl Written {
    /// An empty set, which may use files in `scratch`.
    pub(super) fn new(scratch: OwnedFd) -> Written {
        let recent = vec![0; RECENT * 2].into_boxed_slice();
        Written { scratch, hasher: RandomState::new(), recent, recent_count: 0, spill: None }
    }

    pub(super) fn insert_name(&mut self, directory: u64, name: &[u8]) -> io::Result<()> {
        self.insert(self.name_key(directory, name))
    }

    pub(super) fn has_name(&self, directory: u64, name: &[u8]) -> io::Result<bool> {
        self.contains(self.name_key(directory, name))
    }

    pub(super) fn insert_directory(&mut self, inode: u64) -> io::Result<()> {
        self.insert(self.key((inode, ())))
    }

    pub(super) fn has_directory(&self, inode: u64) -> io::Result<bool> {
        self.contains(self.key((inode, ())))
    }

    /// Everything in this directory, however deep, is this layer's: what was not is hidden.
    pub(super) fn insert_emptied(&mut self, inode: u64) -> io::Result<()> {
        self.insert(self.key((inode, EMPTIED)))
    }

    pub(super) fn is_emptied(&self, inode: u64) -> io::Result<bool> {
        self.contains(self.key((inode, EMPTIED)))
    }

    fn name_key(&self, directory: u64, name: &[u8]) -> u64 {
        self.key((directory, name))
    }

    fn key(&self, of: impl std::hash::Hash) -> u64 {
        // 0 marks free slots.
        self.hasher.hash_one(of).max(1)
    }

    fn insert(&mut self, key: u64) -> io::Result<()> {
        let slot = self.recent_slot(key);
        if self.recent[slot] == key {
            return Ok(());
        }
        self.recent[slot] = key;
        self.recent_count += 1;
        if self.recent_count == RECENT { self.flush() } else { Ok(()) }
    }

    fn contains(&self, key: u64) -> io::Result<bool> {
        if self.recent[self.recent_slot(key)] == key {
            return Ok(true);
        }
        self.spill.as_ref().map_or(Ok(false), |spill| spill.contains(key))
    }

    /// The slot where `key` is, or where it would go.
    fn recent_slot(&self, key: u64) -> usize {
        let mask = self.recent.len() - 1;
        let mut slot = key as usize & mask;
        while self.recent[slot] != 0 && self.recent[slot] != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Moves the keys from memory to the file.
    fn flush(&mut self) -> io::Result<()> {
        let mut spill = match self.spill.take() {
            Some(spill) => spill,
            None => Spill::new(&self.scratch, FIRST_BITS)?,
        };
        if (spill.count + RECENT as u64) * 2 > (SLOTS as u64) << spill.bits {
            spill = spill.enlarged(&self.scratch)?;
        }
        // Free slots (0) come first, the rest in the order of the file's pages.
        self.recent.sort_unstable();
        let used = self.recent.len() - self.recent_count;
        spill.insert_sorted(&self.recent[used..])?;
        self.recent.fill(0);
        self.recent_count = 0;
        self.spill = Some(spill);
        Ok(())
    }
}

impl Spill {
    fn new(directory: &OwnedFd, bits: u32) -> io::Result<Spill> {
        let file = scratch::unnamed(directory.as_fd(), SPILL_NAME)?;
        // A hole: pages cost nothing until they are used.
        file.set_len((PAGE as u64) << bits)?;
        Ok(Spill { file, bits, count: 0 })
    }

    fn home(&self, key: u64) -> u64 {
        key >> (u64::BITS - self.bits)
    }

    fn read(&self, page: u64, into: &mut [u8; PAGE]) -> io::Result<()> {
        self.file.read_exact_at(into, page * PAGE as u64)
    }

    /// The page after `page`, where keys go that find theirs full.
    fn next(&self, page: u64) -> u64 {
        (page + 1) & ((1 << self.bits) - 1)
    }

    fn contains(&self, key: u64) -> io::Result<bool> {
        let (mut page, mut bytes) = (self.home(key), [0; PAGE]);
        loop {
            self.read(page, &mut bytes)?;
            match find(&bytes, key) {
                Some(at) => return Ok(slot(&bytes, at) == key),
                None => page = self.next(page),
            }
        }
    }

    /// Inserts keys in ascending order: each page is read and written once.
    fn insert_sorted(&mut self, keys: &[u64]) -> io::Result<()> {
        let (mut current, mut bytes, mut changed) = (None, [0; PAGE], false);
        for &key in keys {
            let mut page = self.home(key);
            loop {
                if current != Some(page) {
                    self.write_back(current.filter(|_| changed), &bytes)?;
                    self.read(page, &mut bytes)?;
                    (current, changed) = (Some(page), false);
                }
                match find(&bytes, key) {
                    Some(at) if slot(&bytes, at) == key => break,
                    Some(at) => {
                        bytes[at * 8..at * 8 + 8].copy_from_slice(&key.to_ne_bytes());
                        self.count += 1;
                        changed = true;
                        break;
                    }
                    None => page = self.next(page),
                }
            }
        }
        self.write_back(current.filter(|_| changed), &bytes)
    }

    fn write_back(&self, page: Option<u64>, bytes: &[u8; PAGE]) -> io::Result<()> {
        page.map_or(Ok(()), |page| self.file.write_all_at(bytes, page * PAGE as u64))
    }

    /// A table four times the size, with the same keys.
    fn enlarged(self, scratch: &OwnedFd) -> io::Result<Spill> {
        let mut larger = Spill::new(scratch, self.bits + 2)?;
        let (mut bytes, mut keys) = ([0; PAGE], heapless::Vec::<u64, SLOTS>::new());
        for page in 0..1 << self.bits {
            self.read(page, &mut bytes)?;
            keys.clear();
            keys.extend((0..SLOTS).map(|at| slot(&bytes, at)).filter(|key| *key != 0));
            keys.sort_unstable();
            larger.insert_sorted(&keys)?;
        }
        Ok(larger)
    }
}

fn slot(bytes: &[u8; PAGE], at: usize) -> u64 {
    let mut key = [0; 8];
    key.copy_from_slice(&bytes[at * 8..at * 8 + 8]);
    u64::from_ne_bytes(key)
}

/// Where `key` is in a page, or the free slot where it would go; `None` in a full page without it.
fn find(bytes: &[u8; PAGE], key: u64) -> Option<usize> {
    let start = key as usize % SLOTS;
    (0..SLOTS).map(|i| (start + i) % SLOTS).find(|&at| matches!(slot(bytes, at), 0) || slot(bytes, at) == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> (tempfile::TempDir, Written) {
        let scratch = tempfile::tempdir().unwrap();
        let fd = File::open(scratch.path()).unwrap().into();
        (scratch, Written::new(fd))
    }

    #[test]
    fn many_names_are_found_again_and_no_others() {
        let (scratch, mut written) = set();
        const MANY: u64 = 60_000;
        for i in 0..MANY {
            written.insert_name(i % 100, format!("name{i}").as_bytes()).unwrap();
            written.insert_directory(i * 2).unwrap();
        }
        for i in 0..MANY {
            let name = format!("name{i}");
            assert!(written.has_name(i % 100, name.as_bytes()).unwrap(), "{name}");
            assert!(!written.has_name(i % 100 + 1, name.as_bytes()).unwrap(), "{name} elsewhere");
            assert_eq!(written.has_directory(i).unwrap(), i % 2 == 0, "directory {i}");
        }
        assert!(written.spill.as_ref().unwrap().bits > FIRST_BITS, "the table was enlarged");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing stays in scratch");
    }

    #[test]
    fn the_same_name_twice_takes_one_slot() {
        let (_scratch, mut written) = set();
        for i in 0..3 * RECENT as u64 {
            written.insert_directory(i % 5000).unwrap();
        }
        let in_file = written.spill.as_ref().unwrap().count;
        assert!(in_file <= 5000, "{in_file}");
    }

    #[test]
    fn full_pages_overflow_into_the_next_and_wrap_round() {
        let (_scratch, mut written) = set();
        let mut spill = Spill::new(&written.scratch, 1).unwrap();
        // All of them belong into the last page.
        let keys: Vec<u64> = (0..SLOTS as u64 + 10).map(|i| u64::MAX - 1000 + i).collect();
        spill.insert_sorted(&keys).unwrap();
        assert!(keys.iter().all(|key| spill.contains(*key).unwrap()));
        assert!(!spill.contains(u64::MAX).unwrap());
        written.spill = Some(spill.enlarged(&written.scratch).unwrap());
        assert!(keys.iter().all(|key| written.contains(*key).unwrap()));
    }
}
