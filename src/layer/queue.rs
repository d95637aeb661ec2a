//! Threads between the stages, where there are cores for them: one reads and hashes the wire ahead,
//! one hashes the tar behind. With one core the same stages run in a row, without threads or queues.
//!
//! A queue is two channels that pass the same few buffers round: full ones one way, empty ones back.
//! Nothing is allocated after the start, and neither side can run away from the other. When one side
//! ends, for whatever reason, its channel ends drop and the other side's next call returns: there is
//! no state in which both wait. A reader that is inside its source's `read` ends when that returns.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::codec::put_number;
use super::decode::BEGINNING;
use super::hash::{Sha, Tally, Wire};
use super::meter::{Meter, Stage};
use crate::error::{Error, Kind, Result};
use crate::sys;

/// Bytes of one buffer: a few TLS records, and what the decoder's window holds.
pub(crate) const BUFFER_SIZE: usize = 32 * 1024;
/// Buffers that one queue passes round: 128 KiB.
const BUFFERS: usize = 4;
/// Address space of the reader's stack; only touched pages cost memory. TLS runs there.
const READER_STACK: usize = 512 * 1024;
/// Address space of the hasher's stack.
const HASHER_STACK: usize = 64 * 1024;

/// `Read::read` for what is at heart a `BufRead`.
pub(crate) fn read_buffered(from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let n = from.fill_buf()?.read(into)?;
    from.consume(n);
    Ok(n)
}

/// Drops up to `length` bytes. Returns how many are missing because the stream ends.
pub(crate) fn skip_buffered(from: &mut (impl BufRead + ?Sized), mut length: u64) -> io::Result<u64> {
    while length > 0 {
        let here = from.fill_buf()?.len();
        if here == 0 {
            break;
        }
        let n = length.min(here as u64);
        from.consume(n as usize);
        length -= n;
    }
    Ok(length)
}

/// A buffer with `len` bytes in it.
pub(crate) struct Filled {
    bytes: Box<[u8]>,
    len: usize,
}

/// A buffer of the wire, and what came before it.
type WireBuffer = (Filled, Tally);

fn new_buffer() -> Box<[u8]> {
    vec![0; BUFFER_SIZE].into_boxed_slice()
}

pub(crate) fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    stack: usize,
    run: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    Builder::new()
        .name(name.into())
        .stack_size(stack)
        .spawn_scoped(scope, run)
        .map_err(|error| Error::from_io(Kind::Other, error).context("cannot start a thread"))
}

pub(crate) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The wire as a `BufRead`: read ahead by a thread, or on demand.
pub(crate) struct WireReader<'scope, 'a> {
    from: WireFrom<'scope, 'a>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
    /// What came before the buffer.
    before: Tally,
}

enum WireFrom<'scope, 'a> {
    Here(Wire<'a>, &'a Meter),
    Thread {
        full: Receiver<Result<WireBuffer>>,
        empty: SyncSender<Box<[u8]>>,
        handle: ScopedJoinHandle<'scope, (u64, Duration)>,
    },
}

impl<'scope, 'a: 'scope> WireReader<'scope, 'a> {
    /// Reads in the caller's thread.
    pub(crate) fn here(wire: Wire<'a>, meter: &'a Meter) -> WireReader<'scope, 'a> {
        let before = wire.tally().clone();
        let from = WireFrom::Here(wire, meter);
        WireReader { from, buffer: new_buffer(), start: 0, end: 0, ended: false, before }
    }

    /// Reads ahead in a thread of its own.
    pub(crate) fn ahead(wire: Wire<'a>, scope: &'scope Scope<'scope, '_>) -> Result<WireReader<'scope, 'a>> {
        let before = wire.tally().clone();
        let (full_in, full) = sync_channel(BUFFERS);
        let (empty, empty_out) = sync_channel(BUFFERS);
        let handle = start(scope, "wire", READER_STACK, move || read_ahead(wire, &full_in, &empty_out))?;
        let from = WireFrom::Thread { full, empty, handle };
        Ok(WireReader { from, buffer: Box::default(), start: 0, end: 0, ended: false, before })
    }
}

