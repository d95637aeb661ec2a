//! manifest-tool's files and command lines.

use super::*;

/// A registry with images of three boards, and manifest-tool's documented file about them.
struct Given {
    registry: Registry,
    scratch: Scratch,
    edgepull: Board,
}

impl Given {
    fn new() -> Given {
        let (registry, scratch) = (Registry::start(), Scratch::new());
        for (platform, code) in [("linux/arm/v6", "v6"), ("linux/arm/v7", "v7"), ("linux/arm64/v8", "arm64")]
        {
            pushed(&registry, &scratch, &format!("board/app:{code}"), Image::running(platform, code).build());
        }
        let edgepull = publisher(&scratch);
        Given { registry, scratch, edgepull }
    }

    fn push(&self, spec: &str, options: &[&str]) -> Outcome {
        let file = self.scratch.write("spec.yml", spec.replace("HOST", self.registry.address()));
        self.edgepull.edgepull(options.iter().copied().chain(["manifest", "push", "from-spec", &file]))
    }

    fn list(&self, name: &str) -> Value {
        list(&self.registry.image(name))
    }
}

const SPEC: &str = "\
image: HOST/board/app:latest
tags: [\"1.0.0\", '1.0', 1]
manifests:
  -
    image: HOST/board/app:arm64
    platform:
      architecture: arm64
      os: linux
  -
    image: HOST/board/app:v6
    platform:
      architecture: arm
      os: linux
      variant: v6
      os.version: 12.10
      os.features: [a, b]
      features:
      - vfp
  - image: HOST/board/app:v7
";

#[test]
fn the_documented_file_works_unchanged() {
    let given = Given::new();
    let said = given.push(SPEC, &[]).succeeds().stdout();
    let list = given.list("board/app:latest");
    let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
    assert_eq!(list["mediaType"], media_type);
    // What was not said is the config's: the third one's platform, the first one's variant.
    assert_eq!(platforms(&list), ["linux/arm64/v8", "linux/arm/v6", "linux/arm/v7"]);
    let platform = &list["manifests"][1]["platform"];
    assert_eq!(platform["os.version"], "12.10");
    assert_eq!(platform["os.features"].to_string(), r#"["a","b"]"#);
    assert_eq!(platform["features"].to_string(), r#"["vfp"]"#);
    let bytes = raw(&given.registry.image("board/app:latest"));
    for tag in ["1.0.0", "1.0", "1"] {
        assert_eq!(raw(&given.registry.image(&format!("board/app:{tag}"))), bytes, "{tag}");
    }
    assert_eq!(said, format!("Digest: {} {}\n", digest_of(bytes.as_bytes()), bytes.len()));
}

#[test]
fn an_index_with_annotations_by_file_and_by_arguments_is_the_same() {
    let given = Given::new();
    let host = given.registry.address().to_owned();
    let spec = r#"{"image": "HOST/board/app:by-file", "annotations": {"org.example.a": "1,2", "b": "x"}, "manifests": [
        {"image": "HOST/board/app:v6", "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
        {"image": "HOST/board/app:v7", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}]}"#;
    given.push(spec, &["--type", "oci"]).succeeds();
    let (template, target) = (format!("{host}/board/app:VARIANT"), format!("{host}/board/app:by-arguments"));
    let args = [
        "manifest",
        "push",
        "--type=oci",
        "from-args",
        "--platforms",
        "linux/arm/v6,linux/arm/v7",
        "--template",
    ];
    let rest =
        [template.as_str(), "--annotations", "org.example.a=1,2,b=x", "--tags", "t", "--target", &target];
    given.edgepull.edgepull(args.into_iter().chain(rest)).succeeds();
    let by_file = raw(&given.registry.image("board/app:by-file"));
    assert_eq!(by_file, raw(&target));
    assert_eq!(by_file, raw(&given.registry.image("board/app:t")));
    assert_eq!(given.list("board/app:by-file")["annotations"]["org.example.a"], "1,2");
    given.push(spec, &[]).fails_with(exit::USAGE).saying("--type oci");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_pushed() {
    let given = Given::new();
    let entry = |platform: &str| {
        let mut parts = platform.split('/');
        let mut next = || parts.next().unwrap_or_default();
        format!(
            "- image: HOST/board/app:v6\n  platform: {{os: {}, architecture: {}, variant: {}}}\n",
            next(),
            next(),
            next()
        )
    };
    let spec = |entries: &str| format!("image: HOST/board/app:none\nmanifests:\n{entries}");
    for (entries, code, said) in [
        (entry("linux/armv7"), exit::USAGE, "write linux/arm/v7"),
        (entry("linux/aarch64"), exit::USAGE, "write linux/arm64/v8"),
        (entry("linx/arm/v6"), exit::USAGE, "is linux/arm/v6 meant?"),
        (entry("linux/arm/v9"), exit::USAGE, "the variants of arm are v5, v6, v7, v8"),
        (entry("linux/arm/v6") + &entry("linux/arm/v6"), exit::USAGE, "two entries for linux/arm/v6"),
        ("- image: HOST/board/app:v5\n".into(), exit::NOT_FOUND, "board/app:v5"),
        (
            "- image: HOST/board/app:v6\n  platform: linux/arm\n".into(),
            exit::USAGE,
            "line 4: platform is a text",
        ),
        ("- imag: x\n".into(), exit::USAGE, "line 3: an entry of manifests has no image"),
        ("- {".into(), exit::USAGE, "spec.yml: line "),
    ] {
        given.push(&spec(&entries), &[]).fails_with(code).saying(said);
        assert!(!is_there(&given.registry, "board/app:none"), "{said}");
    }
    let unknown = spec(&(entry("linux/arm/v6") + "platfrom: x\n"));
    given.push(&unknown, &[]).succeeds().saying("line 5: \"platfrom\" means nothing here");
}

#[test]
fn missing_images_are_left_out_if_that_is_said() {
    let given = Given::new();
    let spec =
        "image: HOST/board/app:some\nmanifests:\n- image: HOST/board/app:v5\n- image: HOST/board/app:v6\n";
    given.push(spec, &[]).fails_with(exit::NOT_FOUND).saying("v5");
    given.push(spec, &["--ignore-missing"]).succeeds().saying("v5 is left out");
    assert_eq!(platforms(&given.list("board/app:some")), ["linux/arm/v6"]);
    let spec = "image: HOST/board/app:none\nmanifests:\n- image: HOST/board/app:v5\n";
    given.push(spec, &["--ignore-missing"]).fails_with(exit::USAGE).saying("no image");
    assert!(!is_there(&given.registry, "board/app:none"));
}
