//! Ways out of the root: names, symbolic links, hard links, and directories that become something else.
//!
//! The first names of the tests are those of the engines that once got it wrong: containerd's and moby's breakout
//! tests, umoci's scoping tests, CVE-2018-15664's and CVE-2019-14271's kinds.

use super::builder::{Head, Tar, tar};
use super::victim::{ABSENT, By, Expect, Family};
use crate::harness::exit;

const BOTH: [By; 2] = [By::Root, By::User];

#[test]
fn dots_and_slashes() {
    let mut family = Family::pulled_by("dots and slashes", &BOTH).and_deployed();
    let up = "../".repeat(60);
    for (what, name) in [
        ("dotdot", "../victim/passwd".to_owned()),
        ("slash dotdot", "/../victim/passwd".to_owned()),
        ("many dotdots", format!("{up}victim/passwd")),
        ("slash and many dotdots", format!("/{up}victim/passwd")),
        ("dotdots in the middle", "a/b/../../../victim/passwd".to_owned()),
        ("dotdots after more than there is", "a/../../../../victim/passwd".to_owned()),
        ("dots between", "/./.././.././.././victim/passwd".to_owned()),
        ("slashes between", "..//..///..////victim//passwd".to_owned()),
        ("a dotdot at the end", "victim/passwd/x/..".to_owned()),
        ("slashes at the end", "../victim/passwd///".to_owned()),
    ] {
        family.keeps(what, [tar().file(&name, "mine")], &[("victim/passwd", "mine"), ("a", ABSENT)]);
        let long = tar().gnu(b'L', &name).file("short", "mine");
        family.keeps(&format!("{what}, as a long name"), [long], &[("victim/passwd", "mine")]);
        let pax = tar().pax(&[("path", name.as_bytes())]).file("short", "mine");
        family.keeps(
            &format!("{what}, as a PAX path"),
            [pax],
            &[("victim/passwd", "mine"), ("short", ABSENT)],
        );
    }
    // The prefix of a ustar header is half of its name.
    let prefix = tar().add(Head::new(b'0', "passwd").size(4).put(345, b"../../victim"), "mine");
    family.keeps("a prefix", [prefix], &[("victim/passwd", "mine")]);
    for (what, name) in
        [("dot", "."), ("slash", "/"), ("dotdot", ".."), ("dot slash", "./"), ("dotdots", "../..")]
    {
        family.keeps(
            &format!("a folder {what}"),
            [tar().add(Head::new(b'5', name).mode(0o700), b"").file("f", "f")],
            &[("f", "f")],
        );
        for kind in [b'2', b'1', b'6'] {
            let node = tar().add(Head::new(kind, name).link("../victim"), b"");
            family.refuses(
                &format!("type {} as {what}", kind as char),
                [node],
                "the root can only be a directory",
            );
        }
        family.refuses(
            &format!("a file as {what}"),
            [tar().add(Head::new(b'0', name).size(1), "x")],
            "the root can only be a directory",
        );
    }
    family.refuses("an empty name", [tar().file("", "x")], "the root can only be a directory");
    family.aimed("absolute names", Expect::Kept(vec![]), |victim, away| {
        vec![
            tar()
                .file(format!("{victim}/passwd"), "mine")
                .file(format!("{away}/passwd"), "mine")
                .file(format!("/../../..{away}/sub/file"), "mine")
                .dir(format!("{victim}/sub"))
                .symlink(format!("{victim}/shadow"), "passwd"),
        ]
    });
    family.end();
}

/// Members that use every way of writing below `through`, which is a link to a victim.
fn writes(through: &str) -> Tar {
    let at = |name: &str| format!("{through}/{name}");
    tar()
        .file(at("passwd"), "mine")
        .file(at("new"), "mine")
        .file(at("sub/file"), "mine")
        .dir(at("sub"))
        .add(Head::new(b'5', at("sub")).mode(0o777).owner(12, 34), b"")
        .symlink(at("link"), "/etc")
        .symlink(at("shadow"), "elsewhere")
        .hardlink(at("hard"), at("passwd"))
        .add(Head::new(b'6', at("pipe")).mode(0o666), b"")
        .pax(&[("SCHILY.xattr.user.note", b"mine")])
        .file(at("program"), "mine")
}

