//! Members that are strange in themselves: devices, special bits, owners, times, attributes, names.

use super::builder::{EvilImage, Head, Tar, record, tar};
use super::victim::{ABSENT, By, Expect, Family};
use crate::harness::exit;

const BOTH: [By; 2] = [By::Root, By::User];

#[test]
fn devices_pipes_and_special_bits() {
    let mut family = Family::pulled_by("devices, pipes and special bits", &[By::Root]).and_deployed();
    let device = |kind, major, minor| tar().add(Head::new(kind, "node").mode(0o666).device(major, minor), "");
    family.keeps("a character device", [device(b'3', 1, 3)], &[("node", "character device")]);
    family.keeps("a block device", [device(b'4', 8, 0)], &[("node", "block device")]);
    family.keeps("overlayfs' whiteout device", [device(b'3', 0, 0).file("f", "f")], &[("f", "f")]);
    let then = device(b'3', 1, 3).file("node", "a file now");
    family.keeps("a file in place of a device", [then.clone()], &[("node", "a file now")]);
    family.keeps("by a second layer", [device(b'4', 8, 0), then], &[("node", "a file now")]);
    let hard = device(b'4', 8, 0).hardlink("second", "node").file("node", "mine");
    family.keeps("a hard link to a device", [hard], &[("second", "block device"), ("node", "mine")]);
    family.refuses("through a device", [device(b'3', 1, 3).file("node/f", "")], "not a directory");
    for (major, minor) in
        [(1 << 12, 0), (0, 1 << 20), (0xffff_ffff, 0xffff_ffff), (-1, 0), (1, -1), (1 << 40, 3)]
    {
        let node = |kind| tar().add(Head::new(kind, "node").device256(major, minor), "");
        for kind in [b'3', b'4'] {
            family.refuses(&format!("device {major}:{minor}"), [node(kind)], "device");
        }
        family.keeps("a pipe has no number", [node(b'6')], &[("node", "fifo")]);
    }
    for mode in [0o4755, 0o2755, 0o6777, 0o1777, 0o7777, 0] {
        let file = tar().add(Head::new(b'0', "f").mode(mode).owner(0, 0).size(1), "x");
        let dir = tar().add(Head::new(b'5', "d").mode(mode), "").file("d/f", "f");
        family.keeps(&format!("a file of mode {mode:o}"), [file], &[("f", "x")]);
        family.keeps(&format!("a folder of mode {mode:o}"), [dir.clone()], &[("d/f", "f")]);
        let below = [dir, tar().file("d/g", "g").file("d/.wh.f", "")];
        family.keeps("and a layer above", below, &[("d/g", "g"), ("d/f", ABSENT)]);
    }
    // Type bits in the mode, as old writers put there; and more than a mode has.
    let types =
        tar().add(Head::new(b'0', "f").mode(0o120_777), "").add(Head::new(b'5', "d").mode(0o777_7755), "");
    family.keeps("a mode with type bits", [types], &[("f", ""), ("d", "directory")]);
    family.end();
}

#[test]
fn devices_pipes_and_special_bits_without_root() {
    let mut family = Family::pulled_by("devices, pipes and special bits without root", &[By::User]);
    for kind in [b'3', b'4'] {
        let node = tar().add(Head::new(kind, "node").device(1, 3), "").file("f", "f");
        family.keeps("a device", [node.clone()], &[("node", ABSENT), ("f", "f")]);
        family.keeps("on a file", [tar().file("node", "x"), node], &[("node", ABSENT)]);
    }
    for mode in [0o4755, 0o6777, 0o7777, 0] {
        let tree = tar().add(Head::new(b'5', "d").mode(mode), "").file("d/f", "f").file("g", "g");
        family.keeps(&format!("a folder of mode {mode:o}"), [tree.clone(), tree], &[("g", "g")]);
        let hidden = [
            tar().add(Head::new(b'5', "d").mode(mode), ""),
            tar().file(".wh.d", "").symlink("d", "../victim"),
        ];
        family.keeps("hidden", hidden, &[("d", "-> ../victim")]);
        let locked =
            tar().add(Head::new(b'5', "d").mode(0), "").symlink("d/l", "/victim").file("d/l/passwd", "mine");
        // Its own user may not look in, and has no way to be let in that leads through a link.
        family.image(
            "a locked folder with a way out",
            Expect::Refused(exit::DISK, "Permission denied"),
            |scratch| EvilImage::new([locked.clone()]).layout(scratch, "image"),
        );
    }
    family.end();
}

