//! A small image that ends anywhere: its layer, its documents, and the archive that it is in. Once as a copy that broke
//! off (what is there is not what was promised), once as an author made it so (the digests are right).

use super::builder::{EvilImage, Tar, Wire, gzipped, record, tar, zstandard};
use super::victim::{By, Ground};
use crate::harness::*;

fn small() -> Tar {
    tar()
        .dir("d")
        .file("d/f", "text")
        .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.x", b"y")])
        .file("short", "data")
        .symlink("l", "../victim")
        .gnu(b'L', "d/longer")
        .hardlink("h", "d/f")
        .file("d/.wh.gone", "")
}

/// How a pull of something that was cut off may end.
fn judge(ground: &Ground, what: &str, image: &str, allowed: &[i32]) -> i32 {
    let output = ground.edgepull(what, &["pull", image, &ground.scratch.at("home/root")]);
    let code = output.status.code().unwrap_or_else(|| panic!("{what}: {:?}", output.status));
    assert!(allowed.contains(&code), "{what}: {code}: {}", String::from_utf8_lossy(&output.stderr));
    ground.clear();
    code
}

#[test]
fn layers_that_end_anywhere() {
    let ground = Ground::new(By::Root);
    let tar = small().end();
    let (mut images, mut whole) = (0, 0);
    for (name, wire) in [("tar", tar.clone()), ("gzip", gzipped(&tar)), ("zstd", zstandard(&tar))] {
        let step = if name == "gzip" { 3 } else { 37 };
        for end in (0..wire.len()).step_by(step).chain(wire.len() - 12..wire.len()) {
            let cut = wire[..end].to_vec();
            let what = format!("{name}, {end} of {} bytes", wire.len());
            // As its author made it: right digests. A tar that ends behind a member has no end marker, and is whole.
            let diff_id = if name == "tar" { cut.clone() } else { tar.clone() };
            let image = EvilImage::new([Wire::of(cut.clone(), &diff_id)]).layout(&ground.scratch, "made");
            let allowed = if name == "tar" {
                &[exit::BAD_IMAGE, 0][..]
            } else {
                &[exit::BAD_IMAGE, exit::VERIFICATION]
            };
            whole += usize::from(judge(&ground, &what, &image, allowed) == 0);
            // As a copy that broke off: the blob is shorter than its descriptor says.
            let good = EvilImage::new([Wire::of(wire.clone(), &tar)]);
            let image = good.layout(&ground.scratch, "cut");
            let path = format!("cut/blobs/{}", digest_of(&wire).replace(':', "/"));
            ground.scratch.write(&path, &cut);
            judge(&ground, &what, &image, &[exit::VERIFICATION]);
            images += 2;
            run("rm", ["-rf", &ground.scratch.at("made"), &ground.scratch.at("cut")]);
        }
    }
    assert!(whole > 2 && whole < 60, "{whole} whole ones");
    ground.honest("layers that end anywhere");
    eprintln!("evil: layers that end anywhere: {images} hostile images, {images} verdicts");
}

#[test]
fn documents_and_archives_that_end_anywhere() {
    let ground = Ground::new(By::Root);
    let image = EvilImage::new([small()]);
    let name = image.layout(&ground.scratch, "image");
    let manifest = image.manifest().to_string();
    let mut images = 0;
    let at = |bytes: &[u8]| format!("blobs/{}", digest_of(bytes).replace(':', "/"));
    // What a digest names is not what it should be; what no digest names is no JSON.
    for (what, path, step, code) in [
        ("index.json", "index.json".to_owned(), 5, exit::BAD_IMAGE),
        ("manifest", at(manifest.as_bytes()), 23, exit::VERIFICATION),
        ("config", at(image.config.to_string().as_bytes()), 23, exit::VERIFICATION),
    ] {
        let path = format!("image/{path}");
        let bytes = std::fs::read(ground.scratch.path(&path)).expect("a document");
        for end in (0..bytes.len()).step_by(step) {
            ground.scratch.write(&path, &bytes[..end]);
            judge(&ground, &format!("{what}, {end} bytes"), &name, &[code]);
            images += 1;
        }
        ground.scratch.write(&path, bytes);
    }
    // The same in one file. It is broken within a member, incomplete between two, and whole before its end marker.
    let blobs = [manifest.as_bytes(), image.config.to_string().as_bytes(), &image.layers[0].bytes].map(at);
    let members = ["oci-layout".to_owned(), "index.json".to_owned()].into_iter().chain(blobs);
    let (mut archive, mut between) = (tar(), vec![0..=0]);
    for member in members {
        let data =
            std::fs::read(ground.scratch.path(&format!("image/{member}"))).expect("a part of the layout");
        let begin = archive.clone().unended().len();
        archive = archive.file(member, &data);
        between.push(begin + 512 + data.len()..=archive.clone().unended().len());
    }
    let (whole, bytes) = (*between.last().expect("a member").start(), archive.end());
    let bounds = between.iter().flat_map(|gap| [*gap.start(), gap.end() + 1]);
    for end in (0..bytes.len()).step_by(331).chain(bounds) {
        let path = ground.scratch.write("image.tar", &bytes[..end]);
        let code = match between.iter().any(|gap| gap.contains(&end)) {
            _ if end >= whole => 0,
            true => exit::NOT_FOUND,
            false => exit::BAD_IMAGE,
        };
        judge(&ground, &format!("an archive of {end} bytes"), &format!("oci-archive:{path}"), &[code]);
        images += 1;
    }
    ground.honest("documents that end anywhere");
    eprintln!("evil: documents and archives that end anywhere: {images} hostile images, {images} verdicts");
}

