//! Hostile images in the hands of whoever publishes: checked, copied, put into lists and looked at. What a pull keeps out
//! ([`crate::evil`]) a check keeps out, too, and leaves nothing in `$TMPDIR`.

use serde_json::json;

use super::*;
use crate::evil::bombs::{Disk, least_free, zstd_bomb};
use crate::evil::builder::{EvilImage, Tar, blob, index_json, tar};
use crate::evil::terminal::{EVIL, announced};
use crate::evil::victim::{By, Ground};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A ground whose `$TMPDIR` is beside the victim.
fn ground(by: By) -> Ground {
    let ground = Ground::new(by);
    let temporary = ground.scratch.at("home");
    // As /tmp: otherwise others could replace what is checked there, and it is refused.
    std::fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .expect("a mode");
    ground.with_env("TMPDIR", &temporary)
}

/// These layers with a program, so that there is something to check.
fn running(layers: Vec<Tar>) -> EvilImage {
    let program = tar().add(
        crate::evil::builder::Head::new(b'0', "hello").mode(0o755).size(program("v7").len() as u64),
        program("v7"),
    );
    let mut image = EvilImage::new(layers.into_iter().chain([program]));
    image.config["config"] = json!({ "Entrypoint": ["/hello"] });
    image
}

/// An honest registry, which has nothing.
fn registry() -> FakeRegistry {
    FakeRegistry::serving(&Image::of("linux/arm/v5").build())
}

/// Runs this; its exit code, and all that it said.
fn told(ground: &Ground, what: &str, words: &[&str]) -> (Option<i32>, String) {
    let output = ground.edgepull(what, words);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (output.status.code(), said.concat())
}

#[test]
fn a_check_breaks_out_of_nowhere_and_leaves_nothing() {
    for by in [By::Root, By::User] {
        let ground = ground(by);
        let (victim, away) = (ground.victim(), ground.away());
        let up = "../".repeat(12);
        let file = |name: String| vec![tar().file(name, "broken out")];
        let cases = [
            ("..", file(format!("{up}{}", &victim[1..])), None),
            (".. into a folder", file("../../../victim/new".into()), None),
            ("an absolute path", file(format!("{victim}/passwd")), None),
            (
                "a link, then a file through it",
                vec![tar().symlink("l", &victim).file("l/passwd", "broken out")],
                None,
            ),
            (
                "a link in one layer, a file through it in the next",
                vec![
                    tar().symlink("l", format!("{up}{}", &away[1..])),
                    tar().file("l/sub/file", "broken out"),
                ],
                None,
            ),
            ("a hard link", vec![tar().hardlink("h", format!("{victim}/shadow"))], Some("links to")),
            ("a whiteout", vec![tar().symlink("l", &victim), tar().file("l/.wh.passwd", "")], None),
            ("an opaque one", vec![tar().symlink("l", &victim), tar().file("l/.wh..wh..opq", "")], None),
        ];
        for (what, layers, refusal) in cases {
            let image = running(layers).layout(&ground.scratch, "image");
            let (code, said) = told(&ground, what, &["manifest", "check", &image]);
            match refusal {
                None => assert!(code == Some(0) && said.contains("fits: /hello"), "{what}: {code:?}: {said}"),
                Some(_) => assert_eq!(code, Some(exit::BAD_IMAGE), "{what}: {said}"),
            }
            assert_eq!(ground.beside(), ["victim"], "{what}: left behind");
            // As it is it goes on: whoever copies does not unpack.
            let copy = format!("oci:{}:x", ground.scratch.at("home/copy"));
            assert_eq!(told(&ground, what, &["copy", &image, &copy]).0, Some(0), "{what}");
            run("rm", ["-r", &ground.scratch.at("home/copy"), &ground.scratch.at("image")]);
        }
    }
}

/// What an image says that it runs is looked up in its root, also where links lead out.
#[test]
fn a_check_reads_no_program_outside_of_the_root() {
    let ground = ground(By::Root);
    let victim = ground.victim();
    for (what, layer, path) in [
        ("a link to a folder", tar().symlink("l", &victim), "/l/program".to_owned()),
        ("a link to a file", tar().symlink("l", format!("{victim}/program")), "/l".into()),
        ("a way up", tar().dir("d"), format!("/d/{}{}/program", "../".repeat(12), &victim[1..])),
        ("a path outside", tar().dir("d"), format!("{victim}/program")),
    ] {
        let mut image = EvilImage::new([layer]);
        image.config["config"] = json!({ "Entrypoint": [path] });
        let name = image.layout(&ground.scratch, "image");
        let (_, said) = told(&ground, what, &["manifest", "check", &name]);
        assert!(!said.contains("/bin/sh") && !said.contains("fits"), "{what}: {said}");
        run("rm", ["-r", &ground.scratch.at("image")]);
    }
}

