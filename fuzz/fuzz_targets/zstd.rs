//! zstd: whatever the pieces that it comes in, and thawed between two frames, the same comes out, and the same as another
//! decoder has; what was packed comes out whole; memory has no part in how large the window is.
#![no_main]

use std::io::Read;

use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::ways::{OUTPUT_MAX, compared};
use edgepull_fuzz::{UpTo, fuzz_target};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// More than the largest window.
const WINDOW_FULL: usize = 12 << 20;
/// The end of the window, the block at hand, the tables.
const MEMORY_MAX: usize = 448 << 10;

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Raw { piece: u16, after: u16, wire: &'a [u8] },
    Packed { piece: u16, after: u16, frames: UpTo<Frame<'a>, 4>, cut: Option<u16> },
}

#[derive(Debug, Arbitrary)]
enum Frame<'a> {
    Data(&'a [u8], u8, bool),
    Skippable(&'a [u8], u8),
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Raw { piece, after, wire } => {
        let ended = compared(wire, piece, after, MEMORY_MAX, WINDOW_FULL);
        if ended.error.is_empty() && !ended.is_full() && wire.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            assert_eq!(others(wire).as_deref(), Some(&ended.out[..]), "another decoder has something else");
        }
    }
    Input::Packed { piece, after, frames, cut } => {
        let (mut wire, mut tar, mut ends) = (Vec::new(), Vec::new(), vec![]);
        for frame in &frames.0 {
            match frame {
                Frame::Data(data, times, compressed) => {
                    let data = data.repeat(usize::from(*times) + 1);
                    let level =
                        if *compressed { CompressionLevel::Fastest } else { CompressionLevel::Uncompressed };
                    wire.extend(compress_to_vec(&data[..], level));
                    tar.extend(data);
                }
                Frame::Skippable(data, kind) => {
                    wire.extend_from_slice(&[0x50 | kind & 0xf, 0x2a, 0x4d, 0x18]);
                    wire.extend_from_slice(&(data.len() as u32).to_le_bytes());
                    wire.extend_from_slice(data);
                }
            }
            ends.push(wire.len());
        }
        let cut = cut.map_or(wire.len(), |cut| usize::from(cut).min(wire.len()));
        let ended = compared(&wire[..cut], piece, after, MEMORY_MAX, WINDOW_FULL);
        // What has less than a magic number goes as it is.
        if cut >= 4 && !ended.is_full() {
            assert!(tar.starts_with(&ended.out), "something else came out");
            let well = ended.error.is_empty();
            assert_eq!(well, ends.contains(&cut), "cut at {cut} of {ends:?}: {:?}", ended.error);
            assert!(cut < wire.len() || ended.out == tar, "not all came out");
        }
    }
});

/// What another decoder makes of the frames; `None` where it makes nothing.
fn others(mut wire: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !wire.is_empty() {
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, length @ ..] = wire {
            let length = u32::from_le_bytes(*length.first_chunk()?) as usize;
            wire = wire.get(8 + length..)?;
            continue;
        }
        let mut decoder = StreamingDecoder::new(&mut wire).ok()?;
        let most = OUTPUT_MAX as u64 + 1;
        decoder.by_ref().take(most).read_to_end(&mut out).ok()?;
    }
    Some(out)
}