#[test]
fn symbolic_links() {
    let mut family = Family::pulled_by("symbolic links", &BOTH).and_deployed();
    for (what, target) in [
        ("relative", "../victim"),
        ("absolute", "/victim"),
        ("slash dotdot", "/../victim"),
        ("far", "../../../../../../../../../../../../../../../../victim"),
        ("dots", "./.././.././victim/."),
        ("through itself", "loophole/../../victim"),
        ("through what is not there", "none/../../../victim"),
        ("slashes", "..//..//victim//"),
    ] {
        let link = || tar().symlink("loophole", target);
        let one = link().raw(writes("loophole").unended());
        let expect = match what {
            "through itself" => Expect::Refused(exit::BAD_IMAGE, "too many links"),
            "through what is not there" => Expect::Kept(vec![("victim/passwd", Some("mine"))]),
            _ => Expect::Kept(vec![("victim/passwd", Some("mine")), ("victim/sub/file", Some("mine"))]),
        };
        family.aimed(what, expect.clone(), |_, _| vec![one.clone()]);
        family.aimed(&format!("{what}, by a second layer"), expect.clone(), |_, _| {
            vec![link(), writes("loophole"), writes("loophole")]
        });
        let chain =
            tar().symlink("one", "two/").symlink("two", "deep/three").symlink("deep/three", "../loophole");
        family.aimed(&format!("{what}, at the end of a chain"), expect, |_, _| {
            vec![chain.clone(), link(), writes("one")]
        });
    }
    for (what, aim) in [("beside", 0), ("away", 1)] {
        for layers in [1, 2] {
            family.aimed(
                &format!("the absolute path of the victim {what}"),
                Expect::Kept(vec![]),
                |beside, away| {
                    let target = [beside, away][aim];
                    let link =
                        tar().symlink("out", target).symlink("up", format!("{}{target}", "../".repeat(40)));
                    match layers {
                        1 => vec![link.raw(writes("out").unended()).raw(writes("up").unended())],
                        _ => vec![link, writes("out"), writes("up")],
                    }
                },
            );
        }
    }
    for (what, target) in [
        ("the root of a process", "/proc/self/root"),
        ("the folder of a process", "/proc/self/cwd"),
        ("a descriptor", "/proc/self/fd/3"),
        ("another process", "/proc/1/root/tmp"),
        ("a device", "/dev/fd/3"),
    ] {
        let layers =
            [tar().symlink("loophole", target), writes("loophole").file("loophole/victim/passwd", "x")];
        family.keeps(what, layers, &[("loophole", Box::leak(format!("-> {target}").into_boxed_str()))]);
    }
    family.end();
}

#[test]
fn links_at_the_end_of_a_path() {
    let mut family = Family::pulled_by("links at the end of a path", &BOTH).and_deployed();
    let lower = |target: &str| tar().symlink("it", target);
    for target in ["../victim/passwd", "/victim/passwd", "../victim", "../victim/new", "../victim/sub/fifo"] {
        let replaced = |what: &str, upper: Tar, seen: &'static str, family: &mut Family| {
            let what = format!("{what} in place of a link to {target}");
            let one = lower(target).raw(upper.clone().unended());
            family.keeps(&what, [one], &[("it", seen)]);
            family.keeps(&format!("{what} of the layer below"), [lower(target), upper], &[("it", seen)]);
        };
        replaced("a file", tar().file("it", "mine"), "mine", &mut family);
        replaced("an empty file", tar().file("it", ""), "", &mut family);
        replaced(
            "a folder",
            tar().add(Head::new(b'5', "it").mode(0o700).owner(5, 5), ""),
            "directory",
            &mut family,
        );
        replaced("a link", tar().symlink("it", "other"), "-> other", &mut family);
        replaced("a hard link", tar().file("src", "s").hardlink("it", "src"), "s", &mut family);
        replaced("a pipe", tar().add(Head::new(b'6', "it"), ""), "fifo", &mut family);
        let truncated =
            tar().pax(&[("SCHILY.xattr.user.x", b"y")]).add(Head::new(b'0', "it").mode(0o4777), "");
        replaced("a file with attributes", truncated, "", &mut family);
        family.keeps("a whiteout", [lower(target), tar().file(".wh.it", "")], &[("it", ABSENT)]);
        // A link has no mode of its own; chmod(2) would follow it.
        let modes = tar().add(Head::new(b'2', "it").mode(0o4777).owner(7, 7).link(target), "");
        family.keeps(
            "a link with a mode and an owner",
            [modes],
            &[("it", Box::leak(format!("-> {target}").into()))],
        );
    }
    family.end();
}