#[test]
fn what_is_not_as_its_digest_says_is_not_published() {
    let ground = ground(By::Root);
    let image = running(vec![tar().file("f", "as it should be")]);
    let name = image.layout(&ground.scratch, "image");
    let layer = format!("image/blobs/{}", digest_of(&image.layers[0].bytes).replace(':', "/"));
    let mut bytes = image.layers[0].bytes.clone();
    bytes[512] ^= 1;
    ground.scratch.write(&layer, bytes);
    let (registry, copy) = (registry(), ground.scratch.at("copy"));
    let wrong = |words: &[&str]| {
        let (code, said) = told(&ground, "a wrong layer", words);
        assert_eq!(code, Some(exit::VERIFICATION), "{words:?}: {said}");
    };
    wrong(&["manifest", "check", &name]);
    wrong(&["copy", &name, &registry.image()]);
    wrong(&["copy", &name, &format!("oci:{copy}:x")]);
    let spec = json!({ "image": registry.image(), "manifests": [{ "image": name }] }).to_string();
    let spec = ground.scratch.write("spec.json", spec);
    // Once as it is checked, once as it is brought.
    wrong(&["manifest", "push", "from-spec", "--strict", &spec]);
    wrong(&["manifest", "push", "from-spec", "--no-check", &spec]);
    wrong(&["manifest", "push", "from-spec", &spec]);
    assert!(registry.published().is_empty(), "{:?}", registry.published());
    let index = std::fs::read_to_string(format!("{copy}/index.json")).unwrap_or_default();
    assert!(!index.contains("sha256:"), "a name for what is not whole: {index}");
    assert_eq!(ground.beside(), ["victim"], "left behind");
}

/// Documents that are not what points at them says, or lie too deep.
#[test]
fn documents_that_are_something_else() {
    let ground = ground(By::Root);
    let registry = registry();
    let image = running(vec![tar().file("f", "x")]);
    let deep = |scratch: &Scratch, levels: usize| {
        let mut top = blob(scratch, "image", MANIFEST, image.manifest().to_string().as_bytes());
        top["platform"] = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
        for _ in 0..levels {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] }).to_string();
            top = blob(scratch, "image", INDEX, index.as_bytes());
        }
        top
    };
    let list = json!({ "schemaVersion": 2, "manifests": [] }).to_string();
    let manifest = image.manifest();
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    let untyped = |value: &Value| {
        let mut value = value.clone();
        value.as_object_mut().expect("an object").remove("mediaType");
        value.to_string()
    };
    for (what, levels, entry, words) in [
        ("nested too deep", 6, None, "NESTING_MAX"),
        ("a manifest that is a list", 0, Some((MANIFEST, list)), ""),
        ("a list that is a manifest", 0, Some((INDEX, untyped(&manifest))), ""),
        ("a list that says it is a manifest", 0, Some((INDEX, manifest.to_string())), ""),
        ("both", 0, Some((MANIFEST, untyped(&both))), ""),
        ("neither", 0, Some((MANIFEST, "[]".to_owned())), ""),
    ] {
        image.blobs(&ground.scratch, "image");
        let top = match entry {
            None => deep(&ground.scratch, levels),
            Some((media_type, text)) => {
                let mut entry = blob(&ground.scratch, "image", media_type, text.as_bytes());
                entry["platform"] = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
                let index =
                    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string();
                blob(&ground.scratch, "image", INDEX, index.as_bytes())
            }
        };
        index_json(&ground.scratch, "image", &json!({ "schemaVersion": 2, "manifests": [top] }).to_string());
        let name = format!("oci:{}", ground.scratch.at("image"));
        let target = registry.image();
        for command in [&["manifest", "check", &name][..], &["copy", &name, &target]] {
            let (code, said) = told(&ground, what, command);
            assert_eq!(code, Some(exit::BAD_IMAGE), "{what}, {command:?}: {said}");
            assert!(said.contains(words), "{what}, {command:?}: {said}");
        }
        assert!(registry.published().is_empty(), "{what}: {:?}", registry.published());
        assert_eq!(ground.beside(), ["victim"], "{what}: left behind");
        run("rm", ["-r", &ground.scratch.at("image")]);
    }
}