#[test]
fn owners_and_times() {
    let mut family = Family::pulled_by("owners and times", &BOTH).and_deployed();
    let with = |head: fn(Head) -> Head| tar().add(head(Head::new(b'0', "f")), "");
    for (what, layer) in [
        ("an owner beyond", with(|head| head.owner256(1 << 32, 0))),
        ("an owner of 2^63", with(|head| head.put(108, b"\x80\xff\xff\xff\xff\xff\xff\xff"))),
        ("an owner in letters", with(|head| head.put(108, b"root\0\0\0\0"))),
        ("an owner below the lowest", with(|head| head.owner256(-(1 << 31) - 1, 0))),
        ("a PAX owner beyond", tar().pax(&[("uid", b"4294967296")]).file("f", "")),
    ] {
        family.refuses(what, [layer], "makes no sense");
    }
    // -1 is nobody's: chown(2) leaves the owner as it is with it, which is how others unpack these.
    for (what, layer) in [
        ("the highest owner", with(|head| head.owner256(u32::MAX.into(), 0))),
        ("the highest group", with(|head| head.owner256(0, u32::MAX.into()))),
        ("a negative owner", with(|head| head.owner256(-1, 0))),
        ("a negative group", with(|head| head.owner256(0, -2))),
        ("the highest PAX group", tar().pax(&[("gid", b"4294967295")]).file("f", "")),
        ("a negative PAX owner", tar().pax(&[("uid", b"-1")]).file("f", "")),
    ] {
        family.keeps(what, [layer], &[("f", "")]);
    }
    family.refuses("a negative mode", [with(|head| head.mode256(-1))], "the mode of a tar member");
    let last = with(|head| head.owner256(0xffff_fffe, 0xffff_fffe));
    family.keeps("the last owner there is", [last], &[("f", "")]);
    for seconds in [-1, -1 << 33, 1 << 33, 1 << 40, i64::MAX.into(), i64::MIN.into()] {
        let dated =
            |kind, name: &str| tar().add(Head::new(kind, name).mtime256(seconds).link("f"), "").unended();
        let all =
            tar().raw(dated(b'0', "f")).raw(dated(b'5', "d")).raw(dated(b'2', "l")).raw(dated(b'6', "p"));
        family.keeps(&format!("{seconds} seconds"), [all], &[("f", ""), ("l", "-> f"), ("p", "fifo")]);
    }
    for time in
        ["-9223372036854775807", "9223372036854775807.999999999999", "-0.000000001", "0.999999999999999999"]
    {
        let layer = tar().pax(&[("mtime", time.as_bytes())]).file("f", "");
        family.keeps(&format!("PAX mtime {time}"), [layer], &[("f", "")]);
    }
    for time in ["9223372036854775808", "1e9", "0x10", " 1", "1 ", "+1", "--1", ".5", "NaN", "1,5"] {
        let layer = tar().pax(&[("mtime", time.as_bytes())]).file("f", "");
        family.refuses(&format!("PAX mtime {time:?}"), [layer], "malformed");
    }
    family.end();
}

