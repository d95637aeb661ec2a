//! Which entry of an index a board takes, and which images it refuses.

use serde_json::{Value, json};

use crate::harness::*;

/// An image that says in its file `which` what it is.
fn marked(platform: &str, mark: &str) -> Artifact {
    Image::of(platform).layer(Layer::new().file("which", mark)).build()
}

/// An index over images of these platforms, each marked with its own.
fn index_of(platforms: &[&str]) -> Artifact {
    platforms.iter().fold(Index::new(), |index, platform| index.with(marked(platform, platform))).build()
}

/// The mark of the image that the board took.
#[track_caller]
fn taken(board: &Board, artifact: &Artifact) -> String {
    taken_with(board, artifact, &[])
}

#[track_caller]
fn taken_with(board: &Board, artifact: &Artifact, options: &[&str]) -> String {
    let scratch = Scratch::new();
    let (image, root) = (artifact.oci(&scratch, "image"), scratch.at("root"));
    board.edgepull([options, &["pull", &image, &root]].concat()).succeeds();
    std::fs::read_to_string(scratch.path("root/which")).expect("the mark in the tree")
}

/// The board refuses the image with this exit code, and leaves nothing behind.
#[track_caller]
fn refused(board: &Board, artifact: &Artifact, code: i32) -> Outcome {
    let scratch = Scratch::new();
    let (image, root) = (artifact.oci(&scratch, "image"), scratch.at("root"));
    let outcome = board.edgepull(["pull", &image, &root]).fails_with(code);
    assert_eq!(scratch.names(), ["image"], "a refused image leaves something");
    outcome
}

#[test]
fn each_board_takes_its_entry_of_the_example() {
    let boards =
        [(Board::armv5(), "v5"), (Board::armv6(), "v6"), (Board::armv7(), "v7"), (Board::aarch64(), "arm64")];
    for (board, name) in boards {
        let scratch = Scratch::new();
        board.edgepull(["pull", HELLO, &scratch.at("root")]).succeeds();
        let hello = std::fs::read(scratch.path("root/hello")).expect("the program");
        assert_eq!(hello, program(name), "the board of {name} took another entry");
    }
}

