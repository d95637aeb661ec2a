//! gzip: whatever the pieces that it comes in, and wherever it is frozen and thawed, the same comes out; what was
//! packed comes out whole; what was cut is noticed.
#![no_main]

use edgepull::layer::fuzzing::thaw;
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::ways::{OUTPUT_MAX, compared, decoded};
use edgepull_fuzz::{UpTo, fuzz_target, gzip};

/// The decoder, its window and what it is thawed from.
const MEMORY_MAX: usize = 192 * 1024;

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Raw { piece: u16, after: u16, wire: &'a [u8] },
    Packed { piece: u16, after: u16, members: UpTo<gzip::Member, 4>, cut: Option<u16> },
    Checkpoint { frozen: &'a [u8], window: [u8; 16], wire: &'a [u8] },
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Raw { piece, after, wire } => {
        compared(wire, piece, after, MEMORY_MAX, OUTPUT_MAX);
    }
    Input::Packed { piece, after, members, cut } => {
        let (mut wire, mut tar, mut ends) = (Vec::new(), Vec::new(), vec![0]);
        for member in &members.0 {
            member.wire(&mut wire);
            tar.extend(member.tar());
            ends.push(wire.len());
        }
        let cut = cut.map_or(wire.len(), |cut| usize::from(cut).min(wire.len()));
        let ended = compared(&wire[..cut], piece, after, MEMORY_MAX, OUTPUT_MAX);
        // What has less than a magic number goes as it is.
        if cut >= 2 && !ended.is_full() {
            assert!(tar.starts_with(&ended.out), "something else came out");
            let well = ended.error.is_empty();
            assert_eq!(well, ends.contains(&cut), "cut at {cut} of {ends:?}: {:?}", ended.error);
            assert!(cut < wire.len() || ended.out == tar, "not all came out");
        }
    }
    Input::Checkpoint { frozen, window, wire } => {
        // Whatever a checkpoint says, its window has its length.
        let mut bytes = [&[1], frozen].concat();
        bytes.extend(window.iter().cycle().take(32 * 1024));
        decoded(MEMORY_MAX, OUTPUT_MAX, |each| thaw(&bytes, wire, each));
    }
});
