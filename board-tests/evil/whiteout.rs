//! Whiteouts aimed at what they must not hide: parents, the root, what a link leads to, other whiteouts.

use super::builder::{Head, Tar, tar};
use super::victim::{ABSENT, By, Expect, Family};
use crate::harness::exit;

const BOTH: [By; 2] = [By::Root, By::User];

fn base() -> Tar {
    tar().dir("d").file("d/f", "f").dir("d/sub").file("d/sub/g", "g").file("top", "top")
}

#[test]
fn whiteouts_of_parents_and_of_the_root() {
    let mut family = Family::pulled_by("whiteouts of parents and of the root", &BOTH).and_deployed();
    for name in
        [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", "d/sub/.wh...", "../.wh..", ".wh.//"]
    {
        for kind in [b'0', b'5', b'2', b'1', b'6'] {
            let whiteout = tar().add(Head::new(kind, name).link("top"), "");
            let what = format!("{name}, type {}", kind as char);
            family.refuses(&what, [base(), whiteout.clone()], "hides no file");
            family.refuses(&format!("{what}, lowest layer"), [whiteout], "hides no file");
        }
    }
    // `.wh.X` whose X would be a path: a name has no slash, so these hide what they name, in the root.
    for (what, name, seen) in [
        ("of a parent by dots", "d/../.wh.d", ("d", ABSENT)),
        ("from above the root", "../../.wh.d", ("d", ABSENT)),
        ("in a folder that is not there", "none/.wh.x", ("none", ABSENT)),
        ("below a file", "d/f/.wh.x", ("d/f", "f")),
        ("of the victim's name", "../.wh.victim", ("top", "top")),
        ("of three dots", ".wh....", ("top", "top")),
    ] {
        family.keeps(what, [base(), tar().file(name, "")], &[seen]);
    }
    for name in [".wh..wh..opq", "./.wh..wh..opq", "../.wh..wh..opq", "d/../../.wh..wh..opq"] {
        let upper = tar().file("kept", "kept").file(name, "");
        family.keeps(&format!("{name} of the root"), [base(), upper], &[("d", ABSENT), ("kept", "kept")]);
    }
    family.aimed("absolute", Expect::Kept(vec![("top", Some("top"))]), |victim, away| {
        vec![
            base(),
            tar()
                .file(format!("{victim}/.wh.passwd"), "")
                .file(format!("{victim}/.wh..wh..opq"), "")
                .file(format!("{away}/.wh.sub"), "")
                .file(format!("{}/.wh.victim", away.trim_end_matches("/victim")), ""),
        ]
    });
    family.end();
}

#[test]
fn whiteouts_through_links() {
    let mut family = Family::pulled_by("whiteouts through links", &BOTH).and_deployed();
    for target in ["../victim", "/victim", "../../../../victim", "d/../../victim", "/proc/self/cwd/../victim"]
    {
        for name in
            ["out/.wh.passwd", "out/.wh.sub", "out/.wh..wh..opq", "out/sub/.wh..wh..opq", "chain/.wh.sub"]
        {
            let links = base().symlink("out", target).symlink("chain", "/d/../out");
            let hidden = tar().file(name, "");
            let what = format!("{name} where it leads to {target}");
            family.keeps(&what, [links.clone(), hidden.clone()], &[("d/f", "f"), ("top", "top")]);
            let made = tar().dir("victim").file("victim/passwd", "mine").dir("victim/sub");
            let layers = [made, links, hidden, tar().file("top", "again")];
            family.keeps(&format!("{what}, which is there"), layers, &[("top", "again")]);
        }
    }
    let links = || base().symlink("l", "/d").symlink("self", "self");
    family.keeps(
        "of a link, not of what it leads to",
        [links(), tar().file(".wh.l", "")],
        &[("l", ABSENT), ("d/f", "f")],
    );
    family.keeps(
        "of what is behind a link",
        [links(), tar().file("l/.wh.f", "")],
        &[("d/f", ABSENT), ("l", "-> /d")],
    );
    family.keeps(
        "opaque behind a link",
        [links(), tar().file("l/.wh..wh..opq", "")],
        &[("d/f", ABSENT), ("d", "directory")],
    );
    family.refuses("behind a loop", [links(), tar().file("self/.wh.f", "")], "too many links");
    for (beside, what) in [(true, "beside"), (false, "away")] {
        family.aimed(
            &format!("by an absolute path, {what}"),
            Expect::Kept(vec![("top", Some("top"))]),
            |one, other| {
                let target = if beside { one } else { other };
                let hidden =
                    tar().file("out/.wh.passwd", "").file("out/.wh.sub", "").file("out/.wh..wh..opq", "");
                vec![base().symlink("out", target), hidden]
            },
        );
    }
    family.end();
}

#[test]
fn whiteouts_that_are_something_else() {
    let mut family = Family::pulled_by("whiteouts that are something else", &BOTH).and_deployed();
    // Whatever the type: what the name says is done, and no file of that name comes to be.
    for kind in [b'0', b'1', b'2', b'5', b'6', b'7'] {
        for (name, gone) in [(".wh.top", "top"), ("d/.wh.sub", "d/sub"), ("d/.wh..wh..opq", "d/f")] {
            let whiteout = tar().add(Head::new(kind, name).link("../victim/passwd"), "");
            family.keeps(
                &format!("{name} of type {}", kind as char),
                [base(), whiteout],
                &[(gone, ABSENT), (name, ABSENT)],
            );
        }
    }
    let data = tar().file(".wh.top", "data that nobody sees").file("after", "after");
    family.keeps("with data", [base(), data], &[("top", ABSENT), ("after", "after"), (".wh.top", ABSENT)]);
    let trailing = tar().add(Head::new(b'0', "d/.wh.sub/"), "");
    family.keeps("with a slash", [base(), trailing], &[("d/sub", ABSENT)]);
    let both = tar().file("top", "new").file(".wh.top", "");
    family.keeps("of what the same layer has", [base(), both], &[("top", "new")]);
    let inside = tar().dir(".wh.d").file(".wh.d/f", "f");
    family.keeps("a folder of files", [base(), inside], &[("d", ABSENT)]);
    let through = tar().symlink(".wh.d", "../victim").file(".wh.d/passwd", "mine");
    family.keeps("a link to write through", [base(), through], &[("d", ABSENT), ("victim", ABSENT)]);
    for name in [".wh..wh.plnk", ".wh..wh.aufs", "d/.wh..wh.orph", ".wh..wh..wh.", ".wh..wh..tmp"] {
        let private = tar().file(name, "aufs").symlink(format!("{name}2"), "../victim");
        family.keeps(&format!("aufs' own {name}"), [base(), private], &[(name, ABSENT), ("top", "top")]);
    }
    let chained =
        [base(), tar().file(".wh.d", ""), tar().file(".wh.d", ""), tar().dir("d").file("d/.wh.f", "")];
    family.keeps("again and again", chained, &[("d/f", ABSENT), ("d", "directory")]);
    let deep = (0..140).map(|depth| "n/".repeat(depth + 1)).fold(tar(), |tar, path| tar.dir(path));
    let upper = deep.clone().file(format!("{}x", "n/".repeat(140)), "x").file(".wh.n", "");
    family.refuses("of a tree that stays, 140 deep", [deep.clone(), upper], "WHITEOUT_DEPTH_MAX");
    let lower = tar().file(".wh.n", "").file("top", "t");
    family.keeps("of a tree that goes, 140 deep", [deep, lower], &[("n", ABSENT)]);
    family.refuses(
        "a name too long",
        [base(), tar().file([b".wh.", &[b'n'; 252][..]].concat(), "")],
        "NAME_MAX",
    );
    family.image("255 bytes", Expect::Kept(vec![("top", Some("top"))]), |scratch| {
        let name = [b".wh.", &[b'n'; 251][..]].concat();
        super::builder::EvilImage::new([base(), tar().file(name, "")]).layout(scratch, "image")
    });
    let refused = Expect::Refused(exit::BAD_IMAGE, "hides no file");
    family.image("hides what came before it is refused", refused, |scratch| {
        super::builder::EvilImage::new([base(), tar().file(".wh.top", "").file(".wh.", "")])
            .layout(scratch, "image")
    });
    family.end();
}
