//! Broken and hostile bytes: every one an error of the right kind, none a panic, none outside the root.

use std::process::{Command, Stdio};

use crate::support::*;
use edgepull::error::{Error, Kind};
use edgepull::layer::{Threads, fetch};

fn small() -> Vec<u8> {
    tar()
        .dir("d/")
        .file("d/f", "some text, some text, some text")
        .symlink("d/l", "../d/f")
        .pax(&[("path", b"d/long-name"), ("SCHILY.xattr.user.x", b"y"), ("mtime", b"5.5")])
        .file("short", "data")
        .hardlink("h", "d/f")
        .file("d/.wh.gone", "")
        .end()
}

fn attempt(way: Way, wire: &[u8], layer: &edgepull::layer::Layer<'_>) -> Result<(), Error> {
    let bench = Bench::new();
    let mut root = bench.open(way);
    unpack_one(&mut root, way, wire.to_vec(), layer)?;
    root.finish().map(drop)
}

#[test]
fn real_compressors_frames_and_members() {
    let tar: Vec<u8> = {
        let text: String = (0..30_000).map(|i| format!("line {i} of {}\n", i * i)).collect();
        tar().file("big", &text).end()
    };
    let (one, two) = tar.split_at(tar.len() / 3);
    let mut wires = vec![tar.clone()];
    for (program, arguments) in [
        ("gzip", &["-1"][..]),
        ("gzip", &["-9"]),
        ("zstd", &["-q", "-1"]),
        ("zstd", &["-q", "--check", "-19"]),
    ] {
        if let (Some(a), Some(b)) = (compress(program, arguments, one), compress(program, arguments, two)) {
            wires.push([a, b].concat());
            wires.extend(compress(program, arguments, &tar));
        }
    }
    for wire in wires {
        for way in WAYS {
            let bench = Bench::new();
            let mut root = bench.open(way);
            let stats = unpack_one(&mut root, way, wire.clone(), &promise(&wire, &tar)).unwrap();
            root.finish().unwrap();
            assert!(bench.read("big").ends_with("line 29999 of 899940001\n"));
            let counts = (stats.wire_bytes, stats.tar_bytes, stats.entries);
            assert_eq!(counts, (wire.len() as u64, tar.len() as u64, 1));
            assert!(
                stats.cpu.decode + stats.cpu.wire + stats.cpu.diff + stats.cpu.files > Default::default()
            );
        }
    }
}

/// What matches refer to is in memory, in a file, on the edge between the two, and on the edges of the file.
#[test]
fn zstd_of_every_strategy_with_windows_that_memory_does_not_hold() {
    let mut state = 1u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut data: Vec<u8> = (0..2_000_000).map(|_| random(96) as u8).collect();
    while data.len() < 20_000_000 {
        let (back, length) = (1 + random(data.len().min(18 << 20)), 20 + random(100_000));
        let from = data.len() - back;
        (0..length).for_each(|at| data.push(data[from + at]));
        data.extend((0..random(300)).map(|_| random(128) as u8));
    }
    let data = String::from_utf8(data).unwrap();
    let tar = tar().file("big", &data).end();
    for arguments in [
        &["-1", "--long=23"][..],
        &["-3", "--long=25", "--no-content-size"],
        &["-3", "--long=27"],
        &["-3", "--long=23", "--check"],
        &["-5", "--long=22"],
        &["-7", "--long=20", "--no-content-size"],
        &["-12", "-T2"],
        &["--fast=5", "--long=23"],
        &["-18", "--zstd=wlog=23,hlog=18,clog=18,slog=2"],
    ] {
        let Some(wire) = compress("zstd", &[&["-q", "-c"], arguments].concat(), &tar) else { return };
        let bench = Bench::new();
        let mut root = bench.open(PLAIN);
        unpack_one(&mut root, PLAIN, wire.clone(), &promise(&wire, &tar))
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        root.finish().unwrap();
        assert!(bench.read("big") == data, "{arguments:?}");
    }
}

#[test]
fn damaged_bytes_are_a_matter_of_verification_wherever_they_are_noticed() {
    let tar = small();
    let Some(wire) = compress("gzip", &["-n"], &tar) else { return };
    let layer = promise(&wire, &tar);
    for way in [WAYS[0], WAYS[1]] {
        for at in (0..wire.len()).step_by(7) {
            let mut damaged = wire.clone();
            damaged[at] ^= 0x10;
            let error = attempt(way, &damaged, &layer).unwrap_err();
            assert_eq!(error.kind(), Kind::Verification, "bit at {at}: {error}");
            assert!(error.to_string().starts_with("layer 1/1: "), "{error}");
        }
        for other in [&wire[..wire.len() - 1], &[&wire[..], b"x"].concat(), b""] {
            assert_eq!(attempt(way, other, &layer).unwrap_err().kind(), Kind::Verification);
        }
        let mut other = layer.clone();
        other.diff_id[0] ^= 1;
        let error = attempt(way, &wire, &other).unwrap_err();
        assert_eq!(error.kind(), Kind::Verification);
        assert!(error.to_string().contains("as the config says"), "{error}");
    }
}