#[test]
fn attributes() {
    let mut family = Family::pulled_by("extended attributes", &[By::Root]).and_deployed();
    let with = |name: &str, value: &[u8]| {
        let key = format!("SCHILY.xattr.{name}");
        let pax = |tar: Tar| tar.pax(&[(&key, value)]);
        let tree = pax(pax(tar()).dir("d")).file("d/f", "f");
        pax(pax(tree).symlink("l", "../victim/passwd")).add(Head::new(b'6', "p"), "")
    };
    for name in
        ["opaque", "redirect", "origin", "metacopy", "whiteout", "upper", "nlink", "impure", "overlay.opaque"]
    {
        for space in ["trusted.overlay", "user.overlay"] {
            let layer = with(&format!("{space}.{name}"), b"y");
            family.keeps(&format!("{space}.{name}"), [layer], &[("d/f", "f")]);
        }
    }
    family.keeps(
        "SELinux' label",
        [with("security.selinux", b"system_u:object_r:shadow_t:s0")],
        &[("d/f", "f")],
    );
    family.keeps("an NFS ACL", [with("system.nfs4_acl", b"\0\0\0\x01")], &[("d/f", "f")]);
    family.keeps("no namespace", [with("plain", b"x")], &[("d/f", "f")]);
    family.keeps("an unknown namespace", [with("evil.x", b"x")], &[("d/f", "f")]);
    family.keeps("control characters", [with("user.\x1b[2J\nx", b"\0\n\xff")], &[("d/f", "f")]);
    for value in [&b"\0"[..], b"\x01\0\0\x09", &[0xff; 20], &[0; 64]] {
        let layer = tar().pax(&[("SCHILY.xattr.security.capability", value)]).file("f", "f");
        family.refuses(&format!("malformed capabilities {value:?}"), [layer], "malformed");
    }
    for value in [&b""[..], b"x", &[0xff; 8], b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff"] {
        let layer = tar().pax(&[("SCHILY.xattr.system.posix_acl_access", value)]).file("f", "f");
        match value {
            // Nothing in it: no ACL.
            b"" => family.keeps("an empty ACL", [layer], &[("f", "f")]),
            // Of a version that the kernel does not know: left out with a warning.
            [0xff, ..] => family.keeps("an ACL of another version", [layer], &[("f", "f")]),
            _ => family.refuses(&format!("a malformed ACL {value:?}"), [layer], "malformed"),
        }
    }
    family.refuses("no name", [with("", b"x")], "malformed");
    let big = |length| tar().pax(&[("SCHILY.xattr.user.big", &vec![b'x'; length])]).file("f", "f");
    family.refuses("65537 bytes", [big(65_537)], "XATTR_MAX");
    family.refuses("a megabyte", [big(1_000_000)], "XATTR_MAX");
    let many = |count: usize, length: usize| {
        let records: Vec<u8> =
            (0..count).flat_map(|at| record(format!("SCHILY.xattr.user.{at}"), vec![b'x'; length])).collect();
        tar().pax_bytes(records).file("f", "f")
    };
    family.refuses("ten of 60000 bytes", [many(10, 60_000)], "XATTRS_MAX");
    family.keeps(
        "names beyond 255 bytes",
        [with(&format!("user.{}", "n".repeat(300)), b"x")],
        &[("d/f", "f")],
    );
    let twice = tar().pax(&[("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.user.a", b"2")]).file("f", "f");
    family.keeps("the same twice", [twice], &[("f", "f")]);
    // A default ACL changes the modes of what is made below: nothing there may become more than its member says.
    let acl =
        b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x07\0\xff\xff\xff\xff\x20\0\x07\0\xff\xff\xff\xff";
    let default = tar().pax(&[("SCHILY.xattr.system.posix_acl_default", acl)]).dir("d").file("d/f", "f");
    family.keeps("a default ACL", [default, tar().file("d/g", "g")], &[("d/f", "f"), ("d/g", "g")]);
    family.end();
}

