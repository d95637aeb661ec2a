//! Layers on top of each other: whiteouts, opaque directories, and types that change.

use crate::support::*;
use std::os::unix::fs::MetadataExt;

/// Unpacks in all ways, and calls `check` after each.
#[track_caller]
fn unpacked(layers: &[Tar], check: impl Fn(&Bench)) {
    let layers: Vec<_> = layers.iter().map(|layer| layer.clone().end()).collect();
    for way in WAYS {
        let bench = Bench::new();
        bench.unpack(way, &layers).unwrap_or_else(|error| panic!("{way:?}: {error}"));
        check(&bench);
    }
}

fn lower() -> Tar {
    tar()
        .dir("etc/")
        .file("etc/a", "lower a")
        .file("etc/b", "lower b")
        .dir("etc/sub/")
        .file("etc/sub/deep", "lower deep")
        .dir("etc/sub/dir/")
        .file("etc/sub/dir/deeper", "lower deeper")
        .symlink("link", "etc")
}

#[test]
fn whiteouts_hide_files_and_trees_of_lower_layers() {
    unpacked(&[lower(), tar().file("etc/.wh.a", "").file("etc/.wh.sub", "")], |bench| {
        assert_eq!(bench.names("etc"), ["b"]);
        assert_eq!(bench.stat("etc").mtime(), MTIME, "hiding does not change a directory's time");
    });
}

#[test]
fn whiteouts_hide_nothing_of_their_own_layer_whatever_the_order() {
    let new = |tar: Tar| tar.file("etc/a", "new a").dir("etc/sub/").file("etc/sub/new", "new");
    let hide = |tar: Tar| tar.file("etc/.wh.a", "").file("etc/.wh.sub", "");
    for upper in [hide(new(tar())), new(hide(tar()))] {
        unpacked(&[lower(), upper], |bench| {
            assert_eq!(bench.names("etc"), ["a", "b", "sub"]);
            assert_eq!(bench.names("etc/sub"), ["new"]);
            assert_eq!(bench.read("etc/a"), "new a");
        });
    }
}

#[test]
fn opaque_directories_keep_only_their_own_layer() {
    let new = |tar: Tar| tar.dir("etc/").file("etc/new", "new").file("etc/sub/dir/new", "new");
    let opaque = |tar: Tar| tar.file("etc/.wh..wh..opq", "");
    for upper in [opaque(new(tar())), new(opaque(tar()))] {
        unpacked(&[lower(), upper], |bench| {
            assert_eq!(bench.names("etc"), ["new", "sub"]);
            assert_eq!(bench.names("etc/sub"), ["dir"]);
            assert_eq!(bench.names("etc/sub/dir"), ["new"]);
            assert_eq!(bench.names(""), ["etc", "link"]);
        });
    }
}

#[test]
fn a_whiteout_in_the_lowest_layer_hides_nothing() {
    unpacked(&[tar().file("a", "a").file(".wh.a", "").file(".wh..wh..opq", "")], |bench| {
        assert_eq!(bench.names(""), ["a"]);
    });
}

#[test]
fn whiteouts_of_a_third_layer_hide_both_below() {
    let second = tar().file("etc/c", "second").file("etc/sub/second", "second");
    unpacked(&[lower(), second, tar().file("etc/.wh.sub", "").file("etc/.wh.c", "")], |bench| {
        assert_eq!(bench.names("etc"), ["a", "b"]);
    });
}

#[test]
fn what_came_through_a_link_is_this_layers_too() {
    let upper = tar().file("link/sub/new", "new").file("etc/.wh.sub", "").file("link/.wh.a", "");
    unpacked(&[lower(), upper], |bench| {
        assert_eq!(bench.names("etc"), ["b", "sub"]);
        assert_eq!(bench.names("etc/sub"), ["new"], "only the new file stays");
    });
}

