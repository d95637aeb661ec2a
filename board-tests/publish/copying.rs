//! Images with all their entries from place to place: as they are, only what is missing, and on from where it broke off.

use super::*;
use std::time::Duration;

/// What was sent and what was not, by the last line of `--json`.
fn totals(outcome: &Outcome) -> [u64; 3] {
    let text = outcome.stdout();
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    ["sent", "mounted", "present"].map(|key| last[key].as_u64().unwrap_or_else(|| panic!("{key}: {last}")))
}

#[test]
fn through_every_kind_of_place_the_digest_stays() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let edgepull = publisher(&scratch);
    let copy = |from: &str, to: &str| totals(&edgepull.edgepull(["--json", "copy", from, to]).succeeds());
    let (one, two) = (registry.image("board/app:1"), registry.image("other/app:2"));
    let (layout, archive) =
        (format!("oci:{}:x", scratch.at("layout")), format!("oci-archive:{}:y", scratch.at("archive.tar")));
    let back = registry.image("third/app:3");
    assert_eq!(copy(HELLO, &one), [10, 0, 0], "five programs and their configs");
    assert_eq!(copy(HELLO, &one), [0, 0, 5], "nothing is sent twice");
    assert_eq!(copy(&one, &two), [0, 10, 0], "the registry has it all");
    assert_eq!(copy(&two, &layout), [10, 0, 0]);
    assert_eq!(copy(&layout, &archive), [10, 0, 0]);
    assert_eq!(copy(&archive, &back), [10, 0, 0]);
    let bytes = raw(&one);
    assert_eq!(bytes, raw(&back));
    for place in [&layout, &archive] {
        assert_eq!(skopeo(["inspect", "--raw", place]), bytes, "{place}");
    }
    // The log says how: no upload was begun for what was mounted.
    let uploads =
        registry.log().lines().filter(|line| line.contains("PUT /v2/other/app/blobs/uploads/")).count();
    assert_eq!(uploads, 0, "bytes were sent");
}

#[test]
fn a_layout_keeps_its_other_images() {
    let scratch = Scratch::new();
    let edgepull = publisher(&scratch);
    let layout = scratch.at("layout");
    let [one, two] = ["one", "two"].map(|tag| format!("oci:{layout}:{tag}"));
    let other = Image::running("linux/arm/v6", "v6").build().oci(&scratch, "other");
    edgepull.edgepull(["copy", HELLO, &one]).succeeds();
    edgepull.edgepull(["copy", &other, &two]).succeeds();
    for (board, name) in [(Board::armv7(), &one), (Board::armv6(), &two), (Board::aarch64(), &one)] {
        let root = scratch.at("root");
        board.edgepull(["pull", name, &root]).succeeds();
        run("rm", ["-r", &root]);
    }
    edgepull
        .edgepull(["copy", HELLO, &format!("docker-archive:{}", scratch.at("x.tar"))])
        .fails_with(exit::USAGE)
        .saying("oci-archive:");
    edgepull.edgepull(["copy", &one, &one]).fails_with(exit::USAGE).saying("both SRC and DST");
}

/// The bytes of the large layer, on the wire as on the disk.
const LARGE: u64 = 40_000_000;

/// An image with one large layer, which does not compress.
fn large(scratch: &Scratch) -> String {
    let path = scratch.at("noise");
    let noise = format!("head -c {LARGE} /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 >{path}");
    run("sh", ["-c", &noise]);
    let bytes = std::fs::read(&path).expect("noise");
    let image = Image::running("linux/arm/v6", "v6").layer(Layer::new().file("noise", bytes));
    image.uncompressed().build().oci(scratch, "large")
}

/// Runs `copy` and kills it when the wire has carried half of the large layer.
fn killed_on_the_way(edgepull: &Board, relay: &Relay, from: &str, to: &str) {
    let before = relay.carried();
    let mut child = edgepull.command(["--limit-rate", "10M", "copy", from, to]).spawn().expect("edgepull");
    while relay.carried() - before < LARGE / 2 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().expect("a child").is_none(), "it has ended by itself");
    }
    child.kill().expect("a kill");
    child.wait().expect("its end");
}

#[test]
fn what_was_killed_is_carried_on() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let edgepull = publisher(&scratch);
    let image = large(&scratch);
    let name = registry.image("board/app:large");
    edgepull.edgepull(["copy", &image, &name]).succeeds();
    for to in
        [format!("oci:{}:x", scratch.at("layout")), format!("oci-archive:{}:x", scratch.at("archive.tar"))]
    {
        let relay = Relay::before(&registry);
        let from = relay.image("board/app:large");
        killed_on_the_way(&edgepull, &relay, &from, &to);
        let before = relay.carried();
        edgepull.edgepull(["copy", &from, &to]).succeeds();
        let all = relay.carried();
        // What the sockets held was lost.
        assert!(all - before < LARGE * 3 / 4, "{to}: {} bytes were fetched again", all - LARGE);
        assert_eq!(skopeo(["inspect", "--raw", &to]), raw(&name), "{to}");
    }
}

