//! Doors for `fuzz/`: decoding and tar members by themselves, without a file system. Only there in builds with
//! `--cfg fuzzing`; what has to hold of them is said in `fuzz/fuzz_targets/`.

use super::archive::{Archive, Member};
use super::codec::Input;
use super::decode::{BEGINNING, Decoder, FrozenDecoder};
use super::members::Reader;
use super::{Compression, archive};
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

/// Decodes `wire`, which comes in pieces of `piece` bytes; `each` hears of every piece of the tar, until it says
/// no.
///
/// # Errors
/// Those that a broken stream gives.
pub fn decode(wire: &[u8], piece: usize, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    let reader = BufReader::with_capacity(piece, wire);
    drain(
        &mut Decoder::new(reader, &wire[..wire.len().min(BEGINNING)], Compression::None, "layer", scratch()),
        each,
    )
}

/// The same, but frozen and thawed at the first place where that is possible after `after` bytes of the tar. Whether
/// it came to that.
///
/// # Errors
/// Those that a broken stream gives.
pub fn decode_in_two(wire: &[u8], after: usize, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool> {
    let mut decoder =
        Decoder::new(wire, &wire[..wire.len().min(BEGINNING)], Compression::None, "layer", scratch());
    let mut done = 0;
    loop {
        decoder.stop_at_boundaries(done >= after);
        let piece = decoder.fill_buf().map_err(failed)?.len();
        if piece == 0 {
            return Ok(false);
        }
        if done >= after && decoder.can_freeze() {
            break;
        }
        done += piece;
        if !each(decoder.fill_buf().map_err(failed)?) {
            return Ok(false);
        }
        decoder.consume(piece);
    }
    let mut frozen = Vec::new();
    decoder.freeze(&mut frozen);
    let rest = decoder.into_wire();
    let thawed = FrozenDecoder::thaw(&mut Input(&frozen)).expect("what was frozen can be thawed");
    drain(&mut thawed.go_on(rest, scratch()), each).map(|()| true)
}

/// What a checkpoint says of a decoder, and then `wire`.
///
/// # Errors
/// Those that a broken stream gives.
pub fn thaw(frozen: &[u8], wire: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    match FrozenDecoder::thaw(&mut Input(frozen)) {
        Some(frozen) => drain(&mut frozen.go_on(wire, scratch()), each),
        None => Ok(()),
    }
}

fn drain(decoder: &mut impl BufRead, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
    loop {
        let piece = decoder.fill_buf().map_err(failed)?;
        let length = piece.len();
        if length == 0 || !each(piece) {
            return Ok(());
        }
        decoder.consume(length);
    }
}

/// Where zstd's windows are: in a directory of this process's own.
fn scratch() -> OwnedFd {
    let path = std::env::temp_dir().join(std::process::id().to_string());
    let opened = std::fs::create_dir_all(&path).and_then(|()| File::open(&path));
    opened.expect("there is a directory for temporary files").into()
}

fn failed(error: std::io::Error) -> Error {
    Error::from_io(Kind::Other, error)
}

/// The members of a tar that comes in pieces of `piece` bytes, and their data.
///
/// # Errors
/// Those that a broken archive gives.
pub fn members(tar: &[u8], piece: usize, each: &mut dyn FnMut(&Member, &mut dyn Read)) -> Result<()> {
    let mut archive = Archive::new(BufReader::with_capacity(piece, tar), (0, 0), None);
    while archive.advance()? {
        let (member, mut data) = archive.current();
        each(member, &mut data);
    }
    Ok(())
}

/// The record of a kept layer's members: each, and the CRC of its data. `None` for one that is not whole.
///
/// # Errors
/// Those that a damaged record gives.
pub fn record(file: File, each: &mut dyn FnMut(&Member, u32)) -> Result<Option<()>> {
    let Some((mut reader, _)) = Reader::open(file)? else { return Ok(None) };
    let mut member = archive::Member::default();
    while let Some(crc) = reader.next(&mut member)? {
        each(&member, crc);
    }
    Ok(Some(()))
}
