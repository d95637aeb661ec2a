//! The breakout tests that other engines have, case by case and under their own names: an image that one of them once
//! fell for is tried here as it was there. What follows from them is in the other files.

use super::builder::{Head, Tar, Wire, gzipped, tar};
use super::victim::{ABSENT, By, Expect, Family};
use crate::harness::exit;

const BOTH: [By; 2] = [By::Root, By::User];
const ROOT: &str = "the root can only be a directory";
const NOTHING: &str = "hides no file";

fn etc() -> Tar {
    tar().dir("etc").file("etc/passwd", "inside")
}

/// pkg/archive/tar_test.go, TestBreakouts. What its cases have on the disk before is a layer here.
#[test]
fn containerd() {
    let mut family = Family::pulled_by("containerd's breakouts", &BOTH).and_deployed();
    let unbroken = |tar: Tar, name: &str| tar.file(name, "unbroken");
    for (case, layer) in [
        ("SymlinkAbsolute", unbroken(tar().dir("etc").symlink("localetc", "/etc"), "/localetc/unbroken")),
        (
            "SymlinkUpAndOut",
            unbroken(
                tar().dir("etc").dir("dummy").symlink("localetc", "/dummy/../etc"),
                "/localetc/unbroken",
            ),
        ),
        (
            "SymlinkMultipleAbsolute",
            unbroken(
                tar().dir("etc").dir("dummy").symlink("/dummy/etc", "/etc").symlink("localetc", "/dummy/etc"),
                "/dummy/etc/unbroken",
            ),
        ),
        (
            "SymlinkMultipleRelative",
            unbroken(
                tar()
                    .dir("etc")
                    .dir("dummy")
                    .symlink("/dummy/etc", "/etc")
                    .symlink("localetc", "./dummy/etc"),
                "/dummy/etc/unbroken",
            ),
        ),
    ] {
        family.keeps(case, [layer], &[("etc/unbroken", "unbroken")]);
    }
    let emptied = tar().dir("etc").file("etc/emptied", "notempty").symlink("localetc", "/etc");
    family.keeps("SymlinkEmptyFile", [emptied.file("/localetc/emptied", "")], &[("etc/emptied", "")]);
    for (case, links, target) in [
        ("HardlinkAbsolute", etc().symlink("localetc", "/etc"), "/localetc/passwd"),
        ("HardlinkRelativeLong", etc().symlink("localetc", "../../../../../../../etc"), "/localetc/passwd"),
        (
            "HardlinkRelative",
            etc().dir("breakouts").symlink("breakouts/d1", "../../etc"),
            "/breakouts/d1/passwd",
        ),
        (
            "HardlinkDownAndOut",
            etc().dir("breakouts").dir("downandout").symlink("breakouts/d1", "../downandout/../../etc"),
            "/breakouts/d1/passwd",
        ),
        ("HardlinkDirectRelative", etc(), "../../../../../etc/passwd"),
        ("HardlinkDirectAbsolute", etc(), "/etc/passwd"),
    ] {
        family.keeps(case, [links.hardlink("localpasswd", target)], &[("localpasswd", "inside")]);
    }
    // A way by a directory that is not there leads nowhere, as it does in the kernel; containerd takes it out of the text.
    let way = etc().symlink("localetc", "upandout/../../../etc").hardlink("localpasswd", "/localetc/passwd");
    family.refuses("HardlinkRelativeUpAndOut", [way], "which is not there");
    let linked = |name: &str| tar().hardlink(name, "/etc/passwd");
    let then = |first: Tar, second: Tar| first.raw(second.unended());
    family.refuses(
        "SymlinkParentDirectory",
        [then(etc().symlink("..", "/etc/"), linked("localpasswd"))],
        ROOT,
    );
    family.refuses("SymlinkEmptyFilename", [then(etc().symlink("", "/etc/"), linked("localpasswd"))], ROOT);
    let beside = [("etc/localpasswd", "inside")];
    let parent = etc().symlink("localetc/sub/..", "/etc/");
    family.keeps("SymlinkParentRelative", [then(parent, linked("/localetc/localpasswd"))], &beside);
    let slash = then(etc().dir("localetc/"), linked("/localetc/localpasswd"));
    family.keeps("SymlinkSlashEnded", [slash], &[("localetc/localpasswd", "inside")]);
    for (case, target) in
        [("SymlinkOverrideDirectory", "/etc"), ("SymlinkOverrideDirectoryRelative", "../../etc")]
    {
        let upper = then(tar().symlink("localetc", target), linked("/localetc/localpasswd"));
        family.keeps(case, [etc().dir("/localetc/"), upper], &beside);
    }
    let lower = || etc().symlink("localetc", "/etc");
    let seen = [("localetc", "directory"), ("localetc/localpasswd", "inside"), ("etc/localpasswd", ABSENT)];
    let upper = then(tar().dir("/localetc/"), linked("/localetc/localpasswd"));
    family.keeps("DirectoryOverrideSymlink", [lower(), upper], &seen);
    let lower_linked = then(etc().symlink("localetc", "etc"), linked("/localetc/localpasswd"));
    let upper = tar().dir("/localetc/").file("/localetc/localpasswd", "different");
    family.keeps(
        "DirectoryOverrideSymlinkAndHardlink",
        [lower_linked, upper],
        &[("localetc/localpasswd", "different"), ("etc/localpasswd", "inside"), ("etc/passwd", "inside")],
    );
    for (case, name) in [
        ("WhiteoutRootParent", ".wh..."),
        ("WhiteoutParent", "etc/.wh..."),
        ("WhiteoutRoot", ".wh.."),
        ("WhiteoutCurrentDirectory", "etc/.wh.."),
    ] {
        family.refuses(case, [etc(), tar().file(name, "")], NOTHING);
    }
    let lower = |target| etc().file("/etc/whitedout", "ahhhh whiteout").symlink("localetc", target);
    let (passwd, whited) = (("etc/passwd", "inside"), ("etc/whitedout", "ahhhh whiteout"));
    for (case, target, name, seen) in [
        ("WhiteoutSymlink", "/etc", ".wh.localetc", [passwd, whited, ("localetc", ABSENT)]),
        (
            "WhiteoutSymlinkPath",
            "/etc",
            "localetc/.wh.whitedout",
            [passwd, ("etc/whitedout", ABSENT), ("localetc", "-> /etc")],
        ),
        // A folder that only a path names is no whiteout.
        (
            "WhiteoutDirectoryName",
            "/etc",
            ".wh.etc/somefile",
            [passwd, whited, (".wh.etc/somefile", "non-empty")],
        ),
        ("WhiteoutDeadSymlinkParent", "/dne", "localetc/.wh.etc", [passwd, whited, ("localetc", "-> /dne")]),
        (
            "WhiteoutRelativePath",
            "/dne",
            "dne/../.wh.etc",
            [("etc", ABSENT), ("dne", ABSENT), ("localetc", "-> /dne")],
        ),
    ] {
        family.keeps(case, [lower(target), tar().file(name, "non-empty")], &seen);
    }
    let before =
        tar().dir("etc").symlink("localpasswd", "/etc/passwd").hardlink("localpasswd-dup", "localpasswd");
    family.keeps(
        "HardlinkSymlinkBeforeCreateTarget",
        [before.file("/etc/passwd", "after")],
        &[("localpasswd-dup", "-> /etc/passwd"), ("etc/passwd", "after")],
    );
    for (case, target, seen) in [
        ("HardlinkSymlinkRelative", "../../../../../etc/passwd", "-> ../../../../../etc/passwd"),
        ("HardlinkSymlinkAbsolute", "/etc/passwd", "-> /etc/passwd"),
    ] {
        let layer = etc().symlink("passwdlink", target).hardlink("localpasswd", "/passwdlink");
        family.keeps(case, [layer], &[("localpasswd", seen), ("passwdlink", seen)]);
    }
    // Also CVE-2021-32760: the hard link's mode is the victim's.
    family.aimed("HardlinkSymlinkChmod", Expect::Kept(vec![]), |beside, away| {
        let link = |at: &str| {
            let (soft, hard) = (format!("{at}/also-exists"), format!("sketchy{}", at.len()));
            tar()
                .symlink(&soft, format!("{at}/shadow"))
                .add(Head::new(b'1', hard).mode(0o777).link(&soft), "")
        };
        vec![link(beside).raw(link(away).unended())]
    });
    family.end();
}

