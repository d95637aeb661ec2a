//! Archives that different readers read differently: sizes said twice, names said twice, extension headers that lie,
//! entries hidden in the data of others. What is accepted has one meaning, and everything else is refused.

use super::builder::{Head, Tar, gzipped, record, tar};
use super::victim::{ABSENT, By, Family};

/// A member that is to stay hidden.
fn hidden() -> Vec<u8> {
    tar().file("../victim/passwd", "smuggled").file("smuggled", "smuggled").unended()
}

#[test]
fn sizes_that_are_said_twice() {
    let mut family = Family::pulled_by("sizes that are said twice", &[By::Root]).and_deployed();
    let inner = hidden();
    let length = inner.len() as u64;
    let size = |size: u64| size.to_string().into_bytes();
    // The PAX size counts, as POSIX says; what a reader of the header's size would take for members is data.
    let larger =
        tar().pax(&[("size", &size(length))]).add(Head::new(b'0', "f").size(0), &inner).file("g", "g");
    family.keeps("header 0, PAX all", [larger], &[("f", "2048 bytes"), ("smuggled", ABSENT), ("g", "g")]);
    let octal =
        tar().pax(&[("size", &size(length))]).add(Head::new(b'0', "f").size256(7), &inner).file("g", "g");
    family.keeps(
        "base-256 header, PAX all",
        [octal],
        &[("f", "2048 bytes"), ("smuggled", ABSENT), ("g", "g")],
    );
    let smaller = tar().pax(&[("size", b"0")]).add(Head::new(b'0', "f").size(length), &inner).file("g", "g");
    family.keeps(
        "header all, PAX 0",
        [smaller],
        &[("f", ""), ("smuggled", "smuggled"), ("victim/passwd", "smuggled")],
    );
    let twice = tar().pax(&[("size", b"1"), ("size", &size(length))]).add(Head::new(b'0', "f"), &inner);
    family.keeps("PAX twice in one header: the last", [twice], &[("f", "2048 bytes"), ("smuggled", ABSENT)]);
    let taken_back =
        tar().pax(&[("size", b"1"), ("size", b"")]).add(Head::new(b'0', "f").size(length), &inner);
    family.keeps("PAX taken back", [taken_back], &[("f", "2048 bytes"), ("smuggled", ABSENT)]);
    // Between the PAX header and its member other extension headers may stand: it is not about them (GHSA-vmf3).
    let between = tar().pax(&[("size", &size(length))]).gnu(b'L', "long").add(Head::new(b'0', "f"), &inner);
    family.keeps("a long name between", [between], &[("long", "2048 bytes"), ("smuggled", ABSENT)]);
    let second = tar().pax(&[("size", &size(length))]).pax(&[("mtime", b"1")]).file("f", "x").file("g", "g");
    family.keeps("a second PAX header: the first is void", [second], &[("f", "x"), ("g", "g")]);
    let global = tar().global(&[("size", &size(length))]).file("f", "x").file("g", "g");
    family.keeps("a global size is nobody's", [global], &[("f", "x"), ("g", "g")]);
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let what = format!("type {} with a size", kind as char);
        let sized = tar().file("t", "t").add(Head::new(kind, "f").size(512).link("t"), "").file("g", "g");
        family.keeps(&what, [sized], &[("g", "g")]);
        let pax = tar()
            .file("t", "t")
            .pax(&[("size", b"512")])
            .add(Head::new(kind, "f").link("t"), "")
            .file("g", "g");
        family.keeps(&format!("{what} by PAX"), [pax], &[("g", "g")]);
    }
    let huge = |head: Head| tar().add(head, "x");
    for (what, layer, words) in [
        ("negative", huge(Head::new(b'0', "f").size256(-1)), "the size of a tar member"),
        ("most negative", huge(Head::new(b'0', "f").size256(i128::MIN)), "the size of a tar member"),
        ("2^63", huge(Head::new(b'0', "f").size256(1 << 63)), "the size of a tar member"),
        ("2^64 - 1", huge(Head::new(b'0', "f").size256((1 << 64) - 1)), "the size of a tar member"),
        ("2^87", huge(Head::new(b'0', "f").size256(1 << 87)), "the size of a tar member"),
        ("PAX 2^63", huge_pax("9223372036854775808"), "the size of a tar member"),
        ("PAX 2^64", huge_pax("18446744073709551616"), "malformed"),
        ("PAX negative", huge_pax("-1"), "malformed"),
        ("PAX in hexadecimal", huge_pax("0x10"), "malformed"),
        ("PAX with a blank", huge_pax(" 1"), "malformed"),
        ("PAX with a fraction", huge_pax("1.0"), "malformed"),
        ("eight", huge(Head::new(b'0', "f").put(124, b"00000000008\0")), "the size of a tar member"),
        (
            "a minus in octal",
            huge(Head::new(b'0', "f").put(124, b"-0000000001\0")),
            "the size of a tar member",
        ),
    ] {
        family.refuses(&format!("a size of {what}"), [layer], words);
    }
    for (what, layer) in [
        ("2^63 - 1", huge(Head::new(b'0', "f").size256(i64::MAX.into()))),
        ("8 GiB in octal", huge(Head::new(b'0', "f").put(124, b"77777777777\0"))),
        ("PAX 2^63 - 1", huge_pax("9223372036854775807")),
        ("a block too many", tar().add(Head::new(b'0', "f").size(5000), [0; 4500])),
    ] {
        family.refuses(&format!("a size of {what}"), [layer.unended()], "ends in the middle");
    }
    let blanks = tar().add(Head::new(b'0', "f").put(124, b"          4 "), "four").file("g", "g");
    family.keeps("a size between blanks", [blanks], &[("f", "four"), ("g", "g")]);
    let full = tar().add(Head::new(b'0', "f").put(124, b"000000000004"), "four").file("g", "g");
    family.keeps("a size that fills its field", [full], &[("f", "four"), ("g", "g")]);
    family.end();
}

