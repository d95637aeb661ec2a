//! A layer that was cut, and whose checkpoint was changed: a changed byte is noticed and the layer starts over; and one
//! that was forged, checksum and all, may do what it wants to the layer's own directory, but to nothing else, and
//! never in much memory or without an end.
#![no_main]

use edgepull::error::Result;
use edgepull::layer::fuzzing::record;
use edgepull::layer::{Kept, Options, Threads, fetch};
use edgepull_fuzz::arbitrary::{self, Arbitrary};
use edgepull_fuzz::home::{Home, show_without_new_times};
use edgepull_fuzz::{fuzz_target, gzip, layers, memory};
use std::cell::RefCell;
use std::fs;
use std::io::{Cursor, Read};

const MEMORY_MAX: usize = 3 << 20;

#[derive(Debug, Arbitrary)]
struct Input {
    tar: layers::Tar,
    gzip: Option<u8>,
    cut: u16,
    every: u16,
    /// Bytes of the newest checkpoint, or of the record of members, that are others now.
    changes: Vec<(u16, u8)>,
    /// Of a checkpoint: what is in place of its last bytes.
    tail: Option<Vec<u8>>,
    forged: bool,
    record: bool,
}

fn go(home: &Home, wire: &[u8], tar: &[u8], input: &Input, cut: usize) -> Result<()> {
    let options = Options {
        threads: Threads::One,
        rootless: Some(true),
        checkpoint_every: u64::from(input.every) % 2048 + 64,
        ..Options::default()
    };
    let mut open = |offset: u64| -> Result<Box<dyn Read + Send>> {
        let rest = wire.get(offset as usize..).unwrap_or_default().to_vec();
        Ok(Box::new(layers::Breaking(Cursor::new(rest), cut)))
    };
    memory::within(MEMORY_MAX + wire.len(), || {
        fetch(&layers::promise(wire, tar), home.open("layer"), &options, &mut open, &layers::Silent)
    })
    .map(drop)
}

/// The members, and the data of the files. (How the record is written down depends on where it was frozen.)
fn kept(home: &Home) -> String {
    // The checks of every file find nothing.
    let kept = Kept::open(home.open("layer")).expect("it can be read").expect("it is whole");
    kept.check(true, |member, how| panic!("{}: {how}", member.path.escape_ascii())).expect("it can be read");
    let mut seen = String::new();
    let file = fs::File::open(home.path("layer/members")).expect("it is there");
    let whole = record(file, &mut |member, crc| seen.push_str(&format!("{member:?} {crc}\n")));
    assert!(matches!(whole, Ok(Some(()))));
    seen + &show_without_new_times(&home.path("layer/objects"))
}

/// The newest checkpoint, by its sequence number.
fn newest(home: &Home) -> Option<std::path::PathBuf> {
    let number = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).ok()?;
        Some(u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?))
    };
    let slots = ["layer/checkpoint.0", "layer/checkpoint.1"].map(|name| home.path(name));
    slots.into_iter().filter(|path| number(path).is_some()).max_by_key(number)
}

/// Whether anything is different now.
fn change(home: &Home, input: &Input) -> bool {
    let path = match input.record {
        true => Some(home.path("layer/members")).filter(|path| path.exists()),
        false => newest(home),
    };
    let Some(path) = path else { return false };
    let before = fs::read(&path).expect("it is there");
    let mut bytes = before.clone();
    if let Some(tail) = &input.tail
        && !input.record
    {
        let keep = bytes.len().saturating_sub(tail.len() + 4);
        bytes.truncate(keep);
        bytes.extend_from_slice(tail);
        bytes.extend_from_slice(&before[before.len().saturating_sub(4)..]);
    }
    let length = bytes.len().max(1);
    for (at, byte) in &input.changes {
        // Most of a checkpoint is the window of inflate; what follows it is the more interesting.
        let at = if at & 1 == 0 { usize::from(*at) } else { length - 1 - usize::from(*at) % length };
        if let Some(place) = bytes.get_mut(at % length) {
            *place ^= byte;
        }
    }
    if input.forged && !input.record && bytes.len() > 4 {
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&path, &bytes).expect("it can be written");
    bytes != before
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::default();
}

fuzz_target!(|input: Input| {
    HOME.with_borrow(|home| {
        let victim = home.path("victim");
        let tar = input.tar.bytes(victim.to_str().expect("TMPDIR is text"));
        let mut wire = tar.clone();
        if let Some(level) = input.gzip {
            wire = gzip::pack(&tar, level);
        }
        home.fresh("layer");
        if go(home, &wire, &tar, &input, usize::MAX).is_err() {
            return;
        }
        let should = kept(home);
        home.fresh("layer");
        let cut = usize::from(input.cut) % wire.len().max(1);
        if go(home, &wire, &tar, &input, cut).is_ok() {
            return;
        }
        let changed = change(home, &input);
        let done = go(home, &wire, &tar, &input, usize::MAX);
        home.assert_untouched(&["layer"]);
        if !input.forged || !changed {
            done.expect("it starts over, if nothing else helps");
            assert_eq!(kept(home), should, "another layer than the one that was promised");
        }
    });
});
