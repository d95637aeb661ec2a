//! gzip and zstd streams that are broken, boundless or strange, all with right digests: made so by their author.

use super::builder::{
    EvilImage, Head, WINDOW_128K, Wire, gzip_member, gzipped, skippable, tar, zstandard, zstd_frame,
};
use super::victim::{By, Expect, Family, Ground};
use crate::harness::*;

const NAME: u8 = 1 << 3;
const EXTRA: u8 = 1 << 2;
const COMMENT: u8 = 1 << 4;
const HEADER_CRC: u8 = 1 << 1;

fn inside() -> Vec<u8> {
    tar().dir("d").file("d/f", "some text, some text").file("f", "x").end()
}

/// `bytes` on the wire, whose tar is [`inside`].
fn wire(bytes: impl AsRef<[u8]>) -> [Wire; 1] {
    [Wire::of(bytes.as_ref().to_vec(), &inside())]
}

#[test]
fn gzip_members() {
    let mut family = Family::pulled_by("gzip", &[By::Root]).and_deployed();
    let good = gzipped(&inside());
    let seen = [("f", "x"), ("d/f", "some text, some text")];
    let long =
        |flag: u8, length: usize| gzip_member(flag, &[vec![b'n'; length], vec![0]].concat(), &inside());
    for (what, bytes) in [
        (
            "an extra field of 65535 bytes",
            gzip_member(EXTRA, &[&[0xff, 0xff], &[7; 65_535][..]].concat(), &inside()),
        ),
        (
            "an extra field that looks like a member",
            gzip_member(
                EXTRA,
                &[&[200, 0], &good[..200.min(good.len())], &[0; 200][..200 - 200.min(good.len())]].concat(),
                &inside(),
            ),
        ),
        ("a name with control characters", gzip_member(NAME, b"\x1b[2J\n../victim\0", &inside())),
        ("a name of 200000 bytes", long(NAME, 200_000)),
        ("a comment of 200000 bytes", long(COMMENT, 200_000)),
        ("a wrong header CRC", gzip_member(HEADER_CRC, &[1, 2], &inside())),
        ("3000 empty members first", [gzipped(b"").repeat(3000), good.clone()].concat()),
        ("3000 empty members last", [good.clone(), gzipped(b"").repeat(3000)].concat()),
        ("a member for each byte", inside().chunks(1).flat_map(gzipped).collect()),
    ] {
        family.keeps(what, wire(bytes), &seen);
    }
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        let at = if at > 1000 { good.len() - (usize::MAX - at) } else { at };
        bytes[at] ^= 0xff;
        bytes
    };
    for (what, bytes, words) in [
        ("a name without end", long(NAME, 300_000), "GZIP_HEADER_MAX"),
        ("a comment without end", long(COMMENT, 300_000), "GZIP_HEADER_MAX"),
        (
            "a name that is all there is",
            gzip_member(NAME, &[b'n'; 1000], b"")[..900].to_vec(),
            "ends in the middle",
        ),
        ("a wrong CRC", flipped(usize::MAX - 8), "CRC-32"),
        ("a wrong length", flipped(usize::MAX - 1), "length"),
        ("a wrong method", flipped(2), "method"),
        ("reserved flags", gzip_member(0xe0, b"", &inside()), "flags"),
        ("trailing garbage", [&good[..], b"garbage"].concat(), "trailing bytes"),
        ("trailing zeros", [&good[..], &[0; 512]].concat(), "trailing bytes"),
        ("half a magic number behind", [&good[..], &[0x1f]].concat(), "trailing bytes"),
        ("zstd behind gzip", [&good[..], &zstandard(b"x")].concat(), "trailing bytes"),
        ("half a member behind", [&good[..], &good[..20]].concat(), "ends in the middle"),
        ("the magic number only", vec![0x1f, 0x8b], ""),
        ("an invalid block type", [&good[..10], &[0x07, 0, 0, 0, 0]].concat(), "deflate stream is invalid"),
        ("a distance too far back", [&good[..10], &[0x63, 0x00, 0x02, 0x00, 0xff, 0xff]].concat(), ""),
        (
            "a stored block of a wrong length",
            [&good[..10], &[1, 5, 0, 0, 0, 1, 2, 3, 4, 5]].concat(),
            "invalid",
        ),
    ] {
        family.refuses(what, wire(bytes), words);
    }
    family.end();
}

