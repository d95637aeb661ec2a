//! Lists that are put together here: what becomes an entry, in which order, and what is refused.

use super::*;
use serde_json::json;

/// An index as BuildKit pushes one for a single platform: the image, and an attestation about it.
fn by_buildkit(platform: &str, code: &str) -> Artifact {
    let image = Image::running(platform, code).build();
    let about = image.digest().to_owned();
    let attestation = Image::of("unknown/unknown").layer(Layer::new().file("statement", code)).build();
    Index::new()
        .with_changed(attestation, |descriptor| {
            descriptor["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            descriptor["annotations"] = json!({
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": about,
            });
        })
        .with(image)
        .build()
}

#[test]
fn lists_in_lists_are_lifted_out_and_attestations_come_last() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let edgepull = publisher(&scratch);
    let image =
        |tag: &str, artifact: Artifact| pushed(&registry, &scratch, &format!("board/app:{tag}"), artifact);
    let (v6, v7) = (by_buildkit("linux/arm/v6", "v6"), by_buildkit("linux/arm/v7", "v7"));
    let nested = Index::new().with(Index::new().with(v7).build()).build();
    let (one, two) = (image("one", v6), image("two", nested));
    let three =
        pushed(&registry, &scratch, "board/other:three", Image::running("linux/arm64/v8", "arm64").build());
    let name = registry.image("board/app:all");
    edgepull.edgepull(["manifest", "create", &name, &one, &two, &three]).succeeds();
    edgepull.edgepull(["manifest", "push", &name]).succeeds();
    let seen = list(&name);
    let attestation = "unknown/unknown";
    assert_eq!(
        platforms(&seen),
        ["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", attestation, attestation]
    );
    // Each still says what it is about.
    for (image, about) in [(0, 3), (1, 4)] {
        let annotations = &seen["manifests"][about]["annotations"];
        assert_eq!(annotations["vnd.docker.reference.digest"], seen["manifests"][image]["digest"]);
    }
    // One of a list can be named by its platform.
    let template = registry.image("board/app:all");
    let some = registry.image("board/app:some");
    let platforms_wanted = "linux/arm/v7,linux/arm64";
    let args = [
        "manifest",
        "push",
        "from-args",
        "--platforms",
        platforms_wanted,
        "--template",
        &template,
        "--target",
        &some,
    ];
    edgepull.edgepull(args).succeeds();
    assert_eq!(platforms(&list(&some)), ["linux/arm/v7", "linux/arm64/v8", attestation]);
    let args = [
        "manifest",
        "push",
        "from-args",
        "--platforms",
        "linux/386",
        "--template",
        &template,
        "--target",
        &some,
    ];
    edgepull
        .edgepull(args)
        .fails_with(exit::NOT_FOUND)
        .saying("without linux/386; it has linux/arm/v6, linux/arm/v7");
}