/// pkg/archive/diff_test.go of moby, chrootarchive's and containers/storage's the same: TestApplyLayerInvalid….
#[test]
fn moby() {
    let mut family = Family::pulled_by("moby's breakouts", &BOTH).and_deployed();
    for (case, name) in [("dotdot", "../victim/dotdot"), ("slash-dotdot", "/../victim/slash-dotdot")] {
        let seen = Box::leak(name.trim_start_matches(['.', '/']).to_owned().into_boxed_str());
        family.keeps(&format!("InvalidFilenames, {case}"), [tar().file(name, "")], &[(seen, "")]);
    }
    let loophole = || tar().hardlink("loophole-victim", "../victim");
    for (case, layer) in [
        ("dotdot", tar().hardlink("dotdot", "../victim/hello")),
        ("slash-dotdot", tar().hardlink("slash-dotdot", "/../victim/hello")),
        ("writing", loophole().file("loophole-victim/file", "")),
        ("hardlink, symlink", loophole().symlink("symlink", "loophole-victim/hello")),
        ("hardlink, hardlink", loophole().hardlink("hardlink", "loophole-victim/hello")),
        ("removing", loophole().file("loophole-victim", "")),
    ] {
        family.refuses(&format!("InvalidHardlink, {case}"), [layer], "which is not there");
    }
    let loophole = || tar().symlink("loophole-victim", "../victim");
    for (case, layer, seen) in [
        ("dotdot", tar().symlink("dotdot", "../victim/hello"), ("dotdot", "-> ../victim/hello")),
        ("slash-dotdot", tar().symlink("slash-dotdot", "/../victim/hello"), ("victim", ABSENT)),
        ("writing", loophole().file("loophole-victim/file", "mine"), ("victim/file", "mine")),
        ("symlink, symlink", loophole().symlink("symlink", "loophole-victim/hello"), ("victim", ABSENT)),
        ("removing", loophole().file("loophole-victim", ""), ("loophole-victim", "")),
    ] {
        family.keeps(&format!("InvalidSymlink, {case}"), [layer], &[seen]);
    }
    let hard = loophole().hardlink("hardlink", "loophole-victim/passwd");
    family.refuses("InvalidSymlink, symlink, hardlink", [hard], "which is not there");
    family.end();
}