#[test]
fn a_v7_board_takes_v7_else_v6_else_v5() {
    let board = Board::armv7();
    assert_eq!(taken(&board, &index_of(&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"])), "linux/arm/v7");
    assert_eq!(taken(&board, &index_of(&["linux/arm/v5", "linux/amd64", "linux/arm/v6"])), "linux/arm/v6");
    assert_eq!(taken(&board, &index_of(&["linux/arm64/v8", "linux/arm/v5"])), "linux/arm/v5");
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let board = Board::armv6();
    assert_eq!(taken(&board, &index_of(&["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"])), "linux/arm/v6");
    assert_eq!(taken(&board, &index_of(&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"])), "linux/arm/v6");
}

#[test]
fn a_v6_board_never_takes_v7() {
    let refusal = refused(&Board::armv6(), &index_of(&["linux/arm/v7", "linux/amd64"]), exit::NO_PLATFORM);
    refusal.saying("linux/arm/v7").saying("linux/amd64");
}

#[test]
fn a_board_without_vfp_never_takes_hard_float() {
    refused(&Board::armv5(), &index_of(&["linux/arm/v7", "linux/arm/v6"]), exit::NO_PLATFORM);
}

#[test]
fn a_64_bit_board_takes_arm_images_where_there_are_no_others() {
    let board = Board::aarch64();
    assert_eq!(
        taken(&board, &index_of(&["linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"])),
        "linux/arm64/v8"
    );
    assert_eq!(taken(&board, &index_of(&["linux/arm/v6", "linux/arm/v7", "linux/amd64"])), "linux/arm/v7");
}

#[test]
fn among_equals_the_first_is_taken() {
    let index = Index::new().with(marked("linux/arm/v7", "first")).with(marked("linux/arm/v7", "second"));
    assert_eq!(taken(&Board::armv7(), &index.build()), "first");
}

#[test]
fn a_docker_manifest_list_is_as_good_as_an_index() {
    let image = |platform: &str| {
        Image::of(platform).in_docker_format().layer(Layer::new().file("which", platform)).build()
    };
    let list = Index::in_docker_format().with(image("linux/arm/v7")).with(image("linux/arm/v6")).build();
    assert_eq!(taken(&Board::armv6(), &list), "linux/arm/v6");
}

#[test]
fn attestations_are_no_images() {
    let attestation = || marked("linux/arm/v7", "an attestation");
    let index = Index::new()
        .with_as("unknown/unknown", attestation())
        .with(marked("linux/arm/v6", "linux/arm/v6"))
        .with_as("unknown/unknown", attestation())
        .build();
    assert_eq!(taken(&Board::armv7(), &index), "linux/arm/v6");
    let only_that = Index::new().with_as("unknown/unknown", attestation()).build();
    refused(&Board::armv7(), &only_that, exit::NO_PLATFORM);
}

/// An index `depth` levels deep, the image included in none of them but the last.
fn nested(depth: usize) -> Artifact {
    let innermost = index_of(&["linux/arm/v7", "linux/arm/v6"]);
    (1..depth).fold(innermost, |index, _| Index::new().with(index).build())
}

#[test]
fn indexes_may_be_nested_three_deep_and_no_deeper() {
    assert_eq!(taken(&Board::armv6(), &nested(2)), "linux/arm/v6");
    assert_eq!(taken(&Board::armv6(), &nested(3)), "linux/arm/v6");
    refused(&Board::armv6(), &nested(6), exit::NO_PLATFORM);
}

#[test]
fn a_single_image_is_held_against_its_config() {
    let image = marked("linux/arm/v7", "v7");
    refused(&Board::armv6(), &image, exit::NO_PLATFORM).saying("linux/arm/v7");
    assert_eq!(taken(&Board::armv7(), &image), "v7");
    let scratch = Scratch::new();
    let (name, root) = (image.oci(&scratch, "image"), scratch.at("root"));
    Board::armv6().edgepull(["pull", "--force", &name, &root]).succeeds();
    assert!(scratch.path("root/which").exists());
}

#[test]
fn an_entry_without_a_platform_is_held_against_its_config() {
    let index = Index::new().with_unlabelled(marked("linux/arm/v7", "v7")).build();
    refused(&Board::armv6(), &index, exit::NO_PLATFORM);
    assert_eq!(taken(&Board::armv7(), &index), "v7");
}

#[test]
fn names_of_platforms_are_normalized() {
    for (board, written) in [
        (Board::armv7(), "linux/armhf"),
        (Board::armv7(), "linux/arm/7"),
        (Board::armv7(), "Linux/ARM/v7"),
        (Board::aarch64(), "linux/aarch64"),
        (Board::aarch64(), "linux/arm64"),
        (Board::aarch64(), "linux/arm64/8"),
    ] {
        assert_eq!(taken(&board, &index_of(&["linux/amd64", written])), written);
    }
    refused(&Board::armv6(), &index_of(&["linux/armhf"]), exit::NO_PLATFORM);
}

#[test]
fn arm_without_a_variant_means_v7_among_others() {
    let index = index_of(&["linux/arm", "linux/arm/v5"]);
    assert_eq!(taken(&Board::armv6(), &index), "linux/arm/v5");
    assert_eq!(taken(&Board::armv7(), &index), "linux/arm");
}

#[test]
fn arm_without_a_variant_is_what_its_config_says_if_it_is_alone() {
    let index =
        Index::new().with_as("linux/arm", marked("linux/arm/v6", "v6")).with(marked("linux/amd64", "x"));
    assert_eq!(taken(&Board::armv6(), &index.build()), "v6");
}

#[test]
fn features_of_an_entry_are_requirements() {
    let wanting = |feature: &'static str| {
        let want = move |entry: &mut Value| entry["platform"]["features"] = json!([feature]);
        Index::new()
            .with_changed(marked("linux/arm/v7", "wanting"), want)
            .with(marked("linux/arm/v6", "plain"))
            .build()
    };
    assert_eq!(taken(&Board::armv7(), &wanting("neon")), "wanting");
    assert_eq!(taken(&Board::armv7(), &wanting("sse4")), "plain");
}

#[test]
fn the_user_may_say_which() {
    let index = index_of(&["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/amd64"]);
    assert_eq!(taken_with(&Board::armv7(), &index, &["--variant", "v6"]), "linux/arm/v6");
    assert_eq!(taken_with(&Board::armv7(), &index, &["--variant", "auto"]), "linux/arm/v7");
    assert_eq!(taken_with(&Board::armv7(), &index, &["--platform", "linux/amd64"]), "linux/amd64");
    assert_eq!(taken_with(&Board::armv7(), &index, &["--platform", "linux/arm/v5"]), "linux/arm/v5");
}

#[test]
fn code_for_a_better_cpu_than_the_label_says_is_refused() {
    let index = Index::new().with(Image::running("linux/arm/v6", "v7").build()).build();
    refused(&Board::armv6(), &index, exit::BAD_IMAGE).saying("/hello").saying("v7");
}

#[test]
fn code_for_another_architecture_than_the_label_says_is_refused() {
    let index = Index::new().with(Image::running("linux/arm64/v8", "amd64").build()).build();
    refused(&Board::aarch64(), &index, exit::BAD_IMAGE).saying("/hello");
}

#[test]
fn hard_float_code_for_a_board_without_vfp_is_refused() {
    let index = Index::new().with(Image::running("linux/arm/v5", "v6").build()).build();
    refused(&Board::armv5(), &index, exit::BAD_IMAGE).saying("/hello");
}

#[test]
fn a_lie_behind_a_link_is_found() {
    let layer = Layer::new().file_mode("opt/app", program("v7"), 0o755).symlink("bin/app", "/opt/app");
    let image = Image::of("linux/arm/v6").layer(layer).entrypoint("/bin/app").build();
    refused(&Board::armv6(), &image, exit::BAD_IMAGE);
}

#[test]
fn code_for_a_lesser_cpu_is_no_lie() {
    let scratch = Scratch::new();
    let image = Image::running("linux/arm/v7", "v5").build();
    Board::armv7().edgepull(["pull", &image.oci(&scratch, "image"), &scratch.at("root")]).succeeds();
    assert!(scratch.path("root/hello").exists());
}