/// The archive that an image comes in is a tar of its own, with tricks of its own.
#[test]
fn archives() {
    let ground = Ground::new(By::Root);
    let image = EvilImage::new([small()]);
    let manifest = image.manifest().to_string();
    let top = super::builder::descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [top] }).to_string();
    let config = image.config.to_string();
    let blob =
        |tar: Tar, bytes: &[u8]| tar.file(format!("blobs/{}", digest_of(bytes).replace(':', "/")), bytes);
    let blobs =
        |tar: Tar| blob(blob(blob(tar, manifest.as_bytes()), config.as_bytes()), &image.layers[0].bytes);
    let whole = |tar: Tar| {
        blobs(tar.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", &index))
    };
    let layer = format!("blobs/{}", digest_of(&image.layers[0].bytes).replace(':', "/"));
    let victim = ground.victim();
    let layout = || tar().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let head = |kind: u8, name: &str| super::builder::Head::new(kind, name);
    let cases: Vec<(&str, Vec<u8>, i32, &str)> = vec![
        ("as it should be", whole(tar()).end(), 0, ""),
        (
            "names above the archive",
            whole(tar().file("../index.json", "{}").file("/index.json/..", "{}")).end(),
            0,
            "",
        ),
        (
            "no oci-layout",
            blobs(tar().file("index.json", &index)).end(),
            exit::NOT_FOUND,
            "no file oci-layout",
        ),
        (
            "index.json is a link out",
            blobs(layout().symlink("index.json", format!("{victim}/passwd"))).end(),
            exit::BAD_IMAGE,
            "index.json is a link",
        ),
        ("index.json is a folder", blobs(layout().dir("index.json")).end(), exit::BAD_IMAGE, "is no file"),
        (
            "index.json is a device",
            blobs(layout().add(head(b'3', "index.json").device(1, 5), "")).end(),
            exit::BAD_IMAGE,
            "is no file",
        ),
        (
            "a layer that is a link out",
            tar().symlink(&layer, format!("{victim}/shadow")).raw(whole(tar()).unended()).end(),
            exit::BAD_IMAGE,
            "is a link",
        ),
        (
            "a layer that is a hard link",
            tar().hardlink(&layer, "../victim/shadow").raw(whole(tar()).unended()).end(),
            exit::BAD_IMAGE,
            "is a link",
        ),
        (
            "a size that is only in PAX",
            layout().pax(&[("size", b"9")]).add(head(b'0', "index.json"), "123456789").end(),
            exit::BAD_IMAGE,
            "only in its PAX header",
        ),
        (
            "a PAX header of 2 MiB",
            layout().pax_bytes(record("comment", vec![b'c'; 2 << 20])).file("index.json", &index).end(),
            exit::BAD_IMAGE,
            "EXTENSION_MAX",
        ),
        (
            "a long name of 300 MB",
            layout().add(head(b'L', "n").size(300 << 20), "").file("x", "").end(),
            exit::BAD_IMAGE,
            "EXTENSION_MAX",
        ),
        (
            "an index.json of 5 MiB",
            blobs(layout().file("index.json", vec![b' '; 5 << 20])).end(),
            exit::BAD_IMAGE,
            "4 MiB",
        ),
        (
            "a size beyond the archive",
            layout().add(head(b'0', "index.json").size(1 << 20), "{}").end(),
            exit::BAD_IMAGE,
            "ends within a member",
        ),
        (
            "a negative size",
            layout().add(head(b'0', "x").size256(-512), "").file("index.json", &index).end(),
            exit::BAD_IMAGE,
            "not a sound tar file",
        ),
        (
            "a size of 2^63 - 1",
            layout().add(head(b'0', "x").size256(i64::MAX.into()), "").file("index.json", &index).end(),
            exit::BAD_IMAGE,
            "not a sound tar file",
        ),
        ("nothing", vec![], exit::NOT_FOUND, "no file oci-layout"),
        ("garbage", vec![b'?'; 10_000], exit::BAD_IMAGE, "not a sound tar file"),
    ];
    for (what, bytes, code, words) in &cases {
        let path = ground.scratch.write("evil.tar", bytes);
        let root = ground.scratch.at("home/root");
        let output = ground.edgepull(what, &["pull", &format!("oci-archive:{path}"), &root]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(*code) && said.contains(words),
            "{what}: {}: {said}",
            output.status
        );
        ground.clear();
        let output = ground.edgepull(what, &["pull", &format!("docker-archive:{path}"), &root]);
        assert!(
            matches!(output.status.code(), Some(exit::BAD_IMAGE | exit::NOT_FOUND)),
            "{what}: {:?}",
            output.status
        );
        ground.clear();
    }
    ground.honest("archives");
    eprintln!("evil: archives: {} hostile images, {} verdicts", cases.len(), cases.len() * 2);
}