impl WireReader<'_, '_> {
    fn refill(&mut self) -> Result<()> {
        (self.start, self.end) = (0, 0);
        self.end = match &mut self.from {
            WireFrom::Here(wire, meter) => {
                let _wire = meter.enter(Stage::Wire);
                self.before = wire.tally().clone();
                wire.fill(&mut self.buffer)?
            }
            WireFrom::Thread { full, empty, .. } => {
                let used = std::mem::take(&mut self.buffer);
                if !used.is_empty() {
                    // Fails only where the reader is through, which the next line reports.
                    let _ = empty.send(used);
                }
                let lost = || Error::new(Kind::Other, "the reading thread is gone");
                let (filled, before) = full.recv().map_err(|_| lost())??;
                self.before = before;
                self.buffer = filled.bytes;
                filled.len
            }
        };
        self.ended = self.end == 0;
        Ok(())
    }

    /// Reads and drops what is left, so that the source's end is verified.
    pub(crate) fn drain(&mut self) -> Result<()> {
        while !self.ended {
            self.refill()?;
        }
        Ok(())
    }

    /// Returns the beginning of the stream: at most [`BEGINNING`] bytes, and how many there are.
    pub(crate) fn beginning(&mut self) -> Result<([u8; BEGINNING], usize)> {
        let mut known = [0; BEGINNING];
        let buffer = self.fill_buf().map_err(|error| Error::from_io(Kind::Other, error))?;
        let count = buffer.len().min(known.len());
        known[..count].copy_from_slice(&buffer[..count]);
        Ok((known, count))
    }

    /// Reads and drops `length` bytes, which are already hashed.
    pub(crate) fn skip(&mut self, length: u64) -> Result<()> {
        match skip_buffered(self, length).map_err(|error| Error::from_io(Kind::Other, error))? {
            0 => Ok(()),
            _ => Err(Error::new(Kind::Verification, "the blob ends before its checkpoint")),
        }
    }

    /// Bytes of the blob that were consumed.
    pub(crate) fn position(&self) -> u64 {
        self.before.bytes() + self.start as u64
    }

    /// Writes down where it is: the hash before the buffer, and how much of the buffer was consumed.
    pub(crate) fn freeze(&self, out: &mut Vec<u8>) {
        self.before.freeze(out);
        put_number(out, self.start as u64);
    }

    /// Bytes read, and the CPU time of the thread that read them (zero without one). Ends the thread.
    pub(crate) fn finish(self) -> (u64, Duration) {
        match self.from {
            WireFrom::Here(wire, _) => (wire.tally().bytes(), Duration::ZERO),
            WireFrom::Thread { full, empty, handle } => {
                drop((full, empty));
                join(handle)
            }
        }
    }
}

fn read_ahead(
    mut wire: Wire<'_>,
    full: &SyncSender<Result<WireBuffer>>,
    empty: &Receiver<Box<[u8]>>,
) -> (u64, Duration) {
    let mut made = 0;
    loop {
        let mut bytes = if made < BUFFERS {
            made += 1;
            new_buffer()
        } else {
            match empty.recv() {
                Ok(bytes) => bytes,
                Err(_) => break,
            }
        };
        let before = wire.tally().clone();
        let result = wire.fill(&mut bytes);
        let more = matches!(result, Ok(1..));
        if full.send(result.map(|len| (Filled { bytes, len }, before))).is_err() || !more {
            break;
        }
    }
    (wire.tally().bytes(), sys::thread_cpu_time())
}

impl BufRead for WireReader<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end && !self.ended {
            self.refill().inspect_err(|_| self.ended = true)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}

impl Read for WireReader<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// What the hashing thread is sent.
pub(crate) enum ToHash {
    /// Bytes.
    Bytes(Filled),
    /// The question how far it is.
    State(SyncSender<Tally>),
}