#[test]
fn a_path_that_implies_a_directory_hides_the_file_of_a_lower_layer() {
    let below = || lower().symlink("etc/away", "sub");
    let upper = tar().file("etc/a/new", "new").file("etc/b/deep/new", "deep").file("etc/away/new", "through");
    unpacked(&[below(), upper], |bench| {
        assert_eq!(bench.names("etc/a"), ["new"]);
        assert_eq!(bench.read("etc/b/deep/new"), "deep");
        assert_eq!(bench.read("etc/sub/new"), "through", "a link is followed");
    });
    // What this layer wrote itself is no directory.
    for upper in [tar().file("f", "").file("f/x", ""), tar().file("etc/a", "again").file("etc/a/x", "")] {
        for way in WAYS {
            let bench = Bench::new();
            let outcome = bench.unpack(way, &[lower().end(), upper.clone().end()]);
            refused(outcome, "its parent is not a directory");
        }
    }
}

#[test]
fn whiteouts_of_nothing_and_aufs_names_are_passed_over() {
    let upper = tar()
        .file("nowhere/.wh.a", "")
        .file(".wh.nothing", "")
        .file("etc/a/.wh.below-a-file", "")
        .file("etc/.wh..wh.plnk", "")
        .dir("etc/.wh..wh.orph/");
    unpacked(&[lower(), upper], |bench| {
        assert_eq!(bench.names(""), ["etc", "link"]);
        assert_eq!(bench.names("etc"), ["a", "b", "sub"]);
    });
}

#[test]
fn many_files_of_a_layer_survive_its_whiteout() {
    // More than the written set keeps in memory.
    let mut upper = tar().file(".wh.etc", "");
    for i in 0..9000 {
        upper = upper.file(&format!("etc/sub/{i}"), "");
    }
    let bench = Bench::new();
    bench.unpack(PLAIN, &[lower().end(), upper.file("etc/sub/.wh..wh..opq", "").end()]).unwrap();
    assert_eq!(bench.names("etc"), ["sub"]);
    assert_eq!(bench.names("etc/sub").len(), 9000);
}

#[test]
fn a_whiteout_spares_what_lies_deeper_than_directories_are_kept_open() {
    let deep: String = (1..=30).map(|i| format!("{i}/")).collect();
    let lower = tar().file(&format!("{deep}old"), "old").file("1/2/old", "old");
    let upper = tar().file(&format!("{deep}new"), "new").file(".wh.1", "");
    unpacked(&[lower, upper], |bench| {
        assert_eq!(bench.names(&deep), ["new"]);
        assert_eq!(bench.names("1/2"), ["3"]);
    });
}

#[test]
fn every_type_replaces_every_other() {
    type Make = fn(Tar) -> Tar;
    let kinds: [(&str, Make); 6] = [
        ("file", |tar| tar.file("x", "file")),
        ("full dir", |tar| tar.dir("x/").file("x/in", "in").dir("x/d/").file("x/d/in", "in")),
        ("empty dir", |tar| tar.dir("x/")),
        ("symlink", |tar| tar.symlink("x", "keep")),
        ("hardlink", |tar| tar.hardlink("x", "keep/file")),
        ("fifo", |tar| tar.member(b'6', "x", "", 0o600, b"", |_| {})),
    ];
    for (first, make_first) in &kinds {
        for (second, make_second) in &kinds {
            let keep = tar().dir("keep/").file("keep/file", "kept");
            // Alone, and over the other type: in another layer, and in the same one.
            let alone = Bench::new();
            alone.unpack(PLAIN, &[make_second(keep.clone()).end()]).unwrap();
            for way in WAYS {
                let (two, one) = (Bench::new(), Bench::new());
                two.unpack(way, &[make_first(keep.clone()).end(), make_second(tar()).end()]).unwrap();
                one.unpack(way, &[make_second(make_first(keep.clone())).end()]).unwrap();
                assert_eq!(two.read("keep/file"), "kept", "{second} over {first} writes through it");
                assert_eq!(
                    two.read("keep/in").len(),
                    "keep/in: No such file or directory (os error 2)".len()
                );
                if first.contains("dir") && second.contains("dir") {
                    let names = if *first == "full dir" || *second == "full dir" { 2 } else { 0 };
                    assert_eq!(two.names("x").len(), names, "{second} over {first} keeps the content");
                } else {
                    let expected = without_root_time(&alone);
                    assert_eq!(without_root_time(&two), expected, "{second} over {first}, {way:?}");
                    assert_eq!(
                        without_root_time(&one),
                        expected,
                        "{second} over {first}, one layer, {way:?}"
                    );
                }
            }
        }
    }
}