#[test]
fn every_truncation_of_a_layer_is_an_error() {
    let tar = small();
    for program in ["gzip", "zstd"] {
        let Some(wire) = compress(program, &["-c"], &tar) else { continue };
        for way in [WAYS[0], WAYS[1]] {
            for end in 0..wire.len() {
                // Once as a transfer that broke off, once as an image that was made so.
                let cut = &wire[..end];
                let broken_off = attempt(way, cut, &promise(&wire, &tar)).unwrap_err();
                assert_eq!(broken_off.kind(), Kind::Verification, "{program}, {end} bytes: {broken_off}");
                let made_so = attempt(way, cut, &promise(cut, &tar)).unwrap_err();
                // Too short for a magic number it is an odd tar, and nothing at all an empty one.
                let expected = if end == 0 { Kind::Verification } else { Kind::BadImage };
                assert_eq!(made_so.kind(), expected, "{program}, {end} bytes: {made_so}");
            }
        }
    }
}

#[test]
fn errors_of_the_source_come_out_whole() {
    struct Breaks(Vec<u8>, usize);
    impl std::io::Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let rest = &self.0[self.1..];
            let n = rest.len().min(buffer.len()).min(100);
            buffer[..n].copy_from_slice(&rest[..n]);
            self.1 += n;
            if n == 0 { Err(Error::new(Kind::Network, "cable cut").hint("plug it in").into()) } else { Ok(n) }
        }
    }
    let tar = small();
    for threads in [Threads::One, Threads::Beside] {
        for length in [0, 3, 600, 1300, tar.len()] {
            let bench = Bench::new();
            let mut root = bench.open(PLAIN);
            let source = Box::new(Breaks(tar[..length].to_vec(), 0));
            let layer = edgepull::layer::Layer { wire_size: 1 << 20, ..promise(&tar, &tar) };
            let error = unpack_from(&mut root, Way { threads, ..PLAIN }, source, &layer).unwrap_err();
            assert_eq!(error.kind(), Kind::Network);
            assert_eq!(error.to_string(), "layer 1/1: cable cut; plug it in");
        }
        // What looks like a bad image is none while the rest cannot be had, which would tell.
        let bench = Bench::new();
        let source = Box::new(Breaks(vec![0x10; 70_000], 0));
        let layer = edgepull::layer::Layer { wire_size: 1 << 20, ..promise(&tar, &tar) };
        let error =
            unpack_from(&mut bench.open(PLAIN), Way { threads, ..PLAIN }, source, &layer).unwrap_err();
        assert_eq!(error.to_string(), "layer 1/1: cable cut; plug it in");
    }
}

#[test]
fn a_full_disk_is_said_to_be_one() {
    if !is_root() {
        return left_out("a full disk: mounting one takes root");
    }
    let bench = Bench::new();
    let mount = |arguments: &[&str]| {
        let path = bench.root();
        Command::new("mount")
            .args(arguments)
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=64k", "full"]) {
        return left_out("a full disk: mount is not permitted here");
    }
    let result = {
        let tar = tar().file("usr/big", &"x".repeat(200_000)).end();
        let directory = std::fs::File::open(bench.root()).unwrap().into();
        let mut open = |_| Ok(Box::new(std::io::Cursor::new(tar.clone())) as Box<dyn std::io::Read + Send>);
        fetch(&promise(&tar, &tar), directory, &Default::default(), &mut open, &Silent)
    };
    let unmounted = Command::new("umount").arg(bench.root()).status().unwrap();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::Disk);
    let said = error.to_string();
    assert!(said.starts_with("layer 1/1: usr/big: the file system is nearly full: "), "{said}");
    assert!(said.ends_with("; free some room and run the same command again"), "{said}");
    assert!(unmounted.success());
}

/// xorshift64: the same changes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn thousands_of_changed_archives_never_panic_and_never_leave_the_root() {
    let names =
        ["../victim", "d/../../victim/passwd", "/", "d/l", "d", ".wh.d", "d/.wh..wh..opq", "l/x", "..", "h"];
    let original = small();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..1500 {
        let mut bytes = original.clone();
        for _ in 0..=random.next(4) {
            match random.next(4) {
                // A byte anywhere; half the time one of a header.
                0 => {
                    let at = random.next(bytes.len());
                    bytes[at] = random.next(256) as u8;
                }
                1 => {
                    let at = random.next(bytes.len() / 512) * 512 + random.next(160);
                    bytes[at] ^= 1 << random.next(8);
                }
                // Another name, target or type.
                2 => {
                    let name = names[random.next(names.len())].as_bytes();
                    let field = [0, 157][random.next(2)];
                    let at = random.next(bytes.len() / 512) * 512 + field;
                    bytes[at..at + 99].fill(0);
                    bytes[at..at + name.len()].copy_from_slice(name);
                }
                _ => {
                    let at = random.next(bytes.len() / 512) * 512 + 156;
                    bytes[at] = b"0123567gxLKSV"[random.next(13)];
                }
            }
        }
        fix_checksums(&original, &mut bytes);
        let (way, bench) = (WAYS[round % 4], Bench::new());
        // As an upper layer too, where whiteouts do something.
        match bench.unpack(way, &[original.clone(), bytes]) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 100 && accepted > 100,
        "{refused} refused, {accepted} accepted: the changes are too dull"
    );
}

/// Gives all blocks that are headers of `original` a right checksum.
fn fix_checksums(original: &[u8], bytes: &mut [u8]) {
    for at in (0..bytes.len()).step_by(512).filter(|at| &original[at + 257..at + 262] == b"ustar") {
        let block = &mut bytes[at..at + 512];
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
