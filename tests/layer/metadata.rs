//! Owner, mode, attributes and times, where they are unusual.

use crate::support::*;
use std::os::unix::fs::MetadataExt;

/// VFS_CAP_REVISION_2 with cap_net_raw, as `setcap cap_net_raw+ep` writes it (capabilities(7)).
pub const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn owned(tar: Tar, kind: u8, path: &str, mode: u32, uid: u64, gid: u64) -> Tar {
    tar.member(kind, path, if kind == b'2' { "x" } else { "" }, mode, b"", |header| {
        header.set_uid(uid);
        header.set_gid(gid);
    })
}

#[test]
fn owners_modes_and_capabilities() {
    if !is_root() {
        return left_out("owners and capabilities: not root");
    }
    let layer = owned(tar(), b'5', "d", 0o2775, 10, 20);
    let layer = owned(layer, b'0', "d/suid", 0o6755, 1000, 2000);
    let layer = owned(layer, b'0', "d/plain", 0o600, 0, 0);
    let layer = owned(layer, b'5', "d/sub", 0o1777, 0, 0);
    let layer = owned(layer, b'2', "d/link", 0o777, 3, 4);
    let layer = owned(layer, b'6', "d/fifo", 0o4640, 5, 6);
    let layer = owned(layer, b'0', "huge", 0o000, 3_000_000_000, 4_000_000_000);
    let layer = layer.pax(&[("SCHILY.xattr.security.capability", CAPABILITY)]);
    let layer = owned(layer, b'0', "ping", 0o755, 7, 8);
    let layer = layer.member(b'3', "d/null", "", 0o666, b"", |header| {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    });
    for way in WAYS {
        let bench = Bench::new();
        let summary = bench.unpack(way, &[layer.clone().end()]).unwrap();
        assert_eq!(summary.warnings.len(), 0, "{:?}", summary.warnings);
        let of = |path: &str| {
            let stat = bench.stat(path);
            (stat.mode() & 0o7777, stat.uid(), stat.gid())
        };
        assert_eq!(of("d"), (0o2775, 10, 20));
        assert_eq!(of("d/suid"), (0o6755, 1000, 2000));
        assert_eq!(of("d/plain"), (0o600, 0, 0), "not the group of the setgid directory");
        assert_eq!(of("d/sub"), (0o1777, 0, 0));
        assert_eq!((of("d/link").1, of("d/link").2), (3, 4));
        assert_eq!(of("d/fifo"), (0o4640, 5, 6));
        assert_eq!(of("huge"), (0, 3_000_000_000, 4_000_000_000));
        assert_eq!(bench.stat("d/null").rdev(), nix::sys::stat::makedev(1, 3));
        assert_eq!(xattrs(&bench.root().join("ping"))["security.capability"], CAPABILITY);
    }
}

#[test]
fn an_upper_directory_has_its_own_metadata_and_the_lower_content() {
    let lower = tar().pax(&[("SCHILY.xattr.user.lower", b"1")]).dir_mode("d", 0o700).file("d/f", "f");
    let upper = tar().pax(&[("SCHILY.xattr.user.upper", b"2")]).member(b'5', "d", "", 0o755, b"", |header| {
        header.set_mtime(5);
    });
    let bench = Bench::new();
    if !set_xattr(&bench.root(), "user.probe", b"") {
        return left_out("attributes of directories: the file system has none");
    }
    bench.unpack(PLAIN, &[lower.end(), upper.end()]).unwrap();
    let stat = bench.stat("d");
    assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o755, 5));
    assert_eq!(bench.read("d/f"), "f");
    let xattrs: Vec<_> = xattrs(&bench.root().join("d")).into_iter().collect();
    assert_eq!(xattrs, [("user.upper".to_owned(), b"2".to_vec())]);
}

#[test]
fn attributes_of_the_build_host_are_left_out_with_one_warning() {
    let label: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0\0"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
    ];
    let bench = Bench::new();
    let summary =
        bench.unpack(PLAIN, &[tar().pax(label).file("\x1b[2Ja", "").pax(label).dir("d").end()]).unwrap();
    let shown: Vec<_> = summary.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].contains("(6 times, first at \\u{1b}[2Ja)"), "{shown:?}");
    assert_eq!(xattrs(&bench.root().join("d")).len(), 0);
}

#[test]
fn an_attribute_that_the_kernel_cannot_read_is_the_images_fault() {
    let layer = tar().pax(&[("SCHILY.xattr.security.capability", b"nonsense")]).file("ping", "");
    refused(
        Bench::new().unpack(PLAIN, &[layer.end()]),
        "ping: the extended attribute \"security.capability\"",
    );
}

#[test]
fn times_have_nanoseconds_and_may_be_before_1970() {
    let layer = tar()
        .pax(&[("mtime", b"1700000000.123456789")])
        .file("new", "")
        .pax(&[("mtime", b"-86400.5")])
        .file("old", "")
        .pax(&[("mtime", b"12.5")])
        .symlink("link", "nowhere")
        .pax(&[("mtime", b"13.25")])
        .dir("dir");
    let bench = Bench::new();
    bench.unpack(PLAIN, &[layer.end()]).unwrap();
    let time = |path| (bench.stat(path).mtime(), bench.stat(path).mtime_nsec());
    assert_eq!(time("new"), (1_700_000_000, 123_456_789));
    assert_eq!(time("old"), (-86_401, 500_000_000));
    assert_eq!(time("link"), (12, 500_000_000));
    assert_eq!(time("dir"), (13, 250_000_000));
}

#[test]
fn a_default_acl_above_does_not_change_modes() {
    let bench = Bench::new();
    // Version 2; user rwx, group ---, mask ---, other --- as POSIX ACLs are stored (linux/posix_acl_xattr.h).
    let acl = [&2u32.to_le_bytes()[..], &entry(1, 7), &entry(4, 0), &entry(32, 0)].concat();
    if !set_xattr(&bench.root(), "system.posix_acl_default", &acl) {
        return left_out("a default ACL: the file system has none");
    }
    let layer = tar().file("f", "").dir("d").file("d/f", "").member(b'6', "fifo", "", 0o664, b"", |_| {});
    bench.unpack(PLAIN, &[layer.end()]).unwrap();
    let mode = |path| bench.stat(path).mode() & 0o7777;
    assert_eq!([mode("f"), mode("d"), mode("d/f"), mode("fifo")], [0o644, 0o755, 0o644, 0o664]);
}

fn entry(tag: u16, permissions: u16) -> [u8; 8] {
    let (tag, permissions) = (tag.to_le_bytes(), permissions.to_le_bytes());
    [tag[0], tag[1], permissions[0], permissions[1], 255, 255, 255, 255]
}
