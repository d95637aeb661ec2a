//! One layer from its source to where it is kept, in one stream, frozen every few MiB.
//!
//! A checkpoint is possible where inflate is between two blocks and the tar between two members or within the
//! data of one. The stages are not at the same place then: the reader is ahead of inflate, and inflate ahead of the tar
//! by what its window still holds. So a checkpoint says where each of them is, in the order of the stream:
//!
//! ```text
//! wire    sha256 before the buffer at hand, and how much of that buffer inflate has had
//! decode  inflate between two blocks: 32 KiB window, CRC, bits; or between two gzip members, or zstd frames
//! ahead   how many bytes the tar has yet to take that were decoded, and hashed, already
//! diff    sha256 of everything decoded
//! tar     what is left of the member's data and padding
//! keeper  the members and files so far (keeper.rs)
//! ```
//!
//! The disk works on a checkpoint in a thread beside, while the stream goes on; what is not durable yet never
//! gets larger than 3 MiB ([`CHECKPOINT_EVERY`], [`WAIT_AFTER`]).

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::archive::{Archive, Member};
use super::checkpoint::{self, Checkpoint, Found};
use super::codec::{Input, put_number};
use super::decode::{Decoder, FrozenDecoder};
use super::hash::{self, Tally, Wire};
use super::keeper::{Keeper, Place};
use super::meter::{CpuTimes, Meter, Stage};
use super::queue::{self, DiffHasher, WireReader};
use super::{Layer, Observer, Options, Stats, Threads, rootfs};
use crate::error::{Error, Kind, Result};

/// A checkpoint is due after so many bytes of the wire, and written at the next place where one is possible.
/// Deflate's blocks have some 30 KiB.
pub const CHECKPOINT_EVERY: u64 = 2 * 1024 * 1024;
/// When half as much again has come since the last durable checkpoint, the stream waits for the disk.
const WAIT_AFTER: (u64, u64) = (3, 2);
/// Address space of the stack of the thread that writes checkpoints.
const CHECKPOINT_STACK: usize = 64 * 1024;

/// Gives a layer's bytes from an offset on.
pub type Opener<'a> = dyn FnMut(u64) -> Result<Box<dyn Read + Send>> + 'a;

/// Fetches one layer into `dir`, where an interrupted fetch of the same layer may have left something: then
/// it goes on from there. Verified by size, digest and diff-id, all in one stream. Durable is what is there
/// afterwards only when the caller has made it so.
///
/// # Errors
/// [`Kind::Verification`] where bytes are not those that were promised, [`Kind::BadImage`] for broken or
/// hostile gzip, zstd and tar, [`Kind::Disk`] for the file system; what the source raised comes out whole.
/// After the first two `dir` is empty; after others the next call goes on.
pub fn fetch(
    layer: &Layer<'_>,
    dir: OwnedFd,
    options: &Options,
    open: &mut Opener<'_>,
    observer: &dyn Observer,
) -> Result<Stats> {
    let fetched = fetch_from(layer, &dir, options, open, observer);
    if fetched.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Verification | Kind::BadImage)) {
        clear(&dir)?;
    }
    fetched.map_err(|error| error.context(layer.name))
}

fn fetch_from(
    layer: &Layer<'_>,
    dir: &OwnedFd,
    options: &Options,
    open: &mut Opener<'_>,
    observer: &dyn Observer,
) -> Result<Stats> {
    let place = || -> Result<Place> {
        let clone = |fd: &OwnedFd| fd.try_clone().map_err(|error| Error::disk("a kept layer", error));
        let base = options.base.as_ref().map(clone).transpose()?;
        Ok(Place { dir: clone(dir)?, base, rootless: options.rootless })
    };
    let found = Found::newest(dir.as_fd(), layer);
    if found.is_none() && checkpoint::any(dir.as_fd()) {
        log::info!("{}: its checkpoint is damaged, or another version's; it starts over", layer.name);
    }
    if let Some(found) = found {
        match Start::thaw(&found, place()?)? {
            None => log::info!("{}: its checkpoint does not fit; it starts over", layer.name),
            Some(start) => {
                log::info!(
                    "{}: goes on after {} of {} bytes",
                    layer.name,
                    start.stream.wire.bytes(),
                    layer.wire_size
                );
                match run(start, layer, options, open, observer) {
                    // Where the bytes before the checkpoint were damaged, they are only now found out.
                    Err(error) if matches!(error.kind(), Kind::Verification | Kind::BadImage) => {
                        log::warn!("{}: {error}; it starts over", layer.name);
                        observer.starts_over();
                    }
                    other => return other,
                }
            }
        }
    }
    clear(dir)?;
    run(Start::fresh(place()?)?, layer, options, open, observer)
}

