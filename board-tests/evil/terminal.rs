//! Words for the terminal: escape sequences wherever an image can say something.

use serde_json::json;

use super::builder::{EvilImage, blob, index_json, tar};
use super::victim::{By, Ground};
use crate::harness::*;

/// Orders to a terminal: its title, its screen, and a line that is not ours.
pub const EVIL: &str = "\u{1b}]0;x\u{7}\u{9b}2J\r\nedgepull: error: \u{7f}";

/// What an image says of itself is shown by many commands, in the log, in messages and as JSON: a terminal obeys none of
/// it ([`Ground::edgepull`] looks).
#[test]
fn words_for_the_terminal() {
    let (ground, mut images) = (Ground::new(By::Root), 0);
    let script = |line: &str| tar().file(EVIL, format!("#!{line}\n"));
    let hello = program("v7");
    for (what, layer, config, code) in [
        (
            "a command that is no program",
            tar().file(EVIL, "text"),
            json!({ "Entrypoint": [format!("/{EVIL}")] }),
            0,
        ),
        ("a program", tar().file(EVIL, &hello), json!({ "Entrypoint": [format!("/{EVIL}")] }), 0),
        ("a command that is not there", tar().file("f", ""), json!({ "Cmd": [EVIL] }), 0),
        (
            "a PATH",
            tar().file(format!("{EVIL}/f"), "text"),
            json!({ "Env": [format!("PATH=/{EVIL}")], "Cmd": ["f"] }),
            0,
        ),
        (
            "an interpreter",
            script("/\u{1b}[2J\u{9b}"),
            json!({ "Cmd": [format!("/{EVIL}")] }),
            exit::BAD_IMAGE,
        ),
        (
            "a command of env",
            script("/usr/bin/env \u{1b}[2J"),
            json!({ "Cmd": [format!("/{EVIL}")] }),
            exit::BAD_IMAGE,
        ),
        (
            "a user whom nobody knows",
            tar().file("etc/passwd", EVIL).file("etc/group", EVIL),
            json!({ "User": EVIL }),
            exit::BAD_IMAGE,
        ),
        (
            "everything else",
            tar().file("f", ""),
            json!({ "WorkingDir": format!("/{EVIL}"), "StopSignal": EVIL, "Env": [EVIL, "A=\u{9b}"] }),
            0,
        ),
    ] {
        let mut image = EvilImage::new([layer]);
        image.config["config"] = config;
        image.config["variant"] = "v7".into();
        image.config["config"]["Labels"] = json!({ EVIL: EVIL });
        let name = announced(&image, &ground.scratch, EVIL);
        let (root, state) = (ground.scratch.at("home/root"), ground.scratch.at("state"));
        for json in [&[][..], &["--json"]] {
            let run = |words: &[&str]| {
                let words = [json, &["--state-dir", &state], words].concat();
                ground.edgepull(what, &words).status.code()
            };
            // config.json, which needs the user, is the bundle's.
            assert_eq!(run(&["pull", "--bundle", &name, &root]), Some(code), "{what}");
            ground.clear();
            assert_eq!(run(&["inspect", &name]), Some(0), "{what}");
            assert_eq!(run(&["deploy", "app", &name]), Some(code), "{what}");
            assert_eq!(
                run(&["deploy", "other", &name, "--monotonic", "version"]),
                Some(exit::VERIFICATION),
                "{what}"
            );
            for words in [&["status"][..], &["update", "app"], &["verify"], &["gc"]] {
                run(words);
            }
        }
        images += 1;
        run("rm", ["-rf", &ground.scratch.at("image"), &state]);
    }
    ground.honest("words for the terminal");
    eprintln!("evil: words for the terminal: {images} hostile images, {} verdicts", images * 16);
}

/// Writes a layout whose index says `evil` wherever it may say something.
pub fn announced(image: &EvilImage, scratch: &Scratch, evil: &str) -> String {
    image.blobs(scratch, "image");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let mut manifest = image.manifest();
    manifest["annotations"] = json!({ "org.opencontainers.image.version": evil, evil: evil });
    let mut good = blob(scratch, "image", media_type, manifest.to_string().as_bytes());
    good["platform"] = json!({ "os": "linux", "architecture": "arm", "variant": "v7", "os.version": evil });
    let mut other = good.clone();
    other["mediaType"] = evil.into();
    other["platform"] = json!({ "os": evil, "architecture": evil, "variant": evil });
    let mut attestation = good.clone();
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown", "os.features": [evil] });
    attestation["annotations"] =
        json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": evil });
    good["annotations"] = json!({ evil: evil });
    good["artifactType"] = evil.into();
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [other, good, attestation], "annotations": { evil: evil },
    });
    let top = blob(scratch, "image", "application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    index_json(
        scratch,
        "image",
        &json!({ "schemaVersion": 2, "manifests": [top], "annotations": { evil: evil } }).to_string(),
    );
    format!("oci:{}", scratch.at("image"))
}
