//! Maps of sparse files that overlap, go backwards, lie about sizes or explode.

use super::builder::{EvilImage, Head, Tar, tar};
use super::victim::{By, Family, Ground};
use crate::harness::exit;

/// A header of GNU's old sparse format: 4 slots of a map, whether more follow, and the real size.
fn old(slots: &[(u64, u64)], more: bool, real: u64, data: u64) -> Head {
    let head = Head::new(b'S', "f").put(257, b"ustar  \0").size(data);
    let head = head.put(482, &[u8::from(more)]).put(483, format!("{real:011o}\0").as_bytes());
    slots.iter().enumerate().fold(head, |head, (at, slot)| put_slot(head, 386 + at * 24, *slot))
}

fn put_slot(head: Head, at: usize, (offset, length): (u64, u64)) -> Head {
    head.put(at, format!("{offset:011o}\0").as_bytes()).put(at + 12, format!("{length:011o}\0").as_bytes())
}

/// A block of 21 more slots.
fn more(slots: &[(u64, u64)], more: bool) -> Vec<u8> {
    let mut block = vec![0; 512];
    for (at, (offset, length)) in slots.iter().enumerate() {
        block[at * 24..][..24].copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
    }
    block[504] = u8::from(more);
    block
}

/// The same by PAX, in the versions 0.0, 0.1 and 1.0.
fn pax(version: &str, map: &[(u64, u64)], real: u64, data: &[u8]) -> Tar {
    let real = real.to_string().into_bytes();
    let pairs = map.iter().flat_map(|(offset, length)| [offset.to_string(), length.to_string()]);
    match version {
        "0.0" => {
            let mut bytes = super::builder::record("GNU.sparse.size", &real);
            for (offset, length) in map {
                bytes.extend(super::builder::record("GNU.sparse.offset", offset.to_string()));
                bytes.extend(super::builder::record("GNU.sparse.numbytes", length.to_string()));
            }
            tar().pax_bytes(bytes).file("f", data)
        }
        "0.1" => {
            let list = pairs.collect::<Vec<_>>().join(",");
            tar().pax(&[("GNU.sparse.size", &real), ("GNU.sparse.map", list.as_bytes())]).file("f", data)
        }
        _ => {
            let lines: String = pairs.map(|number| number + "\n").collect();
            let mut bytes = format!("{}\n{lines}", map.len()).into_bytes();
            bytes.resize(bytes.len().next_multiple_of(512), 0);
            bytes.extend_from_slice(data);
            one_0(&real, &bytes)
        }
    }
}

fn one_0(real: &[u8], bytes: &[u8]) -> Tar {
    let keys = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", real)];
    tar().pax(&keys).file("f", bytes)
}

const VERSIONS: [&str; 3] = ["0.0", "0.1", "1.0"];

#[test]
fn maps_that_lie() {
    let mut family = Family::pulled_by("maps that lie", &[By::Root]).and_deployed();
    let top = i64::MAX as u64;
    for (what, map, real) in [
        ("overlaps", &[(0, 3), (2, 1)][..], 10),
        ("goes backwards", &[(5, 2), (0, 2)], 10),
        ("is the same twice", &[(0, 2), (0, 2)], 10),
        ("goes beyond the file", &[(8, 4)], 10),
        ("begins beyond the file", &[(11, 4)], 10),
        ("begins at the last byte there is", &[(top, 4)], top),
        ("wraps round", &[(u64::MAX - 2, 4)], 10),
        ("has less than there is", &[(0, 2)], 10),
        ("has more than there is", &[(0, 9)], 10),
        ("has nothing", &[], 10),
        ("adds up to 2^64 and 4", &[(0, 4), (4, u64::MAX)], 10),
    ] {
        // Without any record of a map, 0.0 is an ordinary file.
        for version in VERSIONS.into_iter().skip(usize::from(map.is_empty())) {
            let layer = pax(version, map, real, b"data");
            family.refuses(&format!("a map {version} that {what}"), [layer], "a sparse map is malformed");
        }
        if map.iter().all(|(offset, length)| (offset | length) >> 33 == 0) && real < 1 << 33 {
            let layer = tar().add(old(map, false, real, 4), "data");
            family.refuses(&format!("an old map that {what}"), [layer], "a sparse map is malformed");
        }
    }
    for (what, map) in [
        ("empty", ""), // Nothing in it, and yet there is data.
        ("one number", "1"),
        ("an odd number of numbers", "0,4,5"),
        ("a comma too many", "0,4,"),
        ("a comma first", ",0,4"),
        ("two commas", "0,,4"),
        ("a negative number", "-1,4"),
        ("a blank", "0, 4"),
        ("21 digits", "000000000000000000000,4"),
        ("letters", "a,b"),
    ] {
        let layer =
            tar().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", map.as_bytes())]).file("f", "data");
        family.refuses(&format!("a map 0.1 of {what}"), [layer], "a sparse map is malformed");
    }
    for text in [
        "",
        "\n",
        "1\n",
        "1\n0\n",
        "-1\n0\n4\n",
        "a\n",
        "1\n0\n4",
        "1 0 4\n",
        "000000000000000000001\n0\n4\n",
    ] {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(512, 0);
        family.refuses(
            &format!("a map 1.0 of {text:?}"),
            [one_0(b"10", &[&bytes[..], b"data"].concat())],
            "",
        );
    }
    family.refuses(
        "a map 1.0 of 2^64 - 1 segments",
        [one_0(b"10", format!("{}\n0\n1\n", u64::MAX).as_bytes())],
        "",
    );
    let unfinished = tar().add(Head::new(b'0', "f").size(3), "1\n0").unended();
    let keys = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
    family.refuses("a map 1.0 that is cut off", [tar().pax(&keys).raw(&unfinished[..515]).unended()], "");
    let longer = tar().pax(&keys).add(Head::new(b'0', "f").size(4), "1\n0\n4\n");
    family.refuses("a map 1.0 longer than its file", [longer.raw([0; 2048])], "ends in the middle");
    for (what, keys) in [
        ("no size", &[("GNU.sparse.map", &b"0,4"[..])][..]),
        ("a size beyond", &[("GNU.sparse.map", b"0,4"), ("GNU.sparse.size", b"9223372036854775808")]),
        ("a length before its offset", &[("GNU.sparse.numbytes", b"4"), ("GNU.sparse.offset", b"0")]),
        ("an offset without a length", &[("GNU.sparse.offset", b"0"), ("GNU.sparse.size", b"9")]),
        ("1.0 without a size", &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]),
    ] {
        family.refuses(what, [tar().pax(keys).file("f", "data")], "");
    }
    let lonely = old(&[(0, 4)], true, 10, 4);
    family.refuses(
        "an old map with a gap before more",
        [tar().add(lonely, "data").raw([0; 512])],
        "malformed",
    );
    let full = [(0, 1), (2, 1), (4, 1), (6, 1)];
    let gap = tar().add(old(&full, true, 100, 5), "").raw(more(&[(8, 1)], true)).raw([b'x'; 512]);
    family.refuses("a block with a gap before more", [gap], "malformed");
    let cut = tar().add(old(&full, true, 100, 5), "").unended();
    family.refuses("a block that is missing", [cut], "ends in the middle");
    let negative = tar().add(old(&[(0, 4)], false, 10, 4).put(483, &[0xff; 12]), "data");
    family.refuses("a negative real size", [negative], "malformed");
    let wrong = tar().add(old(&[(0, 4)], false, 10, 4).put(386, &[0xff; 12]), "data");
    family.refuses("a negative offset", [wrong], "malformed");
    let ustar = tar().add(old(&[(0, 4)], false, 10, 4).put(257, b"ustar\x0000"), "data");
    family.refuses("an old map in a ustar header", [ustar], "malformed");
    family.end();
}