/// Makes `dir` empty, the checkpoints first, durably: none may be found whose files are gone.
fn clear(dir: &OwnedFd) -> Result<()> {
    let cleared = || {
        if checkpoint::forget(dir.as_fd())? {
            File::from(dir.try_clone()?).sync_all()?;
        }
        rootfs::empty(dir.as_fd())
    };
    cleared().map_err(|error| Error::disk("a kept layer", error))
}

/// Where a fetch begins: at the beginning, or at a checkpoint.
struct Start {
    stream: Stream,
    keeper: Keeper,
    /// The member whose data is coming.
    member: Option<Member>,
    /// The next checkpoint's number.
    sequence: u64,
}

/// Where each stage before the keeper begins.
#[derive(Default)]
struct Stream {
    /// What the reader had before the first byte that is asked for.
    wire: Tally,
    /// Bytes from there that inflate has had already.
    skip: u64,
    /// `None`: the first bytes decide.
    decoder: Option<FrozenDecoder>,
    /// Bytes that the decoder gives next and that are in `diff` already.
    ahead: usize,
    diff: Tally,
    /// What [`Archive::left`] said.
    left: (u64, u64),
}

impl Start {
    fn fresh(place: Place) -> Result<Start> {
        Ok(Start { stream: Stream::default(), keeper: Keeper::new(place)?, member: None, sequence: 0 })
    }

    /// `Ok(None)` where what is in the checkpoint makes no sense, or is not what is on disk.
    fn thaw(found: &Found, place: Place) -> Result<Option<Start>> {
        let mut input = found.payload();
        let Some(stream) = Stream::thaw(&mut input) else { return Ok(None) };
        let thawed = Keeper::thaw(place, &mut input)?;
        let sequence = found.sequence + 1;
        Ok(thawed.map(|(keeper, member)| Start { stream, keeper, member, sequence }))
    }
}

impl Stream {
    fn thaw(input: &mut Input<'_>) -> Option<Stream> {
        // In the order in which `TarStream::freeze` and `Saver::step` write them.
        Some(Stream {
            wire: Tally::thaw(input)?,
            skip: input.number()?,
            decoder: Some(FrozenDecoder::thaw(input)?),
            ahead: input.small()?,
            diff: Tally::thaw(input)?,
            left: (input.number()?, input.number()?),
        })
    }
}

/// How many bytes of the wire a checkpoint's payload spares.
pub(super) fn position_of(payload: &mut Input<'_>) -> Option<u64> {
    Tally::thaw(payload).map(|tally| tally.bytes())
}

/// Runs all stages, in threads where that helps.
fn run(
    start: Start,
    layer: &Layer<'_>,
    options: &Options,
    open: &mut Opener<'_>,
    observer: &dyn Observer,
) -> Result<Stats> {
    let beside = match options.threads {
        Threads::Auto => thread::available_parallelism().is_ok_and(|cores| cores.get() > 1),
        Threads::Beside => true,
        Threads::One => false,
    };
    observer.spared(start.stream.wire.bytes());
    let wire = Wire::new(
        open(start.stream.wire.bytes())?,
        layer.wire_size,
        layer.wire_digest,
        observer,
        start.stream.wire.clone(),
    );
    let meter = Meter::start();
    thread::scope(|scope| {
        let diff = start.stream.diff.clone();
        let (reader, hasher) = match beside {
            true => (WireReader::ahead(wire, scope)?, DiffHasher::behind(diff, scope)?),
            false => (WireReader::here(wire, &meter), DiffHasher::here(diff, &meter)),
        };
        let saver = Saver::new(&start, layer, options.checkpoint_every, scope)?;
        stream(start, reader, hasher, saver, observer, &meter)
    })
}

