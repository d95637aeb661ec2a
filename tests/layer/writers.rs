//! What GNU tar and bsdtar write, in all their formats, comes out as they extract it themselves. (GNU
//! tar loses times of directories in archives of bsdtar, whose order is another.)

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        left_out(&format!("{program} is not installed"));
    }
    found
}

/// A tree with everything that every format can hold.
fn make_plain(dir: &Path) {
    fs::create_dir_all(dir.join("usr/bin")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("usr/bin/tool"), vec![b't'; 70_000]).unwrap();
    fs::write(dir.join("usr/none"), "").unwrap();
    fs::hard_link(dir.join("usr/bin/tool"), dir.join("usr/bin/alias")).unwrap();
    symlink("usr/bin", dir.join("bin")).unwrap();
    symlink("/nowhere/at/all", dir.join("usr/dangling")).unwrap();
    for (path, mode) in [("usr/bin/tool", 0o4755), ("usr/none", 0o400), ("empty", 0o1777), ("usr", 0o750)] {
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    if is_root() {
        std::os::unix::fs::lchown(dir.join("usr/none"), Some(1000), Some(100)).unwrap();
        std::os::unix::fs::lchown(dir.join("bin"), Some(5), Some(6)).unwrap();
    }
}

/// And what only GNU and PAX formats can.
fn make_full(dir: &Path) {
    make_plain(dir);
    let long = dir.join("l".repeat(120)).join("o".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("größe"), "long path").unwrap();
    symlink("x".repeat(300), dir.join("long-target")).unwrap();
    fs::hard_link(long.join("größe"), dir.join("hard-long")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    if is_root() {
        let number = nix::sys::stat::makedev(7, 300);
        mknod(&dir.join("device"), SFlag::S_IFBLK, Mode::from_bits_truncate(0o660), number).unwrap();
        std::os::unix::fs::chown(dir.join("fifo"), Some(3_000_000), Some(4_000_000)).unwrap();
    }
    let mut sparse = File::create(dir.join("sparse")).unwrap();
    for i in 0..60u64 {
        sparse.seek(SeekFrom::Start(i * 40_000 + 5)).unwrap();
        sparse.write_all(&[i as u8 + 1; 5000]).unwrap();
    }
    sparse.set_len(3_000_000).unwrap();
    File::create(dir.join("all-hole")).unwrap().set_len(500_000).unwrap();
    set_xattr(&dir.join("usr/none"), "user.greeting", b"hello\nworld\0");
    set_xattr(&dir.join("usr/bin"), "user.dir", &[b'v'; 500]);
    if is_root() {
        set_xattr(&dir.join("usr/bin/tool"), "security.capability", CAPABILITY);
        set_xattr(&dir.join("bin"), "trusted.link", b"on a link");
        set_xattr(&dir.join("device"), "trusted.node", b"on a node");
    }
}

/// VFS_CAP_REVISION_2; the permitted set has a newline's value in it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 10, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Gives everything a time of its own, children before parents.
fn set_times(path: &Path, seed: &mut i64) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names.iter().for_each(|name| set_times(name, seed));
    }
    *seed += 1;
    let time = TimeSpec::new(1_000_000_000 + *seed * 1000, *seed * 7_654_321 % 1_000_000_000);
    let here = nix::fcntl::AT_FDCWD;
    utimensat(here, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Writes `tree` with a tar program, and compares what we unpack with what it extracts.
fn compare(tree: &Path, program: &str, arguments: &[&str]) -> Option<Bench> {
    let output =
        Command::new(program).args(arguments).args(["-cf", "-", "-C"]).arg(tree).arg(".").output().unwrap();
    let what = format!("{program} {}", arguments.join(" "));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let expected = Bench::new();
    let attributes: &[&str] =
        if program == "tar" { &["--xattrs", "--xattrs-include=*"] } else { &["--xattrs"] };
    let mut tar = Command::new(program)
        .args(["-xpf", "-", "--numeric-owner", "-C"])
        .arg(expected.root())
        .args(attributes)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    assert!(tar.wait().unwrap().success());
    let mut last = None;
    for way in WAYS {
        let bench = Bench::new();
        let summary =
            bench.unpack(way, std::slice::from_ref(&output.stdout)).unwrap_or_else(|e| panic!("{what}: {e}"));
        if is_root() {
            assert_eq!(summary.warnings.len(), 0, "{what}: {:?}", summary.warnings);
        }
        let (is, should) = (show(&bench.root()), show(&expected.root()));
        // bsdtar does not set the time of the directory it extracts into.
        let skipped = usize::from(program == "bsdtar");
        let (is, should): (Vec<_>, Vec<_>) =
            (is.lines().skip(skipped).collect(), should.lines().skip(skipped).collect());
        if is != should {
            let lines = is.iter().zip(&should).filter(|(a, b)| a != b);
            let diff: Vec<_> = lines.map(|(a, b)| format!("  is {a}\n not {b}")).collect();
            panic!("{what}, {way:?}:\n{}", diff.join("\n"));
        }
        last = Some(bench);
    }
    last
}

fn tree(make: fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    set_times(dir.path(), &mut 0);
    dir
}

#[test]
fn a_plain_tree_in_every_format() {
    if !has("tar") {
        return;
    }
    let tree = tree(make_plain);
    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        compare(tree.path(), "tar", &[&format!("--format={format}"), "--numeric-owner"]);
    }
    if has("bsdtar") {
        for format in ["ustar", "gnutar", "pax"] {
            compare(tree.path(), "bsdtar", &[&format!("--format={format}"), "--numeric-owner"]);
        }
    }
}

#[test]
fn long_names_devices_sparse_files_and_attributes() {
    if !has("tar") {
        return;
    }
    if !is_root() {
        left_out("owners, devices and capabilities from real archives: not root");
    }
    let tree = tree(make_full);
    let sparse: &[&[&str]] = &[
        &["--format=gnu", "--sparse"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=pax", "--sparse", "--xattrs", "--xattrs-include=*"],
    ];
    for arguments in sparse {
        let arguments = [&["--numeric-owner"], *arguments].concat();
        let bench = compare(tree.path(), "tar", &arguments).unwrap();
        for (path, most) in [("sparse", 60 * 12 * 1024), ("all-hole", 16 * 1024)] {
            let bytes = bench.stat(path).blocks() * 512;
            assert!(bytes <= most, "{path} has no holes, {bytes} bytes on the disk: {arguments:?}");
        }
    }
    compare(tree.path(), "tar", &["--format=gnu", "--numeric-owner"]);
    if has("bsdtar") {
        for format in ["pax", "gnutar"] {
            compare(tree.path(), "bsdtar", &[&format!("--format={format}"), "--numeric-owner", "--xattrs"]);
        }
    }
}
