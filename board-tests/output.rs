//! What edgepull says: to a person, to a program (`--json`), and to nobody (`-q`).

use serde_json::Value;

use crate::harness::*;

/// Every line of standard output as JSON.
#[track_caller]
fn json_lines(outcome: &Outcome) -> Vec<Value> {
    let out = outcome.stdout();
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(!lines.is_empty(), "nothing was printed");
    lines
}

#[test]
fn a_pull_tells_a_person_what_happens() {
    let scratch = Scratch::new();
    let outcome = Board::armv6().edgepull(["pull", HELLO, &scratch.at("root")]).succeeds();
    let said = outcome.stdout() + &outcome.stderr();
    for part in ["linux/arm/v6", "sha256:"] {
        assert!(said.contains(part), "no {part} in:\n{said}");
    }
    assert!(!said.contains('\x1b') && !said.contains('\r'), "a terminal's controls in a pipe:\n{said}");
}

#[test]
fn with_json_every_line_is_an_object() {
    let scratch = Scratch::new();
    for args in [vec!["pull", HELLO, &scratch.at("root")], vec!["inspect", HELLO], vec!["platform"]] {
        let outcome = Board::armv6().edgepull([vec!["--json"], args].concat()).succeeds();
        for line in json_lines(&outcome) {
            assert!(line.is_object(), "{line}");
        }
    }
}

#[test]
fn a_global_option_may_stand_behind_the_command() {
    let outcome = Board::armv6().edgepull(["platform", "--json"]).succeeds();
    assert_eq!(json_lines(&outcome)[0]["architecture"], "arm");
}

#[test]
fn with_json_a_failure_names_its_kind() {
    let scratch = Scratch::new();
    let image = Image::of("linux/arm/v7").layer(Layer::new().file("x", "x")).build();
    let name = image.oci(&scratch, "image");
    let outcome = Board::armv6().edgepull(["--json", "pull", &name, &scratch.at("root")]);
    let said = outcome.stdout() + &outcome.stderr();
    assert_eq!(outcome.code(), exit::NO_PLATFORM, "{said}");
    let named = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    assert!(named.into_iter().any(|line| line.to_string().contains("no-platform")), "{said}");
}

#[test]
fn quiet_is_silent_but_for_errors() {
    let scratch = Scratch::new();
    Board::armv6().edgepull(["-q", "pull", HELLO, &scratch.at("root")]).succeeds().silently();
    Board::armv6().edgepull(["-q", "pull", HELLO, &scratch.at("root")]).fails_with(exit::USAGE);
}

#[test]
fn platform_gives_the_ordered_list_of_what_runs() {
    for (board, expected) in [
        (Board::armv5(), vec!["linux/arm/v5"]),
        (Board::armv6(), vec!["linux/arm/v6", "linux/arm/v5"]),
        (Board::armv7(), vec!["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        (
            Board::aarch64(),
            vec!["linux/arm64/v8", "linux/arm/v7", "linux/arm/v8", "linux/arm/v6", "linux/arm/v5"],
        ),
    ] {
        let outcome = board.edgepull(["--json", "platform"]).succeeds();
        let line = json_lines(&outcome).remove(0);
        let candidates = line["candidates"].as_array().expect("candidates").iter();
        let names: Vec<&str> = candidates.map(|c| c["platform"].as_str().expect("a platform")).collect();
        assert_eq!(names, expected);
        assert!(line["candidates"].as_array().expect("candidates").iter().all(|c| c["reason"].is_string()));
        assert!(line["evidence"].is_object() && line["os"] == "linux", "{line}");
    }
}

#[test]
fn inspect_shows_every_entry_and_the_one_to_take() {
    let said = Board::armv6().edgepull(["inspect", HELLO]).succeeds().stdout();
    for entry in ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/amd64"] {
        assert!(said.contains(entry), "no {entry} in:\n{said}");
    }
}