#[test]
fn names() {
    let mut family = Family::pulled_by("names", &BOTH).and_deployed();
    for name in [
        &b"new\nline"[..],
        b"\x1b]0;title\x07\x1b[2Jclear",
        b"carriage\rreturn",
        b"\xff\xfe invalid",
        b"\xc0\xaf overlong slash",
        b"\xe2\x80\xae right to left",
        b" ",
        b"-rf",
        b"*",
        b"$(reboot)`reboot`",
        b"\\..\\..\\victim",
        b"C:\\victim",
        b"...",
        b"~root",
        b"\x7f",
        b"\x01",
    ] {
        let what = name.escape_ascii().to_string();
        let tree = tar().file(name, "x").dir([name, b"d"].concat()).symlink("l", name).file("kept", "kept");
        family.keeps(&what, [tree.clone(), tree], &[("kept", "kept")]);
        // As part of a message.
        let wrong = tar().file(name, "x").file([name, b"/x"].concat(), "");
        family.refuses(&format!("{what}, in a message"), [wrong], "not a directory");
        let attribute =
            tar().pax_bytes(record([b"SCHILY.xattr.security.capability".as_slice()].concat(), "x"));
        family.refuses(&format!("{what}, with a wrong attribute"), [attribute.file(name, "")], "");
        let pax = tar().pax_bytes(record("path", name)).file("short", "x").file("kept", "kept");
        family.keeps(&format!("{what}, by PAX"), [pax], &[("kept", "kept")]);
    }
    for (what, layer, words) in [
        ("NUL in a PAX path", tar().pax(&[("path", b"a\0b")]).file("f", ""), "malformed"),
        ("NUL in a PAX link", tar().pax(&[("linkpath", b"a\0b")]).symlink("f", ""), "malformed"),
        ("NUL in a PAX key", tar().pax(&[("pa\0th", b"a")]).file("f", ""), "malformed"),
        ("NUL in a sparse name", tar().pax(&[("GNU.sparse.name", b"a\0b")]).file("f", ""), "malformed"),
        ("a component of 256 bytes", tar().file([b'n'; 256], ""), "NAME_MAX"),
        ("in the middle", tar().file(format!("a/{}/b", "n".repeat(256)), ""), "NAME_MAX"),
        ("in a hard link", tar().hardlink("h", "n".repeat(256)), "NAME_MAX"),
        ("a path of 4097 bytes", tar().file("p/".repeat(2048) + "x", ""), "PATH_MAX"),
        ("by PAX", tar().pax(&[("path", "p/".repeat(2049).as_bytes())]).file("f", ""), "PATH_MAX"),
        ("a link of 4097 bytes", tar().symlink("l", "p/".repeat(2048) + "x"), "PATH_MAX"),
        ("a link of 4096 bytes", tar().symlink("l", "p/".repeat(2048)), "too long"),
        ("an empty link", tar().symlink("l", ""), "without a target"),
    ] {
        family.refuses(what, [layer], words);
    }
    let nul = tar().gnu(b'L', b"name\0../victim/passwd").file("short", "x");
    family.keeps("what stands behind a NUL", [nul], &[("name", "x"), ("victim", ABSENT)]);
    family.keeps("a component of 255 bytes", [tar().file([b'n'; 255], "").file("f", "f")], &[("f", "f")]);
    family.keeps(
        "a link of 4095 bytes",
        [tar().symlink("l", "p".repeat(4095)).file("f", "f")],
        &[("f", "f")],
    );
    let longest = "p/".repeat(2047) + "x";
    family.keeps("a path of 4095 bytes", [tar().file(&longest, "deep").file("f", "f")], &[("f", "f")]);
    let one_more = tar().file("p/".repeat(2047) + "xy", "deep").file("f", "f");
    family.keeps("a path of 4096 bytes", [one_more], &[("f", "f")]);
    family.image("names in an index", Expect::Refused(exit::USAGE, "several images"), |scratch| {
        let [mut one, mut other] = ["f", "g"].map(|name| {
            let image = EvilImage::new([tar().file(name, "")]);
            image.layout(scratch, "image");
            let manifest = image.manifest().to_string();
            super::builder::descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes())
        });
        let key = "org.opencontainers.image.ref.name";
        one["annotations"] = serde_json::json!({ key: "\u{1b}[2J\nlatest" });
        other["annotations"] = serde_json::json!({ key: "\u{7}\u{9b}31m" });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [one, other] });
        super::builder::index_json(scratch, "image", &index.to_string());
        format!("oci:{}", scratch.at("image"))
    });
    family.end();
}
