//! Whatever way bytes go into a decoder, the same comes out.

use crate::memory;
use edgepull::error::Result;
use edgepull::layer::fuzzing::{decode, decode_in_two};

/// Enough to see whether two ways are the same.
pub const OUTPUT_MAX: usize = 128 << 10;

/// What came out, as far as it is compared, and what was wrong.
pub struct Decoded {
    pub out: Vec<u8>,
    pub error: String,
}

impl Decoded {
    /// Whether there was more than is compared: how such a thing ends depends on where it was left.
    pub fn is_full(&self) -> bool {
        self.out.len() == OUTPUT_MAX
    }
}

/// Runs a decoder, which may have `memory` bytes at a time, until `most` have come out.
pub fn decoded(
    memory: usize,
    most: usize,
    run: impl FnOnce(&mut dyn FnMut(&[u8]) -> bool) -> Result<()>,
) -> Decoded {
    let mut out = Vec::with_capacity(OUTPUT_MAX);
    let mut all = 0;
    let mut each = |piece: &[u8]| {
        let room = OUTPUT_MAX - out.len();
        out.extend_from_slice(&piece[..piece.len().min(room)]);
        all += piece.len();
        all < most
    };
    let ended = memory::within(memory, || run(&mut each));
    Decoded { out, error: ended.err().map(|error| error.to_string()).unwrap_or_default() }
}

/// `wire` as a whole until `most` have come out, in pieces of a size that `piece` says, and frozen and thawed `after`
/// so many bytes, with `memory` bytes at a time besides a copy of `wire`.
///
/// # Panics
/// Where they are not the same, or take more.
pub fn compared(wire: &[u8], piece: u16, after: u16, memory: usize, most: usize) -> Decoded {
    let memory = memory + wire.len();
    let whole = decoded(memory, most, |each| decode(wire, wire.len().max(4), each));
    let pieces = decoded(memory, OUTPUT_MAX, |each| decode(wire, usize::from(piece) % 700 + 4, each));
    assert_same(&whole, &pieces, "in pieces");
    let thawed = decoded(memory, OUTPUT_MAX, |each| decode_in_two(wire, after.into(), each).map(drop));
    assert_same(&whole, &thawed, "frozen and thawed");
    whole
}

/// Where both ended well, all of it; before an error, one may have given more than the other.
fn assert_same(whole: &Decoded, other: &Decoded, how: &str) {
    if !whole.is_full() && !other.is_full() {
        assert_eq!(other.error, whole.error, "{how}");
    }
    let (one, two) = (whole.out.len(), other.out.len());
    let common = if whole.error.is_empty() { one.max(two) } else { one.min(two) };
    let beginning = |out: &[u8]| crc32fast::hash(&out[..out.len().min(common)]);
    assert_eq!(beginning(&other.out), beginning(&whole.out), "{how}: {two} and {one} bytes");
}
