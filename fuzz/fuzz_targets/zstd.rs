//! zstd: whatever the pieces that it comes in, and thawed between two frames, the same comes out; what was packed
//! comes out whole; the window is bounded.
#![no_main]

use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::ways::compared;
use edgepull_fuzz::{UpTo, fuzz_target};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// Enough to fill the largest window.
const WINDOW_FULL: usize = 24 << 20;
/// Twice the largest window, as the ring that it lies in grows by doubling, and the tables.
const MEMORY_MAX: usize = 20 << 20;

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
        compared(wire, piece, after, MEMORY_MAX, WINDOW_FULL);
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
