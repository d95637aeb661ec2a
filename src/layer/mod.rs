//! How the bytes of a layer become files beneath a root.
//!
//! ```text
//! source -> sha256 -> gzip/zstd -> sha256 -> tar members -> files
//!   wire              decode       diff-id   archive        rootfs
//! ```
//!
//! Each stage owns a small explicit state and pulls from the one before it. A few fixed buffers are all
//! the memory there is (about 400 KiB with threads, 100 KiB without; zstd adds its window), whatever
//! the layer holds. Where there are two cores, reading the wire and hashing the tar run in threads of their own.

pub mod archive;
mod decode;
mod hash;
mod meter;
mod queue;
pub mod rootfs;

use std::io::{self, BufRead, Read};
use std::ops::AddAssign;
use std::thread;
use std::time::Duration;

pub use crate::image::manifest::Compression;
pub use meter::CpuTimes;
pub use rootfs::Rootfs;

use crate::error::{Error, Kind, Result};
use archive::Archive;
use decode::Decoder;
use hash::Wire;
use meter::{Meter, Stage};
use queue::{DiffHasher, WireReader};

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
    /// `n` more tar members were applied.
    fn entries(&self, n: u64) {
        let _ = n;
    }
}

/// What a layer was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes from the source.
    pub wire_bytes: u64,
    /// Bytes of the tar.
    pub tar_bytes: u64,
    /// Members of the tar, whiteouts included.
    pub entries: u64,
    /// What it cost.
    pub cpu: CpuTimes,
}

impl AddAssign for Stats {
    /// Adds another layer's figures.
    fn add_assign(&mut self, other: Stats) {
        self.wire_bytes += other.wire_bytes;
        self.tar_bytes += other.tar_bytes;
        self.entries += other.entries;
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

/// Unpacks one layer into `root`: verified by size, digest and diff-id, all in one stream.
///
/// # Errors
/// [`Kind::Verification`] where bytes are not those that were promised, [`Kind::BadImage`] for broken or
/// hostile gzip, zstd and tar, [`Kind::Disk`] for the file system; what the source raised comes out
/// whole. After an error the root is neither complete nor verified, and good for nothing.
pub fn unpack(
    wire: Box<dyn Read + Send>,
    layer: &Layer<'_>,
    root: &mut Rootfs,
    observer: &dyn Observer,
) -> Result<Stats> {
    unpack_with(Threads::Auto, wire, layer, root, observer)
}

/// [`unpack`], where the caller says whether to use threads.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_with(
    threads: Threads,
    wire: Box<dyn Read + Send>,
    layer: &Layer<'_>,
    root: &mut Rootfs,
    observer: &dyn Observer,
) -> Result<Stats> {
    let beside = match threads {
        Threads::Auto => thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        Threads::Beside => true,
        Threads::One => false,
    };
    let wire = Wire::new(wire, layer.wire_size, layer.wire_digest, observer);
    let meter = Meter::start();
    let unpacked = thread::scope(|scope| {
        let (reader, hasher) = match beside {
            true => (WireReader::ahead(wire, scope)?, DiffHasher::behind(scope)?),
            false => (WireReader::here(wire, &meter), DiffHasher::here(&meter)),
        };
        stream(reader, hasher, layer, root, observer, &meter)
    });
    unpacked.map_err(|error| error.context(layer.name))
}

/// Runs all stages. Its arguments end when it returns, and their threads with them.
fn stream<'scope, 'a: 'scope>(
    mut reader: WireReader<'scope, 'a>,
    hasher: DiffHasher<'scope, 'a>,
    layer: &Layer<'_>,
    root: &mut Rootfs,
    observer: &'a dyn Observer,
    meter: &'a Meter,
) -> Result<Stats> {
    let mut start = [0; 4];
    let known = {
        let buffer = reader.fill_buf().map_err(|error| Error::from_io(Kind::Other, error))?;
        let known = buffer.len().min(start.len());
        start[..known].copy_from_slice(&buffer[..known]);
        known
    };
    let decoder = Decoder::new(reader, &start[..known], layer.compression, layer.name);
    let tar = TarStream { decoder, hasher, observer, meter, fresh: 0, taken: 0 };
    let mut archive = Archive::new(tar);
    let applied = apply(&mut archive, root, observer);
    let TarStream { decoder, hasher, .. } = archive.into_source();
    let mut reader = decoder.into_wire();
    let entries = match applied {
        Ok(entries) => entries,
        Err(error) => return Err(blame(error, &mut reader)),
    };
    let (wire_bytes, wire_cpu) = reader.finish();
    let (tar_bytes, digest, diff_cpu) = hasher.finish();
    hash::check_diff_id(&digest, &layer.diff_id)?;
    let cpu = with_threads(meter.times(), wire_cpu, diff_cpu);
    Ok(Stats { wire_bytes, tar_bytes, entries, cpu })
}

fn with_threads(mut cpu: CpuTimes, wire: Duration, diff: Duration) -> CpuTimes {
    cpu.wire += wire;
    cpu.diff += diff;
    cpu
}

/// All members of one layer; how many.
fn apply(
    archive: &mut Archive<TarStream<'_, '_>>,
    root: &mut Rootfs,
    observer: &dyn Observer,
) -> Result<u64> {
    let mut entries = 0;
    root.begin_layer()?;
    while archive.advance()? {
        let (member, mut data) = archive.current();
        root.apply(member, &mut data)?;
        entries += 1;
        observer.entries(1);
    }
    root.finish_layer()?;
    Ok(entries)
}

/// Bytes that were damaged on the way mostly look like a broken image first. Then the rest is read for
/// its digest, to tell the two apart: the one may be mended by pulling again, the other can't.
fn blame(error: Error, wire: &mut WireReader<'_, '_>) -> Error {
    if error.kind() != Kind::BadImage {
        return error;
    }
    match wire.drain() {
        Err(damaged) if damaged.kind() == Kind::Verification => damaged,
        _ => error,
    }
}

/// The uncompressed bytes, each hashed once as it comes out of the decoder.
struct TarStream<'scope, 'a> {
    decoder: Decoder<WireReader<'scope, 'a>>,
    hasher: DiffHasher<'scope, 'a>,
    observer: &'a dyn Observer,
    meter: &'a Meter,
    /// Bytes of the decoder's buffer that were hashed, and how many of them were consumed.
    fresh: usize,
    taken: usize,
}

impl BufRead for TarStream<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.fresh {
            self.decoder.consume(self.fresh);
            (self.fresh, self.taken) = (0, 0);
            let chunk = {
                let _decode = self.meter.enter(Stage::Decode);
                self.decoder.fill_buf()?
            };
            self.hasher.update(chunk);
            self.observer.unpacked_bytes(chunk.len() as u64);
            self.fresh = chunk.len();
            return Ok(chunk);
        }
        Ok(&self.decoder.fill_buf()?[self.taken..])
    }

    fn consume(&mut self, amount: usize) {
        self.taken = (self.taken + amount).min(self.fresh);
    }
}

impl Read for TarStream<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        queue::read_buffered(self, into)
    }
}
