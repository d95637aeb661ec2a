//! zstd: whatever the pieces that it comes in, and thawed between two frames, the same comes out; what was packed
//! comes out whole; the window is bounded.
#![no_main]

use edgepull::layer::fuzzing::{decode, decode_in_two};
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::{UpTo, fuzz_target, memory};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// Enough to see whether two ways are the same.
const OUTPUT_MAX: usize = 128 << 10;
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

fn collected(
    most: usize,
    run: impl FnOnce(&mut dyn FnMut(&[u8]) -> bool) -> edgepull::error::Result<()>,
) -> (Vec<u8>, String) {
    let mut out = Vec::with_capacity(OUTPUT_MAX);
    let mut all = 0;
    let mut each = |piece: &[u8]| {
        let room = OUTPUT_MAX - out.len();
        out.extend_from_slice(&piece[..piece.len().min(room)]);
        all += piece.len();
        all < most
    };
    let ended = memory::within(MEMORY_MAX, || run(&mut each));
    (out, ended.err().map(|error| error.to_string()).unwrap_or_default())
}

/// Where both ended well, all of it; before an error, one may have given more than the other.
fn assert_same(whole: &(Vec<u8>, String), other: &(Vec<u8>, String), how: &str) {
    let common = if whole.1.is_empty() { usize::MAX } else { whole.0.len().min(other.0.len()) };
    let beginning = |out: &[u8]| crc32fast::hash(&out[..out.len().min(common)]);
    assert_eq!(other.1, whole.1, "{how}");
    assert_eq!(
        beginning(&other.0),
        beginning(&whole.0),
        "{how}: {} and {} bytes",
        other.0.len(),
        whole.0.len()
    );
}

fn compare(wire: &[u8], piece: u16, after: u16) -> (Vec<u8>, String) {
    let whole = collected(WINDOW_FULL, |each| decode(wire, wire.len().max(4), each));
    let pieces = collected(OUTPUT_MAX, |each| decode(wire, usize::from(piece) % 700 + 4, each));
    assert_same(&whole, &pieces, "in pieces");
    let thawed = collected(OUTPUT_MAX, |each| decode_in_two(wire, after.into(), each).map(drop));
    assert_same(&whole, &thawed, "frozen and thawed");
    whole
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Raw { piece, after, wire } => {
        compare(wire, piece, after);
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
        let (out, ended) = compare(&wire[..cut], piece, after);
        // What has less than a magic number goes as it is.
        if cut >= 4 && out.len() < OUTPUT_MAX {
            assert!(tar.starts_with(&out), "something else came out");
            assert_eq!(ended.is_empty(), ends.contains(&cut), "cut at {cut} of {ends:?}: {ended:?}");
            assert!(cut < wire.len() || out == tar, "not all came out");
        }
    }
});