/// The stream itself. Its arguments end when it returns, and their threads with them.
fn stream<'scope, 'a: 'scope>(
    start: Start,
    mut reader: WireReader<'scope, 'a>,
    hasher: DiffHasher<'scope, 'a>,
    mut saver: Saver<'scope, '_, 'a>,
    observer: &'a dyn Observer,
    meter: &'a Meter,
) -> Result<Stats> {
    let before = start.stream.wire.bytes();
    let layer = saver.layer;
    reader.skip(start.stream.skip)?;
    let scratch = saver.dir.try_clone().map_err(|error| Error::disk("a kept layer", error))?;
    let decoder = match start.stream.decoder {
        Some(frozen) => frozen.go_on(reader, scratch),
        None => {
            let (known, count) = reader.beginning()?;
            Decoder::new(reader, &known[..count], layer.compression, layer.name, scratch)
        }
    };
    let tar = TarStream { decoder, hasher, observer, meter, fresh: 0, taken: 0, ahead: start.stream.ahead };
    let mut archive = Archive::new(tar, start.stream.left, start.member);
    let mut keeper = start.keeper;
    let streamed = keep_all(&mut archive, &mut keeper, &mut saver, observer);
    let TarStream { decoder, hasher, .. } = archive.into_source();
    let mut reader = decoder.into_wire();
    // Whatever happened, what was frozen before gets its chance to become durable.
    let saved = saver.finish();
    if let Err(error) = streamed {
        return Err(blame(error, &mut reader));
    }
    saved?;
    observer.wire_is_right();
    let (wire_bytes, wire_cpu) = reader.finish();
    let (tar_bytes, digest, diff_cpu) = hasher.finish();
    hash::check_diff_id(&digest, &layer.diff_id)?;
    let kept = keeper.finish(tar_bytes)?;
    Ok(Stats {
        wire_bytes: wire_bytes - before,
        tar_bytes,
        entries: kept.entries,
        written: kept.written,
        shared: kept.shared,
        warnings: kept.warnings,
        cpu: with_threads(meter.times(), wire_cpu, diff_cpu),
    })
}

fn with_threads(mut cpu: CpuTimes, wire: Duration, diff: Duration) -> CpuTimes {
    cpu.wire += wire;
    cpu.diff += diff;
    cpu
}

/// Keeps all members of the layer.
fn keep_all<'scope, 'a>(
    archive: &mut Archive<TarStream<'scope, 'a>>,
    keeper: &mut Keeper,
    saver: &mut Saver<'scope, '_, 'a>,
    observer: &dyn Observer,
) -> Result<()> {
    loop {
        // After a checkpoint within a member's data, the rest of it comes first.
        if !keeper.is_open() {
            if !archive.advance()? {
                return Ok(());
            }
            keeper.begin(archive.current().0)?;
        }
        if keeper.is_open() {
            loop {
                let (member, mut data) = archive.current();
                let chunk = data.fill_buf().map_err(|error| rootfs::at_path(&member.path, error))?;
                if chunk.is_empty() {
                    break;
                }
                let taken = chunk.len();
                keeper.write(member, chunk)?;
                data.consume(taken);
                saver.step(archive, keeper)?;
            }
            keeper.end(archive.current().0)?;
        }
        observer.entries(1);
        saver.step(archive, keeper)?;
    }
}

/// Bytes that were damaged on the way mostly look like a broken image first. Then the rest is read for
/// its digest, to tell the two apart: the one may be mended by pulling again, the other can't. While the rest cannot be
/// had, nobody knows which it is.
fn blame(error: Error, wire: &mut WireReader<'_, '_>) -> Error {
    if error.kind() != Kind::BadImage {
        return error;
    }
    wire.drain().err().unwrap_or(error)
}

