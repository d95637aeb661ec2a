//! Images that try to reach outside. `Bench::unpack` checks after each that nothing there changed.

use crate::support::*;

fn all_ways(layers: &[Tar], check: impl Fn(&Bench, Result<(), edgepull::error::Error>)) {
    let layers: Vec<_> = layers.iter().map(|layer| layer.clone().end()).collect();
    for way in WAYS {
        let bench = Bench::new();
        let outcome = bench.unpack(way, &layers).map(drop);
        check(&bench, outcome);
    }
}

#[test]
fn dots_and_slashes_stay_in_the_root() {
    let layer = tar()
        .file("../victim/passwd", "1")
        .file("/victim/../../../victim/sub/file", "2")
        .file("a/../../../../b", "3")
        .dir("..")
        .dir("../victim/")
        .symlink("../victim/link", "/");
    all_ways(&[layer], |bench, outcome| {
        outcome.unwrap();
        assert_eq!(bench.read("victim/passwd"), "1");
        assert_eq!(bench.read("victim/sub/file"), "2");
        assert_eq!(bench.read("b"), "3");
    });
}

#[test]
fn links_lead_back_into_the_root() {
    let links = tar()
        .symlink("abs", "/victim")
        .symlink("rel", "../victim")
        .symlink("far", "../../../../../../../../victim")
        .symlink("one", "two")
        .symlink("two", "../../rel/../victim")
        .symlink("pself", "/proc/self/root")
        .symlink("cwd", "/proc/self/cwd");
    let writes = tar()
        .file("abs/passwd", "abs")
        .file("rel/sub/file", "rel")
        .file("far/new", "far")
        .file("one/one", "one")
        .dir("abs/dir/")
        .symlink("rel/link", "x")
        .hardlink("rel/hard", "abs/passwd")
        .file("pself/victim/passwd", "proc")
        .file("cwd/file", "cwd")
        .file("abs/.wh.sub", "")
        .file("rel/.wh..wh..opq", "");
    for layers in [vec![links.clone(), writes.clone()], vec![links, writes.clone(), writes]] {
        all_ways(&layers, |bench, outcome| {
            outcome.unwrap();
            assert_eq!(bench.read("victim/passwd"), "abs");
            assert_eq!(bench.read("victim/sub/file"), "rel");
            assert_eq!(bench.read("victim/one"), "one");
            assert_eq!(bench.read("proc/self/root/victim/passwd"), "proc", "no way through /proc");
        });
    }
}

#[test]
fn a_link_at_the_end_is_replaced_not_followed() {
    let outside = "../victim/passwd";
    let lower =
        tar().symlink("f", outside).symlink("d", "../victim").symlink("h", outside).symlink("w", "../victim");
    let upper = tar()
        .file("f", "file")
        .dir_mode("d/", 0o700)
        .file("d/passwd", "dir")
        .file("src", "src")
        .hardlink("h", "src")
        .file(".wh.w", "");
    all_ways(&[lower, upper], |bench, outcome| {
        outcome.unwrap();
        assert_eq!(bench.read("f"), "file");
        assert_eq!(bench.read("d/passwd"), "dir");
        assert_eq!(bench.names("d"), ["passwd"]);
        assert_eq!(bench.read("h"), "src");
        assert_eq!(bench.names(""), ["d", "f", "h", "src"]);
    });
}

#[test]
fn a_directory_that_becomes_a_link_is_not_written_through() {
    let layer = tar()
        .dir("d/")
        .file("d/a", "a")
        .symlink("d", "../victim")
        .file("d/passwd", "in the root")
        .dir("d/")
        .file("d/sub/file", "new");
    all_ways(&[layer], |bench, outcome| {
        outcome.unwrap();
        assert_eq!(bench.read("victim/passwd"), "in the root");
        assert_eq!(bench.names("d"), ["sub"]);
    });
}

#[test]
fn a_way_that_was_removed_through_itself_is_not_used_again() {
    // l leads to the root; what is removed through it is on the way.
    let layer =
        tar().dir("d/").symlink("d/l", "/").file("d/l/x", "x").file("d/l/d", "file now").file("d/l/y", "y");
    all_ways(&[layer], |_, outcome| {
        assert!(outcome.unwrap_err().to_string().contains("its parent is not a directory"));
    });
}

#[test]
fn hard_links_to_what_is_outside_are_refused() {
    for target in ["../victim/passwd", "/victim/passwd", "out/passwd", "deep/passwd", "missing"] {
        let layer = tar().symlink("out", "../victim").symlink("deep", "/../../victim").hardlink("h", target);
        all_ways(&[layer], |bench, outcome| {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("which is not there"), "{target}: {error}");
            assert!(!bench.names("").contains(&"h".into()));
        });
    }
    // The link itself is inside, and may have a second name; writing to that replaces it.
    let layer = tar().symlink("out", "../victim/passwd").hardlink("h", "out").file("h", "mine");
    all_ways(&[layer], |bench, outcome| {
        outcome.unwrap();
        assert_eq!(bench.read("h"), "mine");
        assert!(bench.stat("out").file_type().is_symlink());
    });
}

#[test]
fn whiteouts_that_hide_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        all_ways(&[tar().dir("d/").file("d/f", "f"), tar().file(name, "")], |bench, outcome| {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("hides no file"), "{name}: {error}");
            assert_eq!(bench.read("d/f"), "f");
        });
    }
}

#[test]
fn loops_and_files_in_the_way_are_errors() {
    for (layer, words) in [
        (tar().symlink("a", "b").symlink("b", "a").file("a/x", ""), "too many links"),
        (tar().symlink("self", "self").file("self/x", ""), "too many links"),
        (tar().file("f", "").file("f/x", ""), "not a directory"),
        (tar().file("f", "").symlink("l", "f").file("l/x", ""), "not a directory"),
        (tar().file(".", "x"), "the root can only be a directory"),
        (tar().symlink("/", "x"), "the root can only be a directory"),
        (tar().hardlink("h", "/"), "a hard link to the root"),
        (tar().dir("d").hardlink("h", "d"), "which is a directory"),
        (tar().dir("d").file("d/f", "").hardlink("d", "d/f"), "which is not there"),
        (tar().symlink("empty", ""), "without a target"),
    ] {
        for way in WAYS {
            refused(Bench::new().unpack(way, &[layer.clone().end()]), words);
        }
    }
}