/// oci/layer/tar_extract_test.go of umoci: TestUnpackEntrySanitiseScoping and TestUnpackEntrySymlinkScoping; and its
/// CVE-2021-29136, a link in place of the root, through which the next layer was written.
#[test]
fn umoci() {
    let mut family = Family::pulled_by("umoci's breakouts", &BOTH).and_deployed();
    for (case, prefix) in [("GarbagePrefix", "/.."), ("DotDotPrefix", "..")] {
        let layer = tar().file(format!("{prefix}/file"), "container content");
        family.keeps(&format!("SanitiseScoping, {case}"), [layer], &[("file", "container content")]);
    }
    for (case, prefix) in [
        ("RootPrefix", "/".to_owned()),
        ("GarbagePrefix1", "/../".into()),
        ("GarbagePrefix2", format!("/{}", "../".repeat(15))),
        ("GarbagePrefix3", format!("/{}../", "./.././../".repeat(7))),
        ("DotDotPrefix", "..".into()),
    ] {
        let layer = tar().file("link/file", "container content");
        let layers = [tar().symlink("link", &prefix), layer];
        family.keeps(&format!("SymlinkScoping, {case}"), layers, &[("file", "container content")]);
    }
    for name in ["/.", ".", "/", "./", "/./", "//"] {
        family.aimed(
            &format!("CVE-2021-29136, {name}"),
            Expect::Refused(exit::BAD_IMAGE, ROOT),
            |victim, _| vec![tar().symlink(name, victim), tar().file("passwd", "mine")],
        );
    }
    family.end();
}

/// tar-split kept what stands behind the end of an archive in memory (CVE-2017-14992): moby's
/// TestImportExtremelyLargeImageWorks has 8 GB of it; as much memory as is allowed is enough to tell.
#[test]
fn padding() {
    let mut family = Family::pulled_by("padding behind the end", &[By::Root]).and_deployed();
    let padded = |byte: u8| {
        let mut layer = tar().file("f", "f").end();
        layer.resize(layer.len() + (64 << 20), byte);
        [Wire::of(gzipped(&layer), &layer)]
    };
    family.keeps("64 MiB of zeros", padded(0), &[("f", "f")]);
    family.refuses("64 MiB of junk", padded(b'j'), "data after the end of the archive");
    family.end();
}