/// Hashes the uncompressed bytes: in a thread behind, or in place.
pub(crate) enum DiffHasher<'scope, 'a> {
    /// In place.
    Here(Tally, &'a Meter),
    /// In a thread; `current` collects bytes until a buffer is worth sending.
    Thread {
        full: SyncSender<ToHash>,
        empty: Receiver<Box<[u8]>>,
        current: Option<Filled>,
        made: usize,
        handle: ScopedJoinHandle<'scope, (Tally, Duration)>,
    },
}

impl<'scope, 'a> DiffHasher<'scope, 'a> {
    /// Hashes in the caller's thread.
    pub(crate) fn here(tally: Tally, meter: &'a Meter) -> DiffHasher<'scope, 'a> {
        DiffHasher::Here(tally, meter)
    }

    /// Hashes in a thread of its own.
    pub(crate) fn behind(tally: Tally, scope: &'scope Scope<'scope, '_>) -> Result<DiffHasher<'scope, 'a>> {
        let (full, full_out) = sync_channel(BUFFERS);
        let (empty_in, empty) = sync_channel(BUFFERS);
        let handle = start(scope, "diff-id", HASHER_STACK, move || hash_behind(tally, &full_out, &empty_in))?;
        Ok(DiffHasher::Thread { full, empty, current: None, made: 0, handle })
    }

    /// Hashes `bytes`, or copies them to where they will be.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let (full, empty, current, made) = match self {
            DiffHasher::Here(tally, meter) => {
                let _diff = meter.enter(Stage::Diff);
                return tally.update(bytes);
            }
            DiffHasher::Thread { full, empty, current, made, .. } => (full, empty, current, made),
        };
        while !bytes.is_empty() {
            let mut filled = match current.take() {
                Some(filled) => filled,
                None if *made < BUFFERS => {
                    *made += 1;
                    Filled { bytes: new_buffer(), len: 0 }
                }
                // Only a thread that panicked is gone; joining it passes the panic on.
                None => match empty.recv() {
                    Ok(bytes) => Filled { bytes, len: 0 },
                    Err(_) => return,
                },
            };
            let n = bytes.len().min(BUFFER_SIZE - filled.len);
            filled.bytes[filled.len..filled.len + n].copy_from_slice(&bytes[..n]);
            filled.len += n;
            bytes = &bytes[n..];
            if filled.len == BUFFER_SIZE {
                let _ = full.send(ToHash::Bytes(filled));
            } else {
                *current = Some(filled);
            }
        }
    }

    /// Writes down the state after all bytes so far.
    pub(crate) fn freeze(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let tally = match self {
            DiffHasher::Here(tally, _) => tally.clone(),
            DiffHasher::Thread { full, current, .. } => {
                if let Some(rest) = current.take() {
                    let _ = full.send(ToHash::Bytes(rest));
                }
                let (answer, state) = sync_channel(1);
                let _ = full.send(ToHash::State(answer));
                state.recv().map_err(|_| Error::new(Kind::Other, "the hashing thread is gone"))?
            }
        };
        tally.freeze(out);
        Ok(())
    }

    /// Byte count, digest, and the CPU time of the thread that hashed (zero without one).
    pub(crate) fn finish(self) -> (u64, Sha, Duration) {
        let (tally, cpu) = match self {
            DiffHasher::Here(tally, _) => (tally, Duration::ZERO),
            DiffHasher::Thread { full, empty, current, handle, .. } => {
                if let Some(rest) = current {
                    let _ = full.send(ToHash::Bytes(rest));
                }
                drop((full, empty));
                join(handle)
            }
        };
        (tally.bytes(), tally.digest(), cpu)
    }
}

fn hash_behind(
    mut tally: Tally,
    full: &Receiver<ToHash>,
    empty: &SyncSender<Box<[u8]>>,
) -> (Tally, Duration) {
    while let Ok(message) = full.recv() {
        // The other side no longer wants an answer when it has ended, nor buffers when it has sent its last.
        let _ = match message {
            ToHash::State(answer) => answer.send(tally.clone()).is_ok(),
            ToHash::Bytes(filled) => {
                tally.update(&filled.bytes[..filled.len]);
                empty.send(filled.bytes).is_ok()
            }
        };
    }
    (tally, sys::thread_cpu_time())
}