#[test]
fn maps_that_explode() {
    let mut family = Family::pulled_by("maps that explode", &[By::Root]).and_deployed();
    let many = |count: u64, step: u64| -> Vec<(u64, u64)> { (0..count).map(|at| (at * step, 0)).collect() };
    family.refuses("65537 segments, 1.0", [pax("1.0", &many(65_537, 1), 1 << 20, b"")], "SEGMENTS_MAX");
    family.refuses("100000 segments, 0.1", [pax("0.1", &many(100_000, 1), 1 << 20, b"")], "SEGMENTS_MAX");
    family.refuses("too many records, 0.0", [pax("0.0", &many(30_000, 1), 1 << 20, b"")], "EXTENSION_MAX");
    let blocks = (0..3200).fold(tar().add(old(&[(1, 0); 4], true, 10, 0), ""), |tar, at| {
        tar.raw(more(&[(1, 0); 21], at < 3199))
    });
    family.refuses("3200 blocks of an old map", [blocks], "SEGMENTS_MAX");
    family.keeps(
        "65536 segments",
        [pax("1.0", &many(65_536, 2), 1 << 20, b""), tar().file("g", "g")],
        &[("g", "g")],
    );
    let data: Vec<(u64, u64)> = (0..20_000).map(|at| (at * 4096, 1)).collect();
    let spread = pax("1.0", &data, 20_000 * 4096, &[b'x'; 20_000]);
    family.keeps("20000 segments of one byte", [spread], &[("f", "81920000 bytes")]);
    // Exabytes of nothing take no room, where a file system can say so; where it cannot, that is said.
    let exabytes = i64::MAX as u64;
    for version in VERSIONS {
        let layer = pax(version, &[(0, 4)], exabytes, b"data");
        family.keeps(&format!("8 EiB, {version}"), [layer], &[("f", "9223372036854775807 bytes")]);
        let end = pax(version, &[(exabytes - 4, 4)], exabytes, b"data");
        family.keeps(
            &format!("8 EiB, the data at their end, {version}"),
            [end],
            &[("f", "9223372036854775807 bytes")],
        );
    }
    let twice = pax("1.0", &[(0, 4)], exabytes, b"data");
    family.keeps("and again above", [twice.clone(), twice], &[("f", "9223372036854775807 bytes")]);
    family.end();
}

/// ext4 holds no file of 8 EiB: the disk refuses, and says of what.
#[test]
fn a_map_larger_than_the_file_system_can_hold() {
    let ground = Ground::new(By::Root);
    let disk = super::bombs::Disk::of_ext4(&ground.scratch.at("ext4"), 8);
    let image =
        EvilImage::new([pax("1.0", &[(0, 4)], i64::MAX as u64, b"data")]).layout(&ground.scratch, "image");
    let output = ground.edgepull("8 EiB on ext4", &["pull", &image, &disk.at("root")]);
    assert_eq!(output.status.code(), Some(exit::DISK));
    assert!(String::from_utf8_lossy(&output.stderr).contains("f: File too large"));
    assert_eq!(disk.names(), ["lost+found"], "left behind");
}