#[test]
fn zstd_frames() {
    let mut family = Family::pulled_by("zstd", &[By::Root]).and_deployed();
    let good = zstandard(&inside());
    let seen = [("f", "x"), ("d/f", "some text, some text")];
    let empty = || zstd_frame(WINDOW_128K, &[b""]);
    for (what, bytes) in [
        ("raw blocks", good.clone()),
        ("3000 empty frames first", [empty().repeat(3000), good.clone()].concat()),
        ("3000 empty frames last", [good.clone(), empty().repeat(3000)].concat()),
        ("skippable frames round it", [skippable(5, b"skip!"), good.clone(), skippable(0, b"")].concat()),
        ("a skippable frame of a megabyte", [skippable(1 << 20, &vec![7; 1 << 20]), good.clone()].concat()),
        (
            "members of a tar in a skippable frame",
            [skippable(inside().len() as u32, &inside()), good.clone()].concat(),
        ),
        ("a frame for each byte", inside().chunks(1).flat_map(zstandard).collect()),
        ("a block for each byte", zstd_frame(WINDOW_128K, &inside().chunks(1).collect::<Vec<_>>())),
        ("3000 empty blocks", {
            let tar = inside();
            let mut blocks: Vec<&[u8]> = vec![b""; 3000];
            blocks.push(&tar);
            zstd_frame(WINDOW_128K, &blocks)
        }),
    ] {
        family.keeps(what, wire(bytes), &seen);
    }
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    for (what, rest, words) in [
        ("a window of 256 MiB", &[0x00, 18 << 3, 1, 0, 0][..], "ZSTD_WINDOW_MAX"),
        ("a window of 128 MiB and an eighth", &[0x00, 17 << 3 | 1, 1, 0, 0], "ZSTD_WINDOW_MAX"),
        ("the largest window, 3.75 TiB", &[0x00, 0xff, 1, 0, 0], "ZSTD_WINDOW_MAX"),
        (
            "a single segment of 8 EiB",
            &[0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0],
            "ZSTD_WINDOW_MAX",
        ),
        ("a single segment of 129 MiB", &[0xa0, 0, 0, 0x10, 0x08, 1, 0, 0], "ZSTD_WINDOW_MAX"),
        ("a dictionary", &[0x01, WINDOW_128K, 7, 1, 0, 0], ""),
        ("a dictionary of four bytes", &[0x03, WINDOW_128K, 7, 7, 7, 7, 1, 0, 0], ""),
        ("a reserved bit", &[0x08, WINDOW_128K, 1, 0, 0], "reserved bit"),
        ("less than the header says", &[0x20, 1, 1, 0, 0], "0 bytes, but its header says 1"),
        ("more than the header says", &[0x20, 1, 0x08, 0, 0, b'x', 0x09, 0, 0, b'x'], "header says 1"),
        ("a block beyond the window", &[0x00, 0, 0x09, 0x20, 0, 0], "1024 are the most"),
        ("a reserved block type", &[0x00, WINDOW_128K, 0x07, 0, 0, 0], ""),
        ("a block beyond 128 KiB", &[0x00, WINDOW_128K, 0xf9, 0xff, 0xff, 0], ""),
        ("a repeated byte beyond 128 KiB", &[0x00, WINDOW_128K, 0xfb, 0xff, 0xff, 0], ""),
        ("a compressed block of nothing", &[0x00, WINDOW_128K, 0x05, 0, 0], ""),
        ("a compressed block of garbage", &[0x00, WINDOW_128K, 0x45, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], ""),
        ("treeless literals without a tree", &[0x00, WINDOW_128K, 0x2d, 0, 0, 0x13, 0x40, 0, 0, 0], ""),
        ("nothing behind its header", &[0x00, WINDOW_128K], "ends in the middle"),
        ("no header", &[], "ends in the middle"),
    ] {
        family.refuses(what, wire([&magic[..], rest].concat()), words);
    }
    for (what, bytes, words) in [
        ("trailing garbage", [&good[..], b"garbage"].concat(), "trailing bytes"),
        ("trailing zeros", [&good[..], &[0; 512]].concat(), "trailing bytes"),
        ("gzip behind zstd", [&good[..], &gzipped(b"x")].concat(), "trailing bytes"),
        ("half a header behind", [&good[..], &good[..8]].concat(), "ends in the middle"),
        // The first bytes of a block come out before its last are there.
        ("half a frame behind", [&good[..], &good[..20]].concat(), "data after the end of the archive"),
        (
            "a skippable frame of 4 GiB that is not there",
            skippable(u32::MAX, &[0; 1000]),
            "ends in the middle",
        ),
        ("behind a good frame", [&good[..], &skippable(u32::MAX, &[0; 1000])].concat(), "ends in the middle"),
        ("half a skippable header", [&good[..], &skippable(9, b"")[..6]].concat(), "ends in the middle"),
    ] {
        family.refuses(what, wire(bytes), words);
    }
    family.end();
}

