//! What a frame has given, as far back as it may refer to it.
//!
//! A window may have 128 MiB, and most of the layers that are zstd at all want 8: more than all else that edgepull
//! needs together. So memory has the last of it, and all of it goes to a file without a name on the disk that the layer
//! goes to, round and round. Most matches are near; the others cost a `pread` from the page cache. The file is taken
//! by frames that have more than memory holds, and have a window for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use crate::error::Error;
use crate::layer::queue::BUFFER_SIZE;
use crate::layer::scratch;

/// What memory holds: the segment that is being filled, and those before it.
const SEGMENTS: usize = 6;
const RING: usize = SEGMENTS * BUFFER_SIZE;
/// How far back memory reaches at least.
const NEAR: u64 = ((SEGMENTS - 1) * BUFFER_SIZE) as u64;
/// The file's name for the moment in which it has one.
const NAME: &str = "window";

/// The last bytes of a frame.
pub(super) struct Window {
    ring: Box<[u8]>,
    /// What nobody has read yet: from here to `end`, in the segment that ends at `limit`.
    start: usize,
    end: usize,
    limit: usize,
    /// Bytes of the frame so far.
    total: u64,
    /// How far back a match may reach.
    size: u64,
    /// Where the file may be.
    scratch: OwnedFd,
    file: Option<File>,
}

impl Window {
    /// Empty, with room for files in the directory `scratch`.
    pub(super) fn new(scratch: OwnedFd) -> Window {
        let ring = vec![0; RING].into_boxed_slice();
        Window { ring, start: 0, end: 0, limit: BUFFER_SIZE, total: 0, size: 0, scratch, file: None }
    }

    /// A new frame with a window of `size` bytes. Everything was read.
    pub(super) fn begin(&mut self, size: u64) {
        (self.start, self.end, self.limit) = (0, 0, BUFFER_SIZE);
        (self.total, self.size) = (0, size);
    }

    /// Puts bytes there that are to be read, at most [`BUFFER_SIZE`]; they belong to no frame.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.begin(0);
        self.ring[..bytes.len()].copy_from_slice(bytes);
        self.end = bytes.len();
    }

    /// Bytes of the frame so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How far back a match may reach.
    pub(super) fn reach(&self) -> u64 {
        self.size.min(self.total)
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.ring[self.start..self.end]
    }

    pub(super) fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }

    /// How much can come before what came is read.
    pub(super) fn room(&self) -> usize {
        self.limit - self.end
    }

    /// Makes room, when everything was read.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        if self.room() > 0 {
            return Ok(());
        }
        let at = self.end % RING;
        if self.size > NEAR && self.total >= RING as u64 {
            self.put_away(at)?;
        }
        (self.start, self.end, self.limit) = (at, at, at + BUFFER_SIZE);
        Ok(())
    }

    /// Writes the segment at `at`, the oldest, to the file.
    fn put_away(&mut self, at: usize) -> io::Result<()> {
        let place = (self.total - RING as u64) % self.file_size();
        let segment = &self.ring[at..at + BUFFER_SIZE];
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(scratch::unnamed(self.scratch.as_fd(), NAME).map_err(failed)?),
        };
        file.write_all_at(segment, place).map_err(failed)
    }

    /// Whole segments, so that each has one place.
    fn file_size(&self) -> u64 {
        self.size.next_multiple_of(BUFFER_SIZE as u64)
    }

    /// The next `length` bytes, at most the room, for the caller to fill.
    pub(super) fn extend(&mut self, length: usize) -> &mut [u8] {
        let from = self.end;
        self.came(length);
        &mut self.ring[from..self.end]
    }

    fn came(&mut self, length: usize) {
        self.end += length;
        self.total += length as u64;
    }

    /// Repeats what came `offset` bytes before, within [`Window::reach`]: of `length` bytes, as many as come in one
    /// piece, and have room. How many these were.
    pub(super) fn repeat(&mut self, offset: u64, length: usize) -> io::Result<usize> {
        let length = length.min(self.room());
        let source = self.total - offset;
        let segment = self.total - (BUFFER_SIZE - self.room()) as u64;
        let near = segment.saturating_sub(NEAR);
        if source < near {
            return self.repeat_far(source, length.min((near - source) as usize));
        }
        let from = (source % RING as u64) as usize;
        let length = length.min(RING - from);
        let end = self.end;
        if offset >= length as u64 {
            self.ring.copy_within(from..from + length, end);
        } else {
            // It repeats what it has just made.
            for at in 0..length {
                self.ring[end + at] = self.ring[from + at];
            }
        }
        self.came(length);
        Ok(length)
    }

    fn repeat_far(&mut self, source: u64, length: usize) -> io::Result<usize> {
        let place = source % self.file_size();
        let length = length.min((self.file_size() - place) as usize);
        let file = self.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
        file.read_exact_at(&mut self.ring[self.end..self.end + length], place).map_err(failed)?;
        self.came(length);
        Ok(length)
    }
}