#[test]
fn inspect_says_which_boards_an_image_serves_and_what_is_in_it() {
    let scratch = Scratch::new();
    let image = |platform: &str| Image::of(platform).layer(Layer::new().file("x", platform)).build();
    let (arm, pc) = (image("linux/arm/v6"), image("linux/amd64"));
    let annotate = |entry: &mut Value| entry["annotations"] = serde_json::json!({ "a": "b" });
    let layout = Index::new().with_changed(arm, annotate).with(pc).build().oci(&scratch, "image");
    let said = Board::armv7().edgepull(["inspect", &layout]).succeeds().stdout();
    let family = |name: &str| said.lines().find(|line| line.trim_start().starts_with(name)).expect("a line");
    assert!(family("ARMv5").contains("refused"), "{said}");
    assert!(family("ARMv6").ends_with("best"), "{said}");
    assert!(family("ARMv8, 64-bit").contains("fallback: no linux/arm64/v8"), "{said}");
    let told = Board::armv7().edgepull(["-v", "inspect", &layout]).succeeds().stdout();
    assert!(told.starts_with(&said[..said.find("\n\n").expect("a blank line")]), "{told}");
    assert!(told.contains("\n    a = b\n") && told.contains("\n  layers\n"), "{told}");
    let json = json_lines(&Board::armv7().edgepull(["--json", "inspect", &layout]).succeeds()).remove(0);
    assert_eq!(json["entries"][0]["annotations"]["a"], "b", "{json}");
    assert_eq!(json["coverage"][0]["how"], "refused", "{json}");
}

#[test]
fn a_manifest_that_is_announced_by_the_other_family_s_type_is_taken_with_a_note() {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let scratch = Scratch::new();
    let image = || Image::of("linux/arm/v6").layer(Layer::new().file("x", "x")).build();
    let announce = |entry: &mut Value| entry["mediaType"] = DOCKER.into();
    let layout = Index::new().with_changed(image(), announce).build().oci(&scratch, "image");
    let told = Board::armv6().edgepull(["-v", "pull", &layout, &scratch.at("root")]).succeeds().stderr();
    let note = told.lines().find(|line| line.contains(&format!("was announced as {DOCKER:?}")));
    assert!(note.is_some_and(|note| note.contains("both mean the same")), "{told}");
    let plain = Index::new().with(image()).build().oci(&scratch, "plain");
    for words in [&["-v", "pull", "--replace", &plain][..], &["pull", "--replace", &layout]] {
        let root = scratch.at("root");
        let told = Board::armv6().edgepull(words.iter().copied().chain([&*root])).succeeds().stderr();
        assert!(!told.contains("was announced as"), "{told}");
    }
}

#[test]
fn inspect_raw_gives_the_exact_bytes() {
    let scratch = Scratch::new();
    let image = Image::of("linux/arm/v7").layer(Layer::new().file("x", "x")).build();
    let index = Index::new().with(image).build();
    let layout = index.layout(&scratch, "image");
    let (raw, name) = (scratch.at("raw"), format!("oci:{layout}"));
    let mut command = Board::armv7().command(["inspect", "--raw", &name]);
    let file = std::fs::File::create(&raw).expect("a file");
    assert!(command.stdout(file).status().expect("edgepull runs").success());
    let bytes = std::fs::read(raw).expect("the file");
    assert_eq!(digest_of(&bytes), index.digest());
}

#[test]
fn what_makes_no_sense_is_a_usage_failure() {
    let scratch = Scratch::new();
    let root = scratch.at("root");
    for args in [
        vec!["pull"],
        vec!["pull", HELLO],
        vec!["pull", HELLO, &root, "more"],
        vec!["pull", "--no-such-option", HELLO, &root],
        vec!["pull", "board/UPPER:tag", &root],
        vec!["pull", "board/app@sha256:short", &root],
        vec!["no-such-command"],
        vec!["--variant", "v42", "platform"],
        vec!["--platform", "linux", "platform"],
        vec!["--cpuinfo", "/nonexistent/cpuinfo", "platform"],
    ] {
        eprintln!("{args:?}");
        Board::this_machine().edgepull(args).fails_with(exit::USAGE);
    }
    assert!(!scratch.path("root").exists());
}
