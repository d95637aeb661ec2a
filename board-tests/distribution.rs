//! A real distribution: two foreign architectures of Debian, pushed as one image, pulled by the
//! boards, and equal to what debootstrap made.

use std::path::Path;
use std::sync::Mutex;

use crate::harness::*;

const SUITE: &str = "bookworm";

/// The mirror that this machine's apt uses for Debian itself.
fn mirror() -> String {
    let targets = run(
        "apt-get",
        [
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Identifier: Packages",
            &format!("Codename: {SUITE}"),
            "Origin: Debian",
        ],
    );
    let mirror = targets.lines().next();
    mirror
        .expect("apt knows a mirror of Debian bookworm; run apt-get update")
        .trim_end_matches('/')
        .to_owned()
}

/// A tar archive of Debian's smallest system for `architecture` (debootstrap's first stage, which runs
/// nothing foreign). Made once and kept: the packages are some 50 MB of downloads.
pub fn bootstrapped(architecture: &str) -> String {
    // Two tests that need the same one: the second finds what the first has made.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let cache = concat!(env!("CARGO_MANIFEST_DIR"), "/board-tests/cache");
    let kept = format!("{cache}/{SUITE}-{architecture}.tar");
    if !Path::new(&kept).exists() {
        let scratch = Scratch::new();
        let (root, arch) = (scratch.at("root"), format!("--arch={architecture}"));
        run("debootstrap", ["--foreign", "--variant=minbase", &arch, SUITE, &root, &mirror()]);
        // Debian's minimal systems hold neither of these; a layer has to carry them all the same.
        run("setcap", ["cap_net_bind_service=ep", &scratch.at("root/usr/bin/env")]);
        run("mknod", [&scratch.at("root/dev/board-null"), "c", "1", "3"]);
        std::fs::create_dir_all(cache).expect("a cache folder");
        let unfinished = format!("{kept}.new");
        run(
            "tar",
            [
                "--format=pax",
                "--numeric-owner",
                "--xattrs",
                "--xattrs-include=*",
                "--sort=name",
                "-C",
                &root,
                "-cf",
                &unfinished,
                ".",
            ],
        );
        std::fs::rename(unfinished, &kept).expect("a file in the cache");
    }
    kept
}

#[test]
fn two_debians_in_one_image_come_out_as_they_went_in() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let boards = [("armhf", "linux/arm/v7", Board::armv7()), ("arm64", "linux/arm64/v8", Board::aarch64())];
    let mut index = Index::new();
    for (architecture, platform, _) in &boards {
        let tar = bootstrapped(architecture);
        let source = scratch.at(architecture);
        std::fs::create_dir(&source).expect("a folder");
        run("tar", ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", &tar, "-C", &source]);
        let layer = std::fs::read(tar).expect("the archive");
        index = index.with(Image::of(platform).raw_layer(layer).entrypoint("/usr/bin/env").build());
    }
    let registry = Registry::with().tls(&authority).start();
    let image = registry.push(&index.build().layout(&scratch, "layout"), "board/debian:12");
    for (architecture, _, board) in &boards {
        let root = scratch.at(&format!("root-{architecture}"));
        board.edgepull(["--ca-file", &authority.ca_file(), "pull", &image, &root]).succeeds();
        let (seen, source) = (Tree::of(&root), Tree::of(scratch.path(architecture)));
        assert!(source.len() > 5000, "debootstrap made {} entries", source.len());
        source.equals(&seen);
    }
}