fn huge_pax(size: &str) -> Tar {
    tar().pax(&[("size", size.as_bytes())]).add(Head::new(b'0', "f"), "x")
}

#[test]
fn names_that_are_said_twice() {
    let mut family = Family::pulled_by("names that are said twice", &[By::Root, By::User]).and_deployed();
    let pax = || tar().pax(&[("path", b"pax"), ("linkpath", b"to-pax")]);
    let cases = [
        ("PAX and header", pax().file("header", "x"), [("pax", "x"), ("header", ABSENT)]),
        ("PAX, then GNU", pax().gnu(b'L', "gnu").file("header", "x"), [("gnu", "x"), ("pax", ABSENT)]),
        (
            "GNU, then PAX",
            tar().gnu(b'L', "gnu").raw(pax().unended()).file("h", "x"),
            [("gnu", "x"), ("pax", ABSENT)],
        ),
        (
            "GNU twice",
            tar().gnu(b'L', "one").gnu(b'L', "two").file("h", "x"),
            [("two", "x"), ("one", ABSENT)],
        ),
        (
            "links by both",
            pax().gnu(b'K', "to-gnu").symlink("h", "to-h"),
            [("pax", "-> to-gnu"), ("h", ABSENT)],
        ),
        ("links by PAX", pax().symlink("h", "to-h"), [("pax", "-> to-pax"), ("h", ABSENT)]),
        (
            "PAX twice",
            tar().pax(&[("path", b"a"), ("path", b"b")]).file("h", "x"),
            [("b", "x"), ("a", ABSENT)],
        ),
        (
            "PAX taken back",
            tar().pax(&[("path", b"a"), ("path", b"")]).file("h", "x"),
            [("h", "x"), ("a", ABSENT)],
        ),
        ("global", tar().global(&[("path", b"glob")]).file("h", "x"), [("h", "x"), ("glob", ABSENT)]),
        (
            "a sparse name",
            tar().pax(&[("path", b"a"), ("GNU.sparse.name", b"s")]).file("h", "x"),
            [("s", "x"), ("a", ABSENT)],
        ),
        ("for one member only", pax().file("h", "x").file("second", "y"), [("pax", "x"), ("second", "y")]),
        (
            "a long link that no member has",
            tar().gnu(b'K', "../victim").file("h", "x"),
            [("h", "x"), ("victim", ABSENT)],
        ),
    ];
    for (what, layer, seen) in cases {
        family.keeps(what, [layer], &seen);
    }
    let old = tar().add(Head::new(0, "folder/"), "").file("folder/f", "f");
    family.keeps("an old folder", [old], &[("folder/f", "f")]);
    let slash = tar().file("file/", "x");
    family.keeps("a file with a slash", [slash], &[("file", "x")]);
    family.end();
}