/// A few KiB that would be a billion entries, or as many questions.
#[test]
fn lists_of_lists_of_lists() {
    let ground = ground(By::Root);
    let image = running(vec![tar().file("f", "x")]);
    let registry = registry();
    for (what, entries, lists, words) in [
        ("entries", 200, 200, "ENTRIES_MAX"),
        ("lists", 1, 200, "LOOKUPS_MAX"),
        ("empty ones", 0, 200, "LOOKUPS_MAX"),
    ] {
        image.blobs(&ground.scratch, "image");
        let mut entry = blob(&ground.scratch, "image", MANIFEST, image.manifest().to_string().as_bytes());
        entry["platform"] = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
        let of = |count: usize, entry: &Value| {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![entry; count] });
            blob(&ground.scratch, "image", INDEX, index.to_string().as_bytes())
        };
        let top = of(lists, &of(lists, &of(entries, &entry)));
        index_json(&ground.scratch, "image", &json!({ "schemaVersion": 2, "manifests": [top] }).to_string());
        let name = format!("oci:{}", ground.scratch.at("image"));
        let spec = json!({ "image": registry.image(), "manifests": [{ "image": name }] }).to_string();
        let spec = ground.scratch.write("spec.json", spec);
        for command in [
            &["manifest", "create", "r.example/app:1", &name][..],
            &["manifest", "push", "from-spec", &spec],
            &["manifest", "check", &name],
        ] {
            let (code, said) = told(&ground, what, command);
            // A check tells of what it has looked at, and of the rest that it has not.
            let checked = what != "empty ones" && command[1] == "check";
            let expect = if checked { 0 } else { exit::BAD_IMAGE };
            assert_eq!(code, Some(expect), "{what}, {command:?}: {said}");
            let words = if code == Some(0) || command[1] != "check" { words } else { "none of its entries" };
            assert!(said.contains(words), "{what}, {command:?}: {said}");
        }
        run("rm", ["-r", &ground.scratch.at("image")]);
    }
    assert!(registry.published().is_empty(), "{:?}", registry.published());
}

/// Two GiB of zeros for a `$TMPDIR` of 40 MiB.
#[test]
fn a_bomb_ends_before_tmpdir_is_full() {
    let ground = Ground::new(By::Root);
    let disk = Disk::of_ext4(&ground.scratch.at("disk"), 40);
    let ground = ground.with_env("TMPDIR", &disk.at(""));
    let mut image = EvilImage::new([zstd_bomb(2048)]);
    image.config["config"] = json!({ "Entrypoint": ["/zeros"] });
    let name = image.layout(&ground.scratch, "image");
    let registry = registry();
    let spec = json!({ "image": registry.image(), "manifests": [{ "image": name }] }).to_string();
    let spec = ground.scratch.write("spec.json", spec);
    for words in [&["manifest", "check", &name][..], &["manifest", "push", "from-spec", "--strict", &spec]] {
        let ((code, said), (least, _)) = least_free(&disk, || told(&ground, "a bomb", words));
        assert_eq!(code, Some(exit::DISK), "{words:?}: {said}");
        assert!(said.contains("the file system is nearly full"), "{words:?}: {said}");
        assert!(least > 40 * 1_048_576 / 100, "{words:?}: {least} bytes were free");
        assert_eq!(disk.names(), ["lost+found"], "{words:?}: left behind");
    }
    assert!(registry.published().is_empty(), "a bomb was published with --strict");
    let (code, said) = told(&ground, "afterwards", &["manifest", "check", HELLO]);
    assert_eq!(code, Some(0), "{said}");
}

/// [`Ground::edgepull`] looks for what a terminal would obey.
#[test]
fn words_for_the_terminal() {
    let ground = ground(By::Root);
    let registry = registry();
    for (what, code, path) in [
        ("a program", program("v7"), format!("/{EVIL}")),
        ("a program for something else", program("arm64"), format!("/{EVIL}")),
        ("a script", b"#!/\x1b[2J\xc2\x9b\n".to_vec(), format!("/{EVIL}")),
        ("what is not there", Vec::new(), format!("/{EVIL}/x\u{9b}")),
    ] {
        let mut image = EvilImage::new([tar().file(EVIL, &code)]);
        image.config["config"] = json!({ "Entrypoint": [path], "Labels": { EVIL: EVIL }, "User": EVIL });
        image.config["os.version"] = EVIL.into();
        let name = announced(&image, &ground.scratch, EVIL);
        // One whose entries all can be put into a list, and say as much as they may.
        let mut alone = image.clone();
        alone.config["os.features"] = json!([EVIL]);
        let alone = alone.layout(&ground.scratch, "alone");
        let annotations = json!({ EVIL: EVIL });
        let spec = json!({ "image": registry.image(), "annotations": annotations, "manifests": [{ "image": alone }] });
        let spec = ground.scratch.write("spec.json", spec.to_string());
        let list = "r.example/app:1";
        let state = ground.scratch.at("state");
        for json in [&[][..], &["--json"]] {
            for words in [
                &["manifest", "check", &name][..],
                &["manifest", "check", &alone],
                &["inspect", &name],
                &["inspect", &alone],
                &["manifest", "push", "from-spec", "--type", "oci", &spec],
                &["manifest", "push", "from-spec", &spec],
                &["manifest", "create", "--amend", list, &name],
                &["manifest", "create", "--amend", list, &alone],
                &["manifest", "inspect", list],
                &["manifest", "inspect", list, &alone],
                &["copy", &name, &registry.image()],
            ] {
                let words = [json, &["--state-dir", &state], words].concat();
                let (code, said) = told(&ground, what, &words);
                assert!(
                    matches!(code, Some(0 | exit::USAGE | exit::NOT_FOUND | exit::BAD_IMAGE)),
                    "{words:?}: {said}"
                );
            }
        }
        run("rm", ["-rf", &ground.scratch.at("image"), &ground.scratch.at("alone"), &state]);
    }
    assert!(!registry.published().is_empty(), "nothing was said of a list");
}