/// A list of three images in a layout, without what `missing` says of the second: its manifest, or one of its parts.
fn incomplete(scratch: &Scratch, missing: &str) -> (String, String) {
    let image = |variant: &str| Image::running(&format!("linux/arm/{variant}"), variant).build();
    let list = Index::new().with(image("v5")).with(image("v6")).with(image("v7")).build();
    let name = list.oci(scratch, missing);
    let digest = image("v6").digest().to_owned();
    let manifest = image("v6").manifest();
    let gone = match missing {
        "manifest" => digest.clone(),
        "config" => manifest["config"]["digest"].as_str().expect("a digest").to_owned(),
        _ => image("v6").layer(0),
    };
    std::fs::remove_file(scratch.path(&format!("{missing}/blobs/{}", gone.replace(':', "/"))))
        .expect("a blob");
    (name, digest)
}

#[test]
fn of_an_incomplete_list_what_is_there_is_copied_and_the_rest_is_named() {
    let scratch = Scratch::new();
    let edgepull = publisher(&scratch);
    // A blob that all three share would be missed by all.
    for missing in ["manifest", "config"] {
        let (from, digest) = incomplete(&scratch, missing);
        let to = |name: &str| format!("oci:{}", scratch.at(&format!("{missing}-{name}")));
        edgepull.edgepull(["copy", &from, &to("all")]).succeeds().saying(&digest).saying("is not copied");
        let strict = edgepull.edgepull(["copy", "--strict", &from, &to("strict")]);
        strict.fails_with(exit::NOT_FOUND).saying("not complete").saying(&digest);
        let parts = ["copy", "--platform", "linux/arm/v5", "--platform", "linux/arm/v7"];
        let copied = edgepull.edgepull(parts.into_iter().chain([&*from, &*to("parts")]));
        let only = copied.succeeds().stdout();
        assert!(only.contains("a list of 2 of its 3 entries"), "{only}");
        let wanted = edgepull.edgepull(["copy", "--platform", "linux/arm/v6", &from, &to("wanted")]);
        wanted.fails_with(exit::NOT_FOUND).saying("none of the list's entries");
        edgepull.edgepull(["manifest", "check", &from]).succeeds();
        // What was copied is what boards take.
        let root = scratch.at(&format!("{missing}-root"));
        Board::armv7().edgepull(["pull", &to("parts"), &root]).succeeds();
    }
}

#[test]
fn a_name_that_is_written_is_what_it_means_afterwards() {
    let scratch = Scratch::new();
    let edgepull = publisher(&scratch);
    let [one, two] =
        ["v5", "v6"].map(|variant| Image::running(&format!("linux/arm/{variant}"), variant).build());
    let (one, two) = (one.oci(&scratch, "one"), two.oci(&scratch, "two"));
    let layout = scratch.at("layout");
    // As `ctr export` and `docker save` name two images.
    edgepull.edgepull(["copy", &one, &format!("oci:{layout}:a")]).succeeds();
    edgepull.edgepull(["copy", &two, &format!("oci:{layout}:b")]).succeeds();
    let path = scratch.path("layout/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).expect("an index")).expect("JSON");
    for (at, name) in ["docker.io/library/a:latest", "docker.io/library/b:latest"].into_iter().enumerate() {
        index["manifests"][at]["annotations"] = serde_json::json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": "latest",
        });
    }
    std::fs::write(&path, index.to_string()).expect("an index");
    let a = format!("oci:{layout}:docker.io/library/a:latest");
    edgepull.edgepull(["copy", &two, &a]).succeeds();
    assert_eq!(skopeo(["inspect", "--raw", &two]), {
        let to = format!("oci:{}:x", scratch.at("again"));
        edgepull.edgepull(["copy", &a, &to]).succeeds();
        skopeo(["inspect", "--raw", &to])
    });
    let index: Value = serde_json::from_slice(&std::fs::read(&path).expect("an index")).expect("JSON");
    assert_eq!(
        index["manifests"].as_array().map(Vec::len),
        Some(2),
        "it took the place of the other: {index}"
    );
    // A tag that other images have, too, and a number, would mean something else.
    for name in ["latest", "@0", "@7"] {
        edgepull.edgepull(["copy", &one, &format!("oci:{layout}:{name}")]).fails_with(exit::USAGE);
    }
    let unchanged: Value = serde_json::from_slice(&std::fs::read(&path).expect("an index")).expect("JSON");
    assert_eq!(index, unchanged);
}
