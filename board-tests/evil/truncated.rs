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
    let folder = ground.scratch.at("image");
    let name = image.layout(&ground.scratch, "image");
    let manifest = image.manifest().to_string();
    let mut images = 0;
    for (what, path, step) in [
        ("index.json", "index.json".to_owned(), 5),
        ("manifest", format!("blobs/{}", digest_of(manifest.as_bytes()).replace(':', "/")), 23),
        ("config", format!("blobs/{}", digest_of(image.config.to_string().as_bytes()).replace(':', "/")), 23),
    ] {
        let path = format!("image/{path}");
        let bytes = std::fs::read(ground.scratch.path(&path)).expect("a document");
        for end in (0..bytes.len()).step_by(step) {
            ground.scratch.write(&path, &bytes[..end]);
            let allowed = [exit::BAD_IMAGE, exit::VERIFICATION];
            judge(&ground, &format!("{what}, {end} bytes"), &name, &allowed);
            images += 1;
        }
        ground.scratch.write(&path, bytes);
    }
    // The same in one file: a tar of the layout.
    let archive = ground.scratch.at("image.tar");
    run("tar", ["--format=ustar", "-C", &folder, "-cf", &archive, "oci-layout", "index.json", "blobs"]);
    let bytes = std::fs::read(&archive).expect("an archive");
    let name = format!("oci-archive:{archive}");
    for end in (0..bytes.len()).step_by(331) {
        std::fs::write(&archive, &bytes[..end]).expect("a file");
        let allowed = [exit::BAD_IMAGE, exit::VERIFICATION, exit::NOT_FOUND, exit::NETWORK, 0];
        judge(&ground, &format!("an archive of {end} bytes"), &name, &allowed);
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
    // A link leads to another member, or to none.
    let refused = &[exit::BAD_IMAGE, exit::NOT_FOUND][..];
    let cases: Vec<(&str, Vec<u8>, &[i32])> = vec![
        ("as it should be", whole(tar()).end(), &[0]),
        (
            "names above the archive",
            whole(tar().file("../index.json", "{}").file("/index.json/..", "{}")).end(),
            &[0, exit::BAD_IMAGE],
        ),
        (
            "index.json is a link out",
            blobs(tar().symlink("index.json", format!("{victim}/passwd"))).end(),
            refused,
        ),
        ("index.json is a folder", blobs(tar().dir("index.json")).end(), refused),
        (
            "index.json is a device",
            blobs(tar().add(super::builder::Head::new(b'3', "index.json").device(1, 5), "")).end(),
            refused,
        ),
        (
            "a layer that is a link out",
            tar()
                .file("index.json", &index)
                .symlink(&layer, format!("{victim}/shadow"))
                .raw(whole(tar()).unended())
                .end(),
            refused,
        ),
        (
            "a layer that is a hard link",
            tar()
                .file("index.json", &index)
                .hardlink(&layer, "../victim/shadow")
                .raw(whole(tar()).unended())
                .end(),
            refused,
        ),
        (
            "a size that is only in PAX",
            tar()
                .pax(&[("size", b"9")])
                .add(super::builder::Head::new(b'0', "index.json"), "123456789")
                .end(),
            refused,
        ),
        (
            "a PAX header of 2 MiB",
            tar().pax_bytes(record("comment", vec![b'c'; 2 << 20])).file("index.json", &index).end(),
            refused,
        ),
        (
            "a long name of 300 MB",
            tar().add(super::builder::Head::new(b'L', "n").size(300 << 20), "").file("x", "").end(),
            refused,
        ),
        ("an index.json of 5 MiB", tar().file("index.json", vec![b' '; 5 << 20]).end(), refused),
        (
            "a size beyond the archive",
            tar().add(super::builder::Head::new(b'0', "index.json").size(1 << 30), "{}").end(),
            &[exit::BAD_IMAGE, exit::NOT_FOUND, exit::DISK, exit::NETWORK, exit::VERIFICATION],
        ),
        (
            "a negative size",
            tar()
                .add(super::builder::Head::new(b'0', "x").size256(-512), "")
                .file("index.json", &index)
                .end(),
            refused,
        ),
        (
            "a size of 2^63 - 1",
            tar()
                .add(super::builder::Head::new(b'0', "x").size256(i64::MAX.into()), "")
                .file("index.json", &index)
                .end(),
            &[exit::BAD_IMAGE, exit::NOT_FOUND],
        ),
        ("nothing", vec![], &[exit::BAD_IMAGE, exit::NOT_FOUND]),
        ("garbage", vec![b'?'; 10_000], refused),
    ];
    for (what, bytes, allowed) in &cases {
        let path = ground.scratch.write("evil.tar", bytes);
        judge(&ground, what, &format!("oci-archive:{path}"), allowed);
        let output = ground
            .edgepull(what, &["pull", &format!("docker-archive:{path}"), &ground.scratch.at("home/root")]);
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