/// The root has no member here, so its time is that of the test.
fn without_root_time(bench: &Bench) -> Vec<String> {
    show(&bench.root()).lines().skip(1).map(String::from).collect()
}

#[test]
fn a_file_with_two_names_keeps_the_other_when_one_is_replaced() {
    let lower = tar().file("a", "old").hardlink("b", "a");
    unpacked(&[lower, tar().file("a", "new")], |bench| {
        assert_eq!((bench.read("a"), bench.read("b")), ("new".into(), "old".into()));
    });
}

#[test]
fn hardlinks_reach_through_layers_links_and_themselves() {
    let upper = tar()
        .hardlink("b", "etc/a")
        .hardlink("c", "/link/../etc/b")
        .hardlink("etc/a", "etc/a")
        .hardlink("sym", "link")
        .hardlink("etc/sub/e", "link/sub/deep");
    unpacked(&[lower(), upper], |bench| {
        assert_eq!(bench.read("b"), "lower a");
        assert_eq!(bench.read("c"), "lower b");
        assert_eq!(bench.stat("etc/a").nlink(), 2);
        assert!(bench.stat("sym").file_type().is_symlink());
        assert_eq!(bench.stat("link").nlink(), 2);
        assert_eq!(bench.stat("etc/sub/deep").ino(), bench.stat("etc/sub/e").ino());
    });
}

#[test]
fn parents_that_no_member_made_are_made_also_behind_links() {
    let layers =
        [tar().symlink("dangling", "/made/by/link"), tar().file("dangling/x/y", "deep").file("p/q/r", "r")];
    unpacked(&layers, |bench| {
        assert_eq!(bench.read("made/by/link/x/y"), "deep");
        assert_eq!(bench.stat("p/q").mode() & 0o7777, 0o755);
    });
}

#[test]
fn directory_times_hold_whatever_order_members_come_in() {
    let time =
        |tar: Tar, path: &str, time: u64| tar.member(b'5', path, "", 0o755, b"", |h| h.set_mtime(time));
    let first = time(time(time(tar(), "./", 7), "a/", 1), "a/b/", 2)
        .file("a/b/c", "c")
        .file("other", "x")
        .file("a/b/d", "d")
        .file("a/e", "e");
    // Deeper than directories are kept open, and back.
    let deep = (1..=30).fold(String::new(), |path, i| format!("{path}{i}/"));
    let first = (1..=30).fold(first, |tar, i| {
        let path: String = deep.split_inclusive('/').take(i).collect();
        time(tar, &path, 100 + i as u64)
    });
    let first = first.file(&format!("{deep}f"), "f").file("1/2/f", "f");
    let second = tar()
        .file("a/b/new", "new")
        .file("a/b/.wh.c", "")
        .file("1/2/3/g", "g")
        .symlink("l", "a/b")
        .file("l/y", "y");
    unpacked(&[first, second], |bench| {
        assert_eq!(bench.stat("a").mtime(), 1);
        assert_eq!(bench.stat("a/b").mtime(), 2);
        for i in 1..=30 {
            let path: String = deep.split_inclusive('/').take(i).collect();
            assert_eq!(bench.stat(&path).mtime(), 100 + i as i64, "{path}");
        }
        assert_eq!(bench.stat("").mtime(), 7);
        assert_eq!(bench.names("a/b"), ["d", "new", "y"]);
    });
}