#[test]
fn foreign_layers_are_left_where_they_are() {
    let (registry, scratch) = (Registry::with().foreign_layers().start(), Scratch::new());
    let foreign = |artifact: Artifact| {
        artifact.with_manifest(|manifest| {
            manifest["layers"][0]["mediaType"] =
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
            manifest["layers"][0]["urls"] = json!(["https://registry.invalid/layer"]);
        })
    };
    let image = foreign(Image::running("linux/arm/v6", "v6").in_docker_format().build());
    let layer = image.layer(0);
    let (layout, name) = (image.oci(&scratch, "image"), registry.image("board/app:foreign"));
    let edgepull = publisher(&scratch);
    edgepull.edgepull(["-v", "copy", &layout, &name]).succeeds().saying("left alone");
    let url = format!("http://{}/v2/board/app/blobs/{layer}", registry.address());
    assert_eq!(run("curl", ["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]), "404");
    assert_eq!(list(&name)["layers"][0]["urls"][0], "https://registry.invalid/layer");
}

#[test]
fn a_list_is_begun_added_to_and_forgotten() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let image = |tag: &str, platform: &str| {
        pushed(&registry, &scratch, &format!("board/app:{tag}"), Image::running(platform, tag).build())
    };
    let (v6, v7) = (image("v6", "linux/arm/v6"), image("v7", "linux/arm/v7"));
    let name = registry.image("board/app:1");
    let edgepull = publisher(&scratch);
    edgepull.edgepull(["manifest", "push", &name]).fails_with(exit::NOT_FOUND).saying("manifest create");
    edgepull.edgepull(["manifest", "create", &name, &v6]).succeeds();
    edgepull.edgepull(["manifest", "create", &name, &v7]).fails_with(exit::USAGE).saying("--amend");
    edgepull.edgepull(["manifest", "create", "--amend", &name, &v7]).succeeds();
    let missing = registry.image("board/app:none");
    edgepull.edgepull(["manifest", "create", "-a", &name, &missing]).fails_with(exit::NOT_FOUND);
    edgepull
        .edgepull(["manifest", "annotate", "--arch", "armv6", &name, &v6])
        .fails_with(exit::USAGE)
        .saying("linux/arm/v6");
    edgepull
        .edgepull(["manifest", "annotate", "--variant", "v7", &name, &missing])
        .fails_with(exit::NOT_FOUND)
        .saying(&v7);
    // What failed has changed nothing, and nothing is in the registry.
    let seen = edgepull.edgepull(["manifest", "inspect", &name]).succeeds().stdout();
    assert!(!is_there(&registry, "board/app:1"));
    edgepull.edgepull(["manifest", "push", "-p", &name]).succeeds();
    assert_eq!(seen, raw(&name) + "\n");
    // As in docker: what is no list here is looked for there.
    edgepull.edgepull(["manifest", "inspect", &name]).says_only(&(raw(&name) + "\n"));
    assert_eq!(platforms(&list(&name)), ["linux/arm/v6", "linux/arm/v7"]);
    edgepull.edgepull(["manifest", "push", &name]).fails_with(exit::NOT_FOUND);
    // Two for the same are refused; one that was pushed anew is looked up anew, and keeps what was said of it.
    edgepull.edgepull(["manifest", "create", &name, &v6, &v7]).succeeds();
    edgepull.edgepull(["manifest", "inspect", &name, &v7]).says_only(&(raw(&v7) + "\n"));
    edgepull.edgepull(["manifest", "annotate", "--variant", "v7", &name, &v6]).succeeds();
    edgepull
        .edgepull(["manifest", "push", "--no-check", &name])
        .fails_with(exit::USAGE)
        .saying("two entries for linux/arm/v7");
    edgepull.edgepull(["manifest", "annotate", "--variant", "v8", &name, &v7]).succeeds();
    let anew = Image::running("linux/arm/v6", "v6").layer(Layer::new().file("new", "new")).build();
    let digest = anew.digest().to_owned();
    pushed(&registry, &scratch, "board/app:v6", anew);
    edgepull.edgepull(["manifest", "create", "--amend", &name, &v6]).succeeds();
    edgepull.edgepull(["manifest", "push", &name]).succeeds();
    let seen = list(&name);
    assert_eq!(platforms(&seen), ["linux/arm/v7", "linux/arm/v8"]);
    assert_eq!(seen["manifests"][0]["digest"], digest);
    edgepull
        .edgepull(["manifest", "rm", &name, &registry.image("board/app:2")])
        .fails_with(exit::NOT_FOUND)
        .saying("board/app:2");
    edgepull.edgepull(["manifest", "inspect", &missing]).fails_with(exit::NOT_FOUND);
}

#[test]
fn images_may_come_from_layouts_and_other_registries() {
    let (registry, elsewhere, scratch) = (Registry::start(), Registry::start(), Scratch::new());
    let v6 = Image::running("linux/arm/v6", "v6").build().oci(&scratch, "v6");
    let v7 = pushed(&elsewhere, &scratch, "board/app:v7", Image::running("linux/arm/v7", "v7").build());
    let name = registry.image("board/app:1");
    let edgepull = publisher(&scratch);
    edgepull.edgepull(["manifest", "create", &name, &v6, &v7]).succeeds();
    edgepull.edgepull(["manifest", "push", &name]).succeeds();
    for (board, code) in [(Board::armv6(), "v6"), (Board::armv7(), "v7")] {
        let root = scratch.at(&format!("root-{code}"));
        board.edgepull(["pull", &name, &root]).succeeds();
        assert!(
            std::fs::read(scratch.path(&format!("root-{code}/hello"))).expect("hello") == program(code),
            "{code}"
        );
    }
}

#[test]
fn lists_are_kept_where_a_user_s_state_is() {
    let (registry, scratch) = (Registry::start(), Scratch::new());
    let image = pushed(&registry, &scratch, "board/app:v6", Image::running("linux/arm/v6", "v6").build());
    let name = registry.image("board/app:1");
    for (variable, below) in [("XDG_STATE_HOME", "edgepull/lists"), ("HOME", ".local/state/edgepull/lists")] {
        let home = format!("{variable}={}", scratch.at(variable));
        let program = agent();
        run("env", ["-u", "XDG_STATE_HOME", &home, &program, "manifest", "create", &name, &image]);
        let lists = std::fs::read_dir(scratch.path(variable).join(below)).expect("a folder of lists");
        assert_eq!(
            lists.filter(|file| file.as_ref().expect("a file").path().extension().is_some()).count(),
            1
        );
    }
}
