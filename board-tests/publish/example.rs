//! The Makefile of examples/publish, from programs to an image for every board.

use super::*;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/publish");

/// Runs the Makefile against a registry whose certificate is this authority's; gives the image's name there.
pub fn made(registry: &Registry, authority: &Authority, scratch: &Scratch) -> String {
    let program = agent();
    let edgepull = format!("EDGEPULL={program} --state-dir {}", scratch.at("lists"));
    let trusting = format!("REGISTRY=--ca-file {}", authority.ca_file());
    let [root, state, out] = ["storage", "run", "out"].map(|name| scratch.at(name));
    let buildah = format!("BUILDAH=buildah --root {root} --runroot {state} --storage-driver vfs");
    let (image, out) = (format!("IMAGE={}", registry.image("made/hello")), format!("OUT={out}"));
    run("make", ["-s", "-C", EXAMPLE, &image, "TAG=1", &out, &edgepull, &trusting, &buildah]);
    "made/hello:1".into()
}

#[test]
fn the_makefile_publishes_an_image_that_every_board_can_pull() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let registry = Registry::with().tls(&authority).start();
    let name = registry.image(&made(&registry, &authority, &scratch));
    let ca = authority.ca_file();
    let boards =
        [(Board::armv5(), "v5"), (Board::armv6(), "v6"), (Board::armv7(), "v7"), (Board::aarch64(), "arm64")];
    for (board, code) in boards {
        let root = scratch.at(code);
        board.edgepull(["--ca-file", &ca, "pull", &name, &root]).succeeds();
        assert!(
            std::fs::read(scratch.path(code).join("hello")).expect("the program") == program(code),
            "{code}"
        );
    }
    // Again: nothing is built or sent anew, and the list is the same.
    let before =
        publisher(&scratch).edgepull(["--ca-file", &ca, "inspect", "--raw", &name]).succeeds().stdout();
    made(&registry, &authority, &scratch);
    publisher(&scratch).edgepull(["--ca-file", &ca, "inspect", "--raw", &name]).says_only(&before);
}