#[cfg(test)]
mod tests {
    use super::super::Observer;
    use super::*;
    use sha2::{Digest, Sha256};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counts(AtomicUsize);
    impl Observer for Counts {
        fn wire_bytes(&self, n: u64) {
            self.0.fetch_add(n as usize, Ordering::Relaxed);
        }
    }

    /// Gives `left` bytes in odd portions, then ends or breaks.
    struct Source {
        left: usize,
        breaks: bool,
    }
    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.breaks {
                return Err(Error::new(Kind::Network, "cable cut").into());
            }
            let n = self.left.min(buffer.len()).min(1 + self.left % 5000);
            buffer[..n].fill(b'x');
            self.left -= n;
            Ok(n)
        }
    }

    fn sha(bytes: &[u8]) -> Sha {
        Sha256::digest(bytes).into()
    }

    #[test]
    fn both_ways_read_the_same_bytes_and_hash_the_same() {
        let size = 3 * BUFFER_SIZE * BUFFERS + 17;
        let bytes = vec![b'x'; size];
        for threads in [false, true] {
            let (counts, meter) = (Counts::default(), Meter::start());
            let source = Source { left: size, breaks: false };
            let wire = Wire::new(Box::new(source), size as u64, sha(&bytes), &counts, Tally::default());
            std::thread::scope(|scope| {
                let (mut reader, mut hasher) = if threads {
                    (
                        WireReader::ahead(wire, scope).unwrap(),
                        DiffHasher::behind(Tally::default(), scope).unwrap(),
                    )
                } else {
                    (WireReader::here(wire, &meter), DiffHasher::here(Tally::default(), &meter))
                };
                let mut all = Vec::new();
                while let chunk @ [_, ..] = reader.fill_buf().unwrap() {
                    let n = chunk.len().min(10_007);
                    all.extend_from_slice(&chunk[..n]);
                    hasher.update(&chunk[..n]);
                    reader.consume(n);
                }
                assert!(all == bytes);
                assert_eq!(reader.fill_buf().unwrap(), b"", "the end stays the end");
                assert_eq!(reader.finish().0, size as u64);
                let (count, digest, _) = hasher.finish();
                assert_eq!((count, digest), (size as u64, sha(&bytes)));
            });
            assert_eq!(counts.0.load(Ordering::Relaxed), size);
        }
    }

    #[test]
    fn a_consumer_that_gives_up_ends_the_reader() {
        let counts = Counts::default();
        let source = Source { left: 100 * BUFFER_SIZE, breaks: false };
        let wire = Wire::new(Box::new(source), u64::MAX, sha(b""), &counts, Tally::default());
        std::thread::scope(|scope| {
            let mut reader = WireReader::ahead(wire, scope).unwrap();
            assert!(!reader.fill_buf().unwrap().is_empty());
        });
        let read = counts.0.load(Ordering::Relaxed);
        assert!(read <= (BUFFERS + 1) * BUFFER_SIZE, "the reader ran ahead of its queue: {read}");
    }

    #[test]
    fn the_sources_error_comes_out_whole_from_the_thread() {
        let counts = Counts::default();
        let source = Source { left: 5 * BUFFER_SIZE, breaks: true };
        let wire = Wire::new(Box::new(source), u64::MAX, sha(b""), &counts, Tally::default());
        std::thread::scope(|scope| {
            let mut reader = WireReader::ahead(wire, scope).unwrap();
            let mut seen = 0;
            let error = loop {
                match reader.fill_buf() {
                    Ok(chunk) => {
                        let n = chunk.len();
                        seen += n;
                        reader.consume(n);
                    }
                    Err(error) => break Error::from_io(Kind::Other, error),
                }
            };
            assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Network, "cable cut"));
            assert_eq!(seen, 5 * BUFFER_SIZE, "everything before the error arrives");
        });
    }
}