#[test]
fn extension_headers() {
    let mut family = Family::pulled_by("extension headers", &[By::Root]).and_deployed();
    for bytes in [
        &b"0 path=a\n"[..],
        b"1 path=a\n",
        b"8 path=a\n",
        b"11 path=a\n",
        b"99 path=a\n",
        b"-9 path=a\n",
        b"+9 path=a\n",
        b" 9 path=a\n",
        b"0x9 path=a\n",
        b"99999999999999999999999999 path=a\n",
        b"18446744073709551617 path=a\n",
        b"9 path=ab",
        b"9  path=a",
        b"9\tpath=a\n",
        b"5 =a\n5 a\n",
        b"3 \n",
        b"path=a\n",
        b"\n",
        b"\0\0\0\0",
        b"9 path=a\n\0\0\0",
        b"9 path=a\n5",
    ] {
        let what = format!("PAX {}", bytes.escape_ascii());
        family.refuses(&what, [tar().pax_bytes(bytes).file("f", "")], "a PAX header is malformed");
    }
    let equals = tar().pax(&[("comment", b"a=b=c\nsize=5"), ("path", b"p=q")]).file("f", "x");
    family.keeps("values with = and a newline", [equals], &[("p=q", "x")]);
    let nested = record("comment", record("path", "../victim/passwd"));
    family.keeps(
        "a record in a record",
        [tar().pax_bytes(nested).file("f", "x")],
        &[("f", "x"), ("victim", ABSENT)],
    );
    let unknown = tar().pax_bytes(record("k".repeat(500_000), "v".repeat(400_000))).file("f", "x");
    family.keeps("a key of 500000 bytes", [unknown], &[("f", "x")]);
    for kind in *b"xgLK" {
        let claims = |size: i128| tar().add(Head::new(kind, "claims").size256(size), "").file("f", "").end();
        for size in [(1 << 20) + 1, 300 << 20, 1 << 40, i64::MAX.into()] {
            family.refuses(&format!("{} of {size} bytes", kind as char), [claims(size)], "EXTENSION_MAX");
        }
        for size in [-1, 1 << 63] {
            family.refuses(
                &format!("{} of {size} bytes", kind as char),
                [claims(size)],
                "the size of a tar member",
            );
        }
        let many = (0..2048).fold(tar(), |tar, _| tar.add(Head::new(kind, "again").size(512), [b'\0'; 512]));
        match kind {
            b'x' => family.refuses("2048 PAX headers of NULs", [many.file("f", "")], "malformed"),
            _ => family.refuses(&format!("2048 of {}", kind as char), [many.file("f", "")], "EXTENSION_MAX"),
        }
        let last = tar().file("f", "").add(Head::new(kind, "last").size(9), b"9 path=a\n");
        match kind {
            // It is about all that follows, which may well be nothing.
            b'g' => family.keeps("g at the end", [last], &[("f", "")]),
            _ => family.refuses(
                &format!("{} at the end", kind as char),
                [last],
                "ends after an extension header",
            ),
        }
        let alone = tar().add(Head::new(kind, "cut").size(512), b"").unended();
        family.refuses(&format!("{} cut off", kind as char), [alone], "ends in the middle");
    }
    for kind in (0..=255u8).filter(|kind| !b"\x0001234567xXgLKSV".contains(kind)) {
        let layer = tar().file("before", "").add(Head::new(kind, "f").size(5), "12345");
        family.refuses(&format!("type {:?}", kind as char), [layer], "unknown type");
    }
    let label = tar().add(Head::new(b'V', "label"), "").file("f", "x");
    family.keeps("a label", [label], &[("f", "x"), ("label", ABSENT)]);
    let data = tar().add(Head::new(b'V', "label").size(hidden().len() as u64), hidden()).file("f", "x");
    family.keeps("a label with members in it", [data], &[("f", "x"), ("smuggled", ABSENT)]);
    let endless = tar().add(Head::new(b'V', "label").size256(i64::MAX.into()), "").unended();
    family.refuses("a label without end", [endless], "ends in the middle");
    family.end();
}