/// Every byte of a small layer as zstd compresses it, changed: whatever it becomes, it is no breakout and no crash.
#[test]
fn bytes_that_are_changed() {
    let ground = Ground::new(By::Root);
    let scratch = Scratch::new();
    let tar = tar().dir("d").file("d/f", "text, text, text, ".repeat(40)).file("f", "x").end();
    let plain = scratch.write("layer", &tar);
    run("zstd", ["-q", "-19", &plain]);
    let zstd = std::fs::read(scratch.path("layer.zst")).expect("a frame");
    let (mut kept, mut refused) = (0, 0);
    for (name, good) in [("gzip", gzipped(&tar)), ("zstd", zstd)] {
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= [0x01, 0x80, 0xff, 0x10][at % 4];
            let image = EvilImage::new([Wire::of(bytes, &tar)]).layout(&ground.scratch, "image");
            let what = format!("{name}, byte {at} of {}", good.len());
            let output = ground.edgepull(&what, &["pull", &image, &ground.scratch.at("home/root")]);
            match output.status.code() {
                Some(0) => kept += 1,
                // What unpacks to something else is not what the config says.
                Some(exit::BAD_IMAGE | exit::VERIFICATION) => refused += 1,
                code => panic!("{what}: {code:?}: {}", String::from_utf8_lossy(&output.stderr)),
            }
            ground.clear();
            run("rm", ["-rf", &ground.scratch.at("image")]);
        }
    }
    ground.honest("changed bytes");
    // Times, names and checksums that nobody asks about.
    assert!(kept > 3 && refused > 200, "{kept} kept, {refused} refused");
    eprintln!("evil: changed bytes: {} hostile images, {} verdicts", kept + refused, kept + refused);
}

/// The largest window that is allowed, filled: it is 16 times as large as all the memory that there may be.
#[test]
fn the_largest_window() {
    let ground = Ground::new(By::Root);
    let data = vec![b'x'; 150 << 20];
    let tar = tar().add(Head::new(b'0', "f").size(data.len() as u64), &data).end();
    let blocks: Vec<&[u8]> = tar.chunks(128 << 10).collect();
    let image = EvilImage::new([Wire::of(zstd_frame(17 << 3, &blocks), &tar)]);
    let name = image.layout(&ground.scratch, "image");
    ground.pull("a window of 128 MiB", &name, &Expect::Kept(vec![("f", Some("157286400 bytes"))]));
    eprintln!("evil: the largest window: 1 hostile images, 1 verdicts");
}
