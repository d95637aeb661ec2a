//! Labels that are not true: told by `manifest check`, warned of by `manifest push`, and not published with `--strict`.

use super::*;
use crate::distribution::bootstrapped;

/// A list of four entries, two of which are not what they say.
fn liar() -> Artifact {
    Index::new()
        .with(Image::running("linux/arm/v5", "v5").build())
        .with(Image::running("linux/arm/v6", "v7").build())
        .with(Image::running("linux/amd64", "arm64").build())
        .with(Image::running("linux/arm64/v8", "arm64").build())
        .build()
}

#[test]
fn every_lie_is_told_with_its_reason() {
    let scratch = Scratch::new();
    let edgepull = publisher(&scratch);
    edgepull.edgepull(["manifest", "check", HELLO]).succeeds();
    let name = liar().oci(&scratch, "liar");
    let outcome = edgepull.edgepull(["manifest", "check", &name]).fails_with(exit::BAD_IMAGE);
    let outcome = outcome.saying("2 of 4 entries are not what their labels say");
    let said = outcome.stdout();
    let line = |platform: &str| {
        let found = said.lines().find(|line| line.starts_with(platform));
        found.unwrap_or_else(|| panic!("no line about {platform}:\n{said}")).to_owned()
    };
    assert!(line("linux/arm/v6").contains("ARMv7 code") && line("linux/arm/v6").contains("/hello"), "{said}");
    assert!(line("linux/amd64").contains("arm64"), "{said}");
    assert!(line("linux/arm/v5").contains("fits") && line("linux/arm64").contains("fits"), "{said}");
    let json = edgepull.edgepull(["--json", "manifest", "check", &name]).fails_with(exit::BAD_IMAGE).stdout();
    let seen: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
    let verdicts: Vec<&str> = seen["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .filter_map(|entry| entry["verdict"].as_str())
        .collect();
    assert_eq!(verdicts, ["fits", "lie", "lie", "fits"]);
    // The check leaves nothing behind.
    assert_eq!(scratch.names(), ["liar"]);
}

#[test]
fn soft_float_code_and_missing_variants_are_told() {
    let scratch = Scratch::new();
    let edgepull = publisher(&scratch);
    let soft = Index::new().with(Image::running("linux/arm/v7", "v5").build()).build().oci(&scratch, "soft");
    let outcome = edgepull.edgepull(["manifest", "check", &soft]).fails_with(exit::BAD_IMAGE);
    assert!(outcome.stdout().contains("soft-float"), "{}", outcome.stdout());
    let bare = Index::new()
        .with_changed(Image::running("linux/arm/v6", "v6").build(), |descriptor| {
            descriptor["platform"].as_object_mut().expect("a platform").remove("variant");
        })
        .build()
        .oci(&scratch, "bare");
    let outcome = edgepull.edgepull(["manifest", "check", &bare]).fails_with(exit::BAD_IMAGE);
    assert!(outcome.stdout().contains("variant") && outcome.stdout().contains("v6"), "{}", outcome.stdout());
}

#[test]
fn debian_s_armhf_is_v7_and_no_v6() {
    let scratch = Scratch::new();
    let edgepull = publisher(&scratch);
    let layer = std::fs::read(bootstrapped("armhf")).expect("the archive");
    let labelled = |platform: &str, folder: &str| {
        let image = Image::of(platform).raw_layer(layer.clone()).entrypoint("/usr/bin/env").build();
        Index::new().with(image).build().oci(&scratch, folder)
    };
    let outcome = edgepull.edgepull(["manifest", "check", &labelled("linux/arm/v7", "v7")]).succeeds();
    outcome.printing("fits: /usr/bin/env, /lib/ld-linux-armhf.so.3");
    let outcome = edgepull.edgepull(["manifest", "check", &labelled("linux/arm/v6", "v6")]);
    let outcome = outcome.fails_with(exit::BAD_IMAGE);
    outcome.printing("/usr/bin/env: it is ARMv7 code").printing("label it linux/arm/v7");
}

#[test]
fn lies_are_warned_of_and_with_strict_not_published() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let edgepull = publisher(&scratch);
    for (tag, code) in [("v6", "v7"), ("v7", "v7")] {
        pushed(
            &registry,
            &scratch,
            &format!("board/app:{tag}"),
            Image::running(&format!("linux/arm/{tag}"), code).build(),
        );
    }
    let (template, target) = (registry.image("board/app:VARIANT"), registry.image("board/app:1"));
    let args = |option| {
        let args = [
            "manifest",
            "push",
            "from-args",
            "--platforms",
            "linux/arm/v6,linux/arm/v7",
            "--template",
            &template,
        ];
        [&args[..], &["--target", &target, option]].concat()
    };
    edgepull
        .edgepull(args("--strict"))
        .fails_with(exit::BAD_IMAGE)
        .saying("linux/arm/v6")
        .saying("ARMv7 code");
    assert!(!is_there(&registry, "board/app:1"), "a lie was published");
    edgepull.edgepull(args("--no-check")).succeeds().without_saying("ARMv7");
    edgepull.edgepull(args("--type=oci")).succeeds().saying("warning: ").saying("ARMv7 code");
    assert_eq!(list(&target)["mediaType"], "application/vnd.oci.image.index.v1+json");
    // docker manifest's way.
    let list = registry.image("board/app:2");
    edgepull.edgepull(["manifest", "create", &list, &registry.image("board/app:v6")]).succeeds();
    edgepull.edgepull(["manifest", "push", "--strict", &list]).fails_with(exit::BAD_IMAGE);
    assert!(!is_there(&registry, "board/app:2"), "a lie was published");
    // The v7 code under the right label is none.
    edgepull
        .edgepull(["manifest", "annotate", "--variant", "v7", &list, &registry.image("board/app:v6")])
        .succeeds();
}