/// Decides when a checkpoint is due, and has it written.
struct Saver<'scope, 'env, 'a> {
    layer: &'a Layer<'a>,
    scope: &'scope Scope<'scope, 'env>,
    dir: OwnedFd,
    every: u64,
    sequence: u64,
    /// The wire's position at the last checkpoint, and at the last that is durable.
    taken: u64,
    durable: u64,
    writing: Option<(u64, ScopedJoinHandle<'scope, io::Result<()>>)>,
}

impl<'scope, 'env, 'a> Saver<'scope, 'env, 'a> {
    fn new(
        start: &Start,
        layer: &'a Layer<'a>,
        every: u64,
        scope: &'scope Scope<'scope, 'env>,
    ) -> Result<Saver<'scope, 'env, 'a>> {
        let dir =
            start.keeper.dir().try_clone_to_owned().map_err(|error| Error::disk("a kept layer", error))?;
        let at = start.stream.wire.bytes();
        Ok(Saver {
            layer,
            scope,
            dir,
            every,
            sequence: start.sequence,
            taken: at,
            durable: at,
            writing: None,
        })
    }

    /// Between two chunks of the stream: a checkpoint, if one is due and possible.
    fn step(&mut self, archive: &mut Archive<TarStream<'scope, 'a>>, keeper: &mut Keeper) -> Result<()> {
        let position = archive.source().decoder.wire().position();
        let unsaved = position - self.durable;
        let must_wait = unsaved * WAIT_AFTER.1 >= self.every * WAIT_AFTER.0;
        if let Some((at, handle)) = self.writing.take_if(|(_, handle)| must_wait || handle.is_finished()) {
            self.written(at, handle)?;
        }
        let due = self.writing.is_none() && position - self.taken >= self.every;
        archive.source().decoder.stop_at_boundaries(due);
        if !due || !archive.source().decoder.can_freeze() || !keeper.can_freeze(archive.current().0) {
            return Ok(());
        }
        let mut checkpoint = Checkpoint::begin(self.sequence, self.layer);
        let out = checkpoint.payload();
        archive.source().freeze(out)?;
        let (unread, padding) = archive.left();
        put_number(out, unread);
        put_number(out, padding);
        keeper.freeze(archive.current().0, out)?;
        self.write(checkpoint, position)
    }

    fn write(&mut self, checkpoint: Checkpoint, position: u64) -> Result<()> {
        let dir = self.dir.try_clone().map_err(|error| Error::disk("a checkpoint", error))?;
        let write = move || checkpoint.write(dir.as_fd());
        let handle = queue::start(self.scope, "checkpoint", CHECKPOINT_STACK, write)?;
        self.writing = Some((position, handle));
        self.taken = position;
        self.sequence += 1;
        Ok(())
    }

    fn written(&mut self, position: u64, handle: ScopedJoinHandle<'scope, io::Result<()>>) -> Result<()> {
        queue::join(handle).map_err(|error| Error::disk("a checkpoint", error))?;
        log::debug!("{}: safe up to byte {position}", self.layer.name);
        self.durable = position;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        match self.writing.take() {
            Some((position, handle)) => self.written(position, handle),
            None => Ok(()),
        }
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
    /// Bytes that the decoder gives next and that were hashed before the checkpoint.
    ahead: usize,
}

impl TarStream<'_, '_> {
    /// Writes down where the reader, the decoder and the hash are.
    fn freeze(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.decoder.consume(self.taken);
        self.fresh -= self.taken;
        self.taken = 0;
        self.decoder.wire().freeze(out);
        self.decoder.freeze(out);
        put_number(out, (self.fresh + self.ahead) as u64);
        self.hasher.freeze(out)
    }
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
            let hashed = self.ahead.min(chunk.len());
            self.ahead -= hashed;
            self.hasher.update(&chunk[hashed..]);
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
