//! Without root. Started by root, the tests run once more as another user.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::*;
use edgepull::layer::rootfs::WarningKind;

/// Runs `body`, which is all of `test`, as a user: here, where we are one, else in a child process that is nobody.
pub fn as_user(test: &str, body: fn()) {
    if !is_root() {
        return body();
    }
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("tests");
    // Where this program lies, nobody may not be allowed to look. cp copies it, for a file that this process
    // has open for writing may be open in a child that another thread is starting, and then it is busy.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    for path in [dir.path(), &program] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let output = Command::new(&program)
        .args([test, "--exact", "--nocapture"])
        .env("TMPDIR", dir.path())
        .current_dir(dir.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "as nobody:\n{text}");
}

/// Whether the file system of the tests keeps user attributes.
fn has_xattrs(bench: &Bench) -> bool {
    set_xattr(&bench.dir.path().join("scratch"), "user.probe", b"")
}

#[test]
fn owners_become_notes_and_devices_are_skipped() {
    as_user("rootless::owners_become_notes_and_devices_are_skipped", || {
        let owner = |header: &mut tar::Header| {
            header.set_uid(1000);
            header.set_gid(5);
        };
        let zero = |header: &mut tar::Header| {
            header.set_uid(0);
            header.set_gid(0);
        };
        let lower = tar().member(b'0', "null", "", 0o644, b"lower", zero);
        let layer = tar()
            .member(b'0', "file", "", 0o4444, b"data", owner)
            .member(b'5', "dir", "", 0o555, b"", owner)
            .member(b'0', "dir/in", "", 0o000, b"in", zero)
            .member(b'2', "link", "file", 0o777, b"", owner)
            .member(b'3', "null", "", 0o666, b"", zero)
            .member(b'4', "disk", "", 0o666, b"", zero)
            .member(b'6', "fifo", "", 0o640, b"", zero);
        for way in WAYS {
            let bench = Bench::new();
            let noted = has_xattrs(&bench);
            let summary = bench.unpack(way, &[lower.clone().end(), layer.clone().end()]).unwrap();
            let mode = |path| bench.stat(path).mode() & 0o7777;
            assert_eq!([mode("file"), mode("dir"), mode("dir/in"), mode("fifo")], [0o4444, 0o555, 0, 0o640]);
            assert_eq!(bench.names(""), ["dir", "fifo", "file", "link"], "the device hides the lower file");
            assert_eq!(bench.stat("file").mtime(), MTIME);
            assert_eq!(bench.stat("dir").mtime(), MTIME);
            // {uid: 1000, gid: 5} as a protocol buffer.
            let note = xattrs(&bench.root().join("file")).remove("user.rootlesscontainers");
            let count = |kind| summary.warnings.iter().find(|w| w.kind == kind).map_or(0, |w| w.count);
            assert_eq!(count(WarningKind::DeviceSkipped), 2);
            if noted {
                assert_eq!(note.as_deref(), Some(&[8, 0xe8, 7, 16, 5][..]));
                assert_eq!(count(WarningKind::OwnershipDropped), 1, "links can't have notes");
                assert_eq!(xattrs(&bench.root().join("fifo")).len(), 0);
            } else {
                left_out("notes of owners: the file system has no attributes");
                assert_eq!(count(WarningKind::OwnershipDropped), 3);
            }
            assert!(summary.warnings.len() <= 2, "one warning of each kind: {:?}", summary.warnings);
        }
    });
}

#[test]
fn directories_without_permissions_are_filled_replaced_and_hidden() {
    as_user("rootless::directories_without_permissions_are_filled_replaced_and_hidden", || {
        let lower = tar()
            .dir_mode("locked", 0o000)
            .file("locked/a", "a")
            .dir_mode("locked/sub", 0o111)
            .file("locked/sub/b", "b")
            .dir_mode("gone", 0o500)
            .dir_mode("gone/sub", 0o000)
            .file("gone/sub/file", "x")
            .dir_mode("both", 0o400)
            .file("both/old", "old");
        let upper = tar()
            .file("locked/sub/c", "c")
            .file("gone", "file now")
            .file("both/new", "new")
            .file("locked/.wh.a", "")
            .file(".wh.both", "");
        for way in WAYS {
            let bench = Bench::new();
            bench.unpack(way, &[lower.clone().end(), upper.clone().end()]).unwrap();
            let mode = |path| bench.stat(path).mode() & 0o7777;
            assert_eq!([mode("locked"), mode("both")], [0o000, 0o400]);
            assert_eq!([bench.stat("locked").mtime(), bench.stat("both").mtime()], [MTIME; 2]);
            assert_eq!(bench.read("gone"), "file now");
            for path in ["locked", "both"] {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(bench.root().join(path), PermissionsExt::from_mode(0o700)).unwrap();
            }
            assert_eq!(mode("locked/sub"), 0o111);
            assert_eq!(bench.names("locked"), ["sub"]);
            assert_eq!(bench.read("locked/sub/c"), "c");
            assert_eq!(bench.names("both"), ["new"]);
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(bench.root().join("locked/sub"), PermissionsExt::from_mode(0o700))
                .unwrap();
        }
    });
}

#[test]
fn forbidden_attributes_are_one_warning_for_each_reason() {
    as_user("rootless::forbidden_attributes_are_one_warning_for_each_reason", || {
        let capability: &[(&str, &[u8])] = &[
            ("SCHILY.xattr.security.capability", crate::metadata::CAPABILITY),
            ("SCHILY.xattr.trusted.x", b"x"),
        ];
        let layer = tar().pax(capability).file("ping", "").pax(capability).file("ping6", "");
        let summary = Bench::new().unpack(PLAIN, &[layer.end()]).unwrap();
        // What nobody but root may set, and what not even root may set in the process that unpacks.
        let counts: Vec<_> = summary.warnings.iter().map(|warning| warning.count).collect();
        assert_eq!(counts, [2, 2], "{:?}", summary.warnings);
    });
}

#[test]
fn breakouts_stay_inside_without_root_too() {
    as_user("rootless::breakouts_stay_inside_without_root_too", || {
        let layer = tar()
            .symlink("out", "../victim")
            .file("out/passwd", "inside")
            .hardlink("hard", "out/passwd")
            .dir("out")
            .file("out/sub/file", "x")
            .file("../victim/passwd", "y");
        for way in WAYS {
            let bench = Bench::new();
            bench.unpack(way, &[layer.clone().end()]).unwrap();
            assert_eq!(bench.read("hard"), "inside");
        }
    });
}