/// Nothing of it is the image's fault.
fn failed(error: io::Error) -> io::Error {
    Error::disk("zstd's window", error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that came, in memory, and the window, whose file has a name in nobody else's directory.
    struct Whole {
        all: Vec<u8>,
        window: Window,
        _home: tempfile::TempDir,
    }

    impl Whole {
        fn new(size: u64) -> Whole {
            let home = tempfile::tempdir().unwrap();
            let mut window = Window::new(File::open(home.path()).unwrap().into());
            window.begin(size);
            Whole { all: Vec::new(), window, _home: home }
        }

        fn read(&mut self) {
            let unread = self.window.unread();
            let from = self.all.len() - unread.len();
            assert!(self.all[from..] == *unread, "something else came before {}", self.all.len());
            self.window.consume(unread.len());
            self.window.turn().unwrap();
        }

        fn literals(&mut self, bytes: &[u8]) {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(self.window.room()));
                self.window.extend(now.len()).copy_from_slice(now);
                self.all.extend(now);
                rest = later;
                if self.window.room() == 0 {
                    self.read();
                }
            }
        }

        fn matches(&mut self, offset: u64, mut length: usize) {
            while length > 0 {
                let came = self.window.repeat(offset, length).unwrap();
                assert!(came > 0);
                (0..came).for_each(|_| self.all.push(self.all[self.all.len() - offset as usize]));
                length -= came;
                if self.window.room() == 0 {
                    self.read();
                }
            }
        }
    }

    /// Noise that any place of the window can be told by.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn matches_reach_as_far_as_the_window_wherever_it_lies() {
        let edges = [1, 2, 7, 1000, BUFFER_SIZE, 3 * BUFFER_SIZE, RING];
        for size in [1000, 96 << 10, 97 << 10, 128 << 10, 300_000, 1 << 20] {
            let mut whole = Whole::new(size);
            whole.literals(&noise(size as usize + 5));
            for round in 0..20 {
                let around = edges.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
                for offset in around.map(|offset| offset as u64).chain([size / 2, size - 1, size]) {
                    if offset > 0 && offset <= whole.window.reach() {
                        whole.matches(offset, 3 + round * 633);
                        whole.literals(&noise(round + 1));
                    }
                }
            }
            whole.read();
            assert_eq!(whole.window.file.is_some(), size > NEAR, "a window of {size} bytes");
        }
    }

    #[test]
    fn the_file_is_never_larger_than_the_window() {
        let mut whole = Whole::new(300_000);
        whole.literals(&noise(2_000_000));
        assert_eq!(whole.window.file.unwrap().metadata().unwrap().len(), 10 * BUFFER_SIZE as u64);
    }

    #[test]
    fn a_new_frame_reaches_nothing_of_the_one_before() {
        let mut whole = Whole::new(1 << 20);
        whole.literals(&noise(200_000));
        whole.read();
        whole.window.begin(1 << 20);
        assert_eq!((whole.window.reach(), whole.window.total()), (0, 0));
        whole.literals(b"abc");
        whole.matches(3, 200_000);
        whole.read();
    }
}