#[test]
fn hard_links() {
    let mut family = Family::pulled_by("hard links", &BOTH).and_deployed();
    for (what, target) in [
        ("relative", "../victim/passwd"),
        ("absolute", "/../victim/passwd"),
        ("direct", "victim/passwd"),
        ("through a link", "out/passwd"),
        ("through an absolute link", "abs/passwd"),
        ("through a chain", "chain/passwd"),
        ("to a folder", "../victim"),
    ] {
        let links = || tar().symlink("out", "../victim").symlink("abs", "/victim").symlink("chain", "./abs");
        for then in [tar(), tar().file("hard", "written through"), tar().file("hard/file", "x")] {
            let one = links().hardlink("hard", target).raw(then.unended());
            family.refuses(what, [one], "which is not there");
        }
        family.refuses(
            &format!("{what}, second layer"),
            [links(), tar().hardlink("hard", target)],
            "not there",
        );
    }
    family.aimed("the absolute path", Expect::Refused(exit::BAD_IMAGE, "which is not there"), |victim, _| {
        vec![tar().hardlink("hard", format!("{victim}/shadow")).file("hard", "x")]
    });
    family.aimed("another file system", Expect::Refused(exit::BAD_IMAGE, "which is not there"), |_, away| {
        vec![tar().symlink("out", away).hardlink("hard", "out/passwd")]
    });
    // What is inside may be linked to, however the way is written (containerd's list).
    let inside = |link: &str, target: &str| {
        let base = tar().dir("etc").file("etc/passwd", "inside").dir("breakouts").dir("downandout");
        let base =
            if link.is_empty() { base } else { base.symlink("breakouts/d1", link).symlink("d1", link) };
        base.hardlink("breakouts/mine", target)
    };
    for (link, target) in [
        ("../../etc", "/breakouts/d1/passwd"),
        ("../downandout/../../etc", "/breakouts/d1/passwd"),
        ("/etc", "/d1/passwd"),
        ("../../../../../../../etc", "/d1/passwd"),
        ("breakouts/../../../etc", "/d1/passwd"),
        ("", "../../../../../etc/passwd"),
        ("", "/etc/passwd"),
        ("", "./etc/../etc/./passwd"),
    ] {
        family.keeps(
            &format!("inside by {link:?}, {target}"),
            [inside(link, target)],
            &[("breakouts/mine", "inside")],
        );
    }
    // A hard link to a symbolic link is a second name of that link; writing to either replaces it.
    for target in ["../victim/passwd", "/victim/passwd"] {
        let link = || tar().symlink("soft", target).hardlink("hard", "soft");
        let shown = Box::leak(format!("-> {target}").into_boxed_str());
        family.keeps("a hard link to a link", [link()], &[("hard", shown), ("soft", shown)]);
        let written = link().file("hard", "mine");
        family.keeps("written through both", [written], &[("hard", "mine"), ("soft", shown)]);
        let second = tar().file("hard", "mine").add(Head::new(b'5', "soft").mode(0o777), "");
        family.keeps("by a second layer", [link(), second], &[("hard", "mine"), ("soft", "directory")]);
    }
    family.refuses("to itself", [tar().hardlink("hard", "hard")], "which is not there");
    family.refuses("to the root", [tar().hardlink("hard", "/")], "a hard link to the root");
    family.refuses("to a folder", [tar().dir("d").hardlink("hard", "d")], "which is a directory");
    family.refuses("without a target", [tar().add(Head::new(b'1', "hard"), "")], "a hard link to the root");
    family.refuses("to what comes later", [tar().hardlink("hard", "f").file("f", "")], "which is not there");
    let gone = tar().dir("d").file("d/f", "").hardlink("d", "d/f");
    family.refuses("to what makes room for it", [gone], "which is not there");
    let whiteout = [tar().file("f", "f"), tar().file(".wh.f", "").hardlink("hard", "f")];
    family.refuses("to what a whiteout hid", whiteout, "which is not there");
    let named = tar().file("f", "f").hardlink(".wh.f", "f").hardlink("h", ".wh.f");
    family.refuses("to a whiteout", [named], "which is not there");
    let device = tar().add(Head::new(b'6', "pipe"), "").hardlink("hard", "pipe").file("hard", "mine");
    family.keeps("to a pipe, then written", [device], &[("hard", "mine"), ("pipe", "fifo")]);
    family.end();
}