#[test]
fn blocks() {
    let mut family = Family::pulled_by("blocks", &[By::Root]).and_deployed();
    let head = || Head::new(b'0', "f").size(1);
    let name = || Head::new(b'0', b"\xff\xfe\xfd").size(1);
    family.keeps(
        "a sum of signed bytes",
        [tar().verbatim(name().summed_signed(), "x").file("g", "g")],
        &[("g", "g")],
    );
    family.keeps(
        "a sum of unsigned bytes",
        [tar().verbatim(name().summed(), "x").file("g", "g")],
        &[("g", "g")],
    );
    for (what, wrong) in [
        ("no checksum", head()),
        ("a wrong checksum", head().summed().put(0, b"g")),
        ("a checksum of letters", head().summed().put(148, b"checksum")),
        ("a checksum of 2^62", head().put(148, b"\x80\x40\0\0\0\0\0\0")),
        ("a negative checksum", head().put(148, b"\xff\xff\xff\xff\xff\xff\xff\xff")),
        ("a checksum that is one off", head().summed().put(500, b"\x01")),
    ] {
        family.refuses(what, [tar().file("before", "").verbatim(wrong, "x")], "checksum");
    }
    let member = || tar().file("f", "x");
    for (what, layer) in [
        ("no end", member().unended()),
        ("one block of zeros", member().raw([0; 512]).unended()),
        ("a part of a block of zeros", member().raw([0; 600]).unended()),
        ("half a megabyte of zeros", member().raw(vec![0; 500_000]).unended()),
        ("no padding", member().unended()[..513].to_vec()),
    ] {
        family.keeps(what, [layer], &[("f", "x")]);
    }
    family.keeps("nothing at all", [tar().unended()], &[("f", ABSENT)]);
    family.keeps("the end only", [tar().end()], &[("f", ABSENT)]);
    for zeros in [512, 1024, 10_240, 100_000] {
        let two = member().raw(vec![0; zeros]).raw(hidden()).end();
        family.refuses(
            &format!("{zeros} zeros and a second archive"),
            [two],
            "data after the end of the archive",
        );
        let garbage = member().raw(vec![0; zeros]).raw(b"garbage").unended();
        family.refuses(&format!("{zeros} zeros and garbage"), [garbage], "data after the end of the archive");
    }
    family.refuses("garbage behind a member", [member().raw(b"garbage").unended()], "ends in the middle");
    family.refuses("a block of garbage", [member().raw([b'g'; 512]).unended()], "checksum");
    family.refuses("no tar at all", [vec![b'?'; 4096]], "checksum");
    family.refuses("an ELF program", [[b"\x7fELF".as_slice(), &[0; 1000]].concat()], "checksum");
    family.refuses(
        "a gzip in a gzip",
        [super::builder::Wire::of(gzipped(&gzipped(&member().end())), &gzipped(&member().end()))],
        "",
    );
    // A path made of prefix and name; star's headers have times where others have the prefix's end.
    let long = tar().add(head().put(345, &[b'p'; 155]), "x");
    family.keeps("a prefix of 155 bytes", [long.file("g", "g")], &[("g", "g")]);
    let star =
        tar().add(head().put(345, b"pre").put(476, b"00000000000 00000000000 ").put(508, b"tar\0"), "x");
    family.keeps("star's header", [star], &[("pre/f", "x")]);
    let v7 = tar().add(head().put(257, &[0; 8]).put(345, b"../../victim"), "x");
    family.keeps("an old header has no prefix", [v7], &[("f", "x"), ("victim", ABSENT)]);
    let gnu = tar().add(head().put(257, b"ustar  \0").put(345, b"../../victim"), "x");
    // Go before 1.8 wrote a prefix where GNU tar writes times: what is no time is that.
    family.keeps("GNU's header has one where no times are", [gnu], &[("victim/f", "x"), ("f", ABSENT)]);
    let times = tar().add(head().put(257, b"ustar  \0").put(345, b"14000000000 14000000000 "), "x");
    family.keeps("GNU's header has times", [times], &[("f", "x")]);
    family.end();
}
