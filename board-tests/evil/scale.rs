//! More of everything than any honest image has: entries, depth, links on the way. Memory stays bounded, and the end
//! comes.

use super::builder::{EvilImage, Head, Tar, Wire, gzipped, streamed, tar};
use super::victim::{By, Expect, Family, Ground};

fn compressed(tar: Tar) -> Wire {
    let tar = tar.end();
    Wire::of(gzipped(&tar), &tar)
}

#[test]
fn a_million_entries() {
    let ground = Ground::new(By::Root);
    let million = streamed(&ground.scratch, "million", 1, |out| {
        for at in 0..1_000_000 {
            let entry =
                tar().add(Head::new(b'0', format!("{:02}/{:02}/{at}", at / 10_000, at / 100 % 100)), "");
            out.write_all(&entry.unended()).expect("gzip");
        }
        out.write_all(&[0; 1024]).expect("gzip");
    });
    let hidden =
        compressed(tar().file("00/.wh..wh..opq", "").file("99/99/.wh.999999", "").file("99/99/new", "x"));
    let image = EvilImage::new([million, hidden]).layout(&ground.scratch, "image");
    let seen =
        vec![("00", Some("directory")), ("00/00", None), ("99/99/999998", Some("")), ("99/99/999999", None)];
    ground.pull("a million entries", &image, &Expect::Kept(seen));
    eprintln!("evil: a million entries: 1 hostile images, 1 verdicts");
}

#[test]
fn depth() {
    let mut family = Family::pulled_by("depth", &[By::Root, By::User]);
    let path = "d/".repeat(2000);
    let deep = || tar().dir(&path).file(format!("{path}f"), "deep");
    family.keeps("2000 folders in each other", [deep()], &[("d", "directory")]);
    family.keeps("and again", [deep(), deep().file("top", "t")], &[("top", "t")]);
    family.keeps(
        "hidden",
        [deep(), tar().file(".wh.d", "").file("top", "t")],
        &[("d", super::victim::ABSENT), ("top", "t")],
    );
    family.keeps("replaced", [deep(), tar().symlink("d", "../victim")], &[("d", "-> ../victim")]);
    family.end();
}

/// Deeper than any path: the way goes on behind links.
#[test]
fn depth_behind_links() {
    let mut family = Family::pulled_by("depth behind links", &[By::Root]);
    let path = "d/".repeat(2000);
    let hop = |tar: Tar, at: usize| {
        let tar = (1..=100).fold(tar, |tar, depth| tar.dir(format!("l{at}/{}", "e/".repeat(depth))));
        tar.symlink(format!("l{}", at + 1), format!("l{at}/{}", "e/".repeat(100)))
    };
    let chained = |count: usize| {
        compressed((0..count).fold(tar(), hop).file(format!("l{count}/f"), "deep").file("top", "t"))
    };
    family.keeps("3000 deep", [chained(30)], &[("top", "t")]);
    family.keeps("3000 deep, twice", [chained(30), chained(30)], &[("top", "t")]);
    let gone = compressed(tar().file(".wh.l0", "").file("top", "u"));
    family.keeps("3000 deep, then gone", [chained(30), gone], &[("top", "u"), ("l0", super::victim::ABSENT)]);
    family.refuses("more links than 40", [chained(45)], "too many links");
    let longest = (0..4).fold(tar(), |tar, at| {
        let way = format!("l{at}/{}", "e/".repeat(1900));
        tar.dir(&way).symlink(format!("l{}", at + 1), way)
    });
    family.refuses("a way that gets longer and longer", [longest], "too many links");
    let behind = (0..200).fold(tar(), |tar, at| tar.file(format!("l/{at}/f"), ""));
    family.keeps(
        "200 folders behind a link",
        [tar().dir(&path).symlink("l", &path), behind],
        &[("d", "directory")],
    );
    family.end();
}

/// Whoever lists a folder of 30,000 names once for each of 30,000 whiteouts is still at it the next day.
#[test]
fn whiteouts_of_a_full_folder_are_done_once() {
    let mut family = Family::pulled_by("whiteouts of a full folder", &[By::Root]);
    let names = |tar: Tar| (0..30_000).fold(tar, |tar, at| tar.file(format!("d/{at}"), ""));
    let lower = || compressed(tar().dir("d").file("d/old", "old"));
    for whiteout in ["d/.wh..wh..opq", ".wh.d", ".wh..wh..opq"] {
        let upper = compressed((0..30_000).fold(names(tar()), |tar, _| tar.file(whiteout, "")));
        let seen = [("d/old", super::victim::ABSENT), ("d/29999", "")];
        family.keeps(&format!("30000 of {whiteout}"), [lower(), upper], &seen);
    }
    family.end();
}

/// An image whose tree is deep or strange is deployed, looked at and verified like any other.
#[test]
fn deployments_of_strange_trees() {
    let ground = Ground::new(By::Root);
    let deep = tar().dir("d/".repeat(2000)).file("d/".repeat(1000) + "f", "x");
    let wide = (0..20_000).fold(tar(), |tar, at| tar.file(format!("{at}"), ""));
    let links = (0..2000).fold(tar().file("f", "x"), |tar, at| tar.hardlink(format!("h{at}"), "f"));
    for (what, layer) in [("deep", deep), ("wide", wide), ("links", links)] {
        let image = EvilImage::new([compressed(layer)]).layout(&ground.scratch, what);
        let output = ground.edgepull(what, &["deploy", what, &image]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        ground.look_at_deployments(what);
    }
    eprintln!("evil: deployments of strange trees: 3 hostile images, 9 verdicts");
    assert_eq!(ground.edgepull("gc", &["gc"]).status.code(), Some(0));
}