#[test]
fn folders_that_become_something_else() {
    let mut family = Family::pulled_by("folders that become something else", &BOTH).and_deployed();
    let folder = || tar().dir("d").file("d/passwd", "first").dir("d/sub").file("d/sub/file", "first");
    for target in ["../victim", "/victim", "../victim/sub/.."] {
        let link = || tar().symlink("d", target);
        let attack = || tar().file("d/passwd", "mine").file("d/sub/file", "mine").file("d/.wh.link", "");
        let to = Box::leak(format!("-> {target}").into_boxed_str());
        let seen = [("d", &*to), ("victim/passwd", "mine")];
        let one = folder().raw(link().unended()).raw(attack().unended());
        family.keeps("folder, link, write", [one], &seen);
        family.keeps("the same in three layers", [folder(), link(), attack()], &seen);
        let mixed = [folder(), link().raw(attack().unended())];
        family.keeps("the same in two layers", mixed, &seen);
        let back =
            tar().raw(link().unended()).raw(folder().unended()).raw(link().unended()).raw(attack().unended());
        family.keeps("link, folder, link, write", [folder(), back], &seen);
        let again = [link(), folder(), attack()];
        family.keeps("link, folder, write", again, &[("d", "directory"), ("d/passwd", "mine")]);
        // The directory that is open stays open while its name goes elsewhere.
        let swap = folder()
            .dir("d/sub/deep")
            .file("d/sub/deep/a", "")
            .symlink("d/sub", "../../victim/sub")
            .file("d/sub/deep/file", "mine")
            .symlink("d", target)
            .file("d/sub/deep/file", "mine");
        family.keeps("swapped while it is open", [swap.clone()], &[("victim/sub/deep/file", "mine")]);
        family.keeps("swapped above another", [swap.clone(), swap], &[("victim/sub/deep/file", "mine")]);
        let hidden = [folder(), tar().file(".wh.d", "").symlink("d", target).file("d/passwd", "mine")];
        family.keeps("hidden, link, write", hidden, &seen);
        let hard = folder().symlink("l", target).hardlink("d", "l").file("d/passwd", "mine");
        family.keeps("a hard link to a link", [hard], &seen);
    }
    let through =
        tar().dir("d").symlink("d/l", "/").file("d/l/x", "x").file("d/l/d", "now a file").file("d/l/y", "");
    family.refuses("removed through itself", [through], "its parent is not a directory");
    for (what, layer, words) in [
        ("a loop", tar().symlink("a", "b").symlink("b", "a").file("a/x", ""), "too many links"),
        ("a link to itself", tar().symlink("a", "a").file("a/x", ""), "too many links"),
        ("a file in the way", tar().file("f", "").file("f/x", ""), "not a directory"),
        ("a pipe in the way", tar().add(Head::new(b'6', "p"), "").file("p/x", ""), "not a directory"),
        ("a link to a file", tar().file("f", "").symlink("l", "f").file("l/x", ""), "not a directory"),
    ] {
        family.refuses(what, [layer.clone()], words);
        family.refuses(&format!("{what}, second layer"), [tar().file("f", ""), layer], words);
    }
    let chain = (0..39).fold(tar().dir("end"), |tar, at| match at {
        0 => tar.symlink("0", "end"),
        _ => tar.symlink(at.to_string(), (at - 1).to_string()),
    });
    family.keeps("39 links", [chain.clone().file("38/f", "f")], &[("end/f", "f")]);
    let longer = chain.symlink("39", "38").symlink("40", "39");
    family.refuses("41 links", [longer.file("40/f", "f")], "too many links");
    family.end();
}
